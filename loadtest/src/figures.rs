//! What a run counts and measures.

use hdrhistogram::Histogram;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// A histogram of µs up to ten minutes, three digits.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 600_000_000, 3).expect("the bounds are in order")
}

/// Percentiles in ms.
pub(crate) fn percentiles(of: &Histogram<u64>) -> Value {
    let ms = |us: u64| us as f64 / 1_000.0;
    json!({
        "count": of.len(), "mean": of.mean() / 1_000.0, "p50": ms(of.value_at_quantile(0.5)), "p90": ms(of.value_at_quantile(0.9)),
        "p99": ms(of.value_at_quantile(0.99)), "p999": ms(of.value_at_quantile(0.999)), "max": ms(of.max()),
    })
}

/// One second of a run.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Second {
    pub(crate) sent: u64,
    pub(crate) acked: u64,
    pub(crate) delivered: u64,
    pub(crate) ack_us_max: u64,
    pub(crate) deliver_us_max: u64,
}

/// The counts of a thread, or of all.
pub(crate) struct Figures {
    pub(crate) sent: u64,
    pub(crate) acked: u64,
    /// Messages that reached somebody else than their sender.
    pub(crate) delivered: u64,
    /// The same within the measured window, by the time of arrival.
    pub(crate) delivered_measured: u64,
    pub(crate) acked_measured: u64,
    pub(crate) duplicated: u64,
    pub(crate) out_of_order: u64,
    pub(crate) refused: u64,
    pub(crate) resent: u64,
    pub(crate) closed: u64,
    pub(crate) unreadable: u64,
    /// Latencies of messages meant to be sent within the measured window.
    pub(crate) ack: Histogram<u64>,
    pub(crate) deliver: Histogram<u64>,
    /// How much later than intended this client sent.
    pub(crate) lag: Histogram<u64>,
    pub(crate) seconds: Vec<Second>,
    /// The first few things that went wrong, for people.
    pub(crate) remarks: BTreeSet<String>,
}

impl Default for Figures {
    fn default() -> Self {
        Self {
            sent: 0,
            acked: 0,
            delivered: 0,
            delivered_measured: 0,
            acked_measured: 0,
            duplicated: 0,
            out_of_order: 0,
            refused: 0,
            resent: 0,
            closed: 0,
            unreadable: 0,
            ack: histogram(),
            deliver: histogram(),
            lag: histogram(),
            seconds: Vec::new(),
            remarks: BTreeSet::new(),
        }
    }
}

impl Figures {
    /// The second in which something happened.
    pub(crate) fn second(&mut self, since_start_us: u64) -> &mut Second {
        let index = (since_start_us / 1_000_000) as usize;
        if self.seconds.len() <= index {
            self.seconds.resize(index + 1, Second::default());
        }
        &mut self.seconds[index]
    }

    /// Keeps a remark, if there are not many yet.
    pub(crate) fn remark(&mut self, remark: impl Into<String>) {
        if self.remarks.len() < 8 {
            self.remarks.insert(remark.into());
        }
    }

    /// Adds another thread's.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.sent += other.sent;
        self.acked += other.acked;
        self.delivered += other.delivered;
        self.delivered_measured += other.delivered_measured;
        self.acked_measured += other.acked_measured;
        self.duplicated += other.duplicated;
        self.out_of_order += other.out_of_order;
        self.refused += other.refused;
        self.resent += other.resent;
        self.closed += other.closed;
        self.unreadable += other.unreadable;
        for (mine, theirs) in
            [(&mut self.ack, &other.ack), (&mut self.deliver, &other.deliver), (&mut self.lag, &other.lag)]
        {
            mine.add(theirs).expect("all histograms have the same bounds");
        }
        for (index, theirs) in other.seconds.iter().enumerate() {
            let mine = self.second(index as u64 * 1_000_000);
            mine.sent += theirs.sent;
            mine.acked += theirs.acked;
            mine.delivered += theirs.delivered;
            mine.ack_us_max = mine.ack_us_max.max(theirs.ack_us_max);
            mine.deliver_us_max = mine.deliver_us_max.max(theirs.deliver_us_max);
        }
        for remark in &other.remarks {
            self.remark(remark.clone());
        }
    }
}

/// What one socket saw of one channel: seq is dense, so all that is missing is visible.
#[derive(Debug, Default)]
pub(crate) struct Track {
    /// Everything up to it was seen or is in `holes`.
    pub(crate) last: u64,
    pub(crate) holes: BTreeSet<u64>,
    /// On a later connection, repeats up to here are allowed: catch-up overlaps.
    pub(crate) resumed_at: u64,
}

/// What a seq means to a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// As it should be: the next one.
    Next,
    /// A hole opened before it.
    Gap,
    /// It fills a hole: later than it should be.
    Late,
    /// Known, from before the connection.
    Repeat,
    /// Known: came twice.
    Duplicate,
}

impl Track {
    /// Starts after a seq.
    pub(crate) fn after(seq: u64) -> Self {
        Self { last: seq, ..Self::default() }
    }

    /// Takes note of a seq.
    pub(crate) fn see(&mut self, seq: u64) -> Seen {
        if seq == self.last + 1 {
            self.last = seq;
            Seen::Next
        } else if seq > self.last {
            self.holes.extend(self.last + 1..seq);
            self.last = seq;
            Seen::Gap
        } else if self.holes.remove(&seq) {
            if seq <= self.resumed_at { Seen::Next } else { Seen::Late }
        } else if seq <= self.resumed_at {
            Seen::Repeat
        } else {
            Seen::Duplicate
        }
    }

    /// The seq up to which nothing is missing.
    pub(crate) fn cursor(&self) -> u64 {
        self.holes.first().map_or(self.last, |hole| hole - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::Seen::{Duplicate, Gap, Late, Next};
    use super::*;

    #[test]
    fn a_track_names_gaps_late_ones_and_duplicates() {
        let mut track = Track::after(4);
        let seen: Vec<_> = [5, 6, 9, 7, 7, 8, 10, 10, 3].iter().map(|&seq| track.see(seq)).collect();
        assert_eq!(seen, [Next, Next, Gap, Late, Duplicate, Late, Next, Duplicate, Duplicate]);
        assert_eq!((track.cursor(), track.last), (10, 10));
    }

    #[test]
    fn repeats_after_a_reconnect_are_no_duplicates_and_fill_holes() {
        let mut track = Track::after(0);
        for seq in [1, 2, 5] {
            track.see(seq);
        }
        assert_eq!(track.cursor(), 2);
        track.resumed_at = track.last;
        let seen: Vec<_> = [3, 4, 5, 6, 6].iter().map(|&seq| track.see(seq)).collect();
        assert_eq!(seen, [Seen::Next, Seen::Next, Seen::Repeat, Seen::Next, Seen::Duplicate]);
    }
}
