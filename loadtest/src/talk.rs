//! People who talk: the engine of `pairs`, `max`, `group`, `kill` and the bare relays.
//!
//! Each thread has its own people, sockets and figures and shares nothing but the clock: a message's id says when it was meant to be
//! sent ([`crate::ids`]), so whoever receives it can tell the latency, and dense seqs tell what is missing.

use crate::figures::{Figures, Seen, Track};
use crate::ids::{NUMBERS_MAX, Stamp};
use crate::limits::{HANDSHAKES_AT_ONCE, HEARTBEAT, RESEND_AFTER};
use crate::link::{Handler, Link, Shared, Target, heartbeats};
use crate::people::Account;
use crate::process;
use crate::scan::{EventHead, Received, receive};
use crate::schedule::{Arrival, arrivals, pace};
use anyhow::{Context as _, Result, bail};
use schemas::frames::ServerFrame;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::io::Write as _;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use uuid::Uuid;

/// How people decide to send.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mode {
    /// At times of their own, whatever the server does; latency counts from the intended time.
    Open { per_second: f64 },
    /// As soon as fewer than so many of their own messages are unacknowledged.
    Closed { unacked: usize },
}

/// A run.
pub(crate) struct Plan {
    pub(crate) people: Vec<Account>,
    /// Where each person talks.
    pub(crate) channel_of: Vec<Uuid>,
    pub(crate) targets: Vec<Arc<Target>>,
    pub(crate) mode: Mode,
    pub(crate) body_bytes: usize,
    pub(crate) warmup: Duration,
    pub(crate) duration: Duration,
    /// How long to wait for what is under way at the end.
    pub(crate) drain: Duration,
    pub(crate) seed: u64,
    pub(crate) threads: usize,
    /// People who belong together and stay on one thread.
    pub(crate) together: usize,
    pub(crate) reconnect: bool,
    /// Keep what was acknowledged, to look for it in history.
    pub(crate) keep_acked: bool,
    pub(crate) server_pid: Option<u32>,
}

/// Something that was acknowledged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Acked {
    pub(crate) channel: Uuid,
    pub(crate) seq: u64,
    pub(crate) id: Uuid,
}

/// What came of a run.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) figures: Figures,
    /// Events that a member's socket should have had and had not.
    pub(crate) lost: u64,
    pub(crate) unacknowledged: u64,
    pub(crate) heads: HashMap<Uuid, u64>,
    pub(crate) acked: Vec<Acked>,
    pub(crate) connections: usize,
    pub(crate) connect_seconds: f64,
    pub(crate) server_cpu_s: Option<f64>,
    pub(crate) client_cpu_s: f64,
    pub(crate) server_rss_bytes: Option<u64>,
    /// From the first of the measured to the last.
    pub(crate) measured_seconds: f64,
}

/// What the threads of a run share.
struct Stage {
    base: Instant,
    /// When people may talk, in µs since the base; `u64::MAX`: not yet.
    start_us: AtomicU64,
    opened: AtomicUsize,
    drained: AtomicUsize,
    failed: AtomicBool,
    progress: Vec<Progress>,
}

/// For the progress bar; a thread each, so that nobody waits.
#[derive(Default)]
#[repr(align(128))]
struct Progress {
    acked: AtomicU64,
    delivered: AtomicU64,
}

impl Stage {
    fn now_us(&self) -> u64 {
        self.base.elapsed().as_micros() as u64
    }
}

/// Runs a plan. `during` is called every 50 ms while people talk, with the time since they began.
pub(crate) fn run(plan: Plan, during: &mut dyn FnMut(Duration) -> Result<()>) -> Result<Outcome> {
    let (warmup, duration, drain) = (plan.warmup, plan.duration, plan.drain);
    let (server_pid, people) = (plan.server_pid, plan.people.len());
    let plan = Arc::new(plan);
    let stage = Arc::new(Stage {
        base: Instant::now(),
        start_us: AtomicU64::new(u64::MAX),
        opened: AtomicUsize::new(0),
        drained: AtomicUsize::new(0),
        failed: AtomicBool::new(false),
        progress: (0..plan.threads).map(|_| Progress::default()).collect(),
    });
    let (sender, results) = mpsc::sync_channel(plan.threads);
    for index in 0..plan.threads {
        let (plan, stage, sender) = (Arc::clone(&plan), Arc::clone(&stage), sender.clone());
        std::thread::spawn(move || {
            let done = thread(&plan, &stage, index);
            if done.is_err() {
                stage.failed.store(true, Relaxed);
            }
            sender.send(done).ok();
        });
    }
    drop(sender);

    let bar = crate::report::bar(people as u64, "people connected");
    while stage.opened.load(Relaxed) < people {
        bar.set_position(stage.opened.load(Relaxed) as u64);
        if stage.failed.load(Relaxed) || stage.base.elapsed() > CONNECT_TIMEOUT {
            let cause = results.recv_timeout(Duration::from_secs(1)).ok().and_then(Result::err);
            let opened = stage.opened.load(Relaxed);
            return Err(cause.unwrap_or_else(|| anyhow::anyhow!("gave up")))
                .context(format!("{opened} of {people} connected"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let connect_seconds = stage.base.elapsed().as_secs_f64();
    bar.finish_and_clear();

    let start = stage.base.elapsed() + Duration::from_millis(500);
    stage.start_us.store(start.as_micros() as u64, Relaxed);
    let cpu = |pid: Option<u32>| pid.and_then(|pid| process::cpu_seconds(pid).ok());
    let own = Some(std::process::id());
    let mut at_start = None;
    let bar = crate::report::bar((warmup + duration).as_secs(), "s");
    loop {
        let now = stage.base.elapsed().saturating_sub(start);
        if now >= warmup && at_start.is_none() {
            at_start = Some((now, cpu(server_pid), cpu(own)));
        }
        if now >= warmup + duration || stage.failed.load(Relaxed) {
            break;
        }
        during(now)?;
        let sum = |of: fn(&Progress) -> &AtomicU64| stage.progress.iter().map(|one| of(one).load(Relaxed)).sum::<u64>();
        bar.set_position(now.as_secs());
        bar.set_message(format!("s, {} acked, {} delivered", sum(|one| &one.acked), sum(|one| &one.delivered)));
        std::thread::sleep(Duration::from_millis(50));
    }
    bar.finish_and_clear();
    let (began, server_cpu, client_cpu) = at_start.unwrap_or_default();
    let ended = stage.base.elapsed().saturating_sub(start);
    let server_cpu_s = cpu(server_pid).zip(server_cpu).map(|(end, start)| end - start);
    let client_cpu_s = cpu(own).unwrap_or_default() - client_cpu.unwrap_or_default();
    let server_rss_bytes = server_pid.and_then(|pid| process::resident_bytes(pid).ok());

    let mut outcome = Outcome {
        connections: people,
        connect_seconds,
        server_cpu_s,
        client_cpu_s,
        server_rss_bytes,
        ..Outcome::default()
    };
    outcome.measured_seconds = (ended.saturating_sub(began)).as_secs_f64();
    let mut tracks = Vec::new();
    for _ in 0..plan.threads {
        let done = results.recv_timeout(drain + Duration::from_secs(30)).context("a thread did not end")??;
        outcome.figures.merge(&done.figures);
        outcome.unacknowledged += done.unacknowledged;
        outcome.acked.extend(done.acked);
        tracks.extend(done.tracks);
    }
    for (channel, track) in &tracks {
        let head = outcome.heads.entry(*channel).or_default();
        *head = (*head).max(track.last);
    }
    for acked in &outcome.acked {
        let head = outcome.heads.entry(acked.channel).or_default();
        *head = (*head).max(acked.seq);
    }
    outcome.lost =
        tracks.iter().map(|(channel, track)| outcome.heads[channel] - track.last + track.holes.len() as u64).sum();
    Ok(outcome)
}

/// Connecting takes no longer than this, or the run ends.
const CONNECT_TIMEOUT: Duration = Duration::from_mins(2);
/// Nothing came for so long: nothing is under way any more.
const QUIET_US: u64 = 400_000;

struct Done {
    figures: Figures,
    unacknowledged: u64,
    acked: Vec<Acked>,
    /// Of the channels that people talk in.
    tracks: Vec<(Uuid, Track)>,
}

fn thread(plan: &Arc<Plan>, stage: &Arc<Stage>, index: usize) -> Result<Done> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, work(plan, stage, index))
}

async fn work(plan: &Arc<Plan>, stage: &Arc<Stage>, index: usize) -> Result<Done> {
    let mine: Vec<usize> = (0..plan.people.len()).filter(|who| who / plan.together % plan.threads == index).collect();
    let people = mine.iter().map(|&who| Person::new(plan.people[who].user, plan.channel_of[who])).collect();
    let talk = Rc::new(Talk {
        plan: Arc::clone(plan),
        stage: Arc::clone(stage),
        index,
        run: (stage_nonce() & 0xfff) as u16,
        people,
        figures: RefCell::default(),
        acked: RefCell::default(),
        retries: RefCell::default(),
        numbered: Cell::new(index as u64),
        clock_offset_ms: Cell::new(0),
        last_heard_us: Cell::new(0),
    });
    let links: Rc<[Rc<Link>]> = (0..mine.len())
        .map(|local| {
            let account = &plan.people[mine[local]];
            let target = Arc::clone(&plan.targets[mine[local] % plan.targets.len()]);
            Link::new(local, account.token.clone(), target)
        })
        .collect();
    let shared = Shared::new(HANDSHAKES_AT_ONCE / plan.threads, plan.reconnect);
    let handler: Rc<dyn Handler> = Rc::clone(&talk) as _;
    for link in links.iter() {
        tokio::task::spawn_local(Rc::clone(link).run(Rc::clone(&handler), Rc::clone(&shared)));
    }
    tokio::task::spawn_local(heartbeats(Rc::clone(&links), HEARTBEAT));
    tokio::task::spawn_local(Rc::clone(&talk).resend(Rc::clone(&links)));

    while stage.start_us.load(Relaxed) == u64::MAX {
        if let Some(why) = talk.figures.borrow().remarks.first().filter(|_| !plan.reconnect) {
            bail!("{why}");
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let start_us = stage.start_us.load(Relaxed);
    let start = stage.base + Duration::from_micros(start_us);
    let length = plan.warmup + plan.duration;
    let end = tokio::time::Instant::from_std(start + length);
    match plan.mode {
        Mode::Open { per_second } => {
            let schedule = arrivals(plan.seed, per_second, plan.people.len(), length);
            let local: HashMap<usize, usize> = mine.iter().enumerate().map(|(local, &who)| (who, local)).collect();
            let own = schedule
                .iter()
                .filter_map(|arrival| local.get(&arrival.who).map(|&who| Arrival { who, ..*arrival }))
                .collect();
            let mut due = pace(start, own);
            while let Some(arrival) = due.recv().await {
                let link = &links[arrival.who];
                talk.send(link, start_us + arrival.at_us);
                link.flush();
            }
        }
        Mode::Closed { unacked } => {
            tokio::time::sleep_until(tokio::time::Instant::from_std(start)).await;
            for link in links.iter() {
                for _ in 0..unacked {
                    talk.send(link, stage.now_us());
                }
                link.flush();
            }
        }
    }
    tokio::time::sleep_until(end).await;
    talk.drain().await;
    drop(shared);

    let people = &talk.people;
    Ok(Done {
        unacknowledged: people.iter().map(|person| person.unacked.borrow().len() as u64).sum(),
        acked: talk.acked.take(),
        tracks: people.iter().filter_map(Person::take_track).collect(),
        figures: talk.figures.take(),
    })
}

/// Tells this run's messages from another's; need not be the same for the same seed.
fn stage_nonce() -> u64 {
    static NONCE: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    *NONCE.get_or_init(|| Uuid::new_v4().as_u64_pair().0)
}

struct Person {
    user: Uuid,
    channel: Uuid,
    tracks: RefCell<Vec<(Uuid, Track)>>,
    unacked: RefCell<VecDeque<Unacked>>,
}

#[derive(Clone, Copy)]
struct Unacked {
    id: Uuid,
    number: u64,
    last_sent_us: u64,
}

impl Person {
    fn new(user: Uuid, channel: Uuid) -> Self {
        Self { user, channel, tracks: RefCell::default(), unacked: RefCell::default() }
    }

    fn see(&self, channel: Uuid, seq: u64) -> Seen {
        let mut tracks = self.tracks.borrow_mut();
        if let Some((_, track)) = tracks.iter_mut().find(|(of, _)| *of == channel) {
            return track.see(seq);
        }
        tracks.push((channel, Track::after(seq)));
        Seen::Next
    }

    /// What it saw of the channel it talks in.
    fn take_track(&self) -> Option<(Uuid, Track)> {
        let tracks = self.tracks.take();
        tracks.into_iter().find(|(channel, _)| *channel == self.channel)
    }

    /// Ends the wait for an ack; `None`: it was not waited for.
    fn acknowledge(&self, id: Uuid) -> Option<Unacked> {
        let mut unacked = self.unacked.borrow_mut();
        let at = unacked.iter().position(|one| one.id == id)?;
        unacked.remove(at)
    }
}

struct Talk {
    plan: Arc<Plan>,
    stage: Arc<Stage>,
    index: usize,
    run: u16,
    people: Vec<Person>,
    figures: RefCell<Figures>,
    acked: RefCell<Vec<Acked>>,
    /// What the server asked to send again: when, who, which.
    retries: RefCell<Vec<(u64, usize, Uuid)>>,
    /// The next number; threads take every so many-th.
    numbered: Cell<u64>,
    clock_offset_ms: Cell<i64>,
    last_heard_us: Cell<u64>,
}

impl Talk {
    /// The measured window, in µs since the base.
    fn measured(&self, at_us: u64) -> bool {
        let from = self.stage.start_us.load(Relaxed).saturating_add(self.plan.warmup.as_micros() as u64);
        at_us >= from && at_us < from.saturating_add(self.plan.duration.as_micros() as u64)
    }

    fn server_ms(&self) -> u64 {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64;
        (wall + self.clock_offset_ms.get()).max(0) as u64
    }

    /// Sends the person's next message; without a connection it is sent at the next.
    fn send(&self, link: &Link, intended_us: u64) {
        let number = self.numbered.get();
        self.numbered.set((number + self.plan.threads as u64) % NUMBERS_MAX);
        let id = Stamp { run: self.run, number, intended_us }.id(self.server_ms());
        let now = self.stage.now_us();
        let one = Unacked { id, number, last_sent_us: now };
        if link.is_open() {
            self.write(link, &one, false);
        }
        self.people[link.who].unacked.borrow_mut().push_back(one);
        let mut figures = self.figures.borrow_mut();
        figures.sent += 1;
        figures.second(now.saturating_sub(self.stage.start_us.load(Relaxed))).sent += 1;
        if self.measured(intended_us) {
            figures.lag.saturating_record(now.saturating_sub(intended_us));
        }
    }

    fn write(&self, link: &Link, one: &Unacked, retry: bool) {
        const FILL: [u8; 1_024] = [b'x'; 1_024];
        let mut text = Vec::with_capacity(160 + self.plan.body_bytes);
        let (channel, id, number) = (self.people[link.who].channel, one.id, one.number);
        write!(text, r#"{{"t":"send","channel":"{channel}","client_msg_id":"{id}","body":""#)
            .expect("a vector takes every write");
        let start = text.len();
        write!(text, "{number} ").expect("a vector takes every write");
        while text.len() - start < self.plan.body_bytes {
            let missing = self.plan.body_bytes - (text.len() - start);
            text.extend_from_slice(&FILL[..missing.min(FILL.len())]);
        }
        text.extend_from_slice(if retry { br#"","retry":true}"# } else { br#""}"# });
        link.push(&text);
    }

    fn event(&self, link: &Link, event: &EventHead, now: u64) {
        let person = &self.people[link.who];
        let seen = person.see(event.channel, event.seq);
        match seen {
            Seen::Next | Seen::Gap | Seen::Repeat => {}
            Seen::Late => self.figures.borrow_mut().out_of_order += 1,
            Seen::Duplicate => {
                self.figures.borrow_mut().duplicated += 1;
                return;
            }
        }
        if !event.is_message {
            return;
        }
        let stamp = Stamp::of(&event.id);
        if stamp.run != self.run {
            return;
        }
        if event.sender == person.user {
            if person.acknowledge(event.id).is_some() {
                self.acknowledged(link, event.channel, event.seq, event.id, now);
            }
        } else if seen != Seen::Repeat {
            let latency = now.saturating_sub(stamp.intended_us);
            let mut figures = self.figures.borrow_mut();
            figures.delivered += 1;
            figures.delivered_measured += u64::from(self.measured(now));
            if self.measured(stamp.intended_us) {
                figures.deliver.saturating_record(latency);
            }
            let second = figures.second(now.saturating_sub(self.stage.start_us.load(Relaxed)));
            second.delivered += 1;
            second.deliver_us_max = second.deliver_us_max.max(latency);
            self.stage.progress[self.index].delivered.fetch_add(1, Relaxed);
        }
    }

    fn acknowledged(&self, link: &Link, channel: Uuid, seq: u64, id: Uuid, now: u64) {
        let intended_us = Stamp::of(&id).intended_us;
        let latency = now.saturating_sub(intended_us);
        {
            let mut figures = self.figures.borrow_mut();
            figures.acked += 1;
            figures.acked_measured += u64::from(self.measured(now));
            if self.measured(intended_us) {
                figures.ack.saturating_record(latency);
            }
            let second = figures.second(now.saturating_sub(self.stage.start_us.load(Relaxed)));
            second.acked += 1;
            second.ack_us_max = second.ack_us_max.max(latency);
        }
        self.stage.progress[self.index].acked.fetch_add(1, Relaxed);
        if self.plan.keep_acked {
            self.acked.borrow_mut().push(Acked { channel, seq, id });
        }
        let end = self.stage.start_us.load(Relaxed) + (self.plan.warmup + self.plan.duration).as_micros() as u64;
        if matches!(self.plan.mode, Mode::Closed { .. }) && now < end {
            self.send(link, now);
        }
    }

    fn refused(&self, link: &Link, frame: &ServerFrame, now: u64) {
        let ServerFrame::Error { code, message, client_msg_id, retry_after_ms, .. } = frame else { return };
        let id = client_msg_id.as_deref().and_then(|id| Uuid::try_parse(id).ok());
        let mut figures = self.figures.borrow_mut();
        match id {
            Some(id) if (4_100..4_200).contains(&code.number()) => {
                let due = now + retry_after_ms.unwrap_or(100) * 1_000;
                self.retries.borrow_mut().push((due, link.who, id));
            }
            Some(id) => {
                figures.refused += u64::from(self.people[link.who].acknowledge(id).is_some());
                figures.remark(format!("refused: {} {message}", code.number()));
            }
            None => figures.remark(format!("error: {} {message}", code.number())),
        }
    }

    /// Sends again what the server asked for, and what had no answer for long.
    async fn resend(self: Rc<Self>, links: Rc<[Rc<Link>]>) {
        let mut tick = tokio::time::interval(Duration::from_millis(10));
        let mut ticks = 0_u64;
        loop {
            tick.tick().await;
            ticks += 1;
            let now = self.stage.now_us();
            let mut due = Vec::new();
            self.retries.borrow_mut().retain(|one| {
                let waits = one.0 > now;
                if !waits {
                    due.push((one.1, one.2));
                }
                waits
            });
            if ticks.is_multiple_of(100) {
                for (who, person) in self.people.iter().enumerate() {
                    let stale = |one: &&Unacked| now.saturating_sub(one.last_sent_us) > RESEND_AFTER.as_micros() as u64;
                    due.extend(person.unacked.borrow().iter().filter(stale).map(|one| (who, one.id)));
                }
            }
            for (who, id) in due {
                let mut unacked = self.people[who].unacked.borrow_mut();
                if let Some(one) = unacked.iter_mut().find(|one| one.id == id)
                    && links[who].is_open()
                {
                    one.last_sent_us = now;
                    self.write(&links[who], one, true);
                    links[who].flush();
                    self.figures.borrow_mut().resent += 1;
                }
            }
        }
    }

    /// Waits until everything is acknowledged on every thread and nothing comes any more, within the bound.
    async fn drain(&self) {
        let deadline = self.stage.now_us() + self.plan.drain.as_micros() as u64;
        let mut told = false;
        loop {
            let now = self.stage.now_us();
            let late = now > deadline;
            if !told && (late || self.people.iter().all(|person| person.unacked.borrow().is_empty())) {
                self.stage.drained.fetch_add(1, Relaxed);
                told = true;
            }
            let all = self.stage.drained.load(Relaxed) >= self.plan.threads;
            if told && (late || all && now.saturating_sub(self.last_heard_us.get()) > QUIET_US) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Handler for Talk {
    fn opened(&self, link: &Rc<Link>, server_time_ms: u64) {
        self.clock_offset_ms.set(self.clock_offset_ms.get() + server_time_ms as i64 - self.server_ms() as i64);
        if link.connections() == 1 {
            self.stage.opened.fetch_add(1, Relaxed);
        }
        let person = &self.people[link.who];
        for (_, track) in person.tracks.borrow_mut().iter_mut() {
            track.resumed_at = track.last;
        }
        let now = self.stage.now_us();
        for one in person.unacked.borrow_mut().iter_mut() {
            one.last_sent_us = now;
            self.write(link, one, true);
            self.figures.borrow_mut().resent += 1;
        }
    }

    fn received(&self, link: &Rc<Link>, text: &[u8]) {
        let now = self.stage.now_us();
        match receive(text) {
            Received::Event(event) => {
                self.last_heard_us.set(now);
                self.event(link, &event, now);
            }
            Received::Other(frame) => match *frame {
                ServerFrame::Ack { channel, client_msg_id, seq } => {
                    let ids = (Uuid::try_parse(&channel), Uuid::try_parse(&client_msg_id));
                    if let (Ok(channel), Ok(id)) = ids
                        && self.people[link.who].acknowledge(id).is_some()
                    {
                        self.acknowledged(link, channel, seq, id, now);
                    }
                }
                ServerFrame::CaughtUp { heads } => {
                    let mut tracks = self.people[link.who].tracks.borrow_mut();
                    for (channel, seq) in heads {
                        let channel = Uuid::try_parse(&channel).unwrap_or_default();
                        if !tracks.iter().any(|(of, _)| *of == channel) {
                            tracks.push((channel, Track::after(seq)));
                        }
                    }
                }
                ServerFrame::Resync { reason } => {
                    self.figures.borrow_mut().remark(format!("resync: {reason}"));
                    if self.plan.reconnect {
                        link.cut();
                    }
                }
                frame @ ServerFrame::Error { .. } => self.refused(link, &frame, now),
                _ => {}
            },
            Received::Unreadable => {
                let mut figures = self.figures.borrow_mut();
                figures.unreadable += 1;
                figures.remark(format!("unreadable: {}", String::from_utf8_lossy(&text[..text.len().min(200)])));
            }
        }
    }

    fn closed(&self, link: &Rc<Link>, why: &anyhow::Error) {
        let mut figures = self.figures.borrow_mut();
        figures.closed += 1;
        if !self.plan.reconnect || link.connections() == 0 {
            figures.remark(format!("{why:#}"));
        }
    }

    fn cursors(&self, link: &Rc<Link>) -> Vec<(Uuid, u64)> {
        self.people[link.who].tracks.borrow().iter().map(|(channel, track)| (*channel, track.cursor())).collect()
    }
}
