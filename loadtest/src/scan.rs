//! The few fields of an event that a load client needs, scanned from the frame as our server writes it; serde reads what looks
//! otherwise.

use schemas::frames::{EventKindFrame, ServerFrame};
use uuid::Uuid;

/// What is looked at of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EventHead {
    pub(crate) channel: Uuid,
    pub(crate) seq: u64,
    pub(crate) sender: Uuid,
    pub(crate) id: Uuid,
    /// A person's message.
    pub(crate) is_message: bool,
}

/// A frame from the server.
#[derive(Debug)]
pub(crate) enum Received {
    Event(EventHead),
    Other(Box<ServerFrame>),
    /// No frame of the protocol: a fault of the server.
    Unreadable,
}

/// Reads a text frame.
pub(crate) fn receive(text: &[u8]) -> Received {
    if let Some(event) = scan(text) {
        return Received::Event(event);
    }
    match serde_json::from_slice(text) {
        Ok(ServerFrame::Event(event)) => {
            let ids = [&event.channel, &event.sender, &event.client_msg_id].map(|id| Uuid::try_parse(id).ok());
            let [Some(channel), Some(sender), Some(id)] = ids else { return Received::Unreadable };
            let is_message = matches!(event.kind, EventKindFrame::MessagePosted { .. });
            Received::Event(EventHead { channel, seq: event.seq, sender, id, is_message })
        }
        Ok(frame) => Received::Other(Box::new(frame)),
        Err(_) => Received::Unreadable,
    }
}

fn scan(text: &[u8]) -> Option<EventHead> {
    let rest = text.strip_prefix(br#"{"t":"event","channel":""#)?;
    let (channel, rest) = uuid(rest)?;
    let (seq, rest) = number(rest.strip_prefix(br#"","seq":"#)?)?;
    let (_, rest) = number(rest.strip_prefix(br#","ordinal":"#)?)?;
    let (_, rest) = number(rest.strip_prefix(br#","id":""#)?)?;
    let (_, rest) = number(rest.strip_prefix(br#"","time":"#)?)?;
    let (sender, rest) = uuid(rest.strip_prefix(br#","sender":""#)?)?;
    let (id, rest) = uuid(rest.strip_prefix(br#"","client_msg_id":""#)?)?;
    let is_message = rest.strip_prefix(br#"","kind":""#)?.starts_with(br#"message_posted""#);
    Some(EventHead { channel, seq, sender, id, is_message })
}

fn uuid(text: &[u8]) -> Option<(Uuid, &[u8])> {
    let (id, rest) = text.split_at_checked(36)?;
    Some((Uuid::try_parse_ascii(id).ok()?, rest))
}

fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut value = 0_u64;
    for digit in &text[..digits] {
        value = value.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
    }
    (digits > 0).then_some((value, &text[digits..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::{ChannelId, ChannelSeq, ClientMsgId, Event, EventKind, LogTime, MessageId, Ordinal, UserId};
    use schemas::event_frames::write_event_frame;

    #[test]
    fn the_scan_and_serde_read_the_same() {
        let ids = [1, 2, 3].map(|byte| [byte; 16]);
        let (channel, sender, id) =
            (ChannelId::from_bytes(ids[0]), UserId::from_bytes(ids[1]), ClientMsgId::from_bytes(ids[2]));
        let kinds = [
            EventKind::MessagePosted { text: "\"seq\":9 \u{0} é".into() },
            EventKind::MemberLeft { user: sender, removed: false },
        ];
        for kind in kinds {
            let is_message = kind.is_message();
            let event = Event {
                seq: ChannelSeq(12),
                ordinal: Ordinal(3),
                message_id: MessageId(4),
                members_version: ChannelSeq(1),
                kind,
            };
            let mut text = Vec::new();
            write_event_frame(&mut text, channel, sender, id, LogTime(5), &event);
            let expected = EventHead { channel: channel.0, seq: 12, sender: sender.0, id: id.0, is_message };
            assert_eq!(scan(&text), Some(expected));
            let spaced = String::from_utf8(text).expect("text").replacen("{\"t\"", "{ \"t\"", 1);
            assert!(scan(spaced.as_bytes()).is_none());
            assert!(matches!(receive(spaced.as_bytes()), Received::Event(event) if event == expected));
        }
    }

    #[test]
    fn what_is_no_frame_is_unreadable() {
        for text in ["", "{", "{\"t\":\"event\",\"channel\":\"x\"}", "{\"t\":\"unknown\"}"] {
            assert!(matches!(receive(text.as_bytes()), Received::Unreadable), "{text}");
        }
    }
}
