//! Every bound of the embedded log, and what happens there.

use std::time::Duration;

/// Appends wait in memory for the commit thread up to this per topic: a second of the fastest disk measured. Above it
/// an append is given back with [`eventlog::ErrorKind::Unavailable`].
pub(crate) const QUEUE_BYTES_MAX: usize = 64 << 20;

/// As above, by number of appends, so that a flood of tiny ones is bounded too.
pub(crate) const QUEUE_APPENDS_MAX: usize = 262_144;

/// What one commit takes from the queue: bounds the write buffer and the time until its sync.
pub(crate) const COMMIT_BYTES_MAX: usize = 8 << 20;

/// Records gather in a frame up to this; a reader gets one frame at a time ("at most about a mebibyte").
pub(crate) const FRAME_RECORDS_BYTES_MAX: usize = 512 << 10;

/// As above, by number of records.
pub(crate) const FRAME_RECORDS_MAX: usize = 4_096;

/// The largest `record_bytes_max` a topic may have; with it goes the largest frame that recovery believes.
pub(crate) const RECORD_BYTES_MAX: usize = 16 << 20;

/// The largest frame: one largest record above a nearly full frame, and its headers.
pub(crate) const FRAME_BYTES_MAX: usize = RECORD_BYTES_MAX * 2;

/// The most partitions of a topic (design §3).
pub(crate) const PARTITIONS_MAX: u32 = 1_024;

/// A topic starts with a segment this small, so that a fresh start is instant; each next one is four times as large ...
pub(crate) const SEGMENT_BYTES_FIRST: u64 = 256 << 10;

/// ... up to this.
pub(crate) const SEGMENT_BYTES_MAX: u64 = 64 << 20;

/// The newest records kept in memory, per durable topic; older ones are read from disk.
pub(crate) const TAIL_BYTES_MAX: usize = 32 << 20;

/// What a record in memory costs beyond its bytes: its places in the batch and in the allocator.
pub(crate) const RECORD_OVERHEAD_BYTES: usize = 160;

/// A reader of small batches in memory gets up to this many records at once.
pub(crate) const MERGE_RECORDS_MAX: usize = 512;

/// A batch of at least this many records is passed on as it is.
pub(crate) const MERGE_BELOW_RECORDS: usize = 32;

/// How much is read from disk at once.
pub(crate) const READ_BYTES: usize = 512 << 10;

/// The index has a mark for a partition at most this often.
pub(crate) const INDEX_EVERY_BYTES: u64 = 256 << 10;

/// Indexes of older segments kept in memory per topic; others are made again by one pass over the segment.
pub(crate) const INDEXES_MAX: usize = 4;

/// Metadata of a committed offset (seam).
pub(crate) const METADATA_BYTES_MAX: usize = 1_024;

/// How often checkpoints and committed offsets are written and expired records dropped.
pub(crate) const HOUSEKEEPING_EVERY: Duration = Duration::from_secs(1);

/// A topic whose disk failed tries a new segment this often.
pub(crate) const HEAL_EVERY: Duration = Duration::from_millis(500);

/// How long a tombstone outlives what it ended, so that readers a day behind still see it.
pub(crate) const TOMBSTONE_KEPT: Duration = Duration::from_hours(24);

/// Compaction of a topic starts when it has this many sealed segments that were not compacted yet.
pub(crate) const COMPACT_AFTER_SEGMENTS: usize = 4;

const _: () = assert!(COMMIT_BYTES_MAX < QUEUE_BYTES_MAX && FRAME_RECORDS_BYTES_MAX < COMMIT_BYTES_MAX);
const _: () = assert!(FRAME_BYTES_MAX as u64 <= SEGMENT_BYTES_MAX, "every frame fits a segment");
