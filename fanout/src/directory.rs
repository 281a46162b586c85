//! Who is connected where: the fold of `chat.sessions` and `chat.gateways`, shared by all partitions.

use crate::{Deps, Log};
use domain::UserId;
use eventlog::{Error, LogOffset, Topic, TopicPartition};
use foldhash::fast::FixedState;
use runtime::Shutdown;
use schemas::records::{decode_gateway, decode_session, parse_session_key};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;
use timeline::{Backoff, Topology, limits::LEASE};
use tokio::sync::watch;
use tokio::time::Instant;

/// A process by the order in which it was first heard of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ProcessIndex(pub(crate) u32);

/// The folded table.
#[derive(Debug)]
pub(crate) struct Directory {
    table: RwLock<Table>,
    log: Log,
    sessions: Vec<(TopicPartition, watch::Receiver<u64>)>,
}

/// One read of the table.
#[derive(Debug, Default)]
pub(crate) struct Table {
    processes: Vec<ProcessState>,
    by_name: HashMap<Box<str>, ProcessIndex, FixedState>,
    sessions: HashMap<UserId, Vec<Open>, FixedState>,
}

/// What is known of a process.
#[derive(Debug)]
pub(crate) struct ProcessState {
    /// Its own topic.
    pub(crate) inbox: TopicPartition,
    /// Its current epoch.
    pub(crate) epoch: u64,
    /// It has passed on everything below.
    delivered: LogOffset,
    last_heard: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Open {
    process: ProcessIndex,
    epoch: u64,
    connection: u64,
}

impl Directory {
    /// Folds both topics, up to their present ends before it returns, and from then on in the background.
    pub(crate) async fn start(deps: &Deps, topology: Topology, shutdown: &Shutdown) -> Result<Arc<Self>, Error> {
        let mut sessions = Vec::new();
        let mut positions = Vec::new();
        for source in topology.partitions_of(schemas::topics::SESSIONS) {
            let (position, reached) = watch::channel(0);
            sessions.push((source.clone(), reached));
            positions.push((source, position, Topic::new(schemas::topics::SESSIONS)));
        }
        let gateways = Topic::new(schemas::topics::GATEWAYS);
        let partitions = deps.log.describe(&gateways).await?.map_or(1, |description| description.partitions);
        let mut gateway_positions = Vec::new();
        for partition in 0..partitions {
            let (position, reached) = watch::channel(0);
            gateway_positions.push((gateways.partition(partition), reached));
            positions.push((gateways.partition(partition), position, gateways.clone()));
        }
        let directory = Arc::new(Self { table: RwLock::default(), log: deps.log.clone(), sessions });
        for (source, position, _) in positions {
            let backoff = Backoff::new(deps.entropy.clone(), Duration::from_millis(50), Duration::from_secs(5));
            deps.tasks.spawn(Arc::clone(&directory).fold(source, position, backoff, shutdown.clone()));
        }
        for (source, mut reached) in gateway_positions {
            wait_for_end(&deps.log, &source, &mut reached).await?;
        }
        directory.catch_up().await?;
        Ok(directory)
    }

    /// Reads the table. Held for one batch, never over an await.
    pub(crate) fn table(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `chat.sessions` is folded to the end that it has now: only then may anybody be judged offline.
    pub(crate) async fn catch_up(&self) -> Result<(), Error> {
        for (source, reached) in &self.sessions {
            wait_for_end(&self.log, source, &mut reached.clone()).await?;
        }
        Ok(())
    }

    async fn fold(
        self: Arc<Self>,
        source: TopicPartition,
        position: watch::Sender<u64>,
        mut backoff: Backoff,
        shutdown: Shutdown,
    ) {
        loop {
            match shutdown.or_until(self.fold_from(&source, &position)).await {
                None => return,
                Some(Ok(never)) => match never {},
                Some(Err(error)) => {
                    tracing::warn!(%source, %error, "sessions can't be read; trying again");
                    if shutdown.or_until(backoff.wait()).await.is_none() {
                        return;
                    }
                }
            }
        }
    }

    async fn fold_from(
        &self,
        source: &TopicPartition,
        position: &watch::Sender<u64>,
    ) -> Result<std::convert::Infallible, Error> {
        let start = LogOffset(*position.borrow());
        let mut reader = self.log.read(source, start).await?;
        loop {
            let batch = reader.next().await?;
            {
                let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
                for stored in batch.iter() {
                    table.apply(source, &stored.record);
                }
            }
            position.send_replace(batch[batch.len() - 1].offset.0 + 1);
        }
    }
}

async fn wait_for_end(log: &Log, source: &TopicPartition, reached: &mut watch::Receiver<u64>) -> Result<(), Error> {
    let bounds = log.bounds(source).await?;
    if bounds.start < bounds.end {
        // The sender ends only with the role itself, which drops this wait too.
        let _ = reached.wait_for(|position| *position >= bounds.end.0).await;
    }
    Ok(())
}

impl Table {
    /// The processes where a person has a connection, each with the epoch to address.
    pub(crate) fn whereabouts(&self, user: UserId) -> impl Iterator<Item = (ProcessIndex, u64)> + '_ {
        self.sessions.get(&user).into_iter().flatten().filter_map(|open| {
            let epoch = self.process(open.process).epoch;
            // A session may be read before the heartbeat of its epoch, never live after a later one.
            (open.epoch >= epoch).then_some((open.process, open.epoch))
        })
    }

    /// A process by index.
    pub(crate) fn process(&self, index: ProcessIndex) -> &ProcessState {
        &self.processes[index.0 as usize]
    }

    /// A process by name.
    pub(crate) fn find(&self, name: &str) -> Option<ProcessIndex> {
        self.by_name.get(name).copied()
    }

    fn apply(&mut self, source: &TopicPartition, record: &eventlog::Record) {
        if source.topic.as_str() == schemas::topics::GATEWAYS {
            self.apply_gateway(record);
        } else {
            self.apply_session(record);
        }
    }

    fn apply_gateway(&mut self, record: &eventlog::Record) {
        let Some(value) = &record.value else { return };
        match decode_gateway(value) {
            Ok(heartbeat) => {
                let index = self.index_of(&heartbeat.process);
                let state = &mut self.processes[index.0 as usize];
                state.epoch = state.epoch.max(heartbeat.epoch);
                state.delivered = LogOffset(heartbeat.delivered_offset);
                state.last_heard = Instant::now();
            }
            Err(error) => tracing::warn!(%error, "heartbeat passed over"),
        }
    }

    fn apply_session(&mut self, record: &eventlog::Record) {
        let Some((user, _, process, epoch, connection)) = parse_session_key(&record.key) else {
            tracing::warn!("a record of chat.sessions has no session's key; passed over");
            return;
        };
        let process = self.index_of(&process);
        let open = Open { process, epoch, connection };
        match &record.value {
            Some(value) if decode_session(value).is_ok() => {
                let sessions = self.sessions.entry(user).or_default();
                if !sessions.contains(&open) {
                    sessions.push(open);
                }
            }
            Some(_) => tracing::warn!("a session can't be decoded; passed over"),
            None => {
                if let Some(sessions) = self.sessions.get_mut(&user) {
                    sessions.retain(|other| *other != open);
                    if sessions.is_empty() {
                        self.sessions.remove(&user);
                    }
                }
            }
        }
    }

    fn index_of(&mut self, name: &str) -> ProcessIndex {
        if let Some(index) = self.by_name.get(name) {
            return *index;
        }
        let index = ProcessIndex(self.processes.len() as u32);
        self.processes.push(ProcessState {
            inbox: timeline::topics::process_topic(name).partition(0),
            epoch: 0,
            delivered: LogOffset(0),
            last_heard: Instant::now(),
        });
        self.by_name.insert(name.into(), index);
        index
    }
}

impl ProcessState {
    /// Whether a delivery of that epoch at that offset needs no more waiting: passed on, or its epoch is over.
    pub(crate) fn has_resolved(&self, epoch: u64, offset: LogOffset) -> bool {
        self.epoch > epoch || self.delivered > offset || self.last_heard.elapsed() > LEASE
    }
}
