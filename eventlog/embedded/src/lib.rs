//! The embedded log: own segment files with group commit, and in-memory topics, in one directory of one process.
//!
//! Promises: all of [`eventlog::EventLog`]'s. A durable topic is one stream of segments shared by its partitions, so one
//! sync covers whatever has gathered; nothing is visible or acknowledged before the sync that covers it. Damage at or
//! before a position known to be durable refuses the start; an unacknowledged tail is dropped and reported. Committed
//! offsets of groups are written once a second: a lost commit only causes records to be processed again.
//!
//! It does not: replicate, or serve a second process.

mod catalog;
mod disk;
mod files;
mod frame;
mod groups;
mod limits;
mod segment;
mod stream;
mod topic;

pub use stream::{Cut, TornTail};

use catalog::Catalog;
use disk::{RealDisk, SharedDisk};
use eventlog::{
    Append, AppendError, AppendTime, Bounds, Durability, Error, ErrorKind, EventLog, LogOffset, Membership,
    PartitionReader, Record, Topic, TopicDescription, TopicPartition, TopicSpec,
};
use files::disk_error;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use groups::Groups;
use limits::{HOUSEKEEPING_EVERY, PARTITIONS_MAX, RECORD_BYTES_MAX};
use runtime::SharedClock;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;
use topic::TopicState;

/// How the log runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Wall-clock time, for append times.
    pub clock: SharedClock,
    /// Bytes of a topic's first segment; each next one is four times as large.
    pub segment_bytes_first: u64,
    /// Bytes of a segment at most.
    pub segment_bytes_max: u64,
}

impl Options {
    /// The defaults.
    pub fn new(clock: SharedClock) -> Self {
        Self { clock, segment_bytes_first: limits::SEGMENT_BYTES_FIRST, segment_bytes_max: limits::SEGMENT_BYTES_MAX }
    }
}

/// What was found when the log was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenReport {
    /// Unacknowledged ends that were dropped.
    pub torn: Vec<TornTail>,
}

/// A log in a directory. Dropping it stops its threads after what is enqueued.
#[derive(Debug)]
pub struct EmbeddedLog {
    shared: Arc<Shared>,
    housekeeper: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    disk: SharedDisk,
    options: Options,
    catalog: Mutex<Catalog>,
    topics: RwLock<BTreeMap<Topic, Arc<TopicState>>>,
    groups: Arc<Groups>,
    chores: Chores,
    /// Held as long as the directory is open.
    _lock: File,
}

/// Wakes the housekeeper before its time.
#[derive(Debug, Default)]
struct Chores {
    state: Mutex<ChoreState>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct ChoreState {
    due: bool,
    over: bool,
}

impl Chores {
    fn state(&self) -> MutexGuard<'_, ChoreState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the next round; false when there is none.
    fn wait(&self) -> bool {
        let state = self.state();
        let (mut state, _) = self
            .wake
            .wait_timeout_while(state, HOUSEKEEPING_EVERY, |state| !state.due && !state.over)
            .unwrap_or_else(PoisonError::into_inner);
        state.due = false;
        !state.over
    }

    fn end(&self) {
        self.state().over = true;
        self.wake.notify_all();
    }
}

impl EmbeddedLog {
    /// Opens or makes the log in a directory. [`ErrorKind::Damaged`] names file and byte; [`ErrorKind::Unavailable`] if another
    /// process, or this one, has it open.
    pub fn open(dir: &Path, options: Options) -> Result<(Self, OpenReport), Error> {
        let disk: SharedDisk = Arc::new(RealDisk);
        disk.create_dir_all(dir).map_err(|error| disk_error(format!("make {}", dir.display()), error))?;
        let lock = lock(dir)?;
        let catalog = Catalog::open(&*disk, dir)?;
        let mut report = OpenReport::default();
        let mut topics = BTreeMap::new();
        for (topic, entry) in catalog.durable() {
            let (state, torn) = TopicState::open_durable(&disk, dir, &topic, entry, &options)?;
            report.torn.extend(torn);
            topics.insert(topic, Arc::new(state));
        }
        let groups = Arc::new(Groups::open(&*disk, dir)?);
        let shared = Arc::new(Shared {
            dir: dir.to_owned(),
            disk,
            options,
            catalog: Mutex::new(catalog),
            topics: RwLock::new(topics),
            groups,
            chores: Chores::default(),
            _lock: lock,
        });
        let keeping = Arc::clone(&shared);
        let housekeeper = std::thread::Builder::new()
            .name("log-housekeeper".to_owned())
            .spawn(move || keeping.keep_house())
            .map_err(|error| disk_error("start the housekeeping thread", error))?;
        Ok((Self { shared, housekeeper: Some(housekeeper) }, report))
    }

    /// Copies the log into an empty directory while it runs: every record that is durable when the call begins is in the
    /// copy, and what is in the copy is a log that opens.
    pub fn backup(&self, to: &Path) -> Result<(), Error> {
        let shared = &self.shared;
        shared.disk.create_dir_all(to).map_err(|error| disk_error(format!("make {}", to.display()), error))?;
        shared
            .groups
            .save(&*shared.disk, &shared.dir)
            .map_err(|error| disk_error("save the groups' offsets", error))?;
        // The catalog is held still, so that no topic comes or goes meanwhile.
        let catalog = shared.catalog();
        for name in [catalog::FILE, groups::FILE] {
            let from = shared.dir.join(name);
            if from.exists() {
                std::fs::copy(&from, to.join(name))
                    .map_err(|error| disk_error(format!("copy {}", from.display()), error))?;
            }
        }
        for state in shared.all() {
            state.backup(&*shared.disk, to)?;
        }
        drop(catalog);
        shared.disk.sync_dir(to).map_err(|error| disk_error(format!("sync {}", to.display()), error))
    }

    fn topic(&self, topic: &Topic) -> Result<Arc<TopicState>, Error> {
        self.shared.find(topic).ok_or_else(|| Error::new(ErrorKind::UnknownTopic, format!("there is no topic {topic}")))
    }

    fn partition(&self, of: &TopicPartition) -> Result<Arc<TopicState>, Error> {
        let state = self.topic(&of.topic)?;
        if of.partition < state.spec().partitions {
            Ok(state)
        } else {
            Err(Error::new(ErrorKind::UnknownTopic, format!("there is no partition {of}")))
        }
    }
}

/// Cuts every topic's log where its last segment is damaged, so that it opens again with what is intact. What was cut may hold
/// acknowledged records: it is saved beside the segment, and told. Nothing must have the log open.
pub fn repair(dir: &Path, options: &Options) -> Result<Vec<Cut>, Error> {
    let disk: SharedDisk = Arc::new(RealDisk);
    let _lock = lock(dir)?;
    let mut cuts = Vec::new();
    for (topic, entry) in Catalog::open(&*disk, dir)?.durable() {
        let shape = topic::shape(&disk, dir, &topic, &entry, options);
        cuts.extend(stream::cut_damage(&shape, stream::keeps_all(entry.spec.cleanup))?);
    }
    Ok(cuts)
}

fn lock(dir: &Path) -> Result<File, Error> {
    let path = dir.join("lock");
    let file = File::create(&path).map_err(|error| disk_error(format!("open {}", path.display()), error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(_) => Err(Error::new(ErrorKind::Unavailable, format!("the log in {} is open already", dir.display()))),
    }
}

impl Shared {
    fn catalog(&self) -> MutexGuard<'_, Catalog> {
        self.catalog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, topic: &Topic) -> Option<Arc<TopicState>> {
        self.topics.read().unwrap_or_else(PoisonError::into_inner).get(topic).cloned()
    }

    fn all(&self) -> Vec<Arc<TopicState>> {
        self.topics.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    fn keep_house(&self) {
        while self.chores.wait() {
            let now = self.options.clock.now_ms();
            for topic in self.all() {
                topic.keep_house(now);
            }
            if let Err(error) = self.groups.save(&*self.disk, &self.dir) {
                tracing::warn!(%error, "committed offsets not saved; trying again");
            }
        }
    }

    fn create(&self, spec: &TopicSpec) -> Result<TopicDescription, Error> {
        let mut catalog = self.catalog();
        if let Some(existing) = self.find(&spec.topic) {
            let has = existing.spec();
            if (has.partitions, has.durability, has.cleanup) != (spec.partitions, spec.durability, spec.cleanup) {
                let context = format!("topic {} exists as {has:?}, wanted {spec:?}", spec.topic);
                return Err(Error::new(ErrorKind::Mismatch, context));
            }
            return Ok(existing.description());
        }
        if spec.partitions == 0 || spec.partitions > PARTITIONS_MAX || spec.record_bytes_max > RECORD_BYTES_MAX {
            let context = format!(
                "topic {}: 1 to {PARTITIONS_MAX} partitions, records up to {RECORD_BYTES_MAX} bytes",
                spec.topic
            );
            return Err(Error::new(ErrorKind::Mismatch, context));
        }
        let state = match spec.durability {
            Durability::InMemory => TopicState::in_memory(spec.clone(), catalog.boot(), self.options.clock.clone()),
            Durability::Synced => {
                let entry = catalog.add(&*self.disk, &self.dir, spec)?;
                TopicState::open_durable(&self.disk, &self.dir, &spec.topic, entry, &self.options)?.0
            }
        };
        let description = state.description();
        self.topics.write().unwrap_or_else(PoisonError::into_inner).insert(spec.topic.clone(), Arc::new(state));
        Ok(description)
    }

    fn delete(&self, topic: &Topic) -> Result<(), Error> {
        let mut catalog = self.catalog();
        let gone = self.topics.write().unwrap_or_else(PoisonError::into_inner).remove(topic);
        let Some(gone) = gone else { return Ok(()) };
        gone.close(true);
        catalog.remove(&*self.disk, &self.dir, topic)?;
        self.groups.forget(topic);
        if gone.spec().durability == Durability::Synced {
            let dir = self.dir.join(topic.as_str());
            self.disk.remove_dir_all(&dir).map_err(|error| disk_error(format!("remove {}", dir.display()), error))?;
        }
        Ok(())
    }
}

impl EventLog for EmbeddedLog {
    fn create_topic<'a>(&'a self, spec: &'a TopicSpec) -> BoxFuture<'a, Result<TopicDescription, Error>> {
        ready(self.shared.create(spec)).boxed()
    }

    fn delete_topic<'a>(&'a self, topic: &'a Topic) -> BoxFuture<'a, Result<(), Error>> {
        ready(self.shared.delete(topic)).boxed()
    }

    fn describe<'a>(&'a self, topic: &'a Topic) -> BoxFuture<'a, Result<Option<TopicDescription>, Error>> {
        ready(Ok(self.shared.find(topic).map(|state| state.description()))).boxed()
    }

    fn append(&self, to: &TopicPartition, records: Vec<Record>) -> Result<Append, AppendError> {
        match self.partition(to) {
            Ok(state) => state.append(to.partition, records),
            Err(error) => Err(AppendError { records, error }),
        }
    }

    fn read<'a>(
        &'a self,
        from: &'a TopicPartition,
        offset: LogOffset,
    ) -> BoxFuture<'a, Result<Box<dyn PartitionReader>, Error>> {
        let reader = self.partition(from).map(|state| state.reader(from.partition, offset));
        ready(reader).boxed()
    }

    fn bounds<'a>(&'a self, of: &'a TopicPartition) -> BoxFuture<'a, Result<Bounds, Error>> {
        ready(self.partition(of).map(|state| state.bounds(of.partition))).boxed()
    }

    fn offset_at<'a>(&'a self, of: &'a TopicPartition, time: AppendTime) -> BoxFuture<'a, Result<LogOffset, Error>> {
        async move {
            let state = self.partition(of)?;
            let partition = of.partition;
            blocking(move || state.offset_at(partition, time)).await
        }
        .boxed()
    }

    fn join<'a>(&'a self, group: &'a str, topic: &'a Topic) -> BoxFuture<'a, Result<Box<dyn Membership>, Error>> {
        let joined = self.topic(topic).map(|state| {
            let partitions = state.spec().partitions;
            Box::new(groups::Member::join(&self.shared.groups, group, topic, partitions)) as Box<dyn Membership>
        });
        ready(joined).boxed()
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), Error>> {
        async move {
            for topic in self.shared.all() {
                topic.flush().await;
            }
            Ok(())
        }
        .boxed()
    }
}

/// Runs work that reads files off the async threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(Error::new(ErrorKind::Closed, "the read was cut off").with_source(error)))
}

impl Drop for EmbeddedLog {
    fn drop(&mut self) {
        self.shared.chores.end();
        if let Some(housekeeper) = self.housekeeper.take() {
            // It only fails by a panic, which has been reported.
            let _ = housekeeper.join();
        }
        for topic in self.shared.all() {
            topic.close(false);
        }
        if let Err(error) = self.shared.groups.save(&*self.shared.disk, &self.shared.dir) {
            tracing::warn!(%error, "committed offsets not saved at the end");
        }
    }
}
