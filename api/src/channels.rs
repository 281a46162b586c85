//! Channels, members and history. A change is a command; what is read comes from the store.

use crate::limits::{CHANNELS_PER_PERSON_MAX, OUTCOME_WITHIN, PAGE_EVENTS_MAX, VISIBLE_WITHIN};
use crate::problem::{Answer, Refused};
use crate::request::{Asked, At, Body, Person, channel, command_id, user};
use crate::service::Shared;
use axum::Json;
use axum::extract::State;
use domain::command::{ChannelKind, HistoryVisibility};
use domain::limits::TITLE_BYTES_MAX;
use domain::{ChannelId, ChannelSeq, ClientMsgId, Command, CommandBody, RejectCause, UserId};
use http::StatusCode;
use schemas::error_codes::Code;
use schemas::event_frames::{channel_kind_name, role_name};
use schemas::frames::EventFrame;
use schemas::http::{AddMembers, ChannelView, Decided, HistoryPage, MemberView, NewChannel};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use store::PageQuery;
use store::reading::page_for;
use tokio::time::Instant;

/// `POST /channels`
pub(crate) async fn create(
    State(shared): State<Arc<Shared>>,
    Person(me): Person,
    Body(asked): Body<NewChannel>,
) -> Answer<(StatusCode, Json<Decided>)> {
    let id = command_id(&shared, asked.client_msg_id.as_deref())?;
    let others: BTreeSet<UserId> = asked.members.iter().map(|text| user(text)).collect::<Answer<_>>()?;
    let members: Vec<UserId> = others.into_iter().filter(|other| *other != me).collect();
    let history = match asked.history.as_deref() {
        None | Some("from_joining") => HistoryVisibility::FromJoining,
        Some("from_start") => HistoryVisibility::FromStart,
        Some(_) => return Err(Refused::new(Code::Malformed, "`history` is `from_joining` or `from_start`")),
    };
    if asked.title.len() > TITLE_BYTES_MAX {
        return Err(Refused::new(Code::BadBody, format!("a title has at most {TITLE_BYTES_MAX} bytes")));
    }
    if members.len() >= shared.config.members_max {
        return Err(Code::MembersLimit.into());
    }
    let (channel, kind) = match asked.kind.as_str() {
        "group" => (ChannelId::group(me, id), ChannelKind::Group),
        "direct" => match members[..] {
            [other] => (ChannelId::direct(me, other), ChannelKind::Direct),
            _ => return Err(Refused::new(Code::Malformed, "a direct channel has exactly one other member")),
        },
        _ => return Err(Refused::new(Code::Malformed, "`kind` is `group` or `direct`")),
    };
    must_exist(&shared, &members).await?;
    may_have_more(&shared, me).await?;
    let title = if kind == ChannelKind::Direct { Box::default() } else { asked.title.into_boxed_str() };
    let open = asked.open && kind == ChannelKind::Group;
    let body = CommandBody::CreateChannel { kind, title, members, history, open };
    match decide(&shared, me, channel, id, body).await {
        // There is one direct channel of two people, whoever makes it.
        Err(Undecided::Rejected(RejectCause::AlreadyExists)) if kind == ChannelKind::Direct => {
            Ok((StatusCode::OK, Json(Decided { channel: channel.to_string(), seq: 1, duplicate: true })))
        }
        Err(undecided) => Err(undecided.into()),
        Ok(decided) => Ok((if decided.duplicate { StatusCode::OK } else { StatusCode::CREATED }, Json(decided))),
    }
}

/// `GET /channels`
pub(crate) async fn list(State(shared): State<Arc<Shared>>, Person(me): Person) -> Answer<Json<Vec<ChannelView>>> {
    let rows = shared.deps.memberships.channels_of(me).await?;
    let joined: BTreeMap<ChannelId, ChannelSeq> =
        rows.iter().filter(|row| row.left.is_none()).map(|row| (row.channel, row.joined)).collect();
    let ids: Vec<ChannelId> = joined.keys().copied().collect();
    let mut summaries = shared.deps.timelines.summaries(&ids).await?;
    // The latest message first.
    summaries.sort_by_key(|summary| (std::cmp::Reverse(summary.last_time), summary.channel));
    let view = |summary: store::ChannelSummary| ChannelView {
        joined_seq: joined.get(&summary.channel).map_or(0, |seq| seq.0),
        id: summary.channel.to_string(),
        kind: channel_kind_name(summary.kind).to_owned(),
        title: summary.title,
        seq: summary.seq.0,
        ordinal: summary.ordinal.0,
    };
    Ok(Json(summaries.into_iter().map(view).collect()))
}

/// `POST /channels/{id}/members`
pub(crate) async fn add(
    State(shared): State<Arc<Shared>>,
    Person(me): Person,
    At(id): At<String>,
    Body(asked): Body<AddMembers>,
) -> Answer<Json<Decided>> {
    let channel = channel(&id)?;
    let command = command_id(&shared, asked.client_msg_id.as_deref())?;
    let users: BTreeSet<UserId> = asked.users.iter().map(|text| user(text)).collect::<Answer<_>>()?;
    let users: Vec<UserId> = users.into_iter().collect();
    if users.len() > shared.config.members_max {
        return Err(Code::MembersLimit.into());
    }
    let body = if users.is_empty() || users == [me] {
        may_have_more(&shared, me).await?;
        CommandBody::Join
    } else {
        must_exist(&shared, &users).await?;
        CommandBody::AddMembers { users }
    };
    Ok(Json(decide(&shared, me, channel, command, body).await?))
}

/// What a request without a body may say.
#[derive(Debug, Deserialize)]
pub(crate) struct Named {
    client_msg_id: Option<String>,
}

/// `DELETE /channels/{id}/members/{user}`; `me` is oneself.
pub(crate) async fn remove(
    State(shared): State<Arc<Shared>>,
    Person(me): Person,
    At((id, whom)): At<(String, String)>,
    Asked(named): Asked<Named>,
) -> Answer<Json<Decided>> {
    let channel = channel(&id)?;
    let command = command_id(&shared, named.client_msg_id.as_deref())?;
    let whom = if whom == "me" { me } else { user(&whom)? };
    let body = if whom == me { CommandBody::Leave } else { CommandBody::RemoveMember { user: whom } };
    Ok(Json(decide(&shared, me, channel, command, body).await?))
}

/// `GET /channels/{id}/members`
pub(crate) async fn members(
    State(shared): State<Arc<Shared>>,
    Person(me): Person,
    At(id): At<String>,
) -> Answer<Json<Vec<MemberView>>> {
    let channel = channel(&id)?;
    let rows = shared.deps.memberships.members_of(channel).await?;
    let current = rows.iter().filter(|row| row.left.is_none());
    let views: Vec<MemberView> = current
        .map(|row| MemberView {
            user: row.user.to_string(),
            role: role_name(row.role).to_owned(),
            joined_seq: row.joined.0,
        })
        .collect();
    let mine = rows.iter().any(|row| row.user == me && row.left.is_none());
    if mine { Ok(Json(views)) } else { Err(Code::NotMember.into()) }
}

/// Which events.
#[derive(Debug, Deserialize)]
pub(crate) struct Window {
    first: Option<u64>,
    last: Option<u64>,
    limit: Option<usize>,
}

/// `GET /channels/{id}/messages`: without `first`, the newest.
pub(crate) async fn messages(
    State(shared): State<Arc<Shared>>,
    Person(me): Person,
    At(id): At<String>,
    Asked(window): Asked<Window>,
) -> Answer<Json<HistoryPage>> {
    let query = PageQuery {
        channel: channel(&id)?,
        first: ChannelSeq(window.first.unwrap_or(1).max(1)),
        last: ChannelSeq(window.last.unwrap_or(u64::MAX >> 1).min(u64::MAX >> 1)),
        limit: window.limit.unwrap_or(PAGE_EVENTS_MAX).clamp(1, PAGE_EVENTS_MAX),
        newest_first: window.first.is_none(),
    };
    let page =
        page_for(&*shared.deps.timelines, &*shared.deps.memberships, me, &query).await?.ok_or(Code::NotMember)?;
    let show =
        |row: &store::StoredEvent| EventFrame::new(row.channel, row.sender, row.client_msg_id, row.time, &row.event);
    Ok(Json(HistoryPage { events: page.events().map(show).collect(), first: page.first.0, last: page.last.0 }))
}

/// A command that was not accepted.
enum Undecided {
    Rejected(RejectCause),
    Refused(Refused),
}

impl From<Undecided> for Refused {
    fn from(undecided: Undecided) -> Self {
        match undecided {
            Undecided::Rejected(cause) => Code::from(cause).into(),
            Undecided::Refused(refused) => refused,
        }
    }
}

async fn decide(
    shared: &Shared,
    sender: UserId,
    channel: ChannelId,
    id: ClientMsgId,
    body: CommandBody,
) -> Result<Decided, Undecided> {
    let asker = shared.asker().map_err(Undecided::Refused)?;
    let command = Command { channel, sender, id, retry: false, reply: None, body };
    let told = asker.ask(command, OUTCOME_WITHIN).await.map_err(|error| Undecided::Refused(error.into()))?;
    let (seq, duplicate) = match told.answer {
        Ok(seq) => (seq, false),
        Err(domain::Answer::Duplicate { seq }) => (seq, true),
        Err(domain::Answer::Rejected(cause)) => return Err(Undecided::Rejected(cause)),
        Err(answer) => {
            let code = Code::of_answer(answer).unwrap_or(Code::Internal);
            return Err(Undecided::Refused(code.into()));
        }
    };
    wait_until_visible(shared, channel, seq).await;
    Ok(Decided { channel: channel.to_string(), seq: seq.0, duplicate })
}

/// Waits until the store has the event (and with it all events of its record). It did happen, so a late store is no refusal.
async fn wait_until_visible(shared: &Shared, channel: ChannelId, seq: ChannelSeq) {
    let deadline = Instant::now() + VISIBLE_WITHIN;
    let mut pause = Duration::from_millis(1);
    loop {
        match shared.deps.timelines.summaries(&[channel]).await {
            Ok(summaries) if summaries.first().is_some_and(|summary| summary.seq >= seq) => return,
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "can't see whether a change is in the store"),
        }
        if Instant::now() + pause > deadline {
            tracing::warn!(%channel, %seq, "a change is decided, but not in the store yet");
            return;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

async fn must_exist(shared: &Shared, users: &[UserId]) -> Answer<()> {
    for user in users {
        if shared.deps.accounts.account(*user).await?.is_none() {
            return Err(Refused::new(Code::NotFound, format!("no such person: {user}")));
        }
    }
    Ok(())
}

async fn may_have_more(shared: &Shared, user: UserId) -> Answer<()> {
    let rows = shared.deps.memberships.channels_of(user).await?;
    if rows.iter().filter(|row| row.left.is_none()).count() < CHANNELS_PER_PERSON_MAX {
        return Ok(());
    }
    Err(Refused::new(Code::Forbidden, format!("a person has at most {CHANNELS_PER_PERSON_MAX} channels")))
}
