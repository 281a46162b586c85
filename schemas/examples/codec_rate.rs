//! How long one record takes to write and to read: `cargo run --release -p schemas --example codec_rate`.
//!
//! The records carry a post of 100 bytes; a delivery has 2 recipients.

use bytes::Bytes;
use domain::command::CommandBody;
use domain::{
    ChannelId, ChannelSeq, ClientMsgId, Command, CommandPosition, Epoch, Event, EventKind, LogTime, MessageId, Ordinal,
    Outcome, OwnerSeq, ReplyAddress, TimelineRecord, UserId, Verdict,
};
use schemas::client_frames::receive;
use schemas::event_frames::write_event_frame;
use schemas::records::{
    Delivery, decode_command, decode_delivery, decode_timeline, encode_command, encode_delivery, encode_timeline,
    event_id,
};
use std::hint::black_box;
use tokio::time::Instant;

/// Rounds of one of the five measurements, of which the best counts.
const ROUNDS: u32 = 300_000;

fn rate<T>(name: &str, mut once: impl FnMut() -> T) {
    let mut best_us = f64::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        for _ in 0..ROUNDS {
            black_box(once());
        }
        best_us = best_us.min(start.elapsed().as_secs_f64() * 1e6 / f64::from(ROUNDS));
    }
    println!("{name:<28}{best_us:>8.3} µs");
}

fn main() {
    let channel = ChannelId::from_bytes([1; 16]);
    let sender = UserId::from_bytes([2; 16]);
    let id = ClientMsgId::from_bytes([3; 16]);
    let reply = Some(ReplyAddress { process: "gateway-0".into(), connection: 4_711 });
    let text: Box<str> = "x".repeat(100).into();
    let body = CommandBody::Post { text: text.clone() };
    let command = Command { channel, sender, id, retry: false, reply: reply.clone(), body };
    let event = Event {
        seq: ChannelSeq(70_000),
        ordinal: Ordinal(69_000),
        message_id: MessageId(900_000_000_000_000_000),
        members_version: ChannelSeq(3),
        kind: EventKind::MessagePosted { text },
    };
    let record = TimelineRecord::Outcome(Outcome {
        epoch: Epoch(7),
        n: OwnerSeq(1_000_000),
        time: LogTime(1_790_000_000_000),
        command: CommandPosition { incarnation: 3, offset: 5_000_000 },
        channel,
        sender,
        id,
        digest: 0x9e37_79b9_7f4a_7c15,
        reply: reply.clone(),
        verdict: Verdict::Accepted(vec![event]),
    });
    let timeline = Bytes::from(encode_timeline(&record));
    let delivery = Delivery::Outcome {
        process_epoch: 1,
        partition: 5,
        offset: 5_000_000,
        recipients: vec![sender, UserId::from_bytes([9; 16])],
        reply,
        record: timeline.clone(),
    };
    let command_bytes = encode_command(&command);
    let delivery_bytes = Bytes::from(encode_delivery(&delivery));
    println!("bytes: command {}, timeline {}, delivery {}", command_bytes.len(), timeline.len(), delivery_bytes.len());
    rate("encode_command", || encode_command(black_box(&command)));
    rate("decode_command", || decode_command(black_box(&command_bytes)));
    rate("encode_timeline", || encode_timeline(black_box(&record)));
    rate("decode_timeline", || decode_timeline(black_box(&timeline)));
    rate("  of which event_id", || event_id(black_box(channel), Epoch(7), OwnerSeq(1_000_000)));
    rate("  one id from its text", || black_box("01010101-0101-0101-0101-010101010101").parse::<UserId>());
    rate("encode_delivery", || encode_delivery(black_box(&delivery)));
    rate("decode_delivery", || decode_delivery(black_box(&delivery_bytes)));
    if let TimelineRecord::Outcome(Outcome { verdict: Verdict::Accepted(events), .. }) = &record {
        let mut frame = Vec::with_capacity(512);
        rate("event frame as JSON", || {
            frame.clear();
            write_event_frame(&mut frame, channel, sender, id, LogTime(1_790_000_000_000), black_box(&events[0]));
        });
    }
    let send = format!(
        r#"{{"t":"send","channel":"{channel}","client_msg_id":"0190a5f0-0000-7000-8000-000000000002","body":"{}"}}"#,
        "x".repeat(100)
    );
    rate("send frame read", || receive(black_box(&send)).is_ok());
}
