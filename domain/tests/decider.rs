//! What the decider promises, whatever people ask for.

use domain::command::{ChannelKind, HistoryVisibility, Role};
use domain::decide::DecideLimits;
use domain::{
    Answer, ChannelId, ChannelSeq, ClientMsgId, Command, CommandBody, CommandPosition, Decision, Epoch, LogCursor,
    LogTime, Lookup, Outcome, PartitionId, PartitionState, RejectCause, TimelineRecord, UserId, Verdict,
};
use proptest::prelude::*;
use uuid::Uuid;

const START: u64 = 1_790_000_000_000;

fn user(n: u8) -> UserId {
    UserId(Uuid::from_u128(u128::from(n) + 1))
}

fn id_at(ms: u64, n: u64) -> ClientMsgId {
    let mut random = [0; 10];
    random[2..].copy_from_slice(&n.to_be_bytes());
    ClientMsgId(uuid::Builder::from_unix_timestamp_millis(ms, &random).into_uuid())
}

/// A sequencer without a log: what is decided lands at once.
struct Owner {
    state: PartitionState,
    cursor: LogCursor,
    commands: u64,
    now: u64,
}

impl Owner {
    fn new(limits: DecideLimits) -> Self {
        let mut cursor = LogCursor::default();
        let claim = TimelineRecord::Claim {
            epoch: Epoch(1),
            nonce: 1,
            owner: "test".into(),
            commands_start: CommandPosition { incarnation: 1, offset: 0 },
        };
        cursor.accept(0, &claim);
        let mut state = PartitionState::new(PartitionId(3), limits);
        state.take_ownership(&cursor);
        Self { state, cursor, commands: 0, now: START }
    }

    fn run(&mut self, sender: UserId, channel: ChannelId, id: ClientMsgId, body: CommandBody) -> Outcome {
        self.run_with(&Command { channel, sender, id, retry: false, reply: None, body }, Lookup::Missed)
    }

    fn run_with(&mut self, command: &Command, lookup: Lookup) -> Outcome {
        let at = CommandPosition { incarnation: 1, offset: self.commands };
        self.commands += 1;
        if !self.state.has_head(command.channel) {
            assert_eq!(self.state.decide(command, at, LogTime(self.now), lookup), Decision::NeedsHead);
            self.state.insert_head(command.channel, None);
        }
        let mut decision = self.state.decide(command, at, LogTime(self.now), Lookup::NotAsked);
        if decision == Decision::NeedsLookup {
            decision = self.state.decide(command, at, LogTime(self.now), lookup);
        }
        let Decision::Decided(outcome) = decision else { panic!("undecided: {decision:?}") };
        self.state.evolve(&outcome);
        let offset = self.cursor.offset;
        assert_eq!(self.cursor.accept(offset, &TimelineRecord::Outcome(outcome.clone())), domain::Judgement::Valid);
        self.state.landed(&outcome, offset);
        outcome
    }

    fn group(&mut self, owner: UserId, members: &[UserId], open: bool) -> ChannelId {
        let id = id_at(self.now, self.commands + 1_000_000);
        let channel = ChannelId::group(owner, id);
        let outcome = self.run(owner, channel, id, create(members, open));
        assert!(matches!(outcome.verdict, Verdict::Accepted(_)), "{outcome:?}");
        channel
    }

    fn ask(&mut self, sender: UserId, channel: ChannelId, body: CommandBody) -> Result<ChannelSeq, Answer> {
        let id = id_at(self.now, self.commands);
        match self.run(sender, channel, id, body).verdict {
            Verdict::Accepted(events) => Ok(events[0].seq),
            Verdict::Answered(answer) => Err(answer),
        }
    }
}

fn create(members: &[UserId], open: bool) -> CommandBody {
    CommandBody::CreateChannel {
        kind: ChannelKind::Group,
        title: "tea".into(),
        members: members.to_vec(),
        history: HistoryVisibility::FromJoining,
        open,
    }
}

fn post(text: &str) -> CommandBody {
    CommandBody::Post { text: text.into() }
}

fn rejected(cause: RejectCause) -> Result<ChannelSeq, Answer> {
    Err(Answer::Rejected(cause))
}

#[test]
fn a_repeat_is_told_the_originals_seq_and_another_body_is_a_conflict() {
    let mut owner = Owner::new(DecideLimits::default());
    let channel = owner.group(user(1), &[user(2)], false);
    let id = id_at(START, 7);
    let first = owner.run(user(1), channel, id, post("hello"));
    let Verdict::Accepted(events) = first.verdict else { panic!("refused") };
    let seq = events[0].seq;
    assert_eq!(owner.run(user(1), channel, id, post("hello")).verdict, Verdict::Answered(Answer::Duplicate { seq }));
    assert_eq!(owner.run(user(1), channel, id, post("hallo")).verdict, Verdict::Answered(Answer::Conflict { seq }));
    // Another person's same id is another message.
    assert!(matches!(owner.run(user(2), channel, id, post("hello")).verdict, Verdict::Accepted(_)));
}

#[test]
fn an_id_from_the_future_is_told_the_time_and_accepted_later_under_the_same_id() {
    let mut owner = Owner::new(DecideLimits::default());
    let channel = owner.group(user(1), &[], false);
    let id = id_at(START + 40_000, 1);
    let refused = owner.run(user(1), channel, id, post("early"));
    assert_eq!(refused.verdict, Verdict::Answered(Answer::Rejected(RejectCause::Clock)));
    assert_eq!(refused.time, LogTime(START));
    owner.now += 15_000;
    assert!(matches!(owner.run(user(1), channel, id, post("early")).verdict, Verdict::Accepted(_)));
}

#[test]
fn an_old_or_flagged_id_is_looked_up_and_a_found_one_is_a_repeat() {
    let mut owner = Owner::new(DecideLimits::default());
    let channel = owner.group(user(1), &[], false);
    let digest = domain::decide::body_digest(&post("x"));
    let found = Lookup::Found { seq: ChannelSeq(2), digest };
    for (id, retry) in [(id_at(START - 100_000, 1), false), (id_at(START, 2), true)] {
        let command = Command { channel, sender: user(1), id, retry, reply: None, body: post("x") };
        let outcome = owner.run_with(&command, found);
        assert_eq!(outcome.verdict, Verdict::Answered(Answer::Duplicate { seq: ChannelSeq(2) }));
    }
}

#[test]
fn a_full_window_answers_retry_later_and_heals_when_the_writer_has_passed() {
    let limits = DecideLimits { window_bytes_max: 3 * domain::window::ID_BYTES, ..DecideLimits::default() };
    let mut owner = Owner::new(limits);
    let channel = owner.group(user(1), &[], false);
    for _ in 0..2 {
        assert!(owner.ask(user(1), channel, post("x")).is_ok());
    }
    assert_eq!(owner.ask(user(1), channel, post("x")), Err(Answer::RetryLater));
    owner.now += 200_000;
    assert_eq!(owner.ask(user(1), channel, post("x")), Err(Answer::RetryLater));
    owner.state.evict(0);
    assert_eq!(
        owner.ask(user(1), channel, post("x")),
        Err(Answer::RetryLater),
        "the writer has not passed: nothing is forgotten"
    );
    owner.state.evict(owner.cursor.offset);
    owner.state.insert_head(channel, None); // It left memory with the ids; what the store would say does not matter here.
    assert_eq!(owner.state.memory().ids, 0);
}

/// A command, and what becomes of it by who asks: owner, admin, member, somebody who has left, a stranger.
type Row = (&'static str, fn() -> CommandBody, [Result<(), RejectCause>; 5]);

#[test]
fn who_may_do_what() {
    use RejectCause::{AlreadyMember, Forbidden, LastOwner, NoSuchMember, NotMember};
    let (boss, admin, member, gone, stranger) = (user(1), user(2), user(3), user(4), user(5));
    let missing = ChannelId(Uuid::from_u128(99));
    let rows: [Row; 8] = [
        ("post", || post("x"), [Ok(()), Ok(()), Ok(()), Err(NotMember), Err(NotMember)]),
        (
            "join a closed group",
            || CommandBody::Join,
            [Err(AlreadyMember), Err(AlreadyMember), Err(AlreadyMember), Err(NotMember), Err(NotMember)],
        ),
        ("leave", || CommandBody::Leave, [Err(LastOwner), Ok(()), Ok(()), Err(NotMember), Err(NotMember)]),
        (
            "add",
            || CommandBody::AddMembers { users: vec![user(9)] },
            [Ok(()), Ok(()), Err(Forbidden), Err(NotMember), Err(NotMember)],
        ),
        (
            "add a member",
            || CommandBody::AddMembers { users: vec![user(3)] },
            [Err(AlreadyMember), Err(AlreadyMember), Err(Forbidden), Err(NotMember), Err(NotMember)],
        ),
        (
            "remove a member",
            || CommandBody::RemoveMember { user: user(6) },
            [Ok(()), Ok(()), Err(Forbidden), Err(NotMember), Err(NotMember)],
        ),
        (
            "remove nobody",
            || CommandBody::RemoveMember { user: user(8) },
            [Err(NoSuchMember), Err(NoSuchMember), Err(Forbidden), Err(NotMember), Err(NotMember)],
        ),
        (
            "give a role",
            || CommandBody::SetRole { user: user(6), role: Role::Admin },
            [Ok(()), Err(Forbidden), Err(Forbidden), Err(NotMember), Err(NotMember)],
        ),
    ];
    for (what, body, expected) in rows {
        for (who, expected) in [boss, admin, member, gone, stranger].into_iter().zip(expected) {
            let mut owner = Owner::new(DecideLimits::default());
            let channel = owner.group(boss, &[admin, member, gone, user(6)], false);
            owner.ask(boss, channel, CommandBody::SetRole { user: admin, role: Role::Admin }).expect("an owner may");
            owner.ask(gone, channel, CommandBody::Leave).expect("a member may");
            let expected = expected.map_err(Answer::Rejected);
            assert_eq!(owner.ask(who, channel, body()).map(|_| ()), expected, "{what} by {who}");
            assert_eq!(owner.ask(who, missing, body()), rejected(NotMember), "{what} by {who} in a missing channel");
        }
    }
}

#[test]
fn a_direct_channel_is_its_two_peoples_only_and_comes_to_be_once() {
    let mut owner = Owner::new(DecideLimits::default());
    let channel = ChannelId::direct(user(1), user(2));
    let direct = |other: u8| CommandBody::CreateChannel {
        kind: ChannelKind::Direct,
        title: "".into(),
        members: vec![user(other)],
        history: HistoryVisibility::FromJoining,
        open: false,
    };
    assert_eq!(owner.ask(user(3), channel, direct(1)), rejected(RejectCause::NotMember));
    assert_eq!(owner.ask(user(1), channel, direct(2)), Ok(ChannelSeq(1)));
    assert_eq!(owner.ask(user(2), channel, direct(1)), rejected(RejectCause::AlreadyExists));
    assert_eq!(owner.ask(user(2), channel, CommandBody::Leave), rejected(RejectCause::Forbidden));
    assert!(owner.ask(user(2), channel, post("hi")).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn seq_is_dense_ids_rise_with_it_and_a_replay_gives_the_same_heads(
        steps in prop::collection::vec((0_u8..6, 0_u8..5, 0_u8..5, 0_i64..40), 1..120),
    ) {
        let mut owner = Owner::new(DecideLimits { members_max: 4, ..DecideLimits::default() });
        let channel = owner.group(user(0), &[user(1)], true);
        let mut log = Vec::new();
        let (mut seq, mut ordinal, mut last_id, mut last_time) = (3, 0, 0, 0);
        for (what, who, whom, step) in steps {
            owner.now = owner.now.saturating_add_signed(step - 10);
            let body = match what {
                0 | 1 => post("x"),
                2 => CommandBody::Join,
                3 => CommandBody::Leave,
                4 => CommandBody::AddMembers { users: vec![user(whom)] },
                _ => CommandBody::RemoveMember { user: user(whom) },
            };
            let id = id_at(owner.now, owner.commands);
            let outcome = owner.run(user(who), channel, id, body);
            prop_assert!(outcome.time.0 >= last_time, "T never steps back");
            last_time = outcome.time.0;
            if let Verdict::Accepted(events) = &outcome.verdict {
                for event in events {
                    prop_assert_eq!(event.seq.0, seq + 1);
                    seq = event.seq.0;
                    ordinal += u64::from(event.kind.is_message());
                    prop_assert_eq!(event.ordinal.0, ordinal);
                    prop_assert!(event.message_id.0 > last_id);
                    prop_assert_eq!(event.message_id.partition(), PartitionId(3));
                    prop_assert!(event.message_id.time() <= outcome.time);
                    last_id = event.message_id.0;
                }
            }
            log.push(outcome);
        }
        let truth = owner.state.head(channel).expect("used").clone();
        prop_assert!(truth.member_count() <= 4);
        // Replayed over what the store had at any time, twice: the same.
        let mut replayed = PartitionState::new(PartitionId(3), DecideLimits::default());
        replayed.insert_head(channel, Some(truth.clone()));
        for (i, outcome) in log.iter().chain(&log).enumerate() {
            replayed.replay(outcome, i as u64);
        }
        let replayed = replayed.head(channel).expect("inserted").clone();
        prop_assert_eq!(replayed, truth);
    }
}
