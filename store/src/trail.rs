//! Which cursors of the writer's progress are kept: the rule that every adapter follows.

use crate::ProgressCursor;
use domain::limits::ONCE_WINDOW_MS;

/// The grid of the trail, in ms of T: one cursor per step is kept. A recovering owner replays at most this much more than
/// the once window.
pub const TRAIL_STEP_MS: u64 = 10_000;

/// The trail of one partition: the newest cursor, the first one of each step of T, back to the newest one that lies a once
/// window before the newest (design §4 "Recovery"). At most about 15 cursors.
///
/// T at the end of the log is never below the newest cursor's, so the oldest one kept always serves a recovery.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trail {
    cursors: Vec<ProgressCursor>,
}

impl Trail {
    /// The trail as it was kept, in any order.
    pub fn new(mut kept: Vec<ProgressCursor>) -> Self {
        kept.sort_by_key(|kept| kept.cursor.offset);
        Self { cursors: kept }
    }

    /// Takes a newer cursor up and lets go of those that are no longer needed. `false`: it is not newer, nothing changed.
    pub fn record(&mut self, newest: ProgressCursor) -> bool {
        if self.cursors.last().is_some_and(|last| last.cursor.offset >= newest.cursor.offset) {
            return false;
        }
        let step = |cursor: &ProgressCursor| cursor.cursor.time.0 / TRAIL_STEP_MS;
        if let [.., before, last] = self.cursors.as_slice()
            && step(before) == step(last)
        {
            self.cursors.pop();
        }
        let window_start = newest.cursor.time.minus_ms(ONCE_WINDOW_MS);
        self.cursors.push(newest);
        let needed = self.cursors.iter().rposition(|kept| kept.cursor.time <= window_start).unwrap_or(0);
        self.cursors.drain(..needed);
        true
    }

    /// What is kept, oldest first.
    pub fn cursors(&self) -> &[ProgressCursor] {
        &self.cursors
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::{LogCursor, LogTime};

    fn at(offset: u64, ms: u64) -> ProgressCursor {
        ProgressCursor { cursor: LogCursor { offset, time: LogTime(ms), ..LogCursor::default() } }
    }

    fn kept(trail: &Trail) -> Vec<(u64, u64)> {
        trail.cursors().iter().map(|kept| (kept.cursor.offset, kept.cursor.time.0)).collect()
    }

    #[test]
    fn keeps_the_newest_and_the_first_of_each_step() {
        let mut trail = Trail::default();
        for (offset, ms) in [(1, 0), (2, 4_000), (3, 9_999), (4, 10_000), (5, 12_000), (6, 13_000)] {
            assert!(trail.record(at(offset, ms)));
        }
        assert_eq!(kept(&trail), [(1, 0), (4, 10_000), (6, 13_000)]);
    }

    #[test]
    fn a_cursor_that_is_not_newer_changes_nothing() {
        let mut trail = Trail::default();
        assert!(trail.record(at(5, 0)));
        assert!(!trail.record(at(5, 99)));
        assert!(!trail.record(at(4, 99)));
        assert_eq!(kept(&trail), [(5, 0)]);
    }

    #[test]
    fn always_keeps_one_cursor_a_window_before_the_newest_and_few_in_all() {
        let mut trail = Trail::default();
        for i in 0..1_000 {
            trail.record(at(i + 1, i * 1_000));
            let newest = i * 1_000;
            let cursors = kept(&trail);
            assert!(cursors.len() <= 15, "{cursors:?}");
            if newest >= ONCE_WINDOW_MS {
                assert!(cursors[0].1 <= newest - ONCE_WINDOW_MS, "{cursors:?}");
                assert!(cursors[0].1 + ONCE_WINDOW_MS + TRAIL_STEP_MS >= newest, "{cursors:?}");
            }
        }
    }

    #[test]
    fn after_a_quiet_time_the_last_cursor_before_it_still_serves_a_recovery() {
        let mut trail = Trail::default();
        trail.record(at(1, 0));
        trail.record(at(2, 10_000_000));
        trail.record(at(3, 10_000_001));
        assert_eq!(kept(&trail), [(1, 0), (2, 10_000_000), (3, 10_000_001)]);
    }
}
