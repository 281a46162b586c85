//! Frames into domain types: strict, because a frame that can't be read is a server's fault.

use crate::auditor::SeenEvent;
use domain::command::{ChannelKind, HistoryVisibility, Role};
use domain::{ChannelId, ChannelSeq, EventKind, LogTime, MessageId, Ordinal, UserId};
use schemas::frames::{EventFrame, EventKindFrame};

/// A frame that can't be read.
#[derive(Debug, thiserror::Error)]
#[error("{what} is no {expected}")]
pub struct ParseError {
    what: String,
    expected: &'static str,
}

fn wrong(what: &str, expected: &'static str) -> ParseError {
    ParseError { what: format!("{what:?}"), expected }
}

/// A channel's id.
pub fn parse_channel(text: &str) -> Result<ChannelId, ParseError> {
    text.parse().map_err(|_| wrong(text, "channel id"))
}

fn parse_user(text: &str) -> Result<UserId, ParseError> {
    text.parse().map_err(|_| wrong(text, "user id"))
}

fn parse_role(text: &str) -> Result<Role, ParseError> {
    match text {
        "owner" => Ok(Role::Owner),
        "admin" => Ok(Role::Admin),
        "member" => Ok(Role::Member),
        other => Err(wrong(other, "role")),
    }
}

/// An event.
pub fn parse_event(frame: &EventFrame) -> Result<SeenEvent, ParseError> {
    let kind = match &frame.kind {
        EventKindFrame::MessagePosted { body } => EventKind::MessagePosted { text: body.as_str().into() },
        EventKindFrame::ChannelCreated { channel_kind, title, history, open } => EventKind::ChannelCreated {
            kind: match channel_kind.as_str() {
                "direct" => ChannelKind::Direct,
                "group" => ChannelKind::Group,
                "personal" => ChannelKind::Personal,
                other => return Err(wrong(other, "kind of channel")),
            },
            title: title.as_str().into(),
            history: match history.as_str() {
                "from_joining" => HistoryVisibility::FromJoining,
                "from_start" => HistoryVisibility::FromStart,
                other => return Err(wrong(other, "history visibility")),
            },
            open: *open,
        },
        EventKindFrame::MemberJoined { user, role } => {
            EventKind::MemberJoined { user: parse_user(user)?, role: parse_role(role)? }
        }
        EventKindFrame::MemberLeft { user, removed } => {
            EventKind::MemberLeft { user: parse_user(user)?, removed: *removed }
        }
        EventKindFrame::RoleChanged { user, role } => {
            EventKind::RoleChanged { user: parse_user(user)?, role: parse_role(role)? }
        }
        EventKindFrame::ChannelJoined { joined, joined_seq } => {
            EventKind::ChannelJoined { channel: parse_channel(joined)?, seq: ChannelSeq(*joined_seq) }
        }
        EventKindFrame::ChannelLeft { left, left_seq } => {
            EventKind::ChannelLeft { channel: parse_channel(left)?, seq: ChannelSeq(*left_seq) }
        }
    };
    Ok(SeenEvent {
        channel: parse_channel(&frame.channel)?,
        seq: ChannelSeq(frame.seq),
        ordinal: Ordinal(frame.ordinal),
        message_id: MessageId(frame.id.parse().map_err(|_| wrong(&frame.id, "message id"))?),
        time: LogTime(frame.time),
        sender: parse_user(&frame.sender)?,
        client_msg_id: frame.client_msg_id.parse().map_err(|_| wrong(&frame.client_msg_id, "client_msg_id"))?,
        kind,
    })
}
