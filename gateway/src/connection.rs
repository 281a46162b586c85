//! One connection: a small task that is polled when bytes, frames, orders or work are ready, and does all that is ready in one go.
//!
//! While the client catches up with a channel, live events of that channel are held back, so the socket has each event once and in
//! the order of seq.

use crate::frame::{SharedFrame, append, error, shown};
use crate::handshake::{Identity, identify};
use crate::hub::Hub;
use crate::limits::{
    FIRST_DIGEST_S, FRAME_BYTES_MAX, FRAMES_PER_TURN_MAX, HEARTBEAT_MS, HELD_FRAMES_MAX, HISTORY_REQUESTS_MAX,
    REFUSALS_IN_A_ROW_MAX, SEND_BURST_S, TYPING_INTERVAL_MS, WRITE_BYTES_MAX,
};
use crate::link::{Link, Orders};
use crate::sessions;
use crate::socket::Socket;
use crate::work::{self, Asked, Done, Plan, Work};
use domain::limits::MESSAGE_BODY_BYTES_MAX;
use domain::{ChannelId, ChannelSeq, Command, CommandBody, EventKind, ReplyAddress, SessionId, UserId};
use eventlog::{ErrorKind, Record, Topic};
use foldhash::fast::FixedState;
use schemas::client_frames::{Received, Refusal, receive};
use schemas::error_codes::Code;
use schemas::frames::{CursorFrame, LimitsFrame, ServerFrame, VERSION};
use schemas::records::{SessionRecord, Signal, SignalKind, encode_signal};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use store::reading::PersonalPage;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::error::Error as WsError;
use tokio_tungstenite::tungstenite::protocol::Message;

/// One connection. Dropping it closes the session.
pub(crate) struct Connection {
    hub: Arc<Hub>,
    link: Arc<Link>,
    socket: Socket,
    phase: Phase,
    work: Option<Work>,
    /// Until `caught_up` was sent.
    catch_up: Option<Box<CatchUp>>,
    tracks: HashMap<ChannelId, Track, FixedState>,
    asked: VecDeque<Asked>,
    digest_due: bool,
    resync_due: bool,
    budget: Budget,
    refusals: u32,
}

enum Phase {
    /// Waits for `hello`; a header may have said who it is.
    Greeting(Option<Identity>),
    /// The session is being made durable.
    Opening(Box<(SessionRecord, BTreeMap<ChannelId, CursorFrame>)>),
    /// Open.
    Open(Box<SessionRecord>),
    /// A close frame was sent or received; the session has ended.
    Closing,
}

/// What the socket has of a channel.
#[derive(Clone, Copy, Debug, Default)]
struct Track {
    /// The highest seq given to it, or known to the client.
    sent: u64,
    /// Nothing beyond it (VIS); `None`: a member.
    left: Option<u64>,
}

#[derive(Default)]
struct CatchUp {
    /// `None`: cursors are still being compared; everything is held.
    plan: Option<Plan>,
    /// Live events of channels that are still read, in the order they came.
    held: Vec<SharedFrame>,
}

/// How fast a client may go on.
struct Budget {
    sends: f32,
    since: Instant,
    typed: Option<Instant>,
}

impl Connection {
    pub(crate) fn new(hub: Arc<Hub>, link: Arc<Link>, socket: Socket, identity: Option<Identity>) -> Self {
        let sends = hub.config.sends_per_second_max as f32 * SEND_BURST_S;
        Self {
            hub,
            link,
            socket,
            phase: Phase::Greeting(identity),
            work: None,
            catch_up: None,
            tracks: HashMap::default(),
            asked: VecDeque::new(),
            digest_due: false,
            resync_due: false,
            budget: Budget { sends, since: Instant::now(), typed: None },
            refusals: 0,
        }
    }

    /// Lives until the socket is closed.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..4 {
            let had_room = self.has_room();
            let (orders, mut queue) = self.link.take(cx.waker(), had_room);
            if orders.drop {
                return Poll::Ready(());
            }
            queue.retain(|frame| self.passes(frame));
            self.follow(orders, &mut queue, cx);
            if self.is_closing() {
                queue.clear();
            }
            let mut more = self.poll_work(cx);
            match self.poll_reads(cx) {
                Reads::Gone => return Poll::Ready(()),
                Reads::Ended if self.socket.waiting_bytes() == 0 && queue.is_empty() => return Poll::Ready(()),
                Reads::More => more = true,
                Reads::Ended | Reads::Done => {}
            }
            match self.socket.poll_write(queue.iter().map(|frame| &*frame.wire), cx) {
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(())) => {
                    self.link.blocked.store(0, Ordering::Relaxed);
                    // There is room again for what was left in the outbox, unread or not started.
                    more |= !had_room || self.has_work_to_start();
                }
                Poll::Pending => {
                    if self.link.blocked.load(Ordering::Relaxed) == 0 {
                        self.link.blocked.store(self.tick(), Ordering::Relaxed);
                    }
                }
            }
            if !more {
                return Poll::Pending;
            }
        }
        // Others have a turn first.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn has_room(&self) -> bool {
        self.socket.waiting_bytes() < WRITE_BYTES_MAX
    }

    fn tick(&self) -> u32 {
        self.hub.tick.load(Ordering::Relaxed)
    }

    /// Whether a frame goes to the socket now. Held back and repeated ones do not.
    fn passes(&mut self, frame: &SharedFrame) -> bool {
        if frame.seq == 0 {
            return true;
        }
        if let Some(catch_up) = &mut self.catch_up {
            let read = |plan: &Plan| plan.to_read.iter().any(|(channel, _)| *channel == frame.channel);
            if catch_up.plan.as_ref().is_none_or(read) {
                if catch_up.held.len() >= HELD_FRAMES_MAX {
                    self.link.order(|orders| orders.close = Some(Code::SlowReader));
                } else {
                    catch_up.held.push(SharedFrame::clone(frame));
                }
                return false;
            }
        }
        self.moves(frame)
    }

    /// Moves the channel's track over the event; `false`: the socket had it, or must not have it.
    fn moves(&mut self, frame: &SharedFrame) -> bool {
        let user = self.link.user.get();
        let track = self.tracks.entry(frame.channel).or_default();
        if frame.seq <= track.sent {
            return false;
        }
        let own_change = frame.change.filter(|(changed, _)| Some(changed) == user).map(|(_, member)| member);
        if let Some(left) = track.left
            && frame.seq > left
            && own_change != Some(true)
        {
            return false;
        }
        track.sent = frame.seq;
        match own_change {
            Some(true) => track.left = None,
            Some(false) => track.left = Some(frame.seq),
            None => {}
        }
        true
    }

    fn follow(&mut self, orders: Orders, queue: &mut VecDeque<SharedFrame>, cx: &mut Context<'_>) {
        if orders == Orders::default() || self.is_closing() {
            return;
        }
        self.resync_due |= orders.resync;
        self.digest_due |= orders.digest;
        if let Some(reconnect_after_ms) = orders.go_away_ms {
            self.say(&ServerFrame::Goaway { reconnect_after_ms });
        }
        if let Some(code) = orders.close {
            // Whatever came before the order goes before the close frame.
            for frame in queue.drain(..) {
                self.socket.queue().extend_from_slice(&frame.wire);
            }
            self.close(code, code.sentence(), cx);
        }
    }

    fn is_closing(&self) -> bool {
        matches!(self.phase, Phase::Closing)
    }

    fn say(&mut self, frame: &ServerFrame) {
        if !self.is_closing() {
            append(self.socket.queue(), frame);
        }
    }

    fn refuse(&mut self, code: Code, message: impl Into<String>) {
        self.say(&error(code, message));
    }

    /// Says why, and closes.
    fn close(&mut self, code: Code, message: &str, cx: &mut Context<'_>) {
        if self.is_closing() {
            return;
        }
        tracing::debug!(connection = self.link.connection, code = code.slug(), message, "closing");
        metrics::counter!("hubbub_gateway_closed_total", "code" => code.slug()).increment(1);
        if code != Code::GoAway {
            self.refuse(code, message);
        }
        self.socket.close(code, cx);
        self.end_phase();
    }

    fn end_phase(&mut self) {
        self.link.closing.store(self.tick(), Ordering::Relaxed);
        self.work = None;
        self.catch_up = None;
        self.asked = VecDeque::new();
        self.end_session();
        self.phase = Phase::Closing;
    }

    /// Tells the others. A session whose opening is under way may or may not become durable: its end is written behind it.
    fn end_session(&self) {
        let session = match &self.phase {
            Phase::Open(session) => session,
            Phase::Opening(opening) => &opening.0,
            Phase::Greeting(_) | Phase::Closing => return,
        };
        if !self.hub.crashed.load(Ordering::Acquire) {
            sessions::close(&self.hub, session);
        }
    }

    // ---- what the client sends -------------------------------------------------------------------------------------------------

    fn poll_reads(&mut self, cx: &mut Context<'_>) -> Reads {
        if matches!(self.phase, Phase::Opening(_)) {
            return Reads::Done;
        }
        for _ in 0..FRAMES_PER_TURN_MAX {
            if !self.has_room() {
                return Reads::Done;
            }
            let Poll::Ready(read) = self.socket.poll_read(cx) else { return Reads::Done };
            self.link.heard.store(self.tick(), Ordering::Relaxed);
            match read {
                Ok(Message::Text(text)) => self.text(&text, cx),
                Ok(Message::Binary(_)) => self.refused(
                    Refusal {
                        code: Code::Malformed,
                        message: "frames are text".into(),
                        client_msg_id: None,
                        request: None,
                    },
                    cx,
                ),
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
                Ok(Message::Close(_)) => self.end_phase(),
                Err(WsError::ConnectionClosed | WsError::AlreadyClosed) => return Reads::Ended,
                Err(WsError::Utf8(problem)) => self.refused(
                    Refusal { code: Code::Malformed, message: problem, client_msg_id: None, request: None },
                    cx,
                ),
                Err(WsError::Capacity(_)) => {
                    let message = format!("a frame has at most {FRAME_BYTES_MAX} bytes");
                    self.close(Code::TooLarge, &message, cx);
                }
                Err(WsError::Protocol(problem)) => {
                    if self.is_closing() {
                        return Reads::Gone;
                    }
                    self.close(Code::Malformed, &problem.to_string(), cx);
                }
                Err(_) => return Reads::Gone,
            }
            if matches!(self.phase, Phase::Opening(_)) {
                return Reads::More;
            }
        }
        Reads::More
    }

    fn text(&mut self, text: &str, cx: &mut Context<'_>) {
        if self.is_closing() {
            return;
        }
        let frame = match receive(text) {
            Ok(frame) => frame,
            Err(refusal) => return self.refused(refusal, cx),
        };
        self.refusals = 0;
        let Phase::Open(session) = &self.phase else {
            let Phase::Greeting(identity) = &self.phase else { return };
            let identity = *identity;
            return match frame {
                Received::Hello { v, token, cursors } => self.hello(v, identity, token, cursors, cx),
                _ => self.close(Code::Unauthenticated, "the first frame is `hello`", cx),
            };
        };
        let user = session.user;
        match frame {
            Received::Send { channel, client_msg_id, body, retry } => {
                self.send(user, channel, client_msg_id, body, retry)
            }
            Received::History { channel, request, first, last, limit } => {
                if self.asked.len() >= HISTORY_REQUESTS_MAX {
                    self.say(&ServerFrame::Error {
                        code: Code::RateLimited,
                        message: format!("at most {HISTORY_REQUESTS_MAX} requests at once"),
                        client_msg_id: None,
                        request: Some(request),
                        retry_after_ms: Some(200),
                        server_time: None,
                    });
                    return;
                }
                let seen = self.tracks.get(&channel).map_or(0, |track| track.sent);
                self.asked.push_back(Asked { channel, request, first, last, limit, seen });
            }
            Received::Typing { channel } => self.typing(user, channel),
            Received::Digest => self.digest_due = true,
            Received::Ping => {
                let server_time = self.hub.process().server_time().now_ms();
                self.say(&ServerFrame::Pong { server_time });
            }
            Received::Hello { .. } => self.refuse(Code::Malformed, "`hello` was said already"),
        }
    }

    fn refused(&mut self, refusal: Refusal, cx: &mut Context<'_>) {
        if matches!(self.phase, Phase::Greeting(_)) {
            return self.close(refusal.code, &refusal.message, cx);
        }
        self.refusals += 1;
        if self.refusals > REFUSALS_IN_A_ROW_MAX {
            return self.close(refusal.code, "nothing of what you send is a frame", cx);
        }
        let Refusal { code, message, client_msg_id, request } = refusal;
        self.say(&ServerFrame::Error {
            code,
            message,
            client_msg_id,
            request,
            retry_after_ms: None,
            server_time: None,
        });
    }

    fn hello(
        &mut self,
        v: u32,
        identity: Option<Identity>,
        token: Option<Cow<'_, str>>,
        cursors: BTreeMap<ChannelId, CursorFrame>,
        cx: &mut Context<'_>,
    ) {
        if v != VERSION {
            return self.close(Code::BadVersion, &format!("version {VERSION} is spoken here"), cx);
        }
        let Identity { user, expires_at } = match (identity, token) {
            (Some(identity), _) => identity,
            (None, None) => {
                return self.close(Code::Unauthenticated, "`hello` has no token, and no header had one", cx);
            }
            (None, Some(token)) => match identify(&self.hub, &token) {
                Ok(identity) => identity,
                Err(problem) => return self.close(Code::Unauthenticated, &problem, cx),
            },
        };
        if self.hub.draining.load(Ordering::Acquire) {
            return self.close(Code::GoAway, "going away", cx);
        }
        if !self.hub.register(&self.link, user) {
            return self.close(Code::TooManySessions, "close another connection first", cx);
        }
        self.link.expires_at.store(expires_at, Ordering::Relaxed);
        let now = self.hub.process().server_time().now_ms();
        let session = SessionId(self.hub.deps.entropy.uuid_v7(now));
        // What is delivered from now on is held until the cursors were compared.
        self.catch_up = Some(Box::default());
        let session = sessions::session_of(&self.hub, user, session, self.link.connection);
        self.work = Some(work::open(Arc::clone(&self.hub), session.clone()));
        self.phase = Phase::Opening(Box::new((session, cursors)));
    }

    fn send(&mut self, sender: UserId, channel: ChannelId, id: domain::ClientMsgId, body: Cow<'_, str>, retry: bool) {
        let refusal = if body.len() > MESSAGE_BODY_BYTES_MAX {
            Some((Code::TooLarge, format!("a message has at most {MESSAGE_BODY_BYTES_MAX} bytes"), None))
        } else if self.hub.draining.load(Ordering::Acquire) {
            Some((Code::GoAway, "going away: send it again over the next connection".into(), None))
        } else if let Err(retry_after_ms) = self.budget.take_send(self.hub.config.sends_per_second_max) {
            Some((Code::RateLimited, Code::RateLimited.sentence().into(), Some(retry_after_ms)))
        } else {
            let reply = ReplyAddress { process: self.hub.process().id().into(), connection: self.link.connection };
            let text = body.into_owned().into_boxed_str();
            let command = Command { channel, sender, id, retry, reply: Some(reply), body: CommandBody::Post { text } };
            match self.hub.commands.send(&command) {
                Ok(()) => {
                    self.link.unanswered.fetch_add(1, Ordering::AcqRel);
                    None
                }
                Err(refused) if refused.error.kind() == ErrorKind::Full => {
                    Some((Code::StorageFull, Code::StorageFull.sentence().into(), Some(5_000)))
                }
                Err(_) => Some((Code::RetryLater, Code::RetryLater.sentence().into(), Some(500))),
            }
        };
        if let Some((code, message, retry_after_ms)) = refusal {
            self.say(&ServerFrame::Error {
                code,
                message,
                client_msg_id: Some(id.to_string()),
                request: None,
                retry_after_ms,
                server_time: None,
            });
        }
    }

    fn typing(&mut self, user: UserId, channel: ChannelId) {
        let member = self.tracks.get(&channel).is_some_and(|track| track.left.is_none());
        if !member || !self.budget.take_typing() {
            return; // A passing sign: nobody is told that it was dropped.
        }
        let value = encode_signal(&Signal { channel, user, kind: SignalKind::Typing });
        let partition = self.hub.config.topology.partition_of(channel);
        let to = Topic::new(schemas::topics::SIGNALS).partition(u32::from(partition.0));
        let record = Record::new(timeline::topics::key_of(&channel.0), value);
        drop(self.hub.deps.log.append(&to, vec![record]));
    }

    // ---- what the connection waits for -----------------------------------------------------------------------------------------

    /// Polls work and starts the next. `true`: something was done that may allow more.
    fn poll_work(&mut self, cx: &mut Context<'_>) -> bool {
        let mut done_any = false;
        loop {
            if self.work.is_none() {
                self.work = self.next_work();
            }
            let Some(work) = &mut self.work else { return done_any };
            let Poll::Ready(done) = work.as_mut().poll(cx) else { return done_any };
            self.work = None;
            done_any = true;
            self.finish(done, cx);
            if !self.has_room() {
                return done_any;
            }
        }
    }

    fn has_work_to_start(&self) -> bool {
        let catching_up = self.catch_up.as_ref().is_some_and(|catch_up| catch_up.plan.is_some());
        matches!(self.phase, Phase::Open(_))
            && self.work.is_none()
            && (self.resync_due || self.digest_due || !self.asked.is_empty() || catching_up)
    }

    fn next_work(&mut self) -> Option<Work> {
        let Phase::Open(session) = &self.phase else { return None };
        if !self.has_room() {
            return None;
        }
        let hub = Arc::clone(&self.hub);
        if std::mem::take(&mut self.resync_due) {
            let new = sessions::session_of(&hub, session.user, session.session, session.connection);
            if new.process_epoch != session.process_epoch {
                sessions::close(&hub, session);
            }
            self.phase = Phase::Open(Box::new(new.clone()));
            return Some(work::reopen(hub, new));
        }
        if let Some(asked) = self.asked.pop_front() {
            return Some(work::history(hub, session.user, asked));
        }
        let planned = self.catch_up.as_ref().and_then(|catch_up| catch_up.plan.as_ref());
        if let Some((channel, first)) = planned.and_then(|plan| plan.to_read.front()) {
            return Some(work::part(hub, session.user, *channel, *first));
        }
        if self.catch_up.is_none() && std::mem::take(&mut self.digest_due) {
            let mut channels = vec![ChannelId::personal(session.user)];
            let current = self.tracks.iter().filter(|(_, track)| track.left.is_none()).map(|(channel, _)| *channel);
            channels.extend(current);
            channels.sort_unstable();
            channels.dedup();
            return Some(work::heads(hub, channels));
        }
        None
    }

    fn finish(&mut self, done: Done, cx: &mut Context<'_>) {
        match done {
            Done::Opened(Ok(())) => self.opened(),
            Done::Planned(Ok(plan)) => self.planned(plan),
            Done::Part(channel, first, Ok(page)) => self.part(channel, first, page.as_ref()),
            Done::History(asked, Ok(Some(page))) => self.page(asked, &page),
            Done::History(asked, Ok(None)) => self.refuse_request(asked, Code::NotMember),
            Done::History(asked, Err(problem)) => {
                tracing::warn!(error = %problem, "a page can't be read");
                self.refuse_request(asked, Code::RetryLater);
            }
            Done::Heads(Ok(heads)) => self.say(&ServerFrame::Digest { heads: named(&heads) }),
            // The next digest comes in time.
            Done::Heads(Err(problem)) => tracing::warn!(error = %problem, "no digest"),
            Done::Reopened(Ok(())) => {
                self.say(&ServerFrame::Resync { reason: "events may have been missed".into() });
                self.digest_due = true;
            }
            Done::Opened(Err(problem)) => {
                tracing::warn!(error = %problem, "a session can't be opened");
                self.close(Code::RetryLater, Code::RetryLater.sentence(), cx);
            }
            Done::Reopened(Err(problem)) => {
                tracing::warn!(error = %problem, "a session can't be opened again");
                self.close(Code::Resync, Code::Resync.sentence(), cx);
            }
            Done::Planned(Err(problem)) | Done::Part(_, _, Err(problem)) => {
                tracing::warn!(error = %problem, "catch-up can't be read");
                self.close(Code::RetryLater, Code::RetryLater.sentence(), cx);
            }
        }
    }

    fn opened(&mut self) {
        let Phase::Opening(opening) = &mut self.phase else { return };
        let (session, cursors) = (opening.0.clone(), std::mem::take(&mut opening.1));
        let user = session.user;
        let welcome = ServerFrame::Welcome {
            session: session.session.to_string(),
            user: user.to_string(),
            server_time: self.hub.process().server_time().now_ms(),
            generation: self.hub.config.generation,
            heartbeat_ms: HEARTBEAT_MS,
            limits: LimitsFrame {
                body_bytes_max: MESSAGE_BODY_BYTES_MAX as u32,
                frame_bytes_max: FRAME_BYTES_MAX as u32,
                sends_per_second_max: self.hub.config.sends_per_second_max,
            },
        };
        self.say(&welcome);
        self.link.digest_at.store(self.tick() + FIRST_DIGEST_S, Ordering::Relaxed);
        self.phase = Phase::Open(Box::new(session));
        self.work = Some(work::plan(Arc::clone(&self.hub), user, cursors));
    }

    fn planned(&mut self, plan: Plan) {
        for known in &plan.channels {
            self.tracks.insert(known.channel, Track { sent: known.cursor.unwrap_or(0), left: known.left });
        }
        let Some(catch_up) = &mut self.catch_up else { return };
        catch_up.plan = Some(plan);
        self.release();
    }

    /// Passes on what was held and need not be any more; the last of it is followed by `caught_up`.
    fn release(&mut self) {
        let Some(catch_up) = &mut self.catch_up else { return };
        let held = std::mem::take(&mut catch_up.held);
        for frame in held {
            if self.passes(&frame) {
                self.socket.queue().extend_from_slice(&frame.wire);
            }
        }
        if let Some(catch_up) =
            self.catch_up.take_if(|catch_up| catch_up.plan.as_ref().is_some_and(|plan| plan.to_read.is_empty()))
            && let Some(plan) = catch_up.plan
        {
            self.say(&ServerFrame::CaughtUp { heads: named(&plan.heads) });
        }
    }

    fn part(&mut self, channel: ChannelId, first: ChannelSeq, page: Option<&PersonalPage>) {
        if let Some(page) = page {
            for stored in page.events() {
                append(self.socket.queue(), &ServerFrame::Event(shown(stored)));
            }
            let track = self.tracks.entry(channel).or_default();
            track.sent = track.sent.max(page.last.0);
            track.left = (!page.reach().is_current()).then(|| page.reach().end().0);
        }
        let Some(plan) = self.catch_up.as_mut().and_then(|catch_up| catch_up.plan.as_mut()) else { return };
        if let Some(page) = page
            && page.last >= first
        {
            plan.heads.entry(channel).and_modify(|head| *head = (*head).max(page.last.0));
            // A page of nothing but hidden events is passed over to where the person's own begin.
            let hidden = page.events().next().is_none();
            let next = if hidden { page.reach().next_above(page.last) } else { Some(page.last.next()) };
            if let Some(next) = next.filter(|_| page.more) {
                if let Some(front) = plan.to_read.front_mut() {
                    front.1 = next;
                }
                return;
            }
        }
        plan.to_read.pop_front();
        self.release();
    }

    fn page(&mut self, asked: Asked, page: &PersonalPage) {
        let Some(user) = self.link.user.get().copied() else { return };
        if asked.channel == ChannelId::personal(user) {
            // A change that the live way missed: from here on the channel is followed, or no longer.
            for stored in page.events() {
                match &stored.event.kind {
                    EventKind::ChannelJoined { channel, seq } => {
                        let track = self.tracks.entry(*channel).or_default();
                        if track.left.is_some_and(|left| left < seq.0) {
                            track.left = None;
                        }
                    }
                    EventKind::ChannelLeft { channel, seq } => {
                        let track = self.tracks.entry(*channel).or_default();
                        if track.sent <= seq.0 {
                            track.left = Some(seq.0);
                        }
                    }
                    _ => {}
                }
            }
        }
        self.say(&ServerFrame::Page {
            channel: asked.channel.to_string(),
            request: asked.request,
            events: page.events().map(shown).collect(),
            first: page.first.0,
            last: page.last.0,
        });
    }

    fn refuse_request(&mut self, asked: Asked, code: Code) {
        self.say(&ServerFrame::Error {
            code,
            message: code.sentence().into(),
            client_msg_id: None,
            request: Some(asked.request),
            retry_after_ms: (code == Code::RetryLater).then_some(500),
            server_time: None,
        });
    }
}

/// What reading came to.
enum Reads {
    /// The socket has nothing more for now, or its turn waits for room.
    Done,
    /// There may be more; others have a turn first.
    More,
    /// The close handshake is over: what waits is written, then it ends.
    Ended,
    /// The socket is gone.
    Gone,
}

impl Budget {
    /// `Err`: in how many ms to try again.
    fn take_send(&mut self, per_second: u32) -> Result<(), u64> {
        let now = Instant::now();
        let per_second = per_second as f32;
        let gained = now.duration_since(self.since).as_secs_f32() * per_second;
        self.since = now;
        self.sends = (self.sends + gained).min(per_second * SEND_BURST_S);
        if self.sends < 1.0 {
            return Err(((1.0 - self.sends) / per_second * 1_000.0).ceil() as u64);
        }
        self.sends -= 1.0;
        Ok(())
    }

    fn take_typing(&mut self) -> bool {
        let now = Instant::now();
        if self.typed.is_some_and(|typed| now.duration_since(typed).as_millis() < u128::from(TYPING_INTERVAL_MS)) {
            return false;
        }
        self.typed = Some(now);
        true
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.end_session();
        self.hub.leave(&self.link);
    }
}

fn named(heads: &BTreeMap<ChannelId, u64>) -> BTreeMap<String, u64> {
    heads.iter().map(|(channel, seq)| (channel.to_string(), *seq)).collect()
}
