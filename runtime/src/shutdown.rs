//! The wish that a role ends, seen by all its tasks.

use std::future::Future;
use tokio_util::sync::CancellationToken;

/// Clones share one wish; a child also ends alone.
#[derive(Clone, Debug, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    /// Not yet wished.
    pub fn new() -> Self {
        Self::default()
    }

    /// One that this one's wish reaches, but not the other way round.
    #[must_use]
    pub fn child(&self) -> Self {
        Self(self.0.child_token())
    }

    /// Wishes it.
    pub fn begin(&self) {
        self.0.cancel();
    }

    /// Whether it is wished.
    pub fn has_begun(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Waits for the wish.
    pub async fn begun(&self) {
        self.0.cancelled().await;
    }

    /// Runs `work` until it is done (`Some`) or the wish comes (`None`, `work` is dropped).
    pub async fn or_until<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.0.cancelled() => None,
            done = work => Some(done),
        }
    }
}
