//! What is routed but not resolved, in the order of the log: the first unresolved batch holds the commit back.

use crate::directory::{ProcessIndex, Table};
use crate::limits::BATCHES_PENDING_MAX;
use domain::LogCursor;
use eventlog::LogOffset;
use std::collections::VecDeque;

/// Batches in the order of the log.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    batches: VecDeque<Batch>,
    next: u64,
}

/// One routed batch.
#[derive(Debug)]
pub(crate) struct Batch {
    number: u64,
    /// The position after it.
    cursor: LogCursor,
    /// Where its deliveries went: the last offset per process.
    delivered: Vec<(ProcessIndex, u64, LogOffset)>,
    /// Appends and derived commands that have no outcome yet.
    outstanding: usize,
}

impl Pending {
    /// A batch was routed up to `cursor`; returns its number. `outstanding` outcomes will be told to [`Pending::settled`].
    pub(crate) fn push(&mut self, cursor: LogCursor) -> u64 {
        if self.batches.len() >= BATCHES_PENDING_MAX
            && let Some(newest) = self.batches.back_mut()
        {
            newest.cursor = cursor;
            return newest.number;
        }
        let number = self.next;
        self.next += 1;
        self.batches.push_back(Batch { number, cursor, delivered: Vec::new(), outstanding: 0 });
        number
    }

    /// Something of the batch has yet to get an outcome.
    pub(crate) fn expect(&mut self, number: u64) {
        if let Some(batch) = self.batch(number) {
            batch.outstanding += 1;
        }
    }

    /// It got its outcome.
    pub(crate) fn settled(&mut self, number: u64) {
        if let Some(batch) = self.batch(number) {
            batch.outstanding -= 1;
        }
    }

    /// The batch's deliveries to a process end at this offset.
    pub(crate) fn delivered(&mut self, number: u64, process: ProcessIndex, epoch: u64, last: LogOffset) {
        let Some(batch) = self.batch(number) else { return };
        match batch.delivered.iter_mut().find(|entry| entry.0 == process && entry.1 == epoch) {
            Some(entry) => entry.2 = entry.2.max(last),
            None => batch.delivered.push((process, epoch, last)),
        }
    }

    /// Takes the resolved batches off the front; the position after the last of them, if any.
    pub(crate) fn resolve(&mut self, table: &Table) -> Option<LogCursor> {
        let mut resolved = None;
        while let Some(batch) = self.batches.front() {
            let done = batch.outstanding == 0
                && batch
                    .delivered
                    .iter()
                    .all(|(process, epoch, last)| table.process(*process).has_resolved(*epoch, *last));
            if !done {
                break;
            }
            resolved = self.batches.pop_front().map(|batch| batch.cursor);
        }
        resolved
    }

    fn batch(&mut self, number: u64) -> Option<&mut Batch> {
        let first = self.batches.front()?.number;
        self.batches.get_mut(number.checked_sub(first)? as usize)
    }
}
