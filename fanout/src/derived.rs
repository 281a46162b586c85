//! Commands that follow from events: a membership change becomes an event of the person's personal channel.

use domain::{ChannelId, ClientMsgId, Command, CommandBody, Event, EventKind, LogTime, MessageId, UserId};

/// The command that an event of `channel` at `time` causes, if any.
pub(crate) fn command_for(channel: ChannelId, time: LogTime, event: &Event) -> Option<Command> {
    let (user, body) = match event.kind {
        EventKind::MemberJoined { user, .. } => (user, CommandBody::ChannelJoined { channel, seq: event.seq }),
        EventKind::MemberLeft { user, .. } => (user, CommandBody::ChannelLeft { channel, seq: event.seq }),
        _ => return None,
    };
    Some(derive(user, time, event.message_id, body))
}

fn derive(user: UserId, time: LogTime, cause: MessageId, body: CommandBody) -> Command {
    Command {
        channel: ChannelId::personal(user),
        sender: user,
        id: derived_id(time, cause),
        retry: false,
        reply: None,
        body,
    }
}

/// The id of the command that `cause` at `time` derives: the same however often it is derived (design §4 "Once").
fn derived_id(time: LogTime, cause: MessageId) -> ClientMsgId {
    let cause = cause.0.to_be_bytes();
    // A UUIDv7 overwrites the upper 4 bits of its first random byte and the upper 2 of its third; the cause's upper byte
    // stands in the lower bits of the first two, its other seven bytes behind the third.
    let random =
        [cause[0] >> 4, cause[0] & 0x0f, 0, cause[1], cause[2], cause[3], cause[4], cause[5], cause[6], cause[7]];
    ClientMsgId(uuid::Builder::from_unix_timestamp_millis(time.0, &random).into_uuid())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn derived_ids_differ_where_their_causes_differ(a in any::<u64>(), b in any::<u64>(), time in 0_u64..1 << 47) {
            prop_assume!(a != b);
            prop_assert_ne!(derived_id(LogTime(time), MessageId(a)), derived_id(LogTime(time), MessageId(b)));
            prop_assert_eq!(derived_id(LogTime(time), MessageId(a)).time(), Some(LogTime(time)));
        }
    }
}
