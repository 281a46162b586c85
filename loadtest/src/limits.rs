//! Bounds of the load client itself.

use std::time::Duration;

/// A thread's buffer for what a socket has: one read takes what a busy socket gathered, idle sockets hold none.
pub(crate) const READ_BUFFER_BYTES: usize = 64 * 1024;

/// A frame beyond this is no frame of a server of ours; the socket is closed.
pub(crate) const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Arrivals that wait for a thread that lags; beyond it the pacer waits, which its own lag then shows.
pub(crate) const ARRIVALS_WAITING_MAX: usize = 65_536;

/// Sockets that shake hands at the same time: enough for 10,000 in two seconds, within a listener's backlog.
pub(crate) const HANDSHAKES_AT_ONCE: usize = 256;

/// HTTP requests at the same time.
pub(crate) const REQUESTS_AT_ONCE: usize = 32;

/// How often a socket says something: the server's `heartbeat_ms`.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(5);

/// Without an answer for this long a message is sent again (`docs/protocol.md`, outbox).
pub(crate) const RESEND_AFTER: Duration = Duration::from_secs(5);

/// The own lag beyond which a run says more about this client than about the server.
pub(crate) const LAG_P99_MAX: Duration = Duration::from_millis(5);

/// Requests are given up after this.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_mins(1);

/// A connection is given up after this, and tried again where the scenario reconnects.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(20);

/// Pause before a socket connects again.
pub(crate) const RECONNECT_PAUSE: Duration = Duration::from_millis(100);
