//! The documents for client authors name everything that the wire has.

use schemas::client_frames::CLIENT_TYPES;
use schemas::error_codes::Code;
use schemas::frames::{EventKindFrame, LimitsFrame, ServerFrame};
use serde_json::{Value, to_value};
use std::collections::BTreeMap;
use std::path::Path;

fn document(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// One of each, so that a new one does not compile before it is listed here.
fn server_frames() -> Vec<ServerFrame> {
    let all = |frame: &ServerFrame| match frame {
        ServerFrame::Welcome { .. }
        | ServerFrame::Event(_)
        | ServerFrame::Ack { .. }
        | ServerFrame::CaughtUp { .. }
        | ServerFrame::Digest { .. }
        | ServerFrame::Page { .. }
        | ServerFrame::Typing { .. }
        | ServerFrame::Resync { .. }
        | ServerFrame::Goaway { .. }
        | ServerFrame::Pong { .. }
        | ServerFrame::Error { .. } => (),
    };
    let text = String::new;
    let limits = LimitsFrame { body_bytes_max: 0, frame_bytes_max: 0, sends_per_second_max: 0 };
    let event = schemas::frames::EventFrame {
        channel: text(),
        seq: 0,
        ordinal: 0,
        id: text(),
        time: 0,
        sender: text(),
        client_msg_id: text(),
        kind: EventKindFrame::MessagePosted { body: text() },
    };
    let frames = vec![
        ServerFrame::Welcome { session: text(), user: text(), server_time: 0, generation: 0, heartbeat_ms: 0, limits },
        ServerFrame::Event(event),
        ServerFrame::Ack { channel: text(), client_msg_id: text(), seq: 0 },
        ServerFrame::CaughtUp { heads: BTreeMap::new() },
        ServerFrame::Digest { heads: BTreeMap::new() },
        ServerFrame::Page { channel: text(), request: 0, events: Vec::new(), first: 0, last: 0 },
        ServerFrame::Typing { channel: text(), user: text() },
        ServerFrame::Resync { reason: text() },
        ServerFrame::Goaway { reconnect_after_ms: 0 },
        ServerFrame::Pong { server_time: 0 },
        ServerFrame::Error {
            code: Code::Malformed,
            message: text(),
            client_msg_id: Some(text()),
            request: Some(0),
            retry_after_ms: Some(0),
            server_time: Some(0),
        },
    ];
    frames.iter().for_each(all);
    frames
}

fn event_kinds() -> Vec<EventKindFrame> {
    let all = |kind: &EventKindFrame| match kind {
        EventKindFrame::MessagePosted { .. }
        | EventKindFrame::ChannelCreated { .. }
        | EventKindFrame::MemberJoined { .. }
        | EventKindFrame::MemberLeft { .. }
        | EventKindFrame::RoleChanged { .. }
        | EventKindFrame::ChannelJoined { .. }
        | EventKindFrame::ChannelLeft { .. } => (),
    };
    let text = String::new;
    let kinds = vec![
        EventKindFrame::MessagePosted { body: text() },
        EventKindFrame::ChannelCreated { channel_kind: text(), title: text(), history: text(), open: false },
        EventKindFrame::MemberJoined { user: text(), role: text() },
        EventKindFrame::MemberLeft { user: text(), removed: false },
        EventKindFrame::RoleChanged { user: text(), role: text() },
        EventKindFrame::ChannelJoined { joined: text(), joined_seq: 0 },
        EventKindFrame::ChannelLeft { left: text(), left_seq: 0 },
    ];
    kinds.iter().for_each(all);
    kinds
}

fn fields_of(value: &Value) -> impl Iterator<Item = &String> {
    value.as_object().expect("frames are objects").keys()
}

#[test]
fn every_frame_kind_and_field_is_in_both_documents() {
    let (page, yaml) = (document("protocol.md"), document("asyncapi.yaml"));
    let mut named = Vec::new();
    for frame in server_frames() {
        let json = to_value(&frame).expect("frames are JSON");
        named.extend(fields_of(&json).cloned());
        let name = json["t"].as_str().expect("a tag").to_owned();
        assert!(yaml.contains(&format!("    server_{name}:")), "asyncapi.yaml has no server frame {name}");
        assert!(page.contains(&format!("{{\"t\":\"{name}\"")), "protocol.md has no example of {name}");
        named.push(name);
    }
    for kind in event_kinds() {
        let json = to_value(&kind).expect("kinds are JSON");
        named.extend(fields_of(&json).cloned());
        named.push(json["kind"].as_str().expect("a tag").to_owned());
    }
    for name in CLIENT_TYPES {
        assert!(yaml.contains(&format!("    client_{name}:")), "asyncapi.yaml has no client frame {name}");
        assert!(page.contains(&format!("{{\"t\":\"{name}\"")), "protocol.md has no example of {name}");
    }
    for name in named {
        assert!(page.contains(&format!("`{name}`")), "protocol.md does not name `{name}`");
        assert!(
            yaml.contains(&format!("{name}:")) || yaml.contains(&format!("const: {name}")),
            "asyncapi.yaml does not name {name}"
        );
    }
}

#[test]
fn every_code_is_in_both_documents_with_its_name_and_status() {
    let (page, yaml) = (document("protocol.md"), document("asyncapi.yaml"));
    for code in Code::ALL {
        let row = format!("| {} | `{}` | {} |", code.number(), code.slug(), code.http_status());
        assert!(page.contains(&row), "protocol.md has no row {row}");
        let item = format!("const: {}\n          title: {}\n", code.number(), code.slug());
        assert!(yaml.contains(&item), "asyncapi.yaml has no {item}");
    }
}

#[test]
fn the_examples_of_client_frames_are_frames() {
    let page = document("protocol.md");
    let mut read = 0;
    for line in
        page.lines().filter(|line| CLIENT_TYPES.iter().any(|name| line.starts_with(&format!("{{\"t\":\"{name}\""))))
    {
        // Ids are shortened for readers.
        let line = line
            .replace("018f…c1", "018f0000-0000-7000-8000-0000000000c1")
            .replace("0190a5f0-…", "0190a5f0-0000-7000-8000-000000000001");
        // `typing` and `digest` go both ways; the server's have a person or heads.
        let tag: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
        if tag.get("user").is_none() && tag.get("heads").is_none() {
            schemas::client_frames::receive(&line).unwrap_or_else(|refusal| panic!("{line}: {}", refusal.message));
            read += 1;
        }
    }
    assert!(read >= CLIENT_TYPES.len(), "only {read} examples");
}
