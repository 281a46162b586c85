//! Limits of what people may ask for, with their defaults. `docs/limits.md` is generated from the tables of all crates.

/// One limit, as a row of `docs/limits.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Its name: the constant's, in lower case. The unit stands in it.
    pub name: &'static str,
    /// Its value unless configured otherwise, in `unit`.
    pub default: u64,
    /// What `default` counts.
    pub unit: &'static str,
    /// Why there is a limit, and why this one.
    pub why: &'static str,
    /// What whoever reaches it sees.
    pub at_limit: &'static str,
}

/// The limits of this crate.
pub const TABLE: &[Limit] = &[
    Limit {
        name: "message_body_bytes_max",
        default: MESSAGE_BODY_BYTES_MAX as u64,
        unit: "bytes",
        why: "a row, a record and a frame hold it with room to spare",
        at_limit: "the message is refused: `bad_body`",
    },
    Limit {
        name: "title_bytes_max",
        default: TITLE_BYTES_MAX as u64,
        unit: "bytes",
        why: "a title is one line of a list",
        at_limit: "the channel is not made: `bad_body`",
    },
    Limit {
        name: "channel_members_max",
        default: CHANNEL_MEMBERS_MAX as u64,
        unit: "people",
        why: "each event is delivered to every member; configurable up to channel_members_ceiling",
        at_limit: "nobody is added, not even a part of those named: `members_limit`",
    },
    Limit {
        name: "channel_members_ceiling",
        default: CHANNEL_MEMBERS_CEILING as u64,
        unit: "people",
        why: "a create of that many still fits one record",
        at_limit: "the configuration is refused at start",
    },
    Limit {
        name: "client_clock_ahead_ms",
        default: CLIENT_CLOCK_AHEAD_MS,
        unit: "ms",
        why: "an id from further ahead could outlive the memory of it (D of the ownership model)",
        at_limit: "`clock` with the server's time; the client sends the same id again later",
    },
    Limit {
        name: "once_window_ms",
        default: ONCE_WINDOW_MS,
        unit: "ms of T",
        why: "retries nearly always come sooner, so nearly none asks the store (W of the ownership model)",
        at_limit: "the store is asked for an id that is older",
    },
    Limit {
        name: "once_window_bytes_max",
        default: ONCE_WINDOW_BYTES_MAX as u64,
        unit: "bytes a partition",
        why: "a million ids at 64 bytes: minutes at full load with the writer standing still",
        at_limit: "new messages get `retry_later` until the writer has gone on; nothing is forgotten",
    },
    Limit {
        name: "heads_bytes_max",
        default: HEADS_BYTES_MAX as u64,
        unit: "bytes a partition",
        why: "100,000 channels of two or 9,000 of a hundred in use at once",
        at_limit: "the heads unused for longest are read again when used; at twice this, which takes a writer far behind, \
                   new messages get `retry_later`",
    },
    Limit {
        name: "once_store_days",
        default: ONCE_STORE_DAYS,
        unit: "days of T",
        why: "phones come back after weeks in a drawer, and ids must not be kept for ever",
        at_limit: "a message sent again after it is a new one",
    },
];

/// Bytes of a message's text. A row, a record and a frame hold it with room to spare.
pub const MESSAGE_BODY_BYTES_MAX: usize = 16 * 1024;

/// Bytes of a channel's title.
pub const TITLE_BYTES_MAX: usize = 256;

/// Members of a channel unless configured otherwise (up to [`CHANNEL_MEMBERS_CEILING`]).
pub const CHANNEL_MEMBERS_MAX: usize = 100;

/// The highest configurable number of members: a create of that many still fits a record.
pub const CHANNEL_MEMBERS_CEILING: usize = 10_000;

/// How far ahead of T the time in a client_msg_id may be, in ms (D in `ownership_model.py`).
pub const CLIENT_CLOCK_AHEAD_MS: u64 = 30_000;

/// W: how long an id stays in the owner's memory, in ms of T.
pub const ONCE_WINDOW_MS: u64 = 120_000;

/// Bytes of channel heads that one partition's owner keeps though the store has them: 100,000 channels of two, or 9,000 of a
/// hundred members.
pub const HEADS_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes of ids one partition's owner remembers: a million ids, minutes at full load. At the bound `retry_later`.
pub const ONCE_WINDOW_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How long once-ness holds in the store, in days of T. After it an old id may be new again.
pub const ONCE_STORE_DAYS: u64 = 30;

const _: () =
    assert!(CLIENT_CLOCK_AHEAD_MS < ONCE_WINDOW_MS, "an id the window does not know must be older than the window");
const _: () = assert!(CHANNEL_MEMBERS_MAX <= CHANNEL_MEMBERS_CEILING, "the default is within what can be configured");
const _: () =
    assert!(CHANNEL_MEMBERS_CEILING < 4096 * 1_000, "the ids of the largest create move T on by less than a second");

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_limit_has_a_row() {
        let names: BTreeSet<&str> = TABLE.iter().map(|limit| limit.name).collect();
        assert_eq!(names.len(), TABLE.len(), "one row each");
        let constants: BTreeSet<String> = include_str!("limits.rs")
            .lines()
            .filter_map(|line| line.strip_prefix("pub const ")?.split_once(':'))
            .map(|(name, _)| name.to_lowercase())
            .filter(|name| name != "table")
            .collect();
        assert_eq!(names, constants.iter().map(String::as_str).collect());
    }
}
