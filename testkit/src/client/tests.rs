//! The client rules, frame by frame.

use super::*;
use crate::auditor::{Moment, Op};
use domain::{ChannelId, ChannelSeq, UserId};
use runtime::Entropy;
use schemas::error_codes::Code;
use schemas::frames::{ClientFrame, EventFrame, EventKindFrame, LimitsFrame, ServerFrame};
use uuid::Uuid;

const ANNA: UserId = UserId(Uuid::from_u128(0xa));
const ROOM: ChannelId = ChannelId(Uuid::from_u128(0x100));
const WALL_MS: u64 = 1_700_000_000_000;

fn client() -> ClientCore {
    ClientCore::new("anna/phone", ANNA, "token", Start::Beginning, Entropy::from_seed(1), WALL_MS)
}

fn welcome(generation: u64) -> ServerFrame {
    ServerFrame::Welcome {
        session: Uuid::nil().to_string(),
        user: ANNA.to_string(),
        server_time: WALL_MS,
        generation,
        heartbeat_ms: 5_000,
        limits: LimitsFrame { body_bytes_max: 1, frame_bytes_max: 1, sends_per_second_max: 1 },
    }
}

fn caught_up(heads: &[(ChannelId, u64)]) -> ServerFrame {
    ServerFrame::CaughtUp { heads: heads.iter().map(|(channel, seq)| (channel.to_string(), *seq)).collect() }
}

fn message(seq: u64, id: Uuid) -> EventFrame {
    EventFrame {
        channel: ROOM.to_string(),
        seq,
        ordinal: seq,
        id: seq.to_string(),
        time: WALL_MS,
        sender: ANNA.to_string(),
        client_msg_id: id.to_string(),
        kind: EventKindFrame::MessagePosted { body: format!("message {seq}") },
    }
}

fn event(seq: u64) -> ServerFrame {
    ServerFrame::Event(message(seq, Uuid::from_u128(u128::from(seq))))
}

fn online() -> ClientCore {
    let mut client = client();
    client.hello(Moment(0));
    client.handle_frame(Moment(0), welcome(1));
    client.handle_frame(Moment(0), caught_up(&[]));
    client
}

/// The one frame that the effects transmit.
#[track_caller]
fn transmitted(effects: &[Effect]) -> ClientFrame {
    let [Effect::Transmit(frame)] = effects else { panic!("not one frame: {effects:?}") };
    frame.clone()
}

fn applied(client: &ClientCore) -> Vec<u64> {
    let ops = client.history(false).ops;
    ops.iter()
        .filter_map(|recorded| if let Op::Applied { seq, .. } = &recorded.op { Some(seq.0) } else { None })
        .collect()
}

#[test]
fn events_in_order_move_the_cursor_and_repeats_do_not() {
    let mut client = online();
    for seq in [1, 2, 2, 1, 3] {
        assert_eq!(client.handle_frame(Moment(1), event(seq)), [], "seq {seq}");
    }
    assert_eq!(applied(&client), [1, 2, 3]);
    assert_eq!(client.cursor(ROOM), Some(ChannelSeq(3)));
}

#[test]
fn a_hole_is_asked_for_and_filled_in_order() {
    let mut client = online();
    client.handle_frame(Moment(1), event(1));
    let ClientFrame::History { request, first, last, .. } = transmitted(&client.handle_frame(Moment(2), event(4)))
    else {
        panic!("no history request")
    };
    assert_eq!((first, last), (Some(2), Some(3)));
    assert_eq!(applied(&client), [1], "the cursor waits below the hole");
    let events = vec![message(2, Uuid::from_u128(2)), message(3, Uuid::from_u128(3))];
    let page = ServerFrame::Page { channel: ROOM.to_string(), request, events, first: 2, last: 3 };
    assert_eq!(client.handle_frame(Moment(3), page), []);
    assert_eq!(applied(&client), [1, 2, 3, 4]);
}

#[test]
fn a_page_lets_the_cursor_pass_what_is_hidden_but_only_where_it_is_complete() {
    let mut client = online();
    let ClientFrame::History { request, .. } = transmitted(&client.handle_frame(Moment(1), event(9))) else {
        panic!("no request")
    };
    let page = ServerFrame::Page {
        channel: ROOM.to_string(),
        request,
        events: vec![message(5, Uuid::from_u128(5))],
        first: 1,
        last: 6,
    };
    let again = transmitted(&client.handle_frame(Moment(2), page));
    assert_eq!(applied(&client), [5]);
    assert_eq!(client.cursor(ROOM), Some(ChannelSeq(6)));
    assert!(matches!(again, ClientFrame::History { first: Some(7), last: Some(8), .. }), "{again:?}");
}

#[test]
fn a_page_without_progress_is_asked_for_again_only_after_a_while() {
    let mut client = online();
    let ClientFrame::History { request, .. } = transmitted(&client.handle_frame(Moment(1), event(2))) else {
        panic!("no request")
    };
    let empty = ServerFrame::Page { channel: ROOM.to_string(), request, events: Vec::new(), first: 1, last: 0 };
    assert_eq!(client.handle_frame(Moment(2), empty), []);
    assert_eq!(client.tick(Moment(3)), []);
    let again = transmitted(&client.tick(Moment(3_000_000)));
    assert!(matches!(again, ClientFrame::History { first: Some(1), last: Some(1), .. }), "{again:?}");
}

#[test]
fn a_higher_head_in_a_digest_is_asked_for() {
    let mut client = online();
    client.handle_frame(Moment(1), event(1));
    let heads = [(ROOM.to_string(), 3)].into();
    let ask = transmitted(&client.handle_frame(Moment(2), ServerFrame::Digest { heads }));
    assert!(matches!(ask, ClientFrame::History { first: Some(2), last: Some(3), .. }), "{ask:?}");
    assert!(!client.is_settled());
}

#[test]
fn a_send_without_an_answer_is_sent_again_under_the_same_id_with_the_retry_flag() {
    let mut client = online();
    let id = client.new_id(Moment(0));
    let first = transmitted(&client.send(Moment(0), ROOM, id, "hello"));
    assert!(
        matches!(&first, ClientFrame::Send { retry: false, client_msg_id, .. } if *client_msg_id == id.to_string())
    );
    let due = Moment(limits::ANSWER_TIMEOUT_MS * 1_000);
    let again = transmitted(&client.tick(due)[..1]);
    assert!(matches!(&again, ClientFrame::Send { retry: true, client_msg_id, .. } if *client_msg_id == id.to_string()));
}

#[test]
fn the_outbox_is_sent_again_after_a_reconnect_in_its_order() {
    let mut client = online();
    let ids = [client.new_id(Moment(0)), client.new_id(Moment(0))];
    for id in ids {
        client.send(Moment(0), ROOM, id, "hello");
    }
    assert!(client.closed(Moment(1)) >= 1);
    client.hello(Moment(2));
    let sent: Vec<String> = client
        .handle_frame(Moment(3), welcome(1))
        .into_iter()
        .filter_map(|effect| match effect {
            Effect::Transmit(ClientFrame::Send { client_msg_id, retry: true, .. }) => Some(client_msg_id),
            _ => None,
        })
        .collect();
    assert_eq!(sent, ids.map(|id| id.to_string()));
}

#[test]
fn the_own_copy_is_the_ack_and_so_is_the_answer_to_a_retry() {
    let mut client = online();
    let (one, two) = (client.new_id(Moment(0)), client.new_id(Moment(0)));
    client.send(Moment(0), ROOM, one, "one");
    client.send(Moment(0), ROOM, two, "two");
    client.handle_frame(Moment(1), ServerFrame::Event(message(1, one.0)));
    assert_eq!(client.end_of(one), Some(SendEnd::Acked(ChannelSeq(1))));
    let ack = ServerFrame::Ack { channel: ROOM.to_string(), client_msg_id: two.to_string(), seq: 2 };
    client.handle_frame(Moment(2), ack);
    assert_eq!(client.end_of(two), Some(SendEnd::Acked(ChannelSeq(2))));
    assert_eq!(client.waiting(), 0);
}

#[test]
fn a_refusal_ends_a_send_or_delays_it_by_the_range_of_its_code() {
    let mut client = online();
    let (never, later) = (client.new_id(Moment(0)), client.new_id(Moment(0)));
    for (id, code) in [(never, Code::NotMember), (later, Code::RetryLater)] {
        client.send(Moment(1), ROOM, id, "hello");
        let refusal = ServerFrame::Error {
            code,
            message: String::new(),
            client_msg_id: Some(id.to_string()),
            request: None,
            retry_after_ms: Some(1_000),
            server_time: None,
        };
        client.handle_frame(Moment(1), refusal);
    }
    assert_eq!(client.end_of(never), Some(SendEnd::Refused(Code::NotMember)));
    assert_eq!(client.waiting(), 1);
    assert_eq!(client.tick(Moment(900_000)), []);
    let again = transmitted(&client.tick(Moment(1_200_000)));
    assert!(matches!(&again, ClientFrame::Send { client_msg_id, .. } if *client_msg_id == later.to_string()));
}

#[test]
fn another_generation_starts_every_channel_anew() {
    let mut client = online();
    client.handle_frame(Moment(1), event(1));
    client.closed(Moment(2));
    let ClientFrame::Hello { cursors, .. } = client.hello(Moment(3)) else { panic!("no hello") };
    assert_eq!(cursors[&ROOM.to_string()].seq, 1);
    client.handle_frame(Moment(4), welcome(2));
    assert_eq!(client.cursor(ROOM), None);
}

#[test]
fn resync_goaway_and_silence_reconnect() {
    let mut client = online();
    let resync = client.handle_frame(Moment(1), ServerFrame::Resync { reason: String::new() });
    assert_eq!(resync, [Effect::Reconnect { after_ms: 0 }]);
    let goaway = client.handle_frame(Moment(2), ServerFrame::Goaway { reconnect_after_ms: 700 });
    assert_eq!(goaway, [Effect::Reconnect { after_ms: 700 }]);
    assert_eq!(client.tick(Moment(60_000_000)), [Effect::Reconnect { after_ms: 0 }]);
}

// Over a real WebSocket, through pipes in memory: the server's side is scripted.

mod over_a_socket {
    use super::*;
    use crate::sim::net::{Accept, Net};
    use futures_util::{SinkExt, StreamExt};
    use runtime::Tasks;
    use tokio::io::DuplexStream;
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::tungstenite::Message;

    type Server = WebSocketStream<DuplexStream>;

    async fn accept(accept: &mut Accept) -> Server {
        let stream = accept.recv().await.expect("the client dials");
        tokio_tungstenite::accept_async(stream).await.expect("the client shakes hands")
    }

    async fn hear(server: &mut Server) -> ClientFrame {
        loop {
            let message = server.next().await.expect("the client is there").expect("the frame is whole");
            if let Message::Text(text) = message {
                let frame = serde_json::from_str(&text).expect("the client speaks the protocol");
                if frame != (ClientFrame::Ping {}) {
                    return frame;
                }
            }
        }
    }

    async fn tell(server: &mut Server, frame: &ServerFrame) {
        let text = serde_json::to_string(frame).expect("a frame encodes");
        server.send(Message::text(text)).await.expect("the client reads");
    }

    fn start(net: &Net, tasks: &Tasks) -> Client {
        Client::start(client(), net.dial_from(0), Recorder::start(), tasks)
    }

    #[tokio::test(start_paused = true)]
    async fn a_send_that_loses_its_connection_is_acked_over_the_next_one() {
        let (net, tasks) = (Net::default(), Tasks::new());
        let mut listener = net.listen(0);
        let anna = start(&net, &tasks);
        let mut server = accept(&mut listener).await;
        assert!(matches!(hear(&mut server).await, ClientFrame::Hello { .. }));
        tell(&mut server, &welcome(1)).await;
        tell(&mut server, &caught_up(&[])).await;
        anna.until(ClientCore::is_online).await;
        let id = anna.post(ROOM, "hello").await;
        assert!(matches!(hear(&mut server).await, ClientFrame::Send { retry: false, .. }));
        drop(server);

        let mut server = accept(&mut listener).await;
        assert!(matches!(hear(&mut server).await, ClientFrame::Hello { .. }));
        tell(&mut server, &welcome(1)).await;
        let ClientFrame::Send { client_msg_id, retry: true, .. } = hear(&mut server).await else { panic!("no retry") };
        assert_eq!(client_msg_id, id.to_string());
        tell(&mut server, &ServerFrame::Event(message(1, id.0))).await;
        assert_eq!(anna.end_of(id).await, Some(SendEnd::Acked(ChannelSeq(1))));
        let history = anna.stop(false).await;
        let connects = history.ops.iter().filter(|recorded| matches!(recorded.op, Op::Connected)).count();
        assert_eq!(connects, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_falls_silent_is_left_for_another() {
        let (net, tasks) = (Net::default(), Tasks::new());
        let (mut silent, mut other) = (net.listen(0), net.listen(1));
        let anna = start(&net, &tasks);
        let mut server = accept(&mut silent).await;
        tell(&mut server, &welcome(1)).await;
        // Reading goes on, or the pipe would fill; but nothing is said.
        tasks.spawn(async move { while let Some(Ok(_)) = server.next().await {} });
        let mut server = accept(&mut other).await;
        assert!(matches!(hear(&mut server).await, ClientFrame::Hello { .. }));
        anna.stop(false).await;
    }
}
