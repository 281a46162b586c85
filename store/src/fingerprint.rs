//! Comparing projections: two stores hold the same folds of the log if their fingerprints are equal (FOLD).

use std::fmt::{self, Debug, Write};

/// How much the projections of a store hold, and a hash over every row of it in the order of its key. Does not hold what
/// depends on how the rows came in: internal numbers, progress, ids that are past their time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint {
    /// Channels that have an event.
    pub channels: u64,
    /// Events.
    pub events: u64,
    /// Stays of members.
    pub stays: u64,
    /// Commands known by their client_msg_id.
    pub ids: u64,
    /// Over all rows; only comparable within one build of the program.
    pub hash: u64,
}

impl Fingerprint {
    /// Takes a row into the hash. Slow (it formats the row), for tests and tools.
    pub fn add(&mut self, row: &dyn Debug) {
        // Writing to the hasher can't fail.
        let _ = writeln!(Fnv(&mut self.hash), "{row:?}");
    }
}

/// FNV-1a, so that nothing depends on a hasher's seed.
struct Fnv<'a>(&'a mut u64);

impl Write for Fnv<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            *self.0 = (*self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3).wrapping_add(0xcbf2_9ce4_8422_2325);
        }
        Ok(())
    }
}
