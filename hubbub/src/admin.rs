//! The admin socket of a running server: in the data directory, for its owner only.
//!
//! One JSON line asks, JSON lines answer: `{"line": …}` as often as there is one, then `{"done": true}` or `{"error": …}`.

use crate::tools::{self, Ask, Bench, LINES_QUEUED_MAX};
use anyhow::{Context as _, Result, bail};
use runtime::{Shutdown, Tasks};
use serde::{Deserialize, Serialize};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

const SOCKET: &str = "admin.sock";
/// What a question may have; ours have a few hundred bytes.
const ASK_BYTES_MAX: u64 = 64 * 1024;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Said {
    Line(String),
    Done(bool),
    Error(String),
}

/// The socket's file, removed with this value.
#[derive(Debug)]
pub(crate) struct AdminSocket(PathBuf);

impl Drop for AdminSocket {
    fn drop(&mut self) {
        // A server that starts next removes what a crash has left.
        std::fs::remove_file(&self.0).ok();
    }
}

/// Answers questions until the shutdown.
pub(crate) fn listen(data: &Path, bench: Bench, tasks: &Tasks, shutdown: Shutdown) -> Result<AdminSocket> {
    let path = data.join(SOCKET);
    // We hold the directory's lock: a socket that is there belongs to nobody.
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("removing {}", path.display()));
        }
        _ => {}
    }
    let listener = UnixListener::bind(&path).with_context(|| format!("opening {}", path.display()))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))
        .with_context(|| format!("keeping {} to its owner", path.display()))?;
    let answering = tasks.clone();
    tasks.spawn(async move {
        while let Some(accepted) = shutdown.or_until(listener.accept()).await {
            match accepted {
                Ok((stream, _)) => {
                    let (bench, shutdown) = (bench.clone(), shutdown.clone());
                    answering.spawn(async move {
                        if let Some(Err(error)) = shutdown.or_until(answer(stream, &bench)).await {
                            tracing::debug!(%error, "an admin connection ended early");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "can't accept on the admin socket; trying again");
                    tokio::time::sleep(runtime::limits::ACCEPT_BACK_OFF).await;
                }
            }
        }
    });
    Ok(AdminSocket(path))
}

async fn answer(stream: UnixStream, bench: &Bench) -> Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    let mut read = BufReader::new(read.take(ASK_BYTES_MAX));
    read.read_line(&mut line).await?;
    let ask: Ask = match serde_json::from_str(&line) {
        Ok(ask) => ask,
        Err(error) => return tell(&mut write, &Said::Error(format!("not understood: {error}"))).await,
    };
    tracing::info!(?ask, "an operator asks");
    let (out, mut lines) = mpsc::channel(LINES_QUEUED_MAX);
    let passing = async {
        while let Some(line) = lines.recv().await {
            // Whoever asked has gone: dropping the receiver ends the tool.
            tell(&mut write, &Said::Line(line)).await?;
        }
        drop(lines);
        Ok::<_, anyhow::Error>(write)
    };
    let (done, passed) = tokio::join!(tools::perform(ask, bench, out), passing);
    let mut write = passed?;
    let said = match done {
        Ok(()) => Said::Done(true),
        Err(error) => Said::Error(format!("{error:#}")),
    };
    tell(&mut write, &said).await
}

async fn tell(write: &mut (impl tokio::io::AsyncWrite + Unpin), said: &Said) -> Result<()> {
    let mut line = serde_json::to_vec(said)?;
    line.push(b'\n');
    Ok(write.write_all(&line).await?)
}

/// A running server.
pub(crate) struct Server(UnixStream);

/// The server on a data directory; `None` if none runs there.
pub(crate) async fn connect(data: &Path) -> Result<Option<Server>> {
    let path = data.join(SOCKET);
    match UnixStream::connect(&path).await {
        Ok(stream) => Ok(Some(Server(stream))),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("asking the server at {}", path.display())),
    }
}

impl Server {
    /// Asks; `line` sees every line of the answer.
    pub(crate) async fn ask(self, ask: &Ask, mut line: impl FnMut(&str) -> Result<()>) -> Result<()> {
        let (read, mut write) = self.0.into_split();
        let mut question = serde_json::to_vec(ask)?;
        question.push(b'\n');
        write.write_all(&question).await?;
        let mut answers = BufReader::new(read).lines();
        while let Some(answer) = answers.next_line().await? {
            match serde_json::from_str(&answer)? {
                Said::Line(said) => line(&said)?,
                Said::Done(_) => return Ok(()),
                Said::Error(error) => bail!(error),
            }
        }
        bail!("the server ended before it had answered")
    }
}
