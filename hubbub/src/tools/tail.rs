//! `hubbub tail`: the records of a topic, as a data engineer would see them on Kafka.

use super::moment::read_utc;
use super::record_json::as_json;
use anyhow::{Context as _, Result, bail};
use domain::LogTime;
use eventlog::{AppendTime, LogOffset, SharedLog, StoredRecord, Topic, TopicPartition};
use futures_util::future::try_join_all;
use schemas::cloud_events::rfc3339;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

enum From {
    Start,
    End,
    Offset(LogOffset),
    Time(AppendTime),
}

fn read_from(text: &str) -> Result<From> {
    if let Ok(offset) = text.parse() {
        return Ok(From::Offset(LogOffset(offset)));
    }
    Ok(match (text, read_utc(text)) {
        ("start", _) => From::Start,
        ("end", _) => From::End,
        (_, Some(ms)) => From::Time(AppendTime(ms)),
        _ => bail!("--from {text}: start, end, an offset, or a time such as 2026-11-21T09:00:00Z is expected"),
    })
}

pub(super) async fn run(
    log: &SharedLog,
    topic: &str,
    from: &str,
    partition: Option<u32>,
    follow: bool,
    out: mpsc::Sender<String>,
) -> Result<()> {
    let from = read_from(from)?;
    let name = Topic::new(topic);
    let Some(found) = log.describe(&name).await? else {
        let known: Vec<&str> = schemas::topics::TABLE.iter().map(|row| row.name).collect();
        bail!("there is no topic {topic}; there are {}", known.join(", "));
    };
    let partitions = match partition {
        Some(partition) if partition >= found.partitions => {
            bail!("{topic} has partitions 0 to {}", found.partitions - 1)
        }
        Some(partition) => partition..partition + 1,
        None => 0..found.partitions,
    };
    try_join_all(partitions.map(|partition| one(log, name.partition(partition), &from, follow, &out))).await?;
    Ok(())
}

async fn one(log: &SharedLog, at: TopicPartition, from: &From, follow: bool, out: &mpsc::Sender<String>) -> Result<()> {
    let bounds = log.bounds(&at).await?;
    let first = match from {
        From::Start => bounds.start,
        From::End => bounds.end,
        From::Offset(offset) => (*offset).max(bounds.start),
        From::Time(time) => log.offset_at(&at, *time).await?,
    };
    let mut reader = log.read(&at, first).await.with_context(|| format!("reading {at}"))?;
    while follow || reader.position() < bounds.end {
        // Whoever asked may be gone while nothing happens.
        let batch = tokio::select! {
            biased;
            () = out.closed() => return Ok(()),
            batch = reader.next() => batch?,
        };
        for record in batch.iter().filter(|record| follow || record.offset < bounds.end) {
            if out.send(line(&at, record)).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// One record as a JSON object: its place, the headers it has on Kafka, and what it says.
fn line(at: &TopicPartition, stored: &StoredRecord) -> String {
    let record = &stored.record;
    let mut headers = Map::new();
    for header in &record.headers {
        headers.insert(text(&header.name), text(&header.value).into());
    }
    let topic = at.topic.as_str();
    let data = match &record.value {
        None => Value::Null,
        Some(value) => {
            // What no schema of ours fits still has a place and a size.
            for (name, said) in schemas::cloud_events::cloud_events(topic, value).unwrap_or_default() {
                headers.insert(name.to_owned(), said.into());
            }
            as_json(value).unwrap_or_else(|error| json!({"undecodable": format!("{error:#}"), "bytes": value.len()}))
        }
    };
    json!({
        "topic": topic,
        "partition": at.partition,
        "offset": stored.offset.0,
        "time": rfc3339(LogTime(stored.time.0)),
        "key": text(&record.key),
        "headers": headers,
        "data": data,
    })
    .to_string()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The same for people: place, time, key, what it says.
pub(crate) fn as_text(line: &str) -> Result<String> {
    let record: Value = serde_json::from_str(line)?;
    let said = |field: &str| record[field].as_str().unwrap_or_default().to_owned();
    Ok(format!(
        "{}/{}@{}  {}  {}  {}",
        said("topic"),
        record["partition"],
        record["offset"],
        said("time"),
        said("key"),
        record["data"]
    ))
}
