//! The rules of a client, without IO: what to do with each frame, and what to send when.
//!
//! The caller owns the connection: it tells the core what happened (`welcomed` and all else by frames, `closed`, the
//! passing of time) and carries out the [`Effect`]s in their order. The core also records the history for the auditor.

use crate::auditor::{ClientHistory, Moment, Op, SeenEvent, Via};
use crate::client::limits::{
    ANSWER_TIMEOUT_MS, HISTORY_TIMEOUT_MS, PAGE_EVENTS_MAX, RECONNECT_BACKOFF_FIRST_MS, RECONNECT_BACKOFF_MAX_MS,
    SILENCE_HEARTBEATS_MAX,
};
use crate::client::parse::{parse_channel, parse_event};
use domain::{ChannelId, ChannelSeq, ClientMsgId, EventKind, UserId};
use runtime::SharedEntropy;
use schemas::error_codes::Code;
use schemas::frames::{ClientFrame, CursorFrame, ServerFrame, VERSION};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the caller does next.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Sends the frame on the open connection.
    Transmit(ClientFrame),
    /// Closes the connection, waits and opens another.
    Reconnect {
        /// How long, ms.
        after_ms: u64,
    },
}

/// Where a client without a cursor begins in a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// With all that the channel shows: the auditor then compares everything.
    #[default]
    Beginning,
    /// With what happens from now on.
    Head,
}

/// A rule that a client can break, so that the auditor's and the simulation's teeth can be proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokenRule {
    /// The cursor follows the newest event, whatever is missing below it.
    CursorMovesOverHole,
    /// An event that is known already is applied again.
    NoDedupe,
    /// A retry gets a new id.
    NewIdForRetry,
    /// Digests are not compared.
    DigestIgnored,
}

/// How a send ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendEnd {
    /// It has its place.
    Acked(ChannelSeq),
    /// Refused for good.
    Refused(Code),
}

/// A message that has no answer yet.
#[derive(Clone, Debug)]
struct OutboxEntry {
    channel: ChannelId,
    id: ClientMsgId,
    body: Arc<str>,
    attempts: u32,
    /// When to send (again); `None`: with the next welcome.
    due: Option<Moment>,
}

/// The client's copy of one channel.
#[derive(Clone, Debug, Default)]
struct ChannelCopy {
    /// Everything visible up to here is applied.
    cursor: ChannelSeq,
    /// Arrived above a hole.
    above_hole: BTreeMap<ChannelSeq, Arc<SeenEvent>>,
    /// The highest seq that is known to exist.
    head: ChannelSeq,
    /// A page that was asked for and when to give up on it.
    asked: Option<(u64, Moment)>,
    /// Not a member any more: holes are not asked for.
    left: bool,
    events: Vec<Arc<SeenEvent>>,
}

/// The state of one device.
#[derive(Debug)]
pub struct ClientCore {
    user: UserId,
    token: String,
    start: Start,
    broken: Option<BrokenRule>,
    entropy: SharedEntropy,
    wall_origin_ms: u64,
    server_offset_ms: Option<i64>,
    generation: Option<u64>,
    welcomed: bool,
    caught_up: bool,
    heartbeat_ms: u64,
    last_heard: Moment,
    last_sent: Moment,
    failures: u32,
    requests: u64,
    channels: BTreeMap<ChannelId, ChannelCopy>,
    outbox: Vec<OutboxEntry>,
    ended: BTreeMap<ClientMsgId, SendEnd>,
    history: ClientHistory,
}

impl ClientCore {
    /// A client that is not connected. `wall_origin_ms`: the wall-clock time of [`Moment`] zero, used until the server has
    /// told its time.
    pub fn new(
        name: impl Into<String>,
        user: UserId,
        token: impl Into<String>,
        start: Start,
        entropy: SharedEntropy,
        wall_origin_ms: u64,
    ) -> Self {
        Self {
            user,
            token: token.into(),
            start,
            broken: None,
            entropy,
            wall_origin_ms,
            server_offset_ms: None,
            generation: None,
            welcomed: false,
            caught_up: false,
            heartbeat_ms: 5_000,
            last_heard: Moment(0),
            last_sent: Moment(0),
            failures: 0,
            requests: 0,
            channels: BTreeMap::new(),
            outbox: Vec::new(),
            ended: BTreeMap::new(),
            history: ClientHistory::new(name, user),
        }
    }

    /// The same, breaking a rule.
    #[must_use]
    pub fn breaking(mut self, rule: BrokenRule) -> Self {
        self.broken = Some(rule);
        self
    }

    /// Whose device it is.
    pub fn user(&self) -> UserId {
        self.user
    }

    /// Welcomed and caught up.
    pub fn is_online(&self) -> bool {
        self.welcomed && self.caught_up
    }

    /// How a send ended; `None`: it waits, or was never sent.
    pub fn end_of(&self, id: ClientMsgId) -> Option<SendEnd> {
        self.ended.get(&id).copied()
    }

    /// Sends without an answer.
    pub fn waiting(&self) -> usize {
        self.outbox.len()
    }

    /// The cursor of a channel; `None`: the client does not know it.
    pub fn cursor(&self, channel: ChannelId) -> Option<ChannelSeq> {
        self.channels.get(&channel).map(|copy| copy.cursor)
    }

    /// The events of a channel that the client has applied, in order.
    pub fn events(&self, channel: ChannelId) -> &[Arc<SeenEvent>] {
        self.channels.get(&channel).map_or(&[], |copy| &copy.events)
    }

    /// Online, nothing waits for an answer, and no hole or higher head is known.
    pub fn is_settled(&self) -> bool {
        self.is_online()
            && self.outbox.is_empty()
            && self.channels.values().all(|copy| copy.left || (copy.cursor >= copy.head && copy.above_hole.is_empty()))
    }

    /// What was recorded so far, with the state it ends in. `quiescent`: the caller has waited as long as TAIL allows.
    pub fn history(&self, quiescent: bool) -> ClientHistory {
        let mut history = self.history.clone();
        history.end.quiescent = quiescent;
        history.end.cursors = self.channels.iter().map(|(channel, copy)| (*channel, copy.cursor)).collect();
        history
    }

    /// A connection is open: the first frame.
    pub fn hello(&mut self, now: Moment) -> ClientFrame {
        self.welcomed = false;
        self.caught_up = false;
        self.last_heard = now;
        self.last_sent = now;
        let generation = self.generation.unwrap_or_default();
        let cursors = self
            .channels
            .iter()
            .map(|(channel, copy)| (channel.to_string(), CursorFrame { generation, seq: copy.cursor.0 }))
            .collect();
        ClientFrame::Hello { v: VERSION, token: Some(self.token.clone()), cursors }
    }

    /// The connection is gone, or could not be opened. Says when to try again: full jitter under an exponential bound.
    pub fn closed(&mut self, now: Moment) -> u64 {
        if self.welcomed {
            self.history.record(now, Op::Disconnected);
        }
        self.welcomed = false;
        self.caught_up = false;
        for copy in self.channels.values_mut() {
            copy.asked = None;
        }
        for entry in &mut self.outbox {
            entry.due = None;
        }
        self.failures += 1;
        let bound = RECONNECT_BACKOFF_MAX_MS.min(RECONNECT_BACKOFF_FIRST_MS << self.failures.min(16));
        self.entropy.below(bound) + 1
    }

    /// Makes a new id, in server time.
    pub fn new_id(&self, now: Moment) -> ClientMsgId {
        ClientMsgId(self.entropy.uuid_v7(self.server_ms(now)))
    }

    /// Puts a message into the outbox, and sends it if there is a connection.
    pub fn send(&mut self, now: Moment, channel: ChannelId, id: ClientMsgId, body: &str) -> Vec<Effect> {
        self.outbox.push(OutboxEntry { channel, id, body: body.into(), attempts: 0, due: Some(now) });
        let mut effects = Vec::new();
        self.transmit_due(now, &mut effects);
        effects
    }

    /// Asks for a page of a channel, whatever is known.
    pub fn ask_page(
        &mut self,
        now: Moment,
        channel: ChannelId,
        first: Option<u64>,
        last: Option<u64>,
    ) -> Option<Effect> {
        if !self.welcomed {
            return None;
        }
        self.requests += 1;
        let request = self.requests;
        self.history.record(now, Op::PageAsked { channel, request });
        self.last_sent = now;
        let limit = Some(PAGE_EVENTS_MAX);
        Some(Effect::Transmit(ClientFrame::History { channel: channel.to_string(), request, first, last, limit }))
    }

    /// Time has passed: heartbeats, retries, lost pages, a silent server.
    pub fn tick(&mut self, now: Moment) -> Vec<Effect> {
        let mut effects = Vec::new();
        let silence_ms = now.0.saturating_sub(self.last_heard.0) / 1_000;
        if silence_ms > self.heartbeat_ms * SILENCE_HEARTBEATS_MAX {
            return vec![Effect::Reconnect { after_ms: 0 }];
        }
        if !self.welcomed {
            return effects;
        }
        self.transmit_due(now, &mut effects);
        for copy in self.channels.values_mut() {
            if copy.asked.is_some_and(|(_, give_up)| give_up <= now) {
                copy.asked = None;
            }
        }
        self.fill_holes(now, &mut effects);
        if now.0.saturating_sub(self.last_sent.0) / 1_000 >= self.heartbeat_ms {
            self.last_sent = now;
            effects.push(Effect::Transmit(ClientFrame::Ping {}));
        }
        effects
    }

    /// What to do with a frame.
    pub fn handle_frame(&mut self, now: Moment, frame: ServerFrame) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.last_heard = now;
        match frame {
            ServerFrame::Welcome { server_time, generation, heartbeat_ms, .. } => {
                self.learn_time(now, server_time);
                self.heartbeat_ms = heartbeat_ms.max(1);
                self.welcomed = true;
                self.failures = 0;
                self.history.record(now, Op::Connected);
                if self.generation.replace(generation).is_some_and(|known| known != generation) {
                    self.channels.clear();
                }
                for entry in &mut self.outbox {
                    entry.due = Some(now);
                }
                self.transmit_due(now, &mut effects);
            }
            ServerFrame::Event(event) => match parse_event(&event) {
                Ok(event) => self.received(now, &Arc::new(event), &mut effects),
                Err(error) => tracing::error!(%error, "the server sent an event that can't be read"),
            },
            ServerFrame::Ack { channel, client_msg_id, seq } => {
                if let (Ok(channel), Ok(id)) = (parse_channel(&channel), client_msg_id.parse()) {
                    self.acked(now, channel, id, ChannelSeq(seq));
                }
            }
            ServerFrame::CaughtUp { heads } => {
                self.caught_up = true;
                self.compare(now, heads, &mut effects);
            }
            ServerFrame::Digest { heads } => {
                if self.broken != Some(BrokenRule::DigestIgnored) {
                    self.compare(now, heads, &mut effects);
                }
            }
            ServerFrame::Page { channel, request, events, first, last } => {
                let events: Result<Vec<_>, _> = events.iter().map(|event| parse_event(event).map(Arc::new)).collect();
                match (parse_channel(&channel), events) {
                    (Ok(channel), Ok(events)) => {
                        self.page(now, channel, request, ChannelSeq(first), ChannelSeq(last), events, &mut effects);
                    }
                    (Err(error), _) | (_, Err(error)) => {
                        tracing::error!(%error, "the server sent a page that can't be read");
                    }
                }
            }
            ServerFrame::Typing { .. } => {}
            ServerFrame::Resync { .. } => effects.push(Effect::Reconnect { after_ms: 0 }),
            ServerFrame::Goaway { reconnect_after_ms } => {
                effects.push(Effect::Reconnect { after_ms: reconnect_after_ms });
            }
            ServerFrame::Pong { server_time } => self.learn_time(now, server_time),
            ServerFrame::Error { code, client_msg_id, request, retry_after_ms, server_time, .. } => {
                if let Some(server_time) = server_time {
                    self.learn_time(now, server_time);
                }
                if let Some(id) = client_msg_id.and_then(|id| id.parse().ok()) {
                    self.refused(now, id, code, retry_after_ms);
                }
                if let Some(request) = request {
                    self.page_refused(now, request, code);
                }
            }
        }
        effects
    }

    fn server_ms(&self, now: Moment) -> u64 {
        let local = self.wall_origin_ms + now.0 / 1_000;
        local.saturating_add_signed(self.server_offset_ms.unwrap_or_default())
    }

    fn learn_time(&mut self, now: Moment, server_time: u64) {
        let local = self.wall_origin_ms + now.0 / 1_000;
        self.server_offset_ms = Some(server_time as i64 - local as i64);
    }

    fn transmit_due(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        if !self.welcomed {
            return;
        }
        for entry in &mut self.outbox {
            if entry.due.is_none_or(|due| due > now) {
                continue;
            }
            let retry = entry.attempts > 0;
            if retry && self.broken == Some(BrokenRule::NewIdForRetry) {
                entry.id = ClientMsgId(self.entropy.uuid_v7(self.wall_origin_ms + now.0 / 1_000));
            }
            entry.attempts += 1;
            entry.due = Some(Moment(now.0 + ANSWER_TIMEOUT_MS * 1_000));
            self.last_sent = now;
            self.history.record(now, Op::Sent { channel: entry.channel, id: entry.id, body: Arc::clone(&entry.body) });
            effects.push(Effect::Transmit(ClientFrame::Send {
                channel: entry.channel.to_string(),
                client_msg_id: entry.id.to_string(),
                body: entry.body.to_string(),
                retry,
            }));
        }
    }

    fn acked(&mut self, now: Moment, channel: ChannelId, id: ClientMsgId, seq: ChannelSeq) {
        // Repeats are recorded too: two acks must say the same.
        self.history.record(now, Op::Acked { channel, id, seq });
        self.outbox.retain(|entry| entry.id != id || entry.channel != channel);
        self.ended.insert(id, SendEnd::Acked(seq));
    }

    fn refused(&mut self, now: Moment, id: ClientMsgId, code: Code, retry_after_ms: Option<u64>) {
        let Some(index) = self.outbox.iter().position(|entry| entry.id == id) else { return };
        let for_good = code.number() < 4100;
        let channel = self.outbox[index].channel;
        self.history.record(now, Op::Refused { channel, id, code: code.number(), for_good });
        if for_good {
            self.outbox.remove(index);
            self.ended.insert(id, SendEnd::Refused(code));
        } else {
            let wait_ms =
                retry_after_ms.unwrap_or(RECONNECT_BACKOFF_FIRST_MS) + self.entropy.below(RECONNECT_BACKOFF_FIRST_MS);
            self.outbox[index].due = Some(Moment(now.0 + wait_ms * 1_000));
        }
    }

    fn received(&mut self, now: Moment, event: &Arc<SeenEvent>, effects: &mut Vec<Effect>) {
        let via = if self.caught_up { Via::Live } else { Via::CatchUp };
        self.history.record(now, Op::Received { event: Arc::clone(event), via });
        let mine = self.outbox.iter().any(|entry| entry.channel == event.channel && entry.id == event.client_msg_id);
        if event.sender == self.user && event.kind.is_message() && mine {
            self.acked(now, event.channel, event.client_msg_id, event.seq);
        }
        match &event.kind {
            EventKind::ChannelJoined { channel, seq } => {
                let base = if self.start == Start::Head { ChannelSeq(seq.0 - 1) } else { ChannelSeq(0) };
                let copy = self.copy_of(now, *channel, base);
                copy.left = false;
                copy.head = copy.head.max(*seq);
            }
            EventKind::ChannelLeft { channel, seq } => {
                // The events up to the leaving may still be on their way; a later return brings a ChannelJoined.
                if let Some(copy) = self.channels.get_mut(channel)
                    && copy.cursor <= *seq
                {
                    copy.head = *seq;
                }
            }
            EventKind::MemberLeft { user, .. } if *user == self.user => {
                if let Some(copy) = self.channels.get_mut(&event.channel) {
                    copy.head = event.seq;
                }
            }
            _ => {}
        }
        self.take(now, event);
        self.fill_holes(now, effects);
    }

    /// Puts an event into its channel's copy; applies what has become contiguous.
    fn take(&mut self, now: Moment, event: &Arc<SeenEvent>) {
        let broken = self.broken;
        let copy = self.copy_of(now, event.channel, ChannelSeq(0));
        copy.head = copy.head.max(event.seq);
        let mut applied = Vec::new();
        if event.seq <= copy.cursor {
            if broken == Some(BrokenRule::NoDedupe) {
                applied.push(event.seq);
            }
        } else if broken == Some(BrokenRule::CursorMovesOverHole) {
            copy.cursor = event.seq;
            copy.events.push(Arc::clone(event));
            applied.push(event.seq);
        } else {
            copy.above_hole.insert(event.seq, Arc::clone(event));
            copy.drain(&mut applied);
        }
        for seq in applied {
            self.history.record(now, Op::Applied { channel: event.channel, seq });
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one frame")]
    fn page(
        &mut self,
        now: Moment,
        channel: ChannelId,
        request: u64,
        first: ChannelSeq,
        last: ChannelSeq,
        events: Vec<Arc<SeenEvent>>,
        effects: &mut Vec<Effect>,
    ) {
        self.history.record(now, Op::PageRead { channel, request, first, last, events: events.clone() });
        let copy = self.copy_of(now, channel, ChannelSeq(0));
        if copy.asked.is_some_and(|(asked, _)| asked == request) {
            copy.asked = None;
        }
        let before = copy.cursor;
        let mut applied = Vec::new();
        copy.head = copy.head.max(events.last().map_or(ChannelSeq(0), |event| event.seq));
        for event in events.into_iter().filter(|event| event.seq > copy.cursor) {
            copy.above_hole.insert(event.seq, event);
        }
        if first <= copy.cursor.next() {
            // Complete up to `last`: what is not there is hidden, so the cursor may pass it.
            let above = copy.above_hole.split_off(&last.next());
            for event in std::mem::replace(&mut copy.above_hole, above).into_values() {
                copy.apply(event, &mut applied);
            }
            copy.cursor = copy.cursor.max(last);
        }
        copy.drain(&mut applied);
        if copy.cursor == before && copy.head > before {
            // The server is behind what it showed before: ask again, but not at once.
            copy.asked = Some((request, Moment(now.0 + RECONNECT_BACKOFF_FIRST_MS * 1_000)));
        }
        for seq in applied {
            self.history.record(now, Op::Applied { channel, seq });
        }
        self.fill_holes(now, effects);
    }

    fn page_refused(&mut self, now: Moment, request: u64, code: Code) {
        let asked = self.channels.values_mut().find(|copy| copy.asked.is_some_and(|(asked, _)| asked == request));
        let Some(copy) = asked else { return };
        match code {
            // No member any more: what is missing is not for us. A later head or event asks again.
            Code::NotMember => {
                copy.asked = None;
                copy.left = true;
            }
            _ => copy.asked = Some((request, Moment(now.0 + RECONNECT_BACKOFF_FIRST_MS * 1_000))),
        }
    }

    fn compare(&mut self, now: Moment, heads: BTreeMap<String, u64>, effects: &mut Vec<Effect>) {
        let start = self.start;
        for (channel, head) in heads {
            let Ok(channel) = parse_channel(&channel) else { continue };
            let base = if start == Start::Head { ChannelSeq(head) } else { ChannelSeq(0) };
            let copy = self.copy_of(now, channel, base);
            copy.head = copy.head.max(ChannelSeq(head));
            copy.left = false;
        }
        self.fill_holes(now, effects);
    }

    fn fill_holes(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        if !self.welcomed || self.broken == Some(BrokenRule::CursorMovesOverHole) {
            return;
        }
        let mut asks = Vec::new();
        for (channel, copy) in &mut self.channels {
            // During catch-up the holes fill by themselves.
            if copy.asked.is_some() || copy.left || copy.head <= copy.cursor || !self.caught_up {
                continue;
            }
            let last = copy.above_hole.keys().next().map_or(copy.head, |seq| ChannelSeq(seq.0 - 1));
            asks.push((*channel, copy.cursor.next(), last));
        }
        for (channel, first, last) in asks {
            if let Some(ask) = self.ask_page(now, channel, Some(first.0), Some(last.0)) {
                effects.push(ask);
                let give_up = Moment(now.0 + HISTORY_TIMEOUT_MS * 1_000);
                let request = self.requests;
                self.copy_of(now, channel, ChannelSeq(0)).asked = Some((request, give_up));
            }
        }
    }

    fn copy_of(&mut self, now: Moment, channel: ChannelId, base: ChannelSeq) -> &mut ChannelCopy {
        let history = &mut self.history;
        self.channels.entry(channel).or_insert_with(|| {
            history.record(now, Op::Based { channel, seq: base });
            ChannelCopy { cursor: base, head: base, ..ChannelCopy::default() }
        })
    }
}

impl ChannelCopy {
    fn apply(&mut self, event: Arc<SeenEvent>, applied: &mut Vec<ChannelSeq>) {
        self.cursor = event.seq;
        applied.push(event.seq);
        self.events.push(event);
    }

    /// Applies what follows the cursor without a hole.
    fn drain(&mut self, applied: &mut Vec<ChannelSeq>) {
        self.above_hole = self.above_hole.split_off(&self.cursor.next());
        while let Some(event) = self.above_hole.remove(&self.cursor.next()) {
            self.apply(event, applied);
        }
    }
}
