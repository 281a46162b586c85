//! One partition in memory: a log and a store that a test tells what to do, and the roles it starts over them.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "test code: a panic is a finding")]

pub mod log;
pub mod store;

use crate::memory::log::MemoryLog;
use crate::memory::store::MemoryStore;
use domain::command::{ChannelKind, HistoryVisibility};
use domain::decide::DecideLimits;
use domain::{
    Answer, ChannelId, ChannelSeq, ClientMsgId, Command, CommandBody, Outcome, PartitionId, RejectCause,
    TimelineRecord, UserId, Verdict,
};
use eventlog::{SharedLog, StoredRecord, Topic, TopicPartition};
use runtime::health::Health;
use runtime::{Entropy, SharedEntropy, Shutdown, Tasks};
use schemas::records::encode_command;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use testkit::truth::Truth;
use timeline::Topology;
use tokio::sync::oneshot;

pub const PARTITION: PartitionId = PartitionId(0);
pub const TOPOLOGY: Topology = Topology { partitions: 1 };
/// When a world begins.
pub const START_MS: u64 = 1_800_000_000_000;

pub struct World {
    pub log: MemoryLog,
    pub store: MemoryStore,
    pub entropy: SharedEntropy,
    pub limits: DecideLimits,
    pub commands: TopicPartition,
    pub messages: TopicPartition,
    pub dead_letters: TopicPartition,
    pub channels: Mutex<BTreeMap<u8, ChannelId>>,
}

/// A role that runs until it is stopped or crashes.
pub struct Running<E> {
    shutdown: Shutdown,
    tasks: Tasks,
    ended: oneshot::Receiver<Result<(), E>>,
    pub health: Health,
}

impl<E: std::fmt::Debug> Running<E> {
    fn start(
        work: impl FnOnce(Tasks, Health, Shutdown) -> futures_util::future::BoxFuture<'static, Result<(), E>>,
    ) -> Self
    where
        E: Send + 'static,
    {
        let (shutdown, tasks, health) = (Shutdown::new(), Tasks::new(), Health::new());
        let (end, ended) = oneshot::channel();
        let work = work(tasks.clone(), health.clone(), shutdown.clone());
        tasks.spawn(async move {
            let _ = end.send(work.await);
        });
        Self { shutdown, tasks, ended, health }
    }

    /// As kill -9 does.
    pub fn crash(self) {
        self.tasks.cut_off();
    }

    pub async fn stop(self) {
        self.shutdown.begin();
        self.ended.await.expect("not cut off").expect("ends well");
        assert_eq!(self.tasks.finish(Duration::from_secs(1)).await, 0);
    }

    /// Waits for the end that it comes to by itself.
    pub async fn end(self) -> Result<(), E> {
        self.ended.await.expect("not cut off")
    }
}

impl World {
    pub async fn new(seed: u64) -> Self {
        let log = MemoryLog::new(START_MS);
        let shared: SharedLog = Arc::new(log.clone());
        timeline::topics::create_all(&shared, TOPOLOGY).await.unwrap();
        Self {
            log,
            store: MemoryStore::default(),
            entropy: Entropy::from_seed(seed),
            limits: DecideLimits::default(),
            commands: Topic::new(schemas::topics::COMMANDS).partition(0),
            messages: Topic::new(schemas::topics::MESSAGES).partition(0),
            dead_letters: Topic::new(schemas::topics::DEAD_LETTERS).partition(0),
            channels: Mutex::default(),
        }
    }

    pub fn shared_log(&self) -> SharedLog {
        Arc::new(self.log.clone())
    }

    pub fn sequencer(&self, owner: &str) -> Running<sequencer::Error> {
        let config = sequencer::Config { owner: owner.into(), topology: TOPOLOGY, decide: self.limits };
        Running::start(|tasks, health, shutdown| {
            let deps = sequencer::Deps {
                log: self.shared_log(),
                projections: Arc::new(self.store.clone()),
                reads: Arc::new(self.store.clone()),
                entropy: Arc::clone(&self.entropy),
                tasks,
                health,
            };
            Box::pin(sequencer::run(config, deps, shutdown))
        })
    }

    pub fn writer(&self) -> Running<writer::Error> {
        self.writer_into(Arc::new(self.store.clone()))
    }

    pub fn writer_into(&self, projections: Arc<dyn ::store::Projections>) -> Running<writer::Error> {
        Running::start(|tasks, health, shutdown| {
            let deps =
                writer::Deps { log: self.shared_log(), projections, entropy: Arc::clone(&self.entropy), tasks, health };
            Box::pin(writer::run(writer::Config::default(), deps, shutdown))
        })
    }

    pub fn send(&self, command: &Command) {
        self.log.put(&self.commands, &command.channel.to_string(), encode_command(command));
    }

    /// A new id in log time.
    pub fn id(&self) -> ClientMsgId {
        ClientMsgId(self.entropy.uuid_v7(self.log.now()))
    }

    pub fn post(&self, channel: ChannelId, sender: UserId, text: &str) -> Command {
        command(channel, sender, self.id(), CommandBody::Post { text: text.into() })
    }

    /// A channel by its number in the test; one that was never created has an id all the same.
    pub fn channel(&self, number: u8) -> ChannelId {
        let channels = self.channels.lock().unwrap();
        channels.get(&number).copied().unwrap_or_else(|| ChannelId::from_bytes([0xc0 + number; 16]))
    }

    /// Creates a channel; the first member owns it.
    pub fn create(&self, number: u8, members: &[UserId]) -> Command {
        let id = self.id();
        let channel = ChannelId::group(members[0], id);
        self.channels.lock().unwrap().insert(number, channel);
        let body = CommandBody::CreateChannel {
            kind: ChannelKind::Group,
            title: "a channel".into(),
            members: members.to_vec(),
            history: HistoryVisibility::FromJoining,
            open: true,
        };
        command(channel, members[0], id, body)
    }

    /// The records of the log that count, with their offsets, oldest first.
    pub fn valid_at(&self) -> Vec<(u64, TimelineRecord)> {
        let mut cursor = domain::LogCursor::default();
        let records = self.log.records(&self.messages).into_iter().filter_map(|stored| decode(&stored));
        records.filter(|(at, record)| cursor.accept(*at, record) == domain::Judgement::Valid).collect()
    }

    /// The records of the log that count, oldest first.
    pub fn valid(&self) -> Vec<TimelineRecord> {
        self.valid_at().into_iter().map(|(_, record)| record).collect()
    }

    /// The offset of the last row that must be in the store and is not, if the writer's progress claims it.
    pub fn claimed_but_missing(&self) -> Option<u64> {
        let claimed = self.store.trail(PARTITION).last()?.cursor.offset;
        let rows: BTreeSet<_> = self.store.rows().iter().map(|row| (row.channel, row.event.seq)).collect();
        let missing = |(offset, record): &(u64, TimelineRecord)| match record {
            TimelineRecord::Outcome(Outcome { channel, verdict: Verdict::Accepted(events), .. }) => {
                *offset < claimed && events.iter().any(|event| !rows.contains(&(*channel, event.seq)))
            }
            _ => false,
        };
        self.valid_at().iter().rev().find(|record| missing(record)).map(|(offset, _)| *offset)
    }

    pub fn outcomes(&self) -> Vec<Outcome> {
        let outcome = |record| match record {
            TimelineRecord::Outcome(outcome) => Some(outcome),
            TimelineRecord::Claim { .. } => None,
        };
        self.valid().into_iter().filter_map(outcome).collect()
    }

    /// What each command was told, in the order of the log.
    pub fn told(&self) -> Vec<(ClientMsgId, Told)> {
        self.outcomes().iter().map(|outcome| (outcome.id, told(outcome))).collect()
    }

    /// Waits until so many commands are decided.
    pub async fn decided(&self, commands: usize) -> Vec<Outcome> {
        self.log.until(|| Some(self.outcomes()).filter(|outcomes| outcomes.len() >= commands)).await
    }

    pub async fn claims(&self, claims: usize) {
        let count = || self.valid().iter().filter(|record| matches!(record, TimelineRecord::Claim { .. })).count();
        self.log.until(|| (count() >= claims).then_some(())).await;
    }

    /// Waits until the writer has recorded all that the log holds.
    pub async fn written(&self) {
        let end = self.log.records(&self.messages).last().map_or(0, |last| last.offset.0 + 1);
        let progress = || self.store.trail(PARTITION).last().map_or(0, |newest| newest.cursor.offset);
        self.store.until(|| (progress() >= end).then_some(())).await;
    }

    /// Checks the log: every command decided exactly once, seq dense, ids rising, no id accepted twice.
    pub async fn check(&self) {
        let truth = Truth::read(&self.shared_log(), TOPOLOGY).await.unwrap();
        let mut problems = truth.problems;
        problems.retain(|problem| !problem.starts_with("POISON"));
        assert_eq!(problems, Vec::<String>::new());
        check_outcomes(&self.outcomes(), self.log.records(&self.commands).len());
    }
}

/// The checks of the ownership model, over the valid outcomes of one partition.
pub fn check_outcomes(outcomes: &[Outcome], commands: usize) {
    let mut decided = BTreeSet::new();
    let mut seqs: BTreeMap<ChannelId, ChannelSeq> = BTreeMap::new();
    let mut accepted: BTreeMap<(ChannelId, UserId, ClientMsgId), ChannelSeq> = BTreeMap::new();
    let mut last_id = None;
    for outcome in outcomes {
        assert!(decided.insert(outcome.command), "{:?} is decided twice", outcome.command);
        let key = (outcome.channel, outcome.sender, outcome.id);
        match &outcome.verdict {
            Verdict::Accepted(events) => {
                assert!(accepted.insert(key, events[0].seq).is_none(), "{key:?} is accepted twice");
                for event in events {
                    let seq = seqs.entry(outcome.channel).or_default();
                    assert_eq!(event.seq, seq.next(), "seq is dense in {}", outcome.channel);
                    *seq = event.seq;
                    assert!(last_id < Some(event.message_id), "ids rise");
                    last_id = Some(event.message_id);
                }
            }
            Verdict::Answered(Answer::Duplicate { seq }) => {
                assert_eq!(accepted.get(&key), Some(seq), "a duplicate is told its original's seq");
            }
            Verdict::Answered(_) => {}
        }
    }
    assert_eq!(decided.len(), commands, "every command is decided");
}

/// What a command was told, in short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    Seq(u64),
    Duplicate(u64),
    Conflict(u64),
    Rejected(RejectCause),
    RetryLater,
    Poison,
}

pub fn told(outcome: &Outcome) -> Told {
    match &outcome.verdict {
        Verdict::Accepted(events) => Told::Seq(events[0].seq.0),
        Verdict::Answered(Answer::Duplicate { seq }) => Told::Duplicate(seq.0),
        Verdict::Answered(Answer::Conflict { seq }) => Told::Conflict(seq.0),
        Verdict::Answered(Answer::Rejected(cause)) => Told::Rejected(*cause),
        Verdict::Answered(Answer::RetryLater) => Told::RetryLater,
        Verdict::Answered(Answer::Poison) => Told::Poison,
    }
}

pub fn command(channel: ChannelId, sender: UserId, id: ClientMsgId, body: CommandBody) -> Command {
    Command { channel, sender, id, retry: false, reply: None, body }
}

pub fn user(number: u8) -> UserId {
    UserId::from_bytes([number; 16])
}

fn decode(stored: &StoredRecord) -> Option<(u64, TimelineRecord)> {
    let value = stored.record.value.as_deref()?;
    Some((stored.offset.0, schemas::records::decode_timeline(value).ok()?))
}
