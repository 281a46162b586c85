//! client_msg_ids that carry their own measurement: whoever receives an event knows when it was meant to be sent, with no table
//! shared between threads.
//!
//! ```text
//!   48 bits server time in ms | 7 | 12 bits of the run | 10 | 28 bits number | 34 bits µs since the run's base
//! ```

use uuid::Uuid;

/// Messages that a run can number.
pub(crate) const NUMBERS_MAX: u64 = 1 << 28;
const MICROSECONDS_BITS: u32 = 34;

/// What an id says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Which run of this client: other runs' messages are not ours to count.
    pub(crate) run: u16,
    /// Which message of the run.
    pub(crate) number: u64,
    /// When it was meant to be sent, in µs since the run's base.
    pub(crate) intended_us: u64,
}

impl Stamp {
    /// The id of a message at this server time.
    pub(crate) fn id(self, server_ms: u64) -> Uuid {
        debug_assert!(self.number < NUMBERS_MAX, "the number fits its bits");
        let low = (self.number % NUMBERS_MAX) << MICROSECONDS_BITS | self.intended_us & ((1 << MICROSECONDS_BITS) - 1);
        let high = server_ms << 16 | 0x7000 | u64::from(self.run & 0xfff);
        Uuid::from_u64_pair(high, 1 << 63 | low & !(3 << 62))
    }

    /// What the id says, whoever made it.
    pub(crate) fn of(id: &Uuid) -> Self {
        let (high, low) = id.as_u64_pair();
        Self {
            run: (high & 0xfff) as u16,
            number: low >> MICROSECONDS_BITS & (NUMBERS_MAX - 1),
            intended_us: low & ((1 << MICROSECONDS_BITS) - 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_uuid_of_version_7_and_says_what_it_was_made_of() {
        for number in [0, 1, NUMBERS_MAX - 1] {
            let stamp = Stamp { run: 0xabc, number, intended_us: 12_345_678_901 };
            let id = stamp.id(1_790_000_000_123);
            assert_eq!(Stamp::of(&id), stamp);
            assert_eq!(domain::ClientMsgId(id).time(), Some(domain::LogTime(1_790_000_000_123)));
        }
    }
}
