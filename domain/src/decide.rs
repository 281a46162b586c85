//! The decider of one partition: `decide(&state, command) → outcome` and `evolve(state, outcome)` (design §4).

use crate::command::{ChannelKind, Command, CommandBody, CommandPosition, HistoryVisibility, Role};
use crate::cursor::LogCursor;
use crate::event::{Answer, Event, EventKind, Outcome, RejectCause, Verdict};
use crate::ids::{
    ChannelId, ChannelSeq, ClientMsgId, Epoch, LogTime, MessageId, Ordinal, OwnerSeq, PartitionId, UserId,
};
use crate::limits::{
    CHANNEL_MEMBERS_MAX, CLIENT_CLOCK_AHEAD_MS, HEADS_BYTES_MAX, ONCE_WINDOW_BYTES_MAX, ONCE_WINDOW_MS,
};
use crate::rules;
use crate::window::{ID_BYTES, Known, Window};
use foldhash::fast::FixedState;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use uuid::Uuid;

/// What the store knows about the id of a command.
///
/// Ask it after `decide` said [`Decision::NeedsLookup`], and keep the channel's commands waiting until the answer is used: the
/// memory may forget an id only once the store has it, so neither can miss what the other let go of in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// Nobody has asked yet.
    NotAsked,
    /// Asked; no such id. Conclusive, because memory keeps what the writer's progress has not passed.
    Missed,
    /// Asked; accepted before.
    Found {
        /// The original's first seq.
        seq: ChannelSeq,
        /// The original's [`body_digest`].
        digest: u64,
    },
}

/// The decider's answer to one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The channel's head is not in memory: load it ([`PartitionState::insert_head`]) and ask again.
    NeedsHead,
    /// The id must be looked up in the store by client_msg_id: ask again with the [`Lookup`].
    NeedsLookup,
    /// Decided. Append it, and [`PartitionState::evolve`] with it before the next command.
    Decided(Outcome),
}

/// A member, or somebody who was one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// What they are; `None`: they have left.
    pub role: Option<Role>,
    /// The seq of the last change of their membership or role.
    pub since: ChannelSeq,
}

/// What deciding needs of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The seq of the last event; 0: the channel does not exist (a personal channel always does).
    pub seq: ChannelSeq,
    /// The number of people's messages.
    pub ordinal: Ordinal,
    /// The seq of the last membership change.
    pub members_version: ChannelSeq,
    /// The kind of channel.
    pub kind: ChannelKind,
    /// What those who join later may read.
    pub history: HistoryVisibility,
    /// Whether people may join by themselves.
    pub open: bool,
    /// Everybody who is a member; the store may add those who were. Whoever reads a head in steps reads seq first and members
    /// second: members may be ahead of seq while events beyond it are being written, never behind.
    pub members: BTreeMap<UserId, Member>,
}

impl Head {
    /// The head of a channel without an event.
    fn empty() -> Self {
        Self {
            seq: ChannelSeq(0),
            ordinal: Ordinal(0),
            members_version: ChannelSeq(0),
            kind: ChannelKind::Group,
            history: HistoryVisibility::FromJoining,
            open: false,
            members: BTreeMap::new(),
        }
    }

    /// Whether the channel has come to be.
    pub const fn exists(&self) -> bool {
        self.seq.0 > 0
    }

    /// What somebody is now; `None`: no member.
    pub fn role_of(&self, user: UserId) -> Option<Role> {
        self.members.get(&user).and_then(|member| member.role)
    }

    /// How many members there are now.
    pub fn member_count(&self) -> usize {
        self.members.values().filter(|member| member.role.is_some()).count()
    }

    /// Moves past an event. Repeats change nothing: all up to seq is in the head. Members may be ahead of seq, as the store writes
    /// them first; then the events in between come again, and at the last one seq and members agree.
    fn evolve(&mut self, event: &Event) {
        if event.seq <= self.seq {
            return;
        }
        debug_assert_eq!(event.seq, self.seq.next(), "seq is dense");
        match event.kind {
            EventKind::ChannelCreated { kind, history, open, .. } => {
                (self.kind, self.history, self.open) = (kind, history, open);
            }
            EventKind::ChannelJoined { .. } | EventKind::ChannelLeft { .. } => self.kind = ChannelKind::Personal,
            _ => {}
        }
        match event.kind.membership() {
            Some((user, Some(role))) => {
                self.members.insert(user, Member { role: Some(role), since: event.seq });
            }
            // Nothing up to this seq comes again, so who is gone need not be remembered.
            Some((user, None)) => {
                self.members.remove(&user);
            }
            None => {}
        }
        self.seq = event.seq;
        self.ordinal = event.ordinal;
        self.members_version = event.members_version;
    }

    /// Bytes in memory, at most about: its place in a hash table at its emptiest, and half-full leaves of a B-tree.
    fn bytes(&self) -> usize {
        HEAD_BYTES + self.members.len().div_ceil(MEMBERS_PER_LEAF) * LEAF_BYTES
    }
}

/// What the decider may be asked for, and how much it may remember.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecideLimits {
    /// Members of a channel.
    pub members_max: usize,
    /// Bytes of heads kept although the store has them; above it those unused for longest go first and are loaded again when
    /// used. At twice this, which takes a writer that is far behind, new messages get `retry_later`.
    pub heads_bytes_max: usize,
    /// Bytes of remembered ids, [`crate::window::ID_BYTES`] each. At the bound new messages get `retry_later`; nothing is
    /// forgotten.
    pub window_bytes_max: usize,
}

impl Default for DecideLimits {
    fn default() -> Self {
        Self {
            members_max: CHANNEL_MEMBERS_MAX,
            heads_bytes_max: HEADS_BYTES_MAX,
            window_bytes_max: ONCE_WINDOW_BYTES_MAX,
        }
    }
}

/// How much an owner remembers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateMemory {
    /// Remembered ids.
    pub ids: usize,
    /// Heads of channels.
    pub heads: usize,
    /// Members in those heads.
    pub members: usize,
    /// Bytes of all that, tables' slack included, about.
    pub bytes: usize,
}

/// What a head without members takes in memory, the slack of its table included.
const HEAD_BYTES: usize = 256;
/// A leaf of a head's B-tree of members.
const LEAF_BYTES: usize = 384;
/// Members in a leaf that is just full enough.
const MEMBERS_PER_LEAF: usize = 6;

/// The memory of one partition's owner: `decide` reads it, `evolve` moves it.
#[derive(Clone, Debug)]
pub struct PartitionState {
    partition: PartitionId,
    limits: DecideLimits,
    epoch: Epoch,
    n: OwnerSeq,
    time: LogTime,
    last_id: MessageId,
    heads: HashMap<ChannelId, Held, FixedState>,
    /// The sum of [`Head::bytes`].
    heads_bytes: usize,
    window: Window,
}

/// A head, and what keeps it in memory.
#[derive(Clone, Debug)]
struct Held {
    head: Head,
    /// The offset of the last record that moved it.
    offset: u64,
    /// Records that moved it and were not read back yet.
    unlanded: usize,
    /// T when it was last loaded or moved.
    used: LogTime,
}

impl Held {
    /// Whether the store has all of it.
    fn passed_by(&self, progress: u64) -> bool {
        self.unlanded == 0 && self.offset < progress
    }
}

impl PartitionState {
    /// Nothing known yet.
    pub fn new(partition: PartitionId, limits: DecideLimits) -> Self {
        Self {
            partition,
            limits,
            epoch: Epoch(0),
            n: OwnerSeq(0),
            time: LogTime(0),
            last_id: MessageId(0),
            heads: HashMap::default(),
            heads_bytes: 0,
            window: Window::default(),
        }
    }

    /// From here this is an owner's state: the epoch of its own valid claim, T and the last id of the valid log up to it.
    pub fn take_ownership(&mut self, cursor: &LogCursor) {
        self.epoch = cursor.epoch;
        self.n = OwnerSeq(0);
        self.time = cursor.time;
        self.last_id = cursor.last_id;
    }

    /// Whether the channel's head is in memory.
    pub fn has_head(&self, channel: ChannelId) -> bool {
        self.heads.contains_key(&channel)
    }

    /// The channel's head, if in memory.
    pub fn head(&self, channel: ChannelId) -> Option<&Head> {
        self.heads.get(&channel).map(|held| &held.head)
    }

    /// A head from the store; `None`: the store has no event of the channel. Changes nothing if one is in memory, which is
    /// never older. Between the reading of it and this, nothing of the channel may have been decided and forgotten again: keep
    /// a channel's commands waiting while its head is read.
    pub fn insert_head(&mut self, channel: ChannelId, head: Option<Head>) {
        let used = self.time;
        let Entry::Vacant(place) = self.heads.entry(channel) else { return };
        let mut head = head.unwrap_or_else(Head::empty);
        head.members.retain(|_, member| member.role.is_some());
        self.heads_bytes += head.bytes();
        place.insert(Held { head, offset: 0, unlanded: 0, used });
    }

    /// Moves past a valid outcome read at `offset`, during recovery. Idempotent by seq. The head of its channel must be in
    /// memory if the outcome has events, see [`PartitionState::has_head`]. Nothing here needs [`PartitionState::evict`] to
    /// wait for the end of a long recovery.
    pub fn replay(&mut self, outcome: &Outcome, offset: u64) {
        self.time = self.time.max(outcome.time);
        self.apply(outcome, Some(offset));
    }

    /// Decides one command. Pure: the outcome follows from the state, the command, its position and its append time, and what
    /// the store knows of its id. Checks in order: duplicate, clock, authorisation, limits.
    pub fn decide(&self, command: &Command, at: CommandPosition, append_time: LogTime, lookup: Lookup) -> Decision {
        let Some(held) = self.heads.get(&command.channel) else { return Decision::NeedsHead };
        let time = append_time.max(self.time);
        let digest = body_digest(&command.body);
        let verdict = match self.known(command, time, digest, lookup) {
            IdKnown::Answer(answer) => Verdict::Answered(answer),
            IdKnown::Unclear => return Decision::NeedsLookup,
            IdKnown::New => self.verdict(command, &held.head, time),
        };
        Decision::Decided(self.outcome(command, at, time, digest, verdict))
    }

    /// The outcome of a command that can't be read: it is in the dead letters, and its position is passed.
    pub fn answer_poison(&self, at: CommandPosition, append_time: LogTime, channel: ChannelId) -> Outcome {
        Outcome {
            epoch: self.epoch,
            n: self.n.next(),
            time: append_time.max(self.time),
            command: at,
            channel,
            sender: UserId(Uuid::nil()),
            id: ClientMsgId(Uuid::nil()),
            digest: 0,
            reply: None,
            verdict: Verdict::Answered(Answer::Poison),
        }
    }

    /// Moves past an own decision, which is not in the log yet.
    pub fn evolve(&mut self, outcome: &Outcome) {
        debug_assert_eq!(
            (outcome.epoch, outcome.n),
            (self.epoch, self.n.next()),
            "outcomes are evolved in the order they were decided"
        );
        self.n = outcome.n;
        self.time = outcome.time;
        self.apply(outcome, None);
    }

    /// An own record was read back, valid, at its offset.
    pub fn landed(&mut self, outcome: &Outcome, offset: u64) {
        if !matches!(outcome.verdict, Verdict::Accepted(_)) {
            return;
        }
        if let Some(held) = self.heads.get_mut(&outcome.channel) {
            held.unlanded = held.unlanded.saturating_sub(1);
            held.offset = held.offset.max(offset);
        }
        self.window.landed(outcome.channel, outcome.sender, outcome.id, offset);
    }

    /// Forgets what the writer's progress (the offset below which all is in the store) has passed and nobody has used for the
    /// length of the window: heads and ids. Above the limit of heads, also those used since, the longest unused first. So a
    /// miss in the store is always conclusive. Takes time in the number of heads: meant for each move of the progress.
    pub fn evict(&mut self, progress: u64) {
        let idle_since = self.time.minus_ms(ONCE_WINDOW_MS);
        self.forget_heads(|held| held.passed_by(progress) && held.used < idle_since);
        if self.heads_bytes > self.limits.heads_bytes_max {
            // Down to three quarters, so that the next few heads don't pay for another pass.
            self.forget_unused(progress, self.limits.heads_bytes_max / 4 * 3);
        }
        self.window.evict(self.time, progress);
    }

    /// How much is remembered.
    pub fn memory(&self) -> StateMemory {
        StateMemory {
            ids: self.window.len(),
            heads: self.heads.len(),
            members: self.heads.values().map(|held| held.head.members.len()).sum(),
            bytes: self.window.bytes() + self.heads_bytes,
        }
    }

    fn forget_unused(&mut self, progress: u64, down_to: usize) {
        let mut passed: Vec<(LogTime, ChannelId, usize)> = self
            .heads
            .iter()
            .filter(|(_, held)| held.passed_by(progress))
            .map(|(channel, held)| (held.used, *channel, held.head.bytes()))
            .collect();
        passed.sort_unstable();
        for (_, channel, bytes) in passed {
            if self.heads_bytes <= down_to {
                return;
            }
            self.heads.remove(&channel);
            self.heads_bytes -= bytes;
        }
    }

    fn forget_heads(&mut self, goes: impl Fn(&Held) -> bool) {
        let bytes = &mut self.heads_bytes;
        self.heads.retain(|_, held| {
            let goes = goes(held);
            if goes {
                *bytes -= held.head.bytes();
            }
            !goes
        });
    }

    fn known(&self, command: &Command, time: LogTime, digest: u64, lookup: Lookup) -> IdKnown {
        let repeat = |seq, original| {
            IdKnown::Answer(if original == digest { Answer::Duplicate { seq } } else { Answer::Conflict { seq } })
        };
        if let Some(known) = self.window.get(command.channel, command.sender, command.id) {
            return repeat(known.seq, known.digest);
        }
        let derived = command.body.is_derived();
        let id_time = command.id.time();
        if !derived && id_time.is_none_or(|id_time| id_time > time.plus_ms(CLIENT_CLOCK_AHEAD_MS)) {
            return IdKnown::Answer(Answer::Rejected(RejectCause::Clock));
        }
        // What the window may have forgotten, or what somebody says was sent before, the store must know or not know. An id was
        // accepted at its time - 30 s at the earliest, and recovery replays only what is younger than the window: hence `<=`.
        let may_be_forgotten =
            id_time.is_none_or(|id_time| id_time.plus_ms(ONCE_WINDOW_MS) <= time.plus_ms(CLIENT_CLOCK_AHEAD_MS));
        if !(derived || command.retry || may_be_forgotten) {
            return IdKnown::New;
        }
        match lookup {
            Lookup::NotAsked => IdKnown::Unclear,
            Lookup::Missed => IdKnown::New,
            Lookup::Found { seq, digest: original } => repeat(seq, original),
        }
    }

    fn verdict(&self, command: &Command, head: &Head, time: LogTime) -> Verdict {
        let kinds = match rules::events(command, head, &self.limits) {
            Ok(kinds) => kinds,
            Err(cause) => return Verdict::Answered(Answer::Rejected(cause)),
        };
        if (self.window.len() + 1) * ID_BYTES > self.limits.window_bytes_max
            || self.heads_bytes > 2 * self.limits.heads_bytes_max
        {
            return Verdict::Answered(Answer::RetryLater);
        }
        let mut last_id = self.last_id;
        let (mut seq, mut ordinal, mut members_version) = (head.seq, head.ordinal, head.members_version);
        let number = |kind: EventKind| {
            seq = seq.next();
            last_id = last_id.next_at(time, self.partition);
            if kind.is_message() {
                ordinal = ordinal.next();
            }
            if kind.membership().is_some() {
                members_version = seq;
            }
            Event { seq, ordinal, message_id: last_id, members_version, kind }
        };
        Verdict::Accepted(kinds.into_iter().map(number).collect())
    }

    fn outcome(&self, command: &Command, at: CommandPosition, time: LogTime, digest: u64, verdict: Verdict) -> Outcome {
        // A full millisecond moves T on with the ids, so T is never behind an id that was given.
        let time = match &verdict {
            Verdict::Accepted(events) => events.last().map_or(time, |last| {
                if last.message_id.time() > MessageId::first_at(time, self.partition).time() {
                    last.message_id.time()
                } else {
                    time
                }
            }),
            Verdict::Answered(_) => time,
        };
        Outcome {
            epoch: self.epoch,
            n: self.n.next(),
            time,
            command: at,
            channel: command.channel,
            sender: command.sender,
            id: command.id,
            digest,
            reply: command.reply.clone(),
            verdict,
        }
    }

    /// Takes the events into the head and the id into the window. `offset`: where the record stands; `None`: not known yet.
    fn apply(&mut self, outcome: &Outcome, offset: Option<u64>) {
        let Verdict::Accepted(events) = &outcome.verdict else { return };
        // Going on without it would give out a seq twice.
        let held = self.heads.get_mut(&outcome.channel).expect("the head of a channel with events is in memory");
        let before = held.head.bytes();
        for event in events {
            held.head.evolve(event);
        }
        self.heads_bytes = self.heads_bytes - before + held.head.bytes();
        held.used = outcome.time;
        match offset {
            Some(offset) => held.offset = held.offset.max(offset),
            None => held.unlanded += 1,
        }
        let (Some(first), Some(last)) = (events.first(), events.last()) else { return };
        self.last_id = self.last_id.max(last.message_id);
        let known = Known { seq: first.seq, digest: outcome.digest };
        self.window.insert((outcome.channel, outcome.sender, outcome.id), outcome.time, known, offset);
    }
}

/// What is known of a command's id.
enum IdKnown {
    Answer(Answer),
    Unclear,
    New,
}

/// Tells one body from another under the same id. Part of the log's format: never changes.
pub fn body_digest(body: &CommandBody) -> u64 {
    let mut bytes = Vec::with_capacity(64);
    let mut put = |part: &[u8]| {
        bytes.extend_from_slice(&(part.len() as u32).to_be_bytes());
        bytes.extend_from_slice(part);
    };
    match body {
        CommandBody::Post { text } => {
            put(b"post");
            put(text.as_bytes());
        }
        CommandBody::CreateChannel { kind, title, members, history, open } => {
            put(b"create");
            put(&[*kind as u8, *history as u8, u8::from(*open)]);
            put(title.as_bytes());
            for member in members {
                put(member.as_bytes());
            }
        }
        CommandBody::Join => put(b"join"),
        CommandBody::Leave => put(b"leave"),
        CommandBody::AddMembers { users } => {
            put(b"add");
            for user in users {
                put(user.as_bytes());
            }
        }
        CommandBody::RemoveMember { user } => {
            put(b"remove");
            put(user.as_bytes());
        }
        CommandBody::SetRole { user, role } => {
            put(b"role");
            put(user.as_bytes());
            put(&[*role as u8]);
        }
        CommandBody::ChannelJoined { channel, seq } => {
            put(b"joined");
            put(channel.as_bytes());
            put(&seq.0.to_be_bytes());
        }
        CommandBody::ChannelLeft { channel, seq } => {
            put(b"left");
            put(channel.as_bytes());
            put(&seq.0.to_be_bytes());
        }
    }
    let (high, low) = Uuid::new_v5(&DIGEST_NAMESPACE, &bytes).as_u64_pair();
    high ^ low
}

/// The UUIDv5 namespace of body digests. Part of the log's format: never changes.
const DIGEST_NAMESPACE: Uuid = Uuid::from_bytes(*b"hubbub/digest/v1");
