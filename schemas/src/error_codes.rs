//! The stable codes a client sees: the same in socket frames, close frames and HTTP problem documents.
//!
//! The range says what to do: 4000–4099 give up and tell the person, 4100–4199 retry the same request later (after
//! `retry_after_ms`, if given), 4200–4299 resync: reconnect and catch up from the cursors.

use domain::RejectCause;
use serde::{Deserialize, Serialize};

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $slug:literal, $http:literal;)*) => {
        /// A stable code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(into = "u16", try_from = "u16")]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            /// Every code, ascending.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The number: the WebSocket close code and the `code` of frames and problem documents.
            pub const fn number(self) -> u16 {
                match self { $(Self::$name => $number,)* }
            }

            /// The name, as documents and logs write it.
            pub const fn slug(self) -> &'static str {
                match self { $(Self::$name => $slug,)* }
            }

            /// The HTTP status of the same answer.
            pub const fn http_status(self) -> u16 {
                match self { $(Self::$name => $http,)* }
            }
        }

        impl TryFrom<u16> for Code {
            type Error = String;

            fn try_from(number: u16) -> Result<Self, String> {
                match number {
                    $($number => Ok(Self::$name),)*
                    other => Err(format!("{other} is no code of this protocol version")),
                }
            }
        }
    };
}

codes! {
    /// The frame or body is not valid JSON of a known shape.
    Malformed = 4000, "malformed", 400;
    /// The frame's type is unknown; the connection lives.
    UnknownType = 4001, "unknown_type", 400;
    /// The frame or body is above its limit.
    TooLarge = 4002, "too_large", 413;
    /// The protocol version is not spoken here.
    BadVersion = 4003, "bad_version", 400;
    /// No token, or one that is wrong, foreign or no longer valid.
    Unauthenticated = 4010, "unauthenticated", 401;
    /// The page's origin is not on the list.
    OriginRefused = 4011, "origin_refused", 403;
    /// No such channel, or not a member: told alike.
    NotMember = 4020, "not_member", 404;
    /// A member, but the role does not allow it.
    Forbidden = 4021, "forbidden", 403;
    /// It exists already.
    AlreadyExists = 4022, "already_exists", 409;
    /// Already a member, or already has that role.
    AlreadyMember = 4023, "already_member", 409;
    /// The person named is no member.
    NoSuchMember = 4024, "no_such_member", 404;
    /// The channel is full.
    MembersLimit = 4025, "members_limit", 409;
    /// The last owner can't go.
    LastOwner = 4026, "last_owner", 409;
    /// The body is not acceptable.
    BadBody = 4027, "bad_body", 422;
    /// The same client_msg_id with another body.
    Conflict = 4028, "conflict", 409;
    /// No such thing.
    NotFound = 4029, "not_found", 404;
    /// The command could not be read by the sequencer.
    Poison = 4030, "poison", 400;
    /// The HTTP method is not served at this path.
    MethodNotAllowed = 4031, "method_not_allowed", 405;
    /// The client_msg_id's time is too far ahead of server time: send the same id again later.
    Clock = 4100, "clock", 409;
    /// Sent faster than the limit.
    RateLimited = 4101, "rate_limited", 429;
    /// Busy or full: nothing was lost; send the same again later.
    RetryLater = 4102, "retry_later", 503;
    /// No outcome in time: unknown; send the same id again.
    TimedOut = 4103, "timed_out", 504;
    /// The server has no room to store messages.
    StorageFull = 4104, "storage_full", 507;
    /// Too many connections of this person, or here.
    TooManySessions = 4105, "too_many_sessions", 429;
    /// The server is going away; reconnect after the delay.
    GoAway = 4200, "go_away", 503;
    /// The client read too slowly; its queue was dropped.
    SlowReader = 4201, "slow_reader", 503;
    /// Nothing was heard for too long.
    Silent = 4202, "silent", 408;
    /// Deliveries may have been missed: catch up from the cursors.
    Resync = 4203, "resync", 503;
    /// Something is broken here; logged.
    Internal = 4204, "internal", 500;
}

impl From<Code> for u16 {
    fn from(code: Code) -> Self {
        code.number()
    }
}

impl From<RejectCause> for Code {
    fn from(cause: RejectCause) -> Self {
        match cause {
            RejectCause::Clock => Self::Clock,
            RejectCause::NotMember => Self::NotMember,
            RejectCause::Forbidden => Self::Forbidden,
            RejectCause::AlreadyExists => Self::AlreadyExists,
            RejectCause::AlreadyMember => Self::AlreadyMember,
            RejectCause::NoSuchMember => Self::NoSuchMember,
            RejectCause::MembersLimit => Self::MembersLimit,
            RejectCause::LastOwner => Self::LastOwner,
            RejectCause::BadBody => Self::BadBody,
        }
    }
}

impl Code {
    /// What a refused command is told; `None` where the answer is good news ([`domain::Answer::Duplicate`]).
    pub fn of_answer(answer: domain::Answer) -> Option<Self> {
        match answer {
            domain::Answer::Duplicate { .. } => None,
            domain::Answer::Conflict { .. } => Some(Self::Conflict),
            domain::Answer::Rejected(cause) => Some(cause.into()),
            domain::Answer::RetryLater => Some(Self::RetryLater),
            domain::Answer::Poison => Some(Self::Poison),
        }
    }

    /// What it means, for people.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Malformed => "not understood",
            Self::UnknownType => "this type of frame is not known here",
            Self::TooLarge => "too large",
            Self::BadVersion => "this protocol version is not spoken here",
            Self::Unauthenticated => "sign in first",
            Self::OriginRefused => "this page may not connect here",
            Self::NotMember => "no such channel, or you are not a member",
            Self::Forbidden => "your role does not allow this",
            Self::AlreadyExists => "it exists already",
            Self::AlreadyMember => "already a member",
            Self::NoSuchMember => "that person is not a member",
            Self::MembersLimit => "the channel is full",
            Self::LastOwner => "the last owner can't go",
            Self::BadBody => "the content is not acceptable",
            Self::Conflict => "this client_msg_id was used for something else",
            Self::NotFound => "not found",
            Self::Poison => "the request could not be processed",
            Self::MethodNotAllowed => "this method is not served here",
            Self::Clock => "the time in client_msg_id is ahead of server time; send the same id again later",
            Self::RateLimited => "too fast; slow down",
            Self::RetryLater => "busy; send the same again later",
            Self::TimedOut => "no outcome in time; send the same again",
            Self::StorageFull => "the server has no room to store messages",
            Self::TooManySessions => "too many connections",
            Self::GoAway => "the server is going away; reconnect",
            Self::SlowReader => "read too slowly; reconnect and catch up",
            Self::Silent => "nothing heard for too long; reconnect and catch up",
            Self::Resync => "events may have been missed; catch up",
            Self::Internal => "something is broken here",
        }
    }
}
