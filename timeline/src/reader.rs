//! Reads one partition of `chat.messages` and judges every record by the void rule.

use bytes::Bytes;
use domain::{Judgement, LogCursor, PartitionId, TimelineRecord};
use eventlog::{AppendTime, Error, ErrorKind, LogOffset, PartitionReader, SharedLog, Topic};
use schemas::records::{DecodeError, decode_timeline};

/// A judged position in a partition of the timelines.
#[derive(Debug)]
pub struct TimelineReader {
    reader: Box<dyn PartitionReader>,
    cursor: LogCursor,
}

/// One record, judged.
#[derive(Debug)]
pub struct Read {
    /// Its offset.
    pub offset: u64,
    /// When the log took it.
    pub time: AppendTime,
    /// Its key.
    pub key: Bytes,
    /// Its value as it stands in the log.
    pub value: Bytes,
    /// What it is.
    pub what: What,
}

/// What a record is to a reader.
#[derive(Debug)]
pub enum What {
    /// It counts.
    Valid(TimelineRecord),
    /// It never happened. `unclaimed`: its epoch is above every valid claim, so somebody writes without one.
    Void {
        /// What it would have been.
        record: TimelineRecord,
        /// See above.
        unclaimed: bool,
    },
    /// Not a record of ours, or not one that this version reads. The cursor has passed it without judging: the caller
    /// decides between dead letters (foreign) and stopping (ours, but unreadable) by [`DecodeError::is_foreign`].
    Unreadable(DecodeError),
}

impl TimelineReader {
    /// Reads on from a cursor. [`ErrorKind::Damaged`] if the log no longer has that position: nobody starts reading at an
    /// offset without its epoch and n.
    pub async fn open(log: &SharedLog, partition: PartitionId, cursor: LogCursor) -> Result<Self, Error> {
        let source = Topic::new(schemas::topics::MESSAGES).partition(u32::from(partition.0));
        let bounds = log.bounds(&source).await?;
        if bounds.start.0 > cursor.offset || bounds.end.0 < cursor.offset {
            return Err(Error::new(
                ErrorKind::Damaged,
                format!(
                    "{source} holds offsets {} to {}, but the progress in the store says {}: the log and the store are not of one \
                     piece; restore both from one backup, or rebuild the store",
                    bounds.start, bounds.end, cursor.offset
                ),
            ));
        }
        let reader = log.read(&source, LogOffset(cursor.offset)).await?;
        Ok(Self { reader, cursor })
    }

    /// The next records, at least one; waits for it. Cancel-safe.
    pub async fn next(&mut self) -> Result<Vec<Read>, Error> {
        let batch = self.reader.next().await?;
        let mut reads = Vec::with_capacity(batch.len());
        for stored in batch.iter() {
            let value = stored.record.value.clone().unwrap_or_default();
            let what = match decode_timeline(&value) {
                Err(error) => {
                    self.cursor.offset = stored.offset.0 + 1;
                    What::Unreadable(error)
                }
                Ok(record) => match self.cursor.accept(stored.offset.0, &record) {
                    Judgement::Valid => What::Valid(record),
                    Judgement::Void => What::Void { record, unclaimed: false },
                    Judgement::VoidOfHigherEpoch => What::Void { record, unclaimed: true },
                },
            };
            reads.push(Read {
                offset: stored.offset.0,
                time: stored.time,
                key: stored.record.key.clone(),
                value,
                what,
            });
        }
        Ok(reads)
    }

    /// What is known of the valid log below the next record.
    pub fn cursor(&self) -> &LogCursor {
        &self.cursor
    }
}
