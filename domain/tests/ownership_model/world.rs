//! One random world: people, the two logs, the writer and its store, readers that restart, and a scheduler.

use crate::chance::Chance;
use crate::faults::Fault;
use crate::owner::{Owner, Role as OwnerRole};
use crate::reader::{Folds, Reader, Record, events_of};
use domain::command::{ChannelKind, HistoryVisibility, Role};
use domain::decide::{DecideLimits, Head, body_digest};
use domain::limits::{CLIENT_CLOCK_AHEAD_MS, ONCE_WINDOW_MS};
use domain::{
    Answer, ChannelId, ChannelSeq, ClientMsgId, Command, CommandBody, CommandPosition, LogCursor, LogTime, Lookup,
    MessageId, Ordinal, Outcome, PartitionId, RejectCause, TimelineRecord, UserId, Verdict, window::ID_BYTES,
};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

pub(crate) const PARTITION: PartitionId = PartitionId(7);
/// Where every incarnation of the commands log starts.
pub(crate) const COMMANDS_START: u64 = 0;

/// The model's unit of time: the window is 20 of them, the clocks' allowance 5.
const UNIT: u64 = 6_000;
const _: () = assert!(ONCE_WINDOW_MS == 20 * UNIT && CLIENT_CLOCK_AHEAD_MS == 5 * UNIT);

/// Ids that fit an owner's memory.
const WINDOW_IDS: usize = 12;
const STEPS: usize = 220;
const START_MS: u64 = 1_790_000_000_000;

/// A command as it stands in the commands log.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) command: Command,
    /// The log's append time.
    pub(crate) time: LogTime,
    /// Its bytes can't be read; only the channel is known.
    pub(crate) poison: bool,
}

type Key = (ChannelId, UserId, ClientMsgId);

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) chance: Chance,
    pub(crate) fault: Option<Fault>,
    trace: bool,
    pub(crate) limits: DecideLimits,
    /// ms.
    now: u64,
    pub(crate) channels: Vec<ChannelId>,
    /// Of all incarnations.
    pub(crate) commands: Vec<Asked>,
    /// The current one; the commands of number i start at `starts[i - 1]`.
    pub(crate) incarnation: u64,
    starts: Vec<usize>,
    pub(crate) log: Vec<Record>,
    /// The store.
    pub(crate) rows: Folds,
    ids: BTreeMap<Key, (ChannelSeq, u64)>,
    pub(crate) trail: Vec<LogCursor>,
    writer: Reader,
    /// By person: how wrong their clock is, in units.
    skew: Vec<i64>,
    /// Commands that may be sent again.
    sent: Vec<usize>,
    whole: (Reader, Vec<u64>),
    broken: (Reader, Vec<u64>),
    /// The checks that found something.
    pub(crate) bad: BTreeSet<&'static str>,
}

fn user(n: usize) -> UserId {
    UserId(Uuid::from_u64_pair(1, n as u64))
}

const BOSS: usize = 0;
const PEOPLE: usize = 4;

/// Runs one seed to its end and judges it.
pub(crate) fn run(seed: u64, fault: Option<Fault>, trace: bool) -> World {
    let mut world = World::new(seed, fault, trace);
    let mut owners: Vec<Owner> = Vec::new();
    let writer_speed = *world.chance.pick(&[0.03, 0.1, 0.25]);
    let restarts = world.chance.hit(0.25);
    for _ in 0..STEPS {
        let units =
            if world.chance.hit(0.02) { *world.chance.pick(&[20, 60]) } else { *world.chance.pick(&[0, 0, 1, 1, 2]) };
        world.now += units * UNIT;
        let x = world.chance.share();
        let live: Vec<usize> = (0..owners.len()).filter(|i| owners[*i].alive).collect();
        if x < 0.12 {
            world.people();
        } else if x < 0.12 + writer_speed {
            (0..4).for_each(|_| world.write());
        } else if x < 0.42 {
            world.read_broken();
        } else if x < 0.60 {
            world.land_one(&mut owners);
        } else if (x < 0.63 && live.len() < 3) || live.is_empty() {
            owners.push(Owner::new(owners.len(), &world));
        } else if restarts && x > 0.995 {
            world.restart_commands(&mut owners);
        } else {
            let owner = *world.chance.pick(&live);
            (0..3).for_each(|_| world.step(&mut owners[owner], false));
        }
    }
    // It settles: one owner, and everything lands.
    for owner in &mut owners {
        owner.alive = false;
    }
    let last = owners.len();
    owners.push(Owner::new(last, &world));
    for _ in 0..3_000 {
        let owner = &owners[last];
        if owner.role == OwnerRole::Owning
            && owner.next >= world.commands.len()
            && owner.parked.is_empty()
            && owner.tail.cursor.offset >= world.log.len() as u64
            && owners.iter().all(|owner| owner.out.is_empty())
        {
            break;
        }
        world.land_one(&mut owners);
        world.step(&mut owners[last], true);
        world.write();
    }
    world.judge();
    world
}

impl World {
    fn new(seed: u64, fault: Option<Fault>, trace: bool) -> Self {
        let mut chance = Chance::new(seed);
        let limits = DecideLimits {
            members_max: 5,
            // Room for two heads, or for all.
            heads_bytes_max: *chance.pick(&[1_300, 1_300, 1 << 20]),
            window_bytes_max: *chance.pick(&[WINDOW_IDS / 2, WINDOW_IDS]) * ID_BYTES,
        };
        let skew = (0..=PEOPLE).map(|_| *chance.pick(&[0, 0, -30, 4, 5, 15, 40])).collect();
        let mut world = Self {
            chance,
            fault,
            trace,
            limits,
            now: START_MS,
            channels: Vec::new(),
            commands: Vec::new(),
            incarnation: 1,
            starts: vec![0],
            log: Vec::new(),
            rows: Folds::new(),
            ids: BTreeMap::new(),
            trail: vec![LogCursor::default()],
            writer: Reader::default(),
            skew,
            sent: Vec::new(),
            whole: (Reader::default(), Vec::new()),
            broken: (Reader::default(), Vec::new()),
            bad: BTreeSet::new(),
        };
        world.skew[BOSS] = 0;
        for _ in 0..3 {
            let id = world.id(0);
            let channel = ChannelId::group(user(BOSS), id);
            world.channels.push(channel);
            let body = CommandBody::CreateChannel {
                kind: ChannelKind::Group,
                title: "tea".into(),
                members: (1..PEOPLE).map(user).collect(),
                history: HistoryVisibility::FromJoining,
                open: true,
            };
            world.send(Command { channel, sender: user(BOSS), id, retry: false, reply: None, body });
        }
        world.channels.extend((1..=PEOPLE).map(|n| ChannelId::personal(user(n))));
        world
    }

    pub(crate) fn say(&self, what: impl FnOnce() -> String) {
        if self.trace {
            println!("{:>8} {}", self.now - START_MS, what());
        }
    }

    pub(crate) fn check(&mut self, name: &'static str, ok: bool, found: impl FnOnce() -> String) {
        if !ok {
            self.bad.insert(name);
            self.say(|| format!("VIOLATION {name}: {}", found()));
        }
    }

    // ---- people ----

    fn id(&mut self, skew_units: i64) -> ClientMsgId {
        let ms = self.now.saturating_add_signed(skew_units * UNIT as i64);
        let mut random = [0; 10];
        random[2..].copy_from_slice(&self.chance.next().to_be_bytes());
        ClientMsgId(uuid::Builder::from_unix_timestamp_millis(ms, &random).into_uuid())
    }

    fn send(&mut self, command: Command) {
        if !command.retry && !self.sent.iter().any(|sent| self.commands[*sent].command.id == command.id) {
            self.sent.push(self.commands.len());
        }
        self.append_command(command, false);
    }

    fn append_command(&mut self, command: Command, poison: bool) {
        // Append times step back.
        let time = LogTime(self.now - *self.chance.pick(&[0, 0, 0, 2, 6]) * UNIT);
        self.commands.push(Asked { command, time, poison });
    }

    fn people(&mut self) {
        if !self.sent.is_empty() && self.chance.hit(0.45) {
            return self.send_again();
        }
        let (group, person) = (self.chance.below(3), 1 + self.chance.below(PEOPLE));
        let (mut channel, mut sender) = (self.channels[group], person);
        let mut skew = self.skew[person];
        let x = self.chance.share();
        let body = if x < 0.15 {
            sender = BOSS;
            skew = 0;
            let whom = user(person);
            match self.chance.below(4) {
                0 => CommandBody::AddMembers { users: (1..=PEOPLE).map(user).collect() },
                1 => CommandBody::AddMembers { users: vec![whom] },
                2 => CommandBody::RemoveMember { user: whom },
                _ => CommandBody::SetRole { user: whom, role: *self.chance.pick(&[Role::Member, Role::Admin]) },
            }
        } else if x < 0.22 {
            if self.chance.hit(0.5) { CommandBody::Join } else { CommandBody::Leave }
        } else if x < 0.28 {
            skew = *self.chance.pick(&[0, -5, -40, 40]);
            channel = ChannelId::personal(user(person));
            CommandBody::ChannelJoined { channel: self.channels[group], seq: ChannelSeq(self.chance.next() % 100) }
        } else {
            CommandBody::Post { text: format!("{}", self.commands.len()).into() }
        };
        let id = self.id(skew);
        let command = Command { channel, sender: user(sender), id, retry: false, reply: None, body };
        if x > 0.98 { self.append_command(command, true) } else { self.send(command) }
    }

    /// At any time, flagged or not, now and then with another body.
    fn send_again(&mut self) {
        let recent = self.sent.len().saturating_sub(3);
        let from = if self.chance.hit(0.5) { &self.sent[recent..] } else { &self.sent[..] };
        let mut command = self.commands[*self.chance.pick(from)].command.clone();
        command.retry = self.chance.hit(0.4);
        if let CommandBody::Post { text } = &mut command.body
            && self.chance.hit(0.08)
        {
            *text = format!("not {text}").into();
        }
        self.append_command(command, false);
    }

    // ---- the commands log ----

    pub(crate) fn position_of(&self, index: usize) -> CommandPosition {
        let incarnation = self.starts.partition_point(|start| *start <= index);
        CommandPosition { incarnation: incarnation as u64, offset: (index - self.starts[incarnation - 1]) as u64 }
    }

    /// Where the owner of the current incarnation goes on.
    pub(crate) fn index_of(&self, low: CommandPosition) -> usize {
        let offset = if low.incarnation == self.incarnation { low.offset } else { 0 };
        self.starts[self.incarnation as usize - 1] + offset as usize
    }

    pub(crate) fn index_behind_last_command(&self, end: u64) -> usize {
        let last = self.valid(end).last().map(|(_, outcome)| outcome.command);
        self.index_of(
            last.map_or_else(CommandPosition::default, |last| CommandPosition { offset: last.offset + 1, ..last }),
        )
    }

    /// The process restarts, and the commands log is in memory only: what was not decided is lost.
    fn restart_commands(&mut self, owners: &mut [Owner]) {
        owners.iter_mut().filter(|owner| owner.alive).for_each(|owner| owner.crash(self));
        self.incarnation += 1;
        // A crash in the middle of nothing: an incarnation has at least one command, so that positions tell them apart.
        if self.starts.last() == Some(&self.commands.len()) {
            self.people();
        }
        self.starts.push(self.commands.len());
        self.say(|| "the commands log is lost".to_owned());
    }

    // ---- the event log ----

    fn land_one(&mut self, owners: &mut [Owner]) {
        let waiting: Vec<usize> = (0..owners.len()).filter(|i| !owners[*i].out.is_empty()).collect();
        if waiting.is_empty() {
            return;
        }
        let out = &mut owners[*self.chance.pick(&waiting)].out;
        let outcome_first = out.front().is_some_and(|first| matches!(first.value, TimelineRecord::Outcome(_)));
        if out.len() > 1 && outcome_first && self.chance.hit(0.1) {
            // Lost; what was pipelined behind it lands.
            out.pop_front();
        }
        let Some(mut record) = out.pop_front() else { return };
        record.at = self.now;
        self.say(|| match &record.value {
            TimelineRecord::Claim { epoch, .. } => format!("  [{}] {} claims {epoch}", self.log.len(), record.by),
            TimelineRecord::Outcome(outcome) => {
                let seqs: Vec<u64> = events_of(outcome).iter().map(|event| event.seq.0).collect();
                let answer = match &outcome.verdict {
                    Verdict::Accepted(_) => format!("accepted {seqs:?}"),
                    Verdict::Answered(answer) => format!("{answer:?}"),
                };
                let (at, by, epoch, n, id) = (self.log.len(), record.by, outcome.epoch, outcome.n, outcome.id);
                let t = outcome.time.0 - START_MS;
                format!("  [{at}] {by} e{epoch} n{n} {:?} {id} {answer} T {t}", outcome.command)
            }
        });
        self.log.push(record);
    }

    fn valid(&self, end: u64) -> Vec<(u64, &Outcome)> {
        let mut reader = Reader::default();
        let mut valid = Vec::new();
        for (offset, record) in self.log[..end as usize].iter().enumerate() {
            if reader.accept(&record.value, self.fault)
                && let TimelineRecord::Outcome(outcome) = &record.value
            {
                valid.push((offset as u64, outcome));
            }
        }
        valid
    }

    pub(crate) fn cursor_at(&self, end: u64) -> LogCursor {
        let mut reader = Reader::default();
        for record in &self.log[..end as usize] {
            reader.accept(&record.value, self.fault);
        }
        reader.cursor
    }

    pub(crate) fn folds_at(&self, end: u64) -> Folds {
        let mut folds = Folds::new();
        for (_, outcome) in self.valid(end) {
            for event in events_of(outcome) {
                folds.entry(outcome.channel).or_default().apply(event);
            }
        }
        folds
    }

    // ---- the store and its writer ----

    pub(crate) fn progress(&self) -> &LogCursor {
        self.trail.last().expect("the trail starts with the start of the log")
    }

    pub(crate) fn load(&self, channel: ChannelId) -> Option<Head> {
        self.rows.get(&channel).and_then(crate::reader::Fold::head)
    }

    pub(crate) fn look_up(&self, index: usize) -> Lookup {
        let Command { channel, sender, id, .. } = self.commands[index].command;
        match self.ids.get(&(channel, sender, id)) {
            Some((seq, digest)) => Lookup::Found { seq: *seq, digest: *digest },
            None => Lookup::Missed,
        }
    }

    /// Rows first, members before all others, progress some records later, now and then a crash in between.
    fn write(&mut self) {
        let x = self.chance.share();
        let progress = self.progress().offset;
        if x < 0.08 {
            self.writer = Reader { cursor: self.progress().clone(), learns: false };
        } else if x < 0.4 {
            if self.writer.cursor.offset > progress {
                self.trail.push(self.writer.cursor.clone());
            }
        } else if let Some(record) = self.log.get(self.writer.cursor.offset as usize)
            && self.writer.accept(&record.value, self.fault)
            && let TimelineRecord::Outcome(outcome) = &record.value
            && let Some(first) = events_of(outcome).first()
        {
            let torn = self.chance.hit(0.1);
            let fold = self.rows.entry(outcome.channel).or_default();
            for event in events_of(outcome) {
                if torn { fold.apply_membership(event) } else { fold.apply(event) }
            }
            if torn {
                // A crash between the rows of members and all the others.
                self.writer = Reader { cursor: self.progress().clone(), learns: false };
                return;
            }
            let key = (outcome.channel, outcome.sender, outcome.id);
            self.ids.entry(key).or_insert((first.seq, outcome.digest));
        }
    }

    // ---- readers ----

    fn read_broken(&mut self) {
        if self.chance.hit(0.3) {
            self.broken.0.restart(self.fault);
        }
        while self.broken.0.cursor.offset < self.log.len() as u64 && self.chance.hit(0.8) {
            read_one(&mut self.broken, &self.log, self.fault);
        }
    }

    // ---- owners ----

    fn step(&mut self, owner: &mut Owner, settling: bool) {
        let x = self.chance.share();
        if !owner.alive {
            return;
        }
        let idle = owner.role == OwnerRole::Idle;
        if !settling && x < 0.02 {
            owner.crash(self);
        } else if x < 0.25 {
            if idle && owner.out.is_empty() {
                owner.claim(self);
            }
        } else if x < 0.45 {
            if !idle {
                owner.read_on(self);
            }
        } else if owner.role != OwnerRole::Owning {
        } else if x < 0.75 {
            owner.take(self);
        } else if x < 0.92 {
            let parked: Vec<ChannelId> = owner.parked.keys().copied().collect();
            if !parked.is_empty() {
                owner.unpark(*self.chance.pick(&parked), self);
            }
        } else {
            owner.forget(self);
        }
    }

    // ---- the verdict ----

    fn judge(&mut self) {
        while self.broken.0.cursor.offset < self.log.len() as u64 {
            self.read_broken();
        }
        while self.whole.0.cursor.offset < self.log.len() as u64 {
            read_one(&mut self.whole, &self.log, self.fault);
        }
        let same = self.whole.1 == self.broken.1;
        self.check("readers", same, || "a restarted reader accepts other records".to_owned());

        let valid: Vec<(u64, Outcome)> =
            self.valid(self.log.len() as u64).into_iter().map(|(offset, outcome)| (offset, outcome.clone())).collect();
        let mut parts: BTreeMap<CommandPosition, Vec<(usize, usize)>> = BTreeMap::new();
        let mut first: BTreeMap<Key, (ChannelSeq, u64)> = BTreeMap::new();
        let mut folds = Folds::new();
        let (mut last_id, mut last_time) = (MessageId(0), LogTime(0));
        for (offset, outcome) in &valid {
            let part = self.log[*offset as usize].part;
            parts.entry(outcome.command).or_default().push(part);
            self.check("time", outcome.time >= last_time, || format!("T steps back at {offset}"));
            last_time = outcome.time;
            let fold = folds.entry(outcome.channel).or_default();
            let is_member = fold.role_of(outcome.sender).is_some();
            let (mut seq, mut ordinal, mut version, _) = fold.view();
            for event in events_of(outcome) {
                fold.apply(event);
                seq = seq.next();
                ordinal = Ordinal(ordinal.0 + u64::from(event.kind.is_message()));
                version = if event.kind.membership().is_some() { seq } else { version };
                self.check("dense", event.seq == seq, || format!("seq {} instead of {seq} at {offset}", event.seq));
                self.check("running", (event.ordinal, event.members_version) == (ordinal, version), || {
                    format!("{event:?} instead of {ordinal:?} {version:?}")
                });
                self.check("ids", event.message_id > last_id, || format!("an id that falls at {offset}"));
                self.check("time", event.message_id.time() <= outcome.time, || format!("an id ahead of T at {offset}"));
                last_id = last_id.max(event.message_id);
            }
            self.judge_answer(*offset, outcome, part.0 > 0, is_member, &mut first);
        }
        for index in 0..self.commands.len() {
            let position = self.position_of(index);
            let mut got = parts.remove(&position).unwrap_or_default();
            got.sort_unstable();
            let whole = !got.is_empty() && got.iter().enumerate().all(|(i, part)| *part == (i, got.len()));
            let lost = got.is_empty() && position.incarnation < self.incarnation;
            self.check("decided", whole || lost, || format!("command {index}: {got:?}"));
        }
        self.check("decided", parts.is_empty(), || format!("nobody asked for {parts:?}"));
    }

    /// ONCE and VIS, for one valid outcome.
    fn judge_answer(
        &mut self,
        offset: u64,
        outcome: &Outcome,
        continued: bool,
        is_member: bool,
        first: &mut BTreeMap<Key, (ChannelSeq, u64)>,
    ) {
        let index = self.starts[outcome.command.incarnation as usize - 1] + outcome.command.offset as usize;
        let Asked { command, time, poison } = &self.commands[index];
        let told_poison = outcome.verdict == Verdict::Answered(Answer::Poison);
        let (same, in_time) = (*poison == told_poison, outcome.time >= *time);
        let is_post = matches!(command.body, CommandBody::Post { .. });
        let same_digest = *poison || outcome.digest == body_digest(&command.body);
        self.check("decided", same && same_digest, || format!("another command's outcome at {offset}"));
        self.check("time", in_time, || format!("T is behind its command at {offset}"));
        if told_poison || continued {
            return;
        }
        let key = (outcome.channel, outcome.sender, outcome.id);
        let known = first.get(&key).copied();
        let told = match &outcome.verdict {
            Verdict::Accepted(events) => {
                self.check("once", known.is_none(), || format!("accepted again at {offset}"));
                self.check("access", is_member || !is_post, || format!("no member's post at {offset}"));
                first.entry(key).or_insert((events[0].seq, outcome.digest));
                return;
            }
            Verdict::Answered(Answer::Duplicate { seq }) => Some((*seq, true)),
            Verdict::Answered(Answer::Conflict { seq }) => Some((*seq, false)),
            Verdict::Answered(answer) => {
                let refused = *answer == Answer::Rejected(RejectCause::NotMember);
                self.check("access", !(refused && is_post && is_member), || format!("a member is refused at {offset}"));
                None
            }
        };
        let truth = known.map(|(seq, digest)| (seq, digest == outcome.digest));
        self.check("once", told == truth, || format!("told {told:?}, not {truth:?} at {offset}"));
    }
}

fn read_one((reader, got): &mut (Reader, Vec<u64>), log: &[Record], fault: Option<Fault>) {
    let offset = reader.cursor.offset;
    if reader.accept(&log[offset as usize].value, fault) {
        got.push(offset);
    }
}
