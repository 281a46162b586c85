//! Every test of the workspace, with one total as the last line.

use crate::tree;
use anyhow::{Context as _, Result};
use std::fmt;
use std::io::{BufRead, BufReader, Write as _};
use std::process::{Command, ExitCode, Stdio};

/// What `cargo test` said about all its binaries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Total {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Total {
    /// Adds a `test result:` line; other lines are not for it.
    fn add(&mut self, line: &str) {
        let Some(result) = line.trim_start().strip_prefix("test result: ") else { return };
        for part in result.split([';', '.']) {
            let mut words = part.split_whitespace();
            let (Some(count), Some(of)) = (words.next().and_then(|n| n.parse::<u64>().ok()), words.next()) else {
                continue;
            };
            match of {
                "passed" => self.passed += count,
                "failed" => self.failed += count,
                "ignored" => self.skipped += count,
                _ => {}
            }
        }
    }
}

impl fmt::Display for Total {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 {
            write!(f, ", {} skipped", self.skipped)?;
        }
        Ok(())
    }
}

/// Runs `cargo test`, shows what it says as it says it, and ends with the total.
pub(crate) fn run(args: &[String]) -> Result<ExitCode> {
    let mut command = Command::new(tree::cargo());
    command.args(["test", "--no-fail-fast"]);
    if args.is_empty() {
        command.arg("--workspace");
    }
    if std::env::var_os("CI").is_some() {
        // A lock file that lags behind is a fault of the commit, not something to mend here.
        command.arg("--locked");
    }
    let mut tests =
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("starting cargo test")?;
    let output = tests.stdout.take().expect("stdout is piped");
    let mut total = Total::default();
    let mut screen = std::io::stdout().lock();
    for line in BufReader::new(output).split(b'\n') {
        // A test may print anything; only what libtest says has to be text.
        let line = line.context("reading what cargo test says")?;
        let line = String::from_utf8_lossy(&line);
        total.add(&line);
        writeln!(screen, "{line}")?;
    }
    let ended = tests.wait().context("waiting for cargo test")?;
    if !ended.success() && total.failed == 0 {
        // It did not compile, or a test binary was killed before it could count.
        total.failed = 1;
        writeln!(screen, "\ncargo test ended with {ended}: counted as one failure")?;
    }
    writeln!(screen, "\n{total}")?;
    Ok(if ended.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_adds_up_the_results_of_all_binaries() {
        let mut total = Total::default();
        for line in [
            "running 3 tests",
            "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.52s",
            "test result: FAILED. 14 passed; 2 failed; 1 ignored; 0 measured; 7 filtered out; finished in 12.00s",
            "passed 5; this is what a test printed",
        ] {
            total.add(line);
        }
        assert_eq!(total, Total { passed: 17, failed: 2, skipped: 1 });
        assert_eq!(total.to_string(), "17 passed, 2 failed, 1 skipped");
    }

    #[test]
    fn nothing_skipped_is_not_mentioned() {
        assert_eq!(Total { passed: 4, failed: 0, skipped: 0 }.to_string(), "4 passed, 0 failed");
    }
}
