//! The HTTP API: accounts, sign-in, profiles, channels, members and history, under `/api/v1`.
//!
//! Promises: every change of a channel is a command on the same way as a message, and is answered with its outcome; after a change
//! the answer waits until the store shows it, so that the next read is not stale; every refusal is a problem document with a stable
//! code (the same as on the socket); a flood is told when to come again (SHED).
//!
//! It does not decide what people may do in a channel, and keeps nothing in memory that matters.

pub mod limits;

mod channels;
mod passwords;
mod people;
mod problem;
mod request;
mod service;

pub use service::{Api, Config, Deps, Error};
