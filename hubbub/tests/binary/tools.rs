//! The operator's tools, on a running server and on a directory that nobody uses.

use crate::started::{Started, output, said};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;

fn home() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory can be made")
}

fn provision(home: &Path, users: &str) -> Vec<Value> {
    let made = output(home, &["admin", "provision", "--users", users, "--tokens", "tokens.jsonl", "--data", "data"]);
    assert!(made.status.success(), "{}", said(&made.stderr));
    let lines = std::fs::read_to_string(home.join("tokens.jsonl")).expect("it was written");
    lines.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
}

fn create_channel(server: &Started, token: &str, title: &str) -> String {
    let body = json!({"kind": "group", "title": title}).to_string();
    let (status, body) = server.post("/api/v1/channels", Some(token), &body);
    assert!(status.starts_with("HTTP/1.1 2"), "{status} {body}");
    let decided: Value = serde_json::from_str(&body).expect("it is JSON");
    decided["channel"].as_str().expect("it names the channel").to_owned()
}

fn tail(home: &Path, args: &[&str]) -> Vec<Value> {
    let all = [&["tail"], args, &["--json", "--data", "data"]].concat();
    let tailed = output(home, &all);
    assert!(tailed.status.success(), "{}", said(&tailed.stderr));
    said(&tailed.stdout).lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
}

#[test]
fn provisioned_accounts_have_tokens_that_work_and_ids_that_stay() {
    let home = home();
    let server = Started::on(home.path());
    let first = provision(home.path(), "1200");
    assert_eq!(first.len(), 1_200);
    assert_eq!(first[0]["username"], "user000001");
    let users: BTreeSet<&str> = first.iter().filter_map(|line| line["user"].as_str()).collect();
    assert_eq!(users.len(), 1_200);
    create_channel(&server, first[0]["token"].as_str().expect("a token is text"), "lunch");
    server.signal(Signal::TERM);
    let again = provision(home.path(), "1201");
    assert_eq!(
        again[..1_200].iter().map(|line| &line["user"]).collect::<Vec<_>>(),
        first.iter().map(|line| &line["user"]).collect::<Vec<_>>()
    );
}

#[test]
fn tail_shows_the_same_records_of_a_running_server_and_of_a_directory() {
    let home = home();
    let server = Started::on(home.path());
    let people = provision(home.path(), "1");
    let channel = create_channel(&server, people[0]["token"].as_str().expect("a token is text"), "lunch");
    let running = tail(home.path(), &["chat.messages", "--from", "start"]);
    let created = running.iter().find(|record| record["key"] == channel.as_str()).expect("the channel is in the log");
    assert!(created["headers"]["ce_type"].is_string(), "{created}");
    assert!(created["data"].is_object(), "{created}");
    server.signal(Signal::TERM);
    let kept: BTreeSet<String> =
        tail(home.path(), &["chat.messages", "--from", "start"]).iter().map(Value::to_string).collect();
    assert!(running.iter().all(|record| kept.contains(&record.to_string())), "what was there stays as it was");
}

#[test]
fn tail_refuses_what_is_no_topic_and_no_moment() {
    let home = home();
    let _server = Started::on(home.path());
    for (args, words) in
        [(["chat.nowhere", "--from", "start"], "chat.messages"), (["chat.messages", "--from", "soon"], "--from soon")]
    {
        let all = [&["tail"][..], &args, &["--data", "data"]].concat();
        let refused = output(home.path(), &all);
        assert!(!refused.status.success());
        let said = said(&refused.stderr);
        assert!(said.contains(words) && said.lines().count() == 1, "{said}");
    }
}

#[test]
fn a_backup_of_a_running_server_comes_back_with_everything_acknowledged_before_it() {
    let home = home();
    let server = Started::on(home.path());
    let people = provision(home.path(), "1");
    let token = people[0]["token"].as_str().expect("a token is text").to_owned();
    let channel = create_channel(&server, &token, "lunch");
    let backup = output(home.path(), &["backup", "kept", "--data", "data"]);
    assert!(backup.status.success(), "{}", said(&backup.stderr));
    server.signal(Signal::TERM);
    std::fs::rename(home.path().join("data"), home.path().join("lost")).expect("it can be moved");
    let restored = output(home.path(), &["restore", "kept", "--data", "data"]);
    assert!(restored.status.success(), "{}", said(&restored.stderr));
    let server = Started::on(home.path());
    // The token of before is good: the signing key came back too.
    let (status, body) = server.get_as(&token, "/api/v1/channels");
    assert_eq!(status, "HTTP/1.1 200 OK");
    let channels: Value = serde_json::from_str(&body).expect("it is JSON");
    assert_eq!(channels[0]["id"], channel.as_str(), "{body}");
    assert!(!output(home.path(), &["restore", "kept", "--data", "data"]).status.success(), "it overwrites nothing");
}
