//! Protocol v1: JSON text frames of the socket, described for clients in `docs/protocol.md`.
//!
//! The type is in `t`. Ids are strings. Unknown fields are ignored in both directions; unknown types get an error frame.

use crate::error_codes::Code;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The protocol version.
pub const VERSION: u32 = 1;

/// What a client sends.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(tag = "t", rename_all = "snake_case")]
pub enum ClientFrame {
    /// The first frame.
    Hello {
        /// The protocol version.
        v: u32,
        /// The access token, unless a header had it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<String>,
        /// Where the client is in each channel it knows. Channels not named are caught up from nothing: only their heads
        /// are told.
        #[serde(default)]
        cursors: BTreeMap<String, CursorFrame>,
    },
    /// A message.
    Send {
        /// To which channel.
        channel: String,
        /// UUIDv7 in server time; the same for every retry.
        client_msg_id: String,
        /// The text.
        body: String,
        /// Sent before.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        retry: bool,
    },
    /// Asks for events by seq: history, or a hole.
    History {
        /// Of which channel.
        channel: String,
        /// Echoed in the page.
        request: u64,
        /// The first seq wanted. Default 1.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        first: Option<u64>,
        /// The last seq wanted. Default: the newest.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last: Option<u64>,
        /// At most so many (server limit 200).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<u32>,
    },
    /// Is typing.
    Typing {
        /// In which channel.
        channel: String,
    },
    /// Asks for the digest of heads now.
    Digest {},
    /// A heartbeat; any frame counts as one.
    Ping {},
}

/// A position in a channel's timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct CursorFrame {
    /// The generation of the log.
    pub generation: u64,
    /// Every event up to this seq is known.
    pub seq: u64,
}

/// What a server sends.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(tag = "t", rename_all = "snake_case")]
pub enum ServerFrame {
    /// The session is open. Catch-up follows as `event` frames, then `caught_up`.
    Welcome {
        /// The session.
        session: String,
        /// Who one is.
        user: String,
        /// Server time, ms since the Unix epoch.
        server_time: u64,
        /// The generation of the log.
        generation: u64,
        /// Send something at least this often.
        heartbeat_ms: u64,
        /// Limits one meets.
        limits: LimitsFrame,
    },
    /// One event of a channel. One's own `client_msg_id` in it is the ack.
    Event(EventFrame),
    /// An id was accepted before: the ack of a retry.
    Ack {
        /// The channel.
        channel: String,
        /// The id.
        client_msg_id: String,
        /// The original's seq.
        seq: u64,
    },
    /// Catch-up is done: everything up to these seqs was sent or is known.
    CaughtUp {
        /// Channel → seq.
        heads: BTreeMap<String, u64>,
    },
    /// The heads of the person's channels, to compare with one's cursors.
    Digest {
        /// Channel → seq.
        heads: BTreeMap<String, u64>,
    },
    /// The answer to `history`.
    Page {
        /// Of which channel.
        channel: String,
        /// As asked.
        request: u64,
        /// In the order of seq.
        events: Vec<EventFrame>,
        /// The seqs this page is complete for, both ends included: what is not in `events` there is hidden, not missing.
        first: u64,
        /// See `first`.
        last: u64,
    },
    /// Somebody is typing.
    Typing {
        /// In which channel.
        channel: String,
        /// Who.
        user: String,
    },
    /// Deliveries may have been missed: send `hello` cursors again on a new connection, or ask for the holes.
    Resync {
        /// Why, for people.
        reason: String,
    },
    /// The server is going away: reconnect after the delay.
    Goaway {
        /// How long to wait, ms.
        reconnect_after_ms: u64,
    },
    /// A heartbeat's answer.
    Pong {
        /// Server time, ms since the Unix epoch.
        server_time: u64,
    },
    /// Something was refused. The connection lives unless a close frame with the same code follows.
    Error {
        /// What, see [`Code`].
        code: Code,
        /// For people.
        message: String,
        /// Which send it is about.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        client_msg_id: Option<String>,
        /// Which request it is about.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        request: Option<u64>,
        /// When to try again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u64>,
        /// Server time, where the code is `clock`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        server_time: Option<u64>,
    },
}

/// Limits a client meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct LimitsFrame {
    /// Bytes of a message's text.
    pub body_bytes_max: u32,
    /// Bytes of a frame.
    pub frame_bytes_max: u32,
    /// Sends a second, sustained.
    pub sends_per_second_max: u32,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct EventFrame {
    /// The channel.
    pub channel: String,
    /// Its place.
    pub seq: u64,
    /// Its ordinal.
    pub ordinal: u64,
    /// Its snowflake.
    pub id: String,
    /// T, ms since the Unix epoch.
    pub time: u64,
    /// Who.
    pub sender: String,
    /// The sender's id for it.
    pub client_msg_id: String,
    /// What.
    #[serde(flatten)]
    pub kind: EventKindFrame,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EventKindFrame {
    /// A message.
    MessagePosted {
        /// The text.
        body: String,
    },
    /// The channel came to be.
    ChannelCreated {
        /// `direct`, `group` or `personal`.
        channel_kind: String,
        /// Its title.
        title: String,
        /// `from_joining` or `from_start`.
        history: String,
        /// Whether people may join by themselves.
        open: bool,
    },
    /// A person joined.
    MemberJoined {
        /// Who.
        user: String,
        /// `owner`, `admin` or `member`.
        role: String,
    },
    /// A person left.
    MemberLeft {
        /// Who.
        user: String,
        /// Removed by the sender.
        removed: bool,
    },
    /// A role changed.
    RoleChanged {
        /// Whose.
        user: String,
        /// The new one.
        role: String,
    },
    /// Personal channel: now a member of `joined`.
    ChannelJoined {
        /// Which.
        joined: String,
        /// Since.
        joined_seq: u64,
    },
    /// Personal channel: no longer a member of `left`.
    ChannelLeft {
        /// Which.
        left: String,
        /// Since.
        left_seq: u64,
    },
}
