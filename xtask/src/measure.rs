//! Measurements: the bare loops, and a server under load.

use crate::cargo;
use anyhow::{Context as _, Result};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

/// Every bare loop and benchmark of the workspace.
pub(crate) fn bench() -> Result<()> {
    cargo(&["bench", "--workspace", "--benches"])
}

/// Builds both sides in release, starts a server on a directory of its own, and runs `hubbub-load` against it.
pub(crate) fn load(args: &[String]) -> Result<()> {
    cargo(&["build", "--release", "--package", "hubbub", "--package", "loadtest"])?;
    let built = PathBuf::from(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into())).join("release");
    let data = std::env::temp_dir().join(format!("hubbub-load-{}", std::process::id()));
    let (server, url) = start(&built, &data)?;
    let pairs = ["pairs".to_owned(), "--seed".to_owned(), "1".to_owned()];
    let scenario = if args.is_empty() { &pairs[..] } else { args };
    let status = Command::new(built.join("hubbub-load"))
        .args(scenario)
        .args(["--target", &url, "--server-pid", &server.process.id().to_string()])
        .status()
        .context("starting hubbub-load");
    drop(server);
    std::fs::remove_dir_all(&data).ok();
    anyhow::ensure!(status?.success(), "the run missed its thresholds");
    Ok(())
}

/// A server that ends with this value.
struct Server {
    process: Child,
    /// A server whose output goes nowhere would end with a broken pipe.
    output_kept_open: Option<BufReader<ChildStdout>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn start(built: &Path, data: &Path) -> Result<(Server, String)> {
    let mut process = Command::new(built.join("hubbub"))
        .args(["run", "--listen", "127.0.0.1:0", "--data"])
        .arg(data)
        .stdout(Stdio::piped())
        .spawn()
        .context("starting hubbub")?;
    let mut output = BufReader::new(process.stdout.take().expect("stdout is piped"));
    let mut server = Server { process, output_kept_open: None };
    let mut line = String::new();
    while output.read_line(&mut line)? > 0 {
        if let Some(url) = line.split_whitespace().find(|word| word.starts_with("http://")) {
            let url = url.trim_end_matches('.').to_owned();
            server.output_kept_open = Some(output);
            return Ok((server, url));
        }
        line.clear();
    }
    anyhow::bail!("hubbub ended before it told its address")
}
