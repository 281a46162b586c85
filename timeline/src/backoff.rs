//! Waiting longer after each failure, never in step with others.

use runtime::SharedEntropy;
use std::time::Duration;

/// Exponential back-off with full jitter over the upper half.
#[derive(Clone, Debug)]
pub struct Backoff {
    entropy: SharedEntropy,
    first: Duration,
    most: Duration,
    failures: u32,
}

impl Backoff {
    /// From about `first` up to `most`.
    pub fn new(entropy: SharedEntropy, first: Duration, most: Duration) -> Self {
        Self { entropy, first, most, failures: 0 }
    }

    /// It worked: the next failure waits `first` again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// How many failures there were in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// How long to wait after one more failure.
    pub fn next_delay(&mut self) -> Duration {
        let whole = self.first.saturating_mul(1 << self.failures.min(16)).min(self.most);
        self.failures = self.failures.saturating_add(1);
        let half = whole / 2;
        half + Duration::from_micros(self.entropy.below(half.as_micros() as u64 + 1))
    }

    /// Waits after one more failure.
    pub async fn wait(&mut self) {
        let delay = self.next_delay();
        tokio::time::sleep(delay).await;
    }
}
