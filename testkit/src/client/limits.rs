//! Limits of the client.

/// How long a send waits for its answer before the same id is sent again, ms. Above what a healthy server ever needs, below
/// what a person accepts.
pub const ANSWER_TIMEOUT_MS: u64 = 5_000;

/// How long a page may take before it is asked for again, ms.
pub const HISTORY_TIMEOUT_MS: u64 = 5_000;

/// Events of one page: the server's limit.
pub const PAGE_EVENTS_MAX: u32 = 200;

/// The bound of the first wait before a reconnect, ms; it doubles with each failure.
pub const RECONNECT_BACKOFF_FIRST_MS: u64 = 100;

/// The bound that the wait before a reconnect never exceeds, ms: a fault's end is noticed well within TAIL's 30 s.
pub const RECONNECT_BACKOFF_MAX_MS: u64 = 5_000;

/// Heartbeats without any frame from the server after which the connection counts as dead.
pub const SILENCE_HEARTBEATS_MAX: u64 = 3;

const _: () = assert!(RECONNECT_BACKOFF_FIRST_MS <= RECONNECT_BACKOFF_MAX_MS, "the bound grows");

/// Orders on their way to the driver; who orders more waits.
pub const ORDERS_MAX: usize = 256;

/// How often the rules look at the clock, ms.
pub const TICK_MS: u64 = 250;

/// How long opening a connection may take, ms.
pub const CONNECT_TIMEOUT_MS: u64 = 10_000;
