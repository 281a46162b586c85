//! Limits of the sequencer.

use std::time::Duration;

/// Outcomes in one append. A batch that waits longer than this takes to decide would only add latency.
pub const APPEND_RECORDS_MAX: usize = 512;

/// Bytes of values in one append; a log takes about a mebibyte at once.
pub const APPEND_BYTES_MAX: usize = 768 * 1024;

/// Own records that are appended but not read back. At the limit no commands are taken; the commands log holds them.
pub const UNLANDED_RECORDS_MAX: usize = 16 * 1024;

/// Bytes of own records that are appended but not read back. At the limit no commands are taken.
pub const UNLANDED_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Commands that wait for the store, over all channels of a partition. At the limit no commands are taken.
pub const PARKED_COMMANDS_MAX: usize = 4_096;

/// Bytes of commands that wait for the store. At the limit no commands are taken.
pub const PARKED_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Commands taken above the oldest undecided one: bounds what cursors hold as decided above `low`. At the limit none are taken.
pub const LOW_TRAILS_BY_MAX: u64 = 16 * 1024;

/// Heads, and ids, in one read of the store. The rest waits for the next read.
pub const LOAD_BATCH_MAX: usize = 256;

/// How long an own record may take from the append until it is read back. Then ownership is in doubt: step down, claim again.
pub const LANDED_WITHIN: Duration = Duration::from_secs(10);

/// How often the owner asks the store for the writer's progress, forgets what it has passed, and looks at its deadline.
pub const TICK: Duration = Duration::from_secs(1);

/// How long the owner waits before it appends again what a full queue of the log gave back.
pub const APPEND_AGAIN_AFTER: Duration = Duration::from_millis(5);

/// How long a partition waits, the first time, before it is claimed again.
pub const CLAIM_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// The most that [`CLAIM_AGAIN_AFTER`] grows to: a partition stays unowned at most so much longer than the fault lasts.
pub const CLAIM_AGAIN_AFTER_MAX: Duration = Duration::from_secs(5);

/// How long the store's reads wait after a failure, the first time, and at most.
pub const LOAD_AGAIN_AFTER: Duration = Duration::from_millis(20);

/// See [`LOAD_AGAIN_AFTER`].
pub const LOAD_AGAIN_AFTER_MAX: Duration = Duration::from_secs(2);

const _: () = assert!(APPEND_RECORDS_MAX <= UNLANDED_RECORDS_MAX, "an append fits the bound of what is under way");
const _: () = assert!(APPEND_BYTES_MAX <= UNLANDED_BYTES_MAX, "an append fits the bound of what is under way");
const _: () =
    assert!(PARKED_COMMANDS_MAX as u64 <= LOW_TRAILS_BY_MAX, "parked commands alone never reach the trail's bound");
const _: () = assert!(TICK.as_millis() * 2 < LANDED_WITHIN.as_millis(), "the deadline is looked at often enough");
