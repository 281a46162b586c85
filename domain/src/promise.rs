//! The promises of design §1, cited by tests, checkers, metrics and documents.

use std::fmt;

/// A promise of the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Promise {
    /// Acked is durable, never lost.
    Dur,
    /// One `(sender, channel, client_msg_id)` is one message.
    Once,
    /// Each channel has one order.
    Ord,
    /// A client can prove that it missed nothing.
    Gap,
    /// A connected client gets every event without a later one having to reveal the hole.
    Tail,
    /// Only members read and write.
    Vis,
    /// Projections are folds of the log.
    Fold,
    /// Every queue is bounded.
    Shed,
    /// A record that can't be processed goes to the dead letters.
    Poison,
    /// After any overload or fault, the system returns to its normal state by itself.
    Calm,
}

impl Promise {
    /// Every promise, in the order of design §1.
    pub const ALL: [Self; 10] = [
        Self::Dur,
        Self::Once,
        Self::Ord,
        Self::Gap,
        Self::Tail,
        Self::Vis,
        Self::Fold,
        Self::Shed,
        Self::Poison,
        Self::Calm,
    ];

    /// The promise's ID, as documents and metrics name it.
    pub const fn id(self) -> &'static str {
        match self {
            Self::Dur => "DUR",
            Self::Once => "ONCE",
            Self::Ord => "ORD",
            Self::Gap => "GAP",
            Self::Tail => "TAIL",
            Self::Vis => "VIS",
            Self::Fold => "FOLD",
            Self::Shed => "SHED",
            Self::Poison => "POISON",
            Self::Calm => "CALM",
        }
    }
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}
