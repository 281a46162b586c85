//! The only binary: every role in one process on the embedded log and store, the terminal client, and the operator's tools.
//!
//! It is also the only place that names adapters: it binds what configuration asks for to what roles take.

mod admin;
mod chat;
mod cli;
mod command;
mod doctor;
mod embedded;
mod front;
mod generation;
mod guarded_log;
mod server;
mod settings;
mod signing_key;
mod tools;

use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    match command::run(cli::Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("hubbub: {error:#}");
            ExitCode::FAILURE
        }
    }
}
