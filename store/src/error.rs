//! Errors of the state seam.

use std::error::Error as StdError;

/// What went wrong with the store.
#[derive(Debug, thiserror::Error)]
#[error("{context}")]
pub struct Error {
    kind: ErrorKind,
    context: String,
    #[source]
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The kinds of error that callers tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// A unique name is taken.
    Exists,
    /// The row to change is not there.
    NotFound,
    /// The storage is full. Heals when there is room again.
    Full,
    /// The store can't be reached or did not answer in time; a write may have happened.
    Unavailable,
    /// What is kept is damaged or of a version this program does not read. A person must look.
    Damaged,
}

impl Error {
    /// An error of a kind; `context` says what was tried, where.
    pub fn new(kind: ErrorKind, context: impl Into<String>) -> Self {
        Self { kind, context: context.into(), source: None }
    }

    /// The same, with what caused it.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What to branch on.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether the same call may succeed later without anybody's doing.
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind, ErrorKind::Full | ErrorKind::Unavailable)
    }
}
