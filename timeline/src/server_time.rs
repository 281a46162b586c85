//! Server time is log time: each process learns its offset from the append times of its own heartbeats (design §4).

use runtime::SharedClock;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// Tells the log's time. Clones share what was learned.
#[derive(Clone, Debug)]
pub struct ServerTime {
    clock: SharedClock,
    offset_ms: Arc<AtomicI64>,
}

impl ServerTime {
    /// Until the first heartbeat, the machine's own time.
    pub fn new(clock: SharedClock) -> Self {
        Self { clock, offset_ms: Arc::default() }
    }

    /// Milliseconds since the Unix epoch, by the log's clock.
    pub fn now_ms(&self) -> u64 {
        self.clock.now_ms().saturating_add_signed(self.offset_ms.load(Ordering::Relaxed))
    }

    /// A record written at `sent_ms` and known to be taken at `done_ms`, both by the own clock, got this append time.
    pub fn learn(&self, sent_ms: u64, append_ms: u64, done_ms: u64) {
        if done_ms < sent_ms {
            return; // The own clock stepped back meanwhile: this round tells nothing.
        }
        let middle = sent_ms + (done_ms - sent_ms) / 2;
        self.offset_ms.store(append_ms.cast_signed().wrapping_sub(middle.cast_signed()), Ordering::Relaxed);
    }
}
