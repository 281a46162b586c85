//! Routes events to the people who are there: one delivery per event and process that has a recipient.
//!
//! Promises: an event goes to everybody who is a member at its seq, and to nobody else (VIS); outcomes go to the reply
//! address of their command, session known or not; an offset is committed only when all lower events are resolved:
//! deliveries passed by the process's reported offset or its epoch ended, derived commands answered (TAIL).
//! Deliveries may repeat after a crash; gateways and clients dedupe by position and seq.
//!
//! It does not: decide, store, hold sockets, or talk to other roles but through the log.

pub mod limits;

mod derived;
mod directory;
mod members;
mod partition;
mod pending;

use directory::Directory;
use domain::{Epoch, LogCursor, OwnerSeq, PartitionId};
use eventlog::{AssignmentChange, Committed, ErrorKind, LogOffset, Membership, SharedLog, Topic};
use runtime::{SharedClock, SharedEntropy, Shutdown, Tasks};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use store::{Memberships, Projections};
use timeline::{Asker, Backoff, Commands, Mailbox, ProcessConfig, Topology};
use tokio::sync::mpsc;

/// How the fanout runs.
#[derive(Clone, Debug)]
pub struct Config {
    /// The process that derived commands reply to; stable over restarts.
    pub process: Box<str>,
    /// The log's topology.
    pub topology: Topology,
}

/// What the fanout needs.
#[derive(Clone, Debug)]
pub struct Deps {
    /// The log.
    pub log: SharedLog,
    /// Who is where.
    pub memberships: Arc<dyn Memberships>,
    /// How far the writer is.
    pub projections: Arc<dyn Projections>,
    /// Wall-clock time.
    pub clock: SharedClock,
    /// Randomness.
    pub entropy: SharedEntropy,
    /// Where tasks run.
    pub tasks: Tasks,
}

/// Why the fanout stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log refused.
    #[error("fanout: {0}")]
    Log(#[from] eventlog::Error),
}

/// The consumer group of the fanouts.
const GROUP: &str = "fanout";

/// Runs until the shutdown.
pub async fn run(config: Config, deps: Deps, shutdown: Shutdown) -> Result<(), Error> {
    let process = ProcessConfig { id: config.process.clone(), url: String::new(), region: String::new(), capacity: 0 };
    let mailbox =
        Mailbox::open(&deps.log, config.topology, process, deps.clock.clone(), &deps.tasks, shutdown.clone()).await?;
    let commands = Commands::new(deps.log.clone(), config.topology);
    let asker = Asker::start(mailbox, commands, &deps.tasks, shutdown.clone());
    let directory = Directory::start(&deps, config.topology, &shutdown).await?;

    let mut membership = deps.log.join(GROUP, &Topic::new(schemas::topics::MESSAGES)).await?;
    let (commits, mut committing) = mpsc::channel(limits::COMMITS_QUEUED_MAX);
    let mut owned: BTreeMap<u32, Shutdown> = BTreeMap::new();
    loop {
        let step = tokio::select! {
            biased;
            () = shutdown.begun() => break,
            change = membership.next_change() => Step::Change(change?),
            commit = committing.recv() => Step::Commit(commit),
        };
        match step {
            Step::Change(AssignmentChange::Lost(partitions)) => {
                for partition in partitions {
                    if let Some(worker) = owned.remove(&partition) {
                        worker.begin();
                    }
                }
            }
            Step::Change(AssignmentChange::Gained(partitions)) => {
                for partition in partitions {
                    let start = position(membership.committed(partition).await?);
                    let stop = shutdown.child();
                    owned.insert(partition, stop.clone());
                    let worker = partition::Worker::new(
                        PartitionId(partition as u16),
                        start,
                        deps.clone(),
                        Arc::clone(&directory),
                        asker.clone(),
                        commits.clone(),
                    );
                    let backoff = Backoff::new(deps.entropy.clone(), Duration::from_millis(50), Duration::from_secs(5));
                    deps.tasks.spawn(worker.keep_running(backoff, stop));
                }
            }
            Step::Commit(Some((partition, cursor))) => commit(membership.as_ref(), partition, &cursor).await,
            Step::Commit(None) => unreachable!("a sender lives in this function"),
        }
    }
    Ok(())
}

enum Step {
    Change(AssignmentChange),
    Commit(Option<(u32, LogCursor)>),
}

/// A reader's progress is (offset, epoch, n): the last two travel as the commit's metadata.
async fn commit(membership: &dyn Membership, partition: u32, cursor: &LogCursor) {
    let metadata = format!("{} {}", cursor.epoch, cursor.n);
    if let Err(error) = membership.commit(partition, LogOffset(cursor.offset), &metadata).await
        && error.kind() != ErrorKind::NotAssigned
    {
        tracing::warn!(partition, %error, "progress not committed; deliveries may repeat after a restart");
    }
}

fn position(committed: Option<Committed>) -> LogCursor {
    let Some(committed) = committed else { return LogCursor::default() };
    let mut words = committed.metadata.split(' ').map(str::parse::<u64>);
    match (words.next(), words.next()) {
        (Some(Ok(epoch)), Some(Ok(n))) => {
            LogCursor { offset: committed.offset.0, epoch: Epoch(epoch), n: OwnerSeq(n), ..LogCursor::default() }
        }
        // An offset without its epoch and n is no position (design §4): read from the start.
        _ => LogCursor::default(),
    }
}

/// The log as the modules here hold it.
type Log = SharedLog;
