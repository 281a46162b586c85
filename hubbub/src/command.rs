//! From a command line to what it starts.

use crate::cli::{AdminCommand, Cli, Command, ConfigCommand, ServerFlags, TailFlags};
use crate::settings::Settings;
use crate::tools::{self, Ask};
use crate::{chat, doctor, server};
use anyhow::{Context as _, Result, bail};
use std::fs::OpenOptions;
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::ExitCode;

/// Does what the command line says.
pub(crate) fn run(cli: Cli) -> Result<ExitCode> {
    match cli.command.unwrap_or(Command::Run(cli.server)) {
        Command::Run(flags) => {
            let settings = flags.settings()?;
            if settings.log.url.starts_with("kafka://") {
                return kafka();
            }
            server::run(&settings)
        }
        Command::Gateway(flags) => role("gateway", &flags),
        Command::Api(flags) => role("api", &flags),
        Command::Sequencer(flags) => role("sequencer", &flags),
        Command::Writer(flags) => role("writer", &flags),
        Command::Fanout(flags) => role("fanout", &flags),
        Command::Chat(flags) => done(waiting()?.block_on(chat::run(flags))),
        Command::Config(command) => config(&command),
        Command::Doctor(flags) => Ok(doctor::run(&flags.settings()?)),
        Command::Tail(flags) => done(tail(&flags)),
        Command::Backup { directory, config } => {
            let directory = std::path::absolute(&directory)?;
            done(tool(&config.settings()?, Ask::Backup { directory }, say))
        }
        Command::Restore { directory, config } => {
            let settings = config.settings()?;
            tools::restore(&directory, &settings.data.dir)?;
            done(say(&format!("{} is ready: start hubbub", settings.data.dir.display())))
        }
        Command::Repair { config } => {
            let told = tools::repair(&config.settings()?.data.dir)?;
            done(told.iter().try_for_each(|line| say(line)))
        }
        Command::Admin(AdminCommand::Provision { users, tokens, config }) => {
            done(provision(&config.settings()?, users, &tokens))
        }
    }
}

/// A part alone makes sense only on a log that other processes can reach.
fn role(name: &str, flags: &ServerFlags) -> Result<ExitCode> {
    if flags.settings()?.log.url.starts_with("kafka://") {
        return kafka();
    }
    bail!(
        "`hubbub {name}` alone can't share an embedded log with other processes: run `hubbub` for everything in one, or name a \
         shared log with --log kafka://host:port"
    )
}

fn kafka() -> Result<ExitCode> {
    bail!("this version does not speak Kafka yet: `hubbub` alone runs everything on the embedded log")
}

fn config(command: &ConfigCommand) -> Result<ExitCode> {
    if command.what.example {
        return done(say(runtime::config::example(Settings::KEYS, Settings::SECTIONS).trim_end()));
    }
    let layers = command.server.layers()?;
    Settings::from_layers(&layers)?.check()?;
    done(say(runtime::config::print(&layers).trim_end()))
}

fn tail(flags: &TailFlags) -> Result<()> {
    let ask = Ask::Tail {
        topic: flags.topic.clone(),
        from: flags.from.clone(),
        partition: flags.partition,
        follow: flags.follow,
    };
    tool(&flags.config.settings()?, ask, |line| if flags.json { say(line) } else { say(&tools::as_text(line)?) })
}

fn provision(settings: &Settings, users: u32, tokens: &Path) -> Result<()> {
    // Whoever reads the file is anybody of them.
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(tokens);
    let mut file = BufWriter::new(file.with_context(|| format!("writing {}", tokens.display()))?);
    let mut made = 0;
    tool(settings, Ask::Provision { users }, |line| {
        made += 1;
        Ok(writeln!(file, "{line}")?)
    })?;
    file.flush().with_context(|| format!("writing {}", tokens.display()))?;
    say(&format!("{made} accounts with tokens in {}", tokens.display()))
}

fn tool(settings: &Settings, ask: Ask, line: impl FnMut(&str) -> Result<()>) -> Result<()> {
    waiting()?.block_on(tools::run(settings, ask, line))
}

/// For tools and the client: one thread that waits.
fn waiting() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

fn done(done: Result<()>) -> Result<ExitCode> {
    match done {
        // Whoever read, such as `head`, has enough.
        Err(error) if is_closed_pipe(&error) => Ok(ExitCode::SUCCESS),
        done => done.map(|()| ExitCode::SUCCESS),
    }
}

fn say(line: &str) -> Result<()> {
    Ok(writeln!(std::io::stdout().lock(), "{line}")?)
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
