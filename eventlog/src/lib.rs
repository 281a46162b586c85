//! The log seam: durable, ordered, partitioned records, and who reads which partition.
//!
//! Promises:
//!
//! - **Order.** Records of one partition have dense-enough rising offsets; the order of [`EventLog::append`] calls on one
//!   partition by one process is the order of offsets. A batch is contiguous.
//! - **Durability.** `Ok` from an append to a durable topic means that a kill -9 or power cut loses none of its records.
//!   An error or no answer means *unknown*: all, a prefix or none of the batch may appear, later than the error, but never
//!   twice and never out of order among themselves. An in-memory topic keeps records until the process ends.
//! - **Reading.** Readers see a record only when it is durable, all see the same records, and never one less after more.
//! - **Groups** share partitions out; they fence nobody (design §4).
//!
//! It does not: decode, judge validity, retry, or decide anything.
//!
//! ```text
//!        start                               end
//!          │                                  │
//!   ┄┄┄┄┄┄┄[ 17 ][ 18 ][ 19 ]┄┄┄┄[ 41 ][ 42 ] ┄┄┄ in flight ┄┄┄
//!   removed by                    last durable    enqueued, invisible
//!   retention                     = visible
//! ```

mod error;
mod partition;
mod record;
mod topic;

pub use error::{AppendError, Error, ErrorKind};
pub use partition::partition_for_key;
pub use record::{AppendTime, Header, LogOffset, Record, RecordBatch, StoredRecord};
pub use topic::{Cleanup, Durability, Topic, TopicDescription, TopicPartition, TopicSpec};

use futures_util::future::BoxFuture;
use std::fmt::Debug;
use std::sync::Arc;

/// The shared handle of a log, as roles hold it.
pub type SharedLog = Arc<dyn EventLog>;

/// A log of partitioned topics. See the crate's documentation for what it promises.
pub trait EventLog: Send + Sync + Debug + 'static {
    /// Creates the topic, or, if it exists, compares it: an existing topic with other properties is
    /// [`ErrorKind::Mismatch`]. Idempotent; visible to every call of this process when it returns.
    fn create_topic<'a>(&'a self, spec: &'a TopicSpec) -> BoxFuture<'a, Result<TopicDescription, Error>>;

    /// Removes the topic and its records for good. Absent: `Ok`. Its readers and appends get [`ErrorKind::UnknownTopic`].
    fn delete_topic<'a>(&'a self, topic: &'a Topic) -> BoxFuture<'a, Result<(), Error>>;

    /// What the topic is; `None` if there is none.
    fn describe<'a>(&'a self, topic: &'a Topic) -> BoxFuture<'a, Result<Option<TopicDescription>, Error>>;

    /// Enqueues records at the end of a partition, at once and without blocking, in the order of the calls. The future
    /// resolves when they are durable; dropping it cancels nothing. A full queue gives the records back.
    fn append(&self, to: &TopicPartition, records: Vec<Record>) -> Result<Append, AppendError>;

    /// Reads a partition from an offset on. An offset below the start reads from the start (the caller compares); above
    /// the end it waits for that offset. Never sees a record that is not durable.
    fn read<'a>(
        &'a self,
        from: &'a TopicPartition,
        offset: LogOffset,
    ) -> BoxFuture<'a, Result<Box<dyn PartitionReader>, Error>>;

    /// The first offset still kept, and the one after the last visible record.
    fn bounds<'a>(&'a self, of: &'a TopicPartition) -> BoxFuture<'a, Result<Bounds, Error>>;

    /// The first offset whose append time is at or above `time`; the end if there is none. Approximate where append times
    /// step back (design §3).
    fn offset_at<'a>(&'a self, of: &'a TopicPartition, time: AppendTime) -> BoxFuture<'a, Result<LogOffset, Error>>;

    /// Joins a consumer group for the partitions of one topic. Dropping the membership leaves.
    fn join<'a>(&'a self, group: &'a str, topic: &'a Topic) -> BoxFuture<'a, Result<Box<dyn Membership>, Error>>;

    /// Waits until all that was enqueued has an outcome. For shutdown.
    fn flush(&self) -> BoxFuture<'_, Result<(), Error>>;
}

/// The outcome of an append: resolves when the records are durable.
pub type Append = BoxFuture<'static, Result<Appended, Error>>;

/// Where records have landed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The offset of the first record; the batch is contiguous.
    pub first: LogOffset,
    /// The append time of the batch.
    pub time: AppendTime,
}

/// What a partition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The first offset still kept.
    pub start: LogOffset,
    /// The offset after the last visible record.
    pub end: LogOffset,
}

/// A position in one partition, moving forward.
pub trait PartitionReader: Send + Debug {
    /// The next records: at least one, waiting for it; at most about a mebibyte. Cancel-safe: a dropped call has not
    /// moved the position.
    fn next(&mut self) -> BoxFuture<'_, Result<RecordBatch, Error>>;

    /// The offset that `next` reads from.
    fn position(&self) -> LogOffset;
}

/// One member's part of a consumer group.
pub trait Membership: Send + Sync + Debug {
    /// The next change of what this member reads. Cancel-safe. The first is the first assignment.
    fn next_change(&mut self) -> BoxFuture<'_, Result<AssignmentChange, Error>>;

    /// Remembers, durably if the topic is, where the group goes on in a partition. `metadata` (≤ 1 KiB) comes back with
    /// it: an offset alone is never enough to start reading (design §4). [`ErrorKind::NotAssigned`] if the partition is another's.
    fn commit<'a>(&'a self, partition: u32, offset: LogOffset, metadata: &'a str) -> BoxFuture<'a, Result<(), Error>>;

    /// What was committed last, by whichever member.
    fn committed(&self, partition: u32) -> BoxFuture<'_, Result<Option<Committed>, Error>>;
}

/// A change of a member's assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AssignmentChange {
    /// These partitions are now this member's too.
    Gained(Vec<u32>),
    /// These no longer are; what was in hand for them must not be committed.
    Lost(Vec<u32>),
}

/// Where a group goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The next offset to process.
    pub offset: LogOffset,
    /// What was given with it.
    pub metadata: String,
}
