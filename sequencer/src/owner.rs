//! The owner of one partition: takes commands, decides them, appends, and reads back what it appended.

use crate::limits::{
    APPEND_AGAIN_AFTER, APPEND_BYTES_MAX, APPEND_RECORDS_MAX, CLAIM_AGAIN_AFTER, CLAIM_AGAIN_AFTER_MAX, LANDED_WITHIN,
    LOW_TRAILS_BY_MAX, TICK, UNLANDED_BYTES_MAX, UNLANDED_RECORDS_MAX,
};
use crate::loading::{Answers, load};
use crate::parking::{Parking, Taken, Wants};
use crate::recovery::{self, NotOwned, Owned};
use crate::{Error, Shared};
use bytes::Bytes;
use domain::decide::StateMemory;
use domain::{
    Answer, ChannelId, CommandPosition, Decision, Epoch, LogCursor, LogTime, Lookup, Outcome, OwnerSeq, PartitionId,
    PartitionState, RejectCause, TimelineRecord, Verdict,
};
use eventlog::{
    Append, LogOffset, PartitionReader, Record, RecordBatch, SharedLog, StoredRecord, Topic, TopicPartition,
};
use futures_util::future::BoxFuture;
use metrics::{Counter, Gauge};
use runtime::Shutdown;
use runtime::health::Component;
use schemas::records::{TimelinePosition, decode_command, encode_timeline, peek_timeline};
use schemas::topics::TIMELINE_RECORD_BYTES_MAX;
use std::collections::VecDeque;
use std::sync::Arc;
use store::ProgressCursor;
use timeline::Backoff;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

/// Owns the partition, again and again, until the stop. An error is one that only a person can heal.
pub(crate) async fn keep(partition: PartitionId, shared: Arc<Shared>, stop: Shutdown) -> Result<(), Error> {
    let health = shared.deps.health.component(format!("sequencer/{partition}"));
    let mut backoff = Backoff::new(Arc::clone(&shared.deps.entropy), CLAIM_AGAIN_AFTER, CLAIM_AGAIN_AFTER_MAX);
    loop {
        let reason = match stop.or_until(recovery::take(partition, &shared)).await {
            None => break,
            Some(Err(NotOwned::Fatal(error))) => {
                health.not_ready(error.to_string());
                tracing::error!(%partition, %error, "this partition must not be owned");
                return Err(error);
            }
            Some(Err(reason)) => {
                report_not_owned(partition, &reason);
                reason.to_string()
            }
            Some(Ok(owned)) => {
                let (epoch, low) = (owned.cursor.epoch, owned.cursor.low);
                tracing::info!(%partition, epoch = epoch.0, incarnation = low.incarnation, next = low.offset, "partition owned");
                metrics::counter!("hubbub_sequencer_claims_total").increment(1);
                health.ready();
                let mut owner = match Owner::open(partition, &shared, &health, owned).await {
                    Ok(owner) => owner,
                    Err(error) => {
                        tracing::warn!(%partition, %error, "the log can't be read; claiming again");
                        if stop.or_until(backoff.wait()).await.is_none() {
                            break;
                        }
                        continue;
                    }
                };
                match owner.own(&stop).await {
                    Ended::Stopped => break,
                    Ended::SteppedDown(reason) => {
                        if owner.landed > OwnerSeq(0) {
                            backoff.reset();
                        }
                        metrics::counter!("hubbub_sequencer_step_downs_total", "reason" => reason.label()).increment(1);
                        tracing::warn!(%partition, epoch = epoch.0, %reason, "stepped down; claiming again");
                        reason.to_string()
                    }
                }
            }
        };
        health.not_ready(reason);
        if stop.or_until(backoff.wait()).await.is_none() {
            break;
        }
    }
    // Another member's now, or nobody's: no reason for this process to be unready.
    health.ready();
    Ok(())
}

fn report_not_owned(partition: PartitionId, reason: &NotOwned) {
    metrics::counter!("hubbub_sequencer_claims_failed_total").increment(1);
    match reason {
        NotOwned::Unreadable { .. } => {
            tracing::error!(%partition, %reason, "not owned: a newer version wrote here; trying again");
        }
        NotOwned::Log(error) if !error.is_retryable() => {
            tracing::error!(%partition, %reason, "not owned; trying again");
        }
        _ => tracing::warn!(%partition, %reason, "not owned; trying again"),
    }
}

/// How an ownership ends.
enum Ended {
    Stopped,
    SteppedDown(StepDown),
}

/// Why an owner leaves. What it had decided but not seen land is decided again by the next one.
#[derive(Debug, thiserror::Error)]
enum StepDown {
    #[error("epoch {} was claimed", .0.0)]
    HigherEpoch(Epoch),
    #[error("the own record {n} read void at offset {offset}: expected {expected}")]
    OwnVoid { n: OwnerSeq, expected: OwnerSeq, offset: LogOffset },
    #[error("own records did not come back within {LANDED_WITHIN:?}")]
    Late,
    #[error("an append failed: {0}")]
    Append(eventlog::Error),
    #[error("the log can't be read: {0}")]
    Read(eventlog::Error),
    #[error("a record at offset {offset} can't be read: {cause}")]
    Unreadable { offset: LogOffset, cause: String },
    #[error(
        "the commands log went on from offset {expected} to {found}: what was between is lost to its senders' retries"
    )]
    CommandsLost { expected: u64, found: u64 },
    #[error("a command that can't be read was not put aside: {0}")]
    NotPutAside(eventlog::Error),
}

impl StepDown {
    const fn label(&self) -> &'static str {
        match self {
            Self::HigherEpoch(_) => "higher_epoch",
            Self::OwnVoid { .. } => "own_void",
            Self::Late => "late",
            Self::Append(_) => "append",
            Self::Read(_) => "read",
            Self::Unreadable { .. } => "unreadable",
            Self::CommandsLost { .. } => "commands_lost",
            Self::NotPutAside(_) => "not_put_aside",
        }
    }
}

/// An own record on its way into the log and back.
struct Unlanded {
    outcome: Outcome,
    bytes: usize,
}

/// A command that can't be read, on its way to the dead letters.
struct Poison {
    at: CommandPosition,
    time: LogTime,
    key: Bytes,
    put_aside: BoxFuture<'static, Result<(), eventlog::Error>>,
}

struct Owner<'a> {
    partition: PartitionId,
    shared: &'a Shared,
    health: &'a Component,
    state: PartitionState,
    epoch: Epoch,

    commands_at: TopicPartition,
    commands: Box<dyn PartitionReader>,
    incarnation: u64,
    /// The offset of the next command to take.
    next: u64,
    /// What was decided before this ownership.
    decided_before: LogCursor,
    /// Commands that were read, and how many of them are taken.
    batch: Option<(RecordBatch, usize)>,
    poison: Option<Poison>,
    parking: Parking,
    loading: Option<BoxFuture<'static, Answers>>,

    messages: TopicPartition,
    /// Decided, not yet appended: only within one turn of the loop, or while the log's queue is full.
    out: Vec<Record>,
    out_bytes: usize,
    append_again: Option<Instant>,
    appends: VecDeque<Append>,
    unlanded: VecDeque<Unlanded>,
    unlanded_bytes: usize,
    /// For each append that is under way, its last n and when it was made.
    appended: VecDeque<(OwnerSeq, Instant)>,
    /// The last n that the log took.
    appended_to: OwnerSeq,

    tail: Box<dyn PartitionReader>,
    landed: OwnerSeq,
    /// Behind the last own record that was read back.
    landed_to: LogOffset,
    progress: u64,
    asking_progress: Option<BoxFuture<'static, Result<Vec<ProgressCursor>, store::Error>>>,
    meters: Meters,
}

impl<'a> Owner<'a> {
    async fn open(
        partition: PartitionId,
        shared: &'a Shared,
        health: &'a Component,
        owned: Owned,
    ) -> Result<Self, eventlog::Error> {
        let log = &shared.deps.log;
        let commands_at = Topic::new(schemas::topics::COMMANDS).partition(u32::from(partition.0));
        let messages = Topic::new(schemas::topics::MESSAGES).partition(u32::from(partition.0));
        Ok(Self {
            partition,
            shared,
            health,
            state: owned.state,
            epoch: owned.cursor.epoch,
            commands: log.read(&commands_at, LogOffset(owned.next)).await?,
            commands_at,
            incarnation: owned.incarnation,
            next: owned.next,
            decided_before: owned.cursor,
            batch: None,
            poison: None,
            parking: Parking::default(),
            loading: None,
            tail: log.read(&messages, owned.tail).await?,
            messages,
            out: Vec::new(),
            out_bytes: 0,
            append_again: None,
            appends: VecDeque::new(),
            unlanded: VecDeque::new(),
            unlanded_bytes: 0,
            appended: VecDeque::new(),
            appended_to: OwnerSeq(0),
            landed: OwnerSeq(0),
            landed_to: owned.tail,
            progress: owned.progress,
            asking_progress: None,
            meters: Meters::new(partition),
        })
    }

    async fn own(&mut self, stop: &Shutdown) -> Ended {
        match self.turns(stop).await {
            Ok(()) => Ended::Stopped,
            Err(reason) => Ended::SteppedDown(reason),
        }
    }

    /// One turn a wake: whatever has come is taken in, all that can be decided is decided, and goes out as one append.
    async fn turns(&mut self, stop: &Shutdown) -> Result<(), StepDown> {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.decide_batch()?;
            self.append()?;
            self.ask_the_store();
            let may_read = self.batch.is_none() && self.may_take();
            tokio::select! {
                biased;
                () = stop.begun() => return Ok(()),
                result = first_append(&mut self.appends) => result.map_err(StepDown::Append)?,
                back = self.tail.next() => self.read_back(&back.map_err(StepDown::Read)?)?,
                answers = answered(&mut self.loading) => self.unpark(answers)?,
                put_aside = answered_poison(&mut self.poison) => self.poisoned(put_aside)?,
                batch = self.commands.next(), if may_read => self.batch = Some((batch.map_err(StepDown::Read)?, 0)),
                progress = answered(&mut self.asking_progress) => self.forget(progress),
                () = sleep_until(self.append_again.unwrap_or_else(Instant::now)), if self.append_again.is_some() => {
                    self.append_again = None;
                }
                _ = ticks.tick() => self.tick()?,
            }
        }
    }

    /// Whether one more command may be decided or parked.
    fn may_take(&self) -> bool {
        self.unlanded.len() < UNLANDED_RECORDS_MAX
            && self.unlanded_bytes < UNLANDED_BYTES_MAX
            && self.append_again.is_none()
            && self.poison.is_none()
            && !self.parking.is_full()
            && self.parking.lowest().is_none_or(|lowest| self.next - lowest < LOW_TRAILS_BY_MAX)
    }

    /// Takes as many of the commands that were read as the bounds allow.
    fn decide_batch(&mut self) -> Result<(), StepDown> {
        let Some((batch, mut taken)) = self.batch.take() else { return Ok(()) };
        while taken < batch.len() && self.may_take() {
            self.take(&batch[taken])?;
            taken += 1;
        }
        if taken < batch.len() {
            self.batch = Some((batch, taken));
        }
        Ok(())
    }

    fn take(&mut self, stored: &StoredRecord) -> Result<(), StepDown> {
        let offset = stored.offset.0;
        if offset != self.next {
            self.meters.commands_lost.increment(offset.saturating_sub(self.next));
            return Err(StepDown::CommandsLost { expected: self.next, found: offset });
        }
        self.next += 1;
        let at = CommandPosition { incarnation: self.incarnation, offset };
        if self.decided_before.has_decided(at) {
            return Ok(());
        }
        let time = LogTime(stored.time.0);
        let value = stored.record.value.as_deref().unwrap_or_default();
        let command = match decode_command(value) {
            Ok(command) if self.shared.config.topology.partition_of(command.channel) == self.partition => command,
            Ok(_) => {
                self.put_aside(stored, at, "a command for a channel of another partition");
                return Ok(());
            }
            Err(error) => {
                self.put_aside(stored, at, &error.to_string());
                return Ok(());
            }
        };
        let taken = Taken { command, at, time, bytes: value.len(), lookup: Lookup::NotAsked };
        if self.parking.holds(taken.command.channel) {
            self.parking.park(taken, Wants::Head);
            return Ok(());
        }
        match self.state.decide(&taken.command, at, time, taken.lookup) {
            Decision::Decided(outcome) => self.decided(outcome)?,
            Decision::NeedsHead => self.parking.park(taken, Wants::Head),
            Decision::NeedsLookup => self.parking.park(taken, Wants::Id),
        }
        Ok(())
    }

    /// Decides the parked commands of a channel, in order, until one needs the store (again).
    fn decide_parked(&mut self, channel: ChannelId) -> Result<(), StepDown> {
        while let Some(first) = self.parking.first(channel) {
            match self.state.decide(&first.command, first.at, first.time, first.lookup) {
                Decision::Decided(outcome) => {
                    self.parking.remove_first(channel);
                    self.decided(outcome)?;
                }
                Decision::NeedsHead => {
                    self.parking.ask(channel, Wants::Head);
                    return Ok(());
                }
                Decision::NeedsLookup => {
                    self.parking.ask(channel, Wants::Id);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// From here the outcome is part of the state, and on its way into the log. One that no record can hold is refused here, for
    /// how much a record takes is not `decide`'s to know.
    fn decided(&mut self, mut outcome: Outcome) -> Result<(), StepDown> {
        let key = timeline::topics::key_of(&outcome.channel.0);
        let mut record = TimelineRecord::Outcome(outcome);
        let mut value = encode_timeline(&record);
        if key.len() + value.len() > TIMELINE_RECORD_BYTES_MAX
            && let TimelineRecord::Outcome(too_large) = &mut record
        {
            too_large.verdict = Verdict::Answered(Answer::Rejected(RejectCause::BadBody));
            value = encode_timeline(&record);
        }
        outcome = match record {
            TimelineRecord::Outcome(outcome) => outcome,
            TimelineRecord::Claim { .. } => return Ok(()),
        };
        self.state.evolve(&outcome);
        self.meters.decided(&outcome.verdict);
        let bytes = value.len();
        if self.out.len() >= APPEND_RECORDS_MAX || self.out_bytes + bytes > APPEND_BYTES_MAX {
            self.append()?;
        }
        self.out.push(Record::new(key, value));
        self.out_bytes += bytes;
        self.unlanded.push_back(Unlanded { outcome, bytes });
        self.unlanded_bytes += bytes;
        Ok(())
    }

    /// Appends what was decided, as one. What a full queue gives back goes first, later.
    fn append(&mut self) -> Result<(), StepDown> {
        if self.out.is_empty() || self.append_again.is_some() {
            return Ok(());
        }
        let records = std::mem::take(&mut self.out);
        let last = OwnerSeq(self.appended_to.0 + records.len() as u64);
        let now = Instant::now();
        match self.shared.deps.log.append(&self.messages, records) {
            Ok(append) => {
                self.out_bytes = 0;
                self.appends.push_back(append);
                self.appended.push_back((last, now));
                self.appended_to = last;
            }
            Err(refused) if refused.error.is_retryable() => {
                self.out = refused.records;
                self.append_again = Some(now + APPEND_AGAIN_AFTER);
                self.meters.queue_full.increment(1);
            }
            Err(refused) => return Err(StepDown::Append(refused.error)),
        }
        Ok(())
    }

    /// Judges what stands in the log behind the own claim. Only three things can happen there: the own next record, a claim
    /// above the own epoch, or what counts for nobody.
    fn read_back(&mut self, batch: &RecordBatch) -> Result<(), StepDown> {
        for stored in batch.iter() {
            let offset = stored.offset;
            let value = stored.record.value.as_deref().unwrap_or_default();
            match peek_timeline(value) {
                Ok(TimelinePosition::Outcome(epoch, n)) if epoch == self.epoch => self.own_read_back(n, offset)?,
                Ok(TimelinePosition::Claim(epoch)) if epoch > self.epoch => return Err(StepDown::HigherEpoch(epoch)),
                Ok(TimelinePosition::Outcome(epoch, _)) if epoch > self.epoch => {
                    self.meters.void_unclaimed.increment(1);
                    tracing::error!(partition = %self.partition, %offset, epoch = epoch.0, "a record without a claim; void");
                }
                Ok(_) => self.meters.void.increment(1),
                Err(error) if error.is_foreign() => self.meters.foreign.increment(1),
                Err(error) => return Err(StepDown::Unreadable { offset, cause: error.to_string() }),
            }
        }
        Ok(())
    }

    fn own_read_back(&mut self, n: OwnerSeq, offset: LogOffset) -> Result<(), StepDown> {
        let expected = self.landed.next();
        let unlanded = self.unlanded.pop_front().filter(|_| n == expected);
        let Some(unlanded) = unlanded else {
            self.meters.void_own.increment(1);
            return Err(StepDown::OwnVoid { n, expected, offset });
        };
        debug_assert_eq!(unlanded.outcome.n, n, "what is under way is in the order of n");
        self.unlanded_bytes -= unlanded.bytes;
        self.state.landed(&unlanded.outcome, offset.0);
        self.landed = n;
        self.landed_to = offset.next();
        while self.appended.front().is_some_and(|(last, _)| *last <= n) {
            self.appended.pop_front();
        }
        Ok(())
    }

    fn ask_the_store(&mut self) {
        if self.loading.is_none()
            && let Some(questions) = self.parking.take_questions()
        {
            let deps = &self.shared.deps;
            self.loading =
                Some(load(Arc::clone(&deps.reads), questions, Arc::clone(&deps.entropy), self.health.clone()));
        }
    }

    /// The answers stand for the first command of their channels, of whose channels nothing was decided since the question: so a
    /// miss still is one. `decide` asks the memory before it uses them.
    fn unpark(&mut self, answers: Answers) -> Result<(), StepDown> {
        for (channel, head) in answers.heads {
            if !self.state.has_head(channel) {
                self.state.insert_head(channel, head);
            }
            self.decide_parked(channel)?;
        }
        for ((channel, sender, id), lookup) in answers.ids {
            if let Some(first) = self.parking.first(channel)
                && first.command.sender == sender
                && first.command.id == id
            {
                first.lookup = lookup;
            }
            self.decide_parked(channel)?;
        }
        Ok(())
    }

    /// The dead letters first, durably, then the record that lets `low` pass; no command is taken in between.
    fn put_aside(&mut self, stored: &StoredRecord, at: CommandPosition, cause: &str) {
        let (log, source) = (Arc::clone(&self.shared.deps.log), self.commands_at.clone());
        let (key, time) = (stored.record.key.clone(), LogTime(stored.time.0));
        let work = put_aside(log, source, stored.clone(), cause.to_owned());
        self.poison = Some(Poison { at, time, key, put_aside: Box::pin(work) });
    }

    fn poisoned(&mut self, put_aside: Result<(), eventlog::Error>) -> Result<(), StepDown> {
        put_aside.map_err(StepDown::NotPutAside)?;
        let Some(poison) = self.poison.take() else { return Ok(()) };
        // The key names the channel if anything does; nobody's channel otherwise.
        let channel = std::str::from_utf8(&poison.key).ok().and_then(|key| key.parse().ok());
        let channel = channel.unwrap_or_else(|| ChannelId::from_bytes([0; 16]));
        let outcome = self.state.answer_poison(poison.at, poison.time, channel);
        self.decided(outcome)
    }

    fn tick(&mut self) -> Result<(), StepDown> {
        if self.appended.front().is_some_and(|(_, at)| at.elapsed() > LANDED_WITHIN) {
            return Err(StepDown::Late);
        }
        // An idle partition whose records are all in the store asks nothing.
        if self.asking_progress.is_none() && self.progress < self.landed_to.0 {
            let (projections, partition) = (Arc::clone(&self.shared.deps.projections), self.partition);
            self.asking_progress = Some(Box::pin(async move { projections.progress(partition).await }));
        }
        self.state.evict(self.progress);
        self.meters.state(self.state.memory(), self.parking.len(), self.unlanded.len());
        Ok(())
    }

    fn forget(&mut self, progress: Result<Vec<ProgressCursor>, store::Error>) {
        match progress {
            Ok(trail) => self.progress = trail.last().map_or(self.progress, |newest| newest.cursor.offset),
            // Nothing is forgotten meanwhile; at its bound `decide` answers `retry_later`.
            Err(error) => tracing::warn!(partition = %self.partition, %error, "the writer's progress is not known"),
        }
        self.state.evict(self.progress);
    }
}

/// Puts a command aside, owning all it needs.
async fn put_aside(
    log: SharedLog,
    source: TopicPartition,
    stored: StoredRecord,
    cause: String,
) -> Result<(), eventlog::Error> {
    timeline::dead_letters::put_aside(&log, &source, &stored, &cause, 1).await
}

/// The outcome of the oldest append; pending for ever if there is none. They resolve in order, so only one is looked at.
async fn first_append(appends: &mut VecDeque<Append>) -> Result<(), eventlog::Error> {
    let Some(first) = appends.front_mut() else { return std::future::pending().await };
    let result = first.await;
    appends.pop_front();
    result.map(|_| ())
}

/// The answer to a question, which is over then; pending for ever if there is none.
async fn answered<T>(question: &mut Option<BoxFuture<'static, T>>) -> T {
    let Some(asked) = question else { return std::future::pending().await };
    let answer = asked.await;
    *question = None;
    answer
}

async fn answered_poison(poison: &mut Option<Poison>) -> Result<(), eventlog::Error> {
    match poison {
        Some(poison) => (&mut poison.put_aside).await,
        None => std::future::pending().await,
    }
}

/// What the owner counts. Handles are made once: a look-up by name costs more than a decision.
struct Meters {
    accepted: Counter,
    duplicate: Counter,
    conflict: Counter,
    rejected: Counter,
    retry_later: Counter,
    poison: Counter,
    void: Counter,
    void_own: Counter,
    void_unclaimed: Counter,
    foreign: Counter,
    commands_lost: Counter,
    queue_full: Counter,
    window_ids: Gauge,
    heads: Gauge,
    memory_bytes: Gauge,
    parked: Gauge,
    unlanded: Gauge,
}

impl Meters {
    fn new(partition: PartitionId) -> Self {
        let decided = |verdict: &'static str| metrics::counter!("hubbub_sequencer_decided_total", "verdict" => verdict);
        let void = |whose: &'static str| metrics::counter!("hubbub_sequencer_void_records_total", "whose" => whose);
        let partition = partition.to_string();
        Self {
            accepted: decided("accepted"),
            duplicate: decided("duplicate"),
            conflict: decided("conflict"),
            rejected: decided("rejected"),
            retry_later: decided("retry_later"),
            poison: decided("poison"),
            void: void("lower_epoch"),
            void_own: void("own"),
            void_unclaimed: void("unclaimed"),
            foreign: metrics::counter!("hubbub_sequencer_foreign_records_total"),
            commands_lost: metrics::counter!("hubbub_sequencer_commands_lost_total"),
            queue_full: metrics::counter!("hubbub_sequencer_queue_full_total"),
            window_ids: metrics::gauge!("hubbub_sequencer_window_ids", "partition" => partition.clone()),
            heads: metrics::gauge!("hubbub_sequencer_heads", "partition" => partition.clone()),
            memory_bytes: metrics::gauge!("hubbub_sequencer_memory_bytes", "partition" => partition.clone()),
            parked: metrics::gauge!("hubbub_sequencer_parked_commands", "partition" => partition.clone()),
            unlanded: metrics::gauge!("hubbub_sequencer_unlanded_records", "partition" => partition),
        }
    }

    fn decided(&self, verdict: &Verdict) {
        let counter = match verdict {
            Verdict::Accepted(_) => &self.accepted,
            Verdict::Answered(Answer::Duplicate { .. }) => &self.duplicate,
            Verdict::Answered(Answer::Conflict { .. }) => &self.conflict,
            Verdict::Answered(Answer::Rejected(_)) => &self.rejected,
            Verdict::Answered(Answer::RetryLater) => &self.retry_later,
            Verdict::Answered(Answer::Poison) => &self.poison,
        };
        counter.increment(1);
    }

    fn state(&self, memory: StateMemory, parked: usize, unlanded: usize) {
        self.window_ids.set(memory.ids as f64);
        self.heads.set(memory.heads as f64);
        self.memory_bytes.set(memory.bytes as f64);
        self.parked.set(parked as f64);
        self.unlanded.set(unlanded as f64);
    }
}
