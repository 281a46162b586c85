//! What Hubbub decides: ids, commands, events, the decider of one partition, access rules and limits.
//!
//! Promises: everything here is pure. The same state and the same command give the same outcome on every machine,
//! so a log can be replayed for ever. Nothing in this crate reads a clock, does IO, draws randomness, awaits or
//! serialises; `schemas` says what these types look like outside the process.

pub mod command;
pub mod cursor;
pub mod decide;
pub mod event;
pub mod ids;
pub mod limits;
pub mod promise;
mod rules;
pub mod window;

pub use command::{Command, CommandBody, CommandPosition, ReplyAddress};
pub use cursor::{Judgement, LogCursor};
pub use decide::{Decision, Lookup, PartitionState};
pub use event::{Answer, Event, EventKind, Outcome, RejectCause, TimelineRecord, Verdict};
pub use ids::{
    ChannelId, ChannelSeq, ClientMsgId, Epoch, LogTime, MessageId, Ordinal, OwnerSeq, PartitionId, SessionId, UserId,
};
