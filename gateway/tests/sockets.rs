//! What a socket gets, from the first frame to the close frame.
#![allow(clippy::unwrap_used, reason = "tests")]

mod world;

use domain::event::RejectCause;
use domain::{Answer, ChannelId, ChannelSeq, EventKind, Verdict};
use eventlog::Record;
use futures_util::SinkExt;
use http::{Request, StatusCode};
use schemas::error_codes::Code;
use schemas::frames::{ClientFrame, ServerFrame};
use schemas::records::{SessionRecord, encode_session, session_key};
use std::time::Duration;
use tokio_tungstenite::tungstenite::protocol::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use world::{ANN, BOB, PROCESS, ROOM, Told, World, event, id, message, rejected, reply_of, seqs, until};

#[tokio::test(start_paused = true)]
async fn hello_opens_a_durable_session_and_catches_up_from_the_cursor() {
    let world = World::new(5).await;
    let mut ann = world.socket().await;
    ann.hello(&world.token(ANN), Some(2)).await;
    let frames = ann.until(|frame| matches!(frame, ServerFrame::CaughtUp { .. })).await;
    let ServerFrame::Welcome { user, generation: 1, .. } = &frames[0] else { panic!("{frames:?}") };
    assert_eq!(*user, ANN.to_string());
    assert_eq!(seqs(&frames), [3, 4, 5]);
    let Some(ServerFrame::CaughtUp { heads }) = frames.last() else { panic!("{frames:?}") };
    assert_eq!(heads[&ROOM.to_string()], 5);
    assert_eq!(world.log.open_sessions().len(), 1);
    ann.socket.close(None).await.unwrap();
    until(|| world.log.open_sessions().is_empty() && world.gateway.connections() == 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_channel_without_a_cursor_or_with_one_of_another_generation_is_told_by_its_head_only() {
    let world = World::new(5).await;
    for cursors in ["{}".to_owned(), format!(r#"{{"{ROOM}":{{"generation":2,"seq":1}}}}"#)] {
        let mut ann = world.socket().await;
        ann.text(&format!(r#"{{"t":"hello","v":1,"token":"{}","cursors":{cursors}}}"#, world.token(ANN))).await;
        let frames = ann.until(|frame| matches!(frame, ServerFrame::CaughtUp { .. })).await;
        assert_eq!(seqs(&frames), [0; 0]);
        world.deliver_message(6);
        assert_eq!(ann.next_event().await.seq, 6);
        world.store.write(ROOM, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_catch_up_comes_in_pages_and_in_order() {
    let world = World::new(1_234).await;
    let mut ann = world.socket().await;
    ann.hello(&world.token(ANN), Some(0)).await;
    let frames = ann.until(|frame| matches!(frame, ServerFrame::CaughtUp { .. })).await;
    assert_eq!(seqs(&frames), (1..=1_234).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn hidden_history_is_passed_over_without_reading_it_all() {
    let world = World::asleep(|_| ());
    world.store.write(ROOM, 100_000);
    world.store.member(ROOM, ANN, 99_999, None);
    world.start().await;
    let mut ann = world.socket().await;
    ann.hello(&world.token(ANN), Some(0)).await;
    let frames = ann.until(|frame| matches!(frame, ServerFrame::CaughtUp { .. })).await;
    assert_eq!(seqs(&frames), [99_999, 100_000]);
    let reads = world.store.pages_read.load(std::sync::atomic::Ordering::Relaxed);
    assert!(reads < 10, "{reads} pages read");
}

#[tokio::test(start_paused = true)]
async fn live_events_that_come_while_catching_up_are_given_once_and_in_order() {
    let world = World::new(3).await;
    let closed = world.store.pages.acquire_many(1_000).await.unwrap();
    let mut ann = world.socket().await;
    ann.hello(&world.token(ANN), Some(1)).await;
    ann.until(|frame| matches!(frame, ServerFrame::Welcome { .. })).await;
    // 3 is in the store as well, 4 will be, 5 is only live; 3 and 5 come twice.
    for seq in [3, 3, 4, 5, 5] {
        world.deliver_message(seq);
    }
    world.store.write(ROOM, 1);
    ann.lives().await;
    drop(closed);
    let frames = ann.until(|frame| matches!(frame, ServerFrame::CaughtUp { .. })).await;
    assert_eq!(seqs(&frames), [2, 3, 4, 5]);
    world.deliver_message(6);
    assert_eq!(ann.next_event().await.seq, 6);
}

#[tokio::test(start_paused = true)]
async fn the_ack_of_a_send_is_the_senders_copy_of_the_event() {
    let world = World::new(1).await;
    let (mut ann, mut bob) = (world.client(ANN, None).await, world.client(BOB, None).await);
    ann.send(7, " héllo\0 ").await;
    let command = world.command(1).await;
    assert_eq!((command.channel, command.sender, command.id, command.retry), (ROOM, ANN, id(7), false));
    assert_eq!(&*reply_of(&command).process, PROCESS);
    let verdict = Verdict::Accepted(vec![event(2, EventKind::MessagePosted { text: " héllo\0 ".into() })]);
    world.deliver(Told { verdict, command: Some(&command), recipients: &[ANN, BOB] });
    for client in [&mut ann, &mut bob] {
        let event = client.next_event().await;
        assert_eq!((event.seq, event.client_msg_id), (2, id(7).to_string()));
    }
    // Nobody gets it twice.
    world.deliver_message(3);
    assert_eq!((ann.next_event().await.seq, bob.next_event().await.seq), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn the_sender_gets_the_event_even_if_the_fanout_does_not_know_their_session_yet() {
    let world = World::new(1).await;
    let mut ann = world.client(ANN, None).await;
    ann.send(7, "x").await;
    let command = world.command(1).await;
    world.deliver(Told { verdict: Verdict::Accepted(vec![message(2)]), command: Some(&command), recipients: &[] });
    assert_eq!(ann.next_event().await.client_msg_id, id(7).to_string());
}

#[tokio::test(start_paused = true)]
async fn every_other_outcome_is_told_to_the_sender_alone_with_its_code() {
    let world = World::new(1).await;
    let (mut ann, mut bob) = (world.client(ANN, None).await, world.client(BOB, None).await);
    let cases = [
        (Verdict::Answered(Answer::Conflict { seq: ChannelSeq(1) }), Code::Conflict),
        (rejected(RejectCause::NotMember), Code::NotMember),
        (rejected(RejectCause::Clock), Code::Clock),
        (Verdict::Answered(Answer::RetryLater), Code::RetryLater),
        (Verdict::Answered(Answer::Poison), Code::Poison),
    ];
    for (number, (verdict, expected)) in cases.into_iter().enumerate() {
        ann.send(number as u64, "x").await;
        let command = world.command(number + 1).await;
        world.deliver(Told { verdict, command: Some(&command), recipients: &[] });
        let (code, about, frame) = ann.next_error().await;
        assert_eq!((code, about), (expected, Some(id(number as u64).to_string())));
        let ServerFrame::Error { retry_after_ms, server_time, .. } = frame else { unreachable!() };
        assert_eq!((server_time.is_some(), retry_after_ms.is_some()), (code == Code::Clock, code == Code::RetryLater));
    }
    ann.send(9, "x").await;
    let command = world.command(6).await;
    world.deliver(Told {
        verdict: Verdict::Answered(Answer::Duplicate { seq: ChannelSeq(1) }),
        command: Some(&command),
        recipients: &[],
    });
    let ack = ServerFrame::Ack { channel: ROOM.to_string(), client_msg_id: id(9).to_string(), seq: 1 };
    assert_eq!(ann.news().await, ack);
    world.deliver_message(2);
    assert_eq!(bob.next_event().await.seq, 2, "bob heard of none of it");
}

#[tokio::test(start_paused = true)]
async fn an_outcome_for_a_connection_of_somebody_else_is_told_to_nobody() {
    let world = World::new(1).await;
    let mut ann = world.client(ANN, None).await;
    ann.send(7, "x").await;
    let mut command = world.command(1).await;
    command.sender = BOB;
    world.deliver(Told { verdict: rejected(RejectCause::Forbidden), command: Some(&command), recipients: &[] });
    world.deliver_message(2);
    assert_eq!(ann.next_event().await.seq, 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_frame_is_told_so_and_the_connection_lives() {
    let world = World::new(1).await;
    let mut ann = world.client(ANN, None).await;
    let marks = "e".to_owned() + &"\u{301}".repeat(domain::limits::MESSAGE_BODY_BYTES_MAX);
    let send = |body: &str| {
        let body = serde_json::to_string(body).unwrap();
        format!(r#"{{"t":"send","channel":"{ROOM}","client_msg_id":"{}","body":{body}}}"#, id(1))
    };
    let cases = [
        (String::new(), Code::Malformed),
        ("nonsense".into(), Code::Malformed),
        (r#"{"t":"dance"}"#.into(), Code::UnknownType),
        (r#"{"t":"send","channel":"room","client_msg_id":"x","body":""}"#.into(), Code::Malformed),
        (send("x").replace("\"x\"", "\"\\ud800\""), Code::Malformed),
        (r#"{"t":"hello","v":1}"#.into(), Code::Malformed),
        (send(&marks), Code::TooLarge),
    ];
    for (text, expected) in cases {
        ann.text(&text).await;
        assert_eq!(ann.next_error().await.0, expected, "{}", &text[..text.len().min(80)]);
    }
    ann.socket.send(Message::binary(vec![1, 2, 3])).await.unwrap();
    assert_eq!(ann.next_error().await.0, Code::Malformed);
    let broken = Frame::message(vec![b'"', 0xff, 0xfe, b'"'], OpCode::Data(Data::Text), true);
    ann.socket.send(Message::Frame(broken)).await.unwrap();
    assert_eq!(ann.next_error().await.0, Code::Malformed);
    ann.lives().await;
    assert!(world.commands().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_but_nonsense_is_closed() {
    let world = World::new(1).await;
    let mut ann = world.client(ANN, None).await;
    for _ in 0..=gateway::limits::REFUSALS_IN_A_ROW_MAX {
        ann.text("nonsense").await;
    }
    assert_eq!(ann.closed().await, Code::Malformed.number());
}

#[tokio::test(start_paused = true)]
async fn a_frame_above_the_limit_is_told_so_and_closed_whole_or_fragmented() {
    let world = World::new(1).await;
    let mut ann = world.client(ANN, None).await;
    ann.text(&"x".repeat(gateway::limits::FRAME_BYTES_MAX + 1)).await;
    assert_eq!(ann.next_error().await.0, Code::TooLarge);
    assert_eq!(ann.closed().await, Code::TooLarge.number());

    let mut ann = world.client(ANN, None).await;
    let part = vec![b'x'; gateway::limits::FRAME_BYTES_MAX / 2 + 1];
    let frames = [(Data::Text, false), (Data::Continue, false)];
    for (opcode, last) in frames {
        ann.socket.send(Message::Frame(Frame::message(part.clone(), OpCode::Data(opcode), last))).await.unwrap();
    }
    assert_eq!(ann.next_error().await.0, Code::TooLarge);
    assert_eq!(ann.closed().await, Code::TooLarge.number());
    until(|| world.log.open_sessions().is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_fragmented_frame_with_a_ping_in_its_middle_is_one_frame() {
    let world = World::new(1).await;
    let mut ann = world.client(ANN, None).await;
    let text = serde_json::to_vec(&ClientFrame::Ping {}).unwrap();
    let (first, rest) = text.split_at(4);
    for (part, opcode, last) in [(first, Data::Text, false), (rest, Data::Continue, true)] {
        ann.socket.send(Message::Frame(Frame::message(part.to_vec(), OpCode::Data(opcode), last))).await.unwrap();
        ann.socket.send(Message::Ping("x".into())).await.unwrap();
    }
    ann.until(|frame| matches!(frame, ServerFrame::Pong { .. })).await;
}

#[tokio::test(start_paused = true)]
async fn who_does_not_say_who_they_are_is_closed() {
    let world = World::new(1).await;
    let token = world.token(ANN);
    let cases = [
        (r#"{"t":"hello","v":1}"#.to_owned(), Code::Unauthenticated),
        (r#"{"t":"hello","v":1,"token":"x.y.z"}"#.to_owned(), Code::Unauthenticated),
        (format!(r#"{{"t":"hello","v":1,"token":"{}"}}"#, &token[..token.len() - 2]), Code::Unauthenticated),
        (format!(r#"{{"t":"hello","v":2,"token":"{token}"}}"#), Code::BadVersion),
        (r#"{"t":"ping"}"#.to_owned(), Code::Unauthenticated),
        ("nonsense".to_owned(), Code::Malformed),
    ];
    for (text, code) in cases {
        let mut nobody = world.socket().await;
        nobody.text(&text).await;
        assert_eq!(nobody.next_error().await.0, code, "{text}");
        assert_eq!(nobody.closed().await, code.number());
    }
    let mut mute = world.socket().await;
    assert_eq!(mute.closed().await, Code::Unauthenticated.number());
    until(|| world.gateway.connections() == 0).await;
    assert!(world.log.records(schemas::topics::SESSIONS).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_closed_and_one_that_pings_is_not() {
    let world = World::new(1).await;
    let (mut ann, mut bob) = (world.client(ANN, None).await, world.client(BOB, None).await);
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(gateway::limits::HEARTBEAT_MS)).await;
        bob.lives().await;
    }
    assert_eq!(ann.closed().await, Code::Silent.number());
    bob.lives().await;
    assert_eq!(world.log.open_sessions().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_socket_lives_no_longer_than_its_token() {
    let world = World::new(1).await;
    let mut ann = world.socket().await;
    ann.hello(&world.signer.issue(ANN.to_string(), "sign-in".into(), 60).unwrap(), None).await;
    let began = tokio::time::Instant::now();
    while began.elapsed() < Duration::from_secs(85) {
        tokio::time::sleep(Duration::from_millis(gateway::limits::HEARTBEAT_MS)).await;
        ann.lives().await;
    }
    assert_eq!(ann.closed().await, Code::Unauthenticated.number());
    assert!(began.elapsed() < Duration::from_secs(100), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_is_closed_with_a_bounded_queue_and_slows_nobody() {
    let world = World::new(0).await;
    let mut slow = world.narrow_socket(256).await;
    slow.hello(&world.token(ANN), None).await;
    slow.until(|frame| matches!(frame, ServerFrame::CaughtUp { .. })).await;
    let mut bob = world.client(BOB, None).await;
    let most = gateway::limits::OUTBOX_FRAMES_MAX as u64 + 2_000;
    for seq in 1..=most {
        world.deliver_message(seq);
        if seq % 500 == 0 {
            bob.until(|frame| matches!(frame, ServerFrame::Event(event) if event.seq == seq)).await;
        }
    }
    let closed = tokio::time::timeout(Duration::from_mins(1), slow.closed());
    assert_eq!(closed.await.expect("it ends"), Code::SlowReader.number());
    until(|| world.log.open_sessions().len() == 1).await;
    bob.lives().await;
}

#[tokio::test(start_paused = true)]
async fn a_half_open_socket_is_reaped() {
    let world = World::new(0).await;
    let mut gone = world.narrow_socket(64).await;
    gone.hello(&world.token(ANN), None).await;
    // It never reads again, and never says anything.
    until(|| world.log.open_sessions().len() == 1).await;
    until(|| world.gateway.connections() == 0).await;
    assert!(world.log.open_sessions().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_digest_reveals_an_event_that_was_never_delivered() {
    let world = World::new(1).await;
    let mut ann = world.client(ANN, Some(1)).await;
    let began = tokio::time::Instant::now();
    for (seq, within_s) in [(2, 4), (3, 26)] {
        world.store.write(ROOM, 1);
        ann.until(|frame| matches!(frame, ServerFrame::Digest { heads } if heads[&ROOM.to_string()] == seq)).await;
        assert!(began.elapsed() < Duration::from_secs(within_s), "{:?}", began.elapsed());
        ann.lives().await;
    }
    ann.say(&ClientFrame::History {
        channel: ROOM.to_string(),
        request: 4,
        first: Some(2),
        last: Some(3),
        limit: None,
    })
    .await;
    let ServerFrame::Page { request: 4, events, first: 2, last: 3, .. } = ann.news().await else { panic!("no page") };
    assert_eq!(events.iter().map(|event| event.seq).collect::<Vec<_>>(), [2, 3]);
}

#[tokio::test(start_paused = true)]
async fn history_waits_a_little_for_events_that_the_socket_already_has() {
    let world = World::new(1).await;
    let mut ann = world.client(ANN, Some(1)).await;
    world.deliver_message(3);
    assert_eq!(ann.next_event().await.seq, 3);
    ann.say(&ClientFrame::History {
        channel: ROOM.to_string(),
        request: 1,
        first: Some(2),
        last: Some(2),
        limit: None,
    })
    .await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    world.store.write(ROOM, 2);
    let ServerFrame::Page { events, first: 2, last: 2, .. } = ann.news().await else { panic!("no page") };
    assert_eq!(events.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_was_removed_gets_nothing_beyond_it_by_any_way() {
    let world = World::new(3).await;
    let mut ann = world.client(ANN, Some(3)).await;
    let removal = event(4, EventKind::MemberLeft { user: ANN, removed: true });
    world.deliver(Told { verdict: Verdict::Accepted(vec![removal]), command: None, recipients: &[ANN, BOB] });
    // A fanout that is wrong about members does not make a leak.
    world.deliver_message(5);
    world.store.write(ROOM, 2);
    world.store.member(ROOM, ANN, 1, Some(4));
    assert_eq!(ann.next_event().await.seq, 4);
    let ask =
        |request, first| ClientFrame::History { channel: ROOM.to_string(), request, first, last: None, limit: None };
    for (request, first, expected) in [(1, Some(4), &[4][..]), (2, None, &[1, 2, 3, 4]), (3, Some(5), &[])] {
        ann.say(&ask(request, first)).await;
        let ServerFrame::Page { events, last, .. } = ann.news().await else { panic!("no page") };
        assert_eq!(events.iter().map(|event| event.seq).collect::<Vec<_>>(), expected);
        assert_eq!(last, 4, "what comes later is not even counted");
    }
    ann.say(&ClientFrame::Digest {}).await;
    let digest = ann.until(|frame| matches!(frame, ServerFrame::Digest { .. })).await.pop();
    assert_eq!(digest, Some(ServerFrame::Digest { heads: std::collections::BTreeMap::new() }));

    let mut again = world.socket().await;
    again.hello(&world.token(ANN), Some(2)).await;
    let frames = again.until(|frame| matches!(frame, ServerFrame::CaughtUp { .. })).await;
    assert_eq!(seqs(&frames), [3, 4]);
    let Some(ServerFrame::CaughtUp { heads }) = frames.last() else { panic!("{frames:?}") };
    assert_eq!(heads[&ROOM.to_string()], 4);
}

#[tokio::test(start_paused = true)]
async fn a_channel_one_was_never_in_and_one_that_is_not_are_told_alike() {
    let world = World::new(3).await;
    let secret = ChannelId::from_bytes([0xd; 16]);
    world.store.write(secret, 3);
    world.store.member(secret, BOB, 1, None);
    let mut ann = world.socket().await;
    ann.text(&format!(
        r#"{{"t":"hello","v":1,"token":"{}","cursors":{{"{secret}":{{"generation":1,"seq":0}}}}}}"#,
        world.token(ANN)
    ))
    .await;
    let frames = ann.until(|frame| matches!(frame, ServerFrame::CaughtUp { .. })).await;
    assert_eq!(seqs(&frames), [0; 0]);
    for channel in [secret, ChannelId::from_bytes([0xe; 16]), ChannelId::personal(BOB)] {
        let ask =
            ClientFrame::History { channel: channel.to_string(), request: 1, first: None, last: None, limit: None };
        ann.say(&ask).await;
        assert_eq!(ann.next_error().await.0, Code::NotMember, "{channel}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_sends_is_told_when_to_retry() {
    let world = World::with(1, |config| config.sends_per_second_max = 10).await;
    let mut ann = world.client(ANN, None).await;
    for number in 0..30 {
        ann.send(number, "x").await;
    }
    let (code, about, frame) = ann.next_error().await;
    assert_eq!((code, about), (Code::RateLimited, Some(id(20).to_string())));
    let ServerFrame::Error { retry_after_ms: Some(wait), .. } = frame else { panic!("no delay") };
    tokio::time::sleep(Duration::from_millis(wait)).await;
    ann.send(40, "x").await;
    assert_eq!(world.command(21).await.id, id(40));
}

#[tokio::test(start_paused = true)]
async fn lost_deliveries_raise_the_epoch_and_every_socket_resyncs_under_it() {
    let world = World::new(1).await;
    let mut ann = world.client(ANN, Some(1)).await;
    let topic = format!("{}{PROCESS}", schemas::topics::GATEWAY_PREFIX);
    world.log.lose(&topic, 3);
    ann.until(|frame| matches!(frame, ServerFrame::Resync { .. })).await;
    assert_eq!(world.log.open_sessions().into_values().collect::<Vec<_>>(), [2]);
    ann.until(|frame| matches!(frame, ServerFrame::Digest { .. })).await;
    // What was meant for the old epoch is not passed on; the digest tells of it.
    world.deliver_to_epoch(1, Told { verdict: Verdict::Accepted(vec![message(2)]), command: None, recipients: &[ANN] });
    world.deliver_to_epoch(2, Told { verdict: Verdict::Accepted(vec![message(3)]), command: None, recipients: &[ANN] });
    assert_eq!(ann.next_event().await.seq, 3);
}

#[tokio::test(start_paused = true)]
async fn a_drain_lets_sends_in_hand_finish_and_tells_clients_to_move() {
    let world = World::new(1).await;
    let (mut ann, mut bob) = (world.client(ANN, None).await, world.client(BOB, None).await);
    ann.send(7, "x").await;
    let command = world.command(1).await;
    world.shutdown.begin();
    assert!(matches!(bob.news().await, ServerFrame::Goaway { .. }));
    assert_eq!(bob.closed().await, Code::GoAway.number());
    assert!(matches!(ann.news().await, ServerFrame::Goaway { .. }));
    ann.send(8, "late").await;
    assert_eq!(ann.next_error().await.0, Code::GoAway);
    world.deliver(Told {
        verdict: Verdict::Accepted(vec![message(2)]),
        command: Some(&command),
        recipients: &[ANN, BOB],
    });
    assert_eq!(ann.next_event().await.client_msg_id, id(7).to_string());
    assert_eq!(ann.closed().await, Code::GoAway.number());
    until(|| world.log.open_sessions().is_empty()).await;
    assert_eq!(world.tasks.finish(Duration::from_secs(30)).await, 0);
}

#[tokio::test(start_paused = true)]
async fn sessions_that_an_earlier_life_left_open_are_closed_at_the_start() {
    let world = World::asleep(|_| ());
    let session = |process: &str, process_epoch| SessionRecord {
        user: ANN,
        session: domain::SessionId::from_bytes([1; 16]),
        process: process.into(),
        process_epoch,
        connection: 5,
        opened: domain::LogTime(0),
    };
    for record in [session(PROCESS, 0), session("gateway-2", 0)] {
        world.log.put(schemas::topics::SESSIONS, Record::new(session_key(&record), encode_session(&record)));
    }
    world.start().await;
    let open: Vec<_> = world.log.open_sessions().into_keys().collect();
    assert_eq!(open, [session_key(&session("gateway-2", 0))]);
}

#[tokio::test(start_paused = true)]
async fn a_person_has_a_bounded_number_of_sessions() {
    let world = World::with(1, |config| config.sessions_per_person_max = 2).await;
    let _first = world.client(ANN, None).await;
    let mut second = world.client(ANN, None).await;
    let mut third = world.socket().await;
    third.hello(&world.token(ANN), None).await;
    assert_eq!(third.closed().await, Code::TooManySessions.number());
    second.socket.close(None).await.unwrap();
    until(|| world.gateway.connections() == 1).await;
    world.client(ANN, None).await.lives().await;
}

/// Address, headers, status.
type Handshake<'a> = (&'a str, &'a [(&'a str, &'a str)], u16);

#[tokio::test(start_paused = true)]
async fn what_is_no_handshake_of_ours_is_refused_before_it_costs_a_connection() {
    let world = World::with(1, |config| config.origins.others = vec!["https://chat.example".into()]).await;
    let request = |uri: &str, extra: &[(&str, &str)]| {
        let mut request = Request::builder()
            .uri(uri)
            .header("host", "hub.example:8080")
            .header("connection", "keep-alive, Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        for (name, value) in extra {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    };
    let bearer = format!("Bearer {}", world.token(ANN));
    let cases: &[Handshake<'_>] = &[
        ("/", &[], 101),
        ("/", &[("authorization", &bearer)], 101),
        ("/", &[("authorization", "Bearer x.y.z")], 401),
        ("/", &[("authorization", "Basic x")], 401),
        ("/?token=x", &[], 401),
        ("/?a=b&access_token=x", &[], 401),
        ("/", &[("origin", "https://chat.example")], 101),
        ("/", &[("origin", "http://hub.example:8080")], 101),
        ("/", &[("origin", "https://hub.example:8080")], 101),
        ("/", &[("origin", "https://hub.example")], 403),
        ("/", &[("origin", "https://chat.example.evil")], 403),
        ("/", &[("origin", "https://chat.example/")], 403),
        ("/", &[("origin", "null")], 403),
    ];
    for (uri, extra, status) in cases {
        let response = world.gateway.upgrade(request(uri, extra));
        assert_eq!(response.status().as_u16(), *status, "{uri} {extra:?}");
        let (header, value) = if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
        } else {
            ("content-type", "application/problem+json")
        };
        assert_eq!(response.headers()[header], value);
    }
    let plain = Request::builder().uri("/").body(()).unwrap();
    assert_eq!(world.gateway.upgrade(plain).status(), StatusCode::BAD_REQUEST);
    until(|| world.gateway.connections() == 0).await;
    let asleep = World::asleep(|_| ());
    assert_eq!(asleep.gateway.upgrade(request("/", &[])).status(), StatusCode::SERVICE_UNAVAILABLE);
}
