//! Records and positions.

use bytes::Bytes;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// A position in one partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogOffset(pub u64);

impl LogOffset {
    /// The one that follows.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for LogOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// When the log took a batch: milliseconds since the Unix epoch by the log's clock. May step back (design §3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppendTime(pub u64);

/// One record to append. `value: None` is a tombstone, which only compacted topics take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// The record key; decides the partition where the caller lets [`crate::partition_for_key`] choose, and compaction.
    pub key: Bytes,
    /// The value.
    pub value: Option<Bytes>,
    /// Headers. CloudEvents headers are not here: they follow from the value and are added where records leave Hubbub
    /// (`schemas::cloud_events`), so the embedded log does not store them.
    pub headers: Vec<Header>,
}

impl Record {
    /// A record without headers.
    pub fn new(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self { key: key.into(), value: Some(value.into()), headers: Vec::new() }
    }

    /// Ends a key's life in a compacted topic.
    pub fn tombstone(key: impl Into<Bytes>) -> Self {
        Self { key: key.into(), value: None, headers: Vec::new() }
    }

    /// Bytes that count against limits: key, value, headers.
    pub fn size_bytes(&self) -> usize {
        let headers: usize = self.headers.iter().map(|h| h.name.len() + h.value.len()).sum();
        self.key.len() + self.value.as_ref().map_or(0, Bytes::len) + headers
    }
}

/// A header of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its name.
    pub name: Bytes,
    /// Its value.
    pub value: Bytes,
}

/// A record as the log has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRecord {
    /// Its place.
    pub offset: LogOffset,
    /// When it was taken.
    pub time: AppendTime,
    /// What was appended.
    pub record: Record,
}

/// Records of one partition in the order of their offsets, shared by all who read them.
#[derive(Clone, Debug)]
pub struct RecordBatch {
    records: Arc<[StoredRecord]>,
    range: Range<usize>,
}

impl RecordBatch {
    /// A part of shared records.
    pub fn new(records: Arc<[StoredRecord]>, range: Range<usize>) -> Self {
        debug_assert!(range.end <= records.len() && !range.is_empty(), "a batch holds at least one record");
        Self { records, range }
    }
}

impl std::ops::Deref for RecordBatch {
    type Target = [StoredRecord];

    fn deref(&self) -> &[StoredRecord] {
        &self.records[self.range.clone()]
    }
}

impl From<Vec<StoredRecord>> for RecordBatch {
    fn from(records: Vec<StoredRecord>) -> Self {
        let range = 0..records.len();
        Self::new(records.into(), range)
    }
}
