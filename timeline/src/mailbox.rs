//! The own topic of a process that sends commands and waits: `chat.gateway.<process>`, its lease and its epoch.
//!
//! ```text
//!   open: create topic → know the position → epoch + 1 → heartbeat durable ⇒ routable
//!   doubt (a lease missed, records skipped) ⇒ epoch + 1, `NewEpoch` to the reader, deliveries of older epochs dropped
//! ```

use crate::limits::{HEARTBEAT_INTERVAL, LEASE};
use crate::server_time::ServerTime;
use crate::topics::{Topology, process_topic, process_topic_spec};
use bytes::Bytes;
use eventlog::{
    Error, ErrorKind, LogOffset, PartitionReader, Record, SharedLog, Topic, TopicPartition, partition_for_key,
};
use runtime::{SharedClock, Shutdown, Tasks};
use schemas::records::{Delivery, GatewayRecord, decode_delivery, decode_gateway, encode_gateway};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

/// What a process says of itself.
#[derive(Clone, Debug)]
pub struct ProcessConfig {
    /// Its name: lower-case letters, digits and dashes, at most 64 bytes. Stable over restarts, or it leaves a topic behind.
    pub id: Box<str>,
    /// Where clients reach it; empty for a process without sockets.
    pub url: String,
    /// Its region; empty if none.
    pub region: String,
    /// The most connections it takes.
    pub capacity: u32,
}

/// A process that others can send to. Shared by its reader and whoever opens connections.
#[derive(Debug)]
pub struct Process {
    config: ProcessConfig,
    epoch: AtomicU64,
    delivered: AtomicU64,
    connections: AtomicU32,
    server_time: ServerTime,
}

impl Process {
    /// Its name.
    pub fn id(&self) -> &str {
        &self.config.id
    }

    /// The current epoch: goes into every session record.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Log time, learnt from the own heartbeats.
    pub fn server_time(&self) -> &ServerTime {
        &self.server_time
    }

    /// All deliveries below this offset are in the hands of sockets or answered. Told with the next heartbeat.
    pub fn set_delivered(&self, below: LogOffset) {
        self.delivered.fetch_max(below.0, Ordering::AcqRel);
    }

    /// How many connections there are. Told with the next heartbeat.
    pub fn set_connections(&self, connections: u32) {
        self.connections.store(connections, Ordering::Release);
    }

    fn heartbeat(&self) -> Record {
        let record = GatewayRecord {
            process: self.config.id.clone(),
            epoch: self.epoch(),
            url: self.config.url.clone(),
            region: self.config.region.clone(),
            capacity: self.config.capacity,
            connections: self.connections.load(Ordering::Acquire),
            delivered_offset: self.delivered.load(Ordering::Acquire),
        };
        Record::new(Bytes::copy_from_slice(self.config.id.as_bytes()), encode_gateway(&record))
    }
}

/// The reader of a process's own topic.
#[derive(Debug)]
pub struct Mailbox {
    process: Arc<Process>,
    reader: Box<dyn PartitionReader>,
    expected: LogOffset,
    epochs: watch::Receiver<u64>,
    epoch_sender: Arc<watch::Sender<u64>>,
}

/// What the reader of a mailbox gets.
#[derive(Debug)]
pub enum MailboxEvent {
    /// Deliveries of the current epoch, with their offsets, and the offset after everything read so far.
    Deliveries {
        /// In order.
        deliveries: Vec<(LogOffset, Delivery)>,
        /// Tell it to [`Process::set_delivered`] when all of them are in the hands of sockets.
        end: LogOffset,
    },
    /// Deliveries may have been missed: every connection must catch up again.
    NewEpoch,
}

impl Mailbox {
    /// Makes the process routable. The heartbeats run in `tasks` until the shutdown.
    pub async fn open(
        log: &SharedLog,
        topology: Topology,
        config: ProcessConfig,
        clock: SharedClock,
        tasks: &Tasks,
        shutdown: Shutdown,
    ) -> Result<Self, Error> {
        log.create_topic(&process_topic_spec(&config.id, topology)).await?;
        let topic = process_topic(&config.id).partition(0);
        let position = log.bounds(&topic).await?.end;
        let reader = log.read(&topic, position).await?;

        let heartbeats = heartbeat_partition(log, &config.id).await?;
        let epoch = last_epoch(log, &heartbeats, &config.id).await? + 1;
        let process = Arc::new(Process {
            config,
            epoch: AtomicU64::new(epoch),
            delivered: AtomicU64::new(position.0),
            connections: AtomicU32::new(0),
            server_time: ServerTime::new(clock.clone()),
        });
        beat(log, &heartbeats, &process, &clock).await?;

        let (epoch_sender, epochs) = watch::channel(epoch);
        let epoch_sender = Arc::new(epoch_sender);
        tasks.spawn(keep_lease(
            log.clone(),
            heartbeats,
            Arc::clone(&process),
            clock,
            Arc::clone(&epoch_sender),
            shutdown,
        ));
        Ok(Self { process, reader, expected: position, epochs, epoch_sender })
    }

    /// Who this is.
    pub fn process(&self) -> &Arc<Process> {
        &self.process
    }

    /// What comes next; waits for it. Cancel-safe. A record that is no delivery is passed over with a warning: the topic is this
    /// process's own and short-lived, and what a client misses by it the digest reveals (TAIL).
    pub async fn next(&mut self) -> Result<MailboxEvent, Error> {
        let batch = tokio::select! {
            biased;
            changed = self.epochs.changed() => {
                debug_assert!(changed.is_ok(), "the sender lives as long as self");
                return Ok(MailboxEvent::NewEpoch);
            }
            batch = self.reader.next() => batch?,
        };
        let skipped = batch[0].offset > self.expected;
        self.expected = batch[batch.len() - 1].offset.next();
        if skipped {
            tracing::warn!(process = self.process.id(), "deliveries were dropped before they were read");
            raise_epoch(&self.process, &self.epoch_sender);
        }
        let epoch = self.process.epoch();
        let mut deliveries = Vec::with_capacity(batch.len());
        for stored in batch.iter() {
            match decode_delivery(stored.record.value.as_ref().unwrap_or(&Bytes::new())) {
                Ok(delivery) if epoch_of(&delivery) == epoch => deliveries.push((stored.offset, delivery)),
                Ok(_) => metrics::counter!("hubbub_deliveries_of_another_epoch_total").increment(1),
                Err(error) => {
                    tracing::warn!(process = self.process.id(), offset = %stored.offset, %error, "no delivery, passed over")
                }
            }
        }
        Ok(MailboxEvent::Deliveries { deliveries, end: self.expected })
    }
}

fn epoch_of(delivery: &Delivery) -> u64 {
    match delivery {
        Delivery::Outcome { process_epoch, .. } | Delivery::Signal { process_epoch, .. } => *process_epoch,
    }
}

fn raise_epoch(process: &Process, sender: &watch::Sender<u64>) {
    let epoch = process.epoch.fetch_add(1, Ordering::AcqRel) + 1;
    sender.send_replace(epoch);
    tracing::warn!(process = process.id(), epoch, "new epoch: every connection must catch up");
}

async fn keep_lease(
    log: SharedLog,
    heartbeats: TopicPartition,
    process: Arc<Process>,
    clock: SharedClock,
    epochs: Arc<watch::Sender<u64>>,
    shutdown: Shutdown,
) {
    let mut ticks = tokio::time::interval(HEARTBEAT_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = Instant::now();
    while shutdown.or_until(ticks.tick()).await.is_some() {
        match shutdown.or_until(tokio::time::timeout(LEASE, beat(&log, &heartbeats, &process, &clock))).await {
            None => return,
            Some(Ok(Ok(()))) => {}
            Some(Ok(Err(error))) => {
                tracing::warn!(process = process.id(), %error, "heartbeat not taken");
                continue;
            }
            Some(Err(_)) => {
                tracing::warn!(process = process.id(), "heartbeat not acknowledged within the lease");
                continue;
            }
        }
        if last.elapsed() > LEASE {
            raise_epoch(&process, &epochs);
        }
        last = Instant::now();
    }
}

async fn beat(
    log: &SharedLog,
    heartbeats: &TopicPartition,
    process: &Process,
    clock: &SharedClock,
) -> Result<(), Error> {
    let sent = clock.now_ms();
    let appended = log.append(heartbeats, vec![process.heartbeat()]).map_err(|refused| refused.error)?.await?;
    process.server_time.learn(sent, appended.time.0, clock.now_ms());
    Ok(())
}

async fn heartbeat_partition(log: &SharedLog, process: &str) -> Result<TopicPartition, Error> {
    let topic = Topic::new(schemas::topics::GATEWAYS);
    let description = log.describe(&topic).await?.ok_or_else(|| {
        Error::new(ErrorKind::UnknownTopic, format!("{topic} does not exist: create the topics first"))
    })?;
    Ok(topic.partition(partition_for_key(process.as_bytes(), description.partitions)))
}

/// The highest epoch that the process ever said; 0 if it is new.
async fn last_epoch(log: &SharedLog, heartbeats: &TopicPartition, process: &str) -> Result<u64, Error> {
    let bounds = log.bounds(heartbeats).await?;
    let mut epoch = 0;
    let mut reader = log.read(heartbeats, bounds.start).await?;
    while reader.position() < bounds.end {
        for stored in reader.next().await?.iter() {
            if stored.record.key.as_ref() == process.as_bytes()
                && let Some(value) = &stored.record.value
                && let Ok(record) = decode_gateway(value)
            {
                epoch = epoch.max(record.epoch);
            }
        }
    }
    Ok(epoch)
}
