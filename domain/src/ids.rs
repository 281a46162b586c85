//! Identities and positions, each its own type, so that one can never stand for another.

use std::fmt;
use uuid::Uuid;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub Uuid);

        impl $name {
            /// Reads an id from its 16 bytes.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            /// The 16 bytes of the id.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0.hyphenated())
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::try_parse(text).map(Self)
            }
        }
    };
}

macro_rules! position {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl $name {
            /// The one that follows.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

uuid_id! {
    /// A person. Also the id of their personal channel, see [`ChannelId::personal`].
    UserId
}
uuid_id! {
    /// A channel: the unit of order, of membership and of partitioning.
    ChannelId
}
uuid_id! {
    /// One open connection of a person (one socket), not a sign-in.
    SessionId
}
uuid_id! {
    /// The client's name for one command: a UUIDv7 in server time. `(sender, channel, id)` is one message (ONCE).
    ClientMsgId
}

position! {
    /// The dense position of an event in its channel's timeline: 1, 2, 3 … (ORD, GAP). 0 is "before the first".
    ChannelSeq
}
position! {
    /// The running number of people's messages in a channel; unread is a difference of two (design §4).
    Ordinal
}
position! {
    /// Which claim of a partition a record belongs to. 0 is "no claim yet".
    Epoch
}
position! {
    /// `n`: the dense number of a record within its epoch. The claim itself is 0.
    OwnerSeq
}
position! {
    /// T: the log's own time in milliseconds since the Unix epoch. Never steps back in a partition.
    LogTime
}

impl LogTime {
    /// `ms` later.
    #[must_use]
    pub const fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// `ms` earlier, at least zero.
    #[must_use]
    pub const fn minus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_sub(ms))
    }
}

/// A partition of `chat.commands` and `chat.messages`: 0 to 1,023, the worker bits of a [`MessageId`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId(pub u16);

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl ChannelId {
    /// The personal channel of a person: the timeline of what concerns only them, on all their devices.
    pub const fn personal(user: UserId) -> Self {
        Self(user.0)
    }

    /// The one direct channel of two people: UUIDv5 of the sorted pair, so both sides compute the same id.
    pub fn direct(a: UserId, b: UserId) -> Self {
        let (low, high) = if a <= b { (a, b) } else { (b, a) };
        let mut name = [0; 32];
        name[..16].copy_from_slice(low.as_bytes());
        name[16..].copy_from_slice(high.as_bytes());
        Self(Uuid::new_v5(&DIRECT_NAMESPACE, &name))
    }
}

impl ChannelId {
    /// The group that a person's create command makes: a retry of the command names the same group.
    pub fn group(creator: UserId, create: ClientMsgId) -> Self {
        let mut name = [0; 32];
        name[..16].copy_from_slice(creator.as_bytes());
        name[16..].copy_from_slice(create.as_bytes());
        Self(Uuid::new_v5(&GROUP_NAMESPACE, &name))
    }
}

/// The UUIDv5 namespace of groups. Part of the log's format: never changes.
const GROUP_NAMESPACE: Uuid = Uuid::from_bytes(*b"hubbub/group/v01");

/// The UUIDv5 namespace of direct channels. Part of the log's format: never changes.
const DIRECT_NAMESPACE: Uuid = Uuid::from_bytes(*b"hubbub/direct/v1");

impl ClientMsgId {
    /// The time inside the UUIDv7 in milliseconds since the Unix epoch, or `None` for another UUID version.
    pub fn time(&self) -> Option<LogTime> {
        if self.0.get_version_num() != 7 {
            return None;
        }
        let b = self.as_bytes();
        Some(LogTime(u64::from_be_bytes([0, 0, b[0], b[1], b[2], b[3], b[4], b[5]])))
    }
}

/// A snowflake: 41 bits of [`LogTime`] in ms since [`MessageId::EPOCH_MS`] | 10 bits of partition | 12 bits of sequence.
///
/// Rises with seq within a channel, always positive as an `i64`, written as a string in JSON (above 2^53).
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub u64);

impl MessageId {
    /// 2020-01-01T00:00:00Z: the zero of the 41 time bits, which last until 2089.
    pub const EPOCH_MS: u64 = 1_577_836_800_000;

    /// The first id of a millisecond in a partition. Times before the epoch count as the epoch.
    pub const fn first_at(time: LogTime, partition: PartitionId) -> Self {
        let ms = time.0.saturating_sub(Self::EPOCH_MS) & ((1 << 41) - 1);
        Self((ms << 22) | ((partition.0 as u64 & 0x3ff) << 12))
    }

    /// The millisecond in the id.
    pub const fn time(self) -> LogTime {
        LogTime((self.0 >> 22) + Self::EPOCH_MS)
    }

    /// The partition in the id.
    pub const fn partition(self) -> PartitionId {
        PartitionId(((self.0 >> 12) & 0x3ff) as u16)
    }

    /// The next id in a partition whose last was `self`, at `time`: the first of that millisecond, or the last id's
    /// successor. A full millisecond moves on to the next one, so the id may run ahead of `time`.
    #[must_use]
    pub const fn next_at(self, time: LogTime, partition: PartitionId) -> Self {
        let fresh = Self::first_at(time, partition);
        if fresh.0 > self.0 {
            return fresh;
        }
        if self.0 & 0xfff < 0xfff { Self(self.0 + 1) } else { Self::first_at(LogTime(self.time().0 + 1), partition) }
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MessageId({})", self.0)
    }
}
