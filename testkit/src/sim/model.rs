//! A small correct system behind the socket protocol, and the same with one of several faults: what proves that the driver, the
//! client and the auditor together find what they are there to find, apart from any role.

use crate::auditor::{FinalChannel, SeenEvent};
use crate::sim::world::{Setup, System};
use domain::command::{HistoryVisibility, Role};
use domain::{
    ChannelId, ChannelSeq, ClientMsgId, Command, CommandBody, EventKind, LogTime, MessageId, Ordinal, PartitionId,
    UserId,
};
use futures_util::{SinkExt, StreamExt};
use runtime::{Clock, Tasks};
use schemas::error_codes::Code;
use schemas::frames::{ClientFrame, CursorFrame, EventFrame, EventKindFrame, LimitsFrame, ServerFrame};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::DuplexStream;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

/// How long a sync takes, ms.
const SYNC_MS: u64 = 3;
/// How often heads are compared, s.
const DIGEST_S: u64 = 20;
/// Events on their way to one connection; more are lost and the client told to resync.
const LIVE_EVENTS_MAX: usize = 16;
/// Gateways of the model.
const GATEWAYS: usize = 2;
/// Commands that wait to be decided.
const COMMANDS_MAX: usize = 1_024;

/// What can be planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bug {
    AckBeforeSync,
    NoOnceness,
    DeliversToFormerMembers,
    NoDigest,
    PageClaimsTooMuch,
    PageSkips,
    MembershipUnchecked,
    SeqSkips,
    IdsStepBack,
    OtherTextOnRetry,
    LosesCommandsForEver,
}

#[derive(Debug, Default)]
struct Channel {
    events: Vec<Arc<SeenEvent>>,
    synced: usize,
    ids: BTreeMap<(UserId, ClientMsgId), (ChannelSeq, CommandBody)>,
}

impl Channel {
    fn visible(&self) -> FinalChannel {
        FinalChannel::from_events(self.events.iter().take(self.synced).cloned().collect())
    }
}

type Answer = Result<ChannelSeq, Code>;

#[derive(Debug)]
struct Core {
    bug: Option<Bug>,
    channels: Mutex<BTreeMap<ChannelId, Channel>>,
    live: broadcast::Sender<Arc<SeenEvent>>,
    setup: Setup,
    losing: Mutex<bool>,
}

/// A decided command: its answer, what it gave, and who waits.
type Decided = (Answer, Vec<Arc<SeenEvent>>, Option<oneshot::Sender<Answer>>);

type Request = (Command, Option<oneshot::Sender<Answer>>);

/// The model: one core that decides, and gateways.
pub(super) struct Model {
    core: Arc<Core>,
    commands: Arc<Mutex<Option<mpsc::Sender<Request>>>>,
    tasks: Vec<Option<Tasks>>,
    backlog: Vec<Command>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Core {
    fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// Decides a command: the events it gives, appended but not synced.
    fn decide(&self, command: &Command) -> Result<(ChannelSeq, Vec<Arc<SeenEvent>>), Answer> {
        let mut channels = lock(&self.channels);
        let channel = channels.entry(command.channel).or_default();
        let key = (command.sender, command.id);
        if let Some((seq, body)) = channel.ids.get(&key)
            && !self.has(Bug::NoOnceness)
        {
            return Err(if *body == command.body { Ok(*seq) } else { Err(Code::Conflict) });
        }
        let now = FinalChannel::from_events(channel.events.clone());
        let is_member =
            |user: &UserId| now.stays.get(user).and_then(|stays| stays.last()).is_some_and(|stay| stay.left.is_none());
        let allowed = is_member(&command.sender) || self.has(Bug::MembershipUnchecked);
        let kinds: Vec<EventKind> = match &command.body {
            CommandBody::Post { text } if allowed => {
                let text = if command.retry && self.has(Bug::OtherTextOnRetry) { "???".into() } else { text.clone() };
                vec![EventKind::MessagePosted { text }]
            }
            CommandBody::CreateChannel { kind, title, members, history, open } if now.events.is_empty() => {
                let created =
                    EventKind::ChannelCreated { kind: *kind, title: title.clone(), history: *history, open: *open };
                let owner = EventKind::MemberJoined { user: command.sender, role: Role::Owner };
                let others = members.iter().map(|user| EventKind::MemberJoined { user: *user, role: Role::Member });
                [created, owner].into_iter().chain(others).collect()
            }
            CommandBody::Join if !now.events.is_empty() && !is_member(&command.sender) => {
                vec![EventKind::MemberJoined { user: command.sender, role: Role::Member }]
            }
            CommandBody::Leave if is_member(&command.sender) => {
                vec![EventKind::MemberLeft { user: command.sender, removed: false }]
            }
            CommandBody::RemoveMember { user } if allowed && is_member(user) => {
                vec![EventKind::MemberLeft { user: *user, removed: true }]
            }
            CommandBody::AddMembers { users } if allowed => users
                .iter()
                .filter(|user| !is_member(user))
                .map(|user| EventKind::MemberJoined { user: *user, role: Role::Member })
                .collect(),
            _ => Vec::new(),
        };
        if kinds.is_empty() {
            return Err(Err(Code::NotMember));
        }
        let time = LogTime(self.setup.clock.now_ms());
        let mut events = Vec::new();
        for kind in kinds {
            let last = channel.events.last();
            let (seq, ordinal, id) = last
                .map_or((ChannelSeq(0), Ordinal(0), MessageId(0)), |last| (last.seq, last.ordinal, last.message_id));
            let skipped = u64::from(self.has(Bug::SeqSkips) && self.setup.entropy.below(20) == 0);
            let id = if self.has(Bug::IdsStepBack) && self.setup.entropy.below(20) == 0 {
                MessageId(id.0.saturating_sub(1))
            } else {
                id.next_at(time, PartitionId(0))
            };
            let event = Arc::new(SeenEvent {
                channel: command.channel,
                seq: ChannelSeq(seq.0 + 1 + skipped),
                ordinal: if kind.is_message() { ordinal.next() } else { ordinal },
                message_id: id,
                time,
                sender: command.sender,
                client_msg_id: command.id,
                kind,
            });
            channel.events.push(Arc::clone(&event));
            events.push(event);
        }
        let first = events[0].seq;
        channel.ids.insert(key, (first, command.body.clone()));
        Ok((first, events))
    }

    fn sync_all(&self) {
        for channel in lock(&self.channels).values_mut() {
            channel.synced = channel.events.len();
        }
    }

    fn lose_unsynced(&self) {
        for channel in lock(&self.channels).values_mut() {
            channel.events.truncate(channel.synced);
            let head = channel.events.last().map_or(ChannelSeq(0), |last| last.seq);
            channel.ids.retain(|_, (seq, _)| *seq <= head);
        }
    }

    /// Decides, syncs, publishes: in batches that form while the sync before runs.
    async fn run(self: Arc<Self>, mut commands: mpsc::Receiver<Request>) {
        self.lose_unsynced();
        let mut batch = Vec::new();
        while commands.recv_many(&mut batch, COMMANDS_MAX).await > 0 {
            let mut done = Vec::new();
            for (command, reply) in batch.drain(..) {
                let (answer, events) = match self.decide(&command) {
                    Ok((seq, events)) => (Ok(seq), events),
                    Err(answer) => (answer, Vec::new()),
                };
                done.push((answer, events, reply));
            }
            let sync = tokio::time::sleep(Duration::from_millis(SYNC_MS));
            if self.has(Bug::AckBeforeSync) {
                self.publish(done);
                sync.await;
                self.sync_all();
            } else {
                sync.await;
                self.sync_all();
                self.publish(done);
            }
        }
    }

    fn publish(&self, done: Vec<Decided>) {
        for (answer, events, reply) in done {
            for event in events {
                // Nobody may be connected.
                let _nobody = self.live.send(event);
            }
            if let Some(reply) = reply {
                let _gone = reply.send(answer);
            }
        }
    }

    fn loses(&self) -> bool {
        *lock(&self.losing) && self.setup.entropy.below(3) == 0
    }

    /// Channel → what this person must know of it at least.
    fn heads(&self, user: UserId) -> BTreeMap<String, u64> {
        let channels = lock(&self.channels);
        let head = |channel: &Channel| {
            let visible = channel.visible();
            let stay = *visible.stays.get(&user)?.last()?;
            Some(stay.left.unwrap_or(visible.head()).0)
        };
        channels.iter().filter_map(|(id, channel)| Some((id.to_string(), head(channel)?))).collect()
    }

    fn must_see(&self, user: UserId, event: &SeenEvent) -> bool {
        let channels = lock(&self.channels);
        let Some(channel) = channels.get(&event.channel) else { return false };
        let all = FinalChannel::from_events(channel.events.clone());
        let former = self.has(Bug::DeliversToFormerMembers) && all.stays.contains_key(&user);
        former || all.must_see(event.channel, user, event.seq)
    }

    fn missed(&self, user: UserId, cursors: &BTreeMap<String, CursorFrame>) -> Vec<ServerFrame> {
        let channels = lock(&self.channels);
        let mut frames = Vec::new();
        for (id, channel) in channels.iter() {
            let Some(cursor) = cursors.get(&id.to_string()) else { continue };
            let visible = channel.visible();
            // With overlap: the client dedupes by seq.
            let known = cursor.seq.saturating_sub(2);
            let missed =
                visible.events.iter().filter(|event| event.seq.0 > known && visible.must_see(*id, user, event.seq));
            frames.extend(missed.map(|event| ServerFrame::Event(frame(event))));
        }
        frames
    }

    fn page(&self, user: UserId, channel: ChannelId, request: u64, first: u64, last: u64) -> ServerFrame {
        let channels = lock(&self.channels);
        let visible = channels.get(&channel).map(Channel::visible).unwrap_or_default();
        let Some(stay) = visible.stays.get(&user).and_then(|stays| stays.last()) else {
            return refusal(Code::NotMember, None, Some(request));
        };
        let head = stay.left.unwrap_or(visible.head()).0;
        let extra = if self.has(Bug::PageClaimsTooMuch) { 2 } else { 0 };
        let last = last.min(head + extra);
        let shown = visible.events.iter().filter(|event| {
            (first..=last.min(head)).contains(&event.seq.0) && visible.may_see(channel, user, event.seq)
        });
        let skips = self.has(Bug::PageSkips);
        let shown = shown.filter(|event| !skips || event.seq.0 % 5 != 0);
        ServerFrame::Page {
            channel: channel.to_string(),
            request,
            events: shown.map(|event| frame(event)).collect(),
            first,
            last,
        }
    }
}

fn refusal(code: Code, id: Option<String>, request: Option<u64>) -> ServerFrame {
    ServerFrame::Error {
        code,
        message: String::new(),
        client_msg_id: id,
        request,
        retry_after_ms: None,
        server_time: None,
    }
}

fn frame(event: &SeenEvent) -> EventFrame {
    let kind = match &event.kind {
        EventKind::MessagePosted { text } => EventKindFrame::MessagePosted { body: text.to_string() },
        EventKind::ChannelCreated { title, history, open, .. } => EventKindFrame::ChannelCreated {
            channel_kind: "group".into(),
            title: title.to_string(),
            history: match history {
                HistoryVisibility::FromJoining => "from_joining".into(),
                HistoryVisibility::FromStart => "from_start".into(),
            },
            open: *open,
        },
        EventKind::MemberJoined { user, role } => EventKindFrame::MemberJoined {
            user: user.to_string(),
            role: if *role == Role::Owner { "owner".into() } else { "member".into() },
        },
        EventKind::MemberLeft { user, removed } => {
            EventKindFrame::MemberLeft { user: user.to_string(), removed: *removed }
        }
        other => unreachable!("the model makes no {other:?}"),
    };
    EventFrame {
        channel: event.channel.to_string(),
        seq: event.seq.0,
        ordinal: event.ordinal.0,
        id: event.message_id.to_string(),
        time: event.time.0,
        sender: event.sender.to_string(),
        client_msg_id: event.client_msg_id.to_string(),
        kind,
    }
}

/// One connection of the model's gateway.
struct Connection {
    core: Arc<Core>,
    commands: Arc<Mutex<Option<mpsc::Sender<Request>>>>,
    socket: WebSocketStream<DuplexStream>,
}

impl Connection {
    async fn say(&mut self, frame: &ServerFrame) -> Option<()> {
        let text = serde_json::to_string(frame).expect("a frame encodes");
        self.socket.send(Message::text(text)).await.ok()
    }

    async fn hear(&mut self) -> Option<ClientFrame> {
        loop {
            if let Message::Text(text) = self.socket.next().await?.ok()? {
                return serde_json::from_str(&text).ok();
            }
        }
    }

    async fn serve(mut self) -> Option<()> {
        let ClientFrame::Hello { token, cursors, .. } = self.hear().await? else { return None };
        let user: UserId = token?.parse().ok()?;
        let mut live = self.core.live.subscribe();
        let limits = LimitsFrame { body_bytes_max: 1 << 14, frame_bytes_max: 1 << 16, sends_per_second_max: 100 };
        let (session, server_time) = (user.to_string(), self.core.setup.clock.now_ms());
        let welcome = ServerFrame::Welcome {
            session,
            user: user.to_string(),
            server_time,
            generation: 1,
            heartbeat_ms: 5_000,
            limits,
        };
        self.say(&welcome).await?;
        for frame in self.core.missed(user, &cursors) {
            self.say(&frame).await?;
        }
        self.say(&ServerFrame::CaughtUp { heads: self.core.heads(user) }).await?;
        let mut digests = tokio::time::interval(Duration::from_secs(DIGEST_S));
        let (answers_in, mut answers) = mpsc::channel(COMMANDS_MAX);
        loop {
            tokio::select! {
                biased;
                Some(frame) = answers.recv() => self.say(&frame).await?,
                event = live.recv() => match event {
                    Ok(event) if self.core.loses() || !self.core.must_see(user, &event) => {}
                    Ok(event) => self.say(&ServerFrame::Event(frame(&event))).await?,
                    Err(_) => self.say(&ServerFrame::Resync { reason: "too slow".into() }).await?,
                },
                _ = digests.tick() => if !self.core.has(Bug::NoDigest) {
                    let heads = self.core.heads(user);
                    self.say(&ServerFrame::Digest { heads }).await?;
                },
                heard = self.hear() => match heard? {
                    ClientFrame::Ping {} => {
                        let server_time = self.core.setup.clock.now_ms();
                        self.say(&ServerFrame::Pong { server_time }).await?;
                    }
                    ClientFrame::History { channel, request, first, last, .. } => {
                        let channel = channel.parse().ok()?;
                        let page = self.core.page(user, channel, request, first.unwrap_or(1), last.unwrap_or(u64::MAX));
                        self.say(&page).await?;
                    }
                    ClientFrame::Send { channel, client_msg_id, body, retry } => {
                        let (reply, answer) = oneshot::channel();
                        let command = Command {
                            channel: channel.parse().ok()?,
                            sender: user,
                            id: client_msg_id.parse().ok()?,
                            retry,
                            reply: None,
                            body: CommandBody::Post { text: body.into() },
                        };
                        let lost = self.core.has(Bug::LosesCommandsForEver) && command.id.0.as_u128().is_multiple_of(7);
                        let queue = lock(&self.commands).clone();
                        if !lost && let Some(queue) = queue {
                            let _full = queue.try_send((command, Some(reply)));
                        }
                        let answers = answers_in.clone();
                        tokio::spawn(async move {
                            let frame = match answer.await {
                                Ok(Ok(seq)) => ServerFrame::Ack { channel, client_msg_id, seq: seq.0 },
                                Ok(Err(code)) => refusal(code, Some(client_msg_id), None),
                                Err(_) => return,
                            };
                            let _gone = answers.send(frame).await;
                        });
                    }
                    _ => {}
                },
            }
        }
    }
}

impl System for Model {
    type Bug = Bug;

    async fn start(setup: Setup, bug: Option<Bug>) -> Self {
        let (live, _) = broadcast::channel(LIVE_EVENTS_MAX);
        let core = Arc::new(Core { bug, channels: Mutex::default(), live, setup, losing: Mutex::default() });
        let mut model = Self { core, commands: Arc::default(), tasks: vec![None; 1 + GATEWAYS], backlog: Vec::new() };
        for process in 0..model.processes() {
            model.restart(process).await;
        }
        model
    }

    fn token(&self, user: UserId) -> String {
        user.to_string()
    }

    fn processes(&self) -> usize {
        self.tasks.len()
    }

    fn name(&self, process: usize) -> String {
        if process == 0 { "core".into() } else { format!("gateway {process}") }
    }

    async fn crash(&mut self, process: usize) {
        let Some(tasks) = self.tasks[process].take() else { return };
        tasks.cut_off();
        if process == 0 {
            *lock(&self.commands) = None;
            self.core.lose_unsynced();
        } else {
            self.core.setup.net.unlisten(process - 1);
        }
        // The tasks are dropped when they are next polled.
        tokio::task::yield_now().await;
    }

    async fn restart(&mut self, process: usize) {
        if self.tasks[process].is_some() {
            return;
        }
        let tasks = Tasks::new();
        if process == 0 {
            let (queue, commands) = mpsc::channel(COMMANDS_MAX);
            *lock(&self.commands) = Some(queue.clone());
            tasks.spawn(Arc::clone(&self.core).run(commands));
            for command in self.backlog.drain(..) {
                let _full = queue.try_send((command, None));
            }
        } else {
            let mut accept = self.core.setup.net.listen(process - 1);
            let (core, commands, connections) = (Arc::clone(&self.core), Arc::clone(&self.commands), tasks.clone());
            tasks.spawn(async move {
                while let Some(stream) = accept.recv().await {
                    let (core, commands) = (Arc::clone(&core), Arc::clone(&commands));
                    connections.spawn(async move {
                        if let Ok(socket) = tokio_tungstenite::accept_async(stream).await {
                            Connection { core, commands, socket }.serve().await;
                        }
                    });
                }
            });
        }
        self.tasks[process] = Some(tasks);
    }

    async fn power_cut(&mut self) {
        for process in 0..self.processes() {
            self.crash(process).await;
        }
        for process in 0..self.processes() {
            self.restart(process).await;
        }
    }

    async fn disturb(&mut self) {
        let mut losing = lock(&self.core.losing);
        *losing = !*losing;
        self.core.setup.trace.say(if *losing { "deliveries get lost" } else { "deliveries arrive" });
    }

    async fn heal(&mut self) {
        *lock(&self.core.losing) = false;
        for process in 0..self.processes() {
            self.restart(process).await;
        }
    }

    fn command(&mut self, command: Command) {
        match lock(&self.commands).as_ref() {
            Some(queue) => drop(queue.try_send((command, None))),
            None => self.backlog.push(command),
        }
    }

    async fn verdict(&mut self) -> (BTreeMap<ChannelId, FinalChannel>, Vec<String>) {
        let channels = lock(&self.core.channels);
        (channels.iter().map(|(id, channel)| (*id, channel.visible())).collect(), Vec::new())
    }
}
