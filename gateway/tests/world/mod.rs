//! A gateway with everything around it played by the test: log, store, sequencer, fanout, clients.
#![allow(unreachable_pub, reason = "a module of a test")]

use bytes::Bytes;
use domain::command::{ChannelKind, HistoryVisibility, Role};
use domain::event::RejectCause;
use domain::{
    Answer, ChannelId, ChannelSeq, ClientMsgId, Command, CommandPosition, Epoch, Event, EventKind, LogTime, MessageId,
    Ordinal, Outcome, OwnerSeq, ReplyAddress, TimelineRecord, UserId, Verdict,
};
use eventlog::{
    Append, AppendError, AppendTime, Appended, Bounds, Error, EventLog, LogOffset, Membership, PartitionReader, Record,
    RecordBatch, SharedLog, StoredRecord, Topic, TopicDescription, TopicPartition, TopicSpec,
};
use futures_util::future::BoxFuture;
use futures_util::{SinkExt, StreamExt};
use gateway::{Config, Deps, Gateway};
use runtime::access_tokens::{Signer, generate_pkcs8};
use runtime::{Clock, Entropy, Shutdown, Tasks};
use schemas::error_codes::Code;
use schemas::frames::{ClientFrame, CursorFrame, EventFrame, ServerFrame};
use schemas::records::{Delivery, decode_command, encode_delivery, encode_timeline, parse_session_key};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use store::{ChannelSummary, MemberRow, MembershipRow, Memberships, Page, PageQuery, StoredEvent, Timelines};
use timeline::{ProcessConfig, Topology};
use tokio::io::DuplexStream;
use tokio::sync::{Notify, Semaphore};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Message, Role as WsRole};

pub const PROCESS: &str = "gateway-1";
pub const TOPOLOGY: Topology = Topology { partitions: 1 };
pub const ANN: UserId = UserId::from_bytes([0xa; 16]);
pub const BOB: UserId = UserId::from_bytes([0xb; 16]);
pub const ROOM: ChannelId = ChannelId::from_bytes([0xc; 16]);

/// Wall-clock time that follows tokio's, paused or not.
#[derive(Debug)]
struct TestClock(tokio::time::Instant);

impl Clock for TestClock {
    fn now_ms(&self) -> u64 {
        1_700_000_000_000 + self.0.elapsed().as_millis() as u64
    }
}

// ---- the log -------------------------------------------------------------------------------------------------------------------

#[derive(Debug, Default)]
pub struct TestLog {
    partitions: Mutex<BTreeMap<TopicPartition, Vec<StoredRecord>>>,
    appended: Notify,
}

impl TestLog {
    /// All records of a topic's only partition.
    pub fn records(&self, topic: &str) -> Vec<StoredRecord> {
        let partition = Topic::new(topic.to_owned()).partition(0);
        self.partitions.lock().unwrap().get(&partition).cloned().unwrap_or_default()
    }

    /// The sessions that are open by the log: key → epoch.
    pub fn open_sessions(&self) -> BTreeMap<Bytes, u64> {
        let mut open = BTreeMap::new();
        for stored in self.records(schemas::topics::SESSIONS) {
            let (.., epoch, _) = parse_session_key(&stored.record.key).unwrap();
            if stored.record.value.is_some() {
                open.insert(stored.record.key, epoch);
            } else {
                open.remove(&stored.record.key);
            }
        }
        open
    }

    pub fn put(&self, topic: &str, record: Record) {
        let partition = Topic::new(topic.to_owned()).partition(0);
        drop(self.append(&partition, vec![record]).unwrap());
    }

    /// Skips offsets, as an in-memory topic does whose oldest records had to go before they were read.
    pub fn lose(&self, topic: &str, records: u64) {
        let partition = Topic::new(topic.to_owned()).partition(0);
        let mut partitions = self.partitions.lock().unwrap();
        let log = partitions.entry(partition).or_default();
        let next = log.last().map_or(0, |last| last.offset.0 + 1) + records;
        log.push(StoredRecord { offset: LogOffset(next), time: AppendTime(0), record: Record::new("", "") });
        drop(partitions);
        self.appended.notify_waiters();
    }
}

impl EventLog for TestLog {
    fn create_topic<'a>(&'a self, spec: &'a TopicSpec) -> BoxFuture<'a, Result<TopicDescription, Error>> {
        Box::pin(async move {
            let description = self.describe(&spec.topic).await?;
            Ok(description.expect("every topic exists"))
        })
    }

    fn delete_topic<'a>(&'a self, _: &'a Topic) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async { Ok(()) })
    }

    fn describe<'a>(&'a self, _: &'a Topic) -> BoxFuture<'a, Result<Option<TopicDescription>, Error>> {
        let (durability, cleanup) = (eventlog::Durability::InMemory, eventlog::Cleanup::Keep);
        Box::pin(async move { Ok(Some(TopicDescription { partitions: 1, incarnation: 1, durability, cleanup })) })
    }

    fn append(&self, to: &TopicPartition, records: Vec<Record>) -> Result<Append, AppendError> {
        let mut partitions = self.partitions.lock().unwrap();
        let log = partitions.entry(to.clone()).or_default();
        let first = LogOffset(log.last().map_or(0, |last| last.offset.0 + 1));
        let time = AppendTime(1_700_000_000_000);
        for (place, record) in records.into_iter().enumerate() {
            log.push(StoredRecord { offset: LogOffset(first.0 + place as u64), time, record });
        }
        drop(partitions);
        self.appended.notify_waiters();
        Ok(Box::pin(async move { Ok(Appended { first, time }) }))
    }

    fn read<'a>(
        &'a self,
        _: &'a TopicPartition,
        _: LogOffset,
    ) -> BoxFuture<'a, Result<Box<dyn PartitionReader>, Error>> {
        unreachable!("read through the shared handle")
    }

    fn bounds<'a>(&'a self, of: &'a TopicPartition) -> BoxFuture<'a, Result<Bounds, Error>> {
        let end =
            self.partitions.lock().unwrap().get(of).and_then(|log| log.last()).map_or(0, |last| last.offset.0 + 1);
        Box::pin(async move { Ok(Bounds { start: LogOffset(0), end: LogOffset(end) }) })
    }

    fn offset_at<'a>(&'a self, _: &'a TopicPartition, _: AppendTime) -> BoxFuture<'a, Result<LogOffset, Error>> {
        unreachable!("nobody here seeks by time")
    }

    fn join<'a>(&'a self, _: &'a str, _: &'a Topic) -> BoxFuture<'a, Result<Box<dyn Membership>, Error>> {
        unreachable!("a gateway joins no group")
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async { Ok(()) })
    }
}

/// The handle that roles get: readers need the log to outlive them.
#[derive(Debug)]
struct Handle(Arc<TestLog>);

impl EventLog for Handle {
    fn create_topic<'a>(&'a self, spec: &'a TopicSpec) -> BoxFuture<'a, Result<TopicDescription, Error>> {
        self.0.create_topic(spec)
    }

    fn delete_topic<'a>(&'a self, topic: &'a Topic) -> BoxFuture<'a, Result<(), Error>> {
        self.0.delete_topic(topic)
    }

    fn describe<'a>(&'a self, topic: &'a Topic) -> BoxFuture<'a, Result<Option<TopicDescription>, Error>> {
        self.0.describe(topic)
    }

    fn append(&self, to: &TopicPartition, records: Vec<Record>) -> Result<Append, AppendError> {
        self.0.append(to, records)
    }

    fn read<'a>(
        &'a self,
        from: &'a TopicPartition,
        offset: LogOffset,
    ) -> BoxFuture<'a, Result<Box<dyn PartitionReader>, Error>> {
        let reader = Reader { log: Arc::clone(&self.0), partition: from.clone(), offset };
        Box::pin(async move { Ok(Box::new(reader) as Box<dyn PartitionReader>) })
    }

    fn bounds<'a>(&'a self, of: &'a TopicPartition) -> BoxFuture<'a, Result<Bounds, Error>> {
        self.0.bounds(of)
    }

    fn offset_at<'a>(&'a self, of: &'a TopicPartition, time: AppendTime) -> BoxFuture<'a, Result<LogOffset, Error>> {
        self.0.offset_at(of, time)
    }

    fn join<'a>(&'a self, group: &'a str, topic: &'a Topic) -> BoxFuture<'a, Result<Box<dyn Membership>, Error>> {
        self.0.join(group, topic)
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), Error>> {
        self.0.flush()
    }
}

#[derive(Debug)]
struct Reader {
    log: Arc<TestLog>,
    partition: TopicPartition,
    offset: LogOffset,
}

impl PartitionReader for Reader {
    fn next(&mut self) -> BoxFuture<'_, Result<RecordBatch, Error>> {
        Box::pin(async {
            loop {
                let mut appended = std::pin::pin!(self.log.appended.notified());
                appended.as_mut().enable();
                let records: Vec<StoredRecord> = {
                    let partitions = self.log.partitions.lock().unwrap();
                    let log = partitions.get(&self.partition).into_iter().flatten();
                    log.filter(|stored| stored.offset >= self.offset).cloned().collect()
                };
                if let Some(last) = records.last() {
                    self.offset = last.offset.next();
                    return Ok(RecordBatch::from(records));
                }
                appended.await;
            }
        })
    }

    fn position(&self) -> LogOffset {
        self.offset
    }
}

// ---- the store -----------------------------------------------------------------------------------------------------------------

#[derive(Debug)]
pub struct TestStore {
    events: Mutex<BTreeMap<ChannelId, Vec<StoredEvent>>>,
    members: Mutex<BTreeMap<ChannelId, Vec<MemberRow>>>,
    /// Pages are given only while it has permits.
    pub pages: Semaphore,
    /// How many pages were asked for.
    pub pages_read: AtomicUsize,
}

impl TestStore {
    /// Puts messages of a channel into the store, after those it has.
    pub fn write(&self, channel: ChannelId, messages: u64) {
        let mut events = self.events.lock().unwrap();
        let log = events.entry(channel).or_default();
        for _ in 0..messages {
            let seq = log.len() as u64 + 1;
            log.push(StoredEvent {
                channel,
                sender: BOB,
                client_msg_id: id(seq),
                time: LogTime(seq),
                event: message(seq),
            });
        }
    }

    pub fn member(&self, channel: ChannelId, user: UserId, joined: u64, left: Option<u64>) {
        let row = MemberRow { user, role: Role::Member, joined: ChannelSeq(joined), left: left.map(ChannelSeq) };
        let mut members = self.members.lock().unwrap();
        let rows = members.entry(channel).or_default();
        rows.retain(|row| (row.user, row.joined.0) != (user, joined));
        rows.push(row);
    }
}

impl Timelines for TestStore {
    fn page<'a>(&'a self, query: &'a PageQuery) -> BoxFuture<'a, Result<Page, store::Error>> {
        Box::pin(async move {
            drop(self.pages.acquire().await.unwrap());
            self.pages_read.fetch_add(1, Ordering::Relaxed);
            let events = self.events.lock().unwrap();
            let window = events.get(&query.channel).into_iter().flatten();
            let mut rows: Vec<StoredEvent> =
                window.filter(|row| (query.first..=query.last).contains(&row.event.seq)).cloned().collect();
            if query.newest_first {
                rows.drain(..rows.len().saturating_sub(query.limit));
            }
            rows.truncate(query.limit);
            Ok(Page { events: rows.into() })
        })
    }

    fn summaries<'a>(&'a self, channels: &'a [ChannelId]) -> BoxFuture<'a, Result<Vec<ChannelSummary>, store::Error>> {
        let events = self.events.lock().unwrap();
        let summary = |channel: &ChannelId| {
            let last = events.get(channel)?.last()?;
            Some(ChannelSummary {
                channel: *channel,
                seq: last.event.seq,
                ordinal: last.event.ordinal,
                members_version: last.event.members_version,
                kind: ChannelKind::Group,
                title: "Room".into(),
                history: HistoryVisibility::FromJoining,
                last_time: last.time,
            })
        };
        let summaries = channels.iter().filter_map(summary).collect();
        Box::pin(async move { Ok(summaries) })
    }
}

impl Memberships for TestStore {
    fn members_of(&self, channel: ChannelId) -> BoxFuture<'_, Result<Vec<MemberRow>, store::Error>> {
        let rows = self.members.lock().unwrap().get(&channel).cloned().unwrap_or_default();
        Box::pin(async move { Ok(rows) })
    }

    fn stays(&self, channel: ChannelId, user: UserId) -> BoxFuture<'_, Result<Vec<MemberRow>, store::Error>> {
        let mut rows = self.members.lock().unwrap().get(&channel).cloned().unwrap_or_default();
        rows.retain(|row| row.user == user);
        Box::pin(async move { Ok(rows) })
    }

    fn channels_of(&self, user: UserId) -> BoxFuture<'_, Result<Vec<MembershipRow>, store::Error>> {
        let members = self.members.lock().unwrap();
        let mut channels = Vec::new();
        for (channel, rows) in members.iter() {
            if let Some(row) = rows.iter().rfind(|row| row.user == user) {
                channels.push(MembershipRow { channel: *channel, joined: row.joined, left: row.left });
            }
        }
        Box::pin(async move { Ok(channels) })
    }
}

// ---- everything together -------------------------------------------------------------------------------------------------------

pub struct World {
    pub log: Arc<TestLog>,
    pub store: Arc<TestStore>,
    pub gateway: Gateway,
    pub shutdown: Shutdown,
    pub tasks: Tasks,
    pub signer: Signer,
    delivered: Mutex<u64>,
}

/// A record's events and who gets them.
pub struct Told<'a> {
    pub verdict: Verdict,
    pub command: Option<&'a Command>,
    pub recipients: &'a [UserId],
}

impl World {
    /// Everything up; the room has these many messages, and Ann and Bob are members from the start.
    pub async fn new(messages: u64) -> Self {
        Self::with(messages, |_| ()).await
    }

    /// The same, configured.
    pub async fn with(messages: u64, configure: impl FnOnce(&mut Config)) -> Self {
        let world = Self::asleep(configure);
        world.store.write(ROOM, messages);
        world.store.member(ROOM, ANN, 1, None);
        world.store.member(ROOM, BOB, 1, None);
        world.start().await;
        world
    }

    /// Nothing runs yet.
    pub fn asleep(configure: impl FnOnce(&mut Config)) -> Self {
        let clock: runtime::SharedClock = Arc::new(TestClock(tokio::time::Instant::now()));
        let entropy = Entropy::from_seed(7);
        let signer = Signer::from_pkcs8(&generate_pkcs8(&entropy), clock.clone()).unwrap();
        let log = Arc::new(TestLog::default());
        let store = Arc::new(TestStore {
            events: Mutex::default(),
            members: Mutex::default(),
            pages: Semaphore::new(1_000),
            pages_read: AtomicUsize::new(0),
        });
        let process = ProcessConfig { id: PROCESS.into(), url: String::new(), region: String::new(), capacity: 10 };
        let mut config = Config::new(process, TOPOLOGY, vec![signer.public().clone()]);
        configure(&mut config);
        let tasks = Tasks::new();
        let deps = Deps {
            log: Arc::new(Handle(Arc::clone(&log))) as SharedLog,
            timelines: Arc::clone(&store) as Arc<dyn Timelines>,
            memberships: Arc::clone(&store) as Arc<dyn Memberships>,
            clock,
            entropy,
            tasks: tasks.clone(),
        };
        let gateway = Gateway::new(config, deps).unwrap();
        Self { log, store, gateway, shutdown: Shutdown::new(), tasks, signer, delivered: Mutex::new(0) }
    }

    pub async fn start(&self) {
        let (gateway, shutdown) = (self.gateway.clone(), self.shutdown.clone());
        self.tasks.spawn(async move { gateway.run(shutdown).await.unwrap() });
        until(|| self.gateway.readiness().is_ok()).await;
    }

    pub fn token(&self, user: UserId) -> String {
        self.signer.issue(user.to_string(), "sign-in".into(), 3_600).unwrap()
    }

    /// A socket before its `hello`.
    pub async fn socket(&self) -> Client {
        self.narrow_socket(64 * 1024).await
    }

    /// A socket whose pipe holds so many bytes.
    pub async fn narrow_socket(&self, bytes: usize) -> Client {
        let (ours, theirs) = tokio::io::duplex(bytes);
        let serving = self.gateway.serve(theirs).expect("the gateway takes connections");
        self.tasks.spawn(serving);
        Client { socket: WebSocketStream::from_raw_socket(ours, WsRole::Client, None).await }
    }

    /// A socket that has caught up, with this cursor of the room.
    pub async fn client(&self, user: UserId, cursor: Option<u64>) -> Client {
        let mut client = self.socket().await;
        client.hello(&self.token(user), cursor).await;
        client.until(|frame| matches!(frame, ServerFrame::CaughtUp { .. })).await;
        client
    }

    /// The commands so far.
    pub fn commands(&self) -> Vec<Command> {
        let records = self.log.records(schemas::topics::COMMANDS);
        records.iter().map(|stored| decode_command(stored.record.value.as_ref().unwrap()).unwrap()).collect()
    }

    /// The command of that number, once it is there.
    pub async fn command(&self, number: usize) -> Command {
        until(|| self.commands().len() >= number).await;
        self.commands().swap_remove(number - 1)
    }

    /// Plays sequencer and fanout: an outcome comes to the gateway.
    pub fn deliver(&self, told: Told<'_>) {
        self.deliver_to_epoch(1, told);
    }

    pub fn deliver_to_epoch(&self, process_epoch: u64, told: Told<'_>) {
        let offset = {
            let mut delivered = self.delivered.lock().unwrap();
            *delivered += 1;
            *delivered
        };
        let outcome = Outcome {
            epoch: Epoch(1),
            n: OwnerSeq(offset),
            time: LogTime(1_700_000_000_000),
            command: CommandPosition::default(),
            channel: ROOM,
            sender: told.command.map_or(BOB, |command| command.sender),
            id: told.command.map_or(id(offset), |command| command.id),
            digest: 0,
            reply: None,
            verdict: told.verdict,
        };
        let delivery = Delivery::Outcome {
            process_epoch,
            partition: 0,
            offset,
            recipients: told.recipients.to_vec(),
            reply: told.command.and_then(|command: &Command| command.reply.clone()),
            #[allow(clippy::useless_conversion, reason = "whichever form the delivery holds")]
            record: encode_timeline(&TimelineRecord::Outcome(outcome)).into(),
        };
        self.log
            .put(&format!("{}{PROCESS}", schemas::topics::GATEWAY_PREFIX), Record::new("", encode_delivery(&delivery)));
    }

    /// A message of Bob's to both.
    pub fn deliver_message(&self, seq: u64) {
        self.deliver(Told { verdict: Verdict::Accepted(vec![message(seq)]), command: None, recipients: &[ANN, BOB] });
    }
}

/// Waits for a condition that other tasks bring about.
pub async fn until(mut condition: impl FnMut() -> bool) {
    tokio::time::timeout(Duration::from_mins(10), async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .expect("the condition comes about");
}

pub fn id(number: u64) -> ClientMsgId {
    let mut bytes = [0; 16];
    bytes[6] = 0x70;
    bytes[8] = 0x80;
    bytes[9..16].copy_from_slice(&number.to_be_bytes()[1..]);
    ClientMsgId::from_bytes(bytes)
}

pub fn event(seq: u64, kind: EventKind) -> Event {
    Event {
        seq: ChannelSeq(seq),
        ordinal: Ordinal(seq),
        message_id: MessageId(seq),
        members_version: ChannelSeq(1),
        kind,
    }
}

pub fn message(seq: u64) -> Event {
    event(seq, EventKind::MessagePosted { text: format!("message {seq}").into() })
}

pub fn rejected(cause: RejectCause) -> Verdict {
    Verdict::Answered(Answer::Rejected(cause))
}

/// The reply address of a command must be the gateway's.
pub fn reply_of(command: &Command) -> &ReplyAddress {
    command.reply.as_ref().expect("a gateway waits for outcomes")
}

// ---- a client ------------------------------------------------------------------------------------------------------------------

pub struct Client {
    pub socket: WebSocketStream<DuplexStream>,
}

impl Client {
    pub async fn hello(&mut self, token: &str, cursor: Option<u64>) {
        let cursors = cursor.map(|seq| (ROOM.to_string(), CursorFrame { generation: 1, seq })).into_iter().collect();
        self.say(&ClientFrame::Hello { v: 1, token: Some(token.to_owned()), cursors }).await;
    }

    pub async fn say(&mut self, frame: &ClientFrame) {
        self.text(&serde_json::to_string(frame).unwrap()).await;
    }

    pub async fn text(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    pub async fn send(&mut self, number: u64, body: &str) {
        let frame = ClientFrame::Send {
            channel: ROOM.to_string(),
            client_msg_id: id(number).to_string(),
            body: body.to_owned(),
            retry: false,
        };
        self.say(&frame).await;
    }

    /// The next frame; `Err` with the code of the close frame, 0 if the socket just ended.
    pub async fn next(&mut self) -> Result<ServerFrame, u16> {
        loop {
            match tokio::time::timeout(Duration::from_mins(10), self.socket.next()).await.expect("a frame comes") {
                Some(Ok(Message::Text(text))) => {
                    return Ok(serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}")));
                }
                Some(Ok(Message::Close(close))) => return Err(close.map_or(0, |close| close.code.into())),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(0),
            }
        }
    }

    /// Frames up to the first that is wanted, that one included.
    pub async fn until(&mut self, mut wanted: impl FnMut(&ServerFrame) -> bool) -> Vec<ServerFrame> {
        let mut frames = Vec::new();
        loop {
            let frame = self.next().await.unwrap_or_else(|code| panic!("closed with {code} after {frames:?}"));
            let last = wanted(&frame);
            frames.push(frame);
            if last {
                return frames;
            }
        }
    }

    /// The next frame that is neither a digest nor a pong.
    pub async fn news(&mut self) -> ServerFrame {
        let quiet = |frame: &ServerFrame| matches!(frame, ServerFrame::Digest { .. } | ServerFrame::Pong { .. });
        self.until(|frame| !quiet(frame)).await.pop().unwrap()
    }

    pub async fn next_event(&mut self) -> EventFrame {
        match self.news().await {
            ServerFrame::Event(event) => event,
            frame => panic!("{frame:?} instead of an event"),
        }
    }

    pub async fn next_error(&mut self) -> (Code, Option<String>, ServerFrame) {
        match self.news().await {
            frame @ ServerFrame::Error { .. } => {
                let ServerFrame::Error { code, client_msg_id, .. } = &frame else { unreachable!() };
                (*code, client_msg_id.clone(), frame.clone())
            }
            frame => panic!("{frame:?} instead of an error"),
        }
    }

    /// Reads on until the socket closes; the code of the close frame.
    pub async fn closed(&mut self) -> u16 {
        loop {
            if let Err(code) = self.next().await {
                return code;
            }
        }
    }

    /// The connection lives: a ping is answered.
    pub async fn lives(&mut self) {
        self.say(&ClientFrame::Ping {}).await;
        self.until(|frame| matches!(frame, ServerFrame::Pong { .. })).await;
    }
}

/// The seqs of the events among frames.
pub fn seqs(frames: &[ServerFrame]) -> Vec<u64> {
    let seq = |frame: &ServerFrame| if let ServerFrame::Event(event) = frame { Some(event.seq) } else { None };
    frames.iter().filter_map(seq).collect()
}
