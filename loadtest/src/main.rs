//! `hubbub-load`: puts people on a Hubbub and measures what they get, beside bare loops that show what the machine could do.
//!
//! Promises: latencies of open-loop runs count from the intended time; a run in which this client itself lagged is void; whatever is
//! lost, duplicated or out of order is seen, because seqs are dense. It knows the server only by its protocol.

mod bare;
mod corpus;
mod figures;
mod idle;
mod ids;
mod limits;
mod link;
mod people;
mod process;
mod replay;
mod report;
mod scan;
mod scenarios;
mod schedule;
mod server;
mod talk;
mod wire;

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Puts load on a Hubbub and checks that every message arrives, once, in order.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Subcommand)]
enum Scenario {
    /// People in pairs send at times of their own (open loop).
    Pairs {
        /// Messages a second, of all people together.
        #[arg(long, default_value_t = 1_736.0)]
        rate: f64,
        #[command(flatten)]
        load: Load,
    },
    /// People in pairs send as fast as they get acks (closed loop).
    Max {
        /// Unacknowledged messages a person.
        #[arg(long, default_value_t = 4)]
        unacked: usize,
        #[command(flatten)]
        load: Load,
    },
    /// One group in which everybody sends as fast as they get acks, or at a rate.
    Group {
        /// Unacknowledged messages a person.
        #[arg(long, default_value_t = 4)]
        unacked: usize,
        /// Messages a second of all together, instead of as fast as acks come.
        #[arg(long)]
        rate: Option<f64>,
        #[command(flatten)]
        load: Load,
    },
    /// Sockets that only keep alive: time to connect, memory of each.
    Idle {
        /// Sockets; people without one of their own share.
        #[arg(long, default_value_t = 10_000)]
        connections: usize,
        /// How long to hold them, in seconds.
        #[arg(long, default_value_t = 60)]
        hold: u64,
        #[command(flatten)]
        load: Load,
    },
    /// `pairs` on a server that is killed with -9 and started again; afterwards every ack is looked for in history.
    Kill {
        /// The command that starts the server at the target, split at spaces.
        #[arg(long)]
        server: String,
        /// How often it is killed, evenly over the run.
        #[arg(long, default_value_t = 3)]
        kills: u32,
        /// Messages a second, of all people together.
        #[arg(long, default_value_t = 1_736.0)]
        rate: f64,
        #[command(flatten)]
        load: Load,
    },
    /// Real conversations from IRC logs, one channel a file; afterwards history is compared with the files.
    Replay {
        /// Folder of the logs (`*.txt`).
        #[arg(long)]
        corpus: PathBuf,
        /// So many times the speed of the logs' own clock; without it, as fast as acks come.
        #[arg(long)]
        speed: Option<f64>,
        /// Start this command as the server, kill it with -9 half way, and start it again.
        #[arg(long)]
        kill_server: Option<String>,
        /// Write nick, username and user id of everybody here.
        #[arg(long)]
        names: Option<PathBuf>,
        #[command(flatten)]
        load: Load,
    },
    /// Shows two reports side by side; `--require` then judges the ratio B / A.
    Compare {
        /// Report A.
        a: PathBuf,
        /// Report B.
        b: PathBuf,
        /// `delivered_per_s>=0.4`: the ratio of a figure. Repeatable.
        #[arg(long)]
        require: Vec<String>,
    },
    /// Bare loop: append and fdatasync whatever gathered, under the schedule of `pairs`.
    BareCommit {
        /// On whose disk.
        #[arg(long, default_value = ".")]
        folder: PathBuf,
        /// Bytes of a record.
        #[arg(long, default_value_t = 360)]
        record_bytes: usize,
        /// Messages a second.
        #[arg(long, default_value_t = 1_736.0)]
        rate: f64,
        #[command(flatten)]
        load: Load,
    },
    /// Bare loop: `max` over a relay without a log.
    BareRelay {
        /// Write every frame by itself instead of all that came together.
        #[arg(long)]
        lone_writes: bool,
        /// Unacknowledged messages a person.
        #[arg(long, default_value_t = 4)]
        unacked: usize,
        #[command(flatten)]
        load: Load,
    },
    /// Bare loop: `group` over a relay without a log.
    BareGroup {
        /// Unacknowledged messages a person.
        #[arg(long, default_value_t = 4)]
        unacked: usize,
        #[command(flatten)]
        load: Load,
    },
    /// The relay of `bare-relay` and `bare-group`, which start it themselves.
    BareRelayServer {
        /// How many people there will be.
        #[arg(long)]
        people: usize,
        /// How many talk to each other.
        #[arg(long)]
        group: usize,
        /// Write every frame of a pair by itself.
        #[arg(long)]
        lone_writes: bool,
    },
}

/// What all scenarios take.
#[derive(Args)]
struct Load {
    /// A server, as http://host:port. Repeatable: people are spread over them.
    #[arg(long)]
    target: Vec<String>,
    /// People with their tokens, as `hubbub admin provision` writes them. Without it they sign up, which costs a hash each.
    #[arg(long)]
    tokens: Option<PathBuf>,
    /// People. Default: 1,000, or 100 in a group.
    #[arg(long)]
    people: Option<usize>,
    /// Bytes of a message's text.
    #[arg(long, default_value_t = 100)]
    body_bytes: usize,
    /// Measured seconds.
    #[arg(long, default_value_t = 20.0)]
    seconds: f64,
    /// Seconds before that are not measured.
    #[arg(long, default_value_t = 5.0)]
    warmup: f64,
    /// Seconds to wait at the end for what is under way.
    #[arg(long, default_value_t = 30.0)]
    drain: f64,
    /// Decides who sends when.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Threads of this client.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// The server's process, for its memory and CPU.
    #[arg(long)]
    server_pid: Option<u32>,
    /// Write the report here.
    #[arg(long)]
    json: Option<PathBuf>,
    /// A threshold: `ack_ms.p99<=5`, `delivered_per_s>=50000`. Repeatable. Missed: the exit code is 1.
    #[arg(long)]
    require: Vec<String>,
}

impl Load {
    fn seconds(of: f64) -> Duration {
        Duration::from_secs_f64(of.max(0.0))
    }
}

fn main() -> ExitCode {
    match scenarios::run(Cli::parse().scenario) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("hubbub-load: {error:#}");
            ExitCode::from(2)
        }
    }
}
