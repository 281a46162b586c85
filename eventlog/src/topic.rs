//! Topics: names and properties.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A topic's name: lower-case letters, digits, dots and dashes, at most 249 bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(Arc<str>);

impl Topic {
    /// Names a topic.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// One of its partitions.
    pub fn partition(&self, partition: u32) -> TopicPartition {
        TopicPartition { topic: self.clone(), partition }
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One partition of a topic.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic.
    pub topic: Topic,
    /// From 0.
    pub partition: u32,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

impl fmt::Debug for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a topic shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    /// Its name.
    pub topic: Topic,
    /// How many partitions, fixed at creation.
    pub partitions: u32,
    /// What it survives.
    pub durability: Durability,
    /// What leaves it.
    pub cleanup: Cleanup,
    /// The largest record it takes, in [`crate::Record::size_bytes`].
    pub record_bytes_max: usize,
}

/// What an appended record survives. On Kafka every topic is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Power cuts: acknowledged after the sync that covers it.
    Synced,
    /// Nothing beyond the process (embedded: commands, signals, gateway topics).
    InMemory,
}

/// What leaves a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cleanup {
    /// Nothing.
    Keep,
    /// Records older than `age`, whole segments at a time; for in-memory topics also the oldest above `bytes_max`.
    Expire {
        /// The least time a record is kept.
        age: Duration,
        /// What an in-memory partition holds at most; above it the oldest go first and readers behind continue at the start.
        bytes_max: u64,
    },
    /// All but the newest record of each key, and tombstones after a day.
    Compact,
}

/// What a topic is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicDescription {
    /// How many partitions.
    pub partitions: u32,
    /// Raised each time the topic starts from nothing again: a restarted in-memory topic (durable boot counter) or a
    /// recreated one. Never 0.
    pub incarnation: u64,
    /// What it survives.
    pub durability: Durability,
    /// What leaves it.
    pub cleanup: Cleanup,
}
