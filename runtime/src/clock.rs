//! Wall-clock time as a handle. Durations and timers are `tokio::time`, which a simulation pauses.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Tells the wall-clock time. Never used for correctness: T comes from the log (design §4).
pub trait Clock: Send + Sync + Debug + 'static {
    /// Milliseconds since the Unix epoch. May step in both directions.
    fn now_ms(&self) -> u64;
}

/// A clock as roles hold it.
pub type SharedClock = Arc<dyn Clock>;

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is the handle that everybody else asks")]
    fn now_ms(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
    }
}
