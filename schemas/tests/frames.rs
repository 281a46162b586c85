//! Frames of events: the short way writes what serde writes, and serde reads it back.

#[allow(dead_code, reason = "the other tests need the rest of it")]
mod arbitrary;

use arbitrary::{event, runner};
use domain::{ChannelId, ClientMsgId, LogTime, UserId};
use proptest::prelude::*;
use schemas::event_frames::write_event_frame;
use schemas::frames::{EventFrame, ServerFrame};

#[test]
fn the_short_way_to_an_event_frame_writes_the_bytes_of_serde() {
    let ids = any::<[[u8; 16]; 3]>();
    runner(5_000)
        .run(&(ids, any::<u64>(), event()), |([channel, sender, id], time, event)| {
            let (channel, sender) = (ChannelId::from_bytes(channel), UserId::from_bytes(sender));
            let (id, time) = (ClientMsgId::from_bytes(id), LogTime(time));
            let frame = ServerFrame::Event(EventFrame::new(channel, sender, id, time, &event));
            let mut short = b"before".to_vec();
            write_event_frame(&mut short, channel, sender, id, time, &event);
            let serde = serde_json::to_string(&frame).expect("a frame encodes");
            prop_assert_eq!(std::str::from_utf8(&short[6..]).expect("text"), &serde);
            prop_assert_eq!(serde_json::from_str::<ServerFrame>(&serde).expect("a frame reads"), frame);
            Ok(())
        })
        .expect("every event");
}
