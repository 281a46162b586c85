//! One task judges time for all connections: silence, sockets that take nothing, digests that are due. No connection has a timer.

use crate::hub::Hub;
use crate::limits::{CLOSE_WITHIN_S, DIGEST_INTERVAL_S, HELLO_WITHIN_S, SILENCE_S, TICK_S, WRITE_BLOCKED_S};
use crate::link::Link;
use crate::sessions;
use runtime::Shutdown;
use schemas::error_codes::Code;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::MissedTickBehavior;

/// Runs until the shutdown.
pub(crate) async fn run(hub: Arc<Hub>, shutdown: Shutdown) {
    let mut ticks = tokio::time::interval(Duration::from_secs(u64::from(TICK_S)));
    // After a stall, missed ticks are not made up: nobody is judged silent for time in which nobody could be heard.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while shutdown.or_until(ticks.tick()).await.is_some() {
        let tick = hub.tick.fetch_add(TICK_S, Ordering::Relaxed) + TICK_S;
        hub.for_each_link(|link| judge(link, tick));
        sessions::write_waiting(&hub);
    }
}

fn judge(link: &Link, tick: u32) {
    let closing = link.closing.load(Ordering::Relaxed);
    let blocked = link.blocked.load(Ordering::Relaxed);
    if closing != 0 && tick - closing > CLOSE_WITHIN_S || blocked != 0 && tick - blocked > WRITE_BLOCKED_S {
        link.order(|orders| orders.drop = true);
        return;
    }
    if closing != 0 {
        return;
    }
    let silent = tick.saturating_sub(link.heard.load(Ordering::Relaxed));
    if link.user.get().is_none() {
        if silent > HELLO_WITHIN_S {
            link.order(|orders| orders.close = Some(Code::Unauthenticated));
        }
        return;
    }
    if silent > SILENCE_S {
        link.order(|orders| orders.close = Some(Code::Silent));
        return;
    }
    let expires_at = link.expires_at.load(Ordering::Relaxed);
    if expires_at != 0 && expires_at <= tick {
        link.order(|orders| orders.close = Some(Code::Unauthenticated));
        return;
    }
    let digest_at = link.digest_at.load(Ordering::Relaxed);
    if digest_at != 0 && digest_at <= tick {
        link.digest_at.store(tick + DIGEST_INTERVAL_S, Ordering::Relaxed);
        link.order(|orders| orders.digest = true);
    }
}
