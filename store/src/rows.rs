//! What goes into the store and comes out of it.

use domain::command::Role;
use domain::{ChannelId, ChannelSeq, ClientMsgId, Event, LogCursor, LogTime, Ordinal, PartitionId, UserId};
use std::sync::Arc;
use uuid::Uuid;

/// Valid events of one partition, in log order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteBatch {
    /// The partition.
    pub partition: PartitionId,
    /// The events.
    pub rows: Vec<TimelineRow>,
}

/// One event on its way into the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimelineRow {
    /// Its channel.
    pub channel: ChannelId,
    /// Whose command it came from.
    pub sender: UserId,
    /// The command's id.
    pub client_msg_id: ClientMsgId,
    /// T of the record.
    pub time: LogTime,
    /// The record's offset in its partition.
    pub offset: u64,
    /// Whether it is the first event of its record: that seq answers retries of the command.
    pub first_of_command: bool,
    /// The outcome's digest, which tells a retry from a conflict; meaningful where `first_of_command`.
    pub digest: u64,
    /// The event.
    pub event: Event,
}

/// One event as the store has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its channel.
    pub channel: ChannelId,
    /// Whose command it came from.
    pub sender: UserId,
    /// The command's id.
    pub client_msg_id: ClientMsgId,
    /// T of the record.
    pub time: LogTime,
    /// The event.
    pub event: Event,
}

/// The answer for a known client_msg_id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownId {
    /// The original's first seq.
    pub seq: ChannelSeq,
    /// The original's body digest.
    pub digest: u64,
}

/// How far the writer is: a cursor with all that a reader or a new owner needs to go on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProgressCursor {
    /// Offset, epoch, n, T, last id, low and what is decided above it.
    pub cursor: LogCursor,
}

/// Which page of a timeline.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PageQuery {
    /// Of which channel.
    pub channel: ChannelId,
    /// The window of seqs, both ends included.
    pub first: ChannelSeq,
    /// See `first`.
    pub last: ChannelSeq,
    /// The most events; the page has the oldest of the window, or with `newest_first` the newest.
    pub limit: usize,
    /// Which end of the window counts when `limit` cuts. The page is in the order of seq either way.
    pub newest_first: bool,
}

/// A page of a timeline, in the order of seq. Shared, since identical concurrent reads are one read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The events.
    pub events: Arc<[StoredEvent]>,
}

/// The end of a channel's timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelSummary {
    /// The channel.
    pub channel: ChannelId,
    /// The seq of its last event.
    pub seq: ChannelSeq,
    /// The number of people's messages.
    pub ordinal: Ordinal,
    /// The seq of its last membership change.
    pub members_version: ChannelSeq,
    /// What kind of channel.
    pub kind: domain::command::ChannelKind,
    /// Its title.
    pub title: String,
    /// What those who join later may read.
    pub history: domain::command::HistoryVisibility,
    /// T of its last event.
    pub last_time: LogTime,
}

/// A person's stay in a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberRow {
    /// Who.
    pub user: UserId,
    /// The role, the last one if they have left.
    pub role: Role,
    /// The seq they joined with.
    pub joined: ChannelSeq,
    /// The seq they left with.
    pub left: Option<ChannelSeq>,
}

/// A channel of a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MembershipRow {
    /// Which.
    pub channel: ChannelId,
    /// The seq of the (last) joining.
    pub joined: ChannelSeq,
    /// The seq of leaving; `None`: a member.
    pub left: Option<ChannelSeq>,
}

/// An account to create.
#[derive(Clone, Debug)]
pub struct NewAccount {
    /// Its id.
    pub user: UserId,
    /// Unique; checked and normalised by the caller.
    pub username: String,
    /// What people see.
    pub display_name: String,
    /// PHC string; `None`: no password sign-in.
    pub password_hash: Option<String>,
    /// When.
    pub created_ms: u64,
}

/// An account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its id.
    pub user: UserId,
    /// Unique.
    pub username: String,
    /// What people see.
    pub display_name: String,
    /// When it was made, ms since the Unix epoch.
    pub created_ms: u64,
}

/// An authenticated device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignIn {
    /// Its id, in every token that follows from it.
    pub id: Uuid,
    /// Whose.
    pub user: UserId,
    /// When, ms since the Unix epoch.
    pub created_ms: u64,
    /// Revoked since, ms since the Unix epoch.
    pub revoked_ms: Option<u64>,
}
