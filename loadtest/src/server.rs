//! A server that a scenario starts, kills and starts again.

use crate::link::Target;
use anyhow::{Context as _, Result, ensure};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A server under this client's control. Dies with it.
pub(crate) struct Server {
    command: Vec<String>,
    target: Target,
    process: Child,
}

impl Server {
    /// Starts `command`, split at spaces, and waits until the target takes connections.
    pub(crate) fn start(command: &str, target: &Target) -> Result<Self> {
        let command: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
        ensure!(TcpStream::connect(target.address).is_err(), "{} is taken: a server runs there already", target.url);
        let process = spawn(&command)?;
        let mut server = Self { command, target: target.clone(), process };
        server.wait()?;
        Ok(server)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// `kill -9`: nothing is flushed, nobody is told.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.process.kill().context("killing the server")?;
        self.process.wait()?;
        Ok(())
    }

    /// Starts it again after a kill; how long until it took connections.
    pub(crate) fn restart(&mut self) -> Result<Duration> {
        let began = Instant::now();
        self.process = spawn(&self.command)?;
        self.wait()?;
        Ok(began.elapsed())
    }

    fn wait(&mut self) -> Result<()> {
        const START_TIMEOUT: Duration = Duration::from_mins(1);
        let began = Instant::now();
        while TcpStream::connect(self.target.address).is_err() {
            if let Some(status) = self.process.try_wait()? {
                anyhow::bail!("the server ended at once: {status}");
            }
            ensure!(began.elapsed() < START_TIMEOUT, "the server takes no connections at {}", self.target.url);
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

fn spawn(command: &[String]) -> Result<Child> {
    let (program, arguments) = command.split_first().context("no server to start: give --server")?;
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .with_context(|| format!("starting {program}"))
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
