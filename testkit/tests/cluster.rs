//! Every role together, on the embedded log and store, over real sockets.
#![allow(clippy::unwrap_used, reason = "tests")]

use domain::ChannelSeq;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use testkit::client::{SendEnd, Start};
use testkit::cluster::{Cluster, Setup};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_people_talk() {
    let directory = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(&Setup::new(directory.path())).await.unwrap();
    let (ann, bob) = (cluster.person("ann").await.unwrap(), cluster.person("bob").await.unwrap());
    let room = cluster.group(&ann, &[&bob]).await.unwrap();
    let (phone, laptop) =
        (cluster.client(&ann, "phone", Start::Beginning), cluster.client(&bob, "laptop", Start::Beginning));
    for client in [&phone, &laptop] {
        client.until(|core| core.is_online() && core.cursor(room) == Some(ChannelSeq(3))).await;
    }
    assert_eq!(phone.say(room, "hello").await, Some(SendEnd::Acked(ChannelSeq(4))));
    assert_eq!(laptop.say(room, "hello yourself").await, Some(SendEnd::Acked(ChannelSeq(5))));
    for client in [&phone, &laptop] {
        client.until(|core| core.cursor(room) == Some(ChannelSeq(5))).await;
    }
    // History is a little behind the live way.
    cluster.truth().await.unwrap();
    let page =
        cluster.must(Method::GET, &format!("/channels/{room}/messages?first=4"), &bob, &Value::Null).await.unwrap();
    assert_eq!((&page["events"][0]["body"], &page["events"][1]["body"]), (&json!("hello"), &json!("hello yourself")));
    cluster.audit(vec![phone, laptop]).await.unwrap();
    assert_eq!(cluster.stop().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_come_and_go_over_http_and_everybody_hears_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(&Setup::new(directory.path())).await.unwrap();
    let (ann, bob) = (cluster.person("ann").await.unwrap(), cluster.person("bob").await.unwrap());
    let room = cluster.group(&ann, &[]).await.unwrap();
    let laptop = cluster.client(&bob, "laptop", Start::Beginning);
    laptop.until(testkit::client::ClientCore::is_online).await;
    let members = format!("/channels/{room}/members");
    let (status, _) = cluster.ask(Method::GET, &members, Some(&bob), &Value::Null).await.unwrap();
    assert_eq!(status, StatusCode::NOT_FOUND);

    let add = json!({"users": [bob.user.to_string()]});
    assert_eq!(cluster.must(Method::POST, &members, &ann, &add).await.unwrap()["seq"], 3);
    laptop.until(|core| core.cursor(room) == Some(ChannelSeq(3))).await;
    let listed = cluster.must(Method::GET, "/channels", &bob, &Value::Null).await.unwrap();
    assert_eq!(
        (&listed[0]["id"], &listed[0]["seq"]),
        (&json!(room.to_string()), &json!(3)),
        "the next read is not stale"
    );
    assert_eq!(laptop.say(room, "hi").await, Some(SendEnd::Acked(ChannelSeq(4))));

    let him = format!("{members}/{}", bob.user);
    assert_eq!(cluster.must(Method::DELETE, &him, &ann, &Value::Null).await.unwrap()["seq"], 5);
    laptop.until(|core| core.cursor(room) == Some(ChannelSeq(5))).await;
    assert_eq!(laptop.say(room, "still here?").await, Some(SendEnd::Refused(schemas::error_codes::Code::NotMember)));
    let (status, _) = cluster.ask(Method::GET, &members, Some(&bob), &Value::Null).await.unwrap();
    assert_eq!(status, StatusCode::NOT_FOUND);

    cluster.audit(vec![laptop]).await.unwrap();
    assert_eq!(cluster.stop().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_create_and_the_same_direct_channel_are_one_channel() {
    let directory = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(&Setup::new(directory.path())).await.unwrap();
    let (ann, bob) = (cluster.person("ann").await.unwrap(), cluster.person("bob").await.unwrap());
    let id = runtime::Entropy::from_os().uuid_v7(runtime::Clock::now_ms(&runtime::SystemClock));
    let group = json!({"kind": "group", "title": "Room", "client_msg_id": id.to_string()});
    let first = cluster.must(Method::POST, "/channels", &ann, &group).await.unwrap();
    let again = cluster.must(Method::POST, "/channels", &ann, &group).await.unwrap();
    assert_eq!(
        (&first["channel"], &first["duplicate"], &again["duplicate"]),
        (&again["channel"], &json!(false), &json!(true))
    );
    let direct = |other: &testkit::cluster::Person| json!({"kind": "direct", "members": [other.user.to_string()]});
    let hers = cluster.must(Method::POST, "/channels", &ann, &direct(&bob)).await.unwrap();
    let his = cluster.must(Method::POST, "/channels", &bob, &direct(&ann)).await.unwrap();
    assert_eq!(
        (&hers["channel"], &hers["duplicate"], &his["duplicate"]),
        (&his["channel"], &json!(false), &json!(true))
    );
    let mine = json!({"kind": "group", "title": "Other", "client_msg_id": id.to_string()});
    let (status, problem) = cluster.ask(Method::POST, "/channels", Some(&ann), &mine).await.unwrap();
    assert_eq!((status, &problem["title"]), (StatusCode::CONFLICT, &json!("conflict")));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_in_the_middle_loses_and_repeats_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let setup = Setup::new(directory.path());
    let cluster = Cluster::start(&setup).await.unwrap();
    let (ann, bob) = (cluster.person("ann").await.unwrap(), cluster.person("bob").await.unwrap());
    let room = cluster.group(&ann, &[&bob]).await.unwrap();
    let phone = cluster.client(&ann, "phone", Start::Beginning);
    phone.until(testkit::client::ClientCore::is_online).await;
    for number in 0..50 {
        assert!(matches!(phone.say(room, &format!("before {number}")).await, Some(SendEnd::Acked(_))));
    }
    phone.stop(false).await;
    assert_eq!(cluster.stop().await, 0);

    let cluster = Cluster::start(&setup).await.unwrap();
    let laptop = cluster.client(&bob, "laptop", Start::Beginning);
    laptop.until(|core| core.cursor(room) == Some(ChannelSeq(53))).await;
    assert_eq!(laptop.say(room, "after").await, Some(SendEnd::Acked(ChannelSeq(54))));
    cluster.audit(vec![laptop]).await.unwrap();
    assert_eq!(cluster.stop().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_over_two_gateways_sees_one_order() {
    let directory = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(&Setup { gateways: 2, ..Setup::new(directory.path()) }).await.unwrap();
    let mut people = Vec::new();
    for number in 0..10 {
        people.push(cluster.person(&format!("person-{number}")).await.unwrap());
    }
    let others: Vec<_> = people[1..].iter().collect();
    let room = cluster.group(&people[0], &others).await.unwrap();
    let clients: Vec<_> = people.iter().map(|person| cluster.client(person, "phone", Start::Beginning)).collect();
    for client in &clients {
        client.until(testkit::client::ClientCore::is_online).await;
    }
    for round in 0..20 {
        for client in &clients {
            client.post(room, &format!("round {round}")).await;
        }
        clients[round % 10].cut_connection().await;
    }
    let head = ChannelSeq(11 + 200);
    for client in &clients {
        client.until(|core| core.waiting() == 0 && core.cursor(room) == Some(head)).await;
    }
    cluster.audit(clients).await.unwrap();
    assert_eq!(cluster.stop().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_retries_at_once_over_several_gateways_are_one_message() {
    let directory = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(&Setup { gateways: 3, ..Setup::new(directory.path()) }).await.unwrap();
    let ann = cluster.person("ann").await.unwrap();
    let room = cluster.group(&ann, &[]).await.unwrap();
    let devices: Vec<_> =
        (0..30).map(|number| cluster.client(&ann, &format!("device-{number}"), Start::Beginning)).collect();
    for device in &devices {
        device.until(testkit::client::ClientCore::is_online).await;
    }
    let id = devices[0].new_id();
    for device in &devices {
        device.post_as(room, id, "once").await;
    }
    for device in &devices {
        assert_eq!(device.end_of(id).await, Some(SendEnd::Acked(ChannelSeq(3))));
    }
    let other = cluster.client(&ann, "liar", Start::Beginning);
    other.until(testkit::client::ClientCore::is_online).await;
    other.post_as(room, id, "twice").await;
    // The original is the ack of its id on every device, so only the wire tells of the conflict: nothing else was written.
    assert!(other.end_of(id).await.is_some());
    let truth = cluster.truth().await.unwrap();
    assert_eq!(truth.channels[&room].head(), ChannelSeq(3));
    assert_eq!(cluster.stop().await, 0);
}
