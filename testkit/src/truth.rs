//! What the log says, read past every role: the final history for the auditor, and what the store must hold (FOLD).

use crate::auditor::{FinalChannel, SeenEvent};
use domain::command::{ChannelKind, CommandPosition, HistoryVisibility, Role};
use domain::decide::{Head, Member};
use domain::{
    ChannelId, ChannelSeq, ClientMsgId, EventKind, LogCursor, LogTime, Ordinal, Outcome, PartitionId, TimelineRecord,
    UserId, Verdict,
};
use eventlog::{SharedLog, Topic};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use store::{MemberRow, MembershipRow, PageQuery, ProgressCursor, SharedStore, StoredEvent};
use timeline::{TimelineReader, Topology, What};

/// Events of one page of a comparison.
const PAGE_EVENTS: usize = 200;

/// The valid log, folded without any role.
#[derive(Debug, Default)]
pub struct Truth {
    /// Every channel as the log has it.
    pub channels: BTreeMap<ChannelId, FinalChannel>,
    /// What is wrong with the log itself, in sentences.
    pub problems: Vec<String>,
    partitions: BTreeMap<PartitionId, Partition>,
    heads: BTreeMap<ChannelId, Head>,
    stays: BTreeMap<ChannelId, Vec<MemberRow>>,
    ids: BTreeMap<(ChannelId, UserId, ClientMsgId), (ChannelSeq, u64)>,
}

/// One partition of the log.
#[derive(Debug, Default)]
struct Partition {
    end: u64,
    valid: Vec<(u64, TimelineRecord)>,
}

impl Truth {
    /// Reads all timelines from their first record to the end as it is now.
    pub async fn read(log: &SharedLog, topology: Topology) -> Result<Self, eventlog::Error> {
        let mut truth = Self::default();
        let mut events: BTreeMap<ChannelId, Vec<Arc<SeenEvent>>> = BTreeMap::new();
        for partition in topology.all() {
            let source = Topic::new(schemas::topics::MESSAGES).partition(u32::from(partition.0));
            let end = log.bounds(&source).await?.end.0;
            let mut read = Partition { end, valid: Vec::new() };
            let mut reader = TimelineReader::open(log, partition, LogCursor::default()).await?;
            let mut decided: BTreeSet<CommandPosition> = BTreeSet::new();
            while reader.cursor().offset < end {
                for record in reader.next().await? {
                    match record.what {
                        What::Valid(valid) => {
                            if let TimelineRecord::Outcome(outcome) = &valid {
                                if !decided.insert(outcome.command) {
                                    let problem = format!(
                                        "ONCE: the log decides {:?} of partition {partition} twice",
                                        outcome.command
                                    );
                                    truth.problems.push(problem);
                                }
                                truth.fold(outcome, &mut events);
                            }
                            read.valid.push((record.offset, valid));
                        }
                        What::Void { .. } => {}
                        What::Unreadable(error) => {
                            truth.problems.push(format!(
                                "POISON: {source} has something unreadable at {}: {error}",
                                record.offset
                            ));
                        }
                    }
                }
            }
            truth.partitions.insert(partition, read);
        }
        truth.channels =
            events.into_iter().map(|(channel, events)| (channel, FinalChannel::from_events(events))).collect();
        Ok(truth)
    }

    /// The number of valid records of all partitions.
    pub fn records(&self) -> usize {
        self.partitions.values().map(|partition| partition.valid.len()).sum()
    }

    fn fold(&mut self, outcome: &Outcome, events: &mut BTreeMap<ChannelId, Vec<Arc<SeenEvent>>>) {
        let Verdict::Accepted(accepted) = &outcome.verdict else { return };
        let first = accepted.first().map_or(ChannelSeq(0), |event| event.seq);
        self.ids.entry((outcome.channel, outcome.sender, outcome.id)).or_insert((first, outcome.digest));
        for event in accepted {
            let personal = outcome.channel == ChannelId::personal(outcome.sender);
            let head = self.heads.entry(outcome.channel).or_insert_with(|| empty_head(personal));
            head.seq = event.seq;
            head.ordinal = event.ordinal;
            head.members_version = event.members_version;
            if let EventKind::ChannelCreated { kind, history, open, .. } = &event.kind {
                (head.kind, head.history, head.open) = (*kind, *history, *open);
            }
            if let Some((user, role)) = event.kind.membership() {
                head.members.insert(user, Member { role, since: event.seq });
                fold_stay(self.stays.entry(outcome.channel).or_default(), user, role, event.seq);
            }
            events.entry(outcome.channel).or_default().push(Arc::new(SeenEvent {
                channel: outcome.channel,
                seq: event.seq,
                ordinal: event.ordinal,
                message_id: event.message_id,
                time: outcome.time,
                sender: outcome.sender,
                client_msg_id: outcome.id,
                kind: event.kind.clone(),
            }));
        }
    }

    /// How far the writer is behind the log, in records, summed over the partitions.
    pub async fn writer_lag(&self, store: &SharedStore) -> Result<u64, store::Error> {
        let mut lag = 0;
        for (partition, read) in &self.partitions {
            let written = store.progress(*partition).await?.last().map_or(0, |cursor| cursor.cursor.offset);
            lag += read.end.saturating_sub(written);
        }
        Ok(lag)
    }

    /// FOLD: what in the store differs from the fold of the log, in sentences. The writer must have caught up.
    pub async fn compare(&self, store: &SharedStore) -> Result<Vec<String>, store::Error> {
        let mut differences = Vec::new();
        for (partition, read) in &self.partitions {
            let trail = store.progress(*partition).await?;
            compare_trail(*partition, read, &trail, &mut differences);
        }
        for (channel, end) in &self.channels {
            self.compare_channel(store, *channel, end, &mut differences).await?;
        }
        self.compare_ids(store, &mut differences).await?;
        self.compare_people(store, &mut differences).await?;
        Ok(differences)
    }

    async fn compare_channel(
        &self,
        store: &SharedStore,
        channel: ChannelId,
        end: &FinalChannel,
        differences: &mut Vec<String>,
    ) -> Result<(), store::Error> {
        for expected in end.events.chunks(PAGE_EVENTS) {
            let (first, last) = (expected[0].seq, expected[expected.len() - 1].seq);
            let query = PageQuery { channel, first, last, limit: PAGE_EVENTS, newest_first: false };
            let stored: Vec<SeenEvent> = store.page(&query).await?.events.iter().map(seen).collect();
            let differs = expected.iter().find(|event| !stored.iter().any(|stored| *stored == ***event));
            if let Some(event) = differs {
                let found = stored.iter().find(|stored| stored.seq == event.seq);
                differences.push(format!("FOLD: row {channel} {} is {found:?}, the log says {event:?}", event.seq));
            } else if stored.len() != expected.len() {
                differences.push(format!("FOLD: {channel} has {} rows for {} events", stored.len(), expected.len()));
            }
        }
        let stored = store.heads(&[channel]).await?.pop().flatten();
        let expected = &self.heads[&channel];
        let alike = stored.as_ref().is_some_and(|stored| match expected.kind {
            // A personal channel has one person by its id, without events that say so.
            ChannelKind::Personal => (stored.seq, stored.ordinal) == (expected.seq, expected.ordinal),
            _ => stored == expected,
        });
        if !alike {
            differences.push(format!("FOLD: head of {channel} is {stored:?}, the log says {expected:?}"));
        }
        let order = |row: &MemberRow| (row.user, row.joined);
        let mut stored = store.members_of(channel).await?;
        stored.sort_by_key(order);
        let mut expected = self.stays.get(&channel).cloned().unwrap_or_default();
        expected.sort_by_key(order);
        if stored != expected {
            differences.push(format!("FOLD: members of {channel} are {stored:?}, the log says {expected:?}"));
        }
        Ok(())
    }

    async fn compare_ids(&self, store: &SharedStore, differences: &mut Vec<String>) -> Result<(), store::Error> {
        let ids: Vec<_> = self.ids.iter().collect();
        for chunk in ids.chunks(PAGE_EVENTS) {
            let keys: Vec<_> = chunk.iter().map(|(key, _)| **key).collect();
            for ((key, expected), found) in chunk.iter().zip(store.find_ids(&keys).await?) {
                let found = found.map(|known| (known.seq, known.digest));
                if found != Some(**expected) {
                    differences.push(format!("FOLD: id {key:?} is {found:?}, the log says {expected:?}"));
                }
            }
        }
        Ok(())
    }

    async fn compare_people(&self, store: &SharedStore, differences: &mut Vec<String>) -> Result<(), store::Error> {
        let mut people: BTreeMap<UserId, BTreeMap<ChannelId, MembershipRow>> = BTreeMap::new();
        for (channel, stays) in &self.stays {
            for stay in stays {
                let row = MembershipRow { channel: *channel, joined: stay.joined, left: stay.left };
                people.entry(stay.user).or_default().insert(*channel, row);
            }
        }
        for (user, expected) in people {
            let mut stored = store.channels_of(user).await?;
            stored.sort_by_key(|row| row.channel);
            let expected: Vec<_> = expected.into_values().collect();
            if stored != expected {
                differences.push(format!("FOLD: channels of {user} are {stored:?}, the log says {expected:?}"));
            }
        }
        Ok(())
    }
}

fn empty_head(personal: bool) -> Head {
    Head {
        seq: ChannelSeq(0),
        ordinal: Ordinal(0),
        members_version: ChannelSeq(0),
        kind: if personal { ChannelKind::Personal } else { ChannelKind::Group },
        history: HistoryVisibility::default(),
        open: false,
        members: BTreeMap::new(),
    }
}

fn fold_stay(stays: &mut Vec<MemberRow>, user: UserId, role: Option<Role>, seq: ChannelSeq) {
    let current = stays.iter_mut().rev().find(|stay| stay.user == user && stay.left.is_none());
    match (current, role) {
        (Some(stay), Some(role)) => stay.role = role,
        (Some(stay), None) => stay.left = Some(seq),
        (None, Some(role)) => stays.push(MemberRow { user, role, joined: seq, left: None }),
        (None, None) => {}
    }
}

fn seen(stored: &StoredEvent) -> SeenEvent {
    SeenEvent {
        channel: stored.channel,
        seq: stored.event.seq,
        ordinal: stored.event.ordinal,
        message_id: stored.event.message_id,
        time: stored.time,
        sender: stored.sender,
        client_msg_id: stored.client_msg_id,
        kind: stored.event.kind.clone(),
    }
}

/// Each cursor of the trail is the fold of the log up to it: who recovers from it knows the same as an uninterrupted reader.
fn compare_trail(partition: PartitionId, read: &Partition, trail: &[ProgressCursor], differences: &mut Vec<String>) {
    let mut folded = LogCursor::default();
    let mut valid = read.valid.iter().peekable();
    let mut last_time = LogTime(0);
    for ProgressCursor { cursor } in trail {
        while let Some((offset, record)) = valid.next_if(|(offset, _)| *offset < cursor.offset) {
            folded.accept(*offset, record);
        }
        // Void records move the offset and nothing else.
        folded.offset = cursor.offset;
        if *cursor != folded {
            differences.push(format!("FOLD: progress of partition {partition} is {cursor:?}, the log says {folded:?}"));
        }
        if cursor.time < last_time {
            differences.push(format!("FOLD: progress of partition {partition} steps back in T to {}", cursor.time));
        }
        last_time = cursor.time;
    }
}
