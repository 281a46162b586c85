//! Records of the topics: Avro in the Confluent wire format (`0x00 | schema id u32 BE | datum`).

use domain::{
    Answer, ChannelId, ChannelSeq, ClientMsgId, Command, LogTime, ReplyAddress, SessionId, TimelineRecord, UserId,
};

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
}

/// `chat.commands`: encodes a command.
pub fn encode_command(_command: &Command) -> Vec<u8> {
    unimplemented!()
}

/// `chat.commands`: reads a command.
pub fn decode_command(_value: &[u8]) -> Result<Command, DecodeError> {
    unimplemented!()
}

/// `chat.messages`: encodes a claim or an outcome.
pub fn encode_timeline(_record: &TimelineRecord) -> Vec<u8> {
    unimplemented!()
}

/// `chat.messages`: reads a claim or an outcome.
pub fn decode_timeline(_value: &[u8]) -> Result<TimelineRecord, DecodeError> {
    unimplemented!()
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
        record: Vec<u8>,
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
pub fn encode_delivery(_delivery: &Delivery) -> Vec<u8> {
    unimplemented!()
}

/// Reads a delivery.
pub fn decode_delivery(_value: &[u8]) -> Result<Delivery, DecodeError> {
    unimplemented!()
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
pub fn encode_signal(_signal: &Signal) -> Vec<u8> {
    unimplemented!()
}

/// Reads a signal.
pub fn decode_signal(_value: &[u8]) -> Result<Signal, DecodeError> {
    unimplemented!()
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
pub fn parse_session_key(_key: &[u8]) -> Option<(UserId, SessionId, Box<str>, u64, u64)> {
    unimplemented!()
}

/// Encodes a session.
pub fn encode_session(_record: &SessionRecord) -> Vec<u8> {
    unimplemented!()
}

/// Reads a session.
pub fn decode_session(_value: &[u8]) -> Result<SessionRecord, DecodeError> {
    unimplemented!()
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
pub fn encode_gateway(_record: &GatewayRecord) -> Vec<u8> {
    unimplemented!()
}

/// Reads a heartbeat.
pub fn decode_gateway(_value: &[u8]) -> Result<GatewayRecord, DecodeError> {
    unimplemented!()
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
pub fn encode_profile(_record: &ProfileRecord) -> Vec<u8> {
    unimplemented!()
}

/// Reads a profile.
pub fn decode_profile(_value: &[u8]) -> Result<ProfileRecord, DecodeError> {
    unimplemented!()
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
