//! The decider of one partition: `decide(&state, command) → outcome` and `evolve(state, outcome)` (design §4).

use crate::command::{ChannelKind, Command, CommandBody, CommandPosition, HistoryVisibility, Role};
use crate::cursor::LogCursor;
use crate::event::Outcome;
use crate::ids::{ChannelId, ChannelSeq, Epoch, LogTime, MessageId, Ordinal, PartitionId, UserId};
use std::collections::BTreeMap;

/// What the store knows about the id of a command.
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
    /// Everybody who is, or (until the head leaves memory) was a member.
    pub members: BTreeMap<UserId, Member>,
}

/// The memory of one partition's owner.
#[derive(Clone, Debug)]
pub struct PartitionState {
    _todo: (),
}
