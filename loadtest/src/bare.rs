//! Bare loops: the least that the work could cost on this machine, so that figures are ratios.
//!
//! - `bare-commit`: append and fdatasync, everything that gathered in one go, under the arrival schedule of `pairs`.
//! - `bare-relay-server`: reads `send` frames and writes `event` frames to the same sockets; no log, no checks, no history.

use crate::figures::{Figures, histogram, percentiles};
use crate::limits::LAG_P99_MAX;
use crate::schedule::{arrivals, pace};
use crate::wire::{Frames, Side, TEXT, write_frame};
use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use uuid::Uuid;

/// What `bare-commit` commits.
pub(crate) struct Commit<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) per_second: f64,
    pub(crate) people: usize,
    pub(crate) record_bytes: usize,
    pub(crate) warmup: Duration,
    pub(crate) duration: Duration,
    pub(crate) seed: u64,
}

/// Written ahead, so that a commit writes into blocks that exist, as the embedded log does.
const PRE_WRITTEN_BYTES: usize = 64 * 1024 * 1024;

/// The group-commit loop.
pub(crate) fn commit(what: &Commit<'_>) -> Result<Value> {
    let path = what.folder.join(format!("bare-commit-{}", std::process::id()));
    let file = OpenOptions::new()
        .create_new(true)
        .write(true)
        .open(&path)
        .with_context(|| format!("making {}", path.display()))?;
    let done = commit_into(&file, what);
    std::fs::remove_file(&path).ok();
    done
}

fn commit_into(file: &File, what: &Commit<'_>) -> Result<Value> {
    file.write_all_at(&vec![0; PRE_WRITTEN_BYTES], 0)?;
    file.sync_all()?;
    let schedule = arrivals(what.seed, what.per_second, what.people, what.warmup + what.duration);
    let start = Instant::now() + Duration::from_millis(200);
    let warmup_us = what.warmup.as_micros() as u64;
    let mut due = pace(start, schedule);
    let (mut ack, mut lag, mut commits) = (histogram(), histogram(), 0_u64);
    let (mut batch, mut at) = (Vec::new(), 0_u64);
    while let Some(first) = due.blocking_recv() {
        batch.clear();
        batch.push(first);
        let taken = start.elapsed().as_micros() as u64;
        while let Ok(next) = due.try_recv() {
            batch.push(next);
        }
        let bytes = vec![1; batch.len() * what.record_bytes];
        if at as usize + bytes.len() > PRE_WRITTEN_BYTES {
            at = 0;
        }
        file.write_all_at(&bytes, at)?;
        file.sync_data()?;
        at += bytes.len() as u64;
        commits += 1;
        let now = start.elapsed().as_micros() as u64;
        lag.saturating_record(taken.saturating_sub(first.at_us));
        for one in batch.iter().filter(|one| one.at_us >= warmup_us) {
            ack.saturating_record(now.saturating_sub(one.at_us));
        }
    }
    let acked_per_s = ack.len() as f64 / what.duration.as_secs_f64();
    Ok(json!({
        "acked": ack.len(), "commits": commits, "ack_ms": percentiles(&ack), "acked_per_s": acked_per_s,
        // Here lag is what waits for the commit before: only a machine without room for this loop makes it long.
        "lag_ms": percentiles(&lag), "void": lag.value_at_quantile(0.5) > LAG_P99_MAX.as_micros() as u64,
        "seconds": Figures::default().seconds,
    }))
}

/// The user id of a bare relay's person.
pub(crate) fn bare_user(who: usize) -> Uuid {
    Uuid::from_u128(who as u128 + 1)
}

/// The channel of a bare relay's person.
pub(crate) fn bare_channel(who: usize, group: usize) -> Uuid {
    Uuid::from_u128(1 << 64 | (who / group) as u128)
}

/// One person's socket in the relay.
struct Outlet {
    stream: TcpStream,
    /// What the socket did not take yet.
    waiting: Mutex<Vec<u8>>,
    wake: Notify,
}

impl Outlet {
    /// Writes behind what waits, as much as the socket takes.
    fn write(&self, bytes: &[u8]) {
        let mut waiting = lock(&self.waiting);
        if waiting.is_empty() {
            let taken = self.stream.try_write(bytes).unwrap_or(0);
            waiting.extend_from_slice(&bytes[taken..]);
        } else {
            waiting.extend_from_slice(bytes);
        }
        if !waiting.is_empty() {
            self.wake.notify_one();
        }
    }

    fn write_waiting(&self) -> bool {
        let mut waiting = lock(&self.waiting);
        while !waiting.is_empty() {
            match self.stream.try_write(&waiting) {
                Ok(count) => drop(waiting.drain(..count)),
                Err(_) => return false,
            }
        }
        true
    }
}

/// A pair or a group in the relay.
struct Channel {
    seq: AtomicU64,
    members: Mutex<Vec<Arc<Outlet>>>,
    /// Frames that gather while the ones before are written (groups only).
    pending: Mutex<Vec<u8>>,
    wake: Notify,
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves until it is killed. Prints its address.
pub(crate) async fn relay_server(people: usize, group: usize, lone_writes: bool) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}", listener.local_addr()?);
    let channel = || Channel {
        seq: AtomicU64::new(0),
        members: Mutex::default(),
        pending: Mutex::default(),
        wake: Notify::new(),
    };
    let channels: Arc<[Channel]> = (0..people.div_ceil(group)).map(|_| channel()).collect();
    if group > 2 {
        for index in 0..channels.len() {
            tokio::spawn(write_pending(Arc::clone(&channels), index));
        }
    }
    loop {
        let (stream, _) = listener.accept().await?;
        let channels = Arc::clone(&channels);
        tokio::spawn(async move {
            if let Err(error) = serve(stream, &channels, group, lone_writes).await {
                eprintln!("{error:#}");
            }
        });
    }
}

/// Writes what gathered for a group to all its sockets, in two halves at once.
async fn write_pending(channels: Arc<[Channel]>, index: usize) {
    loop {
        channels[index].wake.notified().await;
        let frames: Arc<Vec<u8>> = Arc::new(std::mem::take(&mut lock(&channels[index].pending)));
        if frames.is_empty() {
            continue;
        }
        let members = lock(&channels[index].members).clone();
        let (one, other) = members.split_at(members.len() / 2);
        let other = other.to_vec();
        let shared = Arc::clone(&frames);
        let half = tokio::spawn(async move { other.iter().for_each(|outlet| outlet.write(&shared)) });
        one.iter().for_each(|outlet| outlet.write(&frames));
        half.await.ok();
    }
}

async fn serve(mut stream: TcpStream, channels: &[Channel], group: usize, lone_writes: bool) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut head = Vec::with_capacity(512);
    let end = loop {
        if let Some(at) = head.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        anyhow::ensure!(stream.read_buf(&mut head).await? > 0, "no request");
    };
    let accepted = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    stream.write_all(accepted.as_bytes()).await?;
    let outlet = Arc::new(Outlet { stream, waiting: Mutex::default(), wake: Notify::new() });
    let mut person = None;
    let mut frames = Frames::default();
    let mut sends = Vec::new();
    let mut buffer = vec![0; 16 * 1024];
    let mut first = head.split_off(end);
    loop {
        let mut read = std::mem::take(&mut first);
        if read.is_empty() {
            let interest =
                if outlet.write_waiting() { Interest::READABLE } else { Interest::READABLE | Interest::WRITABLE };
            tokio::select! {
                biased;
                ready = outlet.stream.ready(interest) => { ready?; }
                () = outlet.wake.notified() => continue,
            }
            match outlet.stream.try_read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => read = buffer[..count].to_vec(),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error.into()),
            }
        }
        let mut wrong = None;
        frames.feed(&read, |opcode, text| {
            if opcode == TEXT
                && let Err(error) = frame(text, channels, group, &outlet, &mut person, &mut sends)
            {
                wrong = Some(error);
            }
        })?;
        if let Some(wrong) = wrong {
            return Err(wrong);
        }
        if let Some(who) = person
            && !sends.is_empty()
        {
            let channel: &Channel = &channels[who / group];
            // Numbered and written under one lock, so that every socket has the same order.
            if group > 2 {
                events(&mut lock(&channel.pending), channel, who, &sends);
                channel.wake.notify_one();
            } else {
                let members = lock(&channel.members);
                let together = if lone_writes { 1 } else { sends.len() };
                for sends in sends.chunks(together) {
                    let mut batch = Vec::with_capacity(512);
                    events(&mut batch, channel, who, sends);
                    members.iter().for_each(|outlet| outlet.write(&batch));
                }
            }
            sends.clear();
        }
    }
}

/// How a `send` begins, as our client writes it.
const SEND: &[u8] = br#"{"t":"send","channel":""#;
/// What stands between its ids.
const BETWEEN: &[u8] = br#"","client_msg_id":""#;
/// Channel and id, with what stands between.
const SEND_IDS_BYTES: usize = 36 + BETWEEN.len() + 36;

/// The events of sends, as frames.
fn events(out: &mut Vec<u8>, channel: &Channel, who: usize, sends: &[Vec<u8>]) {
    let sender = bare_user(who);
    let mut event = Vec::with_capacity(512);
    for send in sends {
        let seq = channel.seq.fetch_add(1, Relaxed) + 1;
        event.clear();
        event.extend_from_slice(br#"{"t":"event","channel":""#);
        event.extend_from_slice(&send[..36]);
        write!(
            event,
            r#"","seq":{seq},"ordinal":{seq},"id":"{seq}","time":1790000000000,"sender":"{sender}","client_msg_id":""#
        )
        .expect("a vector takes every write");
        event.extend_from_slice(&send[36 + BETWEEN.len()..SEND_IDS_BYTES]);
        event.extend_from_slice(br#"","kind":"message_posted"#);
        event.extend_from_slice(&send[SEND_IDS_BYTES..]);
        write_frame(out, Side::Server, TEXT, &event);
    }
}

fn frame(
    text: &[u8],
    channels: &[Channel],
    group: usize,
    outlet: &Arc<Outlet>,
    person: &mut Option<usize>,
    sends: &mut Vec<Vec<u8>>,
) -> Result<()> {
    let mut answer = Vec::new();
    if let Some(send) = text.strip_prefix(SEND) {
        anyhow::ensure!(person.is_some() && send.len() > SEND_IDS_BYTES, "a send before hello, or one without ids");
        sends.push(send.to_vec());
    } else if text.starts_with(br#"{"t":"hello""#) {
        let hello: Value = serde_json::from_slice(text)?;
        let who: usize = hello["token"].as_str().context("no token")?.parse()?;
        let channel = channels.get(who / group).context("more people than told")?;
        lock(&channel.members).push(Arc::clone(outlet));
        *person = Some(who);
        let welcome = json!({
            "t": "welcome", "session": Uuid::nil(), "user": bare_user(who), "server_time": 1_790_000_000_000_u64, "generation": 1,
            "heartbeat_ms": 5_000, "limits": {"body_bytes_max": 16_384, "frame_bytes_max": 65_536, "sends_per_second_max": 1_000_000},
        });
        write_frame(&mut answer, Side::Server, TEXT, welcome.to_string().as_bytes());
        let heads =
            json!({"t": "caught_up", "heads": {(bare_channel(who, group).to_string()): channel.seq.load(Relaxed)}});
        write_frame(&mut answer, Side::Server, TEXT, heads.to_string().as_bytes());
    } else {
        write_frame(&mut answer, Side::Server, TEXT, br#"{"t":"pong","server_time":1790000000000}"#);
    }
    if !answer.is_empty() {
        outlet.write(&answer);
    }
    Ok(())
}
