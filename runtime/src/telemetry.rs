//! What the process says about itself: log lines for people or as JSON, on standard error.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::TryInitError;
use tracing_subscriber::{Layer as _, layer::SubscriberExt as _, util::SubscriberInitExt as _};

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people at a terminal.
    Text,
    /// One JSON object a line, for collectors.
    Json,
}

impl crate::config::Value for Format {
    const KIND: &'static str = "text or json";

    fn read(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("text or json is expected".to_owned()),
        }
    }
}

/// Which lines are written, such as `info` or `warn,sequencer=debug`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter(String);

impl crate::config::Value for Filter {
    const KIND: &'static str = "level";

    fn read(text: &str) -> Result<Self, String> {
        EnvFilter::builder().parse(text).map_err(|_| {
            "a level is expected (error, warn, info, debug, trace), also by crate, such as warn,sequencer=debug"
                .to_owned()
        })?;
        Ok(Self(text.to_owned()))
    }
}

/// Starts it for the whole process. An error if it was started before.
pub fn start(format: Format, filter: &Filter) -> Result<(), TryInitError> {
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match format {
        Format::Json => lines.json().flatten_event(true).boxed(),
        Format::Text => lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).boxed(),
    };
    let filter = EnvFilter::builder().parse_lossy(&filter.0);
    tracing_subscriber::registry().with(lines.with_filter(filter)).try_init()
}
