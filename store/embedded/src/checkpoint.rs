//! Copying the write-ahead log back without making writes wait.
//!
//! The bulk is copied and synced by a thread of its own while the writer goes on. That never gets quite to the end, so the writer
//! copies the small rest between two transactions; with everything copied, the next transaction starts the log file again.

use crate::failure::File;
use crate::limits::{
    COPIES_IN_A_ROW_MAX, ROWS_BETWEEN_WAL_LOOKS, WAL_PAGES_BEFORE_CHECKPOINT, WAL_PAGES_BY_WRITER_MAX,
};
use rusqlite::Connection;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// The writer's hold on the checkpoints of its file.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    rows: usize,
    copied_in_a_row: u32,
    copying: Arc<AtomicBool>,
    /// `None` only while it is dropped.
    wishes: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Pages in the write-ahead log, and how many of them are copied back.
struct WalState {
    pages: u64,
    copied: u64,
}

impl Checkpoints {
    /// Starts the thread. `connection` is its own; `handle` is the file, to sync it. Closing a handle drops SQLite's locks on the
    /// file, so the caller keeps this one open until the last connection is closed.
    pub(crate) fn start(file: File, connection: Connection, handle: Arc<std::fs::File>) -> std::io::Result<Self> {
        let (wishes, wished) = sync_channel(1);
        let copying = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&copying);
        let thread = std::thread::Builder::new()
            .name(format!("store-{}-wal", file.name().trim_end_matches(".db")))
            .spawn(move || copy_when_wished(file, &connection, &handle, &flag, &wished))?;
        Ok(Self { rows: 0, copied_in_a_row: 0, copying, wishes: Some(wishes), thread: Some(thread) })
    }

    /// Looks after the write-ahead log once in a while.
    pub(crate) fn after_rows(&mut self, connection: &Connection, rows: usize) {
        self.rows += rows;
        if self.rows < ROWS_BETWEEN_WAL_LOOKS || self.copying.load(Ordering::Acquire) {
            return;
        }
        self.rows = 0;
        let Ok(wal) = checkpoint(connection, "NOOP") else { return };
        let left = wal.pages.saturating_sub(wal.copied);
        if wal.pages < WAL_PAGES_BEFORE_CHECKPOINT || left == 0 {
            return;
        }
        // Under full load the thread never gets close; then the writer waits for a few thousand pages, or the file would grow on.
        if left <= WAL_PAGES_BY_WRITER_MAX || self.copied_in_a_row >= COPIES_IN_A_ROW_MAX {
            self.copied_in_a_row = 0;
            if let Err(error) = checkpoint(connection, "PASSIVE") {
                tracing::warn!(%error, "copying the end of the write-ahead log failed, tried again later");
            }
        } else {
            self.copied_in_a_row += 1;
            self.copying.store(true, Ordering::Release);
            // The channel holds one wish and the thread is idle, so this neither blocks nor fails.
            let _ = self.wishes.as_ref().map(|wishes| wishes.try_send(()));
        }
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        self.wishes = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported by the panic hook.
            let _ = thread.join();
        }
    }
}

fn copy_when_wished(
    file: File,
    connection: &Connection,
    handle: &std::fs::File,
    copying: &AtomicBool,
    wished: &Receiver<()>,
) {
    while wished.recv().is_ok() {
        if let Err(error) = checkpoint(connection, "PASSIVE") {
            tracing::warn!(file = file.name(), %error, "copying the write-ahead log failed, tried again later");
        } else if let Err(error) = handle.sync_data() {
            // SQLite syncs before the log file starts again; here it is only done ahead of that, off the writer's thread.
            tracing::warn!(file = file.name(), %error, "syncing the database failed, done again by the writer");
        }
        copying.store(false, Ordering::Release);
    }
}

fn checkpoint(connection: &Connection, mode: &str) -> rusqlite::Result<WalState> {
    connection.prepare_cached(&format!("PRAGMA wal_checkpoint({mode})"))?.query_row([], |row| {
        let pages: i64 = row.get(1)?;
        let copied: i64 = row.get(2)?;
        Ok(WalState { pages: pages.max(0) as u64, copied: copied.max(0) as u64 })
    })
}
