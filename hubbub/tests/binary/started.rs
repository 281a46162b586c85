//! A server of a test's own: port 0, a directory of its own, ended with the test.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::time::Duration;
use tokio::time::Instant;

/// Longer than anything takes on a slow machine; only a failing test waits for it.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// The binary, without what the developer's environment might tell it.
pub(crate) fn hubbub(data: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hubbub"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HUBBUB_")) {
        command.env_remove(name);
    }
    // A directory without a `hubbub.toml`.
    command.current_dir(data).args(args).stdin(Stdio::null());
    command
}

/// What it says when it ends by itself.
pub(crate) fn output(data: &Path, args: &[&str]) -> Output {
    hubbub(data, args).output().expect("the binary can be started")
}

pub(crate) fn said(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("it says text")
}

/// A running server.
pub(crate) struct Started {
    process: Child,
    _output: BufReader<ChildStdout>,
    /// Where it listens.
    pub(crate) url: String,
}

impl Started {
    /// Starts everything on a data directory and waits until it is ready.
    pub(crate) fn on(data: &Path) -> Self {
        Self::at(data, "127.0.0.1:0")
    }

    /// The same at an address.
    pub(crate) fn at(data: &Path, address: &str) -> Self {
        let flags = ["run", "--listen", address, "--data", "data", "--set", "telemetry.level=warn"];
        let mut process = hubbub(data, &flags).stdout(Stdio::piped()).spawn().expect("the binary can be started");
        let mut output = BufReader::new(process.stdout.take().expect("stdout is piped"));
        let mut line = String::new();
        output.read_line(&mut line).expect("it says something");
        let url =
            line.trim().strip_prefix("Hubbub is ready at ").unwrap_or_else(|| panic!("it tells its address: {line:?}"));
        Self { url: url.to_owned(), process, _output: output }
    }

    /// Host and port.
    pub(crate) fn authority(&self) -> &str {
        self.url.strip_prefix("http://").expect("it is an HTTP address")
    }

    /// The status line and body of a GET.
    pub(crate) fn get(&self, path: &str) -> (String, String) {
        self.request(&format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"))
    }

    /// The same with a token.
    pub(crate) fn get_as(&self, token: &str, path: &str) -> (String, String) {
        let token = format!("authorization: Bearer {token}");
        self.request(&format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{token}\r\n\r\n"))
    }

    /// The status line and body of a POST.
    pub(crate) fn post(&self, path: &str, token: Option<&str>, body: &str) -> (String, String) {
        let token = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
        let length = body.len();
        self.request(&format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{token}content-type: application/json\r\n\
             content-length: {length}\r\n\r\n{body}"
        ))
    }

    fn request(&self, request: &str) -> (String, String) {
        let mut stream = TcpStream::connect(self.authority()).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("it can be bounded");
        stream.write_all(request.as_bytes()).expect("it takes requests");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
        (head.lines().next().expect("a head has a status").to_owned(), body.to_owned())
    }

    /// Sends a signal and waits for the end.
    pub(crate) fn signal(mut self, signal: rustix::process::Signal) -> ExitStatus {
        let id = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(id, signal).expect("it runs");
        ended(&mut self.process)
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// Waits for a process to end, with patience.
pub(crate) fn ended(process: &mut Child) -> ExitStatus {
    let since = Instant::now();
    loop {
        if let Some(status) = process.try_wait().expect("it can be waited for") {
            return status;
        }
        assert!(since.elapsed() < PATIENCE, "it does not end");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}
