//! Limits of the simulation.

/// Bytes that a pipe holds in each direction: small, so that slow readers push back soon.
pub const PIPE_BYTES: usize = 16 * 1024;

/// Connections that wait to be accepted; more are refused.
pub const ACCEPT_QUEUE_MAX: usize = 64;
