//! Reading projections.

use crate::codec::{channel_kind, decode_cursor, decode_event, history, role};
use crate::failure::{Failure, File};
use crate::limits::CHANNEL_SEQ_MAX;
use crate::projections::{day, message_key};
use domain::decide::{Head, Member};
use domain::{ChannelId, ChannelSeq, ClientMsgId, Event, LogTime, MessageId, Ordinal, PartitionId, UserId};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::collections::BTreeMap;
use store::{ChannelSummary, KnownId, MemberRow, MembershipRow, PageQuery, ProgressCursor, StoredEvent};

fn sqlite(error: rusqlite::Error) -> Failure {
    Failure::of_sqlite(File::Projections, error)
}

/// The number of a channel that has an event.
pub(crate) fn number(connection: &Connection, channel: ChannelId) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT number FROM channels WHERE channel = ?1")?
        .query_row([channel.as_bytes()], |row| row.get(0))
        .optional()
}

/// The newest day of T among the client ids.
pub(crate) fn newest_id_day(connection: &Connection) -> rusqlite::Result<Option<i64>> {
    connection.prepare_cached("SELECT max(day) FROM client_ids")?.query_row([], |row| row.get(0))
}

pub(crate) fn progress(connection: &Connection, partition: PartitionId) -> Result<Vec<ProgressCursor>, Failure> {
    let mut select = connection
        .prepare_cached("SELECT cursor FROM writer_progress WHERE partition = ?1 ORDER BY offset")
        .map_err(sqlite)?;
    let mut rows = select.query([partition.0]).map_err(sqlite)?;
    let mut trail = Vec::new();
    while let Some(row) = rows.next().map_err(sqlite)? {
        trail.push(ProgressCursor { cursor: decode_cursor(blob(row, 0)?)? });
    }
    Ok(trail)
}

pub(crate) fn heads(connection: &mut Connection, channels: &[ChannelId]) -> Result<Vec<Option<Head>>, Failure> {
    // One snapshot, or a head could come with members of a later seq.
    let tx = connection.transaction().map_err(sqlite)?;
    channels.iter().map(|channel| head(&tx, *channel)).collect()
}

fn head(tx: &Connection, channel: ChannelId) -> Result<Option<Head>, Failure> {
    let mut select = tx
        .prepare_cached(
            "SELECT number, seq, ordinal, members_version, kind, history, open FROM channels WHERE channel = ?1",
        )
        .map_err(sqlite)?;
    let mut rows = select.query([channel.as_bytes()]).map_err(sqlite)?;
    let Some(row) = rows.next().map_err(sqlite)? else { return Ok(None) };
    Ok(Some(Head {
        seq: ChannelSeq(count(row, 1)?),
        ordinal: Ordinal(count(row, 2)?),
        members_version: ChannelSeq(count(row, 3)?),
        kind: channel_kind(int(row, 4)?)?,
        history: history(int(row, 5)?)?,
        open: int(row, 6)? != 0,
        members: head_members(tx, int(row, 0)?)?,
    }))
}

/// The last stay of each person counts.
fn head_members(tx: &Connection, number: i64) -> Result<BTreeMap<UserId, Member>, Failure> {
    let mut select = tx
        .prepare_cached("SELECT user, role, since, left FROM members WHERE channel = ?1 ORDER BY user, joined")
        .map_err(sqlite)?;
    let mut rows = select.query([number]).map_err(sqlite)?;
    let mut members: Vec<(UserId, Member)> = Vec::new();
    while let Some(row) = rows.next().map_err(sqlite)? {
        let user = UserId::from_bytes(id(row, 0)?);
        let stays = optional_count(row, 3)?.is_none();
        let role = role(int(row, 1)?)?;
        let member = Member { role: stays.then_some(role), since: ChannelSeq(count(row, 2)?) };
        match members.last_mut() {
            Some((before, earlier)) if *before == user => *earlier = member,
            _ => members.push((user, member)),
        }
    }
    // Sorted already, so the tree is built in one pass.
    Ok(members.into_iter().collect())
}

pub(crate) fn find_ids(
    connection: &mut Connection,
    ids: &[(ChannelId, UserId, ClientMsgId)],
) -> Result<Vec<Option<KnownId>>, Failure> {
    let tx = connection.transaction().map_err(sqlite)?;
    let days: (Option<i64>, Option<i64>) = tx
        .prepare_cached("SELECT (SELECT min(day) FROM client_ids), (SELECT max(day) FROM client_ids)")
        .and_then(|mut select| select.query_row([], |row| Ok((row.get(0)?, row.get(1)?))))
        .map_err(sqlite)?;
    let (Some(oldest), Some(newest)) = days else { return Ok(vec![None; ids.len()]) };
    ids.iter().map(|(channel, sender, id)| find_id(&tx, *channel, *sender, *id, oldest..=newest)).collect()
}

fn find_id(
    tx: &Connection,
    channel: ChannelId,
    sender: UserId,
    id: ClientMsgId,
    days: std::ops::RangeInclusive<i64>,
) -> Result<Option<KnownId>, Failure> {
    let Some(number) = number(tx, channel).map_err(sqlite)? else { return Ok(None) };
    // An accepted id is at most a moment ahead of T, so it is never filed under a day before its own, less that moment. An id
    // that is no UUIDv7 may be anywhere.
    let ahead = domain::limits::CLIENT_CLOCK_AHEAD_MS;
    let first = id.time().map_or(*days.start(), |time| day(time.minus_ms(ahead)).max(*days.start()));
    let mut select = tx
        .prepare_cached(
            "SELECT seq, digest FROM client_ids WHERE day = ?1 AND id = ?2 AND sender = ?3 AND channel = ?4",
        )
        .map_err(sqlite)?;
    for day in first..=*days.end() {
        let known = select
            .query_row(params![day, id.as_bytes(), sender.as_bytes(), number], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
            })
            .optional()
            .map_err(sqlite)?;
        if let Some((seq, digest)) = known {
            return Ok(Some(KnownId { seq: ChannelSeq(seq as u64), digest: digest as u64 }));
        }
    }
    Ok(None)
}

pub(crate) fn page(connection: &mut Connection, query: &PageQuery) -> Result<Vec<StoredEvent>, Failure> {
    if query.first > query.last || query.limit == 0 || query.first.0 > CHANNEL_SEQ_MAX {
        return Ok(Vec::new());
    }
    // The number of a channel never changes, so this needs no common snapshot.
    let Some(number) = number(connection, query.channel).map_err(sqlite)? else { return Ok(Vec::new()) };
    let order = if query.newest_first { "DESC" } else { "ASC" };
    let mut select = connection
        .prepare_cached(&format!(
            "SELECT key, message_id, ordinal, members_version, time, sender, client_msg_id, kind, text, data
             FROM messages WHERE key BETWEEN ?1 AND ?2 ORDER BY key {order} LIMIT ?3"
        ))
        .map_err(sqlite)?;
    let first = message_key(number, query.first.0);
    let last = message_key(number, query.last.0.min(CHANNEL_SEQ_MAX));
    let limit = i64::try_from(query.limit).unwrap_or(i64::MAX);
    let mut rows = select.query([first, last, limit]).map_err(sqlite)?;
    let mut events = Vec::new();
    while let Some(row) = rows.next().map_err(sqlite)? {
        events.push(event(query.channel, row)?);
    }
    if query.newest_first {
        events.reverse();
    }
    Ok(events)
}

fn event(channel: ChannelId, row: &Row<'_>) -> Result<StoredEvent, Failure> {
    let text = match row.get_ref(8).map_err(sqlite)? {
        ValueRef::Null => None,
        text => Some(text.as_str().map_err(|error| Failure::damaged(File::Projections, error))?),
    };
    let data = match row.get_ref(9).map_err(sqlite)? {
        ValueRef::Null => None,
        data => Some(data.as_blob().map_err(|error| Failure::damaged(File::Projections, error))?),
    };
    Ok(StoredEvent {
        channel,
        sender: UserId::from_bytes(id(row, 5)?),
        client_msg_id: ClientMsgId::from_bytes(id(row, 6)?),
        time: LogTime(count(row, 4)?),
        event: Event {
            seq: ChannelSeq(count(row, 0)? & CHANNEL_SEQ_MAX),
            ordinal: Ordinal(count(row, 2)?),
            message_id: MessageId(count(row, 1)?),
            members_version: ChannelSeq(count(row, 3)?),
            kind: decode_event(int(row, 7)?, text, data)?,
        },
    })
}

pub(crate) fn summaries(connection: &mut Connection, channels: &[ChannelId]) -> Result<Vec<ChannelSummary>, Failure> {
    let tx = connection.transaction().map_err(sqlite)?;
    let mut select = tx
        .prepare_cached(
            "SELECT seq, ordinal, members_version, kind, title, history, last_time FROM channels WHERE channel = ?1",
        )
        .map_err(sqlite)?;
    let mut summaries = Vec::with_capacity(channels.len());
    for channel in channels {
        let mut rows = select.query([channel.as_bytes()]).map_err(sqlite)?;
        let Some(row) = rows.next().map_err(sqlite)? else { continue };
        summaries.push(ChannelSummary {
            channel: *channel,
            seq: ChannelSeq(count(row, 0)?),
            ordinal: Ordinal(count(row, 1)?),
            members_version: ChannelSeq(count(row, 2)?),
            kind: channel_kind(int(row, 3)?)?,
            title: row.get(4).map_err(sqlite)?,
            history: history(int(row, 5)?)?,
            last_time: LogTime(count(row, 6)?),
        });
    }
    Ok(summaries)
}

/// All stays in a channel, or one person's.
pub(crate) fn stays(
    connection: &mut Connection,
    channel: ChannelId,
    user: Option<UserId>,
) -> Result<Vec<MemberRow>, Failure> {
    const COLUMNS: &str = "SELECT user, role, joined, left FROM members WHERE channel = ?1";
    let Some(number) = number(connection, channel).map_err(sqlite)? else { return Ok(Vec::new()) };
    let sql = match user {
        Some(_) => format!("{COLUMNS} AND user = ?2 ORDER BY joined"),
        None => format!("{COLUMNS} ORDER BY user, joined"),
    };
    let mut select = connection.prepare_cached(&sql).map_err(sqlite)?;
    let mut rows = match user {
        Some(user) => select.query(params![number, user.as_bytes()]),
        None => select.query([number]),
    }
    .map_err(sqlite)?;
    let mut stays = Vec::new();
    while let Some(row) = rows.next().map_err(sqlite)? {
        stays.push(MemberRow {
            user: UserId::from_bytes(id(row, 0)?),
            role: role(int(row, 1)?)?,
            joined: ChannelSeq(count(row, 2)?),
            left: optional_count(row, 3)?.map(ChannelSeq),
        });
    }
    Ok(stays)
}

pub(crate) fn channels_of(connection: &mut Connection, user: UserId) -> Result<Vec<MembershipRow>, Failure> {
    // With max(), SQLite takes the other columns from the row that has it.
    let mut select = connection
        .prepare_cached(
            "SELECT channels.channel, stay.joined, stay.left FROM
                (SELECT channel, max(joined) AS joined, left FROM members WHERE user = ?1 GROUP BY channel) AS stay
             JOIN channels ON channels.number = stay.channel ORDER BY channels.channel",
        )
        .map_err(sqlite)?;
    let mut rows = select.query([user.as_bytes()]).map_err(sqlite)?;
    let mut channels = Vec::new();
    while let Some(row) = rows.next().map_err(sqlite)? {
        channels.push(MembershipRow {
            channel: ChannelId::from_bytes(id(row, 0)?),
            joined: ChannelSeq(count(row, 1)?),
            left: optional_count(row, 2)?.map(ChannelSeq),
        });
    }
    Ok(channels)
}

fn int(row: &Row<'_>, column: usize) -> Result<i64, Failure> {
    row.get(column).map_err(sqlite)
}

fn count(row: &Row<'_>, column: usize) -> Result<u64, Failure> {
    Ok(int(row, column)? as u64)
}

fn optional_count(row: &Row<'_>, column: usize) -> Result<Option<u64>, Failure> {
    Ok(row.get::<_, Option<i64>>(column).map_err(sqlite)?.map(|count| count as u64))
}

fn blob<'r>(row: &'r Row<'_>, column: usize) -> Result<&'r [u8], Failure> {
    let value = row.get_ref(column).map_err(sqlite)?;
    value.as_blob().map_err(|error| Failure::damaged(File::Projections, error))
}

fn id(row: &Row<'_>, column: usize) -> Result<[u8; 16], Failure> {
    let bytes = blob(row, column)?;
    bytes.try_into().map_err(|_| Failure::damaged(File::Projections, "an id that is not 16 bytes"))
}
