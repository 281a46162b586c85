//! What the kernel says of a process, from /proc.

use anyhow::{Context as _, Result};
use std::fs;

/// Clock ticks a second in /proc: 100 on every Linux of today.
const TICKS_PER_SECOND: f64 = 100.0;

/// Resident bytes.
pub(crate) fn resident_bytes(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("process {pid}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").trim().parse()?;
    Ok(kib * 1_024)
}

/// CPU seconds used, user and system.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid}"))?;
    // The name may hold anything, so fields are counted behind its parenthesis.
    let (_, fields) = stat.rsplit_once(") ").context("no fields")?;
    let mut ticks = fields.split(' ').skip(11);
    let mut next = || -> Result<f64> { Ok(ticks.next().context("too few fields")?.parse()?) };
    Ok((next()? + next()?) / TICKS_PER_SECOND)
}

/// How many files this process may open; a scenario of many sockets says so before it fails.
pub(crate) fn open_files_max() -> Option<u64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_own_process_has_memory_and_limits() {
        let pid = std::process::id();
        assert!(super::resident_bytes(pid).expect("resident") > 100_000);
        assert!(super::cpu_seconds(pid).expect("seconds") >= 0.0);
        assert!(super::open_files_max().expect("a limit") > 0);
    }
}
