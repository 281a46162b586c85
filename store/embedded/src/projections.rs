//! Writing projections: the rows of several batches in one transaction, each channel's head once.

use crate::checkpoint::Checkpoints;
use crate::codec::{channel_kind_number, encode_cursor, encode_event, history_number, role_number};
use crate::failure::{Failure, File};
use crate::lane::Sink;
use crate::limits::{
    CHANNEL_NUMBER_MAX, CHANNEL_NUMBERS_CACHED_MAX, CHANNEL_SEQ_MAX, EXPIRED_IDS_DELETED_AT_ONCE, TRAILS_CACHED_MAX,
};
use crate::pages::Pages;
use crate::reads;
use domain::command::{ChannelKind, HistoryVisibility};
use domain::limits::ONCE_STORE_DAYS;
use domain::{ChannelId, EventKind, LogTime, PartitionId, UserId};
use lru::LruCache;
use rusqlite::{CachedStatement, Connection, OptionalExtension, params};
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::sync::Arc;
use store::{ErrorKind, ProgressCursor, TimelineRow, Trail, WriteBatch};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// The day of a time, since the Unix epoch.
pub(crate) const fn day(time: LogTime) -> i64 {
    (time.0 / DAY_MS) as i64
}

/// The first day whose client ids are still kept when the newest are of `newest`: an id is kept for the whole of its last day.
pub(crate) const fn first_day_kept(newest: i64) -> i64 {
    newest - ONCE_STORE_DAYS as i64
}

/// A row's place in `messages`.
pub(crate) const fn message_key(number: i64, seq: u64) -> i64 {
    (number << 32) | seq as i64
}

/// What comes to the writer of projections.
#[derive(Debug)]
pub(crate) enum Work {
    Apply(Arc<WriteBatch>),
    Progress(PartitionId, ProgressCursor),
}

/// The writer of projections. What it remembers is bounded and only saves reads.
#[derive(Debug)]
pub(crate) struct Projections {
    numbers: LruCache<ChannelId, i64>,
    trails: LruCache<PartitionId, Trail>,
    newest_day: i64,
    expired_left: bool,
    pages: Arc<Pages>,
    checkpoints: Checkpoints,
}

/// The newest of a channel within a group.
#[derive(Clone, Copy, Debug)]
struct HeadUpdate {
    seq: u64,
    ordinal: u64,
    members_version: u64,
    time: u64,
}

impl Projections {
    pub(crate) fn new(connection: &Connection, pages: Arc<Pages>, checkpoints: Checkpoints) -> Result<Self, Failure> {
        let newest_day = reads::newest_id_day(connection).map_err(sqlite)?.unwrap_or(0);
        let capacity = |max| NonZeroUsize::new(max).unwrap_or(NonZeroUsize::MIN);
        Ok(Self {
            numbers: LruCache::new(capacity(CHANNEL_NUMBERS_CACHED_MAX)),
            trails: LruCache::new(capacity(TRAILS_CACHED_MAX)),
            newest_day,
            expired_left: true,
            pages,
            checkpoints,
        })
    }

    fn write_all(&mut self, connection: &mut Connection, group: &[Work]) -> Result<(), Failure> {
        let tx = connection.transaction().map_err(sqlite)?;
        self.write_rows(&tx, group)?;
        self.write_progress(&tx, group)?;
        tx.commit().map_err(sqlite)
    }

    fn write_rows(&mut self, tx: &Connection, group: &[Work]) -> Result<(), Failure> {
        let batches = group.iter().filter_map(|work| match work {
            Work::Apply(batch) => Some(batch),
            Work::Progress(..) => None,
        });
        let mut rows = Vec::new();
        let mut numbered: Option<(ChannelId, i64)> = None;
        for row in batches.flat_map(|batch| &batch.rows) {
            let number = match numbered {
                Some((channel, number)) if channel == row.channel => number,
                _ => self.number(tx, row.channel)?,
            };
            numbered = Some((row.channel, number));
            if row.event.seq.0 > CHANNEL_SEQ_MAX {
                let text = format!("channel {} is above the events that the embedded store can hold", row.channel);
                return Err(Failure::new(ErrorKind::Unavailable, text));
            }
            rows.push((message_key(number, row.event.seq.0), row));
        }
        if rows.is_empty() {
            return Ok(());
        }
        // A channel's rows side by side: the same page is in hand for all of them. Within a channel it stays the order of seq.
        rows.sort_unstable_by_key(|(key, _)| *key);
        let mut statements = Statements::new(tx).map_err(sqlite)?;
        let mut head: Option<(i64, HeadUpdate)> = None;
        for (key, row) in &rows {
            let number = *key >> 32;
            statements.event(*key, row).map_err(sqlite)?;
            if !matches!(row.event.kind, EventKind::MessagePosted { .. }) {
                change_channel(tx, number, row).map_err(sqlite)?;
            }
            if let Some((before, update)) = head
                && before != number
            {
                statements.head(before, update).map_err(sqlite)?;
            }
            head = Some((
                number,
                HeadUpdate {
                    seq: row.event.seq.0,
                    ordinal: row.event.ordinal.0,
                    members_version: row.event.members_version.0,
                    time: row.time.0,
                },
            ));
        }
        if let Some((number, update)) = head {
            statements.head(number, update).map_err(sqlite)?;
        }
        // In the order of the key: neighbours share pages at the end of the table.
        rows.retain(|(_, row)| row.first_of_command);
        rows.sort_unstable_by_key(|(_, row)| (day(row.time), row.client_msg_id));
        for (key, row) in &rows {
            statements.client_id(*key >> 32, row).map_err(sqlite)?;
        }
        if let Some(newest) = rows.last().map(|(_, row)| day(row.time))
            && newest > self.newest_day
        {
            self.newest_day = newest;
            self.expired_left = true;
        }
        Ok(())
    }

    /// The number of a channel, given at its first event.
    fn number(&mut self, tx: &Connection, channel: ChannelId) -> Result<i64, Failure> {
        if let Some(number) = self.numbers.get(&channel) {
            return Ok(*number);
        }
        let number = match reads::number(tx, channel).map_err(sqlite)? {
            Some(number) => number,
            None => tx
                .prepare_cached(
                    "INSERT INTO channels (channel, kind, title, history, open, seq, ordinal, members_version, last_time)
                     VALUES (?1, ?2, '', ?3, 0, 0, 0, 0, 0) RETURNING number",
                )
                .and_then(|mut insert| {
                    // A channel that was never created is somebody's personal one.
                    let personal = channel_kind_number(ChannelKind::Personal);
                    let history = history_number(HistoryVisibility::default());
                    insert.query_row(params![channel.as_bytes(), personal, history], |row| row.get(0))
                })
                .map_err(sqlite)?,
        };
        if number > CHANNEL_NUMBER_MAX {
            return Err(Failure::new(ErrorKind::Unavailable, "the embedded store can hold no more channels"));
        }
        self.numbers.put(channel, number);
        Ok(number)
    }

    /// Only what differs from the kept trail is written, once a group.
    fn write_progress(&mut self, tx: &Connection, group: &[Work]) -> Result<(), Failure> {
        let mut before: BTreeMap<PartitionId, BTreeSet<u64>> = BTreeMap::new();
        for work in group {
            let Work::Progress(partition, cursor) = work else { continue };
            if self.trails.get(partition).is_none() {
                self.trails.put(*partition, Trail::new(reads::progress(tx, *partition)?));
            }
            let Some(trail) = self.trails.get_mut(partition) else { continue };
            let offsets = || trail.cursors().iter().map(|kept| kept.cursor.offset).collect();
            before.entry(*partition).or_insert_with(offsets);
            trail.record(cursor.clone());
        }
        for (partition, before) in before {
            let Some(trail) = self.trails.get(&partition) else { continue };
            let mut gone = before.clone();
            for kept in trail.cursors() {
                gone.remove(&kept.cursor.offset);
                if !before.contains(&kept.cursor.offset) {
                    tx.prepare_cached("INSERT OR REPLACE INTO writer_progress VALUES (?1, ?2, ?3)")
                        .and_then(|mut insert| {
                            let cursor = encode_cursor(&kept.cursor);
                            insert.execute(params![partition.0, kept.cursor.offset as i64, cursor])
                        })
                        .map_err(sqlite)?;
                }
            }
            for offset in gone {
                tx.prepare_cached("DELETE FROM writer_progress WHERE partition = ?1 AND offset = ?2")
                    .and_then(|mut delete| delete.execute(params![partition.0, offset as i64]))
                    .map_err(sqlite)?;
            }
        }
        Ok(())
    }

    fn expire_some(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let first_kept = first_day_kept(self.newest_day);
        let last: Option<(i64, [u8; 16])> = connection
            .prepare_cached("SELECT day, id FROM client_ids WHERE day < ?1 ORDER BY day, id LIMIT 1 OFFSET ?2")?
            .query_row(params![first_kept, EXPIRED_IDS_DELETED_AT_ONCE as i64 - 1], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        if let Some((day, id)) = last {
            connection
                .prepare_cached("DELETE FROM client_ids WHERE (day, id) <= (?1, ?2)")?
                .execute(params![day, id])?;
        } else {
            connection.prepare_cached("DELETE FROM client_ids WHERE day < ?1")?.execute(params![first_kept])?;
            self.expired_left = false;
        }
        Ok(())
    }
}

impl Sink for Projections {
    type Work = Work;

    fn rows(work: &Work) -> usize {
        match work {
            Work::Apply(batch) => batch.rows.len().max(1),
            Work::Progress(..) => 1,
        }
    }

    fn write(&mut self, connection: &mut Connection, group: &[Work]) -> Result<Vec<Result<usize, Failure>>, Failure> {
        if let Err(failure) = self.write_all(connection, group) {
            // What was remembered may not have been written.
            self.numbers.clear();
            self.trails.clear();
            return Err(failure);
        }
        for work in group {
            if let Work::Apply(batch) = work {
                self.pages.changed(batch.rows.iter().map(|row| row.channel));
            }
        }
        Ok(group.iter().map(|_| Ok(0)).collect())
    }

    fn rest(&mut self, connection: &mut Connection, rows: usize) {
        if self.expired_left
            && let Err(error) = self.expire_some(connection)
        {
            tracing::warn!(%error, "expiring client ids failed, tried again later");
        }
        self.checkpoints.after_rows(connection, rows);
    }
}

/// The statements of every event, looked up once a group.
struct Statements<'c> {
    event: CachedStatement<'c>,
    client_id: CachedStatement<'c>,
    head: CachedStatement<'c>,
}

impl<'c> Statements<'c> {
    fn new(tx: &'c Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            event: tx.prepare_cached(
                "INSERT OR IGNORE INTO messages VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            )?,
            client_id: tx.prepare_cached("INSERT OR IGNORE INTO client_ids VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?,
            head: tx.prepare_cached(
                "UPDATE channels SET seq = ?2, ordinal = ?3, members_version = ?4, last_time = ?5
                 WHERE number = ?1 AND seq < ?2",
            )?,
        })
    }

    fn event(&mut self, key: i64, row: &TimelineRow) -> rusqlite::Result<()> {
        let (kind, data) = encode_event(&row.event.kind);
        let text = if let EventKind::MessagePosted { text } = &row.event.kind { Some(&**text) } else { None };
        self.event.execute(params![
            key,
            row.event.message_id.0 as i64,
            row.event.ordinal.0 as i64,
            row.event.members_version.0 as i64,
            row.offset as i64,
            row.time.0 as i64,
            row.sender.as_bytes(),
            row.client_msg_id.as_bytes(),
            kind,
            text,
            data,
        ])?;
        Ok(())
    }

    fn client_id(&mut self, number: i64, row: &TimelineRow) -> rusqlite::Result<()> {
        self.client_id.execute(params![
            day(row.time),
            row.client_msg_id.as_bytes(),
            row.sender.as_bytes(),
            number,
            row.event.seq.0 as i64,
            row.digest as i64,
        ])?;
        Ok(())
    }

    fn head(&mut self, number: i64, update: HeadUpdate) -> rusqlite::Result<()> {
        self.head.execute(params![
            number,
            update.seq as i64,
            update.ordinal as i64,
            update.members_version as i64,
            update.time as i64,
        ])?;
        Ok(())
    }
}

/// What an event other than a message changes. Each statement changes nothing when it comes again or late.
fn change_channel(tx: &Connection, number: i64, row: &TimelineRow) -> rusqlite::Result<()> {
    let seq = row.event.seq.0 as i64;
    match &row.event.kind {
        EventKind::ChannelCreated { kind, title, history, open } => {
            tx.prepare_cached("UPDATE channels SET kind = ?2, title = ?3, history = ?4, open = ?5 WHERE number = ?1")?
                .execute(params![number, channel_kind_number(*kind), &**title, history_number(*history), *open])?;
        }
        EventKind::MemberJoined { user, role } => {
            tx.prepare_cached("INSERT OR IGNORE INTO members VALUES (?1, ?2, ?3, NULL, ?4, ?3)")?.execute(params![
                number,
                user.as_bytes(),
                seq,
                role_number(*role)
            ])?;
        }
        EventKind::MemberLeft { user, .. } => {
            change_stay(tx, "left = ?3, since = ?3", number, *user, seq, None)?;
        }
        EventKind::RoleChanged { user, role } => {
            change_stay(tx, "role = ?4, since = ?3", number, *user, seq, Some(role_number(*role)))?;
        }
        EventKind::MessagePosted { .. } | EventKind::ChannelJoined { .. } | EventKind::ChannelLeft { .. } => {}
    }
    Ok(())
}

/// Changes the stay that a seq falls into, unless a later seq has changed it already.
fn change_stay(
    tx: &Connection,
    set: &str,
    number: i64,
    user: UserId,
    seq: i64,
    role: Option<i64>,
) -> rusqlite::Result<()> {
    let sql = format!(
        "UPDATE members SET {set} WHERE channel = ?1 AND user = ?2 AND since < ?3 AND joined =
         (SELECT max(joined) FROM members WHERE channel = ?1 AND user = ?2 AND joined < ?3)"
    );
    let mut update = tx.prepare_cached(&sql)?;
    match role {
        Some(role) => update.execute(params![number, user.as_bytes(), seq, role])?,
        None => update.execute(params![number, user.as_bytes(), seq])?,
    };
    Ok(())
}

fn sqlite(error: rusqlite::Error) -> Failure {
    Failure::of_sqlite(File::Projections, error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::open_for_writing;
    use store::contract::{START, Script, batch, channel, person};
    use tempfile::TempDir;

    fn sink() -> (TempDir, Connection, Projections) {
        let dir = TempDir::new().expect("a directory");
        let open = || open_for_writing(File::Projections, dir.path(), 1 << 20).expect("open");
        let connection = open();
        let handle = std::fs::File::open(dir.path().join(File::Projections.name())).expect("the file");
        let checkpoints = Checkpoints::start(File::Projections, open(), handle.into()).expect("a thread");
        let sink = Projections::new(&connection, Pages::new(), checkpoints).expect("a sink");
        (dir, connection, sink)
    }

    fn posts(script: &mut Script, count: usize) -> Work {
        Work::Apply(batch((0..count).map(|_| script.post(person(1), &"x".repeat(500))).collect::<Vec<_>>()))
    }

    #[test]
    fn a_full_disk_is_told_and_heals() {
        let (_dir, mut connection, mut sink) = sink();
        let mut script = Script::new(channel(1));
        connection.pragma_update(None, "max_page_count", 20).expect("a bound");
        let work = [posts(&mut script, 200)];
        for _ in 0..2 {
            let failure = sink.write(&mut connection, &work).expect_err("full");
            assert_eq!(failure.kind(), ErrorKind::Full);
            assert_eq!(reads::number(&connection, channel(1)).expect("read"), None, "nothing is left behind");
        }
        connection.pragma_update(None, "max_page_count", 1 << 20).expect("a bound");
        sink.write(&mut connection, &work).expect("healed");
        let head = reads::heads(&mut connection, &[channel(1)]).expect("read").remove(0).expect("a head");
        assert_eq!(head.seq.0, 200);
    }

    #[test]
    fn ids_are_kept_for_their_days_and_then_go_a_few_at_a_time() {
        let (_dir, mut connection, mut sink) = sink();
        let count = |connection: &Connection| -> i64 {
            connection.query_row("SELECT count(*) FROM client_ids", [], |row| row.get(0)).expect("a count")
        };
        let mut script = Script::new(channel(1));
        let old = EXPIRED_IDS_DELETED_AT_ONCE * 2 + 10;
        sink.write(&mut connection, &[posts(&mut script, old)]).expect("write");
        script.time = START.plus_ms(ONCE_STORE_DAYS * DAY_MS);
        sink.write(&mut connection, &[posts(&mut script, 5)]).expect("write");
        sink.rest(&mut connection, 5);
        assert_eq!(count(&connection), old as i64 + 5, "on their last day");
        script.time = START.plus_ms((ONCE_STORE_DAYS + 1) * DAY_MS);
        sink.write(&mut connection, &[posts(&mut script, 5)]).expect("write");
        for left in [EXPIRED_IDS_DELETED_AT_ONCE + 10, 10, 0, 0] {
            sink.rest(&mut connection, 5);
            assert_eq!(count(&connection), left as i64 + 10);
        }
    }

    #[test]
    fn the_write_ahead_log_starts_again_before_it_grows_far() {
        let (dir, mut connection, mut sink) = sink();
        connection.pragma_update(None, "wal_autocheckpoint", 0).expect("off");
        let mut scripts: Vec<_> = (0..500).map(|n| Script::new(channel(n))).collect();
        for _ in 0..200 {
            let rows: Vec<_> = scripts.iter_mut().map(|script| script.post(person(1), "x")).collect();
            let rows = [Work::Apply(batch(rows))];
            sink.write(&mut connection, &rows).expect("write");
            sink.rest(&mut connection, 500);
        }
        let wal = std::fs::metadata(dir.path().join("projections.db-wal")).expect("a log file").len();
        let written = 200 * 500 * 4096;
        assert!(wal < written / 3, "{wal} bytes");
    }
}
