//! Events and outcomes: what the sequencer has decided. Facts, never changed.

use crate::command::{ChannelKind, CommandPosition, HistoryVisibility, ReplyAddress, Role};
use crate::ids::{ChannelId, ChannelSeq, ClientMsgId, Epoch, LogTime, MessageId, Ordinal, OwnerSeq, UserId};

/// One record of `chat.messages`, before the void rule has judged it (see `LogCursor`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimelineRecord {
    /// `OwnershipTaken`: somebody claims the partition.
    Claim {
        /// Above every epoch the claimer has read.
        epoch: Epoch,
        /// Tells the claimer its own claim from another's of the same epoch.
        nonce: u128,
        /// Who, for people who read the log.
        owner: Box<str>,
        /// Where the partition of `chat.commands` began when the claim was made: no command below it can be decided any
        /// more, so a valid claim moves `low` up to it and what was lost never holds `low` back.
        commands_start: CommandPosition,
    },
    /// Exactly one command, decided.
    Outcome(Outcome),
}

/// One command, decided: all that it changed, or the answer why it changed nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The epoch of the owner that decided it.
    pub epoch: Epoch,
    /// Its number within the epoch: the last one's + 1, from 1.
    pub n: OwnerSeq,
    /// T: max(append time of the command, the T before).
    pub time: LogTime,
    /// The command it decides.
    pub command: CommandPosition,
    /// The command's channel.
    pub channel: ChannelId,
    /// The command's sender.
    pub sender: UserId,
    /// The command's id.
    pub id: ClientMsgId,
    /// [`crate::decide::body_digest`] of the command: tells a retry from a conflict.
    pub digest: u64,
    /// Where the outcome goes.
    pub reply: Option<ReplyAddress>,
    /// What was decided.
    pub verdict: Verdict,
}

/// What was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It happened: the events, in the order of their seq. Never empty.
    Accepted(Vec<Event>),
    /// It changed nothing.
    Answered(Answer),
}

/// Why a command changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// This id was accepted before, with the same body.
    Duplicate {
        /// The original's (first) seq.
        seq: ChannelSeq,
    },
    /// This id was accepted before, with another body.
    Conflict {
        /// The original's (first) seq.
        seq: ChannelSeq,
    },
    /// Not allowed, or not possible.
    Rejected(RejectCause),
    /// The owner's memory is full; nothing was forgotten. Send the same id again later.
    RetryLater,
    /// The command could not be read. It is in the dead letters.
    Poison,
}

/// Why a command was rejected. A rejected id is not remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RejectCause {
    /// The id's time is later than T + 30 s, or it is no UUIDv7. The answer carries T; send the same id again later.
    Clock,
    /// No such channel, or the sender is not a member: told alike.
    NotMember,
    /// A member, but the role does not allow it.
    Forbidden,
    /// The channel exists already.
    AlreadyExists,
    /// Already a member, or already has that role.
    AlreadyMember,
    /// The person named is no member.
    NoSuchMember,
    /// The channel has as many members as its limit.
    MembersLimit,
    /// The last owner can't leave or step down while others are members.
    LastOwner,
    /// The body is above the limit, or otherwise not well formed.
    BadBody,
}

/// One event of a channel's timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its dense place in the channel.
    pub seq: ChannelSeq,
    /// The number of people's messages up to and including this event.
    pub ordinal: Ordinal,
    /// Its snowflake; rises with seq.
    pub message_id: MessageId,
    /// The seq of the last membership change up to and including this event: the version of the member list.
    pub members_version: ChannelSeq,
    /// What happened.
    pub kind: EventKind,
}

/// What happened. The sender is the outcome's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A person said something.
    MessagePosted {
        /// The text, byte for byte.
        text: Box<str>,
    },
    /// The channel came to be. Its members follow as `MemberJoined` in the same record.
    ChannelCreated {
        /// What kind of channel.
        kind: ChannelKind,
        /// Its title.
        title: Box<str>,
        /// What those who join later may read.
        history: HistoryVisibility,
        /// Whether people may join by themselves.
        open: bool,
    },
    /// A person is now a member.
    MemberJoined {
        /// Who.
        user: UserId,
        /// As what.
        role: Role,
    },
    /// A person no longer is a member: reads nothing beyond this seq.
    MemberLeft {
        /// Who.
        user: UserId,
        /// Removed by the sender rather than gone by themselves.
        removed: bool,
    },
    /// A member's role is another.
    RoleChanged {
        /// Whose.
        user: UserId,
        /// The new one.
        role: Role,
    },
    /// In a personal channel: its person is a member of `channel` since `seq`.
    ChannelJoined {
        /// Of which channel.
        channel: ChannelId,
        /// Since which event of it.
        seq: ChannelSeq,
    },
    /// In a personal channel: its person no longer is a member of `channel` since `seq`.
    ChannelLeft {
        /// Of which channel.
        channel: ChannelId,
        /// Since which event of it.
        seq: ChannelSeq,
    },
}

impl EventKind {
    /// Whether it is a person's message, which moves the ordinal.
    pub const fn is_message(&self) -> bool {
        matches!(self, Self::MessagePosted { .. })
    }

    /// The person whose membership it changes, and the role they have after it.
    pub const fn membership(&self) -> Option<(UserId, Option<Role>)> {
        match self {
            Self::MemberJoined { user, role } | Self::RoleChanged { user, role } => Some((*user, Some(*role))),
            Self::MemberLeft { user, .. } => Some((*user, None)),
            _ => None,
        }
    }
}
