//! `chat.sessions`: tells the fanout which connections are open. Closed = tombstone; so are those that an earlier life of this
//! process left open.

use crate::hub::Hub;
use domain::{LogTime, SessionId, UserId};
use eventlog::{AppendError, Error, Record, SharedLog, Topic, TopicPartition};
use runtime::Shutdown;
use schemas::records::{SessionRecord, encode_session, parse_session_key, session_key};
use std::collections::BTreeSet;
use std::sync::PoisonError;
use timeline::Process;

/// The session of a connection under the current epoch.
pub(crate) fn session_of(hub: &Hub, user: UserId, session: SessionId, connection: u64) -> SessionRecord {
    let process = hub.process();
    SessionRecord {
        user,
        session,
        process: process.id().into(),
        process_epoch: process.epoch(),
        connection,
        opened: LogTime(process.server_time().now_ms()),
    }
}

/// Makes an open session known. When it returns, the session is durable.
pub(crate) async fn open(hub: &Hub, session: &SessionRecord) -> Result<(), Error> {
    let record = Record::new(session_key(session), encode_session(session));
    hub.deps.log.append(&partition(hub, session.user), vec![record]).map_err(|refused| refused.error)?.await?;
    Ok(())
}

/// Makes the end of a session known, without waiting. What the log does not take now, the sweeper writes later.
pub(crate) fn close(hub: &Hub, session: &SessionRecord) {
    let record = Record::tombstone(session_key(session));
    if let Err(AppendError { records, error }) = append(hub, session.user, record) {
        tracing::debug!(%error, "tombstone of a session waits");
        hub.unwritten.lock().unwrap_or_else(PoisonError::into_inner).extend(records);
    }
}

/// Writes tombstones that waited.
pub(crate) fn write_waiting(hub: &Hub) {
    let waiting = std::mem::take(&mut *hub.unwritten.lock().unwrap_or_else(PoisonError::into_inner));
    for record in waiting {
        let Some((user, ..)) = parse_session_key(&record.key) else { continue };
        if let Err(refused) = append(hub, user, record) {
            hub.unwritten.lock().unwrap_or_else(PoisonError::into_inner).extend(refused.records);
        }
    }
}

fn append(hub: &Hub, user: UserId, record: Record) -> Result<(), AppendError> {
    // A tombstone that gets lost is made good by the lease: a later epoch of this process writes it again at its start.
    drop(hub.deps.log.append(&partition(hub, user), vec![record])?);
    Ok(())
}

fn partition(hub: &Hub, user: UserId) -> TopicPartition {
    Topic::new(schemas::topics::SESSIONS).partition(u32::from(hub.config.topology.partition_of_id(&user.0).0))
}

/// Ends the sessions that earlier lives of this process left open: their sockets died with it.
pub(crate) async fn close_left_open(
    log: &SharedLog,
    hub: &Hub,
    process: &Process,
    shutdown: &Shutdown,
) -> Result<(), Error> {
    for partition in hub.config.topology.partitions_of(schemas::topics::SESSIONS) {
        let bounds = log.bounds(&partition).await?;
        let mut reader = log.read(&partition, bounds.start).await?;
        let mut left_open = BTreeSet::new();
        while reader.position() < bounds.end {
            let Some(batch) = shutdown.or_until(reader.next()).await else { return Ok(()) };
            for stored in batch?.iter() {
                let key = &stored.record.key;
                let ours = parse_session_key(key)
                    .is_some_and(|(_, _, id, epoch, _)| *id == *process.id() && epoch < process.epoch());
                if ours && stored.record.value.is_some() {
                    left_open.insert(key.clone());
                } else {
                    left_open.remove(key);
                }
            }
        }
        if left_open.is_empty() {
            continue;
        }
        tracing::info!(%partition, sessions = left_open.len(), "closing sessions that an earlier life left open");
        let tombstones = left_open.into_iter().map(Record::tombstone).collect();
        log.append(&partition, tombstones).map_err(|refused| refused.error)?.await?;
    }
    Ok(())
}
