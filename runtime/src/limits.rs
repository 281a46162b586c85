//! Limits of the process shell, with their reasons.

use std::time::Duration;

/// Connections the kernel holds for us before we accept them. A whole fleet of clients reconnects at once after a restart;
/// what does not fit waits for a retransmitted SYN, a second or more. The kernel caps it at `net.core.somaxconn`.
pub const LISTEN_BACKLOG_CONNECTIONS: u32 = 8_192;

/// How long to wait when the process has no file handle left for one more connection. The connection stays in the backlog;
/// trying again at once would only burn a core.
pub const ACCEPT_BACK_OFF: Duration = Duration::from_millis(100);

/// How long a client may take to send the head of a request, the time between two requests included. Longer: the connection
/// is closed, so that half-open connections don't pile up.
pub const REQUEST_HEAD_WAIT: Duration = Duration::from_secs(30);

/// The head of a request: path and headers. Above: 431 and the connection is closed.
pub const REQUEST_HEAD_BYTES_MAX: usize = 16 * 1024;

/// How often free space is looked at. At 500 MB/s of writes the default reserve lasts twice as long.
pub const DISK_LOOK: Duration = Duration::from_secs(1);
