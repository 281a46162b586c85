//! What the decider promises, whatever people ask for.

use domain::command::{ChannelKind, HistoryVisibility, Role};
use domain::decide::{DecideLimits, body_digest};
use domain::limits::{
    CHANNEL_MEMBERS_CEILING, CLIENT_CLOCK_AHEAD_MS, MESSAGE_BODY_BYTES_MAX, ONCE_WINDOW_MS, TITLE_BYTES_MAX,
};
use domain::{
    Answer, ChannelId, ChannelSeq, ClientMsgId, Command, CommandBody, CommandPosition, Decision, Epoch, LogCursor,
    LogTime, Lookup, MessageId, Outcome, PartitionId, PartitionState, RejectCause, TimelineRecord, UserId, Verdict,
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
    let digest = body_digest(&post("x"));
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

/// What becomes of a command by who asks: owner, admin, member, somebody who has left, a stranger.
type ByRole = [Result<(), RejectCause>; 5];

/// A command, and what becomes of it in an open group; a closed one differs for `Join` only.
type Row = (&'static str, fn() -> CommandBody, ByRole);

const TARGET: u8 = 6;
const OTHER_ADMIN: u8 = 7;
const OTHER_OWNER: u8 = 8;
const NOBODY: u8 = 9;

const fn all(result: Result<(), RejectCause>) -> ByRole {
    [result; 5]
}

/// Allowed to the owner, to the admin too, to members too; those outside are told nothing.
const fn inside(
    owner: Result<(), RejectCause>,
    admin: Result<(), RejectCause>,
    member: Result<(), RejectCause>,
) -> ByRole {
    [owner, admin, member, Err(RejectCause::NotMember), Err(RejectCause::NotMember)]
}

fn remove(n: u8) -> CommandBody {
    CommandBody::RemoveMember { user: user(n) }
}

fn set_role(n: u8, role: Role) -> CommandBody {
    CommandBody::SetRole { user: user(n), role }
}

#[test]
fn who_may_do_what() {
    use RejectCause::{AlreadyMember, Forbidden, MembersLimit, NoSuchMember, NotMember};
    let no = Err(Forbidden);
    let rows: [Row; 18] = [
        ("post", || post("x"), inside(Ok(()), Ok(()), Ok(()))),
        ("post too much", || post(&"x".repeat(MESSAGE_BODY_BYTES_MAX + 1)), {
            let bad = Err(RejectCause::BadBody);
            inside(bad, bad, bad)
        }),
        ("join", || CommandBody::Join, {
            let member = Err(AlreadyMember);
            [member, member, member, Ok(()), Ok(())]
        }),
        ("leave", || CommandBody::Leave, inside(Ok(()), Ok(()), Ok(()))),
        ("add somebody", || add([NOBODY]), inside(Ok(()), Ok(()), no)),
        ("add a member", || add([TARGET]), inside(Err(AlreadyMember), Err(AlreadyMember), no)),
        ("add no one", || add([]), inside(Err(AlreadyMember), Err(AlreadyMember), no)),
        ("add too many", || add(20..60), inside(Err(MembersLimit), Err(MembersLimit), no)),
        ("remove a member", || remove(TARGET), inside(Ok(()), Ok(()), no)),
        ("remove an admin", || remove(OTHER_ADMIN), inside(Ok(()), no, no)),
        ("remove an owner", || remove(OTHER_OWNER), inside(Ok(()), no, no)),
        ("remove nobody", || remove(NOBODY), inside(Err(NoSuchMember), Err(NoSuchMember), no)),
        ("make an admin", || set_role(TARGET, Role::Admin), inside(Ok(()), no, no)),
        ("make an owner", || set_role(TARGET, Role::Owner), inside(Ok(()), no, no)),
        ("unmake an owner", || set_role(OTHER_OWNER, Role::Member), inside(Ok(()), no, no)),
        ("give the same role", || set_role(TARGET, Role::Member), inside(Err(AlreadyMember), no, no)),
        ("give nobody a role", || set_role(NOBODY, Role::Admin), inside(Err(NoSuchMember), no, no)),
        ("make the group of somebody else", || create(&[], true), all(Err(NotMember))),
    ];
    let missing = ChannelId(Uuid::from_u128(99));
    let [boss, admin, member, gone, stranger] = [1, 2, 3, 4, 5].map(user);
    let first = [admin, member, gone, user(TARGET), user(OTHER_ADMIN), user(OTHER_OWNER)];
    for (what, body, expected) in rows {
        for (who, expected) in [boss, admin, member, gone, stranger].into_iter().zip(expected) {
            for open in [true, false] {
                let mut owner = Owner::new(DecideLimits { members_max: 20, ..DecideLimits::default() });
                let channel = owner.group(boss, &first, open);
                for (user, role) in [(2, Role::Admin), (OTHER_ADMIN, Role::Admin), (OTHER_OWNER, Role::Owner)] {
                    owner.ask(boss, channel, set_role(user, role)).expect("an owner may");
                }
                owner.ask(gone, channel, CommandBody::Leave).expect("a member may");
                let closed_to = !open && body() == CommandBody::Join && expected.is_ok();
                let expected = if closed_to { Err(NotMember) } else { expected };
                let got = owner.ask(who, channel, body()).map(|_| ());
                assert_eq!(got, expected.map_err(Answer::Rejected), "{what} by {who}, open: {open}");
                assert_eq!(owner.ask(who, missing, body()), rejected(NotMember), "{what} by {who} where nothing is");
            }
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

fn add(users: impl IntoIterator<Item = u8>) -> CommandBody {
    CommandBody::AddMembers { users: users.into_iter().map(user).collect() }
}

#[test]
fn bodies_and_members_have_limits() {
    use RejectCause::{BadBody, MembersLimit};
    let mut owner = Owner::new(DecideLimits { members_max: 3, ..DecideLimits::default() });
    let channel = owner.group(user(1), &[], true);
    assert!(owner.ask(user(1), channel, post(&"x".repeat(MESSAGE_BODY_BYTES_MAX))).is_ok());
    assert_eq!(owner.ask(user(1), channel, post(&"x".repeat(MESSAGE_BODY_BYTES_MAX + 1))), rejected(BadBody));
    assert!(owner.ask(user(1), channel, post("")).is_ok(), "an empty message is one");
    assert_eq!(owner.ask(user(1), channel, add(2..5)), rejected(MembersLimit), "all or nobody");
    assert_eq!(owner.ask(user(2), channel, post("x")), rejected(RejectCause::NotMember));
    // Members and repeats are passed over before the limit counts.
    assert!(owner.ask(user(1), channel, add([1, 2, 2, 3, 3])).is_ok());
    assert_eq!(owner.ask(user(4), channel, CommandBody::Join), rejected(MembersLimit));
    assert!(owner.ask(user(3), channel, CommandBody::Leave).is_ok());
    assert!(owner.ask(user(4), channel, CommandBody::Join).is_ok());

    for (title, members, expected) in
        [(TITLE_BYTES_MAX, 2_u8, None), (TITLE_BYTES_MAX + 1, 2, Some(BadBody)), (0, 3, Some(MembersLimit))]
    {
        let id = id_at(owner.now, owner.commands + 5_000);
        let body = CommandBody::CreateChannel {
            kind: ChannelKind::Group,
            title: "x".repeat(title).into(),
            members: (2..2 + members).map(user).collect(),
            history: HistoryVisibility::FromStart,
            open: false,
        };
        let verdict = owner.run(user(1), ChannelId::group(user(1), id), id, body).verdict;
        let refused = expected.map(|cause| Verdict::Answered(Answer::Rejected(cause)));
        assert_eq!(matches!(verdict, Verdict::Accepted(_)).then_some(()).ok_or(verdict).err(), refused);
    }
}

#[test]
fn a_group_with_members_always_has_an_owner() {
    use RejectCause::{AlreadyMember, LastOwner};
    let role = |whom, role| CommandBody::SetRole { user: user(whom), role };
    let mut owner = Owner::new(DecideLimits::default());
    let channel = owner.group(user(1), &[user(2)], true);
    assert_eq!(owner.ask(user(1), channel, CommandBody::Leave), rejected(LastOwner));
    assert_eq!(owner.ask(user(1), channel, CommandBody::RemoveMember { user: user(1) }), rejected(LastOwner));
    assert_eq!(owner.ask(user(1), channel, role(1, Role::Member)), rejected(LastOwner));
    assert_eq!(owner.ask(user(1), channel, role(1, Role::Owner)), rejected(AlreadyMember));
    owner.ask(user(1), channel, role(2, Role::Owner)).expect("there may be two");
    owner.ask(user(1), channel, CommandBody::Leave).expect("one is left");
    owner.ask(user(2), channel, CommandBody::Leave).expect("the last member may go");
    assert_eq!(owner.ask(user(2), channel, post("x")), rejected(RejectCause::NotMember));
    owner.ask(user(3), channel, CommandBody::Join).expect("it is open");
    owner.ask(user(3), channel, role(3, Role::Admin)).expect_err("whoever comes first is the only owner");
    owner.ask(user(3), channel, add([4])).expect("and may add people");
}

#[test]
fn a_personal_channel_exists_is_its_persons_alone_and_holds_what_is_derived() {
    use RejectCause::{AlreadyExists, AlreadyMember, Forbidden, NotMember};
    let mut owner = Owner::new(DecideLimits::default());
    let (group, own) = (owner.group(user(1), &[], true), ChannelId::personal(user(1)));
    let joined = || CommandBody::ChannelJoined { channel: group, seq: ChannelSeq(2) };
    let personal = || CommandBody::CreateChannel {
        kind: ChannelKind::Personal,
        title: "".into(),
        members: vec![],
        history: HistoryVisibility::FromStart,
        open: false,
    };
    for seq in 1..3 {
        for (body, cause) in [
            (post("x"), Forbidden),
            (CommandBody::Join, AlreadyMember),
            (CommandBody::Leave, Forbidden),
            (add([2]), Forbidden),
            (personal(), AlreadyExists),
        ] {
            assert_eq!(owner.ask(user(1), own, body.clone()), rejected(cause), "{body:?}");
            assert_eq!(owner.ask(user(2), own, body.clone()), rejected(NotMember), "{body:?} by another");
        }
        assert_eq!(owner.ask(user(2), own, joined()), rejected(NotMember));
        assert_eq!(owner.ask(user(1), group, joined()), rejected(NotMember));
        assert_eq!(owner.ask(user(1), own, joined()), Ok(ChannelSeq(seq)), "the same before and after the first event");
    }
    assert_eq!(owner.state.head(own).map(|head| head.kind), Some(ChannelKind::Personal));
}

#[test]
fn a_derived_command_is_looked_up_whatever_its_id_says() {
    let mut owner = Owner::new(DecideLimits::default());
    let channel = ChannelId::personal(user(1));
    owner.state.insert_head(channel, None);
    let body = CommandBody::ChannelLeft { channel: ChannelId(Uuid::from_u128(9)), seq: ChannelSeq(4) };
    for ms in [START - 10 * ONCE_WINDOW_MS, START, START + 10 * ONCE_WINDOW_MS] {
        let command =
            Command { channel, sender: user(1), id: id_at(ms, 1), retry: false, reply: None, body: body.clone() };
        let decide = |lookup| owner.state.decide(&command, CommandPosition::default(), LogTime(START), lookup);
        assert_eq!(decide(Lookup::NotAsked), Decision::NeedsLookup);
        let Decision::Decided(outcome) = decide(Lookup::Missed) else { panic!("asked") };
        assert!(matches!(outcome.verdict, Verdict::Accepted(_)));
    }
}

#[test]
fn the_memory_beats_what_the_store_says() {
    let mut owner = Owner::new(DecideLimits::default());
    let channel = owner.group(user(1), &[], false);
    let id = id_at(START - 100_000, 1);
    let command = |retry| Command { channel, sender: user(1), id, retry, reply: None, body: post("x") };
    let first = owner.run_with(&command(false), Lookup::Missed);
    let Verdict::Accepted(events) = &first.verdict else { panic!("new") };
    let known = Decision::Decided(Outcome {
        n: first.n.next(),
        verdict: Verdict::Answered(Answer::Duplicate { seq: events[0].seq }),
        ..first.clone()
    });
    for lookup in [Lookup::NotAsked, Lookup::Missed, Lookup::Found { seq: ChannelSeq(77), digest: 0 }] {
        assert_eq!(owner.state.decide(&command(true), first.command, first.time, lookup), known);
    }
}

#[test]
fn a_head_in_memory_is_not_overwritten_by_an_older_one_from_the_store() {
    let mut owner = Owner::new(DecideLimits::default());
    let channel = owner.group(user(1), &[], false);
    let truth = owner.state.head(channel).cloned();
    owner.state.insert_head(channel, None);
    assert_eq!(owner.state.head(channel).cloned(), truth);
}

#[test]
fn the_heads_unused_for_longest_go_first_and_only_what_the_writer_has_passed() {
    let limits = DecideLimits { heads_bytes_max: 8 * 1_024, ..DecideLimits::default() };
    let mut owner = Owner::new(limits);
    let channels: Vec<ChannelId> = (0..14)
        .map(|_| {
            owner.now += 1;
            owner.group(user(1), &[user(2)], false)
        })
        .collect();
    owner.state.evict(0);
    assert_eq!(owner.state.memory().heads, channels.len(), "the writer has passed nothing");
    owner.state.evict(owner.cursor.offset);
    let kept: Vec<bool> = channels.iter().map(|channel| owner.state.has_head(*channel)).collect();
    assert!(kept.is_sorted(), "the newest are kept: {kept:?}");
    assert!(kept.contains(&true) && kept.contains(&false), "{kept:?}");
    assert!(
        owner.state.memory().bytes
            <= limits.heads_bytes_max + owner.state.memory().ids * domain::window::ID_BYTES + 8_192
    );
}

#[test]
fn heads_that_the_writer_leaves_behind_end_in_retry_later_and_it_heals() {
    let limits = DecideLimits { heads_bytes_max: 4 * 1_024, ..DecideLimits::default() };
    let mut owner = Owner::new(limits);
    let mut last = None;
    let refused = (0..100).any(|n| {
        let id = id_at(owner.now, 9_000 + n);
        let channel = ChannelId::group(user(1), id);
        let verdict = owner.run(user(1), channel, id, create(&[], false)).verdict;
        last = Some((channel, id));
        owner.state.evict(0);
        verdict == Verdict::Answered(Answer::RetryLater)
    });
    assert!(refused, "memory is bounded");
    owner.state.evict(owner.cursor.offset);
    let (channel, id) = last.expect("asked");
    let again = owner.run(user(1), channel, id, create(&[], false));
    assert!(matches!(again.verdict, Verdict::Accepted(_)), "the same id later");
}

#[test]
fn a_full_millisecond_moves_t_on() {
    let mut owner = Owner::new(DecideLimits { members_max: CHANNEL_MEMBERS_CEILING, ..DecideLimits::default() });
    let id = id_at(START, 1);
    let channel = ChannelId::group(user(1), id);
    let members: Vec<UserId> = (1..CHANNEL_MEMBERS_CEILING as u128).map(|n| UserId(Uuid::from_u128(n << 64))).collect();
    let created = owner.run(user(1), channel, id, create(&members, false));
    let Verdict::Accepted(events) = &created.verdict else { panic!("{:?}", created.verdict) };
    assert_eq!(events.len(), CHANNEL_MEMBERS_CEILING + 1);
    assert_eq!(created.time, LogTime(START + 2), "10,001 ids take three milliseconds");
    let id_times: Vec<LogTime> = events.iter().map(|event| event.message_id.time()).collect();
    assert!(id_times.is_sorted() && *id_times.last().expect("not empty") == created.time);
    assert!(events.windows(2).all(|pair| pair[0].message_id < pair[1].message_id));
    let next = owner.run(user(1), channel, id_at(START, 2), post("x"));
    assert_eq!(next.time, created.time);
}

#[test]
fn digests_are_what_they_were() {
    // Part of the log's format: a change here makes a conflict of every retry across the upgrade.
    let bodies = [
        post("hello"),
        post(""),
        create(&[user(1), user(2)], true),
        CommandBody::Join,
        CommandBody::Leave,
        add([3]),
        CommandBody::RemoveMember { user: user(3) },
        CommandBody::SetRole { user: user(3), role: Role::Admin },
        CommandBody::ChannelJoined { channel: ChannelId(Uuid::from_u128(5)), seq: ChannelSeq(6) },
        CommandBody::ChannelLeft { channel: ChannelId(Uuid::from_u128(5)), seq: ChannelSeq(6) },
    ];
    let digests: Vec<u64> = bodies.iter().map(body_digest).collect();
    assert_eq!(digests, GOLDEN_DIGESTS);
}

const GOLDEN_DIGESTS: [u64; 10] = [
    0xda54_9fb5_f47a_8a67,
    0x8b4e_d598_6564_96ca,
    0x0546_beb4_0f41_ee30,
    0x81d6_8071_63ef_05f7,
    0x0cb5_1943_34c3_0c3c,
    0xfb03_2f6d_75c8_dfc6,
    0x9680_1854_ec26_6ccc,
    0xb1e7_6896_e027_030c,
    0x5d36_ae7a_d116_e023,
    0xa479_f754_a0fd_b2bb,
];

fn any_body() -> impl Strategy<Value = CommandBody> {
    let users = || prop::collection::vec((0_u8..4).prop_map(user), 0..4);
    let role = prop::sample::select(vec![Role::Member, Role::Admin, Role::Owner]);
    let kind = prop::sample::select(vec![ChannelKind::Direct, ChannelKind::Group, ChannelKind::Personal]);
    let history = prop::sample::select(vec![HistoryVisibility::FromJoining, HistoryVisibility::FromStart]);
    prop_oneof![
        "[ab]{0,3}".prop_map(|text| post(&text)),
        (kind, "[ab]{0,2}", users(), history, any::<bool>()).prop_map(|(kind, title, members, history, open)| {
            CommandBody::CreateChannel { kind, title: title.into(), members, history, open }
        }),
        Just(CommandBody::Join),
        Just(CommandBody::Leave),
        users().prop_map(|users| CommandBody::AddMembers { users }),
        (0_u8..4).prop_map(|n| CommandBody::RemoveMember { user: user(n) }),
        ((0_u8..4), role).prop_map(|(n, role)| CommandBody::SetRole { user: user(n), role }),
        (0_u128..3, 0_u64..3).prop_map(|(channel, seq)| CommandBody::ChannelJoined {
            channel: ChannelId(Uuid::from_u128(channel)),
            seq: ChannelSeq(seq),
        }),
        (0_u128..3, 0_u64..3).prop_map(|(channel, seq)| CommandBody::ChannelLeft {
            channel: ChannelId(Uuid::from_u128(channel)),
            seq: ChannelSeq(seq),
        }),
    ]
}

proptest! {
    #[test]
    fn digests_differ_exactly_where_bodies_do(a in any_body(), b in any_body()) {
        prop_assert_eq!(body_digest(&a) == body_digest(&b), a == b);
    }

    /// Whatever a memory that holds only what is younger than the window does not know must be looked up.
    #[test]
    fn an_id_that_may_have_been_forgotten_is_looked_up(
        ahead in prop_oneof![Just(0), Just(CLIENT_CLOCK_AHEAD_MS), 0..=CLIENT_CLOCK_AHEAD_MS],
        later in prop_oneof![Just(0), 0_u64..200_000],
    ) {
        let accepted_at = START;
        let id = id_at(accepted_at + ahead, 1);
        // A new owner, whose recovery replayed nothing that is as old as the window.
        let mut owner = Owner::new(DecideLimits::default());
        let channel = ChannelId::personal(user(1));
        owner.state.insert_head(channel, None);
        let command = Command { channel, sender: user(1), id, retry: false, reply: None, body: post("x") };
        let now = LogTime(accepted_at + ONCE_WINDOW_MS + later);
        let decision = owner.state.decide(&command, CommandPosition::default(), now, Lookup::NotAsked);
        prop_assert_eq!(decision, Decision::NeedsLookup);
    }

    #[test]
    fn ids_rise_whatever_the_time_does(times in prop::collection::vec(0_u64..5_000, 1..500), partition in 0_u16..1024) {
        let partition = PartitionId(partition);
        let mut last = MessageId::first_at(LogTime(START), partition);
        for time in times {
            let next = last.next_at(LogTime(START + time / 1_000), partition);
            prop_assert!(next > last);
            prop_assert_eq!(next.partition(), partition);
            prop_assert!(i64::try_from(next.0).is_ok());
            last = next;
        }
    }
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
