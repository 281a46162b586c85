//! How roles use the log for chat: send a command and await its outcome; read valid events with progress.
//!
//! Promises: a reader returns only what the void rule has judged, and never moves past a valid record it cannot decode;
//! a command is written once per call, in call order per channel; who asks is told the outcome of exactly that command;
//! a process is routable only after its topic is visible and its position is known, and has a new epoch after any doubt.
//!
//! It does not decide, store or route anything.

pub mod ask;
pub mod assigned;
pub mod backoff;
pub mod commands;
pub mod dead_letters;
pub mod limits;
pub mod mailbox;
pub mod promise;
pub mod reader;
pub mod server_time;
pub mod topics;

pub use ask::{AskError, Asker};
pub use assigned::Assigned;
pub use backoff::Backoff;
pub use commands::Commands;
pub use mailbox::{Mailbox, MailboxEvent, Process, ProcessConfig};
pub use reader::{Read, TimelineReader, What};
pub use server_time::ServerTime;
pub use topics::Topology;
