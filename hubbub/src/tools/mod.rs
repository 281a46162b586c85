//! The operator's tools. Each works on log and store as they are held: by the running server, which is asked over its admin
//! socket, or, with no server, by this process, which then takes the lock.

mod backup;
mod moment;
mod provision;
mod record_json;
mod repair;
mod tail;

use crate::doctor::DATA_FORMAT;
use crate::embedded::{self, Kept};
use crate::settings::Settings;
use crate::{admin, signing_key};
use anyhow::{Context as _, Result};
use runtime::access_tokens::Signer;
use runtime::data_dir::DataDir;
use runtime::{Entropy, SharedClock, SharedEntropy, SystemClock};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::mpsc;

pub(crate) use backup::restore;
pub(crate) use repair::repair;
pub(crate) use tail::as_text;

/// Lines of an answer that wait for whoever reads them; a slow reader slows the tool, nothing else.
pub(crate) const LINES_QUEUED_MAX: usize = 256;

/// What a tool is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub(crate) enum Ask {
    Tail { topic: String, from: String, partition: Option<u32>, follow: bool },
    Backup { directory: PathBuf },
    Provision { users: u32 },
}

/// What a tool works with.
#[derive(Clone, Debug)]
pub(crate) struct Bench {
    pub(crate) kept: Kept,
    pub(crate) signer: Arc<Signer>,
    pub(crate) token_seconds: u64,
    pub(crate) clock: SharedClock,
    pub(crate) entropy: SharedEntropy,
}

/// Does what was asked; every line of the answer goes into `out`. Ends early when nobody reads them any more.
pub(crate) async fn perform(ask: Ask, bench: &Bench, out: mpsc::Sender<String>) -> Result<()> {
    match ask {
        Ask::Tail { topic, from, partition, follow } => {
            tail::run(&bench.kept.log(), &topic, &from, partition, follow, out).await
        }
        Ask::Backup { directory } => backup::run(&bench.kept, &directory, out).await,
        Ask::Provision { users } => provision::run(bench, users, out).await,
    }
}

/// Asks the running server, or does it here; `line` sees every line of the answer.
pub(crate) async fn run(settings: &Settings, ask: Ask, line: impl FnMut(&str) -> Result<()>) -> Result<()> {
    let directory = &settings.data.dir;
    anyhow::ensure!(directory.is_dir(), "{} does not exist: name the data directory with --data", directory.display());
    if let Some(server) = admin::connect(directory).await? {
        return server.ask(&ask, line).await;
    }
    let data = DataDir::open(directory, DATA_FORMAT)?;
    let (clock, entropy) = (Arc::new(SystemClock) as SharedClock, Entropy::from_os());
    let signer = signing_key::load(&settings.auth.signing_key, data.path(), &entropy, clock.clone())?;
    let kept = embedded::open(data.path(), settings, &clock).await?;
    let token_seconds = settings.auth.token_lifetime.as_secs();
    let bench = Bench { kept: kept.clone(), signer: Arc::new(signer), token_seconds, clock, entropy };
    let done = collect(|out| perform(ask, &bench, out), line).await;
    kept.close().await.context("closing log and store")?;
    done
}

/// Runs a tool and hands its lines on as they come.
async fn collect<F>(
    tool: impl FnOnce(mpsc::Sender<String>) -> F,
    mut line: impl FnMut(&str) -> Result<()>,
) -> Result<()>
where
    F: Future<Output = Result<()>>,
{
    let (out, mut lines) = mpsc::channel::<String>(LINES_QUEUED_MAX);
    let reading = async {
        while let Some(said) = lines.recv().await {
            line(&said)?;
        }
        // Nothing more is wanted if a line could not be handed on: dropping the receiver ends the tool.
        drop(lines);
        Ok(())
    };
    let (done, read) = tokio::join!(tool(out), reading);
    read.and(done)
}
