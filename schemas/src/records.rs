//! Records of the topics: Avro in the Confluent wire format (`0x00 | schema id u32 BE | datum`).
//!
//! The `.avsc` files in `schemas/avro` say what stands where; the functions here write and read exactly that, field by
//! field. Reading checks everything and never panics: what it refuses it names, and says whether the bytes are foreign,
//! of a newer version, or damaged.

use crate::avro::{self, Reader, Writer};
use crate::registry;
use bytes::Bytes;
use domain::command::{ChannelKind, CommandBody, HistoryVisibility, Role};
use domain::{
    Answer, ChannelId, ChannelSeq, ClientMsgId, Command, CommandPosition, Epoch, Event, EventKind, LogTime, MessageId,
    Ordinal, Outcome, OwnerSeq, RejectCause, ReplyAddress, SessionId, TimelineRecord, UserId, Verdict,
};
use std::str::FromStr;
use uuid::Uuid;

/// Bytes that are no record of ours, or not one that this version can read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not our wire format, or a schema id that was never ours for this topic: somebody else's record. To the dead letters.
    #[error("foreign record: {0}")]
    Foreign(String),
    /// Our wire format and one of our schema ids, or one newer than this program, but unreadable. A reader of the truth stops here.
    #[error("unreadable record: {0}")]
    Unreadable(String),
}

impl DecodeError {
    /// Whether it is somebody else's record, which readers may put aside.
    pub const fn is_foreign(&self) -> bool {
        matches!(self, Self::Foreign(_))
    }

    /// A schema id that is none of those expected.
    #[cold]
    fn unexpected(id: u32, expected: &str) -> Self {
        match registry::by_id(id) {
            Some(schema) => Self::Foreign(format!("schema id {id} is {}, not {expected}", schema.record)),
            None if registry::IDS.contains(&id) => {
                Self::Unreadable(format!("schema id {id} is newer than this program; expected {expected}"))
            }
            None => Self::Foreign(format!("schema id {id} is unknown; expected {expected}")),
        }
    }
}

/// `chat.commands`: encodes a command.
pub fn encode_command(command: &Command) -> Vec<u8> {
    let text_bytes = match &command.body {
        CommandBody::Post { text } => text.len(),
        CommandBody::CreateChannel { title, members, .. } => title.len() + 37 * members.len(),
        CommandBody::AddMembers { users } => 37 * users.len(),
        _ => 0,
    };
    let mut w = Writer::new(registry::COMMAND, text_bytes);
    w.uuid(&command.channel.0);
    w.uuid(&command.sender.0);
    w.uuid(&command.id.0);
    w.boolean(command.retry);
    write_reply(&mut w, command.reply.as_ref());
    let (index, field) = match &command.body {
        CommandBody::Post { .. } => (1, 0),
        CommandBody::CreateChannel { .. } => (2, 1),
        CommandBody::Join => (3, COMMAND_FIELDS),
        CommandBody::Leave => (4, COMMAND_FIELDS),
        CommandBody::AddMembers { .. } => (5, 2),
        CommandBody::RemoveMember { .. } => (6, 3),
        CommandBody::SetRole { .. } => (7, 4),
        CommandBody::ChannelJoined { .. } => (8, 5),
        CommandBody::ChannelLeft { .. } => (9, 6),
    };
    w.index(index);
    w.nulls(field);
    if field == COMMAND_FIELDS {
        return w.finish();
    }
    w.index(1);
    match &command.body {
        CommandBody::Post { text } => w.string(text),
        CommandBody::CreateChannel { kind, title, members, history, open } => {
            w.index(channel_kind_index(*kind));
            w.string(title);
            w.array(members, |w, user| w.uuid(&user.0));
            w.index(history_index(*history));
            w.boolean(*open);
        }
        CommandBody::Join | CommandBody::Leave => {}
        CommandBody::AddMembers { users } => w.array(users, |w, user| w.uuid(&user.0)),
        CommandBody::RemoveMember { user } => w.uuid(&user.0),
        CommandBody::SetRole { user, role } => {
            w.uuid(&user.0);
            w.index(role_index(*role));
        }
        CommandBody::ChannelJoined { channel, seq } | CommandBody::ChannelLeft { channel, seq } => {
            w.uuid(&channel.0);
            w.unsigned(seq.0);
        }
    }
    w.nulls(COMMAND_FIELDS - 1 - field);
    w.finish()
}

/// `chat.commands`: reads a command.
pub fn decode_command(value: &[u8]) -> Result<Command, DecodeError> {
    let (id, datum) = avro::split(value)?;
    if id != registry::COMMAND {
        return Err(DecodeError::unexpected(id, "Command"));
    }
    let mut r = Reader::new("Command", datum);
    let channel = ChannelId(r.uuid("channel_id")?);
    let sender = UserId(r.uuid("sender_id")?);
    let client_msg_id = ClientMsgId(r.uuid("client_msg_id")?);
    let retry = r.boolean("retry")?;
    let reply = read_reply(&mut r)?;
    let kind = r.long("command_type")?;
    let (field, body) = match kind {
        1 => (1, r.required("post", |r| Ok(CommandBody::Post { text: r.string("text")?.into() }))?),
        2 => {
            r.nulls("command_type", 1)?;
            let body = r.required("create_channel", |r| {
                Ok(CommandBody::CreateChannel {
                    kind: r.symbol("kind", channel_kind)?,
                    title: r.string("title")?.into(),
                    members: r.array("members", UUID_FIELD_BYTES, |r| r.uuid("members").map(UserId))?,
                    history: r.symbol("history", history)?,
                    open: r.boolean("open")?,
                })
            })?;
            (2, body)
        }
        3 => (0, CommandBody::Join),
        4 => (0, CommandBody::Leave),
        5 => {
            r.nulls("command_type", 2)?;
            let users = |r: &mut Reader<'_>| r.array("user_ids", UUID_FIELD_BYTES, |r| r.uuid("user_ids").map(UserId));
            (3, CommandBody::AddMembers { users: r.required("add_members", users)? })
        }
        6 => {
            r.nulls("command_type", 3)?;
            (4, CommandBody::RemoveMember { user: r.required("remove_member", |r| r.uuid("user_id").map(UserId))? })
        }
        7 => {
            r.nulls("command_type", 4)?;
            let (user, role) = r.required("set_role", read_user_role)?;
            (5, CommandBody::SetRole { user, role })
        }
        8 => {
            r.nulls("command_type", 5)?;
            let (channel, seq) = r.required("channel_joined", read_channel_seq)?;
            (6, CommandBody::ChannelJoined { channel, seq })
        }
        9 => {
            r.nulls("command_type", 6)?;
            let (channel, seq) = r.required("channel_left", read_channel_seq)?;
            (7, CommandBody::ChannelLeft { channel, seq })
        }
        _ => return Err(r.wrong("command_type: no symbol of it")),
    };
    r.nulls("command_type", COMMAND_FIELDS - field)?;
    r.finish()?;
    Ok(Command { channel, sender, id: client_msg_id, retry, reply, body })
}

/// `chat.messages`: encodes a claim or an outcome.
pub fn encode_timeline(record: &TimelineRecord) -> Vec<u8> {
    match record {
        TimelineRecord::Claim { epoch, nonce, owner, commands_start } => {
            let mut w = Writer::new(registry::OWNERSHIP_TAKEN, owner.len());
            w.unsigned(epoch.0);
            w.long(0);
            w.uuid(&Uuid::from_u128(*nonce));
            w.index(1);
            w.string(owner);
            w.unsigned(commands_start.incarnation);
            w.unsigned(commands_start.offset);
            w.finish()
        }
        TimelineRecord::Outcome(outcome) => match &outcome.verdict {
            Verdict::Accepted(events) => {
                let text_bytes = events.iter().map(|event| EVENT_BYTES + event_text_bytes(event)).sum();
                let mut w = Writer::new(registry::EVENTS_DECIDED, text_bytes);
                write_head(&mut w, outcome, 2);
                w.array(events, write_event);
                w.finish()
            }
            Verdict::Answered(answer) => {
                let mut w = Writer::new(registry::COMMAND_ANSWERED, 0);
                write_head(&mut w, outcome, 3);
                let (index, seq, cause) = match answer {
                    Answer::Duplicate { seq } => (1, Some(seq), None),
                    Answer::Conflict { seq } => (2, Some(seq), None),
                    Answer::Rejected(cause) => (3, None, Some(*cause)),
                    Answer::RetryLater => (4, None, None),
                    Answer::Poison => (5, None, None),
                };
                w.index(index);
                w.optional(seq, |w, seq| w.unsigned(seq.0));
                w.optional(cause, |w, cause| w.index(reject_cause_index(cause)));
                w.finish()
            }
        },
    }
}

/// `chat.messages`: reads a claim or an outcome.
pub fn decode_timeline(value: &[u8]) -> Result<TimelineRecord, DecodeError> {
    let (id, datum) = avro::split(value)?;
    match id {
        registry::EVENTS_DECIDED => {
            let mut r = Reader::new("EventsDecided", datum);
            let mut outcome = read_head(&mut r)?;
            let events = r.array("events", EVENT_BYTES_MIN, read_event)?;
            if events.is_empty() {
                return Err(r.wrong("events: empty"));
            }
            r.finish()?;
            outcome.verdict = Verdict::Accepted(events);
            Ok(TimelineRecord::Outcome(outcome))
        }
        registry::COMMAND_ANSWERED => {
            let mut r = Reader::new("CommandAnswered", datum);
            let mut outcome = read_head(&mut r)?;
            let index = r.long("answer")?;
            let seq = r.optional("original_seq", |r| r.position("original_seq").map(ChannelSeq))?;
            let cause = r.optional("reject_cause", |r| r.symbol("reject_cause", reject_cause))?;
            let answer = match (index, seq, cause) {
                (1, Some(seq), None) => Answer::Duplicate { seq },
                (2, Some(seq), None) => Answer::Conflict { seq },
                (3, None, Some(cause)) => Answer::Rejected(cause),
                (4, None, None) => Answer::RetryLater,
                (5, None, None) => Answer::Poison,
                _ => return Err(r.wrong("answer: not one with these fields")),
            };
            r.finish()?;
            outcome.verdict = Verdict::Answered(answer);
            Ok(TimelineRecord::Outcome(outcome))
        }
        registry::OWNERSHIP_TAKEN => {
            let mut r = Reader::new("OwnershipTaken", datum);
            let epoch = Epoch(r.position("epoch")?);
            if r.long("n")? != 0 {
                return Err(r.wrong("n: a claim's is 0"));
            }
            let nonce = r.uuid("event_id")?.as_u128();
            r.long("event_type")?;
            let owner = r.string("owner")?.into();
            let commands_start = CommandPosition {
                incarnation: r.position("commands_incarnation")?,
                offset: r.position("commands_start_offset")?,
            };
            r.finish()?;
            Ok(TimelineRecord::Claim { epoch, nonce, owner, commands_start })
        }
        other => Err(DecodeError::unexpected(other, "a record of chat.messages")),
    }
}

/// Where a record of `chat.messages` stands in its owner's order: all that its owner needs to know its own again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimelinePosition {
    /// A claim of this epoch.
    Claim(Epoch),
    /// An outcome.
    Outcome(Epoch, OwnerSeq),
}

/// `chat.messages`: reads the position only, which every schema has in front. The rest may still be unreadable.
pub fn peek_timeline(value: &[u8]) -> Result<TimelinePosition, DecodeError> {
    let (id, datum) = avro::split(value)?;
    let mut r = Reader::new("the position of a record", datum);
    match id {
        registry::OWNERSHIP_TAKEN => Ok(TimelinePosition::Claim(Epoch(r.position("epoch")?))),
        registry::EVENTS_DECIDED | registry::COMMAND_ANSWERED => {
            Ok(TimelinePosition::Outcome(Epoch(r.position("epoch")?), OwnerSeq(r.position("n")?)))
        }
        other => Err(DecodeError::unexpected(other, "a record of chat.messages")),
    }
}

/// The id of an outcome's record, told to outsiders for deduplication: UUIDv5 of the channel and (epoch, n).
pub fn event_id(channel: ChannelId, epoch: Epoch, n: OwnerSeq) -> Uuid {
    let mut name = [0; 16];
    name[..8].copy_from_slice(&epoch.0.to_be_bytes());
    name[8..].copy_from_slice(&n.0.to_be_bytes());
    Uuid::new_v5(&channel.0, &name)
}

/// `chat.gateway.<process>`: what the fanout sends to one process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// An accepted outcome, for the people of this process and, if one waits here, the sender of the command.
    Outcome {
        /// The epoch of the process that this is for; another epoch drops it.
        process_epoch: u64,
        /// The partition of `chat.messages`.
        partition: u16,
        /// The offset of the record there.
        offset: u64,
        /// People with a session in this process who are members at the events' seqs, the sender included.
        recipients: Vec<UserId>,
        /// Who waits here for the outcome.
        reply: Option<ReplyAddress>,
        /// The record's value as it stands in `chat.messages`, encoded once by the sequencer.
        record: Bytes,
    },
    /// A passing sign for the people of this process.
    Signal {
        /// The epoch of the process that this is for.
        process_epoch: u64,
        /// People with a session in this process.
        recipients: Vec<UserId>,
        /// The sign.
        signal: Signal,
    },
}

/// Encodes a delivery.
pub fn encode_delivery(delivery: &Delivery) -> Vec<u8> {
    match delivery {
        Delivery::Outcome { process_epoch, partition, offset, recipients, reply, record } => {
            let mut w = Writer::new(registry::OUTCOME_DELIVERY, record.len() + 16 * recipients.len());
            w.unsigned(*process_epoch);
            w.long(i64::from(*partition));
            w.unsigned(*offset);
            write_reply(&mut w, reply.as_ref());
            w.array(recipients, |w, user| w.fixed(user.as_bytes()));
            w.bytes(record);
            w.finish()
        }
        Delivery::Signal { process_epoch, recipients, signal } => {
            let mut w = Writer::new(registry::SIGNAL_DELIVERY, 16 * recipients.len());
            w.unsigned(*process_epoch);
            write_signal(&mut w, signal);
            w.array(recipients, |w, user| w.fixed(user.as_bytes()));
            w.finish()
        }
    }
}

/// Reads a delivery. Its record shares the bytes of `value`.
pub fn decode_delivery(value: &Bytes) -> Result<Delivery, DecodeError> {
    let (id, datum) = avro::split(value)?;
    match id {
        registry::OUTCOME_DELIVERY => {
            let mut r = Reader::new("OutcomeDelivery", datum);
            let process_epoch = r.position("process_epoch")?;
            let partition = r.small("partition")?;
            let offset = r.position("offset")?;
            let reply = read_reply(&mut r)?;
            let recipients = read_recipients(&mut r)?;
            let record = value.slice_ref(r.bytes("record")?);
            r.finish()?;
            Ok(Delivery::Outcome { process_epoch, partition, offset, recipients, reply, record })
        }
        registry::SIGNAL_DELIVERY => {
            let mut r = Reader::new("SignalDelivery", datum);
            let process_epoch = r.position("process_epoch")?;
            let signal = read_signal(&mut r)?;
            let recipients = read_recipients(&mut r)?;
            r.finish()?;
            Ok(Delivery::Signal { process_epoch, recipients, signal })
        }
        other => Err(DecodeError::unexpected(other, "a record of chat.gateway.<id>")),
    }
}

/// `chat.signals`: a passing sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signal {
    /// In which channel.
    pub channel: ChannelId,
    /// Whose.
    pub user: UserId,
    /// What.
    pub kind: SignalKind,
}

/// What a signal says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignalKind {
    /// Is typing.
    Typing,
}

/// Encodes a signal.
pub fn encode_signal(signal: &Signal) -> Vec<u8> {
    let mut w = Writer::new(registry::SIGNAL, 0);
    write_signal(&mut w, signal);
    w.finish()
}

/// Reads a signal.
pub fn decode_signal(value: &[u8]) -> Result<Signal, DecodeError> {
    read_whole(value, registry::SIGNAL, "Signal", read_signal)
}

/// `chat.sessions`: an open connection. Closed = tombstone of its [`session_key`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRecord {
    /// Whose.
    pub user: UserId,
    /// The connection's public id.
    pub session: SessionId,
    /// The process that holds the socket.
    pub process: Box<str>,
    /// The epoch of that process.
    pub process_epoch: u64,
    /// The connection within the process.
    pub connection: u64,
    /// When it was opened, ms since the Unix epoch by the gateway's server time.
    pub opened: LogTime,
}

/// The key of a session's record: `user/session/process/epoch/connection`; its partition is that of the user.
pub fn session_key(record: &SessionRecord) -> String {
    format!("{}/{}/{}/{}/{}", record.user, record.session, record.process, record.process_epoch, record.connection)
}

/// Reads a session's key: user, session, process, epoch, connection. `None`: no such key.
pub fn parse_session_key(key: &[u8]) -> Option<(UserId, SessionId, Box<str>, u64, u64)> {
    let mut parts = std::str::from_utf8(key).ok()?.split('/');
    let user = UserId::from_str(parts.next()?).ok()?;
    let session = SessionId::from_str(parts.next()?).ok()?;
    let process = parts.next()?.into();
    let epoch = parts.next()?.parse().ok()?;
    let connection = parts.next()?.parse().ok()?;
    if parts.next().is_some() {
        return None;
    }
    Some((user, session, process, epoch, connection))
}

/// Encodes a session.
pub fn encode_session(record: &SessionRecord) -> Vec<u8> {
    let mut w = Writer::new(registry::SESSION, record.process.len());
    w.uuid(&record.user.0);
    w.uuid(&record.session.0);
    w.string(&record.process);
    w.unsigned(record.process_epoch);
    w.unsigned(record.connection);
    w.unsigned(record.opened.0);
    w.finish()
}

/// Reads a session.
pub fn decode_session(value: &[u8]) -> Result<SessionRecord, DecodeError> {
    read_whole(value, registry::SESSION, "Session", |r| {
        Ok(SessionRecord {
            user: UserId(r.uuid("user_id")?),
            session: SessionId(r.uuid("session_id")?),
            process: r.string("process")?.into(),
            process_epoch: r.position("process_epoch")?,
            connection: r.unsigned("connection")?,
            opened: LogTime(r.position("opened_at")?),
        })
    })
}

/// `chat.gateways`, keyed by process: heartbeat and lease of a process that has a gateway topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayRecord {
    /// The process.
    pub process: Box<str>,
    /// Raised at each start and after each missed lease.
    pub epoch: u64,
    /// Where clients reach it; empty for a process without sockets.
    pub url: String,
    /// Its region; empty if none.
    pub region: String,
    /// The most connections it takes.
    pub capacity: u32,
    /// The connections it has.
    pub connections: u32,
    /// All deliveries of its topic below it are in the hands of sockets or answered.
    pub delivered_offset: u64,
}

/// Encodes a heartbeat.
pub fn encode_gateway(record: &GatewayRecord) -> Vec<u8> {
    let mut w = Writer::new(registry::GATEWAY, record.process.len() + record.url.len() + record.region.len());
    w.string(&record.process);
    w.unsigned(record.epoch);
    w.string(&record.url);
    w.string(&record.region);
    w.long(i64::from(record.capacity));
    w.long(i64::from(record.connections));
    w.unsigned(record.delivered_offset);
    w.finish()
}

/// Reads a heartbeat.
pub fn decode_gateway(value: &[u8]) -> Result<GatewayRecord, DecodeError> {
    read_whole(value, registry::GATEWAY, "Gateway", |r| {
        Ok(GatewayRecord {
            process: r.string("process")?.into(),
            epoch: r.position("epoch")?,
            url: r.string("url")?.into(),
            region: r.string("region")?.into(),
            capacity: r.small("capacity")?,
            connections: r.small("connections")?,
            delivered_offset: r.position("delivered_offset")?,
        })
    })
}

/// `chat.users`, keyed by user: the public profile, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileRecord {
    /// Who.
    pub user: UserId,
    /// Unique.
    pub username: String,
    /// What people see.
    pub display_name: String,
}

/// Encodes a profile.
pub fn encode_profile(record: &ProfileRecord) -> Vec<u8> {
    let mut w = Writer::new(registry::PROFILE, record.username.len() + record.display_name.len());
    w.uuid(&record.user.0);
    w.string(&record.username);
    w.string(&record.display_name);
    w.finish()
}

/// Reads a profile.
pub fn decode_profile(value: &[u8]) -> Result<ProfileRecord, DecodeError> {
    read_whole(value, registry::PROFILE, "Profile", |r| {
        Ok(ProfileRecord {
            user: UserId(r.uuid("user_id")?),
            username: r.string("username")?.into(),
            display_name: r.string("display_name")?.into(),
        })
    })
}

/// What a waiter at a reply address is told about its command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The command's channel.
    pub channel: ChannelId,
    /// The command's id.
    pub id: ClientMsgId,
    /// T of the record.
    pub time: LogTime,
    /// The first seq of what was accepted, or why nothing was.
    pub answer: Result<ChannelSeq, Answer>,
}

/// Optional fields of `Command`, one per type that carries something.
const COMMAND_FIELDS: usize = 7;
/// Optional fields of `Event`, one per type.
const EVENT_FIELDS: usize = 7;
/// Bytes of a uuid as a string with its length.
const UUID_FIELD_BYTES: usize = 37;
/// Room for an event without its text: numbers, type, fields, a uuid.
const EVENT_BYTES: usize = 80;
/// No event is shorter: five numbers, the fields, one byte within.
const EVENT_BYTES_MIN: usize = 13;

fn read_whole<'a, T>(
    value: &'a [u8],
    expected: u32,
    record: &'static str,
    read: impl FnOnce(&mut Reader<'a>) -> Result<T, DecodeError>,
) -> Result<T, DecodeError> {
    let (id, datum) = avro::split(value)?;
    if id != expected {
        return Err(DecodeError::unexpected(id, record));
    }
    let mut r = Reader::new(record, datum);
    let read = read(&mut r)?;
    r.finish()?;
    Ok(read)
}

fn write_head(w: &mut Writer, outcome: &Outcome, event_type: u8) {
    w.unsigned(outcome.epoch.0);
    w.unsigned(outcome.n.0);
    w.uuid(&event_id(outcome.channel, outcome.epoch, outcome.n));
    w.index(event_type);
    w.unsigned(outcome.time.0);
    w.unsigned(outcome.command.incarnation);
    w.unsigned(outcome.command.offset);
    w.uuid(&outcome.channel.0);
    w.uuid(&outcome.sender.0);
    w.uuid(&outcome.id.0);
    w.unsigned(outcome.digest);
    write_reply(w, outcome.reply.as_ref());
}

/// The head, with a verdict that the caller replaces.
fn read_head(r: &mut Reader<'_>) -> Result<Outcome, DecodeError> {
    let epoch = Epoch(r.position("epoch")?);
    let n = OwnerSeq(r.position("n")?);
    r.bytes("event_id")?; // follows from the rest
    r.long("event_type")?; // follows from the schema
    Ok(Outcome {
        epoch,
        n,
        time: LogTime(r.position("occurred_at")?),
        command: CommandPosition {
            incarnation: r.position("command_incarnation")?,
            offset: r.position("command_offset")?,
        },
        channel: ChannelId(r.uuid("channel_id")?),
        sender: UserId(r.uuid("sender_id")?),
        id: ClientMsgId(r.uuid("client_msg_id")?),
        digest: r.unsigned("body_digest")?,
        reply: read_reply(r)?,
        verdict: Verdict::Answered(Answer::Poison),
    })
}

fn write_event(w: &mut Writer, event: &Event) {
    w.unsigned(event.seq.0);
    w.unsigned(event.ordinal.0);
    w.unsigned(event.message_id.0);
    w.unsigned(event.members_version.0);
    let field = match &event.kind {
        EventKind::MessagePosted { .. } => 0,
        EventKind::ChannelCreated { .. } => 1,
        EventKind::MemberJoined { .. } => 2,
        EventKind::MemberLeft { .. } => 3,
        EventKind::RoleChanged { .. } => 4,
        EventKind::ChannelJoined { .. } => 5,
        EventKind::ChannelLeft { .. } => 6,
    };
    w.index(field + 1);
    w.nulls(usize::from(field));
    w.index(1);
    match &event.kind {
        EventKind::MessagePosted { text } => w.string(text),
        EventKind::ChannelCreated { kind, title, history, open } => {
            w.index(channel_kind_index(*kind));
            w.string(title);
            w.index(history_index(*history));
            w.boolean(*open);
        }
        EventKind::MemberJoined { user, role } | EventKind::RoleChanged { user, role } => {
            w.uuid(&user.0);
            w.index(role_index(*role));
        }
        EventKind::MemberLeft { user, removed } => {
            w.uuid(&user.0);
            w.boolean(*removed);
        }
        EventKind::ChannelJoined { channel, seq } | EventKind::ChannelLeft { channel, seq } => {
            w.uuid(&channel.0);
            w.unsigned(seq.0);
        }
    }
    w.nulls(EVENT_FIELDS - 1 - usize::from(field));
}

fn read_event(r: &mut Reader<'_>) -> Result<Event, DecodeError> {
    let seq = ChannelSeq(r.position("seq")?);
    let ordinal = Ordinal(r.position("ordinal")?);
    let message_id = MessageId(r.position("message_id")?);
    let members_version = ChannelSeq(r.position("members_version")?);
    let index: usize = r.small("event_type")?;
    if !(1..=EVENT_FIELDS).contains(&index) {
        return Err(r.wrong("event_type: no symbol of it"));
    }
    r.nulls("event_type", index - 1)?;
    let kind = match index {
        1 => r.required("message_posted", |r| Ok(EventKind::MessagePosted { text: r.string("text")?.into() }))?,
        2 => r.required("channel_created", |r| {
            Ok(EventKind::ChannelCreated {
                kind: r.symbol("kind", channel_kind)?,
                title: r.string("title")?.into(),
                history: r.symbol("history", history)?,
                open: r.boolean("open")?,
            })
        })?,
        3 => {
            let (user, role) = r.required("member_joined", read_user_role)?;
            EventKind::MemberJoined { user, role }
        }
        4 => r.required("member_left", |r| {
            Ok(EventKind::MemberLeft { user: UserId(r.uuid("user_id")?), removed: r.boolean("removed")? })
        })?,
        5 => {
            let (user, role) = r.required("role_changed", read_user_role)?;
            EventKind::RoleChanged { user, role }
        }
        6 => {
            let (channel, seq) = r.required("channel_joined", read_channel_seq)?;
            EventKind::ChannelJoined { channel, seq }
        }
        _ => {
            let (channel, seq) = r.required("channel_left", read_channel_seq)?;
            EventKind::ChannelLeft { channel, seq }
        }
    };
    r.nulls("event_type", EVENT_FIELDS - index)?;
    Ok(Event { seq, ordinal, message_id, members_version, kind })
}

fn event_text_bytes(event: &Event) -> usize {
    match &event.kind {
        EventKind::MessagePosted { text } => text.len(),
        EventKind::ChannelCreated { title, .. } => title.len(),
        _ => 0,
    }
}

fn write_reply(w: &mut Writer, reply: Option<&ReplyAddress>) {
    w.optional(reply, |w, reply| {
        w.string(&reply.process);
        w.unsigned(reply.connection);
    });
}

fn read_reply(r: &mut Reader<'_>) -> Result<Option<ReplyAddress>, DecodeError> {
    r.optional("reply", |r| {
        Ok(ReplyAddress { process: r.string("process")?.into(), connection: r.unsigned("connection")? })
    })
}

fn write_signal(w: &mut Writer, signal: &Signal) {
    w.uuid(&signal.channel.0);
    w.uuid(&signal.user.0);
    w.index(match signal.kind {
        SignalKind::Typing => 1,
    });
}

fn read_signal(r: &mut Reader<'_>) -> Result<Signal, DecodeError> {
    Ok(Signal {
        channel: ChannelId(r.uuid("channel_id")?),
        user: UserId(r.uuid("user_id")?),
        kind: r.symbol("kind", |index| (index == 1).then_some(SignalKind::Typing))?,
    })
}

fn read_recipients(r: &mut Reader<'_>) -> Result<Vec<UserId>, DecodeError> {
    r.array("recipients", 16, |r| r.fixed("recipients").map(UserId::from_bytes))
}

fn read_user_role(r: &mut Reader<'_>) -> Result<(UserId, Role), DecodeError> {
    Ok((UserId(r.uuid("user_id")?), r.symbol("role", role)?))
}

fn read_channel_seq(r: &mut Reader<'_>) -> Result<(ChannelId, ChannelSeq), DecodeError> {
    Ok((ChannelId(r.uuid("channel_id")?), ChannelSeq(r.position("seq")?)))
}

/// An enum of ours and its symbols in the `.avsc`, where 0 is `UNKNOWN`: never written.
macro_rules! symbols {
    ($write:ident, $read:ident, $kind:ident { $($name:ident = $index:literal),* $(,)? }) => {
        const fn $write(value: $kind) -> u8 {
            match value { $($kind::$name => $index,)* }
        }

        const fn $read(index: i64) -> Option<$kind> {
            match index { $($index => Some($kind::$name),)* _ => None }
        }
    };
}

symbols!(channel_kind_index, channel_kind, ChannelKind { Direct = 1, Group = 2, Personal = 3 });
symbols!(history_index, history, HistoryVisibility { FromJoining = 1, FromStart = 2 });
symbols!(role_index, role, Role { Member = 1, Admin = 2, Owner = 3 });
symbols!(reject_cause_index, reject_cause, RejectCause {
    Clock = 1,
    NotMember = 2,
    Forbidden = 3,
    AlreadyExists = 4,
    AlreadyMember = 5,
    NoSuchMember = 6,
    MembersLimit = 7,
    LastOwner = 8,
    BadBody = 9,
});
