//! Limits of the fanout.

use std::time::Duration;

/// Members of all channels remembered by one partition, 16 bytes each. Above it the channel used longest ago is forgotten
/// and read from the store when it speaks again.
pub const MEMBERS_CACHED_MAX: usize = 1_000_000;

/// Batches whose deliveries are not yet resolved. Above it the newest are merged: commits get coarser, memory stays bounded.
pub const BATCHES_PENDING_MAX: usize = 1_024;

/// Derived commands that wait for a place. Above it no further events are read until some are answered.
pub const DERIVED_WAITING_MAX: usize = 20_000;

/// Derived commands asked at once by one partition.
pub const DERIVED_ASKED_MAX: usize = 256;

/// Commits on their way to the group. A full queue skips one: the next says more.
pub const COMMITS_QUEUED_MAX: usize = 1_024;

/// Channels whose members are read from the store at once.
pub const LOADS_AT_ONCE_MAX: usize = 64;

/// Signals routed of one batch; the rest of it is dropped, as signals may be.
pub const SIGNALS_PER_BATCH_MAX: usize = 512;

/// How often resolved events are committed and the writer's progress is asked.
pub const COMMIT_INTERVAL: Duration = Duration::from_millis(500);
