//! The two files: their tables, versions and settings.
//!
//! `messages` is clustered by one integer, the channel's number and the seq: SQLite's fastest key (no record
//! comparison), and an event touches the one page at its channel's end while a page of history is one seek and a run of
//! neighbours. A second index would dirty a second page an event, and each dirty page is 4 KiB of write-ahead log.
//!
//! `client_ids` is clustered by the day of T and the id, a UUIDv7 in server time: new ones go to the end of the table,
//! whatever their channel, so a batch dirties few pages; a day's expiry is a range at the front. A look-up asks each day from the
//! id's own on, mostly one or two.

use crate::failure::{Failure, File};
use crate::limits::{BUSY_TIMEOUT_MS, WAL_FILE_BYTES_KEPT};
use rusqlite::{Connection, OpenFlags};
use std::path::Path;
use std::time::Duration;

/// Marks a file as ours ("hbub").
const APPLICATION_ID: i64 = 0x6862_7562;

/// Step n brings a file from version n to n + 1. Steps are never changed once released.
const PROJECTIONS: &[&str] = &["
    CREATE TABLE channels (                -- heads: one row a channel that has an event
        number          INTEGER PRIMARY KEY,
        channel         BLOB NOT NULL UNIQUE,
        kind            INTEGER NOT NULL,
        title           TEXT NOT NULL,
        history         INTEGER NOT NULL,
        open            INTEGER NOT NULL,
        seq             INTEGER NOT NULL,
        ordinal         INTEGER NOT NULL,
        members_version INTEGER NOT NULL,
        last_time       INTEGER NOT NULL   -- T of the last event, ms since the Unix epoch
    ) STRICT;
    CREATE TABLE messages (                -- every timeline event
        key             INTEGER PRIMARY KEY, -- the channel's number << 32 | seq
        message_id      INTEGER NOT NULL,
        ordinal         INTEGER NOT NULL,
        members_version INTEGER NOT NULL,
        offset          INTEGER NOT NULL,
        time            INTEGER NOT NULL,
        sender          BLOB NOT NULL,
        client_msg_id   BLOB NOT NULL,
        kind            INTEGER NOT NULL,
        text            TEXT,              -- of a person's message
        data            BLOB               -- of every other kind
    ) STRICT;
    CREATE TABLE members (                 -- one row a stay
        channel INTEGER NOT NULL,
        user    BLOB NOT NULL,
        joined  INTEGER NOT NULL,
        left    INTEGER,
        role    INTEGER NOT NULL,
        since   INTEGER NOT NULL,          -- seq of the last change of this stay
        PRIMARY KEY (channel, user, joined)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX channels_by_user ON members (user, channel, joined, left);
    CREATE TABLE client_ids (              -- what answers retries
        day     INTEGER NOT NULL,          -- of T, since the Unix epoch
        id      BLOB NOT NULL,
        sender  BLOB NOT NULL,
        channel INTEGER NOT NULL,
        seq     INTEGER NOT NULL,
        digest  INTEGER NOT NULL,
        PRIMARY KEY (day, id, sender, channel)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE writer_progress (         -- the trail of cursors
        partition INTEGER NOT NULL,
        offset    INTEGER NOT NULL,
        cursor    BLOB NOT NULL,
        PRIMARY KEY (partition, offset)
    ) STRICT, WITHOUT ROWID;
"];

/// As above.
const RECORDS: &[&str] = &["
    CREATE TABLE users (
        user         BLOB PRIMARY KEY NOT NULL,
        username     TEXT NOT NULL,
        display_name TEXT NOT NULL,
        created_ms   INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE UNIQUE INDEX users_by_name ON users (username);
    CREATE TABLE credentials (
        user          BLOB PRIMARY KEY NOT NULL,
        password_hash TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE sign_ins (
        id         BLOB PRIMARY KEY NOT NULL,
        user       BLOB NOT NULL,
        created_ms INTEGER NOT NULL,
        revoked_ms INTEGER
    ) STRICT, WITHOUT ROWID;
"];

const fn steps(file: File) -> &'static [&'static str] {
    match file {
        File::Projections => PROJECTIONS,
        File::Records => RECORDS,
    }
}

/// Creates the file or brings it to this program's version, and returns the connection that writes it.
pub(crate) fn open_for_writing(file: File, dir: &Path, cache_bytes: usize) -> Result<Connection, Failure> {
    let failed = |error| Failure::of_sqlite(file, error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(dir.join(file.name()), flags).map_err(failed)?;
    configure(&connection, cache_bytes).map_err(failed)?;
    refuse_foreign(file, &connection)?;
    // Projections: a power cut rolls back to an earlier transaction, rows and progress together, and the log fills the rest.
    // Records: each transaction is on the disk before its calls return.
    let synchronous = match file {
        File::Projections => "NORMAL",
        File::Records => "FULL",
    };
    connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
    connection.pragma_update(None, "synchronous", synchronous).map_err(failed)?;
    connection.pragma_update(None, "journal_size_limit", WAL_FILE_BYTES_KEPT as i64).map_err(failed)?;
    migrate(file, &mut connection)?;
    Ok(connection)
}

/// A connection that only reads.
pub(crate) fn open_for_reading(file: File, dir: &Path, cache_bytes: usize) -> Result<Connection, Failure> {
    let failed = |error| Failure::of_sqlite(file, error);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(dir.join(file.name()), flags).map_err(failed)?;
    configure(&connection, cache_bytes).map_err(failed)?;
    Ok(connection)
}

fn configure(connection: &Connection, cache_bytes: usize) -> rusqlite::Result<()> {
    connection.busy_timeout(Duration::from_millis(BUSY_TIMEOUT_MS))?;
    connection.set_prepared_statement_cache_capacity(64);
    // Negative: KiB. No mmap: mapped pages count as resident, and memory must not follow history.
    connection.pragma_update(None, "cache_size", -((cache_bytes / 1024) as i64))?;
    connection.pragma_update(None, "mmap_size", 0)?;
    connection.pragma_update(None, "temp_store", "MEMORY")
}

/// Refuses a file of another program or of a newer version of this one.
fn refuse_foreign(file: File, connection: &Connection) -> Result<(), Failure> {
    let failed = |error| Failure::of_sqlite(file, error);
    let version = version(connection).map_err(failed)?;
    let application: i64 = connection.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(failed)?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(failed)?;
    if tables > 0 && application != APPLICATION_ID {
        return Err(Failure::damaged(file, "another program's database"));
    }
    let newest = steps(file).len();
    if version > newest as i64 {
        let text = format!(
            "{file} has schema version {version}, this program reads up to {newest}: start the newer program that wrote it"
        );
        return Err(Failure::new(store::ErrorKind::Damaged, text));
    }
    Ok(())
}

fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

fn migrate(file: File, connection: &mut Connection) -> Result<(), Failure> {
    let failed = |error| Failure::of_sqlite(file, error);
    let from = version(connection).map_err(failed)?.max(0) as usize;
    for (step, sql) in steps(file).iter().enumerate().skip(from) {
        let tx = connection.transaction().map_err(failed)?;
        tx.execute_batch(sql).map_err(failed)?;
        tx.pragma_update(None, "application_id", APPLICATION_ID).map_err(failed)?;
        tx.pragma_update(None, "user_version", step as i64 + 1).map_err(failed)?;
        tx.commit().map_err(failed)?;
        tracing::info!(file = file.name(), version = step + 1, "store file brought to a schema version");
    }
    Ok(())
}
