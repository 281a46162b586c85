//! The data directory: one process at a time, and one version of what is in it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

const LOCK: &str = "lock";
const VERSION: &str = "format";

/// A directory that this process alone uses, until this value goes.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    // The lock is the open file's: the kernel drops it with the process, however that ends.
    _lock: File,
}

/// Why a directory can't be used. Each is one sentence that names the directory.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process has it.
    #[error("{} is in use by process {}", path.display(), holder.map_or_else(|| "(unknown)".to_owned(), |pid| pid.to_string()))]
    InUse {
        /// Which directory.
        path: PathBuf,
        /// Whose process id.
        holder: Option<u32>,
    },
    /// It was written by a program that knows more.
    #[error("{} has data of format {found}; this program reads up to format {known}: use a newer one", path.display())]
    TooNew {
        /// Which directory.
        path: PathBuf,
        /// What it has.
        found: u32,
        /// What is known.
        known: u32,
    },
    /// Its version is not a number.
    #[error("{} does not hold a format version: this is no data directory, or it is damaged", path.display())]
    NoVersion {
        /// Which file.
        path: PathBuf,
    },
    /// The file system said no.
    #[error("can't use {}: {source}", path.display())]
    Io {
        /// Which file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl DataDir {
    /// Makes the directory if there is none (for the owner only), locks it, and checks that its format is at most `format`;
    /// a new one gets it.
    pub fn open(path: &Path, format: u32) -> Result<Self, Error> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::Io { path, source }
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed(path))?;
        let lock_path = path.join(LOCK);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut lock = options.open(&lock_path).map_err(failed(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                lock.read_to_string(&mut holder).ok();
                return Err(Error::InUse { path: path.to_owned(), holder: holder.trim().parse().ok() });
            }
            Err(TryLockError::Error(source)) => return Err(failed(&lock_path)(source)),
        }
        lock.set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| writeln!(lock, "{}", std::process::id()))
            .map_err(failed(&lock_path))?;
        check_version(path, format)?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn check_version(directory: &Path, known: u32) -> Result<(), Error> {
    let path = directory.join(VERSION);
    match fs::read_to_string(&path) {
        Ok(text) => {
            let found = text.trim().parse().map_err(|_| Error::NoVersion { path: path.clone() })?;
            if found > known {
                return Err(Error::TooNew { path: directory.to_owned(), found, known });
            }
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            write_new(&path, format!("{known}\n").as_bytes()).map_err(|source| Error::Io { path, source })
        }
        Err(source) => Err(Error::Io { path, source }),
    }
}

/// Writes a file for the owner only, so that after a power cut it is there whole or not at all. Replaces what was there.
pub fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_refused_with_the_directory_and_the_holders_process() {
        let home = tempfile::tempdir().expect("a temporary directory can be made");
        let path = home.path().join("data");
        let first = DataDir::open(&path, 1).expect("it is free");
        let said = DataDir::open(&path, 1).expect_err("it is held").to_string();
        assert_eq!(said, format!("{} is in use by process {}", path.display(), std::process::id()));
        drop(first);
        DataDir::open(&path, 1).expect("it is free again");
    }

    #[test]
    fn a_directory_of_a_newer_format_is_refused_and_left_alone() {
        let home = tempfile::tempdir().expect("a temporary directory can be made");
        drop(DataDir::open(home.path(), 7).expect("it is new"));
        let error = DataDir::open(home.path(), 6).expect_err("7 is not known");
        assert!(matches!(error, Error::TooNew { found: 7, known: 6, .. }), "{error}");
        drop(DataDir::open(home.path(), 7).expect("it is as it was"));
    }
}
