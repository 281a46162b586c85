//! Wall-clock time of a simulation: follows the paused tokio clock, with a skew of its own for each process.

use runtime::Clock;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use tokio::time::Instant;

/// Where simulated time begins: 2026-01-01T00:00:00Z, ms since the Unix epoch.
pub const SIM_EPOCH_MS: u64 = 1_767_225_600_000;

/// A process's wall clock. Clones share the skew.
#[derive(Clone, Debug)]
pub struct SimClock {
    origin: Instant,
    skew_ms: Arc<AtomicI64>,
}

impl SimClock {
    /// A clock that shows [`SIM_EPOCH_MS`] at `origin`.
    pub fn new(origin: Instant) -> Self {
        Self { origin, skew_ms: Arc::default() }
    }

    /// Another process's clock, off by `skew_ms`.
    #[must_use]
    pub fn skewed(&self, skew_ms: i64) -> Self {
        Self { origin: self.origin, skew_ms: Arc::new(AtomicI64::new(skew_ms)) }
    }

    /// The clock steps.
    pub fn set_skew_ms(&self, skew_ms: i64) {
        self.skew_ms.store(skew_ms, Ordering::Relaxed);
    }
}

impl Clock for SimClock {
    fn now_ms(&self) -> u64 {
        let elapsed = self.origin.elapsed().as_millis() as u64;
        (SIM_EPOCH_MS + elapsed).saturating_add_signed(self.skew_ms.load(Ordering::Relaxed))
    }
}
