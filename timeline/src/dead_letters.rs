//! `chat.dead-letters`: what could not be processed, whole, with its cause (POISON).

use bytes::Bytes;
use eventlog::{Error, Header, Record, SharedLog, StoredRecord, Topic, TopicPartition};

/// Puts a record that can't be processed aside, durably. May repeat after a crash: readers dedupe by the identity in the headers
/// (`dlq.topic`, `dlq.partition`, `dlq.offset`).
pub async fn put_aside(
    log: &SharedLog,
    source: &TopicPartition,
    stored: &StoredRecord,
    cause: &str,
    attempts: u32,
) -> Result<(), Error> {
    let mut headers = stored.record.headers.clone();
    let mut add = |name: &'static str, value: String| {
        headers.push(Header { name: Bytes::from_static(name.as_bytes()), value: Bytes::from(value) });
    };
    add("dlq.topic", source.topic.to_string());
    add("dlq.partition", source.partition.to_string());
    add("dlq.offset", stored.offset.to_string());
    add("dlq.time", stored.time.0.to_string());
    add("dlq.error", cause.to_owned());
    add("dlq.attempts", attempts.to_string());
    let record = Record {
        key: stored.record.key.clone(),
        value: Some(stored.record.value.clone().unwrap_or_default()),
        headers,
    };
    tracing::warn!(%source, offset = %stored.offset, cause, "record put aside to the dead letters");
    metrics::counter!("hubbub_dead_letters_total", "topic" => source.topic.to_string()).increment(1);
    let dead_letters = Topic::new(schemas::topics::DEAD_LETTERS).partition(0);
    log.append(&dead_letters, vec![record]).map_err(|refused| refused.error)?.await?;
    Ok(())
}
