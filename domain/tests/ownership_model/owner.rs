//! An owner of the partition: claims, recovers, decides with the real `PartitionState`, and stalls or dies at any step.

use crate::faults::Fault;
use crate::reader::{Reader, Record, events_of, view_of};
use crate::world::{COMMANDS_START, PARTITION, World};
use domain::limits::{CLIENT_CLOCK_AHEAD_MS, ONCE_WINDOW_MS};
use domain::{
    Answer, ChannelId, ClientMsgId, Command, CommandPosition, Decision, Epoch, LogCursor, LogTime, Lookup, MessageId,
    Outcome, OwnerSeq, PartitionState, RejectCause, TimelineRecord, Verdict, decide::Head,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Idle,
    Claiming,
    Owning,
}

#[derive(Debug)]
pub(crate) struct Owner {
    name: usize,
    /// In flight: decided or claimed, not in the log yet. Outlives the owner.
    pub(crate) out: VecDeque<Record>,
    pub(crate) role: Role,
    pub(crate) alive: bool,
    pub(crate) tail: Reader,
    epoch: Epoch,
    nonce: u128,
    state: PartitionState,
    n: OwnerSeq,
    last_id: MessageId,
    /// The next command to take, an index into the world's commands.
    pub(crate) next: usize,
    done: BTreeSet<u64>,
    /// Commands that wait for the store, by channel, first in first out.
    pub(crate) parked: BTreeMap<ChannelId, VecDeque<usize>>,
    /// What the store has answered, not taken up yet: the answer is as old as the question.
    answers: BTreeMap<ChannelId, StoreAnswer>,
    found: BTreeMap<usize, Lookup>,
}

#[derive(Debug)]
enum StoreAnswer {
    Head(Option<Head>),
    Id(usize, Lookup),
}

enum Wants {
    Nothing,
    Head,
    Id,
}

impl Owner {
    pub(crate) fn new(name: usize, world: &World) -> Self {
        Self {
            name,
            out: VecDeque::new(),
            role: Role::Idle,
            alive: true,
            tail: Reader::default(),
            epoch: Epoch(0),
            nonce: 0,
            state: PartitionState::new(PARTITION, world.limits),
            n: OwnerSeq(0),
            last_id: MessageId(0),
            next: 0,
            done: BTreeSet::new(),
            parked: BTreeMap::new(),
            answers: BTreeMap::new(),
            found: BTreeMap::new(),
        }
    }

    pub(crate) fn claim(&mut self, world: &mut World) {
        self.tail = Reader { cursor: world.progress().clone(), learns: false };
        for record in &world.log[self.tail.cursor.offset as usize..] {
            self.tail.accept(&record.value, world.fault);
        }
        self.epoch = self.tail.cursor.epoch.next();
        self.nonce = u128::from(world.chance.next());
        self.role = Role::Claiming;
        let commands_start = CommandPosition { incarnation: world.incarnation, offset: COMMANDS_START };
        let claim =
            TimelineRecord::Claim { epoch: self.epoch, nonce: self.nonce, owner: "owner".into(), commands_start };
        self.out.push_back(Record { value: claim, by: self.name, at: 0, part: (0, 1) });
    }

    /// Reads the log on: wins or loses the claim, sees its own records land, steps down at a higher epoch.
    pub(crate) fn read_on(&mut self, world: &mut World) {
        while let Some(record) = world.log.get(self.tail.cursor.offset as usize).cloned() {
            let offset = self.tail.cursor.offset;
            let valid = self.tail.accept(&record.value, world.fault);
            match (&record.value, self.role) {
                (TimelineRecord::Claim { nonce, epoch, .. }, Role::Claiming) if *nonce == self.nonce => {
                    let believes = world.fault == Some(Fault::SameEpoch) && *epoch == self.tail.cursor.epoch;
                    if valid || believes {
                        self.recover(world);
                    } else {
                        self.role = Role::Idle;
                    }
                }
                (TimelineRecord::Claim { .. }, Role::Owning) if valid => {
                    self.role = Role::Idle;
                    return;
                }
                (TimelineRecord::Outcome(outcome), Role::Owning)
                    if record.by == self.name && outcome.epoch == self.epoch =>
                {
                    if valid {
                        self.state.landed(outcome, offset);
                    } else {
                        if world.fault != Some(Fault::NoStepDown) {
                            self.role = Role::Idle;
                        }
                        return;
                    }
                }
                _ => {}
            }
        }
    }

    fn recover(&mut self, world: &mut World) {
        let end = self.tail.cursor.offset;
        let mut reader = self.recovery_start(world, end);
        let mut state = PartitionState::new(PARTITION, world.limits);
        let progress = world.progress().offset;
        for offset in reader.cursor.offset..end {
            let record = world.log[offset as usize].value.clone();
            if !reader.accept(&record, world.fault) {
                continue;
            }
            let TimelineRecord::Outcome(outcome) = &record else { continue };
            if !events_of(outcome).is_empty() && !state.has_head(outcome.channel) {
                state.insert_head(outcome.channel, world.load(outcome.channel));
            }
            state.replay(outcome, offset);
            if world.chance.hit(0.1) && world.fault.is_none() {
                state.evict(progress);
            }
        }
        let cursor = reader.cursor;
        state.take_ownership(&LogCursor { epoch: self.epoch, ..cursor.clone() });
        (self.state, self.n, self.last_id, self.role) = (state, OwnerSeq(0), cursor.last_id, Role::Owning);
        (self.parked, self.answers, self.found) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        self.next = world.index_of(cursor.low);
        self.done.clone_from(&cursor.decided_above);
        let truth = world.cursor_at(end);
        if world.fault == Some(Fault::LastOffset) {
            self.next = world.index_behind_last_command(end);
            self.done.clear();
        }
        // Else a zombie: all it says is void.
        let current = world.cursor_at(world.log.len() as u64).epoch == self.epoch;
        // That one shall be caught by what it does, not here.
        if world.fault != Some(Fault::BareProgress) {
            let same = (cursor.time, cursor.last_id, cursor.low) == (truth.time, truth.last_id, truth.low);
            world.check("base", same, || format!("owner {} recovers {cursor:?}, not {truth:?}", self.name));
        }
        if current {
            let folds = world.folds_at(end);
            for (channel, fold) in folds {
                let view = match self.state.head(channel) {
                    Some(head) => view_of(head),
                    None => world.rows.get(&channel).cloned().unwrap_or_default().view(),
                };
                world.check("base", view == fold.view(), || {
                    format!("owner {} recovers {view:?}, not {:?}", self.name, fold.view())
                });
            }
        }
        world.say(|| {
            format!(
                "owner {} owns epoch {}, next {}, T {}",
                self.name,
                self.epoch,
                self.next,
                cursor.time.0 % 10_000_000
            )
        });
    }

    /// The newest cursor of the trail that is older than the window.
    fn recovery_start(&self, world: &World, end: u64) -> Reader {
        let progress = world.progress();
        let before = self.tail.cursor.time.minus_ms(ONCE_WINDOW_MS);
        let at_start = LogCursor::default();
        let start = world.trail.iter().rev().find(|cursor| cursor.time <= before).unwrap_or(&at_start).clone();
        let mut reader = Reader { cursor: start, learns: false };
        if let Some(Fault::LogWindow | Fault::StartWithoutEpoch | Fault::BareProgress) = world.fault {
            let since = world.log[end as usize - 1].at.saturating_sub(ONCE_WINDOW_MS);
            let first = world.log.iter().position(|record| record.at >= since).unwrap_or(0) as u64;
            reader.cursor = world.cursor_at(progress.offset.min(first));
            if world.fault == Some(Fault::StartWithoutEpoch) && first < progress.offset {
                (reader.cursor.epoch, reader.learns) = (Epoch(0), true);
            }
            if world.fault == Some(Fault::BareProgress) {
                (reader.cursor.time, reader.cursor.last_id) = (LogTime(0), MessageId(0));
            }
        }
        reader
    }

    pub(crate) fn take(&mut self, world: &mut World) {
        let Some(command) = world.commands.get(self.next) else { return };
        let (index, channel) = (self.next, command.command.channel);
        let poison = command.poison;
        self.next += 1;
        let at = world.position_of(index);
        if self.done.contains(&at.offset) {
            return;
        }
        if poison {
            let outcome = self.state.answer_poison(at, world.commands[index].time, channel);
            self.append(outcome, world);
        } else if let Some(waiting) = self.parked.get_mut(&channel) {
            waiting.push_back(index);
        } else if !matches!(self.decide(index, world), Wants::Nothing) {
            self.parked.insert(channel, VecDeque::from([index]));
        }
    }

    /// Takes up what the store has answered for a channel, and goes on with its commands until one needs the store again.
    pub(crate) fn unpark(&mut self, channel: ChannelId, world: &mut World) {
        match self.answers.remove(&channel) {
            Some(StoreAnswer::Head(head)) => self.take_head(channel, head, world),
            Some(StoreAnswer::Id(index, lookup)) => {
                self.found.insert(index, lookup);
            }
            None => {}
        }
        while let Some(first) = self.parked.get(&channel).and_then(|waiting| waiting.front().copied()) {
            match self.decide(first, world) {
                Wants::Nothing => {
                    self.parked.get_mut(&channel).and_then(VecDeque::pop_front);
                }
                // Both at once and used at once: the look-up nobody has asked for must not beat the memory.
                Wants::Head if world.chance.hit(0.7) => {
                    let (head, lookup) = (world.load(channel), world.look_up(first));
                    self.found.insert(first, lookup);
                    self.take_head(channel, head, world);
                }
                Wants::Head => {
                    self.answers.insert(channel, StoreAnswer::Head(world.load(channel)));
                    return;
                }
                Wants::Id => {
                    self.answers.insert(channel, StoreAnswer::Id(first, world.look_up(first)));
                    return;
                }
            }
        }
        self.parked.remove(&channel);
    }

    fn take_head(&mut self, channel: ChannelId, head: Option<Head>, world: &mut World) {
        self.state.insert_head(channel, head);
        let end = world.log.len() as u64;
        if world.cursor_at(end).epoch != self.epoch {
            return;
        }
        let own = self.state.head(channel).map(view_of).unwrap_or_default();
        let truth = world.folds_at(end).remove(&channel).unwrap_or_default().view();
        world.check("base", own == truth, || format!("owner {} reads {own:?}, not {truth:?}", self.name));
    }

    fn decide(&mut self, index: usize, world: &mut World) -> Wants {
        let command = world.commands[index].command.clone();
        let at = world.position_of(index);
        let time = world.commands[index].time;
        let lookup = self.found.get(&index).copied().unwrap_or(Lookup::NotAsked);
        let decision = match world.fault {
            Some(Fault::TrustFlag) => self.decide_trusting(&command, at, time, lookup),
            Some(Fault::StaleLookup) if lookup != Lookup::NotAsked => {
                self.decide_without_memory(&command, at, time, lookup, world)
            }
            _ => self.state.decide(&command, at, time, lookup),
        };
        match decision {
            Decision::NeedsHead => Wants::Head,
            Decision::NeedsLookup => Wants::Id,
            Decision::Decided(outcome) => {
                if world.fault == Some(Fault::SplitEvents) {
                    self.append_in_parts(&outcome, world);
                } else {
                    self.append(outcome, world);
                }
                Wants::Nothing
            }
        }
    }

    /// What `decide` would be if it trusted the retry flag and every clock.
    fn decide_trusting(&self, command: &Command, at: CommandPosition, time: LogTime, lookup: Lookup) -> Decision {
        let trusted = |command: &Command| match self.state.decide(command, at, time, lookup) {
            Decision::NeedsLookup if !command.retry && !command.body.is_derived() => {
                // The real rule minus its allowance for clocks that are ahead.
                let mut earlier = command.clone();
                earlier.id = moved(command.id, |ms| ms + CLIENT_CLOCK_AHEAD_MS);
                match self.state.decide(&earlier, at, time, lookup) {
                    Decision::NeedsLookup => Decision::NeedsLookup,
                    _ => self.state.decide(command, at, time, Lookup::Missed),
                }
            }
            other => other,
        };
        match trusted(command) {
            Decision::Decided(outcome)
                if outcome.verdict == Verdict::Answered(Answer::Rejected(RejectCause::Clock)) =>
            {
                let mut tamed = command.clone();
                tamed.id = moved(command.id, |_| outcome.time.0);
                match self.state.decide(&tamed, at, time, lookup) {
                    Decision::Decided(outcome) => Decision::Decided(Outcome { id: command.id, ..outcome }),
                    other => other,
                }
            }
            other => other,
        }
    }

    /// What `decide` would be if it did not ask the memory.
    fn decide_without_memory(
        &self,
        command: &Command,
        at: CommandPosition,
        time: LogTime,
        lookup: Lookup,
        world: &World,
    ) -> Decision {
        let Decision::Decided(real) = self.state.decide(command, at, time, lookup) else { return Decision::NeedsHead };
        let mut blind = PartitionState::new(PARTITION, world.limits);
        let (epoch, time, last_id) = (self.epoch, real.time, self.last_id);
        blind.take_ownership(&LogCursor { epoch, time, last_id, ..LogCursor::default() });
        blind.insert_head(command.channel, self.state.head(command.channel).cloned());
        match blind.decide(command, at, time, lookup) {
            Decision::Decided(outcome) => Decision::Decided(Outcome { n: real.n, ..outcome }),
            other => other,
        }
    }

    fn append(&mut self, outcome: Outcome, world: &mut World) {
        self.append_part(outcome, (0, 1), world);
    }

    fn append_in_parts(&mut self, outcome: &Outcome, world: &mut World) {
        let events = events_of(outcome);
        if events.len() < 2 {
            return self.append(outcome.clone(), world);
        }
        let first = outcome.n.0;
        for (i, event) in events.iter().enumerate() {
            let n = OwnerSeq(first + i as u64);
            let part = Outcome { n, verdict: Verdict::Accepted(vec![event.clone()]), ..outcome.clone() };
            self.append_part(part, (i, events.len()), world);
        }
    }

    fn append_part(&mut self, outcome: Outcome, part: (usize, usize), world: &mut World) {
        self.n = self.n.next();
        world.check("dense", outcome.n == self.n, || format!("{outcome:?} is number {}", self.n));
        self.state.evolve(&outcome);
        self.last_id = events_of(&outcome).last().map_or(self.last_id, |last| last.message_id);
        let at = 0;
        self.out.push_back(Record { value: TimelineRecord::Outcome(outcome), by: self.name, at, part });
    }

    /// Heads and ids leave memory.
    pub(crate) fn forget(&mut self, world: &World) {
        let progress = world.progress().offset;
        match world.fault {
            Some(Fault::HeadEvictedEarly) => {
                let (mut kept, mut early) = (self.state.clone(), self.state.clone());
                kept.evict(progress);
                early.evict(u64::MAX);
                // Only where no id would go early too: that is another fault.
                self.state = if early.memory().ids == kept.memory().ids { early } else { kept };
            }
            Some(Fault::ShortWindow) => {
                let heads: Vec<_> =
                    world.channels.iter().filter_map(|ch| Some((*ch, self.state.head(*ch)?.clone()))).collect();
                self.state.evict(u64::MAX);
                // Only the ids go early.
                for (channel, head) in heads {
                    self.state.insert_head(channel, Some(head));
                }
            }
            _ => self.state.evict(progress),
        }
    }

    /// Dies. A prefix of what is in flight may still land.
    pub(crate) fn crash(&mut self, world: &mut World) {
        self.alive = false;
        let lands = world.chance.below(self.out.len() + 1);
        self.out.truncate(lands);
        world.say(|| format!("owner {} crashes, {lands} in flight", self.name));
    }
}

fn moved(id: ClientMsgId, time: impl Fn(u64) -> u64) -> ClientMsgId {
    let ms = time(id.time().map_or(0, |time| time.0)).to_be_bytes();
    let mut bytes = *id.as_bytes();
    bytes[..6].copy_from_slice(&ms[2..]);
    ClientMsgId::from_bytes(bytes)
}
