//! One partition: reads judged events, finds who sees them, and appends one delivery per record and process.

use crate::directory::{Directory, ProcessIndex};
use crate::limits::{
    COMMIT_INTERVAL, DERIVED_ASKED_MAX, DERIVED_WAITING_MAX, LOADS_AT_ONCE_MAX, SIGNALS_PER_BATCH_MAX,
};
use crate::members::Members;
use crate::pending::Pending;
use crate::{Deps, derived};
use domain::{
    ChannelId, ChannelSeq, Command, EventKind, LogCursor, Outcome, PartitionId, TimelineRecord, UserId, Verdict,
};
use eventlog::{Append, Appended, Bounds, ErrorKind, PartitionReader, Record, RecordBatch, Topic, TopicPartition};
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{self, FuturesUnordered, StreamExt, TryStreamExt};
use runtime::Shutdown;
use schemas::records::{Delivery, decode_signal, encode_delivery};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use store::Memberships;
use timeline::topics::key_of;
use timeline::{Asker, Backoff, Read, TimelineReader, What};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

/// The routing of one partition.
#[derive(Debug)]
pub(crate) struct Worker {
    partition: PartitionId,
    start: LogCursor,
    deps: Deps,
    directory: Arc<Directory>,
    asker: Asker,
    commits: mpsc::Sender<(u32, LogCursor)>,
}

/// Why a partition stops for a while.
#[derive(Debug, thiserror::Error)]
enum Stop {
    #[error("log: {0}")]
    Log(#[from] eventlog::Error),
    #[error("store: {0}")]
    Store(#[from] store::Error),
    #[error("record at offset {offset} can't be decoded, and a valid event is never skipped: {error}")]
    Unreadable { offset: u64, error: schemas::records::DecodeError },
}

impl Worker {
    pub(crate) fn new(
        partition: PartitionId,
        start: LogCursor,
        deps: Deps,
        directory: Arc<Directory>,
        asker: Asker,
        commits: mpsc::Sender<(u32, LogCursor)>,
    ) -> Self {
        Self { partition, start, deps, directory, asker, commits }
    }

    /// Routes until the shutdown, starting again from the last resolved position after any fault.
    pub(crate) async fn keep_running(mut self, mut backoff: Backoff, shutdown: Shutdown) {
        loop {
            match shutdown.or_until(self.route_all()).await {
                None => return,
                Some(Ok(never)) => match never {},
                Some(Err(stop)) => {
                    tracing::error!(partition = %self.partition, error = %stop, "routing stopped; trying again");
                    if shutdown.or_until(backoff.wait()).await.is_none() {
                        return;
                    }
                }
            }
        }
    }

    async fn route_all(&mut self) -> Result<std::convert::Infallible, Stop> {
        let covered = self.writer_progress().await?;
        // Changes that the store may not have yet must be known: read on from the older of the two positions.
        let from = if covered.offset < self.start.offset { covered } else { self.start.clone() };
        let mut reader = TimelineReader::open(&self.deps.log, self.partition, from).await?;
        let mut signals = self.open_signals().await?;
        let mut routing = Routing::new(Arc::clone(&self.deps.memberships));
        let mut ticks = tokio::time::interval(COMMIT_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let has_room = routing.derived_waiting.len() < DERIVED_WAITING_MAX;
            tokio::select! {
                biased;
                Some((batch, process, epoch, landed)) = routing.appends.next() => routing.landed(batch, process, epoch, landed)?,
                Some(batch) = routing.asked.next() => {
                    routing.pending.settled(batch);
                    routing.ask_more(&self.asker);
                }
                _ = ticks.tick() => {
                    routing.members.covered_below(self.writer_progress().await?.offset);
                    self.commit_resolved(&mut routing);
                }
                reads = reader.next(), if has_room => {
                    self.route_batch(&reads?, reader.cursor(), &mut routing).await?;
                    routing.ask_more(&self.asker);
                }
                batch = signals.next() => self.route_signals(&batch?, &mut routing).await?,
            }
        }
    }

    async fn writer_progress(&self) -> Result<LogCursor, Stop> {
        let trail = self.deps.projections.progress(self.partition).await?;
        Ok(trail.into_iter().next_back().map(|newest| newest.cursor).unwrap_or_default())
    }

    async fn open_signals(&self) -> Result<Box<dyn PartitionReader>, Stop> {
        let source = Topic::new(schemas::topics::SIGNALS).partition(u32::from(self.partition.0));
        let Bounds { end, .. } = self.deps.log.bounds(&source).await?;
        Ok(self.deps.log.read(&source, end).await?)
    }

    fn commit_resolved(&mut self, routing: &mut Routing) {
        let resolved = routing.pending.resolve(&self.directory.table());
        if let Some(cursor) = resolved {
            self.start = cursor.clone();
            // A full queue: the next commit says more.
            let _ = self.commits.try_send((u32::from(self.partition.0), cursor));
        }
    }

    async fn route_batch(&self, reads: &[Read], cursor: &LogCursor, routing: &mut Routing) -> Result<(), Stop> {
        for read in reads {
            match &read.what {
                What::Unreadable(error) if !error.is_foreign() => {
                    return Err(Stop::Unreadable { offset: read.offset, error: error.clone() });
                }
                What::Valid(TimelineRecord::Outcome(outcome)) => {
                    if let Verdict::Accepted(events) = &outcome.verdict {
                        routing.members.remember(outcome.channel, read.offset, events);
                    }
                }
                // The sequencer puts foreign records aside and counts void ones.
                What::Unreadable(_) | What::Valid(TimelineRecord::Claim { .. }) | What::Void { .. } => {}
            }
        }
        let due: Vec<(&Read, &Outcome)> = reads
            .iter()
            .filter(|read| read.offset >= self.start.offset)
            .filter_map(|read| match &read.what {
                What::Valid(TimelineRecord::Outcome(outcome)) => Some((read, outcome)),
                _ => None,
            })
            .collect();
        if due.is_empty() {
            if cursor.offset > self.start.offset {
                routing.pending.push(cursor.clone());
            }
            return Ok(());
        }
        routing.load_members(&due).await?;
        let audiences = routing.audiences(&due);

        // Nobody is judged absent, nor a device of theirs, before the sessions are read to the end that they have now.
        self.directory.catch_up().await?;
        let deliveries = self.address(&due, &audiences);
        let batch = routing.pending.push(cursor.clone());
        for ((process, epoch), records) in deliveries {
            let inbox = self.directory.table().process(process).inbox.clone();
            self.append(&inbox, records, (batch, process, epoch), routing).await?;
        }
        for (_, outcome) in &due {
            if let Verdict::Accepted(events) = &outcome.verdict {
                let commands =
                    events.iter().filter_map(|event| derived::command_for(outcome.channel, outcome.time, event));
                for command in commands {
                    routing.pending.expect(batch);
                    routing.derived_waiting.push_back((batch, command));
                }
            }
        }
        routing.members.shrink();
        Ok(())
    }

    /// The deliveries of a batch by process.
    fn address(&self, due: &[(&Read, &Outcome)], audiences: &[Vec<UserId>]) -> Deliveries {
        let table = self.directory.table();
        let mut deliveries = Deliveries::new();
        let mut processes: Vec<(ProcessIndex, u64, Vec<UserId>)> = Vec::new();
        for ((read, outcome), audience) in due.iter().zip(audiences) {
            processes.clear();
            for user in audience {
                for (process, epoch) in table.whereabouts(*user) {
                    match processes.iter_mut().find(|entry| entry.0 == process && entry.1 == epoch) {
                        Some((_, _, users)) if users.last() == Some(user) => {}
                        Some((_, _, users)) => users.push(*user),
                        None => processes.push((process, epoch, vec![*user])),
                    }
                }
            }
            let waiting = outcome.reply.as_ref().and_then(|reply| table.find(&reply.process));
            if let Some(process) = waiting
                && !processes.iter().any(|entry| entry.0 == process)
            {
                processes.push((process, table.process(process).epoch, Vec::new()));
            }
            for (process, process_epoch, recipients) in processes.drain(..) {
                let delivery = Delivery::Outcome {
                    process_epoch,
                    partition: self.partition.0,
                    offset: read.offset,
                    recipients,
                    reply: outcome.reply.clone().filter(|_| waiting == Some(process)),
                    record: read.value.clone(),
                };
                let record = Record::new(key_of(&outcome.channel.0), encode_delivery(&delivery));
                deliveries.entry((process, process_epoch)).or_default().push(record);
            }
        }
        deliveries
    }

    /// Appends to a process's topic in order; waits while its queue is full. A topic that is gone has no reader to miss it.
    async fn append(
        &self,
        inbox: &TopicPartition,
        mut records: Vec<Record>,
        (batch, process, epoch): (u64, ProcessIndex, u64),
        routing: &mut Routing,
    ) -> Result<(), Stop> {
        let count = records.len() as u64;
        let mut backoff = Backoff::new(self.deps.entropy.clone(), Duration::from_millis(1), Duration::from_millis(100));
        loop {
            match self.deps.log.append(inbox, records) {
                Ok(append) => {
                    routing.track(append, count, batch, process, epoch)?;
                    return Ok(());
                }
                Err(refused) if refused.error.kind() == ErrorKind::UnknownTopic => return Ok(()),
                Err(refused) if refused.error.is_retryable() => {
                    records = refused.records;
                    backoff.wait().await;
                }
                Err(refused) => return Err(refused.error.into()),
            }
        }
    }

    /// Signals go to the members who are there, or nowhere.
    async fn route_signals(&self, batch: &RecordBatch, routing: &mut Routing) -> Result<(), Stop> {
        let dropped = batch.len().saturating_sub(SIGNALS_PER_BATCH_MAX);
        if dropped > 0 {
            metrics::counter!("hubbub_signals_dropped_total").increment(dropped as u64);
        }
        for stored in batch.iter().take(SIGNALS_PER_BATCH_MAX) {
            let Ok(signal) = decode_signal(stored.record.value.as_deref().unwrap_or_default()) else {
                metrics::counter!("hubbub_signals_unreadable_total").increment(1);
                continue;
            };
            if !routing.members.knows(signal.channel) {
                let rows = self.deps.memberships.members_of(signal.channel).await?;
                routing.members.insert(signal.channel, &rows, ChannelSeq(u64::MAX));
            }
            let members = routing.members.members(signal.channel).unwrap_or_default();
            if members.binary_search(&signal.user).is_err() {
                continue;
            }
            let mut addressed: BTreeMap<(ProcessIndex, u64), Vec<UserId>> = BTreeMap::new();
            {
                let table = self.directory.table();
                for member in members.iter().filter(|member| **member != signal.user) {
                    for whereabouts in table.whereabouts(*member) {
                        addressed.entry(whereabouts).or_default().push(*member);
                    }
                }
            }
            for ((process, process_epoch), recipients) in addressed {
                let inbox = self.directory.table().process(process).inbox.clone();
                let delivery = Delivery::Signal { process_epoch, recipients, signal: signal.clone() };
                let record = Record::new(key_of(&signal.channel.0), encode_delivery(&delivery));
                // A full queue drops the signal: it is one of those that may be lost.
                drop(self.deps.log.append(&inbox, vec![record]));
            }
        }
        Ok(())
    }
}

type Deliveries = BTreeMap<(ProcessIndex, u64), Vec<Record>>;
type Landed = (u64, ProcessIndex, u64, Result<(Appended, u64), eventlog::Error>);

/// What a partition has in hand.
struct Routing {
    memberships: Arc<dyn Memberships>,
    members: Members,
    pending: Pending,
    appends: FuturesUnordered<BoxFuture<'static, Landed>>,
    derived_waiting: VecDeque<(u64, Command)>,
    asked: FuturesUnordered<BoxFuture<'static, u64>>,
}

impl Routing {
    fn new(memberships: Arc<dyn Memberships>) -> Self {
        Self {
            memberships,
            members: Members::new(),
            pending: Pending::default(),
            appends: FuturesUnordered::new(),
            derived_waiting: VecDeque::new(),
            asked: FuturesUnordered::new(),
        }
    }

    /// Reads the members of the channels that speak for the first time, as of just before their first record here.
    async fn load_members(&mut self, due: &[(&Read, &Outcome)]) -> Result<(), Stop> {
        let mut cold: BTreeMap<ChannelId, ChannelSeq> = BTreeMap::new();
        for (_, outcome) in due {
            if let Verdict::Accepted(events) = &outcome.verdict
                && let Some(first) = events.first()
                && !is_personal(&first.kind)
                && !self.members.knows(outcome.channel)
            {
                cold.entry(outcome.channel).or_insert(ChannelSeq(first.seq.0 - 1));
            }
        }
        let memberships = &self.memberships;
        let loaded: Vec<_> = stream::iter(cold)
            .map(|(channel, seq)| async move { memberships.members_of(channel).await.map(|rows| (channel, seq, rows)) })
            .buffered(LOADS_AT_ONCE_MAX)
            .try_collect()
            .await?;
        for (channel, seq, rows) in loaded {
            self.members.insert(channel, &rows, seq);
        }
        Ok(())
    }

    /// Who sees each record, in the order of the log.
    fn audiences(&mut self, due: &[(&Read, &Outcome)]) -> Vec<Vec<UserId>> {
        let mut audience_of = |outcome: &Outcome| {
            let mut audience = Vec::new();
            if let Verdict::Accepted(events) = &outcome.verdict {
                if events.first().is_some_and(|event| is_personal(&event.kind)) {
                    audience.push(UserId(outcome.channel.0));
                } else {
                    self.members.audience(outcome.channel, events, &mut audience);
                }
            }
            audience
        };
        due.iter().map(|(_, outcome)| audience_of(outcome)).collect()
    }

    /// Remembers where an append lands: at once if it has landed already (embedded), else when it does.
    fn track(&mut self, append: Append, count: u64, batch: u64, process: ProcessIndex, epoch: u64) -> Result<(), Stop> {
        let mut landing =
            append.map(move |landed| (batch, process, epoch, landed.map(|appended| (appended, count)))).boxed();
        self.pending.expect(batch);
        if let Some((_, _, _, landed)) = (&mut landing).now_or_never() {
            return self.landed(batch, process, epoch, landed);
        }
        self.appends.push(landing);
        Ok(())
    }

    fn landed(
        &mut self,
        batch: u64,
        process: ProcessIndex,
        epoch: u64,
        landed: Result<(Appended, u64), eventlog::Error>,
    ) -> Result<(), Stop> {
        match landed {
            Ok((appended, count)) => {
                let last = eventlog::LogOffset(appended.first.0 + count - 1);
                self.pending.delivered(batch, process, epoch, last);
            }
            Err(error) if error.kind() == ErrorKind::UnknownTopic => {}
            // Unknown outcome: route again from the last resolved position; gateways dedupe.
            Err(error) => return Err(error.into()),
        }
        self.pending.settled(batch);
        Ok(())
    }

    /// Asks for waiting derived commands while there is room.
    fn ask_more(&mut self, asker: &Asker) {
        while self.asked.len() < DERIVED_ASKED_MAX
            && let Some((batch, command)) = self.derived_waiting.pop_front()
        {
            self.asked.push(ask_until_answered(asker.clone(), command, batch).boxed());
        }
    }
}

/// A derived command is asked until it is answered, whatever the answer: a duplicate is as good as the first.
async fn ask_until_answered(asker: Asker, command: Command, batch: u64) -> u64 {
    const PATIENCE: Duration = Duration::from_secs(30);
    while let Err(error) = asker.ask(command.clone(), PATIENCE).await {
        tracing::warn!(channel = %command.channel, %error, "a derived command has no outcome yet; asking on");
    }
    batch
}

fn is_personal(kind: &EventKind) -> bool {
    matches!(kind, EventKind::ChannelJoined { .. } | EventKind::ChannelLeft { .. })
}
