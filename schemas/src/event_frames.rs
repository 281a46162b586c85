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
            EventKind::MemberJoined { user, role } => Self::MemberJoined { user: user.to_string(), role: role_name(*role).into() },
            EventKind::MemberLeft { user, removed } => Self::MemberLeft { user: user.to_string(), removed: *removed },
            EventKind::RoleChanged { user, role } => Self::RoleChanged { user: user.to_string(), role: role_name(*role).into() },
            EventKind::ChannelJoined { channel, seq } => Self::ChannelJoined { joined: channel.to_string(), joined_seq: seq.0 },
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
