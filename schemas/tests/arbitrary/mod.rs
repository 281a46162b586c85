//! Random records of every kind.

use bytes::Bytes;
use domain::command::{ChannelKind, CommandBody, HistoryVisibility, Role};
use domain::{
    Answer, ChannelId, ChannelSeq, ClientMsgId, Command, CommandPosition, Epoch, Event, EventKind, LogTime, MessageId,
    Ordinal, Outcome, OwnerSeq, RejectCause, ReplyAddress, SessionId, TimelineRecord, UserId, Verdict,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use schemas::records::{
    DecodeError, Delivery, GatewayRecord, ProfileRecord, SessionRecord, Signal, SignalKind, decode_command,
    decode_delivery, decode_gateway, decode_profile, decode_session, decode_signal, decode_timeline, encode_command,
    encode_delivery, encode_gateway, encode_profile, encode_session, encode_signal, encode_timeline,
};

/// Runs so many cases, the same ones each time.
pub(crate) fn runner(cases: u32) -> TestRunner {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]))
}

/// One record of any topic.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum AnyRecord {
    Command(Command),
    Timeline(TimelineRecord),
    Delivery(Delivery),
    Signal(Signal),
    Session(SessionRecord),
    Gateway(GatewayRecord),
    Profile(ProfileRecord),
}

impl AnyRecord {
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Command(record) => encode_command(record),
            Self::Timeline(record) => encode_timeline(record),
            Self::Delivery(record) => encode_delivery(record),
            Self::Signal(record) => encode_signal(record),
            Self::Session(record) => encode_session(record),
            Self::Gateway(record) => encode_gateway(record),
            Self::Profile(record) => encode_profile(record),
        }
    }

    /// Reads bytes of the same kind of record.
    pub(crate) fn decode_like(&self, value: &Bytes) -> Result<Self, DecodeError> {
        match self {
            Self::Command(_) => decode_command(value).map(Self::Command),
            Self::Timeline(_) => decode_timeline(value).map(Self::Timeline),
            Self::Delivery(_) => decode_delivery(value).map(Self::Delivery),
            Self::Signal(_) => decode_signal(value).map(Self::Signal),
            Self::Session(_) => decode_session(value).map(Self::Session),
            Self::Gateway(_) => decode_gateway(value).map(Self::Gateway),
            Self::Profile(_) => decode_profile(value).map(Self::Profile),
        }
    }

    /// Reads bytes as every kind of record.
    pub(crate) fn decode_all(value: &Bytes) -> Vec<Result<Self, DecodeError>> {
        vec![
            decode_command(value).map(Self::Command),
            decode_timeline(value).map(Self::Timeline),
            decode_delivery(value).map(Self::Delivery),
            decode_signal(value).map(Self::Signal),
            decode_session(value).map(Self::Session),
            decode_gateway(value).map(Self::Gateway),
            decode_profile(value).map(Self::Profile),
        ]
    }
}

/// Any record.
pub(crate) fn any_record() -> BoxedStrategy<AnyRecord> {
    prop_oneof![
        4 => command().prop_map(AnyRecord::Command),
        6 => timeline().prop_map(AnyRecord::Timeline),
        3 => delivery().prop_map(AnyRecord::Delivery),
        1 => signal().prop_map(AnyRecord::Signal),
        1 => session().prop_map(AnyRecord::Session),
        1 => gateway().prop_map(AnyRecord::Gateway),
        1 => profile().prop_map(AnyRecord::Profile),
    ]
    .boxed()
}

pub(crate) fn position() -> BoxedStrategy<u64> {
    prop_oneof![0_u64..200, 0_u64..=i64::MAX as u64, Just(i64::MAX as u64)].boxed()
}

fn user() -> BoxedStrategy<UserId> {
    any::<[u8; 16]>().prop_map(UserId::from_bytes).boxed()
}

fn channel() -> BoxedStrategy<ChannelId> {
    any::<[u8; 16]>().prop_map(ChannelId::from_bytes).boxed()
}

fn seq() -> BoxedStrategy<ChannelSeq> {
    position().prop_map(ChannelSeq).boxed()
}

/// Text as hostile as text can be: control characters, combining marks, emoji, quotes; long now and then.
pub(crate) fn text() -> BoxedStrategy<String> {
    prop_oneof![
        4 => any::<String>(),
        2 => "[ -~]{0,100}",
        1 => "[\u{0}-\u{1f}\"\\\\\u{7f}\u{2028}\u{e9}\u{301}\u{1f600}]{0,60}",
        1 => "[a-z]{60,3000}",
    ]
    .boxed()
}

fn reply() -> BoxedStrategy<Option<ReplyAddress>> {
    let address = ("[a-z0-9-]{1,64}", any::<u64>());
    option::of(address.prop_map(|(process, connection)| ReplyAddress { process: process.into(), connection })).boxed()
}

fn role() -> BoxedStrategy<Role> {
    select(vec![Role::Member, Role::Admin, Role::Owner]).boxed()
}

fn kind() -> BoxedStrategy<ChannelKind> {
    select(vec![ChannelKind::Direct, ChannelKind::Group, ChannelKind::Personal]).boxed()
}

fn history() -> BoxedStrategy<HistoryVisibility> {
    select(vec![HistoryVisibility::FromJoining, HistoryVisibility::FromStart]).boxed()
}

fn body() -> BoxedStrategy<CommandBody> {
    prop_oneof![
        3 => text().prop_map(|text| CommandBody::Post { text: text.into() }),
        1 => (kind(), text(), vec(user(), 0..150), history(), any::<bool>()).prop_map(|(kind, title, members, history, open)| {
            CommandBody::CreateChannel { kind, title: title.into(), members, history, open }
        }),
        1 => Just(CommandBody::Join),
        1 => Just(CommandBody::Leave),
        1 => vec(user(), 0..150).prop_map(|users| CommandBody::AddMembers { users }),
        1 => user().prop_map(|user| CommandBody::RemoveMember { user }),
        1 => (user(), role()).prop_map(|(user, role)| CommandBody::SetRole { user, role }),
        1 => (channel(), seq()).prop_map(|(channel, seq)| CommandBody::ChannelJoined { channel, seq }),
        1 => (channel(), seq()).prop_map(|(channel, seq)| CommandBody::ChannelLeft { channel, seq }),
    ]
    .boxed()
}

pub(crate) fn command() -> BoxedStrategy<Command> {
    (channel(), user(), any::<[u8; 16]>(), any::<bool>(), reply(), body())
        .prop_map(|(channel, sender, id, retry, reply, body)| Command {
            channel,
            sender,
            id: ClientMsgId::from_bytes(id),
            retry,
            reply,
            body,
        })
        .boxed()
}

pub(crate) fn event_kind() -> BoxedStrategy<EventKind> {
    prop_oneof![
        3 => text().prop_map(|text| EventKind::MessagePosted { text: text.into() }),
        1 => (kind(), text(), history(), any::<bool>()).prop_map(|(kind, title, history, open)| {
            EventKind::ChannelCreated { kind, title: title.into(), history, open }
        }),
        1 => (user(), role()).prop_map(|(user, role)| EventKind::MemberJoined { user, role }),
        1 => (user(), any::<bool>()).prop_map(|(user, removed)| EventKind::MemberLeft { user, removed }),
        1 => (user(), role()).prop_map(|(user, role)| EventKind::RoleChanged { user, role }),
        1 => (channel(), seq()).prop_map(|(channel, seq)| EventKind::ChannelJoined { channel, seq }),
        1 => (channel(), seq()).prop_map(|(channel, seq)| EventKind::ChannelLeft { channel, seq }),
    ]
    .boxed()
}

pub(crate) fn event() -> BoxedStrategy<Event> {
    (seq(), position(), position(), seq(), event_kind())
        .prop_map(|(seq, ordinal, message_id, members_version, kind)| Event {
            seq,
            ordinal: Ordinal(ordinal),
            message_id: MessageId(message_id),
            members_version,
            kind,
        })
        .boxed()
}

fn answer() -> BoxedStrategy<Answer> {
    let causes = vec![
        RejectCause::Clock,
        RejectCause::NotMember,
        RejectCause::Forbidden,
        RejectCause::AlreadyExists,
        RejectCause::AlreadyMember,
        RejectCause::NoSuchMember,
        RejectCause::MembersLimit,
        RejectCause::LastOwner,
        RejectCause::BadBody,
    ];
    prop_oneof![
        seq().prop_map(|seq| Answer::Duplicate { seq }),
        seq().prop_map(|seq| Answer::Conflict { seq }),
        select(causes).prop_map(Answer::Rejected),
        Just(Answer::RetryLater),
        Just(Answer::Poison),
    ]
    .boxed()
}

fn outcome() -> BoxedStrategy<Outcome> {
    let verdict = prop_oneof![
        3 => vec(event(), 1..4).prop_map(Verdict::Accepted),
        1 => vec(event(), 60..70).prop_map(Verdict::Accepted),
        3 => answer().prop_map(Verdict::Answered),
    ];
    let numbers = [(); 5].map(|()| position());
    (numbers, channel(), user(), any::<[u8; 16]>(), any::<u64>(), reply(), verdict)
        .prop_map(|([epoch, n, time, incarnation, offset], channel, sender, id, digest, reply, verdict)| Outcome {
            epoch: Epoch(epoch),
            n: OwnerSeq(n),
            time: LogTime(time),
            command: CommandPosition { incarnation, offset },
            channel,
            sender,
            id: ClientMsgId::from_bytes(id),
            digest,
            reply,
            verdict,
        })
        .boxed()
}

pub(crate) fn timeline() -> BoxedStrategy<TimelineRecord> {
    prop_oneof![
        1 => (position(), any::<u128>(), "[a-z0-9-]{0,64}", position(), position()).prop_map(
            |(epoch, nonce, owner, incarnation, offset)| TimelineRecord::Claim {
                epoch: Epoch(epoch),
                nonce,
                owner: owner.into(),
                commands_start: CommandPosition { incarnation, offset },
            }
        ),
        5 => outcome().prop_map(TimelineRecord::Outcome),
    ]
    .boxed()
}

fn delivery() -> BoxedStrategy<Delivery> {
    prop_oneof![
        (position(), any::<u16>(), position(), vec(user(), 0..130), reply(), vec(any::<u8>(), 0..500)).prop_map(
            |(process_epoch, partition, offset, recipients, reply, record)| Delivery::Outcome {
                process_epoch,
                partition,
                offset,
                recipients,
                reply,
                record: record.into(),
            }
        ),
        (position(), vec(user(), 0..130), signal()).prop_map(|(process_epoch, recipients, signal)| Delivery::Signal {
            process_epoch,
            recipients,
            signal
        }),
    ]
    .boxed()
}

fn signal() -> BoxedStrategy<Signal> {
    (channel(), user()).prop_map(|(channel, user)| Signal { channel, user, kind: SignalKind::Typing }).boxed()
}

fn session() -> BoxedStrategy<SessionRecord> {
    (user(), any::<[u8; 16]>(), "[a-z0-9-]{1,64}", position(), any::<u64>(), position())
        .prop_map(|(user, session, process, process_epoch, connection, opened)| SessionRecord {
            user,
            session: SessionId::from_bytes(session),
            process: process.into(),
            process_epoch,
            connection,
            opened: LogTime(opened),
        })
        .boxed()
}

fn gateway() -> BoxedStrategy<GatewayRecord> {
    ("[a-z0-9-]{1,64}", position(), text(), text(), any::<u32>(), any::<u32>(), position())
        .prop_map(|(process, epoch, url, region, capacity, connections, delivered_offset)| GatewayRecord {
            process: process.into(),
            epoch,
            url,
            region,
            capacity,
            connections,
            delivered_offset,
        })
        .boxed()
}

fn profile() -> BoxedStrategy<ProfileRecord> {
    (user(), text(), text())
        .prop_map(|(user, username, display_name)| ProfileRecord { user, username, display_name })
        .boxed()
}
