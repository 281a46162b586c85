//! The writer: folds `chat.messages` into the store's projections.
//!
//! Promises (design §5):
//!
//! - **FOLD.** The rows are a fold of the valid log. Applying a part of it twice, by the same or by another writer, changes
//!   nothing; so a zombie writer, a crash at any point and a redelivery are all harmless.
//! - **Progress is a promise.** What it claims, no crash of the store loses: it is recorded only after the rows were applied,
//!   and it only rises. It carries (offset, epoch, n) and all else that a reader or a new owner starts from.
//! - **POISON.** Foreign records go to the dead letters, void ones are passed over and counted. A *valid* record that this
//!   version can't read is never skipped: the partition stops there, alarms, and tries again.
//! - **CALM.** When the store fails, the same batch is tried again, for ever, with jittered back-off. Memory stays bounded.
//!
//! It does not decide anything, and nobody waits for it on the way of a message.
//!
//! ```text
//!  gained ─▶ opening ── newest progress ──▶ following ◀─────┐ rows gather while the previous batch is applied
//!               ▲                            │  ▲           │
//!               │                   batch ──▶ applying ─────┘ then, now and then: progress
//!               └── back-off ◀── store or log fails, or a record of ours is unreadable ── stopped, alarmed
//! ```

pub mod limits;
mod partition;
mod rows;

use eventlog::{SharedLog, Topic};
use runtime::health::Health;
use runtime::{SharedEntropy, Shutdown, Tasks};
use std::sync::Arc;
use store::Projections;
use timeline::Assigned;

/// The consumer group of all writers.
pub const GROUP: &str = "writer";

/// What a writer is told.
#[derive(Clone, Debug, Default)]
pub struct Config {}

/// What a writer uses.
#[derive(Clone, Debug)]
pub struct Deps {
    /// The log.
    pub log: SharedLog,
    /// Where rows and progress go.
    pub projections: Arc<dyn Projections>,
    /// For back-off.
    pub entropy: SharedEntropy,
    /// Where the partitions' tasks run.
    pub tasks: Tasks,
    /// Where each partition says how it is, as `writer/<partition>`.
    pub health: Health,
}

/// Why a writer can't go on. There is no such reason at present: everything heals or waits for a person while it tries again.
#[derive(Debug, thiserror::Error)]
pub enum Error {}

/// Writes the partitions that the group assigns to this member, until the shutdown.
pub async fn run(_config: Config, deps: Deps, shutdown: Shutdown) -> Result<(), Error> {
    let topic = Topic::new(schemas::topics::MESSAGES);
    let of_tasks = (&deps.tasks, Arc::clone(&deps.entropy));
    let start = |partition, stop| {
        let deps = deps.clone();
        async move {
            partition::write(partition, &deps, &stop).await;
            Ok(())
        }
    };
    Assigned::run(&deps.log, (GROUP, &topic), of_tasks, &shutdown, start).await
}
