//! A log in memory that does what a test tells it: holds appends back, loses or refuses them, and assigns every partition to
//! every member, for groups fence nobody.

use bytes::Bytes;
use eventlog::{
    Append, AppendError, AppendTime, Appended, AssignmentChange, Bounds, Committed, Durability, Error, ErrorKind,
    EventLog, LogOffset, Membership, PartitionReader, Record, RecordBatch, StoredRecord, Topic, TopicDescription,
    TopicPartition, TopicSpec,
};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::{oneshot, watch};

/// Clones share it.
#[derive(Clone, Debug)]
pub struct MemoryLog(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    topics: Mutex<BTreeMap<Topic, State>>,
    changed: watch::Sender<u64>,
    now_ms: Mutex<u64>,
}

#[derive(Debug)]
struct State {
    description: TopicDescription,
    partitions: Vec<Partition>,
}

#[derive(Debug, Default)]
struct Partition {
    start: u64,
    records: Vec<StoredRecord>,
    /// What happens to appends from now on, and those that wait for it.
    mode: Mode,
    held: VecDeque<Held>,
}

type Held = (Vec<Record>, oneshot::Sender<Result<Appended, Error>>);

/// What happens to an append.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// It lands.
    #[default]
    Land,
    /// It waits for [`MemoryLog::land_held`] or [`MemoryLog::lose_held`].
    Hold,
    /// The queue is full: given back at once.
    Refuse,
}

impl MemoryLog {
    pub fn new(now_ms: u64) -> Self {
        let now_ms = Mutex::new(now_ms);
        Self(Arc::new(Shared { topics: Mutex::default(), changed: watch::Sender::new(0), now_ms }))
    }

    /// Append times from now on.
    pub fn set_now(&self, now_ms: u64) {
        *self.0.now_ms.lock().unwrap() = now_ms;
    }

    pub fn now(&self) -> u64 {
        *self.0.now_ms.lock().unwrap()
    }

    pub fn set_mode(&self, of: &TopicPartition, mode: Mode) {
        self.topics().get_mut(&of.topic).unwrap().partitions[of.partition as usize].mode = mode;
    }

    pub fn held(&self, of: &TopicPartition) -> usize {
        self.topics().get_mut(&of.topic).unwrap().partitions[of.partition as usize].held.len()
    }

    /// The records of the appends that are held, oldest first.
    pub fn held_records(&self, of: &TopicPartition) -> Vec<Record> {
        let topics = self.topics();
        topics[&of.topic].partitions[of.partition as usize]
            .held
            .iter()
            .flat_map(|(records, _)| records.clone())
            .collect()
    }

    /// The oldest appends that are held land, late or not.
    pub fn land_held(&self, of: &TopicPartition, count: usize) {
        let now = self.now();
        let mut topics = self.topics();
        let partition = &mut topics.get_mut(&of.topic).unwrap().partitions[of.partition as usize];
        for _ in 0..count {
            let Some((records, done)) = partition.held.pop_front() else { break };
            let _ = done.send(Ok(partition.land(records, now)));
        }
        drop(topics);
        self.touch();
    }

    /// The oldest appends that are held never land; whoever waits for them is told that nobody knows, or nothing.
    pub fn lose_held(&self, of: &TopicPartition, count: usize, told: bool) {
        let mut topics = self.topics();
        let partition = &mut topics.get_mut(&of.topic).unwrap().partitions[of.partition as usize];
        for _ in 0..count {
            let Some((_, done)) = partition.held.pop_front() else { break };
            if told {
                let _ = done.send(Err(Error::new(ErrorKind::Unavailable, "lost")));
            } else {
                std::mem::forget(done);
            }
        }
    }

    /// The log's process has died and come back: an in-memory topic is empty and has a new incarnation.
    pub fn restart_topic(&self, topic: &Topic) {
        let mut topics = self.topics();
        let state = topics.get_mut(topic).unwrap();
        state.description.incarnation += 1;
        for partition in &mut state.partitions {
            *partition = Partition::default();
        }
        drop(topics);
        self.touch();
    }

    /// Loses what a topic holds without telling, as a careless person with a tool would.
    pub fn truncate(&self, of: &TopicPartition, end: usize) {
        self.topics().get_mut(&of.topic).unwrap().partitions[of.partition as usize].records.truncate(end);
    }

    /// Retention takes the oldest records.
    pub fn expire(&self, of: &TopicPartition, start: u64) {
        let mut topics = self.topics();
        let partition = &mut topics.get_mut(&of.topic).unwrap().partitions[of.partition as usize];
        partition.records.retain(|stored| stored.offset.0 >= start);
        partition.start = start;
    }

    pub fn records(&self, of: &TopicPartition) -> Vec<StoredRecord> {
        self.topics()[&of.topic].partitions[of.partition as usize].records.clone()
    }

    /// Appends bytes as they are.
    pub fn put(&self, to: &TopicPartition, key: &str, value: impl Into<Bytes>) {
        let record = Record::new(key.to_owned(), value);
        drop(self.append(to, vec![record]).unwrap());
    }

    /// Waits until something holds of the log.
    pub async fn until<T>(&self, mut found: impl FnMut() -> Option<T>) -> T {
        let mut changes = self.0.changed.subscribe();
        loop {
            changes.borrow_and_update();
            if let Some(found) = found() {
                return found;
            }
            let waited = tokio::time::timeout(std::time::Duration::from_mins(10), changes.changed()).await;
            waited.expect("the log does not get there").unwrap();
        }
    }

    fn touch(&self) {
        self.0.changed.send_modify(|version| *version += 1);
    }

    fn topics(&self) -> MutexGuard<'_, BTreeMap<Topic, State>> {
        self.0.topics.lock().unwrap()
    }
}

impl Partition {
    fn end(&self) -> u64 {
        self.records.last().map_or(self.start, |last| last.offset.0 + 1)
    }

    fn land(&mut self, records: Vec<Record>, now: u64) -> Appended {
        let (first, time) = (LogOffset(self.end()), AppendTime(now));
        for record in records {
            let offset = LogOffset(self.end());
            self.records.push(StoredRecord { offset, time, record });
        }
        Appended { first, time }
    }
}

fn unknown(topic: &Topic) -> Error {
    Error::new(ErrorKind::UnknownTopic, format!("{topic} does not exist"))
}

impl EventLog for MemoryLog {
    fn create_topic<'a>(&'a self, spec: &'a TopicSpec) -> BoxFuture<'a, Result<TopicDescription, Error>> {
        let mut topics = self.topics();
        let state = topics.entry(spec.topic.clone()).or_insert_with(|| State {
            description: TopicDescription {
                partitions: spec.partitions,
                incarnation: 1,
                durability: Durability::Synced,
                cleanup: spec.cleanup,
            },
            partitions: (0..spec.partitions).map(|_| Partition::default()).collect(),
        });
        futures_util::future::ready(Ok(state.description.clone())).boxed()
    }

    fn delete_topic<'a>(&'a self, topic: &'a Topic) -> BoxFuture<'a, Result<(), Error>> {
        self.topics().remove(topic);
        futures_util::future::ready(Ok(())).boxed()
    }

    fn describe<'a>(&'a self, topic: &'a Topic) -> BoxFuture<'a, Result<Option<TopicDescription>, Error>> {
        let description = self.topics().get(topic).map(|state| state.description.clone());
        futures_util::future::ready(Ok(description)).boxed()
    }

    fn append(&self, to: &TopicPartition, records: Vec<Record>) -> Result<Append, AppendError> {
        let now = self.now();
        let mut topics = self.topics();
        let Some(state) = topics.get_mut(&to.topic) else {
            return Err(AppendError { records, error: unknown(&to.topic) });
        };
        let partition = &mut state.partitions[to.partition as usize];
        let append = match partition.mode {
            Mode::Land => futures_util::future::ready(Ok(partition.land(records, now))).boxed(),
            Mode::Hold => {
                let (done, landed) = oneshot::channel();
                partition.held.push_back((records, done));
                async move { landed.await.expect("held appends are told or forgotten") }.boxed()
            }
            Mode::Refuse => {
                return Err(AppendError { records, error: Error::new(ErrorKind::Unavailable, "the queue is full") });
            }
        };
        drop(topics);
        self.touch();
        Ok(append)
    }

    fn read<'a>(
        &'a self,
        from: &'a TopicPartition,
        offset: LogOffset,
    ) -> BoxFuture<'a, Result<Box<dyn PartitionReader>, Error>> {
        let changes = self.0.changed.subscribe();
        let reader = Reader { log: self.clone(), from: from.clone(), position: offset, changes };
        futures_util::future::ready(Ok(Box::new(reader) as Box<dyn PartitionReader>)).boxed()
    }

    fn bounds<'a>(&'a self, of: &'a TopicPartition) -> BoxFuture<'a, Result<Bounds, Error>> {
        let topics = self.topics();
        let bounds = topics.get(&of.topic).ok_or_else(|| unknown(&of.topic)).map(|state| {
            let partition = &state.partitions[of.partition as usize];
            Bounds { start: LogOffset(partition.start), end: LogOffset(partition.end()) }
        });
        futures_util::future::ready(bounds).boxed()
    }

    fn offset_at<'a>(&'a self, _: &'a TopicPartition, _: AppendTime) -> BoxFuture<'a, Result<LogOffset, Error>> {
        unreachable!("no role under test asks by time")
    }

    fn join<'a>(&'a self, _: &'a str, topic: &'a Topic) -> BoxFuture<'a, Result<Box<dyn Membership>, Error>> {
        let partitions = self.topics().get(topic).map(|state| (0..state.description.partitions).collect());
        let member = partitions.map(|gained| Box::new(Member { gained: Some(gained) }) as Box<dyn Membership>);
        futures_util::future::ready(member.ok_or_else(|| unknown(topic))).boxed()
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), Error>> {
        futures_util::future::ready(Ok(())).boxed()
    }
}

#[derive(Debug)]
struct Reader {
    log: MemoryLog,
    from: TopicPartition,
    position: LogOffset,
    changes: watch::Receiver<u64>,
}

impl PartitionReader for Reader {
    fn next(&mut self) -> BoxFuture<'_, Result<RecordBatch, Error>> {
        Box::pin(async move {
            loop {
                self.changes.borrow_and_update();
                let records: Vec<StoredRecord> = {
                    let topics = self.log.topics();
                    let state = topics.get(&self.from.topic).ok_or_else(|| unknown(&self.from.topic))?;
                    let records = &state.partitions[self.from.partition as usize].records;
                    let first = records.partition_point(|stored| stored.offset < self.position);
                    records[first..].iter().take(1_000).cloned().collect()
                };
                if let Some(last) = records.last() {
                    self.position = last.offset.next();
                    return Ok(records.into());
                }
                self.changes.changed().await.map_err(|_| Error::new(ErrorKind::Closed, "the log is gone"))?;
            }
        })
    }

    fn position(&self) -> LogOffset {
        self.position
    }
}

#[derive(Debug)]
struct Member {
    gained: Option<Vec<u32>>,
}

impl Membership for Member {
    fn next_change(&mut self) -> BoxFuture<'_, Result<AssignmentChange, Error>> {
        match self.gained.take() {
            Some(gained) => futures_util::future::ready(Ok(AssignmentChange::Gained(gained))).boxed(),
            None => std::future::pending().boxed(),
        }
    }

    fn commit<'a>(&'a self, _: u32, _: LogOffset, _: &'a str) -> BoxFuture<'a, Result<(), Error>> {
        unreachable!("positions come from the log and the store")
    }

    fn committed(&self, _: u32) -> BoxFuture<'_, Result<Option<Committed>, Error>> {
        unreachable!("positions come from the log and the store")
    }
}
