//! From a valid outcome to the rows it leaves in the store, and the rows that wait for the store.

use crate::limits::{PENDING_ROWS_MAX, PENDING_TEXT_BYTES_MAX};
use domain::{EventKind, LogCursor, Outcome, PartitionId, Verdict};
use store::{TimelineRow, WriteBatch};

/// Rows that wait, and the cursor that they reach.
#[derive(Debug)]
pub(crate) struct Pending {
    rows: Vec<TimelineRow>,
    text_bytes: usize,
    /// All valid records below it are applied, being applied, or in `rows`.
    pub(crate) cursor: LogCursor,
}

impl Pending {
    /// Nothing waits above this cursor.
    pub(crate) fn above(cursor: LogCursor) -> Self {
        Self { rows: Vec::new(), text_bytes: 0, cursor }
    }

    /// Adds the events of a valid outcome. One that changed nothing leaves no row: its trace is in the cursor.
    pub(crate) fn add(&mut self, outcome: Outcome, offset: u64) {
        let Verdict::Accepted(events) = outcome.verdict else { return };
        for (i, event) in events.into_iter().enumerate() {
            if let EventKind::MessagePosted { text } = &event.kind {
                self.text_bytes += text.len();
            }
            self.rows.push(TimelineRow {
                channel: outcome.channel,
                sender: outcome.sender,
                client_msg_id: outcome.id,
                time: outcome.time,
                offset,
                first_of_command: i == 0,
                digest: outcome.digest,
                event,
            });
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.rows.len() >= PENDING_ROWS_MAX || self.text_bytes >= PENDING_TEXT_BYTES_MAX
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Takes the rows that have gathered.
    pub(crate) fn take(&mut self, partition: PartitionId) -> WriteBatch {
        self.text_bytes = 0;
        WriteBatch { partition, rows: std::mem::take(&mut self.rows) }
    }
}
