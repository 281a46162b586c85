//! What a row costs: CPU of the whole process per applied message, at several batch sizes, over 1,000 channels.
//!
//! `cargo run --release -p store-embedded --example apply_rate [rows [batch sizes ...]]`. Linux only: reads `/proc/self/task`.

use std::sync::Arc;
use std::time::Duration;
use store::contract::{self, Script};
use store::{PageQuery, Projections, SequencerReads, Timelines};
use store_embedded::{EmbeddedStore, Options};
use tokio::time::Instant;

const CHANNELS: u64 = 1_000;
const TEXT: &str =
    "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789";

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let rows_max: usize = std::env::args().nth(1).and_then(|rows| rows.parse().ok()).unwrap_or(400_000);
    println!(
        "{:>6} {:>9} {:>8} {:>8} {:>9} {:>9} {:>9} {:>9} {:>7}",
        "batch", "rows", "µs CPU", "µs", "p50 ms", "p99 ms", "max ms", "bytes/row", "wal MiB"
    );
    let sizes: Vec<usize> = std::env::args().skip(2).filter_map(|size| size.parse().ok()).collect();
    for size in if sizes.is_empty() { vec![1, 16, 256, 4_096] } else { sizes } {
        apply(size, rows_max.min(size * 20_000)).await;
    }
    heads().await;
}

async fn apply(size: usize, rows: usize) {
    let dir = tempfile::TempDir::new_in(".").expect("a directory");
    let store = EmbeddedStore::open(dir.path(), &Options::default()).expect("open");
    let mut scripts: Vec<Script> = (0..CHANNELS).map(|n| Script::new(contract::channel(n * 7_919))).collect();
    let mut latencies = Vec::new();
    let (mut cpu, mut wall, mut written, mut channel) = (Duration::ZERO, Duration::ZERO, 0, 0);
    while written < rows {
        let batch = contract::batch(
            (0..size)
                .map(|i| {
                    channel = (channel + 617) % CHANNELS as usize;
                    let script = &mut scripts[channel];
                    script.time = contract::START.plus_ms(((written + i) / 20) as u64);
                    script.post(contract::person((i % 3) as u64), TEXT)
                })
                .collect::<Vec<_>>(),
        );
        let (cpu_before, before) = (cpu_time(), Instant::now());
        store.apply(Arc::clone(&batch)).await.expect("apply");
        latencies.push(before.elapsed());
        wall += before.elapsed();
        cpu += cpu_time().saturating_sub(cpu_before);
        written += size;
    }
    latencies.sort_unstable();
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    let per_row = |time: Duration| time.as_secs_f64() * 1e6 / written as f64;
    let wal = std::fs::metadata(dir.path().join("projections.db-wal")).map_or(0, |file| file.len() >> 20);
    drop(store);
    let bytes = std::fs::metadata(dir.path().join("projections.db")).map_or(0, |file| file.len());
    println!(
        "{size:>6} {written:>9} {:>8.2} {:>8.2} {:>9.3} {:>9.3} {:>9.3} {:>9} {:>7}",
        per_row(cpu),
        per_row(wall),
        at(0.5),
        at(0.99),
        at(1.0),
        bytes / written as u64,
        wal
    );
}

/// Reads of a channel with 10,000 members, and of a page of 100 events.
async fn heads() {
    let dir = tempfile::TempDir::new_in(".").expect("a directory");
    let store = EmbeddedStore::open(dir.path(), &Options::default()).expect("open");
    let people: Vec<_> = (0..10_000).map(contract::person).collect();
    let mut script = Script::new(contract::channel(1));
    store.apply(contract::batch(script.create(&people))).await.expect("apply");
    let messages: Vec<_> = (0..1_000).map(|_| script.post(people[0], TEXT)).collect();
    store.apply(contract::batch(messages)).await.expect("apply");
    let (cpu_before, before) = (cpu_time(), Instant::now());
    for _ in 0..20 {
        store.heads(&[script.channel]).await.expect("heads");
    }
    let cpu = (cpu_time().saturating_sub(cpu_before)).as_secs_f64() * 1e3 / 20.0;
    println!("head of 10,000 members: {cpu:.2} ms CPU, {:.2} ms", before.elapsed().as_secs_f64() * 1e3 / 20.0);
    let (cpu_before, before) = (cpu_time(), Instant::now());
    for n in 0..500 {
        let last = domain::ChannelSeq(10_101 + n);
        let query =
            PageQuery { channel: script.channel, first: domain::ChannelSeq(1), last, limit: 100, newest_first: true };
        store.page(&query).await.expect("page");
    }
    let cpu = (cpu_time().saturating_sub(cpu_before)).as_secs_f64() * 1e6 / 500.0;
    println!("page of 100 events: {cpu:.0} µs CPU, {:.0} µs", before.elapsed().as_secs_f64() * 1e6 / 500.0);
}

/// Of all threads, from the scheduler's own account in ns.
fn cpu_time() -> Duration {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return Duration::ZERO };
    let of_task = |task: std::io::Result<std::fs::DirEntry>| {
        let text = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    };
    Duration::from_nanos(tasks.filter_map(of_task).sum())
}
