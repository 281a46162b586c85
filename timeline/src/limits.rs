//! Limits of how roles use the log.

use std::time::Duration;

/// How often a process with a topic says that it lives.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);

/// How long a process counts as alive after its last heartbeat. Several lost heartbeats fit in.
pub const LEASE: Duration = Duration::from_secs(10);

/// Commands of one [`crate::Asker`] that wait for an outcome at once. Further ones wait for a place.
pub const ASKS_PENDING_MAX: usize = 4_096;

/// How long an asker waits before it sends the same command again.
pub const ASK_RESEND_AFTER: Duration = Duration::from_secs(2);

/// How long a role waits, the first time, before it joins its group again.
pub const REJOIN_AFTER: Duration = Duration::from_millis(50);

/// The most that [`REJOIN_AFTER`] grows to: a partition is without an owner at most so much longer than the fault lasts.
pub const REJOIN_AFTER_MAX: Duration = Duration::from_secs(2);

const _: () = assert!(HEARTBEAT_INTERVAL.as_millis() * 3 < LEASE.as_millis(), "a lease survives a few lost heartbeats");
