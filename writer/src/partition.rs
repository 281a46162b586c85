//! One partition on its way into the store.

use crate::Deps;
use crate::limits::{APPLY_INTERVAL, PROGRESS_INTERVAL, RETRY_AFTER, RETRY_AFTER_MAX, STOP_WITHIN};
use crate::rows::Pending;
use domain::{LogCursor, PartitionId, TimelineRecord};
use eventlog::{LogOffset, Record, SharedLog, StoredRecord, Topic, TopicPartition};
use futures_util::future::BoxFuture;
use metrics::Counter;
use runtime::Shutdown;
use runtime::health::Component;
use schemas::records::DecodeError;
use std::sync::Arc;
use store::{ProgressCursor, Projections, WriteBatch};
use timeline::{Backoff, Read, TimelineReader, What};
use tokio::time::{Instant, sleep_until, timeout};

/// Writes one partition until the stop, whatever fails.
pub(crate) async fn write(partition: PartitionId, deps: &Deps, stop: &Shutdown) {
    let health = deps.health.component(format!("writer/{partition}"));
    let mut backoff = Backoff::new(Arc::clone(&deps.entropy), RETRY_AFTER, RETRY_AFTER_MAX);
    loop {
        let failure = match stop.or_until(Follower::open(partition, deps, &health)).await {
            None => break,
            Some(Err(failure)) => failure,
            Some(Ok(mut opened)) => {
                backoff.reset();
                health.ready();
                match opened.follow(stop).await {
                    Ok(()) => break,
                    Err(failure) => failure,
                }
            }
        };
        failure.report(partition, &health);
        if stop.or_until(backoff.wait()).await.is_none() {
            break;
        }
    }
    // Another member's now, or nobody's: no reason for this process to be unready.
    health.ready();
}

/// Why a partition stops for a while.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the store can't tell the progress")]
    Progress(#[source] store::Error),
    #[error("the log can't be read")]
    Log(#[from] eventlog::Error),
    #[error("the record at offset {offset} counts but can't be read by this version: the partition stops before it")]
    Unreadable { offset: u64, source: DecodeError },
}

impl Failure {
    fn report(&self, partition: PartitionId, health: &Component) {
        health.not_ready(self.to_string());
        let source = std::error::Error::source(self).map(ToString::to_string);
        match self {
            Self::Unreadable { .. } => {
                metrics::counter!("hubbub_writer_stops_total").increment(1);
                tracing::error!(%partition, error = %self, source, "the writer has stopped before a record it must not skip");
            }
            Self::Log(error) if !error.is_retryable() => {
                tracing::error!(%partition, error = %self, source, "the writer can't read its partition; trying again");
            }
            Self::Progress(_) | Self::Log(_) => {
                tracing::warn!(%partition, error = %self, source, "the writer starts this partition again");
            }
        }
    }
}

/// A partition that is being followed.
struct Follower<'a> {
    partition: PartitionId,
    source: TopicPartition,
    deps: &'a Deps,
    health: &'a Component,
    reader: TimelineReader,
    pending: Pending,
    /// The batch at the store, its cursor, and its future. At most one, so that batches land in log order.
    applying: Option<(LogCursor, BoxFuture<'static, ()>)>,
    applied: LogCursor,
    next_apply: Instant,
    recorded: u64,
    next_progress: Instant,
    counters: Counters,
}

struct Counters {
    rows: Counter,
    void: Counter,
    void_unclaimed: Counter,
}

impl<'a> Follower<'a> {
    /// From the newest progress in the store: (offset, epoch, n) and the rest, never an offset alone.
    async fn open(partition: PartitionId, deps: &'a Deps, health: &'a Component) -> Result<Self, Failure> {
        let trail = deps.projections.progress(partition).await.map_err(Failure::Progress)?;
        let cursor = trail.into_iter().next_back().unwrap_or_default().cursor;
        let reader = TimelineReader::open(&deps.log, partition, cursor.clone()).await?;
        tracing::debug!(%partition, offset = cursor.offset, epoch = cursor.epoch.0, "writing goes on");
        let now = Instant::now();
        Ok(Self {
            partition,
            source: Topic::new(schemas::topics::MESSAGES).partition(u32::from(partition.0)),
            deps,
            health,
            reader,
            pending: Pending::above(cursor.clone()),
            applying: None,
            recorded: cursor.offset,
            applied: cursor,
            next_apply: now,
            next_progress: now,
            counters: Counters {
                rows: metrics::counter!("hubbub_writer_rows_total"),
                void: metrics::counter!("hubbub_writer_void_records_total", "unclaimed" => "no"),
                void_unclaimed: metrics::counter!("hubbub_writer_void_records_total", "unclaimed" => "yes"),
            },
        })
    }

    /// Until the stop (`Ok`), or something that a new start may heal.
    async fn follow(&mut self, stop: &Shutdown) -> Result<(), Failure> {
        let mut failure = None;
        loop {
            let now = Instant::now();
            if self.applying.is_none() && !self.pending.is_empty() && (now >= self.next_apply || failure.is_some()) {
                self.start_applying(now);
            } else if self.applying.is_none()
                && self.pending.is_empty()
                && self.applied.offset < self.pending.cursor.offset
            {
                // What is left between the last row and the cursor changed nothing.
                self.applied = self.pending.cursor.clone();
            }
            if self.applied.offset > self.recorded && (now >= self.next_progress || failure.is_some()) {
                self.record_progress(stop).await;
            }
            if let Some(failure) = failure.take_if(|_| self.applying.is_none() && self.pending.is_empty()) {
                return Err(failure);
            }
            tokio::select! {
                biased;
                () = stop.begun() => {
                    self.finish().await;
                    return Ok(());
                }
                () = applied(&mut self.applying) => self.batch_applied(),
                reads = self.reader.next(), if failure.is_none() && !self.pending.is_full() => {
                    failure = self.take(reads?).await.err();
                }
                () = sleep_until(self.next_apply), if self.applying.is_none() && !self.pending.is_empty() => {}
                () = sleep_until(self.next_progress), if self.applied.offset > self.recorded => {}
            }
        }
    }

    /// Adds what was read to the rows that wait. On an error all before the record that caused it is added.
    async fn take(&mut self, reads: Vec<Read>) -> Result<(), Failure> {
        // The reader's own cursor is past the whole of what it returned; where a part of it is taken, the part is folded here.
        let mut cursor = self.pending.cursor.clone();
        for read in reads {
            match read.what {
                What::Valid(record) => {
                    cursor.accept(read.offset, &record);
                    if let TimelineRecord::Outcome(outcome) = record {
                        self.pending.add(outcome, read.offset);
                    }
                }
                What::Void { unclaimed: false, .. } => self.counters.void.increment(1),
                What::Void { unclaimed: true, record } => {
                    self.counters.void_unclaimed.increment(1);
                    tracing::error!(source = %self.source, offset = read.offset, ?record, "somebody writes without a claim; void");
                }
                What::Unreadable(ref error) if error.is_foreign() => {
                    if let Err(error) = put_aside(&self.deps.log, &self.source, &read, error).await {
                        self.pending.cursor = cursor;
                        return Err(error.into());
                    }
                }
                What::Unreadable(source) => {
                    self.pending.cursor = cursor;
                    return Err(Failure::Unreadable { offset: read.offset, source });
                }
            }
            cursor.offset = read.offset + 1;
        }
        self.pending.cursor = cursor;
        Ok(())
    }

    fn start_applying(&mut self, now: Instant) {
        self.next_apply = now + APPLY_INTERVAL;
        let batch = Arc::new(self.pending.take(self.partition));
        self.counters.rows.increment(batch.rows.len() as u64);
        let projections = Arc::clone(&self.deps.projections);
        let backoff = Backoff::new(Arc::clone(&self.deps.entropy), RETRY_AFTER, RETRY_AFTER_MAX);
        let work = apply(projections, batch, backoff, self.health.clone());
        self.applying = Some((self.pending.cursor.clone(), Box::pin(work)));
    }

    fn batch_applied(&mut self) {
        if let Some((cursor, _)) = self.applying.take() {
            self.applied = cursor;
        }
    }

    /// Only ever claims what was applied. A failure is no reason to stop: the next one claims the same and more.
    async fn record_progress(&mut self, stop: &Shutdown) {
        self.next_progress = Instant::now() + PROGRESS_INTERVAL;
        let cursor = ProgressCursor { cursor: self.applied.clone() };
        match stop.or_until(self.deps.projections.record_progress(self.partition, &cursor)).await {
            Some(Ok(())) => self.recorded = cursor.cursor.offset,
            Some(Err(error)) => {
                tracing::warn!(partition = %self.partition, %error, "progress not recorded; trying again");
            }
            None => {}
        }
    }

    /// Lets the batch in hand end, and says how far it is, so that the next writer starts there.
    async fn finish(&mut self) {
        let end = async {
            if self.applying.is_some() {
                applied(&mut self.applying).await;
                self.batch_applied();
            }
            let cursor = ProgressCursor { cursor: self.applied.clone() };
            if cursor.cursor.offset > self.recorded
                && let Err(error) = self.deps.projections.record_progress(self.partition, &cursor).await
            {
                tracing::warn!(partition = %self.partition, %error, "last progress not recorded; the next writer repeats a little");
            }
        };
        if timeout(STOP_WITHIN, end).await.is_err() {
            tracing::warn!(partition = %self.partition, "stopped with a batch in hand; the next writer repeats it");
        }
    }
}

async fn put_aside(
    log: &SharedLog,
    source: &TopicPartition,
    read: &Read,
    error: &DecodeError,
) -> Result<(), eventlog::Error> {
    let record = Record::new(read.key.clone(), read.value.clone());
    let stored = StoredRecord { offset: LogOffset(read.offset), time: read.time, record };
    timeline::dead_letters::put_aside(log, source, &stored, &error.to_string(), 1).await
}

/// Pending for ever when nothing is being applied.
async fn applied(applying: &mut Option<(LogCursor, BoxFuture<'static, ()>)>) {
    match applying {
        Some((_, work)) => work.await,
        None => std::future::pending().await,
    }
}

/// Applies a batch, again and again until the store has it.
async fn apply(projections: Arc<dyn Projections>, batch: Arc<WriteBatch>, mut backoff: Backoff, health: Component) {
    while let Err(error) = projections.apply(Arc::clone(&batch)).await {
        let (partition, rows) = (batch.partition, batch.rows.len());
        metrics::counter!("hubbub_writer_store_errors_total").increment(1);
        health.not_ready(format!("the store does not take rows: {error}"));
        if error.is_retryable() {
            tracing::warn!(%partition, rows, %error, failures = backoff.failures(), "the store does not take rows; trying again");
        } else {
            tracing::error!(%partition, rows, %error, failures = backoff.failures(), "the store does not take rows; trying again");
        }
        backoff.wait().await;
    }
    if backoff.failures() > 0 {
        health.ready();
    }
}
