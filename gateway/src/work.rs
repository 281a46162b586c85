//! What a connection waits for: its session made durable, and reads of the store. One at a time for each connection, boxed, and
//! gone when done, so that an idle connection carries none of it.

use crate::hub::Hub;
use crate::limits::{PAGE_EVENTS_MAX, PAGE_WAITS_FOR_STORE_MS};
use crate::sessions;
use domain::{ChannelId, ChannelSeq, UserId};
use futures_util::future::BoxFuture;
use schemas::frames::CursorFrame;
use schemas::records::SessionRecord;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use store::reading::{PersonalPage, page_for};
use store::{Error, PageQuery};
use tokio::time::Instant;

/// Work in hand.
pub(crate) type Work = BoxFuture<'static, Done>;

/// Work done.
pub(crate) enum Done {
    /// The session is durable.
    Opened(Result<(), eventlog::Error>),
    /// It is clear what to catch up with.
    Planned(Result<Plan, Error>),
    /// The next part of a channel, from this seq.
    Part(ChannelId, ChannelSeq, Result<Option<PersonalPage>, Error>),
    /// The answer to a request.
    History(Asked, Result<Option<PersonalPage>, Error>),
    /// The heads of the channels one asked about.
    Heads(Result<BTreeMap<ChannelId, u64>, Error>),
    /// The session is durable under the new epoch.
    Reopened(Result<(), eventlog::Error>),
}

/// What a connection does to be as far as the store.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Every channel of the person, with the seq that the client has and the one they left with.
    pub(crate) channels: Vec<Known>,
    /// Channels to read, from where.
    pub(crate) to_read: VecDeque<(ChannelId, ChannelSeq)>,
    /// Up to where it is complete then, for current channels and those that are read.
    pub(crate) heads: BTreeMap<ChannelId, u64>,
}

/// A channel of the person.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) channel: ChannelId,
    /// Up to where the client has it; `None`: not at all.
    pub(crate) cursor: Option<u64>,
    /// The seq one left with; `None`: a member.
    pub(crate) left: Option<u64>,
}

/// A `history` request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) channel: ChannelId,
    pub(crate) request: u64,
    pub(crate) first: Option<u64>,
    pub(crate) last: Option<u64>,
    pub(crate) limit: Option<u32>,
    /// The highest seq that this socket was given of the channel: the store will have it in a moment.
    pub(crate) seen: u64,
}

/// Makes a session durable, in its turn.
pub(crate) fn open(hub: Arc<Hub>, session: SessionRecord) -> Work {
    Box::pin(async move {
        let _turn = hub.openings.acquire().await;
        Done::Opened(sessions::open(&hub, &session).await)
    })
}

/// Makes it durable again, under the epoch that the process now has.
pub(crate) fn reopen(hub: Arc<Hub>, session: SessionRecord) -> Work {
    Box::pin(async move {
        let _turn = hub.openings.acquire().await;
        Done::Reopened(sessions::open(&hub, &session).await)
    })
}

/// Compares the client's cursors with the store.
pub(crate) fn plan(hub: Arc<Hub>, user: UserId, cursors: BTreeMap<ChannelId, CursorFrame>) -> Work {
    Box::pin(async move {
        let _turn = hub.openings.acquire().await;
        let _read = hub.store_reads.acquire().await;
        Done::Planned(compare(&hub, user, &cursors).await)
    })
}

async fn compare(hub: &Hub, user: UserId, cursors: &BTreeMap<ChannelId, CursorFrame>) -> Result<Plan, Error> {
    let generation = hub.config.generation;
    // A cursor of another generation says nothing about this log.
    let cursor_of =
        |channel| cursors.get(&channel).filter(|cursor| cursor.generation == generation).map(|cursor| cursor.seq);
    let personal = ChannelId::personal(user);
    let mut channels = vec![Known { channel: personal, cursor: cursor_of(personal), left: None }];
    for row in hub.deps.memberships.channels_of(user).await? {
        let known = Known { channel: row.channel, cursor: cursor_of(row.channel), left: row.left.map(|left| left.0) };
        // What is left and not being followed is history, and asked for as such.
        if known.left.is_none() || known.cursor.is_some() {
            channels.push(known);
        }
    }
    let ids: Vec<ChannelId> = channels.iter().map(|known| known.channel).collect();
    let summaries = hub.deps.timelines.summaries(&ids).await?;
    let ends: BTreeMap<ChannelId, u64> = summaries.iter().map(|summary| (summary.channel, summary.seq.0)).collect();
    let mut plan = Plan::default();
    for known in &channels {
        let end = ends.get(&known.channel).copied().unwrap_or(0).min(known.left.unwrap_or(u64::MAX));
        match known.cursor {
            Some(cursor) if cursor < end => {
                plan.to_read.push_back((known.channel, ChannelSeq(cursor + 1)));
                plan.heads.insert(known.channel, end);
            }
            _ if known.left.is_none() => {
                plan.heads.insert(known.channel, end);
            }
            _ => {}
        }
    }
    plan.channels = channels;
    Ok(plan)
}

/// Reads the next part of a channel.
pub(crate) fn part(hub: Arc<Hub>, user: UserId, channel: ChannelId, first: ChannelSeq) -> Work {
    Box::pin(async move {
        let _read = hub.store_reads.acquire().await;
        let query =
            PageQuery { channel, first, last: ChannelSeq(u64::MAX >> 1), limit: PAGE_EVENTS_MAX, newest_first: false };
        Done::Part(channel, first, page_for(&*hub.deps.timelines, &*hub.deps.memberships, user, &query).await)
    })
}

/// Answers a request. Events that the socket was already given may be on their way into the store: they are waited for a little.
pub(crate) fn history(hub: Arc<Hub>, user: UserId, asked: Asked) -> Work {
    Box::pin(async move {
        let most = PAGE_EVENTS_MAX as u32;
        let query = PageQuery {
            channel: asked.channel,
            first: ChannelSeq(asked.first.unwrap_or(1).max(1)),
            last: ChannelSeq(asked.last.unwrap_or(u64::MAX >> 1).min(u64::MAX >> 1)),
            limit: asked.limit.unwrap_or(most).clamp(1, most) as usize,
            newest_first: asked.first.is_none(),
        };
        let deadline = Instant::now() + Duration::from_millis(PAGE_WAITS_FOR_STORE_MS);
        let mut pause = Duration::from_millis(5);
        loop {
            let page = {
                let _read = hub.store_reads.acquire().await;
                page_for(&*hub.deps.timelines, &*hub.deps.memberships, user, &query).await
            };
            let expected = query.last.0.min(asked.seen).min(query.first.0.saturating_add(query.limit as u64 - 1));
            let behind = match &page {
                Ok(Some(page)) => !query.newest_first && page.last.0 < expected && page.reach().is_current(),
                Ok(None) | Err(_) => false,
            };
            if !behind || Instant::now() + pause > deadline {
                return Done::History(asked, page);
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    })
}

/// The ends of these channels in the store.
pub(crate) fn heads(hub: Arc<Hub>, channels: Vec<ChannelId>) -> Work {
    Box::pin(async move {
        let _read = hub.store_reads.acquire().await;
        let summaries = hub.deps.timelines.summaries(&channels).await;
        Done::Heads(
            summaries.map(|summaries| summaries.into_iter().map(|summary| (summary.channel, summary.seq.0)).collect()),
        )
    })
}
