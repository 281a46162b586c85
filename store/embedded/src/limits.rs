//! Limits of the embedded store, each with its reason and what happens there.

/// Writes that wait for a writer thread. A batch is up to some thousand events, so this is seconds of work; a caller waits
/// for room.
pub const WRITE_QUEUE_JOBS_MAX: usize = 1_024;

/// Rows that share one transaction. Beyond a few thousand the cost of a row falls no further while the wait of the first one
/// grows; what has gathered above it goes into the next transaction.
pub const GROUP_ROWS_MAX: usize = 8_192;

/// Reads that wait for a reader thread; a caller waits for room.
pub const READ_QUEUE_JOBS_MAX: usize = 1_024;

/// Numbers of channels that the writer remembers, about 100 bytes each; beyond them one indexed read a channel and batch.
pub const CHANNEL_NUMBERS_CACHED_MAX: usize = 65_536;

/// Trails of progress that the writer remembers: as many as there can be partitions.
pub const TRAILS_CACHED_MAX: usize = 1_024;

/// Pages kept after their read for identical ones that follow before the channel changes.
pub const PAGES_KEPT_MAX: usize = 64;

/// The largest page that is kept, in bytes of text: a bound of 4 MiB for all.
pub const KEPT_PAGE_BYTES_MAX: usize = 64 * 1024;

/// Pages in the write-ahead log from which on it is copied back: 16 MiB at 4 KiB. More would copy a page that is written
/// often more rarely, but a log file that stays small stays in the page cache and costs less (measured: 16 beats 64 MiB).
pub const WAL_PAGES_BEFORE_CHECKPOINT: u64 = 4_096;

/// Pages that the writer thread copies back itself to let the write-ahead log start again; more than that is
/// left to the checkpoint thread, so that writes wait for milliseconds at most.
pub const WAL_PAGES_BY_WRITER_MAX: u64 = 1_024;

/// How often the checkpoint thread copies before the writer copies the rest, however much it is: the second copy has only
/// what was written during the first.
pub const COPIES_IN_A_ROW_MAX: u32 = 2;

/// Rows after which the writer looks at the length of the write-ahead log.
pub const ROWS_BETWEEN_WAL_LOOKS: usize = 2_048;

/// The size to which a write-ahead log file shrinks when it starts again after a peak.
pub const WAL_FILE_BYTES_KEPT: u64 = 128 * 1024 * 1024;

/// Expired client ids deleted after one transaction: more than a transaction's share of new ones at a steady rate,
/// little enough to take a millisecond.
pub const EXPIRED_IDS_DELETED_AT_ONCE: usize = 512;

/// How long SQLite retries a lock that another connection holds for a moment, in ms.
pub const BUSY_TIMEOUT_MS: u64 = 5_000;

/// The highest number of a channel: 31 bits of the key of an event.
pub const CHANNEL_NUMBER_MAX: i64 = (1 << 31) - 1;

/// The highest seq of a channel: 32 bits of the key of an event. Two years at 68 events a second in one channel.
pub const CHANNEL_SEQ_MAX: u64 = (1 << 32) - 1;

const _: () = assert!(WAL_PAGES_BY_WRITER_MAX < WAL_PAGES_BEFORE_CHECKPOINT, "the checkpoint thread does the bulk");
