//! Starting, refusing, ending.

use crate::started::{Started, output, said};
use rustix::process::Signal;

fn home() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory can be made")
}

#[test]
fn it_starts_tells_its_address_and_says_that_it_is_ready() {
    let home = home();
    let server = Started::on(home.path());
    assert_eq!(server.get("/healthz").0, "HTTP/1.1 200 OK");
    let (status, body) = server.get("/readyz");
    assert_eq!(status, "HTTP/1.1 200 OK", "{body}");
    let report: serde_json::Value = serde_json::from_str(&body).expect("it is JSON");
    assert_eq!(report["ready"], true);
    for part in ["gateway", "api", "disk"] {
        assert_eq!(report["parts"][part]["ready"], true, "{body}");
    }
    assert_eq!(server.get("/api/v1/nowhere").0, "HTTP/1.1 404 Not Found");
}

#[test]
fn a_second_process_is_refused_with_the_directory_and_the_first_ones_process() {
    let home = home();
    let _server = Started::on(home.path());
    let second = output(home.path(), &["run", "--listen", "127.0.0.1:0", "--data", "data"]);
    assert!(!second.status.success());
    let said = said(&second.stderr);
    assert!(said.contains("hubbub: data is in use by process "), "{said}");
}

#[test]
fn both_signals_end_it_in_order() {
    for signal in [Signal::TERM, Signal::INT] {
        let home = home();
        assert_eq!(Started::on(home.path()).signal(signal).code(), Some(0), "{signal:?}");
    }
}

#[test]
fn the_signing_key_is_for_its_owner_only_and_survives_a_restart() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = home();
    let server = Started::on(home.path());
    let keys = server.get("/api/v1/keys").1;
    server.signal(Signal::TERM);
    let key = home.path().join("data/signing-key.pem");
    let mode = std::fs::metadata(key).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(Started::on(home.path()).get("/api/v1/keys").1, keys);
}

#[test]
fn an_unknown_setting_is_refused_by_name_wherever_it_is_said() {
    let home = home();
    std::fs::write(home.path().join("hubbub.toml"), "[server]\nlissten = \"127.0.0.1:0\"\n")
        .expect("it can be written");
    let refused = said(&output(home.path(), &["run"]).stderr);
    assert_eq!(
        refused,
        "hubbub: hubbub.toml sets `server.lissten`, which is no setting; did you mean `server.listen`?\n"
    );
    std::fs::remove_file(home.path().join("hubbub.toml")).expect("it was there");
    let refused = said(&output(home.path(), &["run", "--set", "servr.drain=1 s"]).stderr);
    assert!(refused.contains("`servr.drain`") && refused.contains("`server.drain`"), "{refused}");
}

#[test]
fn a_role_alone_on_an_embedded_log_is_one_sentence_that_names_the_remedy() {
    let home = home();
    for role in ["gateway", "api", "sequencer", "writer", "fanout"] {
        let alone = output(home.path(), &[role]);
        assert!(!alone.status.success());
        let said = said(&alone.stderr);
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains("--log kafka://"), "{said}");
    }
}

#[test]
fn the_configuration_is_printed_with_who_said_what_and_without_secrets() {
    let home = home();
    let printed =
        output(home.path(), &["config", "--print", "--data", "elsewhere", "--set", "auth.signing_key=hunter2"]);
    let printed = said(&printed.stdout);
    assert!(printed.contains("dir = \"elsewhere\"") && printed.contains("# the flag --data"), "{printed}");
    assert!(!printed.contains("signing_key = \"hunter2\""), "{printed}");
    std::fs::write(home.path().join("hubbub.toml"), output(home.path(), &["config", "--example"]).stdout)
        .expect("it can be written");
    assert!(output(home.path(), &["config", "--print"]).status.success(), "the example is a configuration");
}

#[test]
fn the_doctor_names_the_remedy_for_a_port_that_is_taken() {
    let home = home();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("any port is free");
    let address = taken.local_addr().expect("it has one").to_string();
    let doctor = output(home.path(), &["doctor", "--listen", &address]);
    assert!(!doctor.status.success());
    let said = said(&doctor.stdout);
    assert!(said.contains(&address) && said.contains("--listen"), "{said}");
    assert!(output(home.path(), &["doctor", "--listen", "127.0.0.1:0"]).status.success());
}
