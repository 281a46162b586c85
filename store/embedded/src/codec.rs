//! How what is not a column is written: the data of events other than messages, roles and kinds, cursors. Part of the files'
//! format: a number once given never means anything else.

use crate::failure::{Failure, File};
use domain::command::{ChannelKind, HistoryVisibility, Role};
use domain::{
    ChannelId, ChannelSeq, CommandPosition, Epoch, EventKind, LogCursor, LogTime, MessageId, OwnerSeq, UserId,
};

pub(crate) const MESSAGE_POSTED: i64 = 1;
const CHANNEL_CREATED: i64 = 2;
const MEMBER_JOINED: i64 = 3;
const MEMBER_LEFT: i64 = 4;
const ROLE_CHANGED: i64 = 5;
const CHANNEL_JOINED: i64 = 6;
const CHANNEL_LEFT: i64 = 7;

pub(crate) fn damaged(what: &str) -> Failure {
    Failure::damaged(File::Projections, format_args!("{what} of a kind this program does not know"))
}

pub(crate) const fn role_number(role: Role) -> i64 {
    match role {
        Role::Member => 1,
        Role::Admin => 2,
        Role::Owner => 3,
    }
}

pub(crate) fn role(number: i64) -> Result<Role, Failure> {
    match number {
        1 => Ok(Role::Member),
        2 => Ok(Role::Admin),
        3 => Ok(Role::Owner),
        _ => Err(damaged("a role")),
    }
}

pub(crate) const fn channel_kind_number(kind: ChannelKind) -> i64 {
    match kind {
        ChannelKind::Direct => 1,
        ChannelKind::Group => 2,
        ChannelKind::Personal => 3,
    }
}

pub(crate) fn channel_kind(number: i64) -> Result<ChannelKind, Failure> {
    match number {
        1 => Ok(ChannelKind::Direct),
        2 => Ok(ChannelKind::Group),
        3 => Ok(ChannelKind::Personal),
        _ => Err(damaged("a channel")),
    }
}

pub(crate) const fn history_number(history: HistoryVisibility) -> i64 {
    match history {
        HistoryVisibility::FromJoining => 1,
        HistoryVisibility::FromStart => 2,
    }
}

pub(crate) fn history(number: i64) -> Result<HistoryVisibility, Failure> {
    match number {
        1 => Ok(HistoryVisibility::FromJoining),
        2 => Ok(HistoryVisibility::FromStart),
        _ => Err(damaged("a visibility")),
    }
}

/// The kind's number, and the data of all kinds but a message.
pub(crate) fn encode_event(kind: &EventKind) -> (i64, Option<Vec<u8>>) {
    let with_user = |user: &UserId, last: u8| {
        let mut data = user.as_bytes().to_vec();
        data.push(last);
        Some(data)
    };
    let with_channel = |channel: &ChannelId, seq: ChannelSeq| {
        let mut data = channel.as_bytes().to_vec();
        data.extend_from_slice(&seq.0.to_be_bytes());
        Some(data)
    };
    match kind {
        EventKind::MessagePosted { .. } => (MESSAGE_POSTED, None),
        EventKind::ChannelCreated { kind, title, history, open } => {
            let mut data = vec![channel_kind_number(*kind) as u8, history_number(*history) as u8, u8::from(*open)];
            data.extend_from_slice(title.as_bytes());
            (CHANNEL_CREATED, Some(data))
        }
        EventKind::MemberJoined { user, role } => (MEMBER_JOINED, with_user(user, role_number(*role) as u8)),
        EventKind::MemberLeft { user, removed } => (MEMBER_LEFT, with_user(user, u8::from(*removed))),
        EventKind::RoleChanged { user, role } => (ROLE_CHANGED, with_user(user, role_number(*role) as u8)),
        EventKind::ChannelJoined { channel, seq } => (CHANNEL_JOINED, with_channel(channel, *seq)),
        EventKind::ChannelLeft { channel, seq } => (CHANNEL_LEFT, with_channel(channel, *seq)),
    }
}

pub(crate) fn decode_event(number: i64, text: Option<&str>, data: Option<&[u8]>) -> Result<EventKind, Failure> {
    let unknown = || damaged("an event");
    if number == MESSAGE_POSTED {
        return Ok(EventKind::MessagePosted { text: text.ok_or_else(unknown)?.into() });
    }
    let data = data.ok_or_else(unknown)?;
    if number == CHANNEL_CREATED {
        let [kind, visibility, open, title @ ..] = data else { return Err(unknown()) };
        return Ok(EventKind::ChannelCreated {
            kind: channel_kind(i64::from(*kind))?,
            title: std::str::from_utf8(title).map_err(|_| unknown())?.into(),
            history: history(i64::from(*visibility))?,
            open: *open != 0,
        });
    }
    let (id, rest) = data.split_first_chunk::<16>().ok_or_else(unknown)?;
    let last = || rest.first().copied().ok_or_else(unknown);
    let seq = || rest.try_into().map(|seq| ChannelSeq(u64::from_be_bytes(seq))).map_err(|_| unknown());
    Ok(match number {
        MEMBER_JOINED => EventKind::MemberJoined { user: UserId::from_bytes(*id), role: role(i64::from(last()?))? },
        MEMBER_LEFT => EventKind::MemberLeft { user: UserId::from_bytes(*id), removed: last()? != 0 },
        ROLE_CHANGED => EventKind::RoleChanged { user: UserId::from_bytes(*id), role: role(i64::from(last()?))? },
        CHANNEL_JOINED => EventKind::ChannelJoined { channel: ChannelId::from_bytes(*id), seq: seq()? },
        CHANNEL_LEFT => EventKind::ChannelLeft { channel: ChannelId::from_bytes(*id), seq: seq()? },
        _ => return Err(unknown()),
    })
}

/// A cursor: its numbers, big-endian, then the decided ones above low.
pub(crate) fn encode_cursor(cursor: &LogCursor) -> Vec<u8> {
    let numbers = [
        cursor.offset,
        cursor.epoch.0,
        cursor.n.0,
        cursor.time.0,
        cursor.last_id.0,
        cursor.low.incarnation,
        cursor.low.offset,
    ];
    numbers.iter().chain(&cursor.decided_above).flat_map(|number| number.to_be_bytes()).collect()
}

pub(crate) fn decode_cursor(data: &[u8]) -> Result<LogCursor, Failure> {
    let (numbers, rest) = data.as_chunks::<8>();
    let numbers: Vec<u64> = numbers.iter().map(|number| u64::from_be_bytes(*number)).collect();
    let ([offset, epoch, n, time, last_id, incarnation, low, above @ ..], []) = (numbers.as_slice(), rest) else {
        return Err(damaged("a cursor"));
    };
    Ok(LogCursor {
        offset: *offset,
        epoch: Epoch(*epoch),
        n: OwnerSeq(*n),
        time: LogTime(*time),
        last_id: MessageId(*last_id),
        low: CommandPosition { incarnation: *incarnation, offset: *low },
        decided_above: above.iter().copied().collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_event_reads_as_it_was_written() {
        let user = UserId::from_bytes([7; 16]);
        let channel = ChannelId::from_bytes([9; 16]);
        let seq = ChannelSeq(1 << 40);
        let kinds = [
            EventKind::MessagePosted { text: "a\0b\u{202e}".into() },
            EventKind::MessagePosted { text: "".into() },
            EventKind::ChannelCreated {
                kind: ChannelKind::Group,
                title: "Küche".into(),
                history: HistoryVisibility::FromStart,
                open: true,
            },
            EventKind::MemberJoined { user, role: Role::Owner },
            EventKind::MemberLeft { user, removed: true },
            EventKind::RoleChanged { user, role: Role::Admin },
            EventKind::ChannelJoined { channel, seq },
            EventKind::ChannelLeft { channel, seq },
        ];
        for kind in kinds {
            let (number, data) = encode_event(&kind);
            let text = if let EventKind::MessagePosted { text } = &kind { Some(&**text) } else { None };
            assert_eq!(decode_event(number, text, data.as_deref()).expect("own writing"), kind);
            if let Some(data) = data.filter(|_| number != CHANNEL_CREATED) {
                assert!(decode_event(number, None, Some(&data[..data.len() - 1])).is_err(), "cut short: {kind:?}");
            }
        }
        assert!(decode_event(99, None, Some(&[0; 24])).is_err());
    }

    #[test]
    fn a_cursor_reads_as_it_was_written() {
        let cursor = LogCursor {
            offset: 1,
            epoch: Epoch(2),
            n: OwnerSeq(3),
            time: LogTime(4),
            last_id: MessageId(u64::MAX),
            low: CommandPosition { incarnation: 6, offset: 7 },
            decided_above: [9, 12].into(),
        };
        let data = encode_cursor(&cursor);
        assert_eq!(decode_cursor(&data).expect("own writing"), cursor);
        assert!(decode_cursor(&data[..55]).is_err());
        assert!(decode_cursor(&data[..57]).is_err());
    }
}
