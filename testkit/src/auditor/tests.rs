//! Each check has a history that makes it fail; clean histories pass; mutated ones of a correct model do not.

use super::*;
use domain::command::{ChannelKind, HistoryVisibility, Role};
use domain::{ChannelId, ChannelSeq, ClientMsgId, EventKind, LogTime, MessageId, Ordinal, PartitionId, UserId};
use proptest::prelude::*;
use std::sync::Arc;
use uuid::Uuid;

const ANNA: UserId = UserId(Uuid::from_u128(0xa));
const BEN: UserId = UserId(Uuid::from_u128(0xb));
const EVE: UserId = UserId(Uuid::from_u128(0xe));
const ROOM: ChannelId = ChannelId(Uuid::from_u128(0x100));

fn id(n: u64) -> ClientMsgId {
    ClientMsgId(Uuid::from_u128(u128::from(n)))
}

fn event(seq: u64, sender: UserId, command: u64, kind: EventKind) -> SeenEvent {
    SeenEvent {
        channel: ROOM,
        seq: ChannelSeq(seq),
        ordinal: Ordinal(0),
        message_id: MessageId::first_at(LogTime(MessageId::EPOCH_MS + seq), PartitionId(0)),
        time: LogTime(MessageId::EPOCH_MS + command),
        sender,
        client_msg_id: id(command),
        kind,
    }
}

/// Room with anna and ben (seq 1–3), then messages by anna: seq 4 "four", 5 "five", 6 "six" (commands 4, 5, 6).
fn room() -> Vec<SeenEvent> {
    let created = EventKind::ChannelCreated {
        kind: ChannelKind::Group,
        title: "room".into(),
        history: HistoryVisibility::FromJoining,
        open: true,
    };
    let mut events = vec![event(1, ANNA, 1, created)];
    for (seq, user, role) in [(2, ANNA, Role::Owner), (3, BEN, Role::Member)] {
        events.push(event(seq, ANNA, 1, EventKind::MemberJoined { user, role }));
    }
    for (seq, text) in [(4, "four"), (5, "five"), (6, "six")] {
        events.push(event(seq, ANNA, seq, EventKind::MessagePosted { text: text.into() }));
    }
    with_ordinals(events)
}

fn with_ordinals(mut events: Vec<SeenEvent>) -> Vec<SeenEvent> {
    let mut ordinal = Ordinal(0);
    for event in &mut events {
        if event.kind.is_message() {
            ordinal = ordinal.next();
        }
        event.ordinal = ordinal;
    }
    events
}

/// Anna sends four to six one after the other; both see all of it, both are quiescent at the end. Anna reads a page.
fn clean() -> History {
    let events: Vec<Arc<SeenEvent>> = room().into_iter().map(Arc::new).collect();
    let mut anna = ClientHistory::new("anna/phone", ANNA);
    let mut ben = ClientHistory::new("ben/laptop", BEN);
    for client in [&mut anna, &mut ben] {
        client.record(Moment(0), Op::Connected);
        client.record(Moment(0), Op::Based { channel: ROOM, seq: ChannelSeq(0) });
    }
    for event in &events {
        let at = event.seq.0 * 1_000;
        if let EventKind::MessagePosted { text } = &event.kind {
            anna.record(Moment(at), Op::Sent { channel: ROOM, id: event.client_msg_id, body: (&**text).into() });
        }
        for client in [&mut anna, &mut ben] {
            client.record(Moment(at + 100), Op::Received { event: Arc::clone(event), via: Via::Live });
            client.record(Moment(at + 100), Op::Applied { channel: ROOM, seq: event.seq });
        }
        if event.kind.is_message() {
            anna.record(Moment(at + 100), Op::Acked { channel: ROOM, id: event.client_msg_id, seq: event.seq });
        }
    }
    anna.record(Moment(7_000), Op::PageAsked { channel: ROOM, request: 1 });
    anna.record(
        Moment(7_100),
        Op::PageRead {
            channel: ROOM,
            request: 1,
            first: ChannelSeq(4),
            last: ChannelSeq(6),
            events: events[3..].to_vec(),
        },
    );
    for client in [&mut anna, &mut ben] {
        client.end.quiescent = true;
        client.end.cursors.insert(ROOM, ChannelSeq(6));
    }
    History { clients: vec![anna, ben], channels: [(ROOM, FinalChannel::from_events(events))].into() }
}

fn final_events(history: &History) -> Vec<SeenEvent> {
    history.channels[&ROOM].events.iter().map(|event| (**event).clone()).collect()
}

fn set_final(history: &mut History, events: Vec<SeenEvent>) {
    history.channels.insert(ROOM, FinalChannel::from_events(events.into_iter().map(Arc::new).collect()));
}

fn drop_ops(client: &mut ClientHistory, unwanted: impl Fn(&Op) -> bool) {
    client.ops.retain(|recorded| !unwanted(&recorded.op));
}

fn concerns(op: &Op, wanted: u64) -> bool {
    match op {
        Op::Received { event, .. } => event.seq.0 == wanted,
        Op::Applied { seq, .. } => seq.0 == wanted,
        _ => false,
    }
}

/// What breaks, and how.
type Case = (&'static str, Check, fn(&mut History));

const CASES: &[Case] = &[
    ("acked but not in the final history", Check::Lost, |history| {
        let mut events = final_events(history);
        events.pop();
        set_final(history, events);
    }),
    ("acked with another text than was sent", Check::Lost, |history| {
        for recorded in &mut history.clients[0].ops {
            if let Op::Sent { body, .. } = &mut recorded.op {
                *body = "something else".into();
            }
        }
    }),
    ("acked but never reached an online member", Check::Lost, |history| {
        drop_ops(&mut history.clients[1], |op| concerns(op, 6));
    }),
    ("acked at the place of another message", Check::Lost, |history| {
        for recorded in &mut history.clients[0].ops {
            if let Op::Acked { seq, .. } = &mut recorded.op
                && seq.0 == 4
            {
                *seq = ChannelSeq(5);
            }
        }
    }),
    ("seen but not in the final history", Check::AbortedRead, |history| {
        let mut events = final_events(history);
        events.pop();
        set_final(history, events);
    }),
    ("seen at a place where the final history has another message", Check::AbortedRead, |history| {
        let mut events = final_events(history);
        events[5].client_msg_id = id(77);
        set_final(history, events);
    }),
    ("two clients saw different texts", Check::Divergence, |history| {
        for recorded in &mut history.clients[1].ops {
            if let Op::Received { event, .. } = &mut recorded.op
                && event.seq.0 == 5
            {
                *event = Arc::new(SeenEvent {
                    kind: EventKind::MessagePosted { text: "fünf".into() },
                    ..(**event).clone()
                });
            }
        }
    }),
    ("one message at two places", Check::Duplicate, |history| {
        let mut events = final_events(history);
        let again =
            SeenEvent { seq: ChannelSeq(7), message_id: MessageId(events[5].message_id.0 + 1), ..events[4].clone() };
        events.push(again);
        set_final(history, with_ordinals(events));
    }),
    ("applied twice", Check::Duplicate, |history| {
        history.clients[1].record(Moment(9_000), Op::Applied { channel: ROOM, seq: ChannelSeq(6) });
    }),
    ("two acks with different places", Check::Duplicate, |history| {
        history.clients[0].record(Moment(9_000), Op::Acked { channel: ROOM, id: id(4), seq: ChannelSeq(6) });
    }),
    ("an id that does not rise", Check::Order, |history| {
        let mut events = final_events(history);
        events[5].message_id = events[4].message_id;
        set_final(history, events);
    }),
    ("an ordinal that skips", Check::Order, |history| {
        let mut events = final_events(history);
        events[5].ordinal = Ordinal(9);
        set_final(history, events);
    }),
    ("a hole in the final history", Check::Order, |history| {
        let mut events = final_events(history);
        events.remove(4);
        set_final(history, events);
    }),
    ("applied in another order", Check::Order, |history| {
        for recorded in &mut history.clients[1].ops {
            if let Op::Applied { seq, .. } = &mut recorded.op {
                *seq = ChannelSeq(match seq.0 {
                    5 => 6,
                    6 => 5,
                    other => other,
                });
            }
        }
    }),
    ("a page out of order", Check::Order, |history| {
        for recorded in &mut history.clients[0].ops {
            if let Op::PageRead { events, .. } = &mut recorded.op {
                events.reverse();
            }
        }
    }),
    ("a sender's own order turned round", Check::Order, |history| {
        let mut events = final_events(history);
        let (four, six) = (events[3].clone(), events[5].clone());
        (events[3].client_msg_id, events[3].kind) = (six.client_msg_id, six.kind);
        (events[5].client_msg_id, events[5].kind) = (four.client_msg_id, four.kind);
        set_final(history, events);
    }),
    ("a cursor moved over a hole", Check::UnfilledGap, |history| {
        drop_ops(&mut history.clients[1], |op| concerns(op, 5));
    }),
    ("a cursor above what was applied, on a client that is offline", Check::UnfilledGap, |history| {
        drop_ops(&mut history.clients[1], |op| concerns(op, 6));
        history.clients[1].end.quiescent = false;
    }),
    ("sent after another was seen, yet before it", Check::RealtimeOrder, |history| {
        let ben = &mut history.clients[1];
        ben.ops.insert(2, Recorded { at: Moment(2), op: Op::Acked { channel: ROOM, id: id(6), seq: ChannelSeq(6) } });
    }),
    ("a page without what it claims", Check::StalePage, |history| {
        for recorded in &mut history.clients[0].ops {
            if let Op::PageRead { events, .. } = &mut recorded.op {
                events.remove(1);
            }
        }
    }),
    ("an event reached a stranger", Check::Leak, |history| {
        let six = Arc::clone(&history.channels[&ROOM].events[5]);
        let mut eve = ClientHistory::new("eve/phone", EVE);
        eve.record(Moment(1), Op::Received { event: six, via: Via::Live });
        history.clients.push(eve);
    }),
    ("an event reached somebody who was removed before it", Check::Leak, |history| {
        let mut events = final_events(history);
        events[4].kind = EventKind::MemberLeft { user: BEN, removed: true };
        set_final(history, with_ordinals(events));
    }),
    ("a page showed the time before joining", Check::Leak, |history| {
        let events = history.channels[&ROOM].events.clone();
        let mut late = final_events(history);
        late.push(event(7, EVE, 7, EventKind::MemberJoined { user: EVE, role: Role::Member }));
        set_final(history, with_ordinals(late));
        let mut eve = ClientHistory::new("eve/phone", EVE);
        let (first, last) = (ChannelSeq(4), ChannelSeq(6));
        eve.record(Moment(8), Op::PageRead { channel: ROOM, request: 1, first, last, events: events[3..].to_vec() });
        history.clients.push(eve);
    }),
    ("a stranger's message was taken", Check::Leak, |history| {
        let mut events = final_events(history);
        events[5].sender = EVE;
        set_final(history, events);
    }),
    ("the end never reached an online member", Check::UnseenTail, |history| {
        drop_ops(&mut history.clients[1], |op| concerns(op, 5) || concerns(op, 6));
        history.clients[1].end.cursors.insert(ROOM, ChannelSeq(4));
    }),
    ("a channel never reached an online member", Check::UnseenTail, |history| {
        history.clients[1].ops.clear();
        history.clients[1].end.cursors.clear();
    }),
    ("a send without an answer", Check::StuckSend, |history| {
        history.clients[1].record(Moment(9_000), Op::Sent { channel: ROOM, id: id(99), body: "hello?".into() });
    }),
];

#[test]
fn a_clean_history_passes() {
    let report = audit(&clean());
    report.assert_clean();
    let expected = LookedAt { clients: 2, sends: 3, acks: 3, receipts: 15, pages: 1, events: 6 };
    assert_eq!(report.looked_at, expected);
}

#[test]
fn each_broken_history_fails_the_check_it_breaks() {
    for (what, check, breaks) in CASES {
        let mut history = clean();
        breaks(&mut history);
        let report = audit(&history);
        assert!(report.has(*check), "{what}: not found\n{report}");
        let text = report.to_string();
        assert!(text.contains(check.promise().id()), "{what}: the report does not cite {}\n{text}", check.promise());
        let violation = report.violations.iter().find(|violation| violation.check == *check).expect("has() found it");
        assert!(!violation.evidence.is_empty(), "{what}: nothing shows it\n{text}");
    }
}

#[test]
fn each_check_has_a_history_that_makes_it_fail() {
    for check in Check::ALL {
        assert!(CASES.iter().any(|case| case.1 == check), "no case for {check:?}");
    }
}

#[test]
fn a_report_counts_what_it_does_not_print() {
    let mut history = clean();
    for _ in 0..100 {
        history.clients[1].record(Moment(9_000), Op::Applied { channel: ROOM, seq: ChannelSeq(6) });
    }
    let report = audit(&history);
    assert_eq!(report.counts[&Check::Duplicate], 100);
    assert_eq!(report.violations.len(), VIOLATIONS_PER_CHECK_MAX);
}

#[test]
fn who_returns_need_not_have_the_time_between_and_offline_people_need_not_have_the_end() {
    let mut history = clean();
    let mut events = final_events(&history);
    events[4].kind = EventKind::MemberLeft { user: BEN, removed: false };
    events.push(event(7, BEN, 7, EventKind::MemberJoined { user: BEN, role: Role::Member }));
    events.push(event(8, ANNA, 8, EventKind::MessagePosted { text: "eight".into() }));
    set_final(&mut history, with_ordinals(events));
    let ended = history.channels[&ROOM].events.clone();
    let ben = &mut history.clients[1];
    ben.ops.clear();
    for seq in [1, 2, 3, 4, 5, 7, 8] {
        ben.record(
            Moment(10_000 + seq),
            Op::Received { event: Arc::clone(&ended[seq as usize - 1]), via: Via::CatchUp },
        );
        ben.record(Moment(10_000 + seq), Op::Applied { channel: ROOM, seq: ChannelSeq(seq) });
    }
    ben.end.cursors.insert(ROOM, ChannelSeq(8));
    history.clients.remove(0);
    audit(&history).assert_clean();
}

// A correct model: one channel, a few people who join, leave, send, retry, go offline and fill holes from pages.

/// What the model does next.
#[derive(Clone, Debug)]
enum Step {
    Send { who: usize },
    Retry { who: usize },
    Deliver { who: usize },
    Lose { who: usize },
    Page { who: usize },
    Leave { who: usize },
    Join { who: usize },
    Reconnect { who: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (0_usize..4, 0_u32..20).prop_map(|(who, kind)| match kind {
        0..=5 => Step::Send { who },
        6 => Step::Retry { who },
        7..=12 => Step::Deliver { who },
        13 => Step::Lose { who },
        14..=15 => Step::Page { who },
        16 => Step::Leave { who },
        17 => Step::Join { who },
        _ => Step::Reconnect { who },
    });
    prop::collection::vec(step, 10..120)
}

/// The room, and what is on the way to each person.
struct Model {
    now: u64,
    events: Vec<Arc<SeenEvent>>,
    clients: Vec<ClientHistory>,
    on_the_way: Vec<std::collections::VecDeque<Arc<SeenEvent>>>,
    cursors: Vec<u64>,
    sent: Vec<Vec<(ClientMsgId, u64, String)>>,
    commands: u64,
}

impl Model {
    fn run(steps: &[Step]) -> History {
        let users: Vec<UserId> = (1..=4).map(|n| UserId(Uuid::from_u128(n))).collect();
        let mut model = Self {
            now: 0,
            events: Vec::new(),
            clients: users
                .iter()
                .enumerate()
                .map(|(n, user)| ClientHistory::new(format!("person{n}"), *user))
                .collect(),
            on_the_way: vec![std::collections::VecDeque::new(); 4],
            cursors: vec![0; 4],
            sent: vec![Vec::new(); 4],
            commands: 1,
        };
        let created = EventKind::ChannelCreated {
            kind: ChannelKind::Group,
            title: "".into(),
            history: HistoryVisibility::FromJoining,
            open: true,
        };
        let mut first = vec![created];
        first.extend(users.iter().map(|user| EventKind::MemberJoined { user: *user, role: Role::Member }));
        model.decide(0, 1, first);
        for step in steps {
            model.step(step);
        }
        for who in 0..4 {
            model.page(who);
            while !model.on_the_way[who].is_empty() {
                model.deliver(who);
            }
            model.clients[who].end.quiescent = true;
            model.clients[who].end.cursors.insert(ROOM, ChannelSeq(model.cursors[who]));
        }
        History { clients: model.clients, channels: [(ROOM, FinalChannel::from_events(model.events))].into() }
    }

    fn folded(&self) -> FinalChannel {
        FinalChannel::from_events(self.events.clone())
    }

    fn is_member(&self, who: usize) -> bool {
        let folded = self.folded();
        folded.stays.get(&self.clients[who].user).and_then(|stays| stays.last()).is_some_and(|stay| stay.left.is_none())
    }

    fn record(&mut self, who: usize, op: Op) {
        self.now += 1;
        self.clients[who].record(Moment(self.now), op);
    }

    fn decide(&mut self, who: usize, command: u64, kinds: Vec<EventKind>) -> u64 {
        let first = self.events.len() as u64 + 1;
        for kind in kinds {
            let ordinal = self.events.last().map_or(0, |last| last.ordinal.0) + u64::from(kind.is_message());
            let seq = self.events.len() as u64 + 1;
            let decided = SeenEvent { ordinal: Ordinal(ordinal), ..event(seq, self.clients[who].user, command, kind) };
            self.events.push(Arc::new(decided));
        }
        let folded = self.folded();
        for index in first as usize - 1..self.events.len() {
            for who in 0..4 {
                if folded.must_see(ROOM, self.clients[who].user, ChannelSeq(index as u64 + 1)) {
                    self.on_the_way[who].push_back(Arc::clone(&self.events[index]));
                }
            }
        }
        first
    }

    fn apply(&mut self, who: usize, seq: u64) {
        self.cursors[who] = seq;
        self.record(who, Op::Applied { channel: ROOM, seq: ChannelSeq(seq) });
    }

    fn deliver(&mut self, who: usize) {
        let Some(event) = self.on_the_way[who].pop_front() else { return };
        let seq = event.seq.0;
        self.record(who, Op::Received { event, via: Via::Live });
        if seq == self.cursors[who] + 1 {
            self.apply(who, seq);
        } else if seq > self.cursors[who] {
            self.page(who);
        }
    }

    fn page(&mut self, who: usize) {
        self.commands += 1;
        let request = self.commands;
        let (first, last) = (self.cursors[who] + 1, self.events.len() as u64);
        self.record(who, Op::PageAsked { channel: ROOM, request });
        let folded = self.folded();
        let user = self.clients[who].user;
        let events: Vec<_> = self.events[first as usize - 1..]
            .iter()
            .filter(|event| folded.must_see(ROOM, user, event.seq))
            .cloned()
            .collect();
        let (first, last) = (ChannelSeq(first), ChannelSeq(last));
        self.record(who, Op::PageRead { channel: ROOM, request, first, last, events: events.clone() });
        for event in events {
            self.apply(who, event.seq.0);
        }
        if self.is_member(who) {
            self.cursors[who] = last.0;
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Send { who } if self.is_member(who) => {
                self.commands += 1;
                let (command, body) = (self.commands, format!("message {}", self.commands));
                self.record(who, Op::Sent { channel: ROOM, id: id(command), body: body.as_str().into() });
                let seq = self.decide(who, command, vec![EventKind::MessagePosted { text: body.as_str().into() }]);
                self.sent[who].push((id(command), seq, body));
                self.record(who, Op::Acked { channel: ROOM, id: id(command), seq: ChannelSeq(seq) });
            }
            Step::Retry { who } => {
                if let Some((id, seq, body)) = self.sent[who].last().cloned() {
                    self.record(who, Op::Sent { channel: ROOM, id, body: body.as_str().into() });
                    self.record(who, Op::Acked { channel: ROOM, id, seq: ChannelSeq(seq) });
                }
            }
            Step::Deliver { who } => self.deliver(who),
            Step::Lose { who } => drop(self.on_the_way[who].pop_front()),
            Step::Page { who } => self.page(who),
            Step::Leave { who } if self.is_member(who) => {
                self.commands += 1;
                let user = self.clients[who].user;
                self.decide(who, self.commands, vec![EventKind::MemberLeft { user, removed: false }]);
            }
            Step::Join { who } if !self.is_member(who) => {
                self.commands += 1;
                let user = self.clients[who].user;
                self.decide(who, self.commands, vec![EventKind::MemberJoined { user, role: Role::Member }]);
            }
            Step::Reconnect { who } => {
                self.on_the_way[who].clear();
                self.record(who, Op::Disconnected);
                self.record(who, Op::Connected);
                self.page(who);
            }
            _ => {}
        }
    }
}

/// Breaks a history of the model in a way that some check must find. `None`: this history has nothing to break that way.
fn mutate(history: &mut History, kind: usize, pick: usize) -> Option<Check> {
    let mut applied: Vec<(usize, usize)> = Vec::new();
    let mut acked: Vec<(usize, usize)> = Vec::new();
    for (c, client) in history.clients.iter().enumerate() {
        for (o, recorded) in client.ops.iter().enumerate() {
            match &recorded.op {
                Op::Applied { .. } => applied.push((c, o)),
                Op::Acked { .. } => acked.push((c, o)),
                _ => {}
            }
        }
    }
    let choose = |from: &[(usize, usize)]| (!from.is_empty()).then(|| from[pick % from.len()]);
    match kind {
        0 => {
            let (c, o) = choose(&applied)?;
            history.clients[c].ops.remove(o);
            Some(Check::UnfilledGap)
        }
        1 => {
            let (c, o) = choose(&applied)?;
            let again = history.clients[c].ops[o].clone();
            history.clients[c].ops.insert(o + 1, again);
            Some(Check::Duplicate)
        }
        2 => {
            let (c, o) = choose(&acked)?;
            let Op::Acked { seq, .. } = &mut history.clients[c].ops[o].op else { unreachable!() };
            *seq = ChannelSeq(seq.0 - 1);
            Some(Check::Lost)
        }
        3 => {
            let (c, o) = choose(&acked)?;
            let Op::Acked { seq, .. } = history.clients[c].ops[o].op else { unreachable!() };
            let mut events = final_events(history);
            events.truncate(seq.0 as usize - 1);
            set_final(history, events);
            Some(Check::Lost)
        }
        4 => {
            let mut events = final_events(history);
            // Not the first: whoever is made a member by the same record need not see it.
            let index = 1 + pick % (events.len() - 1);
            events[index].message_id = MessageId(events[index].message_id.0 + (1 << 30));
            set_final(history, events);
            Some(Check::Divergence)
        }
        _ => {
            let events = final_events(history);
            let mut stranger = ClientHistory::new("stranger", EVE);
            let event = Arc::new(events[pick % events.len()].clone());
            stranger.record(Moment(1), Op::Received { event, via: Via::CatchUp });
            history.clients.push(stranger);
            Some(Check::Leak)
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn histories_of_a_correct_model_pass(steps in steps()) {
        let report = audit(&Model::run(&steps));
        prop_assert!(report.is_clean(), "{report}");
    }

    #[test]
    fn mutated_histories_of_a_correct_model_fail(steps in steps(), kind in 0_usize..6, pick: usize) {
        let mut history = Model::run(&steps);
        if let Some(check) = mutate(&mut history, kind, pick) {
            let report = audit(&history);
            prop_assert!(report.has(check), "mutation {kind} not found as {check:?}: {report}");
        }
    }
}
