//! What clients did and saw, and what the channels hold in the end: the auditor's only input.
//!
//! Whoever records it (socket client, simulation, load generator) uses one clock for all clients, because the realtime
//! checks compare moments across clients. Recording errs towards the weak side: an invocation is recorded before the
//! frame leaves, an answer after it has arrived.

use domain::command::HistoryVisibility;
use domain::{ChannelId, ChannelSeq, ClientMsgId, EventKind, LogTime, MessageId, Ordinal, UserId};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Microseconds on the recorder's own monotonic clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>9}.{:03} ms", self.0 / 1_000, self.0 % 1_000)
    }
}

/// Everything the auditor judges.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Each device of each person. A device that reconnects stays one client.
    pub clients: Vec<ClientHistory>,
    /// What the channels hold in the end.
    pub channels: BTreeMap<ChannelId, FinalChannel>,
}

/// One device of one person.
#[derive(Clone, Debug)]
pub struct ClientHistory {
    /// A short name for people: `anna/phone`.
    pub name: String,
    /// Whose.
    pub user: UserId,
    /// What it did and saw, in the order of `at`.
    pub ops: Vec<Recorded>,
    /// How it stood when the recording ended.
    pub end: End,
}

impl ClientHistory {
    /// A client that has done nothing.
    pub fn new(name: impl Into<String>, user: UserId) -> Self {
        Self { name: name.into(), user, ops: Vec::new(), end: End::default() }
    }

    /// Records an operation.
    pub fn record(&mut self, at: Moment, op: Op) {
        debug_assert!(self.ops.last().is_none_or(|last| last.at <= at), "a client records in the order of time");
        self.ops.push(Recorded { at, op });
    }
}

/// How a client stood when the recording ended.
#[derive(Clone, Debug, Default)]
pub struct End {
    /// Online, and given the time that TAIL allows: it must have everything.
    pub quiescent: bool,
    /// Its cursors: it believes to have everything up to here.
    pub cursors: BTreeMap<ChannelId, ChannelSeq>,
}

/// An operation and its moment.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// When.
    pub at: Moment,
    /// What.
    pub op: Op,
}

/// What a client did or saw.
#[derive(Clone, Debug)]
pub enum Op {
    /// A connection was opened and welcomed.
    Connected,
    /// It ended, for whatever reason.
    Disconnected,
    /// The client takes everything up to `seq` as known (a stored cursor, or the head it starts from) and begins there.
    /// A second one (another generation of the log) starts the client's copy of the channel anew.
    Based {
        /// The channel.
        channel: ChannelId,
        /// 0: from the beginning.
        seq: ChannelSeq,
    },
    /// A message leaves the outbox, for the first time or again.
    Sent {
        /// The channel.
        channel: ChannelId,
        /// The id, the same for every retry.
        id: ClientMsgId,
        /// The text.
        body: Arc<str>,
    },
    /// The ack arrived: the sender's copy of the event, or the answer to a retry.
    Acked {
        /// The channel.
        channel: ChannelId,
        /// The id.
        id: ClientMsgId,
        /// The message's place.
        seq: ChannelSeq,
    },
    /// The send was refused.
    Refused {
        /// The channel.
        channel: ChannelId,
        /// The id.
        id: ClientMsgId,
        /// The code of `schemas::error_codes`.
        code: u16,
        /// The client gives up and tells the person; otherwise it sends again.
        for_good: bool,
    },
    /// An event arrived on the socket, known or not.
    Received {
        /// The event.
        event: Arc<SeenEvent>,
        /// By which way.
        via: Via,
    },
    /// The client took an event into its copy of the channel and moved its cursor there.
    Applied {
        /// The channel.
        channel: ChannelId,
        /// The event's place.
        seq: ChannelSeq,
    },
    /// A page was asked for.
    PageAsked {
        /// The channel.
        channel: ChannelId,
        /// The number of the request.
        request: u64,
    },
    /// The page arrived.
    PageRead {
        /// The channel.
        channel: ChannelId,
        /// The number of the request.
        request: u64,
        /// It claims to be complete from here …
        first: ChannelSeq,
        /// … to here, both included: what is not in `events` is hidden, not missing.
        last: ChannelSeq,
        /// What it holds.
        events: Vec<Arc<SeenEvent>>,
    },
}

/// How an event reached a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// As it happened.
    Live,
    /// Between `welcome` and `caught_up`.
    CatchUp,
}

/// An event as a client or the final history has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenEvent {
    /// Its channel.
    pub channel: ChannelId,
    /// Its place.
    pub seq: ChannelSeq,
    /// The number of messages up to it.
    pub ordinal: Ordinal,
    /// Its snowflake.
    pub message_id: MessageId,
    /// T.
    pub time: LogTime,
    /// Whose command it came from.
    pub sender: UserId,
    /// The command's id.
    pub client_msg_id: ClientMsgId,
    /// What happened.
    pub kind: EventKind,
}

/// A channel as it is in the end, read past every role: from the log or the store.
#[derive(Clone, Debug, Default)]
pub struct FinalChannel {
    /// Every event, in the order of seq, from seq 1.
    pub events: Vec<Arc<SeenEvent>>,
    /// Who was a member, between which events.
    pub stays: BTreeMap<UserId, Vec<Stay>>,
    /// What those who join later may read.
    pub history: HistoryVisibility,
}

/// Between which events a person was a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stay {
    /// The join event.
    pub joined: ChannelSeq,
    /// The leave event, the last one they may see.
    pub left: Option<ChannelSeq>,
    /// The first event of the command that made them join: the record is one, so it is shown whole.
    pub joined_with: ChannelSeq,
}

impl FinalChannel {
    /// Folds the stays from the channel's own events.
    pub fn from_events(events: Vec<Arc<SeenEvent>>) -> Self {
        let mut folded = Self::default();
        let mut first_of_command = ChannelSeq(0);
        let mut command = None;
        for event in &events {
            let this = (event.sender, event.client_msg_id);
            if command != Some(this) {
                command = Some(this);
                first_of_command = event.seq;
            }
            match &event.kind {
                EventKind::ChannelCreated { history, .. } => folded.history = *history,
                EventKind::MemberJoined { user, .. } => {
                    let stays = folded.stays.entry(*user).or_default();
                    if stays.last().is_none_or(|stay| stay.left.is_some()) {
                        stays.push(Stay { joined: event.seq, left: None, joined_with: first_of_command });
                    }
                }
                EventKind::MemberLeft { user, .. } => {
                    if let Some(stay) = folded.stays.get_mut(user).and_then(|stays| stays.last_mut()) {
                        stay.left = stay.left.or(Some(event.seq));
                    }
                }
                _ => {}
            }
        }
        folded.events = events;
        folded
    }

    /// The last seq; 0 for an empty channel.
    pub fn head(&self) -> ChannelSeq {
        self.events.last().map_or(ChannelSeq(0), |event| event.seq)
    }

    /// The event at `seq`.
    pub fn at(&self, seq: ChannelSeq) -> Option<&Arc<SeenEvent>> {
        self.events.binary_search_by_key(&seq, |event| event.seq).ok().map(|index| &self.events[index])
    }

    /// Whether the person must get the event: they were a member when it happened.
    pub fn must_see(&self, channel: ChannelId, user: UserId, seq: ChannelSeq) -> bool {
        channel == ChannelId::personal(user)
            || self.stays_of(user).iter().any(|stay| stay.joined <= seq && stay.left.is_none_or(|left| seq <= left))
    }

    /// Whether the person may get the event: as a member, within the record that made them one, or as earlier history where
    /// the channel shows it.
    pub fn may_see(&self, channel: ChannelId, user: UserId, seq: ChannelSeq) -> bool {
        channel == ChannelId::personal(user)
            || self.stays_of(user).iter().any(|stay| {
                (self.history == HistoryVisibility::FromStart || stay.joined_with <= seq)
                    && stay.left.is_none_or(|left| seq <= left)
            })
    }

    fn stays_of(&self, user: UserId) -> &[Stay] {
        self.stays.get(&user).map_or(&[], Vec::as_slice)
    }
}
