//! The only binary: every role in one process on the embedded log and store, the terminal client, and the operator's tools.
//!
//! It is also the only place that names adapters: it binds what configuration asks for to what roles take.

mod chat;
mod cli;
mod doctor;
mod settings;
mod signing_key;

use anyhow::{Result, bail};
use clap::Parser as _;
use cli::{Cli, Command, ConfigCommand, ServerFlags};
use settings::Settings;
use std::process::ExitCode;

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("hubbub: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode> {
    match cli.command.unwrap_or(Command::Run(cli.server)) {
        Command::Gateway(flags) => role("gateway", &flags),
        Command::Api(flags) => role("api", &flags),
        Command::Sequencer(flags) => role("sequencer", &flags),
        Command::Writer(flags) => role("writer", &flags),
        Command::Fanout(flags) => role("fanout", &flags),
        Command::Config(command) => config(&command),
        Command::Doctor(flags) => Ok(doctor::run(&flags.settings()?)),
        Command::Chat(flags) => small_runtime()?.block_on(chat::run(flags)).map(|()| ExitCode::SUCCESS),
        _ => bail!("not yet"),
    }
}

/// A part alone makes sense only on a log that other processes can reach.
fn role(name: &str, flags: &ServerFlags) -> Result<ExitCode> {
    let settings = flags.settings()?;
    if settings.log.url.starts_with("kafka://") {
        bail!("this version does not speak Kafka yet: `hubbub` alone runs everything on the embedded log");
    }
    bail!(
        "`hubbub {name}` alone can't share an embedded log with other processes: run `hubbub` for everything in one, or name a shared log with --log kafka://host:port"
    )
}

fn config(command: &ConfigCommand) -> Result<ExitCode> {
    if command.what.example {
        print!("{}", runtime::config::example(Settings::KEYS, Settings::SECTIONS));
    } else {
        let layers = command.server.layers()?;
        Settings::from_layers(&layers)?.check()?;
        print!("{}", runtime::config::print(&layers));
    }
    Ok(ExitCode::SUCCESS)
}

/// For tools: one thread that waits.
fn small_runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}
