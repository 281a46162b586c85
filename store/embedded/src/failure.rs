//! What SQLite's errors mean to a caller, and what to do about them.

use rusqlite::ErrorCode;
use std::fmt;
use std::sync::Arc;
use store::{Error, ErrorKind};

/// One of the two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum File {
    /// Folds of the log.
    Projections,
    /// The only copy.
    Records,
}

impl File {
    pub(crate) const ALL: [Self; 2] = [Self::Projections, Self::Records];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Projections => "projections.db",
            Self::Records => "records.db",
        }
    }

    pub(crate) const fn cure(self) -> &'static str {
        match self {
            Self::Projections => "it can be rebuilt from the log: stop, move projections.db* away, and start again",
            Self::Records => "restore it from a backup: it is the only copy of accounts and sign-ins",
        }
    }
}

impl fmt::Display for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An error before it is told to those who wait; one failed transaction fails several calls.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    kind: ErrorKind,
    context: String,
    source: Option<Arc<rusqlite::Error>>,
}

impl Failure {
    pub(crate) fn new(kind: ErrorKind, context: impl Into<String>) -> Self {
        Self { kind, context: context.into(), source: None }
    }

    /// The file holds something this program did not write.
    pub(crate) fn damaged(file: File, what: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Damaged, format!("{file} is damaged ({what}); {}", file.cure()))
    }

    /// The store is closing.
    pub(crate) fn closed() -> Self {
        Self::new(ErrorKind::Unavailable, "the store is closing")
    }

    pub(crate) fn kind(&self) -> ErrorKind {
        self.kind
    }

    pub(crate) fn of_sqlite(file: File, error: rusqlite::Error) -> Self {
        let kind = kind_of(&error);
        let context = match kind {
            ErrorKind::Full => format!("no room to write {file}; it goes on when there is"),
            ErrorKind::Damaged => format!("{file} is damaged; {}", file.cure()),
            _ => format!("{file} did not answer"),
        };
        Self { kind, context, source: Some(Arc::new(error)) }
    }
}

fn kind_of(error: &rusqlite::Error) -> ErrorKind {
    use rusqlite::Error as E;
    match error {
        E::SqliteFailure(code, _) => match code.code {
            ErrorCode::DiskFull => ErrorKind::Full,
            // The shared-memory index could not grow, which only a full disk causes.
            _ if code.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE => ErrorKind::Full,
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => ErrorKind::Damaged,
            _ => ErrorKind::Unavailable,
        },
        E::FromSqlConversionFailure(..)
        | E::IntegralValueOutOfRange(..)
        | E::InvalidColumnType(..)
        | E::Utf8Error(..) => ErrorKind::Damaged,
        _ => ErrorKind::Unavailable,
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let error = Self::new(failure.kind, failure.context);
        match failure.source {
            Some(source) => error.with_source(source),
            None => error,
        }
    }
}
