//! The embedded log over real files.

use eventlog::{AssignmentChange, Cleanup, Durability, ErrorKind, EventLog, LogOffset, Record, Topic, TopicSpec};
use eventlog_embedded::{EmbeddedLog, OpenReport, Options};
use runtime::SystemClock;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

fn options() -> Options {
    Options { segment_bytes_first: 16 << 10, segment_bytes_max: 64 << 10, ..Options::new(Arc::new(SystemClock)) }
}

fn open(dir: &Path) -> (EmbeddedLog, OpenReport) {
    EmbeddedLog::open(dir, options()).expect("opens")
}

fn spec(name: &str, durability: Durability, cleanup: Cleanup) -> TopicSpec {
    TopicSpec { topic: Topic::new(name), partitions: 3, durability, cleanup, record_bytes_max: 8 << 10 }
}

fn timeline() -> TopicSpec {
    spec("chat.messages", Durability::Synced, Cleanup::Keep)
}

async fn append(
    log: &EmbeddedLog,
    topic: &Topic,
    partition: u32,
    values: impl IntoIterator<Item = String>,
) -> LogOffset {
    let records = values.into_iter().map(|value| Record::new("key", value)).collect();
    log.append(&topic.partition(partition), records).expect("room").await.expect("durable").first
}

async fn read_all(log: &EmbeddedLog, topic: &Topic, partition: u32) -> Vec<(u64, String)> {
    let source = topic.partition(partition);
    let bounds = log.bounds(&source).await.expect("bounds");
    let mut reader = log.read(&source, bounds.start).await.expect("reader");
    let mut read = Vec::new();
    while reader.position() < bounds.end {
        for stored in reader.next().await.expect("records").iter() {
            let value = stored.record.value.as_ref().expect("value");
            read.push((stored.offset.0, String::from_utf8_lossy(value).into_owned()));
        }
    }
    read
}

fn numbered(range: std::ops::Range<u64>) -> Vec<(u64, String)> {
    range.map(|n| (n, format!("value {n}"))).collect()
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_restart_in_order_and_once() {
    let dir = tempfile::tempdir().expect("dir");
    let spec = timeline();
    for round in 0..3 {
        let (log, report) = open(dir.path());
        assert_eq!(report, OpenReport::default());
        log.create_topic(&spec).await.expect("topic");
        for n in 0..500 {
            let n = round * 500 + n;
            assert_eq!(append(&log, &spec.topic, 1, [format!("value {n}")]).await, LogOffset(n));
        }
        assert_eq!(read_all(&log, &spec.topic, 1).await, numbered(0..(round + 1) * 500));
        assert!(read_all(&log, &spec.topic, 0).await.is_empty());
    }
}

#[tokio::test]
async fn old_records_come_from_disk_and_over_many_segments() {
    let dir = tempfile::tempdir().expect("dir");
    let spec = timeline();
    let (log, _) = open(dir.path());
    log.create_topic(&spec).await.expect("topic");
    let filler = "x".repeat(4_000);
    for n in 0..6_000_u64 {
        let partition = (n % 3) as u32;
        let records = vec![Record::new("key", format!("{n} {filler}"))];
        drop(log.append(&spec.topic.partition(partition), records).expect("room"));
    }
    log.flush().await.expect("flushed");
    for partition in 0..3 {
        let read = read_all(&log, &spec.topic, partition).await;
        assert_eq!(read.len(), 2_000);
        for (i, (offset, value)) in read.iter().enumerate() {
            assert_eq!(*offset, i as u64);
            assert!(value.starts_with(&format!("{} x", i as u64 * 3 + u64::from(partition))));
        }
    }
}

#[tokio::test]
async fn a_torn_tail_is_dropped_and_reported_and_damage_before_it_refused() {
    let dir = tempfile::tempdir().expect("dir");
    let spec = timeline();
    {
        let (log, _) = open(dir.path());
        log.create_topic(&spec).await.expect("topic");
        for n in 0..10 {
            append(&log, &spec.topic, 0, [format!("value {n}")]).await;
        }
    }
    let segment = dir.path().join("chat.messages/00000000000000000000.seg");
    let bytes = std::fs::read(&segment).expect("segment");
    let end = bytes.iter().rposition(|byte| *byte != 0).expect("not empty") as u64 + 1;
    let file = OpenOptions::new().write(true).open(&segment).expect("segment");
    file.write_all_at(b"HbF1 half a frame that was never synced", end.next_multiple_of(8)).expect("written");
    {
        let (log, report) = open(dir.path());
        assert_eq!(report.torn.len(), 1);
        assert_eq!(read_all(&log, &spec.topic, 0).await, numbered(0..10));
    }
    file.write_all_at(b"?", end - 3).expect("written");
    let error = EmbeddedLog::open(dir.path(), options()).expect_err("damaged");
    assert_eq!(error.kind(), ErrorKind::Damaged);
    assert!(error.to_string().contains("hubbub repair"), "{error}");
    let cuts = eventlog_embedded::repair(dir.path(), &options()).expect("repaired");
    assert_eq!(cuts.len(), 1);
    assert_eq!(std::fs::metadata(&cuts[0].saved).expect("saved aside").len(), cuts[0].bytes);
    let (log, _) = open(dir.path());
    assert_eq!(read_all(&log, &spec.topic, 0).await, numbered(0..9), "what is intact is kept");
    assert_eq!(append(&log, &spec.topic, 0, ["on".to_owned()]).await, LogOffset(9));
}

#[tokio::test]
async fn a_waiting_reader_wakes_and_a_dropped_wait_loses_nothing() {
    let dir = tempfile::tempdir().expect("dir");
    for spec in [
        timeline(),
        spec("memory", Durability::InMemory, Cleanup::Expire { age: Duration::from_mins(1), bytes_max: 1 << 20 }),
    ] {
        let (log, _) = open(dir.path());
        log.create_topic(&spec).await.expect("topic");
        let mut reader = log.read(&spec.topic.partition(2), LogOffset(0)).await.expect("reader");
        assert!(futures_util::FutureExt::now_or_never(reader.next()).is_none());
        append(&log, &spec.topic, 2, ["one".to_owned()]).await;
        let batch = reader.next().await.expect("records");
        assert_eq!((batch.len(), batch[0].offset), (1, LogOffset(0)));
    }
}

#[tokio::test]
async fn an_in_memory_topic_drops_the_oldest_above_its_bound_and_starts_anew_with_a_new_incarnation() {
    let dir = tempfile::tempdir().expect("dir");
    let spec = spec("memory", Durability::InMemory, Cleanup::Expire { age: Duration::from_mins(1), bytes_max: 10_000 });
    let (log, _) = open(dir.path());
    let first = log.create_topic(&spec).await.expect("topic").incarnation;
    for n in 0..200 {
        append(&log, &spec.topic, 0, [format!("value {n}")]).await;
    }
    let read = read_all(&log, &spec.topic, 0).await;
    assert!(read.len() < 100 && read.last() == Some(&(199, "value 199".to_owned())), "{}", read.len());
    drop(log);
    let (log, _) = open(dir.path());
    assert!(log.create_topic(&spec).await.expect("topic").incarnation > first);
    assert!(read_all(&log, &spec.topic, 0).await.is_empty());
}

#[tokio::test]
async fn a_group_shares_partitions_and_remembers_where_it_was() {
    let dir = tempfile::tempdir().expect("dir");
    let spec = timeline();
    {
        let (log, _) = open(dir.path());
        log.create_topic(&spec).await.expect("topic");
        let mut one = log.join("writer", &spec.topic).await.expect("joins");
        assert_eq!(one.next_change().await.expect("change"), AssignmentChange::Gained(vec![0, 1, 2]));
        one.commit(2, LogOffset(7), "5 9").await.expect("committed");
        let mut two = log.join("writer", &spec.topic).await.expect("joins");
        assert_eq!(one.next_change().await.expect("change"), AssignmentChange::Lost(vec![1, 2]));
        assert_eq!(two.next_change().await.expect("change"), AssignmentChange::Gained(vec![1, 2]));
        assert_eq!(one.commit(2, LogOffset(8), "").await.expect_err("not mine").kind(), ErrorKind::NotAssigned);
        drop(two);
        assert_eq!(one.next_change().await.expect("change"), AssignmentChange::Gained(vec![1, 2]));
    }
    let (log, _) = open(dir.path());
    let member = log.join("writer", &spec.topic).await.expect("joins");
    let committed = member.committed(2).await.expect("asked").expect("committed");
    assert_eq!((committed.offset, committed.metadata.as_str()), (LogOffset(7), "5 9"));
    assert_eq!(member.committed(0).await.expect("asked"), None);
}

#[tokio::test]
async fn a_backup_of_a_running_log_opens_and_holds_what_was_durable() {
    let (dir, to) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    let spec = timeline();
    let (log, _) = open(dir.path());
    log.create_topic(&spec).await.expect("topic");
    for n in 0..1_000 {
        append(&log, &spec.topic, 0, [format!("value {n}")]).await;
    }
    log.backup(to.path()).expect("backed up");
    append(&log, &spec.topic, 0, ["later".to_owned()]).await;
    let (copy, report) = open(to.path());
    assert_eq!(report, OpenReport::default());
    assert_eq!(read_all(&copy, &spec.topic, 0).await, numbered(0..1_000));
    assert_eq!(append(&copy, &spec.topic, 0, ["on".to_owned()]).await, LogOffset(1_000));
}

#[tokio::test]
async fn a_second_opening_and_a_topic_of_another_shape_are_refused() {
    let dir = tempfile::tempdir().expect("dir");
    let (log, _) = open(dir.path());
    log.create_topic(&timeline()).await.expect("topic");
    let other = TopicSpec { partitions: 4, ..timeline() };
    assert_eq!(log.create_topic(&other).await.expect_err("other").kind(), ErrorKind::Mismatch);
    assert!(EmbeddedLog::open(dir.path(), options()).expect_err("second").to_string().contains("open already"));
    log.delete_topic(&timeline().topic).await.expect("deleted");
    log.create_topic(&other).await.expect("made anew");
}
