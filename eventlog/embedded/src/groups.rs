//! Consumer groups of one process: partitions shared by range among the live members, and committed offsets.

use crate::disk::Disk;
use crate::files::{self, damaged};
use crate::limits::METADATA_BYTES_MAX;
use eventlog::{AssignmentChange, Committed, Error, ErrorKind, LogOffset, Membership, Topic};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// The file of committed offsets in the log's directory.
pub(crate) const FILE: &str = "groups";

type GroupKey = (String, Topic);

/// All groups.
#[derive(Debug)]
pub(crate) struct Groups {
    state: Mutex<State>,
    /// Held while the file is written, so that an older content never replaces a newer one.
    saving: Mutex<()>,
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    next_member: u64,
    members: BTreeMap<GroupKey, Vec<u64>>,
    committed: BTreeMap<(GroupKey, u32), Committed>,
    dirty: bool,
}

impl Groups {
    pub(crate) fn open(disk: &dyn Disk, dir: &Path) -> Result<Self, Error> {
        let committed = match files::read(disk, dir, FILE)? {
            Some(bytes) => parse(&bytes).ok_or_else(|| damaged(&dir.join(FILE), 0, "its entries can't be read"))?,
            None => BTreeMap::new(),
        };
        let state = Mutex::new(State { committed, ..State::default() });
        Ok(Self { state, saving: Mutex::new(()), changed: watch::channel(0).0 })
    }

    /// Writes the committed offsets if they have changed.
    pub(crate) fn save(&self, disk: &dyn Disk, dir: &Path) -> io::Result<()> {
        let _saving = self.saving.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = {
            let mut state = self.state();
            if !std::mem::take(&mut state.dirty) {
                return Ok(());
            }
            encode(&state.committed)
        };
        files::write(disk, dir, FILE, &bytes).inspect_err(|_| self.state().dirty = true)
    }

    /// The topic is gone, and so is where its groups were.
    pub(crate) fn forget(&self, topic: &Topic) {
        let mut state = self.state();
        state.committed.retain(|((_, of), _), _| of != topic);
        state.dirty = true;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn announce(&self) {
        self.changed.send_modify(|changes| *changes += 1);
    }
}

/// One member of a group.
#[derive(Debug)]
pub(crate) struct Member {
    groups: Arc<Groups>,
    key: GroupKey,
    id: u64,
    partitions: u32,
    /// What the member has been told that it has; `None` before the first word.
    told: Option<BTreeSet<u32>>,
    changes: watch::Receiver<u64>,
}

impl Member {
    pub(crate) fn join(groups: &Arc<Groups>, group: &str, topic: &Topic, partitions: u32) -> Self {
        let key = (group.to_owned(), topic.clone());
        let changes = groups.changed.subscribe();
        let id = {
            let mut state = groups.state();
            state.next_member += 1;
            let id = state.next_member;
            state.members.entry(key.clone()).or_default().push(id);
            id
        };
        groups.announce();
        Self { groups: Arc::clone(groups), key, id, partitions, told: None, changes }
    }

    fn assigned(&self) -> BTreeSet<u32> {
        let state = self.groups.state();
        let members = state.members.get(&self.key).map_or(&[][..], Vec::as_slice);
        let Some(place) = members.iter().position(|id| *id == self.id) else { return BTreeSet::new() };
        let (place, count, partitions) = (place as u64, members.len() as u64, u64::from(self.partitions));
        let from = place * partitions / count;
        let to = (place + 1) * partitions / count;
        (from as u32..to as u32).collect()
    }

    fn change(&mut self) -> Option<AssignmentChange> {
        let assigned = self.assigned();
        let Some(told) = &mut self.told else {
            self.told = Some(assigned.clone());
            return Some(AssignmentChange::Gained(assigned.into_iter().collect()));
        };
        let lost: Vec<u32> = told.difference(&assigned).copied().collect();
        if !lost.is_empty() {
            told.retain(|partition| assigned.contains(partition));
            return Some(AssignmentChange::Lost(lost));
        }
        let gained: Vec<u32> = assigned.difference(told).copied().collect();
        if gained.is_empty() {
            return None;
        }
        *told = assigned;
        Some(AssignmentChange::Gained(gained))
    }
}

impl Membership for Member {
    fn next_change(&mut self) -> BoxFuture<'_, Result<AssignmentChange, Error>> {
        async move {
            loop {
                if let Some(change) = self.change() {
                    return Ok(change);
                }
                if self.changes.changed().await.is_err() {
                    return Err(Error::new(ErrorKind::Closed, "the log is closed"));
                }
            }
        }
        .boxed()
    }

    fn commit<'a>(&'a self, partition: u32, offset: LogOffset, metadata: &'a str) -> BoxFuture<'a, Result<(), Error>> {
        let result = if !self.assigned().contains(&partition) {
            Err(Error::new(
                ErrorKind::NotAssigned,
                format!("partition {partition} of {} is another member's", self.key.1),
            ))
        } else if metadata.len() > METADATA_BYTES_MAX {
            Err(Error::new(ErrorKind::TooLarge, format!("metadata of a commit has at most {METADATA_BYTES_MAX} bytes")))
        } else {
            let mut state = self.groups.state();
            state.committed.insert((self.key.clone(), partition), Committed { offset, metadata: metadata.to_owned() });
            state.dirty = true;
            Ok(())
        };
        ready(result).boxed()
    }

    fn committed(&self, partition: u32) -> BoxFuture<'_, Result<Option<Committed>, Error>> {
        let committed = self.groups.state().committed.get(&(self.key.clone(), partition)).cloned();
        ready(Ok(committed)).boxed()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        {
            let mut state = self.groups.state();
            if let Some(members) = state.members.get_mut(&self.key) {
                members.retain(|id| *id != self.id);
                if members.is_empty() {
                    state.members.remove(&self.key);
                }
            }
        }
        self.groups.announce();
    }
}

fn encode(committed: &BTreeMap<(GroupKey, u32), Committed>) -> Vec<u8> {
    let mut out = Vec::new();
    for (((group, topic), partition), position) in committed {
        for text in [group.as_str(), topic.as_str(), &position.metadata] {
            out.extend_from_slice(&(text.len() as u16).to_le_bytes());
            out.extend_from_slice(text.as_bytes());
        }
        out.extend_from_slice(&partition.to_le_bytes());
        out.extend_from_slice(&position.offset.0.to_le_bytes());
    }
    out
}

fn parse(bytes: &[u8]) -> Option<BTreeMap<(GroupKey, u32), Committed>> {
    let mut cursor = crate::frame::Cursor { bytes, at: 0 };
    let mut committed = BTreeMap::new();
    while cursor.at < bytes.len() {
        let mut text = || {
            let length = cursor.u16()?;
            let range = cursor.take(length as usize)?;
            std::str::from_utf8(&bytes[range]).ok().map(str::to_owned)
        };
        let (group, topic, metadata) = (text()?, text()?, text()?);
        let (partition, offset) = (cursor.u32()?, cursor.u64()?);
        committed.insert(((group, Topic::new(topic)), partition), Committed { offset: LogOffset(offset), metadata });
    }
    Some(committed)
}
