//! The command line.

use crate::settings::{self, Settings};
use anyhow::{Result, bail};
use clap::{Args, Parser, Subcommand};
use runtime::config::Layers;
use std::path::PathBuf;

/// Self-hosted realtime chat in one program.
///
/// Without a command it starts everything, with its data in ./data, and tells the address to open.
#[derive(Debug, Parser)]
#[command(
    version,
    arg_required_else_help = false,
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  \
        hubbub                                       start everything on http://127.0.0.1:8080\n  \
        hubbub run --listen 0.0.0.0:80 --data /var/lib/hubbub\n  \
        hubbub chat --user alice                     talk, from a second terminal\n  \
        hubbub tail chat.messages --from start --json | head\n  \
        hubbub backup /backups/2026-11-21            while it runs\n  \
        hubbub doctor                                what would go wrong, and how to mend it"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) server: ServerFlags,
}

/// What every command that looks at the configuration takes.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ConfigFlags {
    /// The configuration file. Default: hubbub.toml, if it is here.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The data directory. Default: ./data.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<String>,
}

/// What a server takes.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ServerFlags {
    #[command(flatten)]
    pub(crate) config: ConfigFlags,
    /// Where to listen; port 0 takes any free one. Default: 127.0.0.1:8080.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) listen: Option<String>,
    /// The event log: embedded: or kafka://host:port. Default: embedded:.
    #[arg(long, value_name = "URL")]
    pub(crate) log: Option<String>,
    /// Any other setting, such as --set limits.connections_max=5000. Repeatable; see `hubbub config --example`.
    #[arg(long = "set", value_name = "SETTING=VALUE")]
    pub(crate) set: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start everything in one process (what `hubbub` alone does).
    #[command(after_help = "Examples:\n  hubbub run --data /var/lib/hubbub\n  hubbub run --listen 127.0.0.1:0\n  \
        HUBBUB_TELEMETRY_FORMAT=json hubbub run")]
    Run(ServerFlags),
    /// Start only the part that holds people's sockets (needs a log that processes share).
    Gateway(ServerFlags),
    /// Start only the HTTP API (needs a log that processes share).
    Api(ServerFlags),
    /// Start only the part that orders messages (needs a log that processes share).
    Sequencer(ServerFlags),
    /// Start only the part that fills the store (needs a log that processes share).
    Writer(ServerFlags),
    /// Start only the part that routes events to people (needs a log that processes share).
    Fanout(ServerFlags),
    /// Talk from a terminal.
    #[command(after_help = "Inside, a line is a message; /help lists the commands.\n\nExamples:\n  \
        hubbub chat                                  asks who you are\n  \
        hubbub chat --user alice --sign-up           a new account\n  \
        echo 'build 42 is out' | HUBBUB_CHAT_PASSWORD=… hubbub chat --user bot --channel releases")]
    Chat(ChatFlags),
    /// Show the configuration: what is in force, or an example to start from.
    #[command(after_help = "Examples:\n  hubbub config --print\n  hubbub config --example > hubbub.toml")]
    Config(ConfigCommand),
    /// Look for what would go wrong, and say how to mend it.
    Doctor(ServerFlags),
    /// Print the records of a topic, also of a running server.
    #[command(after_help = "Examples:\n  hubbub tail chat.messages --from start --json\n  \
        hubbub tail chat.messages --from 2026-11-21T09:00:00Z --follow\n  \
        hubbub tail chat.receipts --partition 3 --from 1200 --json | jq .data")]
    Tail(TailFlags),
    /// Copy log and store, consistent with each other, also of a running server.
    #[command(after_help = "Example:\n  hubbub backup /backups/2026-11-21")]
    Backup {
        /// Where to; made, and must not hold anything yet.
        directory: PathBuf,
        #[command(flatten)]
        config: ConfigFlags,
    },
    /// Make a data directory from a backup.
    #[command(after_help = "Example:\n  hubbub restore /backups/2026-11-21 --data ./data")]
    Restore {
        /// What `hubbub backup` made.
        directory: PathBuf,
        #[command(flatten)]
        config: ConfigFlags,
    },
    /// Cut a damaged log to what is intact, keeping what was cut aside; the store's folds are then made anew from it.
    #[command(after_help = "Only after the start has named damage, and after a copy of the directory.\n\n\
        Example:\n  hubbub repair --data ./data")]
    Repair {
        #[command(flatten)]
        config: ConfigFlags,
    },
    /// For operators.
    #[command(subcommand)]
    Admin(AdminCommand),
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ChatFlags {
    /// The server.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    pub(crate) url: String,
    /// Who you are. Default: asks.
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// Make the account.
    #[arg(long)]
    pub(crate) sign_up: bool,
    /// The channel to open, by title or id. Default: shows yours.
    #[arg(long, value_name = "CHANNEL")]
    pub(crate) channel: Option<String>,
}

#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct ConfigWhat {
    /// What is in force, and who said so. Secrets are dots.
    #[arg(long)]
    pub(crate) print: bool,
    /// A file with every setting, explained.
    #[arg(long)]
    pub(crate) example: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ConfigCommand {
    #[command(flatten)]
    pub(crate) what: ConfigWhat,
    #[command(flatten)]
    pub(crate) server: ServerFlags,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct TailFlags {
    /// Such as chat.messages.
    pub(crate) topic: String,
    /// start, end, an offset, or a time such as 2026-11-21T09:00:00Z.
    #[arg(long, default_value = "end")]
    pub(crate) from: String,
    /// One JSON object a record, with the CloudEvents attributes.
    #[arg(long)]
    pub(crate) json: bool,
    /// Only this partition.
    #[arg(long)]
    pub(crate) partition: Option<u32>,
    /// Wait for more at the end.
    #[arg(long)]
    pub(crate) follow: bool,
    #[command(flatten)]
    pub(crate) config: ConfigFlags,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AdminCommand {
    /// Make accounts user000001, user000002 … with access tokens, for load tests.
    #[command(after_help = "Example:\n  hubbub admin provision --users 1000 --tokens tokens.jsonl")]
    Provision {
        /// How many.
        #[arg(long)]
        users: u32,
        /// Where to write one JSON object a line: {"user","username","token"}.
        #[arg(long, value_name = "FILE")]
        tokens: PathBuf,
        #[command(flatten)]
        config: ConfigFlags,
    },
}

impl ServerFlags {
    /// Every layer of the configuration.
    pub(crate) fn layers(&self) -> Result<Layers> {
        let mut flags = vec![
            ("server.listen".to_owned(), "--listen".to_owned(), self.listen.clone()),
            ("log.url".to_owned(), "--log".to_owned(), self.log.clone()),
        ];
        for setting in &self.set {
            let Some((key, value)) = setting.split_once('=') else {
                bail!("--set {setting}: SETTING=VALUE is expected, such as --set server.threads=2");
            };
            flags.push((key.trim().to_owned(), format!("--set {setting}"), Some(value.trim().to_owned())));
        }
        self.config.layers(flags)
    }

    /// What they say, checked.
    pub(crate) fn settings(&self) -> Result<Settings> {
        checked(&self.layers()?)
    }
}

impl ConfigFlags {
    fn layers(&self, mut flags: Vec<(String, String, Option<String>)>) -> Result<Layers> {
        flags.push(("data.dir".to_owned(), "--data".to_owned(), self.data.clone()));
        settings::layers(self.config.as_deref(), flags)
    }

    /// What they say, checked.
    pub(crate) fn settings(&self) -> Result<Settings> {
        checked(&self.layers(Vec::new())?)
    }
}

fn checked(layers: &Layers) -> Result<Settings> {
    let settings = Settings::from_layers(layers)?;
    settings.check()?;
    Ok(settings)
}
