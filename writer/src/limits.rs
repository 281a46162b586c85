//! Limits of the writer.

use std::time::Duration;

/// Rows that wait while the previous batch is applied. At the limit the partition is not read further; the log waits.
pub const PENDING_ROWS_MAX: usize = 8_192;

/// Bytes of text in the rows that wait. At the limit the partition is not read further.
pub const PENDING_TEXT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The least time between the starts of two batches of a partition: at 1,736 messages/s a commit of few rows costs more than the
/// messages, and its sync competes with the log's. The first row after a pause is applied at once; under load
/// rows gather meanwhile, so that a transaction's cost is shared by many.
pub const APPLY_INTERVAL: Duration = Duration::from_millis(50);

/// The least time between two records of progress. Owners forget by it and a restart replays at most so much.
pub const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// How long the writer waits after the first failure of the store or log, and at most.
pub const RETRY_AFTER: Duration = Duration::from_millis(50);

/// See [`RETRY_AFTER`].
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(5);

/// How long a stop waits for the batch in hand and its progress. What is cut off is applied again by the next writer.
pub const STOP_WITHIN: Duration = Duration::from_secs(2);
