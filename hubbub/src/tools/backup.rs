//! `hubbub backup` and `hubbub restore`: log and store, consistent with each other.
//!
//! The store is copied first and the log afterwards: what the log has beyond the store's progress, the writer fills in at the
//! next start; the other way round the store would know of events that the log lost.

use crate::doctor::DATA_FORMAT;
use crate::embedded::{Kept, LOG, STORE};
use crate::generation;
use crate::signing_key;
use anyhow::{Context as _, Result, bail};
use runtime::data_dir::{self, DataDir};
use runtime::{Clock as _, SystemClock};
use std::fs;
use std::path::Path;
use tokio::sync::mpsc;

/// Copies everything into a directory that does not exist yet or is empty.
pub(super) async fn run(kept: &Kept, to: &Path, out: mpsc::Sender<String>) -> Result<()> {
    anyhow::ensure!(to.is_absolute(), "{}: an absolute path is expected", to.display());
    // The lock of the new directory is ours until all is there, so that nobody restores a half.
    if fs::read_dir(to).is_ok_and(|mut entries| entries.next().is_some()) {
        bail!("{} is not empty", to.display());
    }
    let target = DataDir::open(to, DATA_FORMAT)?;
    kept.backup_store(target.path().join(STORE)).await.context("copying the store")?;
    out.send(format!("store copied to {}", to.join(STORE).display())).await.ok();
    kept.backup_log(target.path().join(LOG)).await.context("copying the log")?;
    out.send(format!("log copied to {}", to.join(LOG).display())).await.ok();
    for file in [signing_key::FILE, generation::FILE] {
        match fs::read(kept.directory().join(file)) {
            Ok(content) => data_dir::write_new(&to.join(file), &content).with_context(|| format!("copying {file}"))?,
            // A configured key is not kept there.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("reading {file}")),
        }
    }
    out.send(format!("done; it comes back with: hubbub restore {}", to.display())).await.ok();
    Ok(())
}

/// Makes a data directory of a backup. The log gets a new generation: clients that saw more than the backup holds must not
/// take what comes next for what they saw.
pub(crate) fn restore(from: &Path, to: &Path) -> Result<()> {
    if !from.join(STORE).is_dir() || !from.join(LOG).is_dir() {
        bail!("{} is no backup: {STORE}/ and {LOG}/ are expected in it", from.display());
    }
    if fs::read_dir(to).is_ok_and(|mut entries| entries.next().is_some()) {
        bail!("{} is not empty: move it away first", to.display());
    }
    let source = DataDir::open(from, DATA_FORMAT)?;
    let target = DataDir::open(to, DATA_FORMAT)?;
    for part in [STORE, LOG] {
        copy(&source.path().join(part), &target.path().join(part)).with_context(|| format!("copying {part}/"))?;
    }
    if let Ok(key) = fs::read(from.join(signing_key::FILE)) {
        data_dir::write_new(&to.join(signing_key::FILE), &key).context("copying the signing key")?;
    }
    generation::raise(from, to, SystemClock.now_ms())
}

/// A directory with all in it, synced.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
            fs::File::open(&target)?.sync_all()?;
        }
    }
    fs::File::open(to)?.sync_all()
}
