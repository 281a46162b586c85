//! Limits of the simulation.

/// Bytes that a pipe holds in each direction: small, so that slow readers push back soon.
pub const PIPE_BYTES: usize = 16 * 1024;

/// Connections that wait to be accepted; more are refused.
pub const ACCEPT_QUEUE_MAX: usize = 64;

/// The fewest actions of a run.
pub const ACTIONS_MIN: u64 = 30;

/// The most actions of a run: enough that a crash, a recovery and a second crash fit.
pub const ACTIONS_MAX: u64 = 150;

/// Time to make the rooms and connect before the actions begin, seconds.
pub const STARTUP_S: u64 = 5;

/// Time after the last fault before the auditor judges, seconds: TAIL's 30 and time to reconnect.
pub const QUIESCE_S: u64 = 60;
