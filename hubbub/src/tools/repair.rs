//! Repair of a damaged log: cut to what is intact, nothing thrown away.

use crate::doctor::DATA_FORMAT;
use crate::embedded::{LOG, STORE};
use crate::generation;
use anyhow::{Context as _, Result};
use runtime::data_dir::DataDir;
use runtime::{Clock as _, SystemClock};
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// The folds of the log in the store's directory, with SQLite's companions of the file.
const FOLDS: [&str; 3] = ["projections.db", "projections.db-wal", "projections.db-shm"];

/// Cuts the log where it is damaged. If anything was cut, the folds are put aside too, since they may know more than the log now
/// does and are made anew from it, and the log gets a new generation, so that clients do not take new events for old ones.
pub(crate) fn repair(data: &Path) -> Result<Vec<String>> {
    let directory = DataDir::open(data, DATA_FORMAT)?;
    let options = eventlog_embedded::Options::new(Arc::new(SystemClock));
    let cuts = eventlog_embedded::repair(&directory.path().join(LOG), &options).context("repairing the log")?;
    if cuts.is_empty() {
        return Ok(vec!["the log is not damaged: nothing was changed".to_owned()]);
    }
    let mut told: Vec<String> = cuts
        .iter()
        .map(|cut| {
            format!(
                "cut {} at byte {}: {} bytes are in {}",
                cut.file.display(),
                cut.position,
                cut.bytes,
                cut.saved.display()
            )
        })
        .collect();
    let aside = data.join(format!("folds-before-repair-{}", SystemClock.now_ms() / 1_000));
    fs::create_dir(&aside).with_context(|| format!("making {}", aside.display()))?;
    for name in FOLDS {
        let from = data.join(STORE).join(name);
        if from.exists() {
            fs::rename(&from, aside.join(name)).with_context(|| format!("moving {}", from.display()))?;
        }
    }
    generation::raise(data, data, SystemClock.now_ms())?;
    told.push(format!("the store's folds are in {} and are made anew from the log at the next start", aside.display()));
    told.push("records behind the cut are gone from the log: if people were told that they are kept, restore a backup instead".to_owned());
    Ok(told)
}
