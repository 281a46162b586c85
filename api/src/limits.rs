//! Limits of the API. `docs/limits.md` is generated from the tables of all crates.

use std::time::Duration;

/// Bytes of a request's body. Above: `too_large`.
pub const REQUEST_BODY_BYTES_MAX: usize = 256 * 1024;

/// Requests in hand at once. Above: `retry_later`.
pub const REQUESTS_MAX: usize = 2_048;

/// Passwords hashed at once: each takes 19 MiB and about 20 ms of a core.
pub const HASHES_MAX: usize = 2;

/// Password hashes that wait. Above: `retry_later`. About a second of work.
pub const HASHES_WAITING_MAX: usize = 64;

/// Bytes of a username.
pub const USERNAME_BYTES_MAX: usize = 64;

/// Bytes of a display name.
pub const DISPLAY_NAME_BYTES_MAX: usize = 256;

/// Characters that a password has at least.
pub const PASSWORD_CHARS_MIN: usize = 8;

/// Bytes of a password: hashing takes time with length.
pub const PASSWORD_BYTES_MAX: usize = 1_024;

/// Channels of one person, checked when they make or join one; approximate (design §9).
pub const CHANNELS_PER_PERSON_MAX: usize = 5_000;

/// How long an access token is good, in seconds, unless configured.
pub const TOKEN_SECONDS: u64 = 24 * 60 * 60;

/// How long a request waits for the outcome of its command. After it: `timed_out`, unknown.
pub const OUTCOME_WITHIN: Duration = Duration::from_secs(10);

/// How long a change waits until the store shows it. After it the answer is given all the same: it did happen.
pub const VISIBLE_WITHIN: Duration = Duration::from_secs(2);

/// How long requests in hand may take when the process ends.
pub const DRAIN_WITHIN: Duration = Duration::from_secs(8);

/// Events of one page of history. A client may ask for fewer.
pub const PAGE_EVENTS_MAX: usize = 200;
