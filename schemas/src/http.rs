//! HTTP API v1 under `/api/v1`. Errors are problem documents (RFC 9457) with the code of [`crate::error_codes`].

use crate::frames::EventFrame;
use serde::{Deserialize, Serialize};

/// `POST /accounts`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct SignUp {
    /// 1 to 64 of `a-z 0-9 _ . -`, starting with a letter or digit.
    pub username: String,
    /// What people see; default the username.
    #[serde(default)]
    pub display_name: Option<String>,
    /// At least 8 characters.
    pub password: String,
}

/// `POST /sessions`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct SignInRequest {
    /// Username.
    pub username: String,
    /// Password.
    pub password: String,
}

/// The answer of sign-up and sign-in.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct SignedIn {
    /// Who.
    pub user: UserView,
    /// The access token: `Authorization: Bearer …`, or `token` of the first frame.
    pub access_token: String,
    /// Seconds until it expires.
    pub expires_in: u64,
}

/// A person, as others see them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct UserView {
    /// Id.
    pub id: String,
    /// Username.
    pub username: String,
    /// Display name.
    pub display_name: String,
}

/// `PATCH /me`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ProfileChange {
    /// What people see.
    pub display_name: String,
}

/// `POST /channels`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct NewChannel {
    /// UUIDv7; the same for every retry, and the new group's id follows from it. Default: made by the server.
    #[serde(default)]
    pub client_msg_id: Option<String>,
    /// `group` or `direct`.
    pub kind: String,
    /// The title of a group.
    #[serde(default)]
    pub title: String,
    /// User ids of the others.
    #[serde(default)]
    pub members: Vec<String>,
    /// `from_joining` (default) or `from_start`.
    #[serde(default)]
    pub history: Option<String>,
    /// Whether people may join by themselves.
    #[serde(default)]
    pub open: bool,
}

/// `POST /channels/{id}/members`: join (no `users`) or add.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct AddMembers {
    /// Whom; empty: oneself.
    #[serde(default)]
    pub users: Vec<String>,
    /// See [`NewChannel::client_msg_id`].
    #[serde(default)]
    pub client_msg_id: Option<String>,
}

/// The outcome of a command.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Decided {
    /// The channel.
    pub channel: String,
    /// The first seq of what happened.
    pub seq: u64,
    /// It had happened before.
    pub duplicate: bool,
}

/// One of `GET /channels`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct ChannelView {
    /// Id.
    pub id: String,
    /// `direct` or `group`.
    pub kind: String,
    /// Title.
    pub title: String,
    /// The seq of its last event.
    pub seq: u64,
    /// Number of messages.
    pub ordinal: u64,
    /// The seq one joined with.
    pub joined_seq: u64,
}

/// One of `GET /channels/{id}/members`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct MemberView {
    /// Who.
    pub user: String,
    /// As what.
    pub role: String,
    /// Since.
    pub joined_seq: u64,
}

/// `GET /channels/{id}/messages?first=&last=&limit=`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct HistoryPage {
    /// In the order of seq.
    pub events: Vec<EventFrame>,
    /// The seqs this page is complete for.
    pub first: u64,
    /// See `first`.
    pub last: u64,
}

/// A problem document (RFC 9457).
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Problem {
    /// `about:blank#<slug>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The slug of the code.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// For people.
    pub detail: String,
    /// The stable code.
    pub code: u16,
    /// When to try again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}
