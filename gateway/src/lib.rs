//! Holds people's sockets: authenticates them, takes their commands, and passes events to them.
//!
//! Promises: an ack is the sender's own copy of an event that the log has (DUR); a socket sees each event at most once and, as far
//! as the log's order reaches it, in the order of seq (ORD); what it may have missed is revealed by a digest or a `resync` (TAIL);
//! nothing is passed on beyond the seq at which a person was removed (VIS); a slow, silent or hostile client costs a bounded
//! amount and slows nobody else (SHED).
//!
//! It does not decide anything: it never judges membership of a send, never numbers anything, and keeps nothing that a
//! reconnect would not bring back.
//!
//! ```text
//!   upgrade ─▶ connection (one task a socket) ──── send ───▶ chat.commands
//!                 ▲ link: outbox, orders
//!                 │
//!   deliveries ───┤ hub: user → links                ◀─── chat.gateway.<id>
//!   sweep ────────┘ silence, digests, write time-outs
//! ```

pub mod limits;

mod connection;
mod deliveries;
mod frame;
mod gateway;
mod handshake;
mod hub;
mod link;
mod sessions;
mod socket;
mod sweep;
mod work;

pub use gateway::{Config, Deps, Error, Gateway, Origins};
pub use socket::Duplex;
