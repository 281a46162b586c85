//! Limits of the gateway. `docs/limits.md` is generated from the tables of all crates.

/// Bytes of one frame from a client, in one piece or fragmented. Above: `too_large`, and the connection is closed, because the rest
/// of the frame would have to be read to get past it.
pub const FRAME_BYTES_MAX: usize = 64 * 1024;

/// Bytes of read buffer a connection keeps while idle: several ordinary frames. It grows for a larger frame.
pub const READ_BUFFER_BYTES: usize = 2 * 1024;

/// Frames that wait for one socket. Above: the queue is dropped and the connection closed with `slow_reader`.
pub const OUTBOX_FRAMES_MAX: usize = 8_192;

/// Bytes of the frames that wait for one socket (the bytes are shared by all sockets that get the same event). Above: as for frames.
pub const OUTBOX_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Bytes that are gathered for one write. Above it nothing more is taken from the outbox or read from the client until the socket
/// has taken some: a client that does not read is not read from.
pub const WRITE_BYTES_MAX: usize = 64 * 1024;

/// Live events held back while the history before them is sent. Above: closed with `slow_reader`; the next attempt starts further on.
pub const HELD_FRAMES_MAX: usize = 8_192;

/// Events of one page of catch-up or history. A client may ask for fewer.
pub const PAGE_EVENTS_MAX: usize = 200;

/// `history` requests of one connection that wait. Above: `rate_limited`.
pub const HISTORY_REQUESTS_MAX: usize = 8;

/// Frames a connection may take from its socket before other connections of the same thread have a turn.
pub const FRAMES_PER_TURN_MAX: usize = 32;

/// Texts that are no frame, one after another. Above: the connection is closed with the last one's code.
pub const REFUSALS_IN_A_ROW_MAX: u32 = 100;

/// Connections that are being opened at once (session being made durable, cursors being compared). Others wait in their turn: at
/// 5 ms a commit this admits 50,000/s, and a slow log or store makes it a queue instead of a flood.
pub const OPENINGS_MAX: usize = 256;

/// Reads of the store at once for all connections. Others wait.
pub const STORE_READS_MAX: usize = 64;

/// Sessions of one person at this gateway, unless configured. Above: `too_many_sessions`.
pub const SESSIONS_PER_PERSON_MAX: usize = 32;

/// Connections, unless configured. Above: 429 at the handshake.
pub const CONNECTIONS_MAX: u32 = 100_000;

/// Messages a connection may send a second, sustained, unless configured. Above: `rate_limited` with a delay.
pub const SENDS_PER_SECOND_MAX: u32 = 50;

/// How many seconds' worth of sends may come at once.
pub const SEND_BURST_S: f32 = 2.0;

/// Seconds of one tick of the sweeper: how coarsely silence and time-outs are judged.
pub const TICK_S: u32 = 1;

/// Seconds within which `hello` must come.
pub const HELLO_WITHIN_S: u32 = 10;

/// Seconds of silence after which a connection is closed with `silent` (design §5 "Presence").
pub const SILENCE_S: u32 = 30;

/// What clients are told to do: send something at least this often, in ms. Several fit into the silence.
pub const HEARTBEAT_MS: u64 = 5_000;

/// Seconds that a socket may take nothing while bytes wait for it. Above: dropped.
pub const WRITE_BLOCKED_S: u32 = 15;

/// Seconds that a client has to answer a close frame before the socket is dropped.
pub const CLOSE_WITHIN_S: u32 = 3;

/// Seconds after the opening until the first digest: what fell between catch-up and live is revealed early (TAIL).
pub const FIRST_DIGEST_S: u32 = 2;

/// Seconds between digests. With the time a fault takes to heal it stays below the 30 s of TAIL.
pub const DIGEST_INTERVAL_S: u32 = 20;

/// How long a page may wait for the writer, in ms, when it is asked for events that the client was already told of.
pub const PAGE_WAITS_FOR_STORE_MS: u64 = 1_000;

/// Milliseconds between two `typing` frames of one connection that are passed on. More often: dropped.
pub const TYPING_INTERVAL_MS: u64 = 1_000;

/// Frames queued before sleeping connections are woken: lets events that come together leave together.
pub const PUSHES_BEFORE_WAKE: usize = 512;

/// The window over which clients spread their reconnects when the gateway goes away, in ms, for each thousand connections: six
/// thousand a second.
pub const GOAWAY_SPREAD_MS_PER_THOUSAND: u64 = 170;

/// Seconds within which a drain ends, unless configured: sends in hand get their outcome, then every socket is closed.
pub const DRAIN_S: u64 = 10;

/// Seconds that the log has to take the ends of the last sessions when a drain is over.
pub const FLUSH_S: u64 = 2;

const _: () = assert!(HEARTBEAT_MS * 3 < SILENCE_S as u64 * 1_000, "several lost heartbeats fit into the silence");
const _: () = assert!(FIRST_DIGEST_S < DIGEST_INTERVAL_S && DIGEST_INTERVAL_S < 30, "TAIL is 30 s");
const _: () = assert!(OUTBOX_BYTES_MAX >= 4 * WRITE_BYTES_MAX, "a burst fits");
