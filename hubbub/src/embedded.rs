//! The embedded log and store in a data directory, bound to the seams.

use crate::settings::Settings;
use anyhow::{Context as _, Result, bail};
use eventlog::{EventLog as _, SharedLog};
use eventlog_embedded::EmbeddedLog;
use runtime::SharedClock;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use store_embedded::EmbeddedStore;

/// The log's directory in the data directory.
pub(crate) const LOG: &str = "log";
/// The store's.
pub(crate) const STORE: &str = "store";

/// Log and store as they are held.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    log: Arc<EmbeddedLog>,
    pub(crate) store: Arc<EmbeddedStore>,
    directory: PathBuf,
}

/// Opens both, making what is not there.
pub(crate) async fn open(data: &Path, settings: &Settings, clock: &SharedClock) -> Result<Kept> {
    if settings.log.url != "embedded:" {
        bail!("log.url is {:?}: this version has only the embedded log (`embedded:`)", settings.log.url);
    }
    let (directory, clock) = (data.to_owned(), clock.clone());
    let opened = tokio::task::spawn_blocking(move || {
        let (log, report) = EmbeddedLog::open(&directory.join(LOG), eventlog_embedded::Options::new(clock))
            .context("opening the log")?;
        for torn in report.torn {
            tracing::warn!(
                file = %torn.file.display(),
                position = torn.position,
                bytes = torn.bytes,
                "dropped the end of a log file: nobody was told that it was kept"
            );
        }
        let store = EmbeddedStore::open(directory.join(STORE), &store_embedded::Options::default())
            .context("opening the store")?;
        Ok::<_, anyhow::Error>((Arc::new(log), Arc::new(store)))
    });
    let (log, store) = opened.await.context("opening log and store")??;
    Ok(Kept { log, store, directory: data.to_owned() })
}

impl Kept {
    /// The log, as roles hold it.
    pub(crate) fn log(&self) -> SharedLog {
        Arc::clone(&self.log) as SharedLog
    }

    /// The data directory.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) async fn backup_store(&self, to: PathBuf) -> Result<()> {
        let store = Arc::clone(&self.store);
        tokio::task::spawn_blocking(move || {
            std::fs::create_dir_all(&to)?;
            Ok(store.backup(to)?)
        })
        .await?
    }

    pub(crate) async fn backup_log(&self, to: PathBuf) -> Result<()> {
        let log = Arc::clone(&self.log);
        tokio::task::spawn_blocking(move || Ok(log.backup(&to)?)).await?
    }

    /// What was handed in is kept.
    pub(crate) async fn close(&self) -> Result<()> {
        Ok(self.log.flush().await?)
    }
}
