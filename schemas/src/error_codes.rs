//! The stable codes a client sees: the same in socket frames, close frames and HTTP problem documents.
//!
//! The range says what to do: 4000–4099 give up and tell the person, 4100–4199 retry the same request later (after
//! `retry_after_ms`, if given), 4200–4299 resync: reconnect and catch up from the cursors.

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
