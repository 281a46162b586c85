//! Identical page reads at once are one read.
//!
//! A call may share a read only if nothing was written to its channel since that read could have begun, or it might miss what a
//! returned `apply` has made visible. So reads are keyed by the query and by a version of its channel, which the writer raises
//! after each commit and before it tells anybody.

use crate::failure::Failure;
use crate::limits::{KEPT_PAGE_BYTES_MAX, PAGES_KEPT_MAX};
use domain::{ChannelId, EventKind};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use store::{Page, PageQuery, StoredEvent};
use tokio::sync::oneshot;

/// Channels share version counters; a change of another channel on the same counter only costs a read.
const VERSIONS: usize = 4_096;

type Key = (PageQuery, u64);
type Waiter = oneshot::Sender<Result<Page, Failure>>;

/// The reads under way and the last few done.
#[derive(Debug)]
pub(crate) struct Pages {
    versions: Box<[AtomicU64]>,
    state: Mutex<State>,
    reads: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    reading: HashMap<Key, Vec<Waiter>>,
    kept: HashMap<Key, Page>,
    kept_order: VecDeque<Key>,
}

/// How a call gets its page.
pub(crate) enum Turn {
    /// It is there.
    Ready(Page),
    /// Somebody reads it. If the sender is dropped, ask again.
    Wait(oneshot::Receiver<Result<Page, Failure>>),
    /// Read it.
    Lead(Lead, oneshot::Receiver<Result<Page, Failure>>),
}

impl Pages {
    pub(crate) fn new() -> Arc<Self> {
        let versions = (0..VERSIONS).map(|_| AtomicU64::new(0)).collect();
        Arc::new(Self { versions, state: Mutex::default(), reads: AtomicU64::new(0) })
    }

    /// Something was committed to these channels.
    pub(crate) fn changed(&self, channels: impl Iterator<Item = ChannelId>) {
        for channel in channels {
            self.version(channel).fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Pages read so far from the file.
    pub(crate) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    pub(crate) fn turn(self: &Arc<Self>, query: &PageQuery) -> Turn {
        let key = (query.clone(), self.version(query.channel).load(Ordering::Acquire));
        let mut state = self.state();
        if let Some(page) = state.kept.get(&key) {
            return Turn::Ready(page.clone());
        }
        let (waiter, page) = oneshot::channel();
        if let Some(waiters) = state.reading.get_mut(&key) {
            waiters.push(waiter);
            return Turn::Wait(page);
        }
        state.reading.insert(key.clone(), vec![waiter]);
        drop(state);
        Turn::Lead(Lead { pages: Arc::clone(self), key: Some(key) }, page)
    }

    fn version(&self, channel: ChannelId) -> &AtomicU64 {
        let [.., high, low] = *channel.as_bytes();
        &self.versions[usize::from(u16::from_be_bytes([high, low])) % VERSIONS]
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock can stop halfway.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The duty to read a page for all who wait. Dropped undone, those who wait ask again.
pub(crate) struct Lead {
    pages: Arc<Pages>,
    key: Option<Key>,
}

impl Lead {
    pub(crate) fn query(&self) -> Option<&PageQuery> {
        self.key.as_ref().map(|(query, _)| query)
    }

    pub(crate) fn done(mut self, read: Result<Vec<StoredEvent>, Failure>) {
        let Some(key) = self.key.take() else { return };
        self.pages.reads.fetch_add(1, Ordering::Relaxed);
        let read = read.map(|events| Page { events: events.into() });
        let mut state = self.pages.state();
        let waiters = state.reading.remove(&key).unwrap_or_default();
        if let Ok(page) = &read
            && text_bytes(page) <= KEPT_PAGE_BYTES_MAX
        {
            state.kept.insert(key.clone(), page.clone());
            state.kept_order.push_back(key);
            if state.kept_order.len() > PAGES_KEPT_MAX
                && let Some(oldest) = state.kept_order.pop_front()
            {
                state.kept.remove(&oldest);
            }
        }
        drop(state);
        for waiter in waiters {
            // Those who no longer wait need nothing.
            let _ = waiter.send(read.clone());
        }
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.pages.state().reading.remove(&key);
        }
    }
}

/// About what a page takes in memory.
fn text_bytes(page: &Page) -> usize {
    let text = |event: &StoredEvent| match &event.event.kind {
        EventKind::MessagePosted { text } => text.len(),
        EventKind::ChannelCreated { title, .. } => title.len(),
        _ => 0,
    };
    page.events.iter().map(|event| size_of::<StoredEvent>() + text(event)).sum()
}
