//! `hubbub chat`, scripted: lines in, lines out.

use crate::started::{PATIENCE, Started, ended, hubbub, said};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};

/// A person at a pipe.
struct Person {
    process: Child,
    says: Option<ChildStdin>,
    sees: Receiver<String>,
}

impl Person {
    fn new(home: &Path, server: &Started, name: &str, flags: &[&str]) -> Self {
        let all = [&["chat", "--url", &server.url, "--user", name], flags].concat();
        let mut command = hubbub(home, &all);
        command.env("HUBBUB_CHAT_PASSWORD", "correct horse").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("the binary can be started");
        let output = process.stdout.take().expect("stdout is piped");
        let (tell, sees) = sync_channel(1_000);
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    return;
                }
            }
        });
        let says = process.stdin.take();
        Self { process, says, sees }
    }

    fn say(&mut self, line: &str) {
        let says = self.says.as_mut().expect("it has not ended");
        writeln!(says, "{line}").expect("it listens");
    }

    /// Waits for a line with these words.
    fn see(&self, words: &str) -> String {
        let mut seen = Vec::new();
        loop {
            match self.sees.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(words) => return line,
                Ok(line) => seen.push(line),
                Err(error) => panic!("{error}: no {words:?} among {seen:#?}"),
            }
        }
    }

    /// Ends its input; what it said must be confirmed before it ends.
    fn end(mut self) {
        drop(self.says.take());
        assert!(ended(&mut self.process).success());
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

#[test]
fn two_people_talk_and_find_it_again() {
    let home = tempfile::tempdir().expect("a temporary directory can be made");
    let server = Started::on(home.path());
    let mut alice = Person::new(home.path(), &server, "alice", &["--sign-up"]);
    alice.say("/create lunch");
    let made = alice.see("Others join with: /join ");
    let channel = made.rsplit(' ').next().expect("it names the channel").to_owned();
    alice.see("— lunch");
    alice.say("anybody hungry?");
    alice.see("alice: anybody hungry?");

    let mut bob = Person::new(home.path(), &server, "bob", &["--sign-up"]);
    bob.see("Signed in as bob");
    bob.say(&format!("/join {channel}"));
    bob.see("alice: anybody hungry?");
    alice.see("— bob joined");
    bob.say("always");
    alice.see("bob: always");
    bob.see("bob: always");
    alice.end();
    bob.end();

    let again = Person::new(home.path(), &server, "alice", &["--channel", "lunch"]);
    again.see("alice: anybody hungry?");
    again.see("bob: always");
    again.end();
}

#[test]
fn a_script_that_only_says_something_ends_when_it_is_confirmed() {
    let home = tempfile::tempdir().expect("a temporary directory can be made");
    let server = Started::on(home.path());
    let mut maker = Person::new(home.path(), &server, "bot", &["--sign-up"]);
    maker.say("/create releases");
    maker.see("Others join with");
    maker.end();
    let mut script = Person::new(home.path(), &server, "bot", &["--channel", "releases"]);
    script.say("build 42 is out");
    script.end();
    let reader = Person::new(home.path(), &server, "bot", &["--channel", "releases"]);
    reader.see("bot: build 42 is out");
}

#[test]
fn a_restarted_server_is_found_again_and_what_was_said_meanwhile_arrives() {
    let home = tempfile::tempdir().expect("a temporary directory can be made");
    let server = Started::on(home.path());
    let address = server.authority().to_owned();
    let mut alice = Person::new(home.path(), &server, "alice", &["--sign-up"]);
    alice.say("/create lunch");
    alice.see("— lunch");
    alice.say("before");
    alice.see("alice: before");
    server.signal(rustix::process::Signal::TERM);
    alice.see("connecting again");
    alice.say("meanwhile");
    let _server = Started::at(home.path(), &address);
    alice.see("connected again");
    alice.see("alice: meanwhile");
    alice.end();
}

#[test]
fn a_server_that_is_not_there_and_a_wrong_password_are_one_sentence() {
    let home = tempfile::tempdir().expect("a temporary directory can be made");
    let nowhere = hubbub(home.path(), &["chat", "--url", "http://127.0.0.1:1", "--user", "alice"])
        .env("HUBBUB_CHAT_PASSWORD", "correct horse")
        .output()
        .expect("the binary can be started");
    let told = said(&nowhere.stderr);
    assert!(told.contains("can't reach http://127.0.0.1:1") && told.lines().count() == 1, "{told}");
    let server = Started::on(home.path());
    let wrong = hubbub(home.path(), &["chat", "--url", &server.url, "--user", "alice"])
        .env("HUBBUB_CHAT_PASSWORD", "battery staple")
        .output()
        .expect("the binary can be started");
    let told = said(&wrong.stderr);
    assert!(told.contains("can't sign in") && told.lines().count() == 1, "{told}");
}
