//! The tasks behind `make`: tests with one total, tidy checks, generated pages, measurements.
//!
//! Promises: what `make` runs on a developer's machine is what continuous integration runs. It links none of Hubbub's
//! crates, so that it builds in seconds and can judge a workspace that does not compile.

mod docs;
mod measure;
mod suite;
mod tidy;
mod tree;

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand};
use std::process::{Command, ExitCode};

/// The tasks behind `make`.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run every test of the workspace and print one total.
    Test {
        /// Passed on to `cargo test`, such as `-p domain`; without any, the whole workspace.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Format, lint and tidy, changing nothing.
    Check,
    /// The workspace's own rules only.
    Tidy,
    /// Write the generated pages and tables anew.
    Docs,
    /// Measure the bare loops that figures are compared with.
    Bench,
    /// Start a server and put load on it.
    Load {
        /// Passed on to `hubbub-load` instead of `pairs`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

fn main() -> ExitCode {
    match run(Args::parse().task) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<ExitCode> {
    std::env::set_current_dir(tree::root()).context("entering the workspace's root")?;
    match task {
        Task::Test { args } => return suite::run(&args),
        Task::Check => check()?,
        Task::Tidy => tidy()?,
        Task::Docs => docs::write()?,
        Task::Bench => measure::bench()?,
        Task::Load { args } => measure::load(&args)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn check() -> Result<()> {
    cargo(&["fmt", "--all", "--check"])?;
    cargo(&["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"])?;
    tidy()
}

fn tidy() -> Result<()> {
    let complaints = tidy::all()?;
    for complaint in &complaints {
        eprintln!("{complaint}");
    }
    if !complaints.is_empty() {
        bail!("tidy has {} complaints", complaints.len());
    }
    println!("tidy: nothing to say");
    Ok(())
}

/// Runs cargo, which tells its own story; an error only says that it failed.
fn cargo(args: &[&str]) -> Result<()> {
    let status = Command::new(tree::cargo()).args(args).status().context("starting cargo")?;
    if !status.success() {
        bail!("cargo {} failed", args.join(" "));
    }
    Ok(())
}
