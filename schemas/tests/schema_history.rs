//! The schemas' history: ids for ever, FULL_TRANSITIVE changes, golden bytes of every version.

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::schema_compatibility::{Compatibility, SchemaCompatibility};
use bytes::Bytes;
use domain::command::{ChannelKind, CommandBody, HistoryVisibility, Role};
use domain::{
    Answer, ChannelId, ChannelSeq, ClientMsgId, Command, CommandPosition, Epoch, Event, EventKind, LogTime, MessageId,
    Ordinal, Outcome, OwnerSeq, RejectCause, ReplyAddress, SessionId, TimelineRecord, UserId, Verdict,
};
use schemas::records::{self, Delivery, GatewayRecord, ProfileRecord, SessionRecord, Signal, SignalKind};
use schemas::registry::{IDS, SCHEMAS, SchemaRow};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

const HOW_TO_CHANGE: &str = "To change a record: edit schemas/avro/<Record>.avsc so that it only adds fields with a default, removes fields that have \
    one, or adds enum symbols; copy it to schemas/avro/history/<Record>/<next version>.avsc; append a row with the next free id to \
    schemas/src/registry.rs and schemas/avro/ids.json; read both versions and write the newest in schemas/src/records.rs; add golden files. \
    Never touch a version that is in the history.";

fn crate_file(path: impl AsRef<Path>) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn parsed(text: &str) -> Schema {
    Schema::parse_str(text).expect("a schema that parses")
}

/// Why a change from `old` to `new` is not FULL; `None`: it is. Either must read all that the other writes.
fn why_not_full(old: &Value, new: &Value) -> Option<String> {
    // What a library takes as compatible may still be partial (a union with fewer branches, an enum with fewer symbols); enums are
    // safe by their default, so only they may be partial, and unions are compared here.
    let (old_schema, new_schema) = (parsed(&old.to_string()), parsed(&new.to_string()));
    for (writer, reader, way) in
        [(&old_schema, &new_schema, "new reads old"), (&new_schema, &old_schema, "old reads new")]
    {
        match SchemaCompatibility::can_read(writer, reader) {
            Err(error) => return Some(format!("{way}: {error}")),
            Ok(Compatibility::Full | Compatibility::Partial) => {}
        }
    }
    shape(old, new, "")
}

/// Compares what compatibility does not: types of a field that stays, union branches, enums without a default.
fn shape(old: &Value, new: &Value, at: &str) -> Option<String> {
    match (old, new) {
        (Value::Array(old), Value::Array(new)) => {
            if old.len() != new.len() {
                return Some(format!("{at}: a union's branches changed; add an optional field instead"));
            }
            old.iter().zip(new).find_map(|(old, new)| shape(old, new, at))
        }
        (Value::Object(_), Value::Object(_)) => {
            let at = format!("{at}/{}", old["name"].as_str().unwrap_or_default());
            if old["symbols"] != new["symbols"] && (old["default"].is_null() || new["default"].is_null()) {
                return Some(format!("{at}: an enum without a default changed its symbols"));
            }
            if let (Some(old), Some(new)) = (old["symbols"].as_array(), new["symbols"].as_array()) {
                // Our writer and reader use the index of a symbol.
                let kept = old.iter().zip(new).all(|(old, new)| old == new);
                if !kept || new.len() < old.len() {
                    return Some(format!("{at}: symbols are only ever appended"));
                }
            }
            let field = |name: &Value, of: &Value| {
                of["fields"].as_array()?.iter().find(|field| &field["name"] == name).cloned()
            };
            for one in old["fields"].as_array().into_iter().flatten() {
                if let Some(other) = field(&one["name"], new)
                    && let Some(why) = shape(
                        &one["type"],
                        &other["type"],
                        &format!("{at}.{}", one["name"].as_str().unwrap_or_default()),
                    )
                {
                    return Some(why);
                }
            }
            match (&old["type"], &new["type"]) {
                (old, new) if old.is_object() => shape(old, new, &at),
                _ => old.get("items").and_then(|items| shape(items, &new["items"], &at)),
            }
        }
        (old, new) => (old != new).then(|| format!("{at}: its type changed from {old} to {new}")),
    }
}

#[test]
fn every_current_schema_is_full_transitive_over_its_history() {
    for entry in fs::read_dir(crate_file("avro/history")).expect("the history") {
        let record = entry.expect("an entry").file_name().into_string().expect("a name");
        let current = fs::read_to_string(crate_file(format!("avro/{record}.avsc")))
            .unwrap_or_else(|error| panic!("{record} has a history but no current schema: {error}"));
        let current: Value = serde_json::from_str(&current).expect("JSON");
        let versions: Vec<_> = SCHEMAS.iter().filter(|row| row.record == record).collect();
        let newest = versions.last().unwrap_or_else(|| panic!("{record} is not in the registry"));
        let newest: Value = serde_json::from_str(newest.avsc).expect("JSON");
        assert!(current == newest, "{record}.avsc is not the newest version of its history. {HOW_TO_CHANGE}");
        for version in versions {
            let old: Value = serde_json::from_str(version.avsc).expect("JSON");
            if let Some(why) = why_not_full(&old, &current) {
                panic!("{record}.avsc is not FULL_TRANSITIVE with version {}: {why}. {HOW_TO_CHANGE}", version.version);
            }
        }
    }
}

#[test]
fn changes_that_break_a_reader_are_refused() {
    let record = |fields: Value| json!({"type": "record", "name": "R", "fields": fields});
    let enumeration = |symbols: Value, default: Value| {
        let mut kind = json!({"type": "enum", "name": "E", "symbols": symbols});
        if !default.is_null() {
            kind["default"] = default;
        }
        record(json!([{"name": "e", "type": kind}]))
    };
    let plain = record(json!([{"name": "a", "type": "long"}]));
    let with_default =
        record(json!([{"name": "a", "type": "long"}, {"name": "b", "type": ["null", "long"], "default": null}]));
    let without_default = record(json!([{"name": "a", "type": "long"}, {"name": "b", "type": "long"}]));
    let allowed = [(&plain, &with_default), (&with_default, &plain)];
    for (old, new) in allowed {
        assert_eq!(why_not_full(old, new), None, "{old} → {new}");
    }
    let symbols = enumeration(json!(["UNKNOWN", "A"]), json!("UNKNOWN"));
    assert_eq!(why_not_full(&symbols, &enumeration(json!(["UNKNOWN", "A", "B"]), json!("UNKNOWN"))), None);
    let refused = [
        (&without_default, plain.clone()),
        (&plain, without_default.clone()),
        (&plain, record(json!([{"name": "a", "type": "string"}]))),
        (&plain, record(json!([{"name": "a", "type": "double"}]))),
        (&plain, record(json!([{"name": "renamed", "type": "long"}]))),
        (
            &with_default,
            record(
                json!([{"name": "a", "type": "long"}, {"name": "b", "type": ["null", "long", "string"], "default": null}]),
            ),
        ),
        (&symbols, enumeration(json!(["UNKNOWN", "B", "A"]), json!("UNKNOWN"))),
        (&symbols, enumeration(json!(["UNKNOWN"]), json!("UNKNOWN"))),
        (&symbols, enumeration(json!(["UNKNOWN", "A", "B"]), Value::Null)),
    ];
    for (old, new) in refused {
        assert!(why_not_full(old, &new).is_some(), "{old} → {new} passed");
    }
}

#[test]
fn ids_are_the_committed_ones() {
    let committed = fs::read_to_string(crate_file("avro/ids.json")).unwrap_or_default();
    let row = |row: &SchemaRow| {
        json!({"id": row.id, "subject": row.subject(), "version": row.version,
            "fingerprint": parsed(row.avsc).fingerprint::<apache_avro::rabin::Rabin>().to_string()})
    };
    let rows: Vec<_> = SCHEMAS.iter().map(|one| row(one).to_string()).collect();
    let table = format!("[\n  {}\n]\n", rows.join(",\n  "));
    assert!(
        committed == table,
        "schemas/avro/ids.json differs from the registry, which gives:\n{table}{HOW_TO_CHANGE}"
    );
    assert!(SCHEMAS.is_sorted_by(|one, next| one.id < next.id), "ids rise");
    assert!(SCHEMAS.iter().all(|row| IDS.contains(&row.id)), "ids are within those that are ours");
}

#[test]
fn every_field_has_a_doc() {
    fn undocumented(value: &Value, at: &str, found: &mut Vec<String>) {
        if let Some(fields) = value["fields"].as_array() {
            for field in fields {
                let at = format!("{at}.{}", field["name"].as_str().unwrap_or_default());
                if field["doc"].as_str().is_none_or(str::is_empty) {
                    found.push(at.clone());
                }
                undocumented(&field["type"], &at, found);
            }
        }
        match value {
            Value::Array(branches) => branches.iter().for_each(|branch| undocumented(branch, at, found)),
            Value::Object(_) => undocumented(&value["items"], at, found),
            _ => {}
        }
    }
    let mut found = Vec::new();
    for row in SCHEMAS {
        undocumented(&serde_json::from_str(row.avsc).expect("JSON"), row.record, &mut found);
    }
    assert!(found.is_empty(), "{found:?}");
}

type Golden = (&'static str, Vec<u8>, fn(&Bytes) -> Result<Vec<u8>, records::DecodeError>);

/// One of every record and every kind within, with what reads it and writes it again.
fn goldens() -> Vec<Golden> {
    let uuid = |last: u8| {
        let mut bytes = [0x01, 0x90, 0xa5, 0xf0, 0, 0, 0x70, 0, 0x80, 0, 0, 0, 0, 0, 0, 0];
        bytes[15] = last;
        bytes
    };
    let (channel, user, other) =
        (ChannelId::from_bytes(uuid(1)), UserId::from_bytes(uuid(2)), UserId::from_bytes(uuid(3)));
    let id = ClientMsgId::from_bytes(uuid(4));
    let reply = Some(ReplyAddress { process: "gateway-0".into(), connection: u64::MAX });
    let command = |body| {
        records::encode_command(&Command { channel, sender: user, id, retry: false, reply: reply.clone(), body })
    };
    let event = |seq, kind| Event {
        seq: ChannelSeq(seq),
        ordinal: Ordinal(seq / 2),
        message_id: MessageId((900_000_000_000_000_000) + seq),
        members_version: ChannelSeq(1),
        kind,
    };
    let outcome = |verdict| Outcome {
        epoch: Epoch(7),
        n: OwnerSeq(300),
        time: LogTime(1_790_000_000_123),
        command: CommandPosition { incarnation: 2, offset: 70_000 },
        channel,
        sender: user,
        id,
        digest: u64::MAX - 1,
        reply: reply.clone(),
        verdict,
    };
    let timeline = |verdict| records::encode_timeline(&TimelineRecord::Outcome(outcome(verdict)));
    let post = "naïve 👩‍👩‍👧 \u{0}\u{202e}";
    let created = EventKind::ChannelCreated {
        kind: ChannelKind::Group,
        title: "tea".into(),
        history: HistoryVisibility::FromStart,
        open: true,
    };
    let seq = ChannelSeq(9);
    let kinds = vec![
        created,
        EventKind::MemberJoined { user, role: Role::Owner },
        EventKind::MessagePosted { text: post.into() },
        EventKind::RoleChanged { user: other, role: Role::Admin },
        EventKind::MemberLeft { user: other, removed: true },
        EventKind::ChannelJoined { channel, seq },
        EventKind::ChannelLeft { channel, seq },
    ];
    let events: Vec<_> = kinds.into_iter().zip(1..).map(|(kind, seq)| event(seq, kind)).collect();
    let signal = Signal { channel, user, kind: SignalKind::Typing };
    let read_command = |value: &Bytes| records::decode_command(value).map(|read| records::encode_command(&read));
    let read_timeline = |value: &Bytes| records::decode_timeline(value).map(|read| records::encode_timeline(&read));
    let read_delivery = |value: &Bytes| records::decode_delivery(value).map(|read| records::encode_delivery(&read));
    vec![
        ("command-post", command(CommandBody::Post { text: post.into() }), read_command),
        (
            "command-create-channel",
            command(CommandBody::CreateChannel {
                kind: ChannelKind::Direct,
                title: "".into(),
                members: vec![other],
                history: HistoryVisibility::FromJoining,
                open: false,
            }),
            read_command,
        ),
        ("command-join", command(CommandBody::Join), read_command),
        ("command-leave", command(CommandBody::Leave), read_command),
        ("command-add-members", command(CommandBody::AddMembers { users: vec![user, other] }), read_command),
        ("command-remove-member", command(CommandBody::RemoveMember { user: other }), read_command),
        ("command-set-role", command(CommandBody::SetRole { user: other, role: Role::Member }), read_command),
        ("command-channel-joined", command(CommandBody::ChannelJoined { channel, seq }), read_command),
        ("command-channel-left", command(CommandBody::ChannelLeft { channel, seq }), read_command),
        (
            "ownership-taken",
            records::encode_timeline(&TimelineRecord::Claim {
                epoch: Epoch(8),
                nonce: u128::from_be_bytes(uuid(5)),
                owner: "sequencer-0".into(),
                commands_start: CommandPosition { incarnation: 2, offset: 4_000 },
            }),
            read_timeline,
        ),
        ("events-decided", timeline(Verdict::Accepted(events)), read_timeline),
        ("command-answered-duplicate", timeline(Verdict::Answered(Answer::Duplicate { seq })), read_timeline),
        ("command-answered-conflict", timeline(Verdict::Answered(Answer::Conflict { seq })), read_timeline),
        (
            "command-answered-rejected",
            timeline(Verdict::Answered(Answer::Rejected(RejectCause::BadBody))),
            read_timeline,
        ),
        ("command-answered-retry-later", timeline(Verdict::Answered(Answer::RetryLater)), read_timeline),
        ("command-answered-poison", timeline(Verdict::Answered(Answer::Poison)), read_timeline),
        (
            "outcome-delivery",
            records::encode_delivery(&Delivery::Outcome {
                process_epoch: 3,
                partition: 1_023,
                offset: 1 << 40,
                recipients: vec![user, other],
                reply: None,
                record: Bytes::from_static(b"\0\0\0\0\x02 as it stands"),
            }),
            read_delivery,
        ),
        (
            "signal-delivery",
            records::encode_delivery(&Delivery::Signal {
                process_epoch: 3,
                recipients: vec![other],
                signal: signal.clone(),
            }),
            read_delivery,
        ),
        ("signal", records::encode_signal(&signal), |value| {
            records::decode_signal(value).map(|read| records::encode_signal(&read))
        }),
        (
            "session",
            records::encode_session(&SessionRecord {
                user,
                session: SessionId::from_bytes(uuid(6)),
                process: "gateway-0".into(),
                process_epoch: 3,
                connection: 5,
                opened: LogTime(1_790_000_000_123),
            }),
            |value| records::decode_session(value).map(|read| records::encode_session(&read)),
        ),
        (
            "gateway",
            records::encode_gateway(&GatewayRecord {
                process: "gateway-0".into(),
                epoch: 3,
                url: "wss://chat.example.org".into(),
                region: "eu".into(),
                capacity: 50_000,
                connections: 12,
                delivered_offset: 1 << 33,
            }),
            |value| records::decode_gateway(value).map(|read| records::encode_gateway(&read)),
        ),
        (
            "profile",
            records::encode_profile(&ProfileRecord {
                user,
                username: "ann".into(),
                display_name: "Änn \u{1f600}".into(),
            }),
            |value| records::decode_profile(value).map(|read| records::encode_profile(&read)),
        ),
    ]
}

#[test]
fn golden_records_are_written_and_read_for_ever() {
    let folder = crate_file("golden/v1");
    let bless = std::env::var_os("BLESS").is_some();
    for (name, ours, again) in goldens() {
        let id = u32::from_be_bytes(ours[1..5].try_into().expect("four bytes"));
        let row = schemas::registry::by_id(id).expect("a row");
        let schema = parsed(row.avsc);
        let value = GenericDatumReader::builder(&schema)
            .build()
            .expect("a reader")
            .read_value(&mut &ours[5..])
            .expect("a datum");
        let json = Value::try_from(value).expect("JSON");
        let json = format!("{:#}\n", json!({"schema": row.record, "version": row.version, "value": json}));
        let (bytes_file, json_file) = (folder.join(format!("{name}.bin")), folder.join(format!("{name}.json")));
        if bless && !bytes_file.exists() {
            fs::create_dir_all(&folder).expect("a folder");
            fs::write(&bytes_file, &ours).expect("written");
            fs::write(&json_file, &json).expect("written");
        }
        let golden = Bytes::from(
            fs::read(&bytes_file).unwrap_or_else(|error| panic!("{name}.bin (BLESS=1 makes a new one): {error}")),
        );
        assert_eq!(
            again(&golden).expect("a golden record reads"),
            golden,
            "{name} reads and is written again as it was"
        );
        assert_eq!(Bytes::from(ours), golden, "{name} is written as ever. {HOW_TO_CHANGE}");
        assert_eq!(
            json,
            fs::read_to_string(&json_file).expect("JSON beside it"),
            "{name}: apache-avro reads the fields as ever"
        );
    }
}
