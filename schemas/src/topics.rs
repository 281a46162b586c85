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
    /// The role that writes it. Nobody else does.
    pub owner: &'static str,
    /// What order a reader may rely on.
    pub order: &'static str,
    /// What a person could ask to have erased.
    pub personal_data: &'static str,
    /// What reading it again from its start gives.
    pub replay: &'static str,
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
/// Delivered and read cursors.
pub const RECEIPTS: &str = "chat.receipts";
/// Online and offline transitions.
pub const PRESENCE: &str = "chat.presence";
/// Push requests and cancellations.
pub const PUSHES: &str = "chat.pushes";

const MIB: u64 = 1024 * 1024;
const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// The largest record of `chat.commands` and `chat.messages`: a create of the most members that can be configured fits; a post is
/// far below it.
pub const TIMELINE_RECORD_BYTES_MAX: usize = 1024 * 1024;
/// A delivery holds a timeline record and the recipients of one process.
const DELIVERY_BYTES_MAX: usize = 2 * 1024 * 1024;
const SMALL_RECORD_BYTES_MAX: usize = 64 * 1024;

/// Every topic. `chat.gateway.` stands for the family of single processes' topics.
pub const TABLE: &[TopicRow] = &[
    TopicRow {
        name: COMMANDS,
        key: "channel",
        partitioned_by: "channel",
        holds: "what people and services ask for, with sender, session, client_msg_id and reply address",
        owner: "gateway, api, fanout",
        order: "per channel, as they were taken; not yet the order of facts",
        personal_data: "texts, titles, user ids",
        replay: "nothing to rely on: requests, not facts",
        in_memory_when_embedded: true,
        kept: Kept::Seconds { seconds: 6 * HOUR, bytes_max: 16 * MIB },
        partitions: Partitions::Timelines,
        record_bytes_max: TIMELINE_RECORD_BYTES_MAX,
    },
    TopicRow {
        name: MESSAGES,
        key: "channel",
        partitioned_by: "channel",
        holds: "the timelines: every outcome of a command, and the control records OwnershipTaken and CommandAnswered",
        owner: "sequencer",
        order: "per channel: seq is dense; per partition: (epoch, n)",
        personal_data: "texts, titles, user ids",
        replay: "the whole truth: every projection is a fold of it (FOLD)",
        in_memory_when_embedded: false,
        kept: Kept::Forever,
        partitions: Partitions::Timelines,
        record_bytes_max: TIMELINE_RECORD_BYTES_MAX,
    },
    TopicRow {
        name: RECEIPTS,
        key: "channel",
        partitioned_by: "channel",
        holds: "delivered and read cursors {user, generation seen, seq, ordinal}, coalesced per person",
        owner: "gateway",
        order: "none needed: a fold by the maximum of (generation, seq)",
        personal_data: "who read what, when",
        replay: "the same cursors",
        in_memory_when_embedded: false,
        kept: Kept::Forever,
        partitions: Partitions::Timelines,
        record_bytes_max: SMALL_RECORD_BYTES_MAX,
    },
    TopicRow {
        name: SIGNALS,
        key: "channel",
        partitioned_by: "channel",
        holds: "typing and other passing signs; dropped under load",
        owner: "gateway",
        order: "none",
        personal_data: "who types where",
        replay: "nothing: passing signs",
        in_memory_when_embedded: true,
        kept: Kept::Seconds { seconds: MINUTE, bytes_max: 4 * MIB },
        partitions: Partitions::Timelines,
        record_bytes_max: SMALL_RECORD_BYTES_MAX,
    },
    TopicRow {
        name: USERS,
        key: "user",
        partitioned_by: "user",
        holds: "the public profile, whole state",
        owner: "api",
        order: "per user",
        personal_data: "username, display name",
        replay: "the newest profile of everybody",
        in_memory_when_embedded: false,
        kept: Kept::Compacted,
        partitions: Partitions::Timelines,
        record_bytes_max: SMALL_RECORD_BYTES_MAX,
    },
    TopicRow {
        name: SESSIONS,
        key: "user/session/process/epoch/connection",
        partitioned_by: "user",
        holds: "open connections; closed = tombstone",
        owner: "gateway; presence closes those of dead gateways",
        order: "per user",
        personal_data: "who is connected where",
        replay: "the connections that are open",
        in_memory_when_embedded: false,
        kept: Kept::Compacted,
        partitions: Partitions::Timelines,
        record_bytes_max: SMALL_RECORD_BYTES_MAX,
    },
    TopicRow {
        name: GATEWAYS,
        key: "process",
        partitioned_by: "process",
        holds: "heartbeat and lease of every process that has a gateway topic",
        owner: "the process named by the key",
        order: "per process",
        personal_data: "none",
        replay: "the newest heartbeat of every process",
        in_memory_when_embedded: false,
        kept: Kept::Compacted,
        partitions: Partitions::One,
        record_bytes_max: SMALL_RECORD_BYTES_MAX,
    },
    TopicRow {
        name: PRESENCE,
        key: "user",
        partitioned_by: "user",
        holds: "online and offline transitions, last seen",
        owner: "presence",
        order: "per user",
        personal_data: "who is online, last seen",
        replay: "the newest state of everybody",
        in_memory_when_embedded: false,
        kept: Kept::Compacted,
        partitions: Partitions::Timelines,
        record_bytes_max: SMALL_RECORD_BYTES_MAX,
    },
    TopicRow {
        name: GATEWAY_PREFIX,
        key: "channel",
        partitioned_by: "none: one partition",
        holds: "deliveries and outcomes for one process that sends commands and waits",
        owner: "fanout",
        order: "as the events of each channel",
        personal_data: "texts, titles, user ids",
        replay: "nothing: a process reads from where it began",
        in_memory_when_embedded: true,
        kept: Kept::Seconds { seconds: 10 * MINUTE, bytes_max: 32 * MIB },
        partitions: Partitions::One,
        record_bytes_max: DELIVERY_BYTES_MAX,
    },
    TopicRow {
        name: PUSHES,
        key: "user",
        partitioned_by: "user",
        holds: "PushRequested, PushCancelled",
        owner: "fanout",
        order: "per user",
        personal_data: "user ids",
        replay: "requests that were made; sent or not is in the store",
        in_memory_when_embedded: false,
        kept: Kept::Seconds { seconds: 3 * DAY, bytes_max: 64 * MIB },
        partitions: Partitions::Timelines,
        record_bytes_max: SMALL_RECORD_BYTES_MAX,
    },
    TopicRow {
        name: DEAD_LETTERS,
        key: "the source's",
        partitioned_by: "none: one partition",
        holds: "records that could not be processed, whole, with topic, partition, offset, error and attempts in headers",
        owner: "whoever met the record",
        order: "as they were met",
        personal_data: "whatever the record held",
        replay: "the records as they were, to be read again by a repaired reader",
        in_memory_when_embedded: false,
        kept: Kept::Seconds { seconds: 365 * DAY, bytes_max: 64 * MIB },
        partitions: Partitions::One,
        record_bytes_max: DELIVERY_BYTES_MAX,
    },
];
