//! One simulated run: a random topology, people who write, retry, come and go, faults at any step; then all faults end, and
//! the auditor judges.

use crate::auditor::{Check, FinalChannel, History, Report, audit};
use crate::client::{BrokenRule, Client, ClientCore, Recorder, Start};
use crate::sim::limits::{ACTIONS_MAX, ACTIONS_MIN, QUIESCE_S, STARTUP_S};
use crate::sim::net::Net;
use crate::sim::time::{SIM_EPOCH_MS, SimClock};
use crate::sim::trace::Trace;
use domain::command::{ChannelKind, HistoryVisibility};
use domain::{ChannelId, ClientMsgId, Command, CommandBody, UserId};
use runtime::{Clock, Entropy, SharedEntropy, Tasks};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// What a system under simulation gets.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Its randomness; apart from the driver's, so that a change in one leaves the other's choices alone.
    pub entropy: SharedEntropy,
    /// Its time.
    pub clock: SimClock,
    /// Where its gateways listen.
    pub net: Net,
    /// Where it may tell what it does.
    pub trace: Trace,
    /// Who exists. A person's token is what [`System::token`] says.
    pub people: Vec<UserId>,
}

/// What is simulated: processes that serve clients over a [`Net`].
pub trait System: Sized {
    /// A fault in the system itself, planted to prove that it would be found.
    type Bug: Copy + fmt::Debug;

    /// Starts all processes.
    fn start(setup: Setup, bug: Option<Self::Bug>) -> impl Future<Output = Self>;

    /// The token of a person.
    fn token(&self, user: UserId) -> String;

    /// How many processes there are, running or not.
    fn processes(&self) -> usize;

    /// What a process is, for the trace.
    fn name(&self, process: usize) -> String;

    /// Kills a process: none of its tasks does anything any more. Killing a dead one changes nothing.
    fn crash(&mut self, process: usize) -> impl Future<Output = ()>;

    /// Starts a dead process again. Starting a living one changes nothing.
    fn restart(&mut self, process: usize) -> impl Future<Output = ()>;

    /// All processes die at once and what was not synced is lost.
    fn power_cut(&mut self) -> impl Future<Output = ()>;

    /// Something goes wrong for a while: errors, delays, losses, a frozen process, by the system's own choice.
    fn disturb(&mut self) -> impl Future<Output = ()>;

    /// Every fault ends; every process runs.
    fn heal(&mut self) -> impl Future<Output = ()>;

    /// Asks for a change of a channel, without waiting for its outcome.
    fn command(&mut self, command: Command);

    /// What the channels hold, and what else is wrong, in sentences.
    fn verdict(&mut self) -> impl Future<Output = (BTreeMap<ChannelId, FinalChannel>, Vec<String>)>;
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The seed.
    pub seed: u64,
    /// The auditor's report.
    pub report: Report,
    /// What else is wrong.
    pub problems: Vec<String>,
    /// What happened.
    pub trace: String,
}

impl Verdict {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.report.is_clean() && self.problems.is_empty()
    }

    /// Whether the auditor found this.
    pub fn has(&self, check: Check) -> bool {
        self.report.has(check)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {} (replay it with SEED={})", self.seed, self.seed)?;
        for problem in &self.problems {
            writeln!(f, "{problem}")?;
        }
        self.report.fmt(f)
    }
}

/// Runs one seed, on a runtime of its own with paused time.
pub fn simulate<S: System>(seed: u64, bug: Option<S::Bug>, broken: Option<BrokenRule>) -> Verdict {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without IO needs nothing of the machine");
    runtime.block_on(async {
        let mut world = World::<S>::start(seed, bug, broken).await;
        world.act().await;
        world.finish().await
    })
}

struct World<S> {
    seed: u64,
    entropy: SharedEntropy,
    clock: SimClock,
    trace: Trace,
    system: S,
    tasks: Tasks,
    people: Vec<UserId>,
    rooms: Vec<ChannelId>,
    devices: Vec<Device>,
    posts: Vec<(UserId, ChannelId, ClientMsgId, String)>,
    paused: Option<usize>,
}

struct Device {
    user: UserId,
    client: Client,
}

impl<S: System> World<S> {
    async fn start(seed: u64, bug: Option<S::Bug>, broken: Option<BrokenRule>) -> Self {
        let entropy = Entropy::from_seed(seed);
        let clock = SimClock::new(Instant::now());
        let trace = Trace::start();
        let net = Net::default();
        let tasks = Tasks::new();
        let people: Vec<UserId> = (0..2 + entropy.below(3)).map(|_| UserId(random_uuid(&entropy))).collect();
        let rooms: Vec<ChannelId> = (0..=entropy.below(3)).map(|_| ChannelId(random_uuid(&entropy))).collect();
        let setup = Setup {
            entropy: Entropy::from_seed(entropy.next_u64()),
            clock: clock.clone(),
            net: net.clone(),
            trace: trace.clone(),
            people: people.clone(),
        };
        let system = S::start(setup, bug).await;
        let recorder = Recorder::start();
        let mut devices = Vec::new();
        for (p, user) in people.iter().enumerate() {
            for d in 0..=entropy.below(2) {
                let device_entropy = Entropy::from_seed(entropy.next_u64());
                let name = format!("person{p}/{d}");
                // Clocks of devices are wrong; server time is what counts.
                let wall_ms = SIM_EPOCH_MS + entropy.below(600_000);
                let mut core =
                    ClientCore::new(name, *user, system.token(*user), Start::Beginning, device_entropy, wall_ms);
                if let Some(rule) = broken {
                    core = core.breaking(rule);
                }
                let dial = net.dial_from(entropy.below(4) as usize);
                devices.push(Device { user: *user, client: Client::start(core, dial, recorder, &tasks) });
            }
        }
        let mut world = Self {
            seed,
            entropy,
            clock,
            trace,
            system,
            tasks,
            people,
            rooms,
            devices,
            posts: Vec::new(),
            paused: None,
        };
        world.create_rooms();
        tokio::time::sleep(Duration::from_secs(STARTUP_S)).await;
        world
    }

    fn create_rooms(&mut self) {
        for room in self.rooms.clone() {
            let history =
                if self.entropy.below(2) == 0 { HistoryVisibility::FromJoining } else { HistoryVisibility::FromStart };
            let members = self.people[1..].iter().copied().filter(|_| self.entropy.below(4) > 0).collect();
            let body = CommandBody::CreateChannel {
                kind: ChannelKind::Group,
                title: "room".into(),
                members,
                history,
                open: true,
            };
            self.command(room, self.people[0], body);
        }
    }

    fn command(&mut self, channel: ChannelId, sender: UserId, body: CommandBody) {
        let id = ClientMsgId(self.entropy.uuid_v7(self.clock.now_ms()));
        self.trace.say(format_args!("command {id} by {sender} to {channel}: {body:?}"));
        let mut command = Command { channel, sender, id, retry: false, reply: None, body };
        self.system.command(command.clone());
        // Nobody waits for it, so it is sent again, as a client would.
        command.retry = true;
        for _ in 0..self.entropy.below(3) {
            self.system.command(command.clone());
        }
    }

    fn any_of(&self, count: usize) -> usize {
        self.entropy.below(count as u64) as usize
    }

    fn any_room(&self) -> ChannelId {
        self.rooms[self.any_of(self.rooms.len())]
    }

    fn any_person(&self) -> UserId {
        self.people[self.any_of(self.people.len())]
    }

    async fn act(&mut self) {
        let actions = ACTIONS_MIN + self.entropy.below(ACTIONS_MAX - ACTIONS_MIN);
        for _ in 0..actions {
            let pause_ms = match self.entropy.below(100) {
                0 => 5_000 + self.entropy.below(40_000),
                1..=10 => self.entropy.below(2_000),
                11..=50 => self.entropy.below(50),
                _ => 0,
            };
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
            self.act_once().await;
        }
    }

    async fn act_once(&mut self) {
        match self.entropy.below(100) {
            0..=44 => self.post().await,
            45..=54 => self.post_again_elsewhere().await,
            55..=61 => {
                let device = self.any_of(self.devices.len());
                self.trace.say(format_args!("cut the connection of device {device}"));
                self.devices[device].client.cut_connection().await;
            }
            62..=69 => {
                let (device, room) = (self.any_of(self.devices.len()), self.any_room());
                self.trace.say(format_args!("device {device} reads a page of {room}"));
                self.devices[device].client.read_page(room, Some(1), None).await;
            }
            70..=73 => self.toggle_reading().await,
            74..=83 => self.change_members(),
            84..=88 => {
                let process = self.any_of(self.system.processes());
                self.trace.say(format_args!("crash {}", self.system.name(process)));
                self.system.crash(process).await;
            }
            89..=94 => {
                let process = self.any_of(self.system.processes());
                self.trace.say(format_args!("start {}", self.system.name(process)));
                self.system.restart(process).await;
            }
            95 => {
                self.trace.say("power cut");
                self.system.power_cut().await;
            }
            _ => self.system.disturb().await,
        }
    }

    async fn post(&mut self) {
        let (device, room) = (self.any_of(self.devices.len()), self.any_room());
        let body = format!("message {}", self.posts.len());
        let Device { user, client } = &self.devices[device];
        let id = client.post(room, &body).await;
        self.trace.say(format_args!("device {device} posts {id} to {room}: {body}"));
        self.posts.push((*user, room, id, body));
    }

    /// The same message over another device of the same person, or the same device again: one message.
    async fn post_again_elsewhere(&mut self) {
        if self.posts.is_empty() {
            return;
        }
        let (user, room, id, body) = self.posts[self.any_of(self.posts.len())].clone();
        let own: Vec<usize> = (0..self.devices.len()).filter(|device| self.devices[*device].user == user).collect();
        let device = own[self.any_of(own.len())];
        self.trace.say(format_args!("device {device} posts {id} again"));
        self.devices[device].client.post_as(room, id, &body).await;
    }

    async fn toggle_reading(&mut self) {
        if let Some(device) = self.paused.take() {
            self.trace.say(format_args!("device {device} reads again"));
            self.devices[device].client.pause_reading(false).await;
        } else {
            let device = self.any_of(self.devices.len());
            self.trace.say(format_args!("device {device} stops reading"));
            self.devices[device].client.pause_reading(true).await;
            self.paused = Some(device);
        }
    }

    fn change_members(&mut self) {
        let (room, user, owner) = (self.any_room(), self.any_person(), self.people[0]);
        let (sender, body) = match self.entropy.below(4) {
            0 => (user, CommandBody::Join),
            1 => (user, CommandBody::Leave),
            2 => (owner, CommandBody::RemoveMember { user }),
            _ => (owner, CommandBody::AddMembers { users: vec![user] }),
        };
        self.command(room, sender, body);
    }

    async fn finish(mut self) -> Verdict {
        self.trace.say("every fault ends");
        if let Some(device) = self.paused.take() {
            self.devices[device].client.pause_reading(false).await;
        }
        self.system.heal().await;
        tokio::time::sleep(Duration::from_secs(QUIESCE_S)).await;
        let mut problems = Vec::new();
        let mut clients = Vec::new();
        for Device { client, .. } in self.devices {
            let history = client.stop(true).await;
            clients.push(history);
        }
        for client in &clients {
            if !ends_connected(client) {
                problems.push(format!("CALM: {} is not connected {QUIESCE_S} s after the last fault", client.name));
            }
            for recorded in &client.ops {
                self.trace.say(format_args!("{} {} {:?}", client.name, recorded.at, recorded.op));
            }
        }
        let (channels, found) = self.system.verdict().await;
        problems.extend(found);
        self.tasks.cut_off();
        let report = audit(&History { clients, channels });
        Verdict { seed: self.seed, report, problems, trace: self.trace.text() }
    }
}

fn ends_connected(client: &crate::auditor::ClientHistory) -> bool {
    use crate::auditor::Op;
    let last = client.ops.iter().rev().find(|recorded| matches!(recorded.op, Op::Connected | Op::Disconnected));
    last.is_some_and(|recorded| matches!(recorded.op, Op::Connected))
}

fn random_uuid(entropy: &Entropy) -> Uuid {
    uuid::Builder::from_random_bytes(entropy.next_u128().to_be_bytes()).into_uuid()
}
