//! What the contract of the seam does not know: two files, their versions, damage, kills, backups, shared reads.

use domain::{ChannelSeq, LogCursor, PartitionId};
use futures_util::FutureExt;
use futures_util::future::join_all;
use rusqlite::Connection;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use store::contract::{PARTITION, Script, batch, channel, person};
use store::{Accounts, ErrorKind, NewAccount, PageQuery, ProgressCursor, Projections, SequencerReads, Timelines};
use store_embedded::{EmbeddedStore, Options};
use tempfile::TempDir;

fn open(dir: &Path) -> EmbeddedStore {
    EmbeddedStore::open(dir, &Options::default()).expect("open")
}

fn progress(offset: u64) -> ProgressCursor {
    ProgressCursor { cursor: LogCursor { offset, ..LogCursor::default() } }
}

fn account(number: u64) -> NewAccount {
    NewAccount {
        user: person(number),
        username: format!("user{number}"),
        display_name: String::new(),
        password_hash: None,
        created_ms: 0,
    }
}

fn newest(limit: usize) -> PageQuery {
    PageQuery { channel: channel(1), first: ChannelSeq(1), last: ChannelSeq(u64::MAX), limit, newest_first: true }
}

#[tokio::test]
async fn a_thousand_identical_pages_at_once_are_one_read() {
    let dir = TempDir::new().expect("a directory");
    let store = open(dir.path());
    let mut script = Script::new(channel(1));
    store.apply(batch((0..100).map(|_| script.post(person(1), "x")).collect::<Vec<_>>())).await.expect("apply");
    let query = newest(50);
    for page in join_all((0..1_000).map(|_| store.page(&query))).await {
        assert_eq!(page.expect("page").events.len(), 50);
    }
    assert_eq!(store.reads(), 1);
    store.page(&newest(51)).await.expect("page");
    assert_eq!(store.reads(), 2, "another page is another read");
    store.apply(batch([script.post(person(1), "y")])).await.expect("apply");
    assert_eq!(store.page(&query).await.expect("page").events[49].event.seq, ChannelSeq(101));
    assert_eq!(store.reads(), 3, "what was applied since is read");
}

#[tokio::test]
async fn a_page_whose_first_asker_went_away_still_comes() {
    let dir = TempDir::new().expect("a directory");
    let store = open(dir.path());
    store.apply(batch([Script::new(channel(1)).post(person(1), "x")])).await.expect("apply");
    let query = newest(50);
    for _ in 0..100 {
        // Polled once, then dropped.
        let _ = store.page(&query).now_or_never();
        assert_eq!(store.page(&query).await.expect("page").events.len(), 1);
    }
}

#[test]
fn a_file_of_a_newer_version_is_refused_with_a_clear_sentence() {
    for file in ["projections.db", "records.db"] {
        let dir = TempDir::new().expect("a directory");
        drop(open(dir.path()));
        let raw = Connection::open(dir.path().join(file)).expect("open");
        raw.pragma_update(None, "user_version", 99).expect("set");
        drop(raw);
        let error = EmbeddedStore::open(dir.path(), &Options::default()).expect_err("newer");
        assert_eq!(error.kind(), ErrorKind::Damaged);
        let text = error.to_string();
        assert!(text.contains(file) && text.contains("version 99") && text.contains("newer program"), "{text}");
    }
}

#[test]
fn a_damaged_or_foreign_file_is_refused_with_its_name_and_what_to_do() {
    for (file, cure) in [("projections.db", "rebuilt from the log"), ("records.db", "restore it from a backup")] {
        let dir = TempDir::new().expect("a directory");
        std::fs::write(dir.path().join(file), "this is no database, but long enough to be taken for one".repeat(100))
            .expect("write");
        let error = EmbeddedStore::open(dir.path(), &Options::default()).expect_err("garbage");
        assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
        assert!(error.to_string().contains(file) && error.to_string().contains(cure), "{error}");

        let dir = TempDir::new().expect("a directory");
        Connection::open(dir.path().join(file)).and_then(|raw| raw.execute_batch("CREATE TABLE t (x)")).expect("write");
        let error = EmbeddedStore::open(dir.path(), &Options::default()).expect_err("foreign");
        assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
        assert!(error.to_string().contains("another program's database"), "{error}");
    }
}

#[tokio::test]
async fn a_damaged_page_is_an_error_and_no_miss() {
    let dir = TempDir::new().expect("a directory");
    let store = open(dir.path());
    let mut script = Script::new(channel(1));
    let rows: Vec<_> = (0..2_000).map(|_| script.post(person(1), &"x".repeat(100))).collect();
    store.apply(batch(rows)).await.expect("apply");
    drop(store);
    let path = dir.path().join("projections.db");
    let mut bytes = std::fs::read(&path).expect("read");
    bytes[4096 * 12..].fill(0x5a);
    std::fs::write(&path, bytes).expect("write");
    let error = match EmbeddedStore::open(dir.path(), &Options::default()) {
        Ok(store) => store.page(&newest(2_000)).await.expect_err("damaged"),
        Err(error) => error,
    };
    assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
    assert!(error.to_string().contains("projections.db"), "{error}");
}

#[tokio::test]
async fn a_backup_opens_with_the_same_content_while_writes_go_on() {
    let (dir, to) = (TempDir::new().expect("a directory"), TempDir::new().expect("a directory"));
    let store = open(dir.path());
    let mut script = Script::new(channel(1));
    store.apply(batch(script.create(&[person(1), person(2)]))).await.expect("apply");
    store.record_progress(PARTITION, &progress(3)).await.expect("progress");
    store.create_account(&account(1)).await.expect("create");
    let before = store.fingerprint().expect("fingerprint");
    store.backup(to.path()).expect("backup");
    store.apply(batch([script.post(person(1), "later")])).await.expect("apply");
    let copy = open(to.path());
    assert_eq!(copy.fingerprint().expect("fingerprint"), before);
    assert_eq!(copy.progress(PARTITION).await.expect("progress"), [progress(3)]);
    assert!(copy.account_by_name("user1").await.expect("account").is_some());
    assert_eq!(store.backup(to.path()).expect_err("not over a backup").kind(), ErrorKind::Exists);
}

/// Set in the child process of the test below: the directory to write to.
const CHILD_DIR: &str = "HUBBUB_STORE_TEST_DIR";

/// The child: writes for ever, and says after each step what was acknowledged.
#[tokio::test]
async fn killed_writer() {
    let Ok(dir) = std::env::var(CHILD_DIR) else { return };
    let store = open(Path::new(&dir));
    let mut scripts: Vec<_> = (0..20).map(|n| Script::new(channel(n))).collect();
    for n in 1.. {
        let rows: Vec<_> = scripts.iter_mut().map(|script| script.post(person(1), &"x".repeat(300))).collect();
        store.apply(batch(rows)).await.expect("apply");
        store.record_progress(PartitionId(0), &progress(n)).await.expect("progress");
        store.create_account(&account(n)).await.expect("create");
        println!("acked {n}");
    }
}

#[tokio::test]
async fn a_kill_loses_nothing_acknowledged_and_progress_claims_only_rows_that_are_there() {
    for kill_after in [1, 7, 60, 300] {
        let dir = TempDir::new().expect("a directory");
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "killed_writer", "--nocapture"])
            .env(CHILD_DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a child");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut acked = 0;
        for line in lines {
            // What the harness prints comes before, on the same line or not.
            if let Some((_, n)) = line.expect("a line").split_once("acked ") {
                acked = n.parse::<u64>().expect("a number");
                if acked == kill_after {
                    child.kill().expect("kill");
                }
            }
        }
        child.wait().expect("the end");
        assert!(acked >= kill_after);
        let store = open(dir.path());
        let claimed =
            store.progress(PartitionId(0)).await.expect("progress").last().map_or(0, |last| last.cursor.offset);
        assert!(claimed >= acked, "{claimed} claimed after {acked} acked");
        let channels: Vec<_> = (0..20).map(channel).collect();
        for head in store.heads(&channels).await.expect("heads") {
            assert!(head.expect("a head").seq.0 >= claimed);
        }
        for n in 0..20 {
            let page = store.page(&PageQuery { channel: channel(n), ..newest(usize::MAX) }).await.expect("page");
            let seqs: Vec<_> = page.events.iter().map(|event| event.event.seq.0).collect();
            assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
            assert!(seqs.len() as u64 >= claimed);
        }
        for n in 1..=acked {
            assert!(store.account(person(n)).await.expect("account").is_some(), "account {n} of {acked}");
        }
    }
}
