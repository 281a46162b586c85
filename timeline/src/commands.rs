//! Writes commands.

use crate::topics::{Topology, key_of};
use domain::Command;
use eventlog::{AppendError, Record, SharedLog, TopicPartition};
use schemas::records::encode_command;
use std::sync::Arc;

/// Sends commands to the partition of their channel. Clones share everything.
#[derive(Clone, Debug)]
pub struct Commands {
    log: SharedLog,
    topology: Topology,
    partitions: Arc<[TopicPartition]>,
}

impl Commands {
    /// To a log of this topology.
    pub fn new(log: SharedLog, topology: Topology) -> Self {
        let partitions = topology.partitions_of(schemas::topics::COMMANDS).into();
        Self { log, topology, partitions }
    }

    /// Enqueues a command, at once and in call order. `Ok` is no acknowledgement: a command may be lost before its outcome,
    /// and whoever wants one sends the same id again. A full queue is an error; the command was not taken.
    pub fn send(&self, command: &Command) -> Result<(), AppendError> {
        let partition = self.topology.partition_of(command.channel);
        let record = Record::new(key_of(&command.channel.0), encode_command(command));
        // The outcome is the acknowledgement; whether the log took the command is of no use to anybody.
        drop(self.log.append(&self.partitions[usize::from(partition.0)], vec![record])?);
        Ok(())
    }

    /// The log's topology.
    pub fn topology(&self) -> Topology {
        self.topology
    }
}
