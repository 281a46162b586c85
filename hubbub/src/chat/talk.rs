//! The rules a client keeps, without IO: contiguous cursors, holes filled from history, an outbox that sends again.

use runtime::SharedEntropy;
use schemas::error_codes::Code;
use schemas::frames::{ClientFrame, CursorFrame, EventFrame, EventKindFrame, ServerFrame};
use std::collections::{BTreeMap, VecDeque};

/// Messages waiting for their ack. Above it the person is told to wait: without a server nothing would ever leave.
const OUTBOX_MESSAGES_MAX: usize = 100;
/// Events that came before those of a hole; above it they are forgotten, since the page that fills the hole brings them too.
const AHEAD_EVENTS_MAX: usize = 1_000;
/// What one sees of a channel when one opens it.
const OPENING_EVENTS: u64 = 20;
/// How long to wait for an ack before sending the same again.
const ACK_WAIT_MS: u64 = 5_000;
/// How long somebody counts as typing after one signal.
const TYPING_MS: u64 = 5_000;

/// What a person should see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// An event of a channel.
    Event(EventFrame),
    /// One's own message was refused for good.
    Refused { body: String, reason: String },
    /// Something the server said that is about nothing in particular.
    Notice(String),
    /// A channel has come or gone: the list is worth asking for again.
    ChannelsChanged,
}

/// What follows from a frame.
#[derive(Debug, Default)]
pub(crate) struct Step {
    pub(crate) send: Vec<ClientFrame>,
    pub(crate) show: Vec<Shown>,
}

#[derive(Debug)]
struct Waiting {
    channel: String,
    client_msg_id: String,
    body: String,
    /// When to send it again, by the clock of [`Talk`]'s caller.
    again_ms: u64,
}

#[derive(Debug, Default)]
struct Channel {
    cursor: u64,
    /// The hole asked for: up to which seq.
    asked_to: Option<u64>,
    ahead: BTreeMap<u64, EventFrame>,
    typing: BTreeMap<String, u64>,
}

/// One person's conversation with a server, over any number of connections.
#[derive(Debug)]
pub(crate) struct Talk {
    token: String,
    me: String,
    entropy: SharedEntropy,
    online: bool,
    generation: u64,
    /// Server time minus ours, ms.
    ahead_ms: i64,
    requests: u64,
    channels: BTreeMap<String, Channel>,
    open: Option<String>,
    outbox: VecDeque<Waiting>,
}

impl Talk {
    pub(crate) fn new(token: String, me: String, entropy: SharedEntropy) -> Self {
        Self {
            token,
            me,
            entropy,
            online: false,
            generation: 0,
            ahead_ms: 0,
            requests: 0,
            channels: BTreeMap::new(),
            open: None,
            outbox: VecDeque::new(),
        }
    }

    /// The channel one is in.
    pub(crate) fn open_channel(&self) -> Option<&str> {
        self.open.as_deref()
    }

    /// Whether every message has been answered.
    pub(crate) fn is_settled(&self) -> bool {
        self.outbox.is_empty()
    }

    /// Who is typing in the open channel, oneself not counted.
    pub(crate) fn typing(&self, now_ms: u64) -> Vec<&str> {
        let Some(channel) = self.open.as_ref().and_then(|open| self.channels.get(open)) else { return Vec::new() };
        channel
            .typing
            .iter()
            .filter(|(who, until)| **who != self.me && **until > now_ms)
            .map(|(who, _)| who.as_str())
            .collect()
    }

    /// The first frame on a new connection.
    pub(crate) fn hello(&self) -> ClientFrame {
        let cursor = |channel: &Channel| CursorFrame { generation: self.generation, seq: channel.cursor };
        let known = self.channels.iter().filter(|(_, channel)| channel.cursor > 0);
        ClientFrame::Hello {
            v: schemas::frames::VERSION,
            token: Some(self.token.clone()),
            cursors: known.map(|(id, channel)| (id.clone(), cursor(channel))).collect(),
        }
    }

    /// The connection is gone.
    pub(crate) fn went_down(&mut self) {
        self.online = false;
        for channel in self.channels.values_mut() {
            channel.asked_to = None;
        }
    }

    /// Enters a channel: its last events, unless they were shown before.
    pub(crate) fn enter(&mut self, id: &str, head: u64) -> Step {
        let mut step = Step::default();
        self.open = Some(id.to_owned());
        let channel = self.channels.entry(id.to_owned()).or_default();
        let from = head.saturating_sub(OPENING_EVENTS);
        channel.cursor = from;
        channel.ahead.clear();
        channel.asked_to = None;
        if head > from {
            step.send.extend(self.ask(id, head));
        }
        step
    }

    /// Says something in the open channel. `Err` says why not.
    pub(crate) fn say(&mut self, body: String, now_ms: u64) -> Result<Vec<ClientFrame>, &'static str> {
        let channel = self.open.clone().ok_or("no channel is open: /channels shows yours, /create makes one")?;
        if self.outbox.len() >= OUTBOX_MESSAGES_MAX {
            return Err("too many messages are waiting for the server: this one was not taken");
        }
        let server_ms = now_ms.saturating_add_signed(self.ahead_ms);
        let client_msg_id = self.entropy.uuid_v7(server_ms).to_string();
        let waiting = Waiting { channel, client_msg_id, body, again_ms: now_ms + ACK_WAIT_MS };
        let frame = frame_of(&waiting, false);
        self.outbox.push_back(waiting);
        Ok(if self.online { vec![frame] } else { Vec::new() })
    }

    /// What to send again by now.
    pub(crate) fn tick(&mut self, now_ms: u64) -> Vec<ClientFrame> {
        if !self.online {
            return Vec::new();
        }
        let late = self.outbox.iter_mut().filter(|waiting| waiting.again_ms <= now_ms);
        late.map(|waiting| {
            waiting.again_ms = now_ms + ACK_WAIT_MS;
            frame_of(waiting, true)
        })
        .collect()
    }

    /// Takes a frame.
    pub(crate) fn hear(&mut self, frame: ServerFrame, now_ms: u64) -> Step {
        let mut step = Step::default();
        match frame {
            ServerFrame::Welcome { server_time, generation, .. } => {
                if self.generation != 0 && self.generation != generation {
                    // The log was lost or restored: nothing known by seq holds any more.
                    self.channels.clear();
                    step.show.push(Shown::Notice(
                        "the server's log was restored: history may differ from what you saw".into(),
                    ));
                }
                self.generation = generation;
                self.ahead_ms = server_time.cast_signed() - now_ms.cast_signed();
                self.online = true;
                for waiting in &mut self.outbox {
                    waiting.again_ms = now_ms + ACK_WAIT_MS;
                    step.send.push(frame_of(waiting, true));
                }
            }
            ServerFrame::Event(event) => self.take(event, &mut step),
            ServerFrame::Ack { client_msg_id, .. } => self.acked(&client_msg_id),
            ServerFrame::CaughtUp { heads } | ServerFrame::Digest { heads } => self.compare(heads, &mut step),
            ServerFrame::Page { channel, events, last, .. } => self.fill(&channel, events, last, &mut step),
            ServerFrame::Typing { channel, user } => {
                let until = now_ms + TYPING_MS;
                self.channels.entry(channel).or_default().typing.insert(user, until);
            }
            // The link connects again.
            ServerFrame::Resync { .. } | ServerFrame::Goaway { .. } => {}
            ServerFrame::Pong { server_time } => self.ahead_ms = server_time.cast_signed() - now_ms.cast_signed(),
            ServerFrame::Error { code, message, client_msg_id, retry_after_ms, server_time, .. } => {
                if let Some(server_time) = server_time {
                    self.ahead_ms = server_time.cast_signed() - now_ms.cast_signed();
                }
                self.refused(code, message, client_msg_id, retry_after_ms, now_ms, &mut step);
            }
        }
        step
    }

    fn take(&mut self, event: EventFrame, step: &mut Step) {
        self.acked(&event.client_msg_id);
        let (id, seq) = (event.channel.clone(), event.seq);
        let channel = self
            .channels
            .entry(id.clone())
            .or_insert_with(|| Channel { cursor: seq.saturating_sub(1), ..Channel::default() });
        if seq <= channel.cursor {
            return;
        }
        if channel.ahead.len() < AHEAD_EVENTS_MAX {
            channel.ahead.insert(seq, event);
        }
        self.advance(&id, step);
        if let Some(channel) = self.channels.get(&id)
            && channel.cursor < seq
        {
            step.send.extend(self.ask(&id, seq));
        }
    }

    /// Shows what follows the cursor without a hole.
    fn advance(&mut self, id: &str, step: &mut Step) {
        let Some(channel) = self.channels.get_mut(id) else { return };
        while let Some(event) = channel.ahead.remove(&(channel.cursor + 1)) {
            channel.cursor += 1;
            channel.typing.remove(&event.sender);
            if matches!(event.kind, EventKindFrame::ChannelJoined { .. } | EventKindFrame::ChannelLeft { .. }) {
                step.show.push(Shown::ChannelsChanged);
            } else {
                step.show.push(Shown::Event(event));
            }
        }
    }

    fn fill(&mut self, id: &str, events: Vec<EventFrame>, last: u64, step: &mut Step) {
        for event in &events {
            self.acked(&event.client_msg_id);
        }
        let Some(channel) = self.channels.get_mut(id) else { return };
        let asked_to = channel.asked_to.take();
        for event in events {
            if event.seq > channel.cursor {
                channel.ahead.insert(event.seq, event);
            }
        }
        // Within the page nothing is missing: what is not there is hidden from this person.
        while self.channels.get(id).is_some_and(|channel| channel.cursor < last) {
            self.advance(id, step);
            if let Some(channel) = self.channels.get_mut(id)
                && channel.cursor < last
            {
                channel.cursor += 1;
            }
        }
        self.advance(id, step);
        let reached = self.channels.get(id).map_or(0, |channel| channel.cursor);
        if let Some(to) = asked_to.filter(|to| *to > reached && last > 0) {
            step.send.extend(self.ask(id, to));
        }
    }

    fn compare(&mut self, heads: BTreeMap<String, u64>, step: &mut Step) {
        for (id, head) in heads {
            let known = self.channels.get(&id).map(|channel| channel.cursor);
            match known {
                // Not opened yet: what is there is history.
                None => {
                    self.channels.insert(id, Channel { cursor: head, ..Channel::default() });
                }
                Some(cursor) if cursor < head => step.send.extend(self.ask(&id, head)),
                Some(_) => {}
            }
        }
    }

    /// Asks for everything after the cursor, unless that is under way.
    fn ask(&mut self, id: &str, to: u64) -> Option<ClientFrame> {
        let online = self.online;
        let channel = self.channels.get_mut(id)?;
        if !online || channel.asked_to.is_some_and(|asked| asked >= to) {
            return None;
        }
        channel.asked_to = Some(to);
        self.requests += 1;
        Some(ClientFrame::History {
            channel: id.to_owned(),
            request: self.requests,
            first: Some(channel.cursor + 1),
            last: Some(to),
            limit: None,
        })
    }

    fn acked(&mut self, client_msg_id: &str) {
        self.outbox.retain(|waiting| waiting.client_msg_id != client_msg_id);
    }

    fn refused(
        &mut self,
        code: Code,
        message: String,
        client_msg_id: Option<String>,
        retry_after_ms: Option<u64>,
        now_ms: u64,
        step: &mut Step,
    ) {
        let later = (4_100..4_200).contains(&code.number());
        let waiting = client_msg_id.and_then(|id| self.outbox.iter().position(|waiting| waiting.client_msg_id == id));
        match waiting {
            Some(n) if later => self.outbox[n].again_ms = now_ms + retry_after_ms.unwrap_or(1_000),
            Some(n) => {
                if let Some(waiting) = self.outbox.remove(n) {
                    step.show.push(Shown::Refused { body: waiting.body, reason: message });
                }
            }
            None if !later => step.show.push(Shown::Notice(message)),
            None => {}
        }
    }
}

fn frame_of(waiting: &Waiting, retry: bool) -> ClientFrame {
    ClientFrame::Send {
        channel: waiting.channel.clone(),
        client_msg_id: waiting.client_msg_id.clone(),
        body: waiting.body.clone(),
        retry,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime::Entropy;

    const NOW: u64 = 1_700_000_000_000;

    fn posted(seq: u64) -> EventFrame {
        EventFrame {
            channel: "c".into(),
            seq,
            ordinal: seq,
            id: seq.to_string(),
            time: NOW,
            sender: "bob".into(),
            client_msg_id: format!("m{seq}"),
            kind: EventKindFrame::MessagePosted { body: format!("body {seq}") },
        }
    }

    fn online() -> Talk {
        let mut talk = Talk::new("token".into(), "alice".into(), Entropy::from_seed(1));
        let limits = schemas::frames::LimitsFrame { body_bytes_max: 1, frame_bytes_max: 1, sends_per_second_max: 1 };
        let welcome = ServerFrame::Welcome {
            session: "s".into(),
            user: "alice".into(),
            server_time: NOW,
            generation: 1,
            heartbeat_ms: 5_000,
            limits,
        };
        talk.hear(welcome, NOW);
        talk.enter("c", 0);
        talk
    }

    fn seqs(step: &Step) -> Vec<u64> {
        step.show
            .iter()
            .filter_map(|shown| if let Shown::Event(event) = shown { Some(event.seq) } else { None })
            .collect()
    }

    #[test]
    fn events_are_shown_once_and_in_order() {
        let mut talk = online();
        assert_eq!(seqs(&talk.hear(ServerFrame::Event(posted(1)), NOW)), [1]);
        assert_eq!(seqs(&talk.hear(ServerFrame::Event(posted(1)), NOW)), [0; 0]);
        assert_eq!(seqs(&talk.hear(ServerFrame::Event(posted(2)), NOW)), [2]);
    }

    #[test]
    fn a_hole_is_filled_from_history_before_what_follows_it_is_shown() {
        let mut talk = online();
        talk.hear(ServerFrame::Event(posted(1)), NOW);
        let step = talk.hear(ServerFrame::Event(posted(4)), NOW);
        assert_eq!(seqs(&step), [0; 0]);
        let [ClientFrame::History { first: Some(2), last: Some(4), request, .. }] = step.send[..] else {
            panic!("it asks for the hole: {:?}", step.send)
        };
        // 3 is hidden from this person.
        let page = ServerFrame::Page { channel: "c".into(), request, events: vec![posted(2)], first: 2, last: 3 };
        assert_eq!(seqs(&talk.hear(page, NOW)), [2, 4]);
    }

    #[test]
    fn a_digest_reveals_the_last_event_that_nothing_followed() {
        let mut talk = online();
        talk.hear(ServerFrame::Event(posted(1)), NOW);
        let step = talk.hear(ServerFrame::Digest { heads: BTreeMap::from([("c".into(), 2)]) }, NOW);
        assert!(matches!(step.send[..], [ClientFrame::History { first: Some(2), last: Some(2), .. }]));
    }

    #[test]
    fn a_message_stays_in_the_outbox_until_its_own_copy_comes_and_goes_again_under_the_same_id() {
        let mut talk = online();
        let sent = talk.say("hi".into(), NOW).expect("a channel is open");
        let ClientFrame::Send { client_msg_id, retry: false, .. } = &sent[0] else { panic!("{sent:?}") };
        talk.went_down();
        assert_eq!(talk.tick(NOW + 60_000).len(), 0, "nothing is sent while offline");
        let limits = schemas::frames::LimitsFrame { body_bytes_max: 1, frame_bytes_max: 1, sends_per_second_max: 1 };
        let welcome = ServerFrame::Welcome {
            session: "s2".into(),
            user: "alice".into(),
            server_time: NOW,
            generation: 1,
            heartbeat_ms: 5_000,
            limits,
        };
        let step = talk.hear(welcome, NOW + 60_000);
        assert!(
            matches!(&step.send[..], [ClientFrame::Send { client_msg_id: id, retry: true, .. }] if id == client_msg_id)
        );
        let mut own = posted(1);
        own.client_msg_id.clone_from(client_msg_id);
        talk.hear(ServerFrame::Event(own), NOW);
        assert!(talk.is_settled());
    }

    #[test]
    fn a_refusal_for_now_is_tried_again_and_one_for_good_is_shown() {
        let mut talk = online();
        for (code, settled) in [(Code::RetryLater, false), (Code::NotMember, true)] {
            let sent = talk.say("hi".into(), NOW).expect("a channel is open");
            let ClientFrame::Send { client_msg_id, .. } = &sent[0] else { panic!("{sent:?}") };
            let error = ServerFrame::Error {
                code,
                message: "no".into(),
                client_msg_id: Some(client_msg_id.clone()),
                request: None,
                retry_after_ms: Some(100),
                server_time: None,
            };
            let step = talk.hear(error, NOW);
            assert_eq!(step.show.is_empty(), !settled, "{code:?}");
            assert_eq!(talk.tick(NOW + 100).len(), usize::from(!settled), "{code:?}");
            let own = EventFrame { client_msg_id: client_msg_id.clone(), ..posted(1) };
            talk.hear(ServerFrame::Event(own), NOW);
            assert!(talk.is_settled());
        }
    }
}
