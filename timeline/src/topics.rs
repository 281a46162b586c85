//! The table of topics in `schemas`, as the log seam wants it.

use domain::{ChannelId, PartitionId};
use eventlog::{Cleanup, Durability, Error, SharedLog, Topic, TopicPartition, TopicSpec, partition_for_key};
use schemas::topics::{Kept, Partitions, TABLE, TopicRow};
use std::time::Duration;

/// What is fixed when a log is made: how many partitions the timelines have (1 to 1,024).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topology {
    /// Partitions of `chat.commands`, `chat.messages` and all that is partitioned alike.
    pub partitions: u32,
}

impl Topology {
    /// The partition of a channel, by its id as a string: the record key that data engineers see.
    pub fn partition_of(&self, channel: ChannelId) -> PartitionId {
        self.partition_of_id(&channel.0)
    }

    /// The partition of a channel or person by the bare id.
    pub fn partition_of_id(&self, id: &uuid::Uuid) -> PartitionId {
        let mut buffer = uuid::Uuid::encode_buffer();
        let key = id.hyphenated().encode_lower(&mut buffer);
        PartitionId(partition_for_key(key.as_bytes(), self.partitions) as u16)
    }

    /// Every partition of the timelines.
    pub fn all(&self) -> impl Iterator<Item = PartitionId> + use<> {
        (0..self.partitions).map(|partition| PartitionId(partition as u16))
    }

    /// All partitions of a topic that is partitioned like the timelines.
    pub fn partitions_of(&self, topic: &str) -> Vec<TopicPartition> {
        let topic = Topic::new(topic);
        (0..self.partitions).map(|partition| topic.partition(partition)).collect()
    }
}

/// The record key of a channel or person: the id as lower-case hyphenated text.
pub fn key_of(id: &uuid::Uuid) -> bytes::Bytes {
    let mut buffer = uuid::Uuid::encode_buffer();
    bytes::Bytes::copy_from_slice(id.hyphenated().encode_lower(&mut buffer).as_bytes())
}

/// The topic of one process.
pub fn process_topic(process: &str) -> Topic {
    Topic::new(format!("{}{process}", schemas::topics::GATEWAY_PREFIX))
}

/// The spec of one process's topic.
pub fn process_topic_spec(process: &str, topology: Topology) -> TopicSpec {
    let row =
        TABLE.iter().find(|row| row.name == schemas::topics::GATEWAY_PREFIX).expect("the table has the gateway family");
    TopicSpec { topic: process_topic(process), ..spec_of(row, topology) }
}

/// The specs of all topics but the families of single processes.
pub fn specs(topology: Topology) -> Vec<TopicSpec> {
    TABLE.iter().filter(|row| !row.name.ends_with('.')).map(|row| spec_of(row, topology)).collect()
}

/// Creates what is missing and compares what is there.
pub async fn create_all(log: &SharedLog, topology: Topology) -> Result<(), Error> {
    for spec in specs(topology) {
        log.create_topic(&spec).await?;
    }
    Ok(())
}

fn spec_of(row: &TopicRow, topology: Topology) -> TopicSpec {
    TopicSpec {
        topic: Topic::new(row.name),
        partitions: match row.partitions {
            Partitions::Timelines => topology.partitions,
            Partitions::One => 1,
        },
        durability: if row.in_memory_when_embedded { Durability::InMemory } else { Durability::Synced },
        cleanup: match row.kept {
            Kept::Forever => Cleanup::Keep,
            Kept::Seconds { seconds, bytes_max } => Cleanup::Expire { age: Duration::from_secs(seconds), bytes_max },
            Kept::Compacted => Cleanup::Compact,
        },
        record_bytes_max: row.record_bytes_max,
    }
}
