//! Complete WebSocket frames, encoded once and shared by all sockets that get them.

use domain::{ChannelId, ChannelSeq, Event, Outcome, UserId};
use schemas::error_codes::Code;
use schemas::event_frames::write_event_frame;
use schemas::frames::{EventFrame, ServerFrame};
use std::sync::Arc;
use store::StoredEvent;

/// One frame on its way to sockets.
#[derive(Debug)]
pub(crate) struct Frame {
    /// The event's channel.
    pub(crate) channel: ChannelId,
    /// The event's seq; 0: no event, passed on without looking.
    pub(crate) seq: u64,
    /// Whose membership of the channel the event changes, and whether they are a member after it.
    pub(crate) change: Option<(UserId, bool)>,
    /// Header and payload, unmasked, as they go over the wire.
    pub(crate) wire: Box<[u8]>,
}

/// A shared frame.
pub(crate) type SharedFrame = Arc<Frame>;

impl Frame {
    /// An event of an outcome.
    pub(crate) fn of_event(outcome: &Outcome, event: &Event) -> SharedFrame {
        let mut wire = Vec::with_capacity(512);
        wire.extend_from_slice(&HEADER_ROOM);
        write_event_frame(&mut wire, outcome.channel, outcome.sender, outcome.id, outcome.time, event);
        seal(&mut wire, 0);
        Arc::new(Self {
            channel: outcome.channel,
            seq: event.seq.0,
            change: event.kind.membership().map(|(user, role)| (user, role.is_some())),
            wire: wire.into_boxed_slice(),
        })
    }

    /// What is no event.
    pub(crate) fn control(frame: &ServerFrame) -> SharedFrame {
        Arc::new(Self { channel: NO_CHANNEL, seq: 0, change: None, wire: encode(frame).into_boxed_slice() })
    }
}

/// Room for the usual header; a longer one moves the payload, which only long frames pay for.
const HEADER_ROOM: [u8; 4] = [0; 4];
const NO_CHANNEL: ChannelId = ChannelId::from_bytes([0; 16]);

/// A stored event as history shows it.
pub(crate) fn shown(stored: &StoredEvent) -> EventFrame {
    EventFrame::new(stored.channel, stored.sender, stored.client_msg_id, stored.time, &stored.event)
}

/// An error that is about nothing in particular.
pub(crate) fn error(code: Code, message: impl Into<String>) -> ServerFrame {
    ServerFrame::Error {
        code,
        message: message.into(),
        client_msg_id: None,
        request: None,
        retry_after_ms: None,
        server_time: None,
    }
}

/// The wire form of a frame.
pub(crate) fn encode(frame: &ServerFrame) -> Vec<u8> {
    let mut wire = Vec::with_capacity(256);
    append(&mut wire, frame);
    wire
}

/// Appends the wire form of a frame.
pub(crate) fn append(wire: &mut Vec<u8>, frame: &ServerFrame) {
    let start = wire.len();
    wire.extend_from_slice(&HEADER_ROOM);
    serde_json::to_writer(&mut *wire, frame).expect("frames have string keys and a vector takes every byte");
    seal(wire, start);
}

/// Puts the header before a payload that stands four bytes behind `start`.
fn seal(wire: &mut Vec<u8>, start: usize) {
    /// FIN and the opcode of text.
    const TEXT: u8 = 0x81;
    let length = wire.len() - start - 4;
    if length < 126 {
        wire[start + 2] = TEXT;
        wire[start + 3] = length as u8;
        wire.drain(start..start + 2);
    } else if let Ok(short) = u16::try_from(length) {
        let [high, low] = short.to_be_bytes();
        wire[start..start + 4].copy_from_slice(&[TEXT, 126, high, low]);
    } else {
        let mut header = [TEXT, 127, 0, 0, 0, 0, 0, 0, 0, 0];
        header[2..].copy_from_slice(&(length as u64).to_be_bytes());
        wire.splice(start..start + 4, header);
    }
}

/// The seq that answers an outcome's command.
pub(crate) fn first_seq(events: &[Event]) -> ChannelSeq {
    events.first().map_or_else(ChannelSeq::default, |event| event.seq)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocketContext};

    struct Wire<'a>(&'a [u8]);

    impl std::io::Read for Wire<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.0.read(buffer)
        }
    }

    impl std::io::Write for Wire<'_> {
        fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
            Ok(buffer.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn frames_of_every_length_are_read_by_a_websocket_client() {
        for length in [0, 1, 60, 70, 80, 90, 100, 200, 1_000, 65_400, 65_500, 65_600, 70_000] {
            let frame = error(Code::Malformed, "x".repeat(length));
            let mut wire = encode(&frame);
            append(&mut wire, &frame);
            let mut stream = Wire(&wire);
            let mut client = WebSocketContext::new(Role::Client, None);
            for _ in 0..2 {
                let Message::Text(text) = client.read(&mut stream).unwrap() else { panic!("no text") };
                assert_eq!(serde_json::from_str::<ServerFrame>(&text).unwrap(), frame);
            }
        }
    }
}
