//! Reading the log: the real `LogCursor`, with faults around it, and a fold of heads that shares nothing with the decider's.

use crate::faults::Fault;
use domain::command::{ChannelKind, HistoryVisibility, Role};
use domain::decide::{Head, Member};
use domain::{
    ChannelId, ChannelSeq, Epoch, Event, EventKind, Judgement, LogCursor, Ordinal, Outcome, OwnerSeq, TimelineRecord,
    UserId, Verdict,
};
use std::collections::BTreeMap;

/// One record of the log.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) value: TimelineRecord,
    /// Which owner appended it.
    pub(crate) by: usize,
    /// The log's append time, ms.
    pub(crate) at: u64,
    /// Which of how many records of its command.
    pub(crate) part: (usize, usize),
}

/// A reader's position and judgement.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reader {
    pub(crate) cursor: LogCursor,
    /// Takes a higher epoch from whatever record comes next.
    pub(crate) learns: bool,
}

impl Reader {
    /// Reads the next record; whether it counts.
    pub(crate) fn accept(&mut self, record: &TimelineRecord, fault: Option<Fault>) -> bool {
        let mut restored = None;
        if let TimelineRecord::Outcome(outcome) = record {
            let before = OwnerSeq(outcome.n.0 - 1);
            if self.learns && outcome.epoch > self.cursor.epoch {
                (self.cursor.epoch, self.cursor.n) = (outcome.epoch, before);
            }
            if fault == Some(Fault::NoVoid) {
                restored = Some(self.cursor.epoch);
                (self.cursor.epoch, self.cursor.n) = (outcome.epoch, before);
            }
            if fault == Some(Fault::NoN) && outcome.epoch == self.cursor.epoch {
                self.cursor.n = before;
            }
        }
        let judgement = self.cursor.accept(self.cursor.offset, record);
        if let Some(epoch) = restored {
            self.cursor.epoch = epoch;
        }
        judgement == Judgement::Valid
    }

    /// Starts again from what a reader keeps: (offset, epoch, n), nothing else.
    pub(crate) fn restart(&mut self, fault: Option<Fault>) {
        let LogCursor { offset, epoch, n, .. } = self.cursor;
        *self = Self { cursor: LogCursor { offset, epoch, n, ..LogCursor::default() }, learns: false };
        match fault {
            Some(Fault::ProgressWithoutN) => self.cursor.n = OwnerSeq(0),
            Some(Fault::ProgressWithoutEpoch) => (self.cursor.epoch, self.learns) = (Epoch(0), true),
            _ => {}
        }
    }
}

/// A channel as a fold of the valid log: what the store holds of it, and what is true of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fold {
    seq: ChannelSeq,
    ordinal: Ordinal,
    members_version: ChannelSeq,
    about: Option<(ChannelKind, HistoryVisibility, bool)>,
    members: BTreeMap<UserId, (ChannelSeq, Option<Role>)>,
}

/// What two folds of one channel are compared by.
pub(crate) type View = (ChannelSeq, Ordinal, ChannelSeq, Vec<(UserId, Role)>);

impl Fold {
    /// Idempotent: the rows may hold the event already, and later ones too.
    pub(crate) fn apply(&mut self, event: &Event) {
        self.apply_membership(event);
        if self.seq < event.seq {
            (self.seq, self.ordinal, self.members_version) = (event.seq, event.ordinal, event.members_version);
        }
        if let EventKind::ChannelCreated { kind, history, open, .. } = event.kind {
            self.about = Some((kind, history, open));
        }
    }

    pub(crate) fn apply_membership(&mut self, event: &Event) {
        if let Some((user, role)) = event.kind.membership() {
            let row = self.members.entry(user).or_insert((ChannelSeq(0), None));
            if row.0 < event.seq {
                *row = (event.seq, role);
            }
        }
    }

    pub(crate) fn role_of(&self, user: UserId) -> Option<Role> {
        self.members.get(&user).and_then(|(_, role)| *role)
    }

    pub(crate) fn view(&self) -> View {
        let members = self.members.iter().filter_map(|(user, (_, role))| Some((*user, (*role)?))).collect();
        (self.seq, self.ordinal, self.members_version, members)
    }

    /// As a store returns it.
    pub(crate) fn head(&self) -> Option<Head> {
        let (kind, history, open) =
            self.about.unwrap_or((ChannelKind::Personal, HistoryVisibility::FromJoining, false));
        let members = self.members.iter().map(|(user, (since, role))| (*user, Member { role: *role, since: *since }));
        (self.seq > ChannelSeq(0)).then(|| Head {
            seq: self.seq,
            ordinal: self.ordinal,
            members_version: self.members_version,
            kind,
            history,
            open,
            members: members.collect(),
        })
    }
}

pub(crate) fn view_of(head: &Head) -> View {
    let members = head.members.iter().filter_map(|(user, member)| Some((*user, member.role?))).collect();
    (head.seq, head.ordinal, head.members_version, members)
}

pub(crate) fn events_of(outcome: &Outcome) -> &[Event] {
    match &outcome.verdict {
        Verdict::Accepted(events) => events,
        Verdict::Answered(_) => &[],
    }
}

/// All channels at once.
pub(crate) type Folds = BTreeMap<ChannelId, Fold>;
