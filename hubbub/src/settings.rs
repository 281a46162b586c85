//! What `hubbub` can be told, and where it hears it: `hubbub.toml`, `HUBBUB_…`, flags.

use anyhow::{Result, bail};
use runtime::config::{ByteSize, Layers, Origin, Secret};
use runtime::telemetry::{Filter, Format};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What every variable starts with.
pub(crate) const PREFIX: &str = "HUBBUB_";
/// The variable that names the file.
pub(crate) const FILE_VARIABLE: &str = "HUBBUB_CONFIG";
/// The password of `hubbub chat`, for scripts.
pub(crate) const CHAT_PASSWORD_VARIABLE: &str = "HUBBUB_CHAT_PASSWORD";
/// Read if it is there and no other file is named.
const FILE: &str = "hubbub.toml";

runtime::config! {
    /// Everything `hubbub` can be told.
    pub struct Settings {
        /// Where people connect.
        server: Server {
            /// Addresses to listen on, each with a port; port 0 takes any free one. HTTP and WebSocket share it.
            listen: Vec<SocketAddr> = "127.0.0.1:8080",
            /// Web pages that may connect beside the server's own, exactly as a browser names them:
            /// `https://chat.example.org`.
            origins: Vec<String> = "",
            /// How long a shutdown waits for clients to move and for work in hand.
            drain: Duration = "10 s",
            /// Threads that serve; 0 is one a core.
            threads: u16 = "0",
        }
        /// Where an embedded log and store are kept.
        data: Data {
            /// The data directory. One process at a time uses it.
            dir: PathBuf = "./data",
            /// Below this much free space there is a warning.
            warn_free: ByteSize = "1 GiB",
            /// Below this much free space messages are refused until there is more.
            refuse_free: ByteSize = "200 MiB",
        }
        /// The event log.
        log: Log {
            /// `embedded:` keeps it in the data directory; `kafka://host:port` needs a version that speaks Kafka.
            url: String = "embedded:",
            /// Partitions of the timelines, 1 to 1024. Fixed when the log is made.
            partitions: u32 = "4",
        }
        /// Signing in.
        auth: Auth {
            /// The Ed25519 key that signs access tokens, as PEM. None: made at first start and kept in the data directory.
            signing_key: Secret = "",
            /// How long an access token is good for.
            token_lifetime: Duration = "12 h",
        }
        /// What people meet.
        limits: Limits {
            /// Members of a channel, at most 10000.
            channel_members_max: u32 = "100",
            /// Messages of one connection a second, sustained.
            sends_per_second_max: u32 = "20",
            /// Connections of one person at once.
            sessions_per_person_max: u32 = "20",
            /// Connections at once.
            connections_max: u32 = "100000",
        }
        /// What the process says about itself.
        telemetry: Telemetry {
            /// Log lines for people (`text`) or for collectors (`json`), on standard error.
            format: Format = "text",
            /// Which log lines: `error`, `warn`, `info`, `debug`, `trace`, also by crate: `warn,sequencer=debug`.
            level: Filter = "info",
        }
    }
}

/// Every layer: the file, the environment, then flags as (setting, flag, value).
pub(crate) fn layers(file: Option<&Path>, flags: Vec<(String, String, Option<String>)>) -> Result<Layers> {
    let mut layers = Layers::new(Settings::KEYS);
    let named = file.map(Path::to_owned).or_else(|| std::env::var_os(FILE_VARIABLE).map(PathBuf::from));
    match named {
        Some(file) => layers.read_file(&file)?,
        None if Path::new(FILE).exists() => layers.read_file(Path::new(FILE))?,
        None => {}
    }
    let variables =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    layers.read_environment(PREFIX, &[FILE_VARIABLE, CHAT_PASSWORD_VARIABLE], variables)?;
    for (key, flag, value) in flags {
        if let Some(value) = value {
            layers.say(&key, value, Origin::Flag(flag))?;
        }
    }
    Ok(layers)
}

impl Settings {
    /// What types can't say.
    pub(crate) fn check(&self) -> Result<()> {
        if !(1..=1_024).contains(&self.log.partitions) {
            bail!("log.partitions is {}: 1 to 1024 is expected", self.log.partitions);
        }
        let members = self.limits.channel_members_max as usize;
        if !(2..=domain::limits::CHANNEL_MEMBERS_CEILING).contains(&members) {
            bail!(
                "limits.channel_members_max is {members}: 2 to {} is expected",
                domain::limits::CHANNEL_MEMBERS_CEILING
            );
        }
        if self.server.listen.is_empty() {
            bail!("server.listen is empty: at least one address is needed");
        }
        if self.data.refuse_free > self.data.warn_free {
            bail!("data.refuse_free is above data.warn_free: a warning must come before a refusal");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_a_configuration() {
        let settings = Settings::from_layers(&Layers::new(Settings::KEYS)).expect("the defaults fit");
        settings.check().expect("the defaults agree with each other");
    }

    #[test]
    fn the_configuration_page_is_current() {
        let mut page = String::from(
            "# Configuration\n\n<!-- Written by `make docs` from `hubbub/src/settings.rs`. -->\n\n\
             A setting comes from a file (`--config FILE`, `HUBBUB_CONFIG`, or `hubbub.toml` where `hubbub` is started), over it \
             from the environment, over that from a flag. What is no setting is an error that names it. `hubbub config --print` \
             shows what is in force and who said so; `hubbub config --example` writes a file to start from.\n\n\
             Durations have a unit (`250 ms`, `30 s`, `5 min`, `12 h`, `7 d`), sizes may (`64 KiB`, `100 MB`, `1.5 GiB`). In the \
             environment a list is separated by commas. A secret can also be named by file: `…_FILE`.\n",
        );
        page.push_str(&runtime::config::reference(Settings::KEYS, Settings::SECTIONS, PREFIX));
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
        if std::env::var_os("WRITE_DOCS").is_some() {
            std::fs::create_dir_all(path.parent().expect("it has one")).expect("docs/ can be made");
            std::fs::write(&path, &page).expect("the page can be written");
        }
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(written == page, "docs/configuration.md is out of date: run `make docs`");
    }
}
