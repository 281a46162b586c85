//! Real conversations: every line of the logs is sent by its speaker, in the order of its file, and must come out as it went in.
//!
//! One file is one channel, all files at once. Within a channel the next line goes after the ack of the one before. Afterwards the
//! channel's history is compared with the file byte for byte and in order, and every socket must have had each message of the time its
//! person was a member, exactly once.

use crate::corpus::{self, Line};
use crate::figures::{Figures, Seen, Track, percentiles};
use crate::limits::{HANDSHAKES_AT_ONCE, HEARTBEAT, RESEND_AFTER};
use crate::link::{Handler, Link, Shared, Target, heartbeats};
use crate::people::{self, Account, Http, each};
use crate::scan::{EventHead, Received, receive};
use crate::server::Server;
use crate::{process, report};
use anyhow::{Context as _, Result, bail, ensure};
use schemas::frames::{ClientFrame, EventFrame, EventKindFrame, ServerFrame};
use serde_json::{Value, json};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use uuid::Uuid;

/// A replay.
pub(crate) struct Run<'a> {
    pub(crate) corpus: &'a Path,
    pub(crate) speed: Option<f64>,
    pub(crate) kill_server: Option<&'a str>,
    pub(crate) names: Option<&'a Path>,
    pub(crate) targets: Vec<Arc<Target>>,
    pub(crate) tokens: Option<&'a Path>,
    pub(crate) seed: u64,
    pub(crate) drain: Duration,
    pub(crate) server_pid: Option<u32>,
}

/// What happens in a channel, by the numbers of people.
enum Step {
    Say { who: usize, body: String },
    Join { who: usize },
    Leave { who: usize },
    Rename { who: usize, to: String },
}

/// A file, ready to be said.
struct Script {
    title: String,
    /// With the minute since the file's first.
    steps: Vec<(u32, Step)>,
}

/// Everybody, in the order in which they are first met.
#[derive(Default)]
struct Cast {
    nicks: Vec<String>,
    known: HashMap<String, usize>,
}

impl Cast {
    fn of(&mut self, nick: &str) -> usize {
        if let Some(&who) = self.known.get(nick) {
            return who;
        }
        self.nicks.push(nick.to_owned());
        self.known.insert(nick.to_owned(), self.nicks.len() - 1);
        self.nicks.len() - 1
    }
}

/// Turns a file into steps. Who renames keeps the account, so the new nick means it from there on in this channel; who speaks and was
/// not seen joining joins first.
fn script(title: String, file: &[u8], cast: &mut Cast) -> Result<Script> {
    let mut holder: HashMap<String, usize> = HashMap::new();
    let mut present: HashSet<usize> = HashSet::new();
    let mut steps = Vec::new();
    let (mut minute, mut first, mut last) = (0_u32, None, 0_u16);
    let text = |bytes: &[u8], at: usize| {
        String::from_utf8(bytes.to_vec())
            .with_context(|| format!("{title}: line {} is not UTF-8 and can't be said byte for byte", at + 1))
    };
    for (at, entry) in corpus::entries(file).enumerate() {
        if let Some(now) = entry.minute {
            // The logs have no date: a clock that goes back is the next day.
            let passed = if first.is_none() { 0 } else { (u32::from(now) + 1_440 - u32::from(last)) % 1_440 };
            first.get_or_insert(now);
            minute += passed;
            last = now;
        }
        let mut who = |nick: &[u8]| -> Result<usize> {
            let nick = text(nick, at)?;
            Ok(*holder.entry(nick).or_insert_with_key(|nick| cast.of(nick)))
        };
        match entry.line {
            Line::Nothing => {}
            Line::Message { nick, body } => {
                let who = who(nick)?;
                if present.insert(who) {
                    steps.push((minute, Step::Join { who }));
                }
                steps.push((minute, Step::Say { who, body: text(body, at)? }));
            }
            Line::Join { nick } => {
                let who = who(nick)?;
                if present.insert(who) {
                    steps.push((minute, Step::Join { who }));
                }
            }
            Line::Leave { nick } => {
                let who = who(nick)?;
                if present.remove(&who) {
                    steps.push((minute, Step::Leave { who }));
                }
            }
            Line::Rename { from, to } => {
                let who = who(from)?;
                let to = text(to, at)?;
                holder.remove(&text(from, at)?);
                holder.insert(to.clone(), who);
                steps.push((minute, Step::Rename { who, to }));
            }
        }
    }
    Ok(Script { title, steps })
}

/// Runs a replay; the fields of its report.
pub(crate) fn run(run: &Run<'_>) -> Result<Value> {
    let mut cast = Cast::default();
    let mut scripts = Vec::new();
    for (path, file) in corpus::files(run.corpus)? {
        let title = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        scripts.push(script(title, &file, &mut cast)?);
    }
    let mut server = run.kill_server.map(|command| Server::start(command, &run.targets[0])).transpose()?;
    let pid = server.as_ref().map(Server::pid).or(run.server_pid);
    if let Some(limit) = process::open_files_max() {
        ensure!(limit > cast.nicks.len() as u64 + 100, "this client may open {limit} files: raise it with `ulimit -n`");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let said = tokio::task::LocalSet::new().block_on(&runtime, replay(run, &scripts, &cast, &mut server))?;
    let rss = server.as_ref().map(Server::pid).or(pid).and_then(|pid| process::resident_bytes(pid).ok());
    let mut fields = said;
    report::extend(&mut fields, json!({"server_rss_bytes": rss}));
    Ok(fields)
}

async fn replay(run: &Run<'_>, scripts: &[Script], cast: &Cast, server: &mut Option<Server>) -> Result<Value> {
    let http = Http::new(&run.targets);
    let accounts = accounts(run, &http, cast).await?;
    if let Some(file) = run.names {
        let mut names = String::new();
        for (nick, account) in cast.nicks.iter().zip(accounts.iter()) {
            writeln!(names, "{}", json!({"nick": nick, "username": account.username, "user": account.user}))?;
        }
        std::fs::write(file, names).with_context(|| format!("writing {}", file.display()))?;
    }
    for (nick, account) in cast.nicks.iter().zip(accounts.iter()).take(5) {
        println!("{nick} is {}", account.username);
    }
    println!("… {} people in {} channels", accounts.len() - 1, scripts.len());

    let teller = accounts.len() - 1; // owns the channels, sees all of them from the beginning
    let mut channels = Vec::new();
    for script in scripts {
        channels.push(http.group(&accounts[teller], &script.title, &[], true).await?);
    }
    let stage = Rc::new(Stage::new(&accounts, run.kill_server.is_some()));
    let links: Rc<[Rc<Link>]> = accounts
        .iter()
        .enumerate()
        .map(|(who, account)| Link::new(who, account.token.clone(), Arc::clone(&run.targets[who % run.targets.len()])))
        .collect();
    let shared = Shared::new(HANDSHAKES_AT_ONCE, true);
    let handler: Rc<dyn Handler> = Rc::clone(&stage) as _;
    let began = Instant::now();
    for link in links.iter() {
        tokio::task::spawn_local(Rc::clone(link).run(Rc::clone(&handler), Rc::clone(&shared)));
    }
    tokio::task::spawn_local(heartbeats(Rc::clone(&links), HEARTBEAT));
    while stage.opened.get() < links.len() {
        ensure!(
            began.elapsed() < Duration::from_mins(2),
            "{} of {} connected: {:?}",
            stage.opened.get(),
            links.len(),
            stage.remarks()
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let connect_s = began.elapsed().as_secs_f64();

    let lines: usize = scripts
        .iter()
        .map(|script| script.steps.iter().filter(|step| matches!(step.1, Step::Say { .. })).count())
        .sum();
    let total: u64 = scripts.iter().map(|script| script.steps.len() as u64).sum();
    let bar = report::bar(total, "steps");
    let began = Instant::now();
    let pid = server.as_ref().map(Server::pid).or(run.server_pid);
    let cpu_before = pid.and_then(|pid| process::cpu_seconds(pid).ok());
    let mut telling = Vec::new();
    for (script, &channel) in scripts.iter().zip(&channels) {
        let tell = Tell {
            stage: &stage,
            http: &http,
            accounts: &accounts,
            links: &links,
            channel,
            speed: run.speed,
            bar: &bar,
        };
        telling.push(Box::pin(tell.tell(script)));
    }
    let mut killed = Vec::new();
    let all = join_all(telling);
    tokio::pin!(all);
    loop {
        tokio::select! {
            biased;
            done = &mut all => { done?; break; }
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
        }
        if let Some(server) = server.as_mut()
            && killed.is_empty()
            && stage.acked.get() * 2 >= lines as u64
        {
            server.kill()?;
            killed.push(server.restart()?.as_secs_f64());
        }
    }
    let told_s = began.elapsed().as_secs_f64();
    bar.finish_and_clear();
    let cpu_after = if killed.is_empty() { pid.and_then(|pid| process::cpu_seconds(pid).ok()) } else { None };

    let mut checked = Checked::default();
    for (script, &channel) in scripts.iter().zip(&channels) {
        let head = stage.heads.borrow().get(&channel).copied().unwrap_or_default();
        let history = http.history(&accounts[teller], channel, head).await?;
        checked.history(script, &history, &accounts);
        let deadline = Instant::now() + run.drain;
        while let Err(missing) = Checked::sockets(channel, &history, &accounts, &stage) {
            if Instant::now() > deadline {
                checked.lost += missing;
                checked.remarks.push(format!("{}: {missing} messages did not reach a member's socket", script.title));
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    let figures = stage.figures.borrow();
    checked.remarks.extend(figures.remarks.iter().cloned());
    checked.remarks.truncate(20);
    let server_cpu_s = cpu_after.zip(cpu_before).map(|(after, before)| after - before);
    Ok(json!({
        "lines": lines, "people": accounts.len() - 1, "channels": channels.len(), "told_s": told_s, "lines_per_s": lines as f64 / told_s,
        "sent": lines, "acked": stage.acked.get(), "in_history": checked.in_history, "delivered": figures.delivered,
        "delivered_per_s": figures.delivered as f64 / told_s, "lost": checked.lost + checked.missing, "duplicated": figures.duplicated + checked.extra,
        "out_of_order": figures.out_of_order + checked.differing, "altered_on_sockets": figures.unreadable, "unreadable": figures.unreadable,
        "refused": figures.refused, "unacknowledged": lines as u64 - stage.acked.get(), "resent": figures.resent,
        "ack_ms": percentiles(&figures.ack), "deliver_ms": Value::Null, "connections": links.len(), "connect_s": connect_s,
        "kills": killed.len(), "restart_s": killed, "closed": figures.closed, "server_cpu_s": server_cpu_s,
        "remarks": checked.remarks, "seconds": figures.seconds,
    }))
}

/// Everybody's account, and one more that owns the channels.
async fn accounts(run: &Run<'_>, http: &Http, cast: &Cast) -> Result<Arc<Vec<Account>>> {
    let count = cast.nicks.len() + 1;
    let nicks: Arc<Vec<String>> = Arc::new(cast.nicks.iter().cloned().chain(["teller".to_owned()]).collect());
    let accounts = if run.tokens.is_some() {
        let accounts = people::people(http, run.tokens, run.seed, count).await?;
        let (all, http, nicks) = (Arc::new(accounts.clone()), http.clone(), Arc::clone(&nicks));
        each(count, move |who| {
            let (all, http, nicks) = (Arc::clone(&all), http.clone(), Arc::clone(&nicks));
            async move { http.rename(&all[who], &nicks[who]).await }
        })
        .await?;
        accounts
    } else {
        let (http, nicks) = (http.clone(), Arc::clone(&nicks));
        each(count, move |who| {
            let (http, nicks) = (http.clone(), Arc::clone(&nicks));
            // The last is nobody's nick: a username with `..` is no encoding of one.
            let username =
                if who + 1 == nicks.len() { "0..teller".to_owned() } else { corpus::username(nicks[who].as_bytes()) };
            async move { http.account(who, &username, &nicks[who]).await }
        })
        .await?
    };
    Ok(Arc::new(accounts))
}

/// Waits for all, on this thread.
async fn join_all<F: Future<Output = Result<()>> + Unpin>(mut running: Vec<F>) -> Result<()> {
    std::future::poll_fn(|context| {
        let mut failed = None;
        running.retain_mut(|one| match std::pin::Pin::new(one).poll(context) {
            std::task::Poll::Pending => true,
            std::task::Poll::Ready(done) => {
                failed = failed.take().or(done.err());
                false
            }
        });
        match failed {
            Some(error) => std::task::Poll::Ready(Err(error)),
            None if running.is_empty() => std::task::Poll::Ready(Ok(())),
            None => std::task::Poll::Pending,
        }
    })
    .await
}

/// Tells one channel's script.
struct Tell<'a> {
    stage: &'a Stage,
    http: &'a Http,
    accounts: &'a [Account],
    links: &'a [Rc<Link>],
    channel: Uuid,
    speed: Option<f64>,
    bar: &'a indicatif::ProgressBar,
}

impl Tell<'_> {
    async fn tell(self, script: &Script) -> Result<()> {
        let began = tokio::time::Instant::now();
        for (minute, step) in &script.steps {
            if let Some(speed) = self.speed {
                tokio::time::sleep_until(began + Duration::from_secs_f64(f64::from(*minute) * 60.0 / speed)).await;
            }
            match step {
                Step::Say { who, body } => self.say(*who, body).await?,
                Step::Join { who } => {
                    self.http.join(&self.accounts[*who], self.channel, self.stage.new_id()).await?;
                }
                Step::Leave { who } => {
                    self.http.leave(&self.accounts[*who], self.channel, self.stage.new_id()).await?;
                }
                Step::Rename { who, to } => self.http.rename(&self.accounts[*who], to).await?,
            }
            self.bar.inc(1);
        }
        Ok(())
    }

    /// Sends a line until it is acknowledged: the same id each time.
    async fn say(&self, who: usize, body: &str) -> Result<()> {
        /// Several restarts of a server fit into it.
        const PATIENCE: Duration = Duration::from_secs(90);
        let id = self.stage.new_id();
        let link = &self.links[who];
        let began = Instant::now();
        let mut attempt = 0;
        while began.elapsed() < PATIENCE {
            let (sender, answer) = oneshot::channel();
            self.stage.waiting.borrow_mut().insert(id, (who, sender));
            if link.is_open() {
                let frame = ClientFrame::Send {
                    channel: self.channel.to_string(),
                    client_msg_id: id.to_string(),
                    body: body.to_owned(),
                    retry: attempt > 0,
                };
                link.push(&serde_json::to_vec(&frame)?);
                link.flush();
                self.stage.figures.borrow_mut().resent += u64::from(attempt > 0);
                attempt += 1;
            }
            // A line whose socket was cut is sent again as soon as there is another.
            let patience = if link.is_open() { RESEND_AFTER } else { Duration::from_millis(50) };
            match tokio::time::timeout(patience, answer).await {
                Ok(Ok(Answer::Acked)) => {
                    self.stage.acked.set(self.stage.acked.get() + 1);
                    let latency = began.elapsed().as_micros() as u64;
                    let mut figures = self.stage.figures.borrow_mut();
                    figures.ack.saturating_record(latency);
                    let second = figures.second(self.stage.began.elapsed().as_micros() as u64);
                    second.acked += 1;
                    second.ack_us_max = second.ack_us_max.max(latency);
                    return Ok(());
                }
                Ok(Ok(Answer::Later(pause))) => tokio::time::sleep(pause).await,
                Ok(Ok(Answer::Refused(why))) => {
                    self.stage.figures.borrow_mut().refused += 1;
                    bail!("a line was refused: {why}");
                }
                // Cut, or no answer in time: again.
                Ok(Err(_)) | Err(_) => {}
            }
        }
        bail!("a line had no ack after {attempt} attempts in {} s", PATIENCE.as_secs())
    }
}

enum Answer {
    Acked,
    Later(Duration),
    Refused(String),
}

/// What one socket saw of one channel.
struct View {
    /// The first seq seen.
    first: u64,
    track: Track,
}

/// What all tasks of a replay share.
struct Stage {
    began: Instant,
    users: Vec<Uuid>,
    reconnect: bool,
    opened: Cell<usize>,
    acked: Cell<u64>,
    clock_offset_ms: Cell<i64>,
    /// Lines without an ack, with their speaker.
    waiting: RefCell<HashMap<Uuid, (usize, oneshot::Sender<Answer>)>>,
    /// By person, then channel.
    views: RefCell<Vec<HashMap<Uuid, View>>>,
    heads: RefCell<HashMap<Uuid, u64>>,
    /// A digest of each message's frame behind the ids, as the first socket had it.
    texts: RefCell<HashMap<(Uuid, u64), u64>>,
    hasher: BuildHasherDefault<DefaultHasher>,
    figures: RefCell<Figures>,
}

impl Stage {
    fn new(accounts: &[Account], reconnect: bool) -> Self {
        Self {
            began: Instant::now(),
            users: accounts.iter().map(|account| account.user).collect(),
            reconnect,
            opened: Cell::new(0),
            acked: Cell::new(0),
            clock_offset_ms: Cell::new(0),
            waiting: RefCell::default(),
            views: RefCell::new(accounts.iter().map(|_| HashMap::new()).collect()),
            heads: RefCell::default(),
            texts: RefCell::default(),
            hasher: BuildHasherDefault::default(),
            figures: RefCell::default(),
        }
    }

    fn remarks(&self) -> Vec<String> {
        self.figures.borrow().remarks.iter().cloned().collect()
    }

    /// A UUIDv7 in server time.
    fn new_id(&self) -> Uuid {
        let ms = wall_ms() + self.clock_offset_ms.get();
        let (_, low) = Uuid::new_v4().as_u64_pair();
        let (high, _) = Uuid::new_v4().as_u64_pair();
        Uuid::from_u64_pair((ms.max(0) as u64) << 16 | 0x7000 | high & 0xfff, low)
    }

    fn answer(&self, id: Uuid, answer: Answer) {
        if let Some((_, waiting)) = self.waiting.borrow_mut().remove(&id) {
            waiting.send(answer).ok();
        }
    }

    fn event(&self, who: usize, event: &EventHead, text: &[u8]) {
        let mut views = self.views.borrow_mut();
        let view = views[who]
            .entry(event.channel)
            .or_insert_with(|| View { first: event.seq, track: Track::after(event.seq.saturating_sub(1)) });
        let mut figures = self.figures.borrow_mut();
        match view.track.see(event.seq) {
            Seen::Next | Seen::Gap => {}
            Seen::Late => figures.out_of_order += 1,
            Seen::Repeat => return,
            Seen::Duplicate => {
                figures.duplicated += 1;
                return;
            }
        }
        let mut heads = self.heads.borrow_mut();
        let head = heads.entry(event.channel).or_default();
        *head = (*head).max(event.seq);
        if event.is_message {
            figures.delivered += u64::from(event.sender != self.users[who]);
            figures.second(self.began.elapsed().as_micros() as u64).delivered += 1;
            let same = *self
                .texts
                .borrow_mut()
                .entry((event.channel, event.seq))
                .or_insert_with(|| self.hasher.hash_one(text));
            if same != self.hasher.hash_one(text) {
                figures.unreadable += 1;
                figures.remark(format!("seq {} of {} is another text on another socket", event.seq, event.channel));
            }
        }
    }
}

fn wall_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap_or_default().as_millis() as i64
}

impl Handler for Stage {
    fn opened(&self, link: &Rc<Link>, server_time_ms: u64) {
        self.clock_offset_ms.set(server_time_ms as i64 - wall_ms());
        if link.connections() == 1 {
            self.opened.set(self.opened.get() + 1);
        }
        for view in self.views.borrow_mut()[link.who].values_mut() {
            view.track.resumed_at = view.track.last;
        }
    }

    fn received(&self, link: &Rc<Link>, text: &[u8]) {
        match receive(text) {
            Received::Event(event) => {
                self.event(link.who, &event, text);
                if event.sender == self.users[link.who] {
                    self.answer(event.id, Answer::Acked);
                }
            }
            Received::Other(frame) => match *frame {
                ServerFrame::Ack { client_msg_id, .. } => {
                    self.answer(client_msg_id.parse().unwrap_or_default(), Answer::Acked);
                }
                ServerFrame::Error { code, message, client_msg_id: Some(id), retry_after_ms, .. } => {
                    let later = (4_100..4_200).contains(&code.number());
                    let answer = if later {
                        Answer::Later(Duration::from_millis(retry_after_ms.unwrap_or(100)))
                    } else {
                        Answer::Refused(format!("{} {message}", code.number()))
                    };
                    self.answer(id.parse().unwrap_or_default(), answer);
                }
                ServerFrame::Error { code, message, .. } => {
                    self.figures.borrow_mut().remark(format!("error: {} {message}", code.number()));
                }
                ServerFrame::Resync { reason } => {
                    self.figures.borrow_mut().remark(format!("resync: {reason}"));
                    link.cut();
                }
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
        if !self.reconnect || link.connections() == 0 {
            figures.remark(format!("{why:#}"));
        }
        // What waited on this socket is sent again on the next.
        self.waiting.borrow_mut().retain(|_, (who, _)| *who != link.who);
    }

    fn cursors(&self, link: &Rc<Link>) -> Vec<(Uuid, u64)> {
        // Holes are from while the person was away: what is there below the last seq was seen.
        self.views.borrow()[link.who].iter().map(|(channel, view)| (*channel, view.track.last)).collect()
    }
}

/// What the comparison found.
#[derive(Default)]
struct Checked {
    in_history: u64,
    missing: u64,
    extra: u64,
    differing: u64,
    lost: u64,
    remarks: Vec<String>,
}

impl Checked {
    /// History against the file: the same lines, by the same people, in the same order, byte for byte.
    fn history(&mut self, script: &Script, history: &[EventFrame], accounts: &[Account]) {
        let said = script.steps.iter().filter_map(|(_, step)| match step {
            Step::Say { who, body } => Some((accounts[*who].user.to_string(), body.as_str())),
            _ => None,
        });
        let stored = history.iter().filter_map(|event| match &event.kind {
            EventKindFrame::MessagePosted { body } => Some((event.sender.clone(), body.as_str())),
            _ => None,
        });
        let (said, stored): (Vec<_>, Vec<_>) = (said.collect(), stored.collect());
        for (at, (said, stored)) in said.iter().zip(&stored).enumerate() {
            if said == stored {
                self.in_history += 1;
            } else {
                self.differing += 1;
                self.remarks.push(format!("{}: message {} is {stored:?}, not {said:?}", script.title, at + 1));
            }
        }
        self.missing += said.len().saturating_sub(stored.len()) as u64;
        self.extra += stored.len().saturating_sub(said.len()) as u64;
    }

    /// Every socket against history: each message of the time its person was a member.
    fn sockets(channel: Uuid, history: &[EventFrame], accounts: &[Account], stage: &Stage) -> Result<(), u64> {
        let number: HashMap<String, usize> =
            accounts.iter().enumerate().map(|(who, one)| (one.user.to_string(), who)).collect();
        let views = stage.views.borrow();
        let mut members: HashSet<usize> = HashSet::new();
        let mut missing = 0;
        for event in history {
            match &event.kind {
                EventKindFrame::MemberJoined { user, .. } => drop(number.get(user).map(|&who| members.insert(who))),
                EventKindFrame::MemberLeft { user, .. } => drop(number.get(user).map(|who| members.remove(who))),
                EventKindFrame::MessagePosted { .. } => {
                    let seen = |who: &usize| {
                        let view = views[*who].get(&channel);
                        view.is_some_and(|view| {
                            view.first <= event.seq
                                && event.seq <= view.track.last
                                && !view.track.holes.contains(&event.seq)
                        })
                    };
                    missing += members.iter().filter(|who| !seen(who)).count() as u64;
                }
                _ => {}
            }
        }
        if missing == 0 { Ok(()) } else { Err(missing) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(file: &str) -> (Vec<String>, Vec<String>) {
        let mut cast = Cast::default();
        let script = script("test".to_owned(), file.as_bytes(), &mut cast).expect("a script");
        let shown = script.steps.iter().map(|(minute, step)| match step {
            Step::Say { who, body } => format!("{minute} {who} says {body:?}"),
            Step::Join { who } => format!("{minute} {who} joins"),
            Step::Leave { who } => format!("{minute} {who} leaves"),
            Step::Rename { who, to } => format!("{minute} {who} is {to}"),
        });
        (shown.collect(), cast.nicks)
    }

    #[test]
    fn who_was_not_seen_joining_joins_at_the_first_line() {
        let (steps, nicks) = steps(
            "[10:00] <ann> hi\n=== bob [b@c]  has joined #x\n[10:01] <bob> \n=== bob [b@c]  has left #x []\n[10:03] <bob> again\n",
        );
        assert_eq!(
            steps,
            [
                "0 0 joins",
                "0 0 says \"hi\"",
                "0 1 joins",
                "1 1 says \"\"",
                "1 1 leaves",
                "3 1 joins",
                "3 1 says \"again\""
            ]
        );
        assert_eq!(nicks, ["ann", "bob"]);
    }

    #[test]
    fn who_renames_keeps_the_account() {
        let (steps, nicks) = steps(
            "[10:00] <ann> hi\n=== ann is now known as eve\n[10:00] <eve> me\n=== eve is now known as ann\n[10:00] <ann> me too\n",
        );
        assert_eq!(
            steps,
            ["0 0 joins", "0 0 says \"hi\"", "0 0 is eve", "0 0 says \"me\"", "0 0 is ann", "0 0 says \"me too\""]
        );
        assert_eq!(nicks, ["ann"]);
    }

    #[test]
    fn midnight_is_no_step_back() {
        let (steps, _) = steps("[23:59] <ann> a\n[00:01] <ann> b\n");
        assert_eq!(steps, ["0 0 joins", "0 0 says \"a\"", "2 0 says \"b\""]);
    }

    #[test]
    fn a_line_that_is_no_utf_8_is_named() {
        let error = script("log".to_owned(), b"[10:00] <ann> \xff", &mut Cast::default()).err().expect("an error");
        assert!(error.to_string().contains("line 1"), "{error}");
    }
}
