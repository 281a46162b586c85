//! One topic as the process sees it: a tail of recent records in memory for each partition, and for a durable topic the
//! commit thread that feeds it.

use crate::catalog::Entry;
use crate::disk::{Disk, SharedDisk};
use crate::files::{self, disk_error};
use crate::limits::{
    COMMIT_BYTES_MAX, HEAL_EVERY, MERGE_BELOW_RECORDS, MERGE_RECORDS_MAX, QUEUE_APPENDS_MAX, QUEUE_BYTES_MAX,
    RECORD_OVERHEAD_BYTES, TAIL_BYTES_MAX,
};
use crate::stream::{DiskPlace, Shape, Spares, Stream, TornTail, View, keeps_all};
use crate::{Options, blocking};
use eventlog::{
    Append, AppendError, AppendTime, Appended, Bounds, Cleanup, Error, ErrorKind, LogOffset, PartitionReader, Record,
    RecordBatch, StoredRecord, Topic, TopicDescription, TopicSpec,
};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use runtime::SharedClock;
use std::collections::VecDeque;
use std::fmt::{self, Debug};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use tokio::sync::{oneshot, watch};

/// A topic.
pub(crate) struct TopicState {
    spec: TopicSpec,
    incarnation: u64,
    clock: SharedClock,
    partitions: Arc<[Partition]>,
    durable: Option<Durable>,
}

/// What only a durable topic has.
struct Durable {
    queue: Arc<Queue>,
    view: Arc<View>,
    spares: Arc<Spares>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// The recent records of a partition.
#[derive(Debug)]
struct Partition {
    tail: Mutex<Tail>,
    /// The end; raised after the records are in the tail.
    end: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Tail {
    /// The first offset kept, on disk or here.
    start: u64,
    end: u64,
    batches: VecDeque<Arc<[StoredRecord]>>,
    bytes: usize,
    gone: bool,
}

impl Partition {
    fn new(start: u64, end: u64) -> Self {
        Self { tail: Mutex::new(Tail { start, end, ..Tail::default() }), end: watch::channel(end).0 }
    }

    fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, records: Arc<[StoredRecord]>, bytes_max: usize, in_memory: bool) {
        let end = {
            let mut tail = self.tail();
            tail.bytes += weight(&records);
            tail.end = records[records.len() - 1].offset.0 + 1;
            tail.batches.push_back(records);
            while tail.bytes > bytes_max && tail.batches.len() > 1 {
                tail.drop_oldest(in_memory);
            }
            tail.end
        };
        self.end.send_replace(end);
    }

    fn close(&self) {
        self.tail().gone = true;
        self.end.send_modify(|_| {});
    }
}

impl Tail {
    fn drop_oldest(&mut self, in_memory: bool) {
        if let Some(gone) = self.batches.pop_front() {
            self.bytes -= weight(&gone);
            if in_memory {
                self.start = gone[gone.len() - 1].offset.0 + 1;
            }
        }
    }

    /// The first offset that is here.
    fn first(&self) -> u64 {
        self.batches.front().map_or(self.end, |batch| batch[0].offset.0)
    }

    /// The records from an offset that is here on: one batch as it is, or several small ones together.
    fn read(&self, offset: u64) -> RecordBatch {
        let index = self.batches.partition_point(|batch| batch[batch.len() - 1].offset.0 < offset);
        let batch = &self.batches[index];
        let from = batch.partition_point(|record| record.offset.0 < offset);
        if batch.len() - from >= MERGE_BELOW_RECORDS || index + 1 == self.batches.len() {
            return RecordBatch::new(Arc::clone(batch), from..batch.len());
        }
        let mut merged = batch[from..].to_vec();
        for next in self.batches.iter().skip(index + 1) {
            if merged.len() + next.len() > MERGE_RECORDS_MAX {
                break;
            }
            merged.extend_from_slice(next);
        }
        merged.into()
    }
}

fn weight(records: &[StoredRecord]) -> usize {
    records.iter().map(|record| record.record.size_bytes() + RECORD_OVERHEAD_BYTES).sum()
}

/// What waits for the commit thread.
struct Queue {
    state: Mutex<QueueState>,
    wake: Condvar,
    /// Appends taken out and settled, for `flush`.
    settled: watch::Sender<u64>,
    /// A spare segment of so many bytes is wanted; 0: none.
    spare_wanted: AtomicU64,
}

#[derive(Default)]
struct QueueState {
    appends: VecDeque<Waiting>,
    bytes: usize,
    enqueued: u64,
    over: bool,
}

struct Waiting {
    partition: u32,
    bytes: usize,
    records: Vec<Record>,
    done: oneshot::Sender<Result<Appended, Error>>,
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whatever has gathered, up to the size of a commit; waits for it. `None`: the queue is over and empty. An empty one
    /// comes after a while where `idle` asks for it.
    fn take(&self, idle: bool) -> Option<Vec<Waiting>> {
        let mut state = self.state();
        while state.appends.is_empty() && !state.over {
            if idle {
                let (next, timed_out) =
                    self.wake.wait_timeout(state, HEAL_EVERY).unwrap_or_else(PoisonError::into_inner);
                state = next;
                if timed_out.timed_out() {
                    break;
                }
            } else {
                state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
        if state.over && state.appends.is_empty() {
            return None;
        }
        let mut taken = Vec::new();
        let mut bytes = 0;
        while let Some(next) = state.appends.front()
            && (taken.is_empty() || bytes + next.bytes <= COMMIT_BYTES_MAX)
        {
            bytes += next.bytes;
            taken.extend(state.appends.pop_front());
        }
        state.bytes -= bytes;
        Some(taken)
    }
}

impl TopicState {
    pub(crate) fn in_memory(spec: TopicSpec, incarnation: u64, clock: SharedClock) -> Self {
        let partitions = (0..spec.partitions).map(|_| Partition::new(0, 0)).collect();
        Self { spec, incarnation, clock, partitions, durable: None }
    }

    pub(crate) fn open_durable(
        disk: &SharedDisk,
        dir: &Path,
        topic: &Topic,
        entry: Entry,
        options: &Options,
    ) -> Result<(Self, Option<TornTail>), Error> {
        let shape = shape(disk, dir, topic, &entry, options);
        disk.create_dir_all(&shape.dir).map_err(|error| disk_error(format!("make {}", shape.dir.display()), error))?;
        let (stream, torn) = Stream::open(shape, keeps_all(entry.spec.cleanup))?;
        let starts = stream.view().starts();
        let partitions: Arc<[Partition]> = (0..entry.spec.partitions)
            .map(|partition| {
                Partition::new(starts.get(partition as usize).copied().unwrap_or(0), stream.next_offset(partition))
            })
            .collect();
        let queue = Arc::new(Queue {
            state: Mutex::default(),
            wake: Condvar::new(),
            settled: watch::channel(0).0,
            spare_wanted: AtomicU64::new(0),
        });
        let (view, spares) = (Arc::clone(stream.view()), Arc::clone(stream.spares()));
        let commits = Commits {
            stream,
            queue: Arc::clone(&queue),
            partitions: Arc::clone(&partitions),
            clock: options.clock.clone(),
            name: topic.clone(),
            // One topic's share, so that the tails of its partitions together stay within the bound.
            tail_bytes_max: TAIL_BYTES_MAX / entry.spec.partitions as usize,
        };
        let thread = std::thread::Builder::new()
            .name(format!("log-{topic}"))
            .spawn(move || commits.run())
            .map_err(|error| disk_error("start a commit thread", error))?;
        let durable = Some(Durable { queue, view, spares, thread: Mutex::new(Some(thread)) });
        let clock = options.clock.clone();
        Ok((Self { spec: entry.spec, incarnation: entry.incarnation, clock, partitions, durable }, torn))
    }

    pub(crate) fn spec(&self) -> &TopicSpec {
        &self.spec
    }

    pub(crate) fn description(&self) -> TopicDescription {
        TopicDescription {
            partitions: self.spec.partitions,
            incarnation: self.incarnation,
            durability: self.spec.durability,
            cleanup: self.spec.cleanup,
        }
    }

    pub(crate) fn append(&self, partition: u32, records: Vec<Record>) -> Result<Append, AppendError> {
        let refuse = |records, kind, context: String| Err(AppendError { records, error: Error::new(kind, context) });
        if records.is_empty() {
            return refuse(records, ErrorKind::Mismatch, "an append holds at least one record".to_owned());
        }
        let mut bytes = 0;
        for record in &records {
            let size = record.size_bytes();
            if size > self.spec.record_bytes_max {
                let context = format!(
                    "a record of {size} bytes is above the {} of {}",
                    self.spec.record_bytes_max, self.spec.topic
                );
                return refuse(records, ErrorKind::TooLarge, context);
            }
            if record.value.is_none() && self.spec.cleanup != Cleanup::Compact {
                return refuse(records, ErrorKind::Mismatch, format!("{} takes no tombstones", self.spec.topic));
            }
            bytes += size + RECORD_OVERHEAD_BYTES;
        }
        match &self.durable {
            None => self.append_in_memory(partition, records),
            Some(durable) => durable.enqueue(partition, records, bytes, &self.spec.topic),
        }
    }

    fn append_in_memory(&self, partition: u32, records: Vec<Record>) -> Result<Append, AppendError> {
        let place = &self.partitions[partition as usize];
        let time = AppendTime(self.clock.now_ms());
        let bytes_max = match self.spec.cleanup {
            Cleanup::Expire { bytes_max, .. } => bytes_max as usize,
            Cleanup::Keep | Cleanup::Compact => usize::MAX,
        };
        let (first, end) = {
            let mut tail = place.tail();
            if tail.gone {
                let error = Error::new(ErrorKind::UnknownTopic, format!("{} is gone", self.spec.topic));
                return Err(AppendError { records, error });
            }
            let first = tail.end;
            let stored: Arc<[StoredRecord]> = (first..)
                .zip(records)
                .map(|(offset, record)| StoredRecord { offset: LogOffset(offset), time, record })
                .collect();
            tail.bytes += weight(&stored);
            tail.end = first + stored.len() as u64;
            tail.batches.push_back(stored);
            while tail.bytes > bytes_max && tail.batches.len() > 1 {
                tail.drop_oldest(true);
            }
            (first, tail.end)
        };
        // Only ever upwards: another append may have got here first.
        place.end.send_if_modified(|known| {
            let raised = *known < end;
            *known = (*known).max(end);
            raised
        });
        Ok(ready(Ok(Appended { first: LogOffset(first), time })).boxed())
    }

    pub(crate) fn bounds(&self, partition: u32) -> Bounds {
        let tail = self.partitions[partition as usize].tail();
        Bounds { start: LogOffset(tail.start), end: LogOffset(tail.end) }
    }

    pub(crate) fn offset_at(&self, partition: u32, time: AppendTime) -> Result<LogOffset, Error> {
        if let Some(durable) = &self.durable
            && let Some(offset) = durable.view.offset_at(partition, time.0)?
        {
            let Bounds { start, end } = self.bounds(partition);
            return Ok(LogOffset(offset.clamp(start.0, end.0)));
        }
        let tail = self.partitions[partition as usize].tail();
        let found = tail.batches.iter().flat_map(|batch| batch.iter()).find(|record| record.time >= time);
        Ok(found.map_or(LogOffset(tail.end), |record| record.offset))
    }

    pub(crate) fn reader(self: &Arc<Self>, partition: u32, offset: LogOffset) -> Box<dyn PartitionReader> {
        let end = self.partitions[partition as usize].end.subscribe();
        Box::new(Reader { topic: Arc::clone(self), partition, offset: offset.0, end, place: None })
    }

    /// Waits until all that was enqueued before is settled.
    pub(crate) async fn flush(&self) {
        if let Some(durable) = &self.durable {
            let enqueued = durable.queue.state().enqueued;
            // The sender lives in the queue itself, so this can't fail.
            let _ = durable.queue.settled.subscribe().wait_for(|settled| *settled >= enqueued).await;
        }
    }

    /// Ends the commit thread after what is enqueued; with `gone`, readers and appends are told that the topic is no more.
    pub(crate) fn close(&self, gone: bool) {
        if let Some(durable) = &self.durable {
            durable.queue.state().over = true;
            durable.queue.wake.notify_all();
            let thread = durable.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(thread) = thread {
                // It only fails by a panic, which has been reported.
                let _ = thread.join();
            }
            if let Err(error) = durable.view.checkpoint(true) {
                tracing::warn!(topic = %self.spec.topic, %error, "checkpoint not written");
            }
        }
        if gone {
            for partition in self.partitions.iter() {
                partition.close();
            }
        }
    }

    /// Checkpoint, spare segment, retention, compaction.
    pub(crate) fn keep_house(&self, now: u64) {
        let topic = &self.spec.topic;
        let Some(durable) = &self.durable else {
            if let Cleanup::Expire { age, .. } = self.spec.cleanup {
                let before = AppendTime(now.saturating_sub(age.as_millis() as u64));
                for partition in self.partitions.iter() {
                    let mut tail = partition.tail();
                    while tail.batches.front().is_some_and(|batch| batch[batch.len() - 1].time < before) {
                        tail.drop_oldest(true);
                    }
                }
            }
            return;
        };
        let wanted = durable.queue.spare_wanted.swap(0, Ordering::Relaxed);
        if wanted > 0
            && let Err(error) = durable.spares.prepare(wanted)
        {
            tracing::warn!(%topic, %error, "no room to prepare the next segment");
        }
        if let Err(error) = durable.view.checkpoint(false) {
            tracing::warn!(%topic, %error, "checkpoint not written");
        }
        match self.spec.cleanup {
            Cleanup::Keep => {}
            Cleanup::Expire { age, .. } => match durable.view.expire(now.saturating_sub(age.as_millis() as u64)) {
                Ok(false) => {}
                Ok(true) => {
                    for (partition, start) in self.partitions.iter().zip(durable.view.starts()) {
                        partition.tail().start = start;
                    }
                }
                Err(error) => tracing::warn!(%topic, %error, "expired segments not removed"),
            },
            Cleanup::Compact => {
                if let Err(error) = durable.view.compact(now, false) {
                    tracing::warn!(%topic, %error, "not compacted");
                }
            }
        }
    }

    /// Copies a durable topic's files up to what is durable now.
    pub(crate) fn backup(&self, disk: &dyn Disk, to: &Path) -> Result<(), Error> {
        let Some(durable) = &self.durable else { return Ok(()) };
        let to = to.join(self.spec.topic.as_str());
        disk.create_dir_all(&to).map_err(|error| disk_error(format!("make {}", to.display()), error))?;
        for (path, bytes) in durable.view.durable_files() {
            let failed = |error| disk_error(format!("copy {}", path.display()), error);
            let name = path.file_name().map(|name| to.join(name)).unwrap_or_default();
            files::copy_start(disk, &path, &name, bytes).map_err(failed)?;
        }
        disk.sync_dir(&to).map_err(|error| disk_error(format!("sync {}", to.display()), error))
    }
}

/// What a durable topic's stream is made of.
pub(crate) fn shape(disk: &SharedDisk, dir: &Path, topic: &Topic, entry: &Entry, options: &Options) -> Shape {
    Shape {
        disk: Arc::clone(disk),
        dir: dir.join(topic.as_str()),
        seed: entry.incarnation,
        partitions: entry.spec.partitions,
        segment_bytes_first: options.segment_bytes_first,
        segment_bytes_max: options.segment_bytes_max,
    }
}

impl Durable {
    fn enqueue(
        &self,
        partition: u32,
        records: Vec<Record>,
        bytes: usize,
        topic: &Topic,
    ) -> Result<Append, AppendError> {
        let (done, outcome) = oneshot::channel();
        {
            let mut state = self.queue.state();
            if state.over {
                return Err(AppendError {
                    records,
                    error: Error::new(ErrorKind::Closed, format!("{topic} is closing")),
                });
            }
            if state.appends.len() >= QUEUE_APPENDS_MAX || (state.bytes > 0 && state.bytes + bytes > QUEUE_BYTES_MAX) {
                let context = format!("the queue of {topic} is full: try again when earlier appends have resolved");
                return Err(AppendError { records, error: Error::new(ErrorKind::Unavailable, context) });
            }
            state.bytes += bytes;
            state.enqueued += 1;
            state.appends.push_back(Waiting { partition, bytes, records, done });
        }
        self.queue.wake.notify_one();
        let settled = outcome.map(|outcome| {
            outcome.unwrap_or_else(|_| {
                Err(Error::new(ErrorKind::Closed, "the log ended before the append had an outcome"))
            })
        });
        Ok(settled.boxed())
    }
}

/// The commit thread of a durable topic.
struct Commits {
    stream: Stream,
    queue: Arc<Queue>,
    partitions: Arc<[Partition]>,
    clock: SharedClock,
    name: Topic,
    tail_bytes_max: usize,
}

impl Commits {
    fn run(mut self) {
        while let Some(taken) = self.queue.take(self.stream.is_broken()) {
            if taken.is_empty() {
                if let Err(error) = self.stream.heal() {
                    tracing::warn!(topic = %self.name, %error, "the disk still fails");
                }
                continue;
            }
            self.commit(taken);
            if let Some(bytes) = self.stream.wants_spare() {
                self.queue.spare_wanted.store(bytes, Ordering::Relaxed);
            }
        }
    }

    fn commit(&mut self, taken: Vec<Waiting>) {
        let count = taken.len() as u64;
        let time = self.clock.now_ms();
        let (appends, waiting): (Vec<_>, Vec<_>) =
            taken.into_iter().map(|waiting| ((waiting.partition, waiting.records), waiting.done)).unzip();
        let committed = self.stream.commit(time, appends);
        if let Some(error) = &committed.error {
            tracing::error!(topic = %self.name, %error, "the log could not be written; appends are refused until it can");
        }
        for (partition, records) in committed.frames.into_iter().take(committed.landed) {
            self.partitions[partition as usize].push(records, self.tail_bytes_max, false);
        }
        for (done, (first, frames)) in waiting.into_iter().zip(committed.appends) {
            let outcome = if frames <= committed.landed {
                Ok(Appended { first, time: AppendTime(time) })
            } else {
                Err(match &committed.error {
                    Some(error) => disk_error(
                        format!("append to {}", self.name),
                        std::io::Error::new(error.kind(), error.to_string()),
                    ),
                    None => Error::new(ErrorKind::Unavailable, format!("append to {}", self.name)),
                })
            };
            // Nobody waits any more: the records are there all the same.
            let _ = done.send(outcome);
        }
        self.queue.settled.send_modify(|settled| *settled += count);
    }
}

impl Debug for TopicState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TopicState")
            .field("spec", &self.spec)
            .field("incarnation", &self.incarnation)
            .finish_non_exhaustive()
    }
}

/// A position in one partition.
#[derive(Debug)]
struct Reader {
    topic: Arc<TopicState>,
    partition: u32,
    offset: u64,
    end: watch::Receiver<u64>,
    /// Where that is on disk, while reading there.
    place: Option<DiskPlace>,
}

/// What a look at the tail tells a reader.
enum Look {
    Here(RecordBatch),
    OnDisk { below: u64 },
    NotYet,
    Gone,
}

impl Reader {
    fn look(&mut self) -> Look {
        self.end.mark_unchanged();
        let tail = self.topic.partitions[self.partition as usize].tail();
        if tail.gone {
            return Look::Gone;
        }
        self.offset = self.offset.max(tail.start);
        if self.offset >= tail.end {
            Look::NotYet
        } else if self.offset >= tail.first() {
            Look::Here(tail.read(self.offset))
        } else {
            Look::OnDisk { below: tail.first() }
        }
    }

    async fn read_from_disk(&mut self, below: u64) -> Result<Option<RecordBatch>, Error> {
        let Some(durable) = &self.topic.durable else { return Ok(None) };
        let (view, partition, offset, place) = (Arc::clone(&durable.view), self.partition, self.offset, self.place);
        let found = blocking(move || view.read(partition, offset, below, place)).await?;
        let moved = found.place != self.place;
        self.place = found.place;
        if found.records.is_empty() {
            if !moved {
                // Nothing of the partition is left below the tail (compaction): go on there.
                self.offset = below;
            }
            return Ok(None);
        }
        Ok(Some(found.records.into()))
    }
}

impl PartitionReader for Reader {
    fn next(&mut self) -> BoxFuture<'_, Result<RecordBatch, Error>> {
        async move {
            loop {
                let batch = match self.look() {
                    Look::Here(batch) => Some(batch),
                    Look::OnDisk { below } => self.read_from_disk(below).await?,
                    Look::Gone => {
                        return Err(Error::new(ErrorKind::UnknownTopic, format!("{} is gone", self.topic.spec.topic)));
                    }
                    Look::NotYet => {
                        if self.end.changed().await.is_err() {
                            return Err(Error::new(ErrorKind::Closed, "the log is closed"));
                        }
                        None
                    }
                };
                if let Some(batch) = batch {
                    self.offset = batch[batch.len() - 1].offset.0 + 1;
                    return Ok(batch);
                }
            }
        }
        .boxed()
    }

    fn position(&self) -> LogOffset {
        LogOffset(self.offset)
    }
}
