//! Limits of what people may ask for, with their defaults. `docs/limits.md` is generated from the tables of all crates.

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

/// Channel heads one partition's owner keeps beyond need: about 200 bytes each and 48 a member.
pub const HEADS_MAX: usize = 100_000;

/// Bytes of ids one partition's owner remembers: a million ids, minutes at full load. At the bound `retry_later`.
pub const ONCE_WINDOW_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How long once-ness holds in the store, in days of T. After it an old id may be new again.
pub const ONCE_STORE_DAYS: u64 = 30;

const _: () = assert!(CLIENT_CLOCK_AHEAD_MS < ONCE_WINDOW_MS, "an id the window does not know must be older than the window");
const _: () = assert!(CHANNEL_MEMBERS_MAX <= CHANNEL_MEMBERS_CEILING, "the default is within what can be configured");
