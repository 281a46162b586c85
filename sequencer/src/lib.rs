//! The sequencer: the only role that turns commands into facts.
//!
//! Promises (design §4):
//!
//! - **One owner a partition, fenced by the log itself.** The consumer group only hands out work. What an owner appends counts
//!   only by the void rule (`domain::LogCursor`); a stalled owner that wakes up as a zombie writes records that nobody counts.
//!   No lease and no clock is part of that.
//! - **One command, one record** (ONCE, ORD). Every command of the commands log gets exactly one valid record, whatever it says;
//!   the record holds all its events. An owner acts on the world through its log only, dead letters excepted.
//! - **A new owner knows what the old one knew.** It replays the valid log from a cursor of the writer's trail that is older than
//!   the once window, on top of the heads in the store.
//! - **SHED.** What is parked, under way or remembered is bounded. At a bound the owner stops taking commands, or answers
//!   `retry_later`; it never forgets what it needs.
//! - **CALM.** Whatever fails, the partition is claimed again with jittered back-off as long as the group assigns it.
//!
//! It does not read or write rows, deliver anything, or look at a wall clock.
//!
//! ```text
//!             assigned
//!                │
//!                ▼
//!        ┌─▶ recovering ─── trail from the store, read the valid log to its end, heads from the store
//!        │       │
//!        │       ▼
//!        │    claiming ──── OwnershipTaken{epoch + 1, nonce}; read up to it; void: somebody else was first
//!        │       │ valid
//!        │       ▼
//!        │     owning ───── take commands from `low` on ─▶ decide ─▶ append (pipelined) ─▶ read back
//!        │       │             └─ no head, or an old id: parked behind a read of the store; other channels pass
//!        │       ▼
//!        └── stepped down ─ a higher epoch; an own record void, late or refused; commands lost. Waits (back-off, jitter)
//! ```

pub mod limits;
mod loading;
mod owner;
mod parking;
mod recovery;

use domain::{CommandPosition, PartitionId, decide::DecideLimits};
use eventlog::{SharedLog, Topic};
use runtime::health::Health;
use runtime::{SharedEntropy, Shutdown, Tasks};
use std::sync::Arc;
use store::{Projections, SequencerReads};
use timeline::{Assigned, Topology};

/// The consumer group of all sequencers.
pub const GROUP: &str = "sequencer";

/// What a sequencer is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who claims, for people who read the log: the process's name.
    pub owner: Box<str>,
    /// The log's topology: a command in the wrong partition is foreign.
    pub topology: Topology,
    /// What `decide` allows and remembers.
    pub decide: DecideLimits,
}

/// What a sequencer uses.
#[derive(Clone, Debug)]
pub struct Deps {
    /// The log.
    pub log: SharedLog,
    /// The writer's progress.
    pub projections: Arc<dyn Projections>,
    /// Heads and ids that are not in memory.
    pub reads: Arc<dyn SequencerReads>,
    /// For nonces and back-off.
    pub entropy: SharedEntropy,
    /// Where the owners run.
    pub tasks: Tasks,
    /// Where each partition says how it is, as `sequencer/<partition>`.
    pub health: Health,
}

/// Why a sequencer can't go on: what a person must decide.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The commands log has no longer what was decided. Going on would take new commands for old ones.
    #[error(
        "chat.commands/{partition} ends at incarnation {} offset {}, but commands up to incarnation {} offset {} are decided: the \
         topic was recreated or restored without a new incarnation. Restore log and store from one backup",
        end.incarnation, end.offset, low.incarnation, low.offset
    )]
    CommandsBelowLow {
        /// The partition.
        partition: PartitionId,
        /// Every command below it is decided.
        low: CommandPosition,
        /// Where the commands log ends.
        end: CommandPosition,
    },
    /// A topic that must exist does not.
    #[error("{0} does not exist: create the topics first")]
    NoTopic(Topic),
}

/// Owns the partitions that the group assigns to this member, until the shutdown.
pub async fn run(config: Config, deps: Deps, shutdown: Shutdown) -> Result<(), Error> {
    let topic = Topic::new(schemas::topics::COMMANDS);
    let (log, tasks, entropy) = (Arc::clone(&deps.log), deps.tasks.clone(), Arc::clone(&deps.entropy));
    let shared = Arc::new(Shared { config, deps });
    let start = |partition, stop| owner::keep(partition, Arc::clone(&shared), stop);
    Assigned::run(&log, (GROUP, &topic), (&tasks, entropy), &shutdown, start).await
}

/// What all owners of a process share.
#[derive(Debug)]
struct Shared {
    config: Config,
    deps: Deps,
}
