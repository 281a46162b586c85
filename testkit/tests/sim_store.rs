//! The simulated store passes the contract of the state seam, agrees with the embedded one, and fails as it should.

use domain::command::Role;
use domain::{EventKind, LogCursor};
use futures_util::FutureExt;
use runtime::Entropy;
use std::time::Duration;
use store::contract::{Factory, PARTITION, Script, batch, channel, person};
use store::fault::{Call, Fault, Faulty, seeded};
use store::{ErrorKind, PageQuery, ProgressCursor, Projections, SequencerReads, TimelineRow, Timelines};
use store_embedded::{EmbeddedStore, Options};
use testkit::sim::store::SimStore;

struct Simulated;

impl Factory for Simulated {
    type Store = SimStore;

    async fn make(&self) -> SimStore {
        SimStore::new(Entropy::from_seed(7), Duration::from_millis(20))
    }

    async fn reopen(&self, store: SimStore) -> SimStore {
        store.sync();
        store.cut();
        store.crash();
        store.process()
    }
}

store::contract_tests!(#[tokio::test(start_paused = true)] => Simulated);

fn quick(seed: u64) -> SimStore {
    SimStore::new(Entropy::from_seed(seed), Duration::from_millis(5))
}

fn progress(offset: u64) -> ProgressCursor {
    ProgressCursor { cursor: LogCursor { offset, ..LogCursor::default() } }
}

/// Some channels' lives, interleaved.
fn history(seed: u64) -> Vec<TimelineRow> {
    let entropy = Entropy::from_seed(seed);
    let mut scripts: Vec<_> = (0..6).map(|n| Script::new(channel(n))).collect();
    let mut rows = Vec::new();
    for script in &mut scripts[1..] {
        rows.extend(script.create(&[person(1), person(2)]));
    }
    for _ in 0..300 {
        let script = &mut scripts[entropy.below(6) as usize];
        script.time = script.time.plus_ms(entropy.below(6 * 60 * 60 * 1_000));
        let user = person(1 + entropy.below(5));
        rows.push(match entropy.below(6) {
            0 => script.row(user, EventKind::MemberJoined { user, role: Role::Member }),
            1 => script.row(person(1), EventKind::MemberLeft { user, removed: true }),
            2 => script.row(person(1), EventKind::RoleChanged { user, role: Role::Admin }),
            _ => script.post(user, &format!("{}", entropy.next_u64())),
        });
    }
    rows
}

async fn replay(store: &impl Projections, rows: &[TimelineRow], cuts: &Entropy) {
    let mut from = 0;
    while from < rows.len() {
        // Each batch reaches back a little, as after a restart.
        let to = (from + 1 + cuts.below(40) as usize).min(rows.len());
        let again = from.saturating_sub(cuts.below(10) as usize);
        store.apply(batch(&rows[again..to])).await.expect("apply");
        from = to;
    }
}

#[tokio::test]
async fn both_stores_fold_the_same_log_to_the_same_content() {
    for seed in 0..12 {
        let rows = history(seed);
        let simulated = SimStore::new(Entropy::from_seed(seed), Duration::ZERO);
        let dir = tempfile::TempDir::new().expect("a directory");
        let embedded = EmbeddedStore::open(dir.path(), &Options::default()).expect("open");
        replay(&simulated, &rows, &Entropy::from_seed(seed + 100)).await;
        replay(&embedded, &rows, &Entropy::from_seed(seed + 200)).await;
        let print = embedded.fingerprint().expect("fingerprint");
        assert!(print.events > 300 && print.stays > 10 && print.channels == 6 && print.ids > 0, "{print:?}");
        assert_eq!(print, simulated.fingerprint(), "seed {seed}");
        let channels: Vec<_> = (0..7).map(channel).collect();
        assert_eq!(embedded.heads(&channels).await.expect("heads"), simulated.heads(&channels).await.expect("heads"));
        simulated.drop_projections();
        assert_ne!(print, simulated.fingerprint());
        replay(&simulated, &rows, &Entropy::from_seed(seed + 300)).await;
        assert_eq!(print, simulated.fingerprint(), "rebuilt, seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_loses_the_unsynced_but_progress_never_claims_a_lost_row() {
    let mut lost = 0;
    for seed in 0..200 {
        let store = quick(seed);
        let mut script = Script::new(channel(1));
        for n in 1..=20 {
            store.apply(batch([script.post(person(1), "x")])).await.expect("apply");
            store.record_progress(PARTITION, &progress(n)).await.expect("progress");
        }
        lost += store.crash();
        let store = store.process();
        let head = store.heads(&[channel(1)]).await.expect("heads").remove(0);
        let rows = head.map_or(0, |head| head.seq.0);
        let claimed = store.progress(PARTITION).await.expect("progress").last().map_or(0, |last| last.cursor.offset);
        assert!(claimed <= rows, "seed {seed}: {claimed} claimed, {rows} there");
    }
    assert!(lost > 0, "crashes lose something");
}

#[tokio::test(start_paused = true)]
async fn a_frozen_process_writes_after_the_thaw_and_a_cut_one_never() {
    let store = quick(1);
    let other = store.process();
    let query = PageQuery {
        channel: channel(1),
        first: domain::ChannelSeq(1),
        last: domain::ChannelSeq(9),
        limit: 9,
        newest_first: false,
    };
    let rows = async || other.page(&query).await.expect("page").events.len();
    let mut script = Script::new(channel(1));
    store.freeze();
    let mut late = store.apply(batch([script.post(person(1), "late")]));
    assert!(tokio::time::timeout(Duration::from_mins(1), &mut late).await.is_err());
    assert_eq!(rows().await, 0);
    store.thaw();
    late.await.expect("apply");
    assert_eq!(rows().await, 1);
    store.cut();
    store.thaw();
    let mut never = store.apply(batch([script.post(person(1), "never")]));
    assert!(tokio::time::timeout(Duration::from_mins(1), &mut never).await.is_err());
    assert_eq!(rows().await, 1);
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_takes_the_same_time() {
    let run = async |seed| {
        let started = tokio::time::Instant::now();
        replay(&quick(seed), &history(1), &Entropy::from_seed(1)).await;
        started.elapsed()
    };
    assert_eq!(run(5).await, run(5).await);
    assert_ne!(run(5).await, run(6).await);
}

#[tokio::test(start_paused = true)]
async fn a_faulty_store_refuses_loses_answers_and_delays_by_plan() {
    let plan = |call: Call| match call.number {
        0 => Fault::Refused(ErrorKind::Full),
        1 => Fault::DoneButFailed(ErrorKind::Unavailable),
        2 => Fault::Late(Duration::from_secs(5)),
        _ => Fault::None,
    };
    let store = Faulty::new(SimStore::new(Entropy::from_seed(1), Duration::ZERO), plan);
    let mut script = Script::new(channel(1));
    let row = batch([script.post(person(1), "x")]);
    assert_eq!(store.apply(row.clone()).await.expect_err("refused").kind(), ErrorKind::Full);
    assert_eq!(store.inner().fingerprint().events, 0);
    assert_eq!(store.apply(row.clone()).await.expect_err("lost answer").kind(), ErrorKind::Unavailable);
    assert_eq!(store.inner().fingerprint().events, 1);
    let started = tokio::time::Instant::now();
    store.apply(row.clone()).await.expect("late");
    assert!(started.elapsed() >= Duration::from_secs(5));
    store.apply(row).await.expect("no fault");
    assert_eq!(store.inner().fingerprint().events, 1);
}

#[tokio::test(start_paused = true)]
async fn retrying_over_a_faulty_store_writes_everything_once() {
    let store = Faulty::new(quick(3), seeded(9, 300, Duration::from_millis(50)));
    let clean = quick(4);
    let rows = history(4);
    for chunk in rows.chunks(3) {
        clean.apply(batch(chunk)).await.expect("apply");
        while store.apply(batch(chunk)).await.is_err() {}
    }
    assert!(store.record_progress(PARTITION, &progress(1)).now_or_never().is_none(), "delays are virtual time");
    assert_eq!(store.inner().fingerprint(), clean.fingerprint());
}
