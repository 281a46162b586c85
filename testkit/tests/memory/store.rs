//! Projections in memory that a test can stop, fail and wipe.

use domain::command::{ChannelKind, HistoryVisibility};
use domain::decide::{Head, Member};
use domain::{ChannelId, ChannelSeq, ClientMsgId, EventKind, Ordinal, PartitionId, UserId};
use futures_util::future::BoxFuture;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use store::{Error, ErrorKind, KnownId, ProgressCursor, Projections, SequencerReads, TimelineRow, Trail, WriteBatch};
use tokio::sync::watch;

/// Clones share it.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    kept: Mutex<Kept>,
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Kept {
    rows: BTreeMap<(ChannelId, ChannelSeq), TimelineRow>,
    heads: BTreeMap<ChannelId, Head>,
    ids: BTreeMap<(ChannelId, UserId, ClientMsgId), KnownId>,
    trails: BTreeMap<PartitionId, Trail>,
    reads_stopped: bool,
    failures: u32,
    applied: u32,
}

impl MemoryStore {
    /// Reads of heads and ids wait until it is taken back.
    pub fn stop_reads(&self, stopped: bool) {
        self.kept().reads_stopped = stopped;
        self.touch();
    }

    /// So many of the next calls that write fail.
    pub fn fail_writes(&self, failures: u32) {
        self.kept().failures = failures;
    }

    /// How many batches were applied.
    pub fn applied(&self) -> u32 {
        self.kept().applied
    }

    /// Every row, in the order of channel and seq.
    pub fn rows(&self) -> Vec<TimelineRow> {
        self.kept().rows.values().cloned().collect()
    }

    pub fn trail(&self, partition: PartitionId) -> Vec<ProgressCursor> {
        self.kept().trails.get(&partition).map(|trail| trail.cursors().to_vec()).unwrap_or_default()
    }

    /// Waits until something holds of the store.
    pub async fn until<T>(&self, mut found: impl FnMut() -> Option<T>) -> T {
        let mut changes = self.0.changed.subscribe();
        loop {
            changes.borrow_and_update();
            if let Some(found) = found() {
                return found;
            }
            let waited = tokio::time::timeout(std::time::Duration::from_mins(10), changes.changed()).await;
            waited.expect("the store does not get there").unwrap();
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.kept.lock().unwrap()
    }

    fn touch(&self) {
        self.0.changed.send_modify(|version| *version += 1);
    }

    fn may_write(&self) -> Result<(), Error> {
        let mut kept = self.kept();
        if kept.failures > 0 {
            kept.failures -= 1;
            return Err(Error::new(ErrorKind::Unavailable, "told to fail"));
        }
        Ok(())
    }

    async fn may_read(&self) {
        let mut changes = self.0.changed.subscribe();
        while self.kept().reads_stopped {
            changes.changed().await.unwrap();
        }
    }
}

impl Kept {
    fn apply(&mut self, row: &TimelineRow) {
        if self.rows.insert((row.channel, row.event.seq), row.clone()).is_some() {
            return;
        }
        if row.first_of_command {
            let known = KnownId { seq: row.event.seq, digest: row.digest };
            self.ids.entry((row.channel, row.sender, row.client_msg_id)).or_insert(known);
        }
        let head = self.heads.entry(row.channel).or_insert_with(|| Head {
            seq: ChannelSeq(0),
            ordinal: Ordinal(0),
            members_version: ChannelSeq(0),
            kind: ChannelKind::Personal,
            history: HistoryVisibility::FromJoining,
            open: false,
            members: BTreeMap::new(),
        });
        if let EventKind::ChannelCreated { kind, history, open, .. } = &row.event.kind {
            (head.kind, head.history, head.open) = (*kind, *history, *open);
        }
        if let Some((user, role)) = row.event.kind.membership() {
            head.members.insert(user, Member { role, since: row.event.seq });
        }
        (head.seq, head.ordinal, head.members_version) = (row.event.seq, row.event.ordinal, row.event.members_version);
    }
}

impl Projections for MemoryStore {
    fn apply(&self, batch: Arc<WriteBatch>) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            self.may_write()?;
            let mut kept = self.kept();
            batch.rows.iter().for_each(|row| kept.apply(row));
            kept.applied += 1;
            drop(kept);
            self.touch();
            Ok(())
        })
    }

    fn record_progress<'a>(
        &'a self,
        partition: PartitionId,
        cursor: &'a ProgressCursor,
    ) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            self.may_write()?;
            self.kept().trails.entry(partition).or_default().record(cursor.clone());
            self.touch();
            Ok(())
        })
    }

    fn progress(&self, partition: PartitionId) -> BoxFuture<'_, Result<Vec<ProgressCursor>, Error>> {
        Box::pin(async move { Ok(self.trail(partition)) })
    }
}

impl SequencerReads for MemoryStore {
    fn heads<'a>(&'a self, channels: &'a [ChannelId]) -> BoxFuture<'a, Result<Vec<Option<Head>>, Error>> {
        Box::pin(async move {
            self.may_read().await;
            let kept = self.kept();
            Ok(channels.iter().map(|channel| kept.heads.get(channel).cloned()).collect())
        })
    }

    fn find_ids<'a>(
        &'a self,
        ids: &'a [(ChannelId, UserId, ClientMsgId)],
    ) -> BoxFuture<'a, Result<Vec<Option<KnownId>>, Error>> {
        Box::pin(async move {
            self.may_read().await;
            let kept = self.kept();
            Ok(ids.iter().map(|id| kept.ids.get(id).copied()).collect())
        })
    }
}
