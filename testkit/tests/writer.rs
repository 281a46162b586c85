//! The writer over a log and a store in memory, with time paused; and over the embedded store, for FOLD.

mod memory;

use domain::{OwnerSeq, TimelineRecord};
use memory::{PARTITION, START_MS, World, user};
use schemas::records::encode_timeline;
use std::sync::Arc;
use store_embedded::{EmbeddedStore, Options};

/// A log with two channels, a few messages, and things that do not count.
async fn conversation(seed: u64) -> World {
    let world = World::new(seed).await;
    let owner = world.sequencer("one");
    world.send(&world.create(1, &[user(1), user(2)]));
    world.send(&world.create(2, &[user(2), user(1), user(3)]));
    for i in 0..50u8 {
        world.log.set_now(START_MS + u64::from(i) * 7_000);
        world.send(&world.post(world.channel(1 + i % 2), user(1 + i % 2), &i.to_string()));
    }
    let outcomes = world.decided(52).await;
    let mut void = outcomes[7].clone();
    void.n = OwnerSeq(9_999);
    world.log.put(&world.messages, "void", encode_timeline(&TimelineRecord::Outcome(void)));
    world.log.put(&world.messages, "foreign", "not ours");
    world.send(&world.post(world.channel(1), user(1), "the last"));
    // The void record is the owner's own by its looks: it steps down and claims again.
    world.decided(53).await;
    owner.stop().await;
    world
}

#[tokio::test(start_paused = true)]
async fn every_valid_event_is_one_row_and_foreign_records_are_put_aside() {
    let world = conversation(1).await;
    let writer = world.writer();
    world.written().await;
    let rows = world.store.rows();
    assert_eq!(rows.len(), 3 + 4 + 51);
    let dead = world.log.records(&world.dead_letters);
    assert_eq!(dead.len(), 1);
    assert_eq!((&dead[0].record.key[..], dead[0].record.value.as_deref()), (&b"foreign"[..], Some(&b"not ours"[..])));
    writer.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_crashes_anywhere_and_a_zombie_beside_it_leave_the_same_rows() {
    let world = conversation(2).await;
    let writer = world.writer();
    world.written().await;
    writer.stop().await;
    let whole = world.store.rows();
    for seed in 0..40 {
        let mut again = World { store: memory::store::MemoryStore::default(), ..conversation(2).await };
        again.entropy = runtime::Entropy::from_seed(seed);
        let zombie = again.writer();
        for _ in 0..5 {
            again.store.fail_writes(again.entropy.below(4) as u32);
            let writer = again.writer();
            tokio::time::sleep(std::time::Duration::from_micros(again.entropy.below(300_000))).await;
            writer.crash();
        }
        let writer = again.writer();
        again.written().await;
        let rows = again.store.rows();
        assert_eq!(rows, whole);
        writer.stop().await;
        zombie.crash();
    }
}

#[tokio::test(start_paused = true)]
async fn progress_never_claims_what_was_not_applied() {
    let world = conversation(3).await;
    let (owner, writer) = (world.sequencer("two"), world.writer());
    let before = world.outcomes().len();
    for i in 0..200 {
        world.send(&world.post(world.channel(1), user(1), &i.to_string()));
        world.store.fail_writes(world.entropy.below(3) as u32);
        tokio::time::sleep(std::time::Duration::from_millis(world.entropy.below(60))).await;
        assert_eq!(world.claimed_but_missing(), None);
    }
    world.decided(before + 200).await;
    owner.stop().await;
    world.written().await;
    let newest = world.store.trail(PARTITION).pop().unwrap().cursor;
    let mut fold = domain::LogCursor::default();
    for stored in world.log.records(&world.messages) {
        if let Ok(record) = schemas::records::decode_timeline(stored.record.value.as_deref().unwrap()) {
            fold.accept(stored.offset.0, &record);
        }
        fold.offset = stored.offset.0 + 1;
    }
    assert_eq!(newest, fold, "progress carries the whole cursor");
    writer.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_record_of_ours_that_cannot_be_read_stops_the_partition_and_is_not_skipped() {
    let world = World::new(4).await;
    let owner = world.sequencer("one");
    world.send(&world.create(1, &[user(1)]));
    world.decided(1).await;
    owner.stop().await;
    let good = world.log.records(&world.messages)[1].record.value.clone().unwrap();
    world.log.put(&world.messages, "torn", good.slice(..good.len() - 3));
    let end = world.log.records(&world.messages).len() as u64;
    let writer = world.writer();
    world.store.until(|| (world.store.rows().len() == 2).then_some(())).await;
    tokio::time::sleep(std::time::Duration::from_mins(1)).await;
    let claimed = world.store.trail(PARTITION).last().unwrap().cursor.offset;
    assert_eq!(claimed, end - 1, "all before it, nothing beyond");
    let report = writer.health.report();
    assert!(!report.ready, "{report:?}");
    assert!(report.parts["writer/0"].reason.as_deref().unwrap().contains("offset 2"), "{report:?}");
    writer.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_makes_the_writer_unready_and_heals() {
    let world = conversation(5).await;
    world.store.fail_writes(20);
    let writer = world.writer();
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert!(!writer.health.report().ready);
    world.written().await;
    assert!(writer.health.report().ready);
    writer.stop().await;
}

/// Real time: the embedded store has threads of its own.
#[tokio::test]
async fn projections_that_are_dropped_and_rebuilt_are_the_same() {
    let world = conversation(6).await;
    let mut fingerprints = Vec::new();
    for crashes in 0..3u32 {
        let dir = tempfile::tempdir().unwrap();
        let embedded = Arc::new(EmbeddedStore::open(dir.path(), &Options::default()).unwrap());
        for _ in 0..crashes {
            let writer = world.writer_into(Arc::clone(&embedded) as _);
            tokio::task::yield_now().await;
            writer.crash();
        }
        let writer = world.writer_into(Arc::clone(&embedded) as _);
        let shared: store::SharedStore = embedded.clone();
        let truth = testkit::truth::Truth::read(&world.shared_log(), memory::TOPOLOGY).await.unwrap();
        while truth.writer_lag(&shared).await.unwrap() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(truth.compare(&shared).await.unwrap(), Vec::<String>::new());
        writer.stop().await;
        fingerprints.push(embedded.fingerprint().unwrap());
    }
    assert_eq!(fingerprints[0].events, 3 + 4 + 51);
    assert!(fingerprints.iter().all(|fingerprint| *fingerprint == fingerprints[0]), "{fingerprints:?}");
}
