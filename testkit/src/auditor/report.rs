//! What the auditor says: violations that a person can follow.

use domain::promise::Promise;
use domain::{ChannelId, ChannelSeq};
use std::collections::BTreeMap;
use std::fmt;

/// Violations of one check that are printed in full. The rest is counted: a broken run breaks thousands of operations alike.
pub const VIOLATIONS_PER_CHECK_MAX: usize = 10;

/// What is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Check {
    /// Acked, but absent from the final history or from an online member.
    Lost,
    /// A client saw an event that the final history does not have.
    AbortedRead,
    /// Different content at one (channel, seq).
    Divergence,
    /// One id at two places, two acks with different seqs, one event applied twice.
    Duplicate,
    /// Not dense, ids or ordinals that do not rise with seq, or a client or sender that sees its own order turned round.
    Order,
    /// A client's cursor stands above an event it does not have.
    UnfilledGap,
    /// B was invoked after A was seen, yet stands before A.
    RealtimeOrder,
    /// A page claims to be complete where it is not.
    StalePage,
    /// An event reached somebody who may not see it, or comes from somebody who may not write.
    Leak,
    /// A quiescent online member lacks the end of a channel.
    UnseenTail,
    /// A quiescent online client still waits for the answer to a send.
    StuckSend,
}

impl Check {
    /// Every check.
    pub const ALL: [Self; 11] = [
        Self::Lost,
        Self::AbortedRead,
        Self::Divergence,
        Self::Duplicate,
        Self::Order,
        Self::UnfilledGap,
        Self::RealtimeOrder,
        Self::StalePage,
        Self::Leak,
        Self::UnseenTail,
        Self::StuckSend,
    ];

    /// The promise it guards.
    pub const fn promise(self) -> Promise {
        match self {
            Self::Lost | Self::AbortedRead => Promise::Dur,
            Self::Divergence | Self::Order | Self::RealtimeOrder => Promise::Ord,
            Self::Duplicate => Promise::Once,
            Self::UnfilledGap | Self::StalePage => Promise::Gap,
            Self::Leak => Promise::Vis,
            Self::UnseenTail => Promise::Tail,
            Self::StuckSend => Promise::Calm,
        }
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::AbortedRead => "aborted read",
            Self::Divergence => "divergence",
            Self::Duplicate => "duplicate",
            Self::Order => "order",
            Self::UnfilledGap => "unfilled gap",
            Self::RealtimeOrder => "realtime order",
            Self::StalePage => "stale page",
            Self::Leak => "leak",
            Self::UnseenTail => "unseen tail",
            Self::StuckSend => "stuck send",
        }
    }
}

/// One broken promise.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Which check failed.
    pub check: Check,
    /// Where.
    pub channel: ChannelId,
    /// At which event, where there is one.
    pub seq: Option<ChannelSeq>,
    /// What is wrong, in a sentence.
    pub what: String,
    /// The few operations that show it, in the order of time.
    pub evidence: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}) in channel {}", self.check.name(), self.check.promise(), self.channel)?;
        if let Some(seq) = self.seq {
            write!(f, " at seq {seq}")?;
        }
        write!(f, ": {}", self.what)?;
        for line in &self.evidence {
            write!(f, "\n    {line}")?;
        }
        Ok(())
    }
}

/// The auditor's verdict.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The first [`VIOLATIONS_PER_CHECK_MAX`] violations of each check.
    pub violations: Vec<Violation>,
    /// How many violations each failed check has in all.
    pub counts: BTreeMap<Check, usize>,
    /// What was looked at, so that a clean report of an empty history is not mistaken for a proof.
    pub looked_at: LookedAt,
}

/// How much a report rests on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LookedAt {
    /// Clients.
    pub clients: usize,
    /// Distinct messages sent.
    pub sends: usize,
    /// Distinct messages acked.
    pub acks: usize,
    /// Events that reached clients, pages included.
    pub receipts: usize,
    /// Pages.
    pub pages: usize,
    /// Events of the final history.
    pub events: usize,
}

impl Report {
    /// Whether every promise was kept.
    pub fn is_clean(&self) -> bool {
        self.counts.is_empty()
    }

    /// Whether this check failed.
    pub fn has(&self, check: Check) -> bool {
        self.counts.contains_key(&check)
    }

    /// Panics with the whole report unless it is clean. For tests.
    #[track_caller]
    pub fn assert_clean(&self) {
        assert!(self.is_clean(), "{self}");
    }

    pub(super) fn add(&mut self, violation: Violation) {
        let count = self.counts.entry(violation.check).or_default();
        *count += 1;
        if *count <= VIOLATIONS_PER_CHECK_MAX {
            self.violations.push(violation);
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LookedAt { clients, sends, acks, receipts, pages, events } = self.looked_at;
        writeln!(
            f,
            "audited {clients} clients, {sends} sends, {acks} acks, {receipts} receipts, {pages} pages, {events} events"
        )?;
        if self.is_clean() {
            return f.write_str("every promise was kept");
        }
        for (check, count) in &self.counts {
            writeln!(f, "{count} × {} ({})", check.name(), check.promise())?;
        }
        for violation in &self.violations {
            writeln!(f, "{violation}")?;
        }
        Ok(())
    }
}
