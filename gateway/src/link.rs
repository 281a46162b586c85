//! What the rest of the gateway holds of a connection: its outbox and the orders to it.

use crate::frame::SharedFrame;
use crate::limits::{OUTBOX_BYTES_MAX, OUTBOX_FRAMES_MAX};
use domain::UserId;
use schemas::error_codes::Code;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;

/// One connection, seen from outside its task.
#[derive(Debug)]
pub(crate) struct Link {
    /// Unique for the life of the process's epoch, and never of an earlier one.
    pub(crate) connection: u64,
    /// Whose, once `hello` was accepted.
    pub(crate) user: OnceLock<UserId>,
    /// The tick of the last sign of life.
    pub(crate) heard: AtomicU32,
    /// The tick since which the socket has not taken what waits for it; 0: it takes.
    pub(crate) blocked: AtomicU32,
    /// The tick at which the close frame was sent; 0: not closing.
    pub(crate) closing: AtomicU32,
    /// The tick of the next digest; 0: not open yet.
    pub(crate) digest_at: AtomicU32,
    /// The tick at which the access token has expired; 0: not open yet.
    pub(crate) expires_at: AtomicU32,
    /// Sends in hand whose outcome has not come. For the drain only: a lost command is never subtracted.
    pub(crate) unanswered: AtomicU32,
    outbox: Mutex<Outbox>,
}

#[derive(Debug, Default)]
struct Outbox {
    queue: VecDeque<SharedFrame>,
    bytes: usize,
    orders: Orders,
    waker: Option<Waker>,
}

/// What a connection is told to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Orders {
    /// Drop the socket at once.
    pub(crate) drop: bool,
    /// Say so, and close.
    pub(crate) close: Option<Code>,
    /// Announce the end, in so many ms.
    pub(crate) go_away_ms: Option<u64>,
    /// Events may have been missed: open the session again under the new epoch, then say so.
    pub(crate) resync: bool,
    /// Compare heads.
    pub(crate) digest: bool,
}

impl Link {
    pub(crate) fn new(connection: u64, tick: u32) -> Self {
        Self {
            connection,
            user: OnceLock::new(),
            heard: AtomicU32::new(tick),
            blocked: AtomicU32::new(0),
            closing: AtomicU32::new(0),
            digest_at: AtomicU32::new(0),
            expires_at: AtomicU32::new(0),
            unanswered: AtomicU32::new(0),
            outbox: Mutex::default(),
        }
    }

    /// Queues frames. Gives back whom to wake, if the connection slept with nothing to do: wake after all that comes together is
    /// queued. Above the bounds the queue is dropped and the connection closes (SHED).
    #[must_use]
    pub(crate) fn push(&self, frames: &[SharedFrame]) -> Option<Waker> {
        let mut outbox = self.outbox();
        if outbox.orders.close.is_some() || outbox.orders.drop {
            return None;
        }
        let was_empty = outbox.queue.is_empty();
        for frame in frames {
            outbox.bytes += frame.wire.len();
            outbox.queue.push_back(SharedFrame::clone(frame));
        }
        if outbox.queue.len() > OUTBOX_FRAMES_MAX || outbox.bytes > OUTBOX_BYTES_MAX {
            outbox.queue = VecDeque::new();
            outbox.bytes = 0;
            outbox.orders.close = Some(Code::SlowReader);
            metrics::counter!("hubbub_gateway_slow_readers_total").increment(1);
            return outbox.waker.take();
        }
        if was_empty { outbox.waker.take() } else { None }
    }

    /// Gives an order and wakes the connection.
    pub(crate) fn order(&self, give: impl FnOnce(&mut Orders)) {
        let waker = {
            let mut outbox = self.outbox();
            give(&mut outbox.orders);
            outbox.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// For the connection's task: takes the orders, and the queue if it is wanted; whatever comes next wakes it.
    pub(crate) fn take(&self, waker: &Waker, want_queue: bool) -> (Orders, VecDeque<SharedFrame>) {
        let mut outbox = self.outbox();
        if !outbox.waker.as_ref().is_some_and(|old| old.will_wake(waker)) {
            outbox.waker = Some(waker.clone());
        }
        let orders = std::mem::take(&mut outbox.orders);
        if !want_queue {
            return (orders, VecDeque::new());
        }
        outbox.bytes = 0;
        (orders, std::mem::take(&mut outbox.queue))
    }

    /// One send's outcome has come.
    pub(crate) fn answered(&self) {
        let fewer = |count: u32| count.checked_sub(1);
        // Nothing to subtract: an outcome that came twice.
        let _ = self.unanswered.fetch_update(Ordering::AcqRel, Ordering::Acquire, fewer);
    }

    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        // A panic in this short section leaves a queue that is still a queue.
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Frame, error};
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn only_the_first_frame_wakes_and_all_are_taken_together() {
        let link = Link::new(1, 1);
        let frame = Frame::control(&error(Code::Malformed, "x"));
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        assert_eq!(link.take(&waker, true).1.len(), 0);
        assert!(link.push(std::slice::from_ref(&frame)).is_some());
        for _ in 0..9 {
            assert!(link.push(std::slice::from_ref(&frame)).is_none());
        }
        assert_eq!(link.take(&waker, true).1.len(), 10);
    }

    #[test]
    fn a_full_outbox_is_dropped_and_closes_the_connection() {
        for wire in [1, OUTBOX_BYTES_MAX / 4] {
            let link = Link::new(1, 1);
            let frame = Frame::control(&error(Code::Malformed, "x".repeat(wire)));
            for _ in 0..=OUTBOX_FRAMES_MAX {
                drop(link.push(std::slice::from_ref(&frame)));
            }
            let (orders, queue) = link.take(Waker::noop(), true);
            assert_eq!((orders.close, queue.len()), (Some(Code::SlowReader), 0));
        }
    }

    #[test]
    fn orders_wake_a_connection_that_does_not_take_its_queue() {
        let link = Link::new(1, 1);
        let frame = Frame::control(&error(Code::Malformed, "x"));
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        drop(link.push(std::slice::from_ref(&frame)));
        assert_eq!(link.take(&waker, false).1.len(), 0);
        link.order(|orders| orders.drop = true);
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        let (orders, queue) = link.take(&waker, true);
        assert_eq!((orders.drop, queue.len()), (true, 1));
    }
}
