//! Events as clients see them.

use crate::frames::{EventFrame, EventKindFrame};
use domain::command::{ChannelKind, HistoryVisibility, Role};
use domain::{ChannelId, ClientMsgId, Event, EventKind, LogTime, UserId};

impl EventFrame {
    /// An event of a channel, with what its record says of all its events.
    pub fn new(channel: ChannelId, sender: UserId, client_msg_id: ClientMsgId, time: LogTime, event: &Event) -> Self {
        Self {
            channel: channel.to_string(),
            seq: event.seq.0,
            ordinal: event.ordinal.0,
            id: event.message_id.to_string(),
            time: time.0,
            sender: sender.to_string(),
            client_msg_id: client_msg_id.to_string(),
            kind: EventKindFrame::from(&event.kind),
        }
    }
}

impl From<&EventKind> for EventKindFrame {
    fn from(kind: &EventKind) -> Self {
        match kind {
            EventKind::MessagePosted { text } => Self::MessagePosted { body: text.to_string() },
            EventKind::ChannelCreated { kind, title, history, open } => Self::ChannelCreated {
                channel_kind: channel_kind_name(*kind).into(),
                title: title.to_string(),
                history: history_name(*history).into(),
                open: *open,
            },
            EventKind::MemberJoined { user, role } => {
                Self::MemberJoined { user: user.to_string(), role: role_name(*role).into() }
            }
            EventKind::MemberLeft { user, removed } => Self::MemberLeft { user: user.to_string(), removed: *removed },
            EventKind::RoleChanged { user, role } => {
                Self::RoleChanged { user: user.to_string(), role: role_name(*role).into() }
            }
            EventKind::ChannelJoined { channel, seq } => {
                Self::ChannelJoined { joined: channel.to_string(), joined_seq: seq.0 }
            }
            EventKind::ChannelLeft { channel, seq } => Self::ChannelLeft { left: channel.to_string(), left_seq: seq.0 },
        }
    }
}

/// The name of a kind of channel.
pub const fn channel_kind_name(kind: ChannelKind) -> &'static str {
    match kind {
        ChannelKind::Direct => "direct",
        ChannelKind::Group => "group",
        ChannelKind::Personal => "personal",
    }
}

/// The name of a visibility of history.
pub const fn history_name(history: HistoryVisibility) -> &'static str {
    match history {
        HistoryVisibility::FromJoining => "from_joining",
        HistoryVisibility::FromStart => "from_start",
    }
}

/// The name of a role.
pub const fn role_name(role: Role) -> &'static str {
    match role {
        Role::Member => "member",
        Role::Admin => "admin",
        Role::Owner => "owner",
    }
}

/// Appends the JSON of [`crate::frames::ServerFrame::Event`] to `out`: the same bytes as serde writes, without the strings between.
pub fn write_event_frame(
    out: &mut Vec<u8>,
    channel: ChannelId,
    sender: UserId,
    client_msg_id: ClientMsgId,
    time: LogTime,
    event: &Event,
) {
    out.extend_from_slice(br#"{"t":"event","channel":""#);
    uuid(out, &channel.0);
    out.extend_from_slice(br#"","seq":"#);
    number(out, event.seq.0);
    out.extend_from_slice(br#","ordinal":"#);
    number(out, event.ordinal.0);
    out.extend_from_slice(br#","id":""#);
    number(out, event.message_id.0);
    out.extend_from_slice(br#"","time":"#);
    number(out, time.0);
    out.extend_from_slice(br#","sender":""#);
    uuid(out, &sender.0);
    out.extend_from_slice(br#"","client_msg_id":""#);
    uuid(out, &client_msg_id.0);
    out.extend_from_slice(br#"","#);
    match &event.kind {
        EventKind::MessagePosted { text } => {
            out.extend_from_slice(br#""kind":"message_posted","body":"#);
            json(out, text.as_ref());
            out.push(b'}');
        }
        // Rare: what serde writes for the kind alone, without its opening brace.
        rare => {
            let start = out.len();
            json(out, &EventKindFrame::from(rare));
            out.remove(start);
        }
    }
}

fn json<T: serde::Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    serde_json::to_writer(out, value).expect("frames have string keys and a vector takes every byte");
}

fn uuid(out: &mut Vec<u8>, id: &uuid::Uuid) {
    let mut text = uuid::Uuid::encode_buffer();
    out.extend_from_slice(id.hyphenated().encode_lower(&mut text).as_bytes());
}

fn number(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}
