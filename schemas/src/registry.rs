//! The schemas that records are written with, and their ids. An id stands for its schema for ever.
//!
//! The `.avsc` files are the source of truth; `schemas/avro/ids.json` is the same table for those who do not read Rust.
//! A change of a schema is a new version with a new id, appended here, and the old version stays readable.

/// A version of a record's schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchemaRow {
    /// Its id in the wire format.
    pub id: u32,
    /// The topic that carries it; a family (`chat.gateway.`) ends in a dot.
    pub topic: &'static str,
    /// The record's name within the namespace `hubbub.v1`.
    pub record: &'static str,
    /// The version: 1, 2, 3 …
    pub version: u32,
    /// The schema's text.
    pub avsc: &'static str,
}

impl SchemaRow {
    /// The subject by TopicRecordNameStrategy: `<topic>-hubbub.v1.<record>`.
    pub fn subject(&self) -> String {
        format!("{}-{NAMESPACE}.{}", self.topic.trim_end_matches('.'), self.record)
    }
}

/// The ids that are ours: one of them that is not in [`SCHEMAS`] was written by a newer version.
pub const IDS: std::ops::Range<u32> = 1..1_000;

/// The namespace of every record.
pub const NAMESPACE: &str = "hubbub.v1";

macro_rules! schemas {
    ($($(#[$doc:meta])* $name:ident = $id:literal, $topic:expr, $record:literal, $version:literal;)*) => {
        $($(#[$doc])* pub(crate) const $name: u32 = $id;)*

        /// Every version ever written, by ascending id.
        pub const SCHEMAS: &[SchemaRow] = &[$(SchemaRow {
            id: $id,
            topic: $topic,
            record: $record,
            version: $version,
            avsc: include_str!(concat!("../avro/history/", $record, "/", $version, ".avsc")),
        },)*];
    };
}

schemas! {
    OWNERSHIP_TAKEN = 1, crate::topics::MESSAGES, "OwnershipTaken", 1;
    EVENTS_DECIDED = 2, crate::topics::MESSAGES, "EventsDecided", 1;
    COMMAND_ANSWERED = 3, crate::topics::MESSAGES, "CommandAnswered", 1;
    COMMAND = 4, crate::topics::COMMANDS, "Command", 1;
    OUTCOME_DELIVERY = 5, crate::topics::GATEWAY_PREFIX, "OutcomeDelivery", 1;
    SIGNAL_DELIVERY = 6, crate::topics::GATEWAY_PREFIX, "SignalDelivery", 1;
    SIGNAL = 7, crate::topics::SIGNALS, "Signal", 1;
    SESSION = 8, crate::topics::SESSIONS, "Session", 1;
    GATEWAY = 9, crate::topics::GATEWAYS, "Gateway", 1;
    PROFILE = 10, crate::topics::USERS, "Profile", 1;
}

/// The schema of an id.
pub fn by_id(id: u32) -> Option<&'static SchemaRow> {
    SCHEMAS.iter().find(|schema| schema.id == id)
}
