//! The one table of topics: names, keys, partitions, properties. `docs/topics.md` is generated from it.

/// A topic of the design's §3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicRow {
    /// Its name; for a family (`chat.gateway.<id>`) the prefix, with the dot.
    pub name: &'static str,
    /// What the record key is.
    pub key: &'static str,
    /// Which part of the key decides the partition.
    pub partitioned_by: &'static str,
    /// What it holds, in a sentence.
    pub holds: &'static str,
    /// Whether embedded keeps it in memory only.
    pub in_memory_when_embedded: bool,
    /// What leaves it.
    pub kept: Kept,
    /// How many partitions.
    pub partitions: Partitions,
    /// The largest record, in bytes.
    pub record_bytes_max: usize,
}

/// What leaves a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Nothing.
    Forever,
    /// Records older than this many seconds; `bytes_max` bounds an in-memory partition.
    Seconds {
        /// Age.
        seconds: u64,
        /// Bound of an in-memory partition.
        bytes_max: u64,
    },
    /// All but the newest of each key.
    Compacted,
}

/// How many partitions a topic has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partitions {
    /// As many as configured for the timelines (`chat.commands` and `chat.messages` have the same).
    Timelines,
    /// Always one.
    One,
}

/// Requests to change timelines.
pub const COMMANDS: &str = "chat.commands";
/// The timelines: the truth.
pub const MESSAGES: &str = "chat.messages";
/// Passing signs: typing.
pub const SIGNALS: &str = "chat.signals";
/// Public profiles.
pub const USERS: &str = "chat.users";
/// Open connections.
pub const SESSIONS: &str = "chat.sessions";
/// Heartbeat and lease of every process that has a gateway topic.
pub const GATEWAYS: &str = "chat.gateways";
/// Prefix of the topics of single processes.
pub const GATEWAY_PREFIX: &str = "chat.gateway.";
/// What could not be processed.
pub const DEAD_LETTERS: &str = "chat.dead-letters";
