//! Sockets that only keep alive: how fast they connect, and what each costs the server in memory.

use crate::limits::{HANDSHAKES_AT_ONCE, HEARTBEAT};
use crate::link::{Handler, Link, Shared, Target, heartbeats};
use crate::people::Account;
use crate::{process, report};
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Files that are no sockets of people.
const OTHER_FILES: u64 = 100;

#[derive(Default)]
struct Stage {
    opened: AtomicUsize,
    closed: AtomicUsize,
    frames: AtomicUsize,
    ended: AtomicBool,
    remark: Mutex<Option<String>>,
}

/// Connects `connections` sockets, holds them, and measures.
pub(crate) fn run(
    people: &Arc<Vec<Account>>,
    targets: &[Arc<Target>],
    connections: usize,
    hold: Duration,
    threads: usize,
    server_pid: Option<u32>,
) -> Result<Value> {
    if let Some(limit) = process::open_files_max() {
        ensure!(
            limit > connections as u64 + OTHER_FILES,
            "this client may open {limit} files: raise it with `ulimit -n`"
        );
    }
    let resident = || server_pid.map(process::resident_bytes).transpose();
    let before = resident()?;
    let stage = Arc::new(Stage::default());
    let began = Instant::now();
    let mut running = Vec::new();
    for index in 0..threads {
        let (stage, people, targets) = (Arc::clone(&stage), Arc::clone(people), targets.to_vec());
        running.push(std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            tokio::task::LocalSet::new().block_on(&runtime, async {
                let mine = (index..connections).step_by(threads);
                let link = |who: usize| {
                    let account = &people[who % people.len()];
                    Link::new(who, account.token.clone(), Arc::clone(&targets[who % targets.len()]))
                };
                let links: Rc<[Rc<Link>]> = mine.map(link).collect();
                let shared = Shared::new(HANDSHAKES_AT_ONCE / threads, false);
                let handler: Rc<dyn Handler> = Rc::new(Idle { stage: Arc::clone(&stage) });
                for link in links.iter() {
                    tokio::task::spawn_local(Rc::clone(link).run(Rc::clone(&handler), Rc::clone(&shared)));
                }
                tokio::task::spawn_local(heartbeats(links, HEARTBEAT));
                while !stage.ended.load(Relaxed) {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                anyhow::Ok(())
            })
        }));
    }
    let bar = report::bar(connections as u64, "people connected");
    while stage.opened.load(Relaxed) < connections
        && stage.closed.load(Relaxed) == 0
        && began.elapsed() < Duration::from_mins(2)
    {
        bar.set_position(stage.opened.load(Relaxed) as u64);
        std::thread::sleep(Duration::from_millis(2));
    }
    let connect_s = began.elapsed().as_secs_f64();
    bar.finish_and_clear();
    let opened = stage.opened.load(Relaxed);
    let remark = || stage.remark.lock().unwrap_or_else(PoisonError::into_inner).clone().unwrap_or_default();
    ensure!(opened == connections, "{opened} of {connections} connected: {}", remark());

    let cpu = || server_pid.map(process::cpu_seconds).transpose();
    let cpu_before = cpu()?;
    let held = Instant::now();
    let bar = report::bar(hold.as_secs(), "s of heartbeats");
    let mut seconds = Vec::new();
    while held.elapsed() < hold {
        std::thread::sleep(Duration::from_millis(200));
        bar.set_position(held.elapsed().as_secs());
        if seconds.len() < held.elapsed().as_secs() as usize {
            seconds.push(json!({"server_rss_bytes": resident()?}));
        }
    }
    bar.finish_and_clear();
    let after = resident()?;
    let server_cpu_s = cpu()?.zip(cpu_before).map(|(after, before)| after - before);
    let closed = stage.closed.load(Relaxed);
    stage.ended.store(true, Relaxed);
    for thread in running {
        thread.join().ok().context("a thread panicked")??;
    }
    let per_connection =
        after.zip(before).map(|(after, before)| after.saturating_sub(before) as f64 / connections as f64);
    Ok(json!({
        "connections": connections, "connect_s": connect_s, "held_s": hold.as_secs_f64(), "closed": closed, "lost": closed,
        "frames": stage.frames.load(Relaxed), "server_rss_before_bytes": before, "server_rss_bytes": after,
        "bytes_per_connection": per_connection, "server_cpu_s": server_cpu_s, "seconds": seconds,
        "remarks": if closed > 0 { vec![remark()] } else { Vec::new() },
    }))
}

struct Idle {
    stage: Arc<Stage>,
}

impl Handler for Idle {
    fn opened(&self, _link: &Rc<Link>, _server_time_ms: u64) {
        self.stage.opened.fetch_add(1, Relaxed);
    }

    fn received(&self, _link: &Rc<Link>, text: &[u8]) {
        self.stage.frames.fetch_add(1, Relaxed);
        if text.starts_with(br#"{"t":"error""#) {
            let text = String::from_utf8_lossy(text).into_owned();
            self.stage.remark.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(text);
        }
    }

    fn closed(&self, _link: &Rc<Link>, why: &anyhow::Error) {
        if !self.stage.ended.load(Relaxed) {
            self.stage.closed.fetch_add(1, Relaxed);
            self.stage.remark.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| format!("{why:#}"));
        }
    }

    fn cursors(&self, _link: &Rc<Link>) -> Vec<(Uuid, u64)> {
        Vec::new()
    }
}
