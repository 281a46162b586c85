//! Spawning as a handle: every task of a role is counted, can be waited for, and can be cut off.

use std::fmt::{self, Debug};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The tasks of one role or process. Clones share them.
#[derive(Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    cut: Arc<CancellationToken>,
}

impl Tasks {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Spawns a task that ends by itself or is dropped at its next await once [`Tasks::cut_off`] is called.
    pub fn spawn<F>(&self, work: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let cut = Arc::clone(&self.cut);
        self.tracker.spawn(async move {
            tokio::select! {
                biased;
                () = cut.cancelled() => {}
                () = work => {}
            }
        });
    }

    /// Like [`Tasks::spawn`], for the many small tasks (one per connection) that end by themselves: without the selecting wrapper.
    pub fn spawn_light<F>(&self, work: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tracker.spawn(work);
    }

    /// How many run.
    pub fn running(&self) -> usize {
        self.tracker.len()
    }

    /// Drops every task at its next await, as a crash would: nothing is said to anybody.
    pub fn cut_off(&self) {
        self.cut.cancel();
    }

    /// Waits until all have ended, at most so long; then cuts the rest off. Returns how many were cut off.
    pub async fn finish(&self, within: Duration) -> usize {
        self.tracker.close();
        if tokio::time::timeout(within, self.tracker.wait()).await.is_ok() {
            return 0;
        }
        let left = self.tracker.len();
        self.cut_off();
        left
    }
}

impl Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tasks").field("running", &self.running()).finish()
    }
}
