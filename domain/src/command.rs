//! Commands: what people and services ask for. A request, lost at worst before its ack; never a fact.

use crate::ids::{ChannelId, ChannelSeq, ClientMsgId, UserId};

/// One request to change a channel's timeline. Exactly one log record answers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The channel whose order decides it.
    pub channel: ChannelId,
    /// Who asks. Authenticated by the gateway or api that wrote the command.
    pub sender: UserId,
    /// The sender's name for this command; the key of once-ness.
    pub id: ClientMsgId,
    /// The client says it has sent this before. Only ever adds a look-up (design §4 "Once").
    pub retry: bool,
    /// Where the outcome goes. `None`: nobody waits.
    pub reply: Option<ReplyAddress>,
    /// What is asked.
    pub body: CommandBody,
}

/// The connection or request that waits for an outcome, at the process that reads `chat.gateway.<process>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ReplyAddress {
    /// The process whose topic carries the outcome. Lower-case letters, digits and dashes, at most 64 bytes.
    pub process: Box<str>,
    /// The connection or waiter within that process; unique for the life of the process's epoch.
    pub connection: u64,
}

/// What a command asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandBody {
    /// A person's message. At most `limits::MESSAGE_BODY_BYTES_MAX` bytes, any UTF-8, may be empty.
    Post {
        /// The text, kept byte for byte.
        text: Box<str>,
    },
    /// Makes the channel. All its first members are in the same record.
    CreateChannel {
        /// What kind of channel.
        kind: ChannelKind,
        /// Its title; empty for direct channels.
        title: Box<str>,
        /// Who else is a member from the start. The sender is its owner and need not be named.
        members: Vec<UserId>,
        /// What those who join later may read.
        history: HistoryVisibility,
        /// Whether people may join by themselves.
        open: bool,
    },
    /// The sender joins an open group.
    Join,
    /// The sender leaves.
    Leave,
    /// An owner or admin adds people; those who are members already are passed over.
    AddMembers {
        /// Whom.
        users: Vec<UserId>,
    },
    /// An owner or admin removes a person.
    RemoveMember {
        /// Whom.
        user: UserId,
    },
    /// An owner gives a member a role.
    SetRole {
        /// Whom.
        user: UserId,
        /// Which.
        role: Role,
    },
    /// To a personal channel, derived by the fanout: the person is now a member of `channel`.
    ChannelJoined {
        /// Of which channel.
        channel: ChannelId,
        /// By which event of it.
        seq: ChannelSeq,
    },
    /// To a personal channel, derived by the fanout: the person no longer is a member of `channel`.
    ChannelLeft {
        /// Of which channel.
        channel: ChannelId,
        /// By which event of it.
        seq: ChannelSeq,
    },
}

impl CommandBody {
    /// Derived by the fanout from an event: skips the clock rule and is always looked up (design §4 "Once").
    pub const fn is_derived(&self) -> bool {
        matches!(self, Self::ChannelJoined { .. } | Self::ChannelLeft { .. })
    }
}

/// The kinds of channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChannelKind {
    /// Two people; id = [`ChannelId::direct`].
    Direct,
    /// Many people.
    Group,
    /// One person's own timeline; id = [`ChannelId::personal`]. Exists without being created.
    Personal,
}

/// What a member may read of the time before they joined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HistoryVisibility {
    /// Nothing before joining.
    #[default]
    FromJoining,
    /// Everything.
    FromStart,
}

/// What a member may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Reads and writes.
    Member,
    /// Also adds and removes members.
    Admin,
    /// Also gives roles. A group always keeps at least one.
    Owner,
}

/// A command's place in `chat.commands`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandPosition {
    /// The incarnation of the commands log: a restarted in-memory log or a recreated topic is a new one.
    pub incarnation: u64,
    /// The offset in its partition.
    pub offset: u64,
}
