//! The void rule: which records of `chat.messages` count. Every reader judges with this and nothing else.
//!
//! State is (epoch, n), starting at (0, 0). A claim is valid if its epoch is above the current one, and sets the state to
//! (its epoch, 0); it also says where the commands log began then, and `low` moves up to that. Any other record is valid if
//! its epoch is the current one and its n is the last + 1. All else is void.

use crate::command::CommandPosition;
use crate::event::{Outcome, TimelineRecord, Verdict};
use crate::ids::{Epoch, LogTime, MessageId, OwnerSeq};
use std::collections::BTreeSet;

/// What a reader knows about the valid log below `offset`: the fold that positions, recovery and the void rule need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogCursor {
    /// The next offset to read in the partition of `chat.messages`.
    pub offset: u64,
    /// The epoch of the last valid claim.
    pub epoch: Epoch,
    /// The number of the last valid record in that epoch.
    pub n: OwnerSeq,
    /// T of the last valid outcome.
    pub time: LogTime,
    /// The highest message id given.
    pub last_id: MessageId,
    /// Every command below it is decided.
    pub low: CommandPosition,
    /// Offsets of commands at or above `low`, of its incarnation, that are decided all the same.
    pub decided_above: BTreeSet<u64>,
}

/// Whether a record counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It counts.
    Valid,
    /// It never happened: a zombie's, or behind a lost append.
    Void,
    /// It never happened, though its epoch is above the current one: somebody writes without a claim. Alarm.
    VoidOfHigherEpoch,
}

impl LogCursor {
    /// Judges the record at `offset` and moves past it.
    pub fn accept(&mut self, offset: u64, record: &TimelineRecord) -> Judgement {
        self.offset = offset + 1;
        match record {
            TimelineRecord::Claim { epoch, commands_start, .. } => {
                if *epoch <= self.epoch {
                    return Judgement::Void;
                }
                self.epoch = *epoch;
                self.n = OwnerSeq(0);
                self.commands_start_at(*commands_start);
                Judgement::Valid
            }
            TimelineRecord::Outcome(outcome) => self.accept_outcome(outcome),
        }
    }

    /// Whether the command at `position` is decided by the valid log read so far.
    pub fn has_decided(&self, position: CommandPosition) -> bool {
        position < self.low
            || (position.incarnation == self.low.incarnation && self.decided_above.contains(&position.offset))
    }

    /// Commands below `start` are gone: `low` does not wait for them.
    fn commands_start_at(&mut self, start: CommandPosition) {
        if start <= self.low {
            return;
        }
        if start.incarnation > self.low.incarnation {
            self.decided_above.clear();
        }
        self.low = start;
        self.decided_above = self.decided_above.split_off(&start.offset);
        while self.decided_above.remove(&self.low.offset) {
            self.low.offset += 1;
        }
    }

    fn accept_outcome(&mut self, outcome: &Outcome) -> Judgement {
        if outcome.epoch > self.epoch {
            return Judgement::VoidOfHigherEpoch;
        }
        if outcome.epoch != self.epoch || outcome.n != self.n.next() {
            return Judgement::Void;
        }
        self.n = outcome.n;
        self.time = outcome.time;
        if let Verdict::Accepted(events) = &outcome.verdict
            && let Some(last) = events.last()
        {
            self.last_id = self.last_id.max(last.message_id);
        }
        self.command_decided(outcome.command);
        Judgement::Valid
    }

    fn command_decided(&mut self, position: CommandPosition) {
        if position.incarnation > self.low.incarnation {
            self.low = CommandPosition { incarnation: position.incarnation, offset: 0 };
            self.decided_above.clear();
        }
        if position < self.low {
            return;
        }
        if position.offset == self.low.offset {
            self.low.offset += 1;
            while self.decided_above.remove(&self.low.offset) {
                self.low.offset += 1;
            }
        } else {
            self.decided_above.insert(position.offset);
        }
    }
}
