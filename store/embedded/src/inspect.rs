//! Looking at a whole store from outside its usual ways: a copy for backup, a fingerprint for comparing.

use crate::codec::{channel_kind, history};
use crate::failure::{Failure, File};
use crate::projections::first_day_kept;
use crate::reads;
use crate::schema::open_for_reading;
use domain::{ChannelId, ChannelSeq};
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};
use std::path::Path;
use store::{Error, ErrorKind, Fingerprint, KnownId, PageQuery};

/// The page cache of a connection that reads everything once.
const CACHE_BYTES: usize = 1024 * 1024;

/// Events read at a time.
const PAGE_EVENTS: usize = 1_000;

/// Copies both files as they are at one moment each, synced. Projections first: whoever is named in them then is in the records.
pub(crate) fn backup(dir: &Path, to: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(to).map_err(|error| io(to, error))?;
    for file in File::ALL {
        let target = to.join(file.name());
        if target.exists() {
            let text = format!("{} exists; back up into an empty directory", target.display());
            return Err(Error::new(ErrorKind::Exists, text));
        }
        copy(file, dir, &target)?;
        std::fs::File::open(&target).and_then(|copy| copy.sync_all()).map_err(|error| io(&target, error))?;
    }
    std::fs::File::open(to).and_then(|dir| dir.sync_all()).map_err(|error| io(to, error))
}

fn copy(file: File, dir: &Path, target: &Path) -> Result<(), Failure> {
    let failed = |error| Failure::of_sqlite(file, error);
    let source = open_for_reading(file, dir, CACHE_BYTES)?;
    let mut copy = Connection::open_with_flags(target, OpenFlags::default()).map_err(failed)?;
    // All pages in one step: one snapshot, which does not hold writers up (the write-ahead log grows meanwhile).
    let step = Backup::new(&source, &mut copy).and_then(|backup| backup.step(-1)).map_err(failed)?;
    if step != StepResult::Done {
        return Err(Failure::new(ErrorKind::Unavailable, format!("{file} is locked; try the backup again")));
    }
    let verdict: String = copy.pragma_query_value(None, "quick_check", |row| row.get(0)).map_err(failed)?;
    if verdict != "ok" {
        return Err(Failure::damaged(file, verdict));
    }
    // A single file until it is opened again.
    copy.pragma_update(None, "journal_mode", "DELETE").map_err(failed)
}

fn io(path: &Path, error: std::io::Error) -> Error {
    let kind = if error.kind() == std::io::ErrorKind::StorageFull { ErrorKind::Full } else { ErrorKind::Unavailable };
    Error::new(kind, format!("can't write {}", path.display())).with_source(error)
}

/// Of all projections, at one moment.
pub(crate) fn fingerprint(dir: &Path) -> Result<Fingerprint, Failure> {
    let failed = |error| Failure::of_sqlite(File::Projections, error);
    let mut connection = open_for_reading(File::Projections, dir, CACHE_BYTES)?;
    connection.execute_batch("BEGIN").map_err(failed)?; // one snapshot for all that follows
    let mut print = Fingerprint::default();
    let channels: Vec<(i64, [u8; 16])> = connection
        .prepare("SELECT number, channel FROM channels ORDER BY channel")
        .and_then(|mut select| select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect())
        .map_err(failed)?;
    for (number, channel) in channels {
        fingerprint_channel(&mut connection, number, ChannelId::from_bytes(channel), &mut print)?;
    }
    let newest = reads::newest_id_day(&connection).map_err(failed)?.unwrap_or(0);
    let mut ids = connection
        .prepare(
            "SELECT id, sender, channels.channel, client_ids.seq, digest FROM client_ids
             JOIN channels ON channels.number = client_ids.channel WHERE day >= ?1 ORDER BY 1, 2, 3",
        )
        .map_err(failed)?;
    let mut rows = ids.query([first_day_kept(newest)]).map_err(failed)?;
    while let Some(row) = rows.next().map_err(failed)? {
        print.ids += 1;
        let id: ([u8; 16], [u8; 16], [u8; 16]) =
            row.get(0).and_then(|id| Ok((id, row.get(1)?, row.get(2)?))).map_err(failed)?;
        let (seq, digest): (i64, i64) = row.get(3).and_then(|seq| Ok((seq, row.get(4)?))).map_err(failed)?;
        print.add(&(id, KnownId { seq: ChannelSeq(seq as u64), digest: digest as u64 }));
    }
    Ok(print)
}

fn fingerprint_channel(
    connection: &mut Connection,
    number: i64,
    channel: ChannelId,
    print: &mut Fingerprint,
) -> Result<(), Failure> {
    let failed = |error| Failure::of_sqlite(File::Projections, error);
    let (kind, title, visibility, open): (i64, String, i64, bool) = connection
        .query_row("SELECT kind, title, history, open FROM channels WHERE number = ?1", [number], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })
        .map_err(failed)?;
    let (seq, ordinal, version, time): (i64, i64, i64, i64) = connection
        .query_row("SELECT seq, ordinal, members_version, last_time FROM channels WHERE number = ?1", [number], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })
        .map_err(failed)?;
    print.channels += 1;
    print.add(&(channel, channel_kind(kind)?, title, history(visibility)?, open, seq, ordinal, version, time));
    for stay in reads::stays(connection, channel, None)? {
        print.stays += 1;
        print.add(&stay);
    }
    let mut first = ChannelSeq(0);
    loop {
        let query = PageQuery { channel, first, last: ChannelSeq(u64::MAX), limit: PAGE_EVENTS, newest_first: false };
        let events = reads::page(connection, &query)?;
        let Some(last) = events.last() else { return Ok(()) };
        first = last.event.seq.next();
        for event in &events {
            print.events += 1;
            print.add(event);
        }
    }
}
