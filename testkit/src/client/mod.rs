//! A client of the socket protocol that keeps the client rules and records what it does and sees for the auditor.
//!
//! The rules: one contiguous cursor a channel; dedupe by seq; a hole is asked for as history; the outbox sends the same id
//! again, with the retry flag; reconnects wait with jitter; digests are compared; `resync` and `goaway` are obeyed.
//! [`ClientCore`] is the rules without IO, [`Client`] drives it over any byte stream that a [`Dial`] opens.

mod core;
pub mod limits;
mod parse;
mod socket;
#[cfg(test)]
mod tests;

pub use core::{BrokenRule, ClientCore, Effect, SendEnd, Start};
pub use parse::{ParseError, parse_channel, parse_event};
pub use socket::{ByteStream, Client, Dial, Recorder, TcpDial};
