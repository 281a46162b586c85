//! Commands that wait for the store: first in, first out within a channel, while other channels pass.

use crate::limits::{LOAD_BATCH_MAX, PARKED_BYTES_MAX, PARKED_COMMANDS_MAX};
use domain::{ChannelId, ClientMsgId, Command, CommandPosition, LogTime, Lookup, UserId};
use foldhash::fast::FixedState;
use std::collections::{BTreeSet, HashMap, VecDeque};

/// A command on its way to a decision.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    pub(crate) command: Command,
    pub(crate) at: CommandPosition,
    pub(crate) time: LogTime,
    pub(crate) bytes: usize,
    /// What the store said of its id. Conclusive as long as it is parked: nothing of its channel is decided meanwhile.
    pub(crate) lookup: Lookup,
}

/// What the first command of a channel waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wants {
    Head,
    Id,
}

/// What to ask the store in one go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Questions {
    pub(crate) heads: Vec<ChannelId>,
    pub(crate) ids: Vec<(ChannelId, UserId, ClientMsgId)>,
}

/// All parked commands of a partition.
#[derive(Debug, Default)]
pub(crate) struct Parking {
    queues: HashMap<ChannelId, VecDeque<Taken>, FixedState>,
    /// Channels whose first command waits for an answer that nobody has asked for yet, in the order they began to wait.
    unasked: VecDeque<(ChannelId, Wants)>,
    offsets: BTreeSet<u64>,
    bytes: usize,
}

impl Parking {
    /// Whether commands of the channel wait, so that a later one must wait behind them.
    pub(crate) fn holds(&self, channel: ChannelId) -> bool {
        // The usual case, and a hash less.
        !self.queues.is_empty() && self.queues.contains_key(&channel)
    }

    /// Parks behind those of the channel that wait already; the first one says what it waits for.
    pub(crate) fn park(&mut self, taken: Taken, wants: Wants) {
        self.offsets.insert(taken.at.offset);
        self.bytes += taken.bytes;
        let channel = taken.command.channel;
        let queue = self.queues.entry(channel).or_default();
        if queue.is_empty() {
            self.unasked.push_back((channel, wants));
        }
        queue.push_back(taken);
    }

    /// The first command of a channel, to decide again.
    pub(crate) fn first(&mut self, channel: ChannelId) -> Option<&mut Taken> {
        self.queues.get_mut(&channel)?.front_mut()
    }

    /// The first command of the channel is decided.
    pub(crate) fn remove_first(&mut self, channel: ChannelId) {
        let Some(queue) = self.queues.get_mut(&channel) else { return };
        if let Some(taken) = queue.pop_front() {
            self.offsets.remove(&taken.at.offset);
            self.bytes -= taken.bytes;
        }
        if queue.is_empty() {
            self.queues.remove(&channel);
        }
    }

    /// The first command of the channel waits for something (more).
    pub(crate) fn ask(&mut self, channel: ChannelId, wants: Wants) {
        self.unasked.push_back((channel, wants));
    }

    /// What to ask the store next, within a bound; `None`: nothing.
    pub(crate) fn take_questions(&mut self) -> Option<Questions> {
        let mut questions = Questions::default();
        while questions.heads.len() < LOAD_BATCH_MAX && questions.ids.len() < LOAD_BATCH_MAX {
            let Some((channel, wants)) = self.unasked.pop_front() else { break };
            let Some(first) = self.queues.get(&channel).and_then(VecDeque::front) else { continue };
            match wants {
                Wants::Head => questions.heads.push(channel),
                Wants::Id => questions.ids.push((channel, first.command.sender, first.command.id)),
            }
        }
        (questions != Questions::default()).then_some(questions)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.offsets.len() >= PARKED_COMMANDS_MAX || self.bytes >= PARKED_BYTES_MAX
    }

    pub(crate) fn len(&self) -> usize {
        self.offsets.len()
    }

    /// The lowest offset of a parked command: `low` can't pass it.
    pub(crate) fn lowest(&self) -> Option<u64> {
        self.offsets.first().copied()
    }
}
