//! Errors of the log seam: a kind to branch on, a source to read.

use crate::record::Record;
use std::error::Error as StdError;

/// What went wrong with the log.
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
    /// There is no such topic or partition.
    UnknownTopic,
    /// The topic exists with other properties.
    Mismatch,
    /// A record is above the topic's limit.
    TooLarge,
    /// The partition is assigned to another member.
    NotAssigned,
    /// The storage is full. Heals when there is room again.
    Full,
    /// The log can't be reached or did not answer in time. The outcome of an append is unknown.
    Unavailable,
    /// The log is shutting down.
    Closed,
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

/// Why records were not enqueued; gives them back.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct AppendError {
    /// The records, untouched.
    pub records: Vec<Record>,
    /// Why. [`ErrorKind::Unavailable`] with a full queue: try again when earlier appends have resolved.
    #[source]
    pub error: Error,
}
