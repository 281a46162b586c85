//! `hubbub doctor`: looks at what a server would meet, and names the remedy where something is wrong.

use crate::settings::Settings;
use runtime::data_dir;
use runtime::{Clock as _, SystemClock};
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::UNIX_EPOCH;

/// The version of what is in the data directory. Raised when an older program would misread it.
pub(crate) const DATA_FORMAT: u32 = 1;
/// Handles beside those of connections: segments, databases, listeners.
const HANDLES_BESIDE: u64 = 1_000;
/// 2026-01-01T00:00:00Z. A clock before this program was written is wrong.
const PROGRAM_WRITTEN_MS: u64 = 1_767_225_600_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Good,
    Warn,
    Bad,
}

struct Finding {
    verdict: Verdict,
    about: &'static str,
    found: String,
    remedy: String,
}

/// Prints every finding; fails if one of them would keep a server from working.
pub(crate) fn run(settings: &Settings) -> ExitCode {
    let (lock, in_use) = data_directory(&settings.data.dir);
    let findings = [
        good("version", format!("hubbub {}, data format {DATA_FORMAT}", env!("CARGO_PKG_VERSION"))),
        lock,
        permissions(&settings.data.dir),
        space(settings),
        handles(settings),
        backlog(),
        clock(&settings.data.dir),
        ports(settings, in_use),
    ];
    for finding in &findings {
        let word = match finding.verdict {
            Verdict::Good => "ok  ",
            Verdict::Warn => "warn",
            Verdict::Bad => "BAD ",
        };
        println!("{word}  {:<15} {}", finding.about, finding.found);
        if finding.verdict != Verdict::Good {
            println!("      {:<15} → {}", "", finding.remedy);
        }
    }
    let bad = findings.iter().any(|finding| finding.verdict == Verdict::Bad);
    if bad { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn good(about: &'static str, found: String) -> Finding {
    Finding { verdict: Verdict::Good, about, found, remedy: String::new() }
}

fn data_directory(path: &Path) -> (Finding, bool) {
    let about = "data directory";
    if !path.exists() {
        return (good(about, format!("{} does not exist; the first start makes it", path.display())), false);
    }
    match data_dir::DataDir::open(path, DATA_FORMAT) {
        Ok(_) => (good(about, format!("{} is free", path.display())), false),
        Err(error @ data_dir::Error::InUse { .. }) => (good(about, error.to_string()), true),
        Err(error) => {
            let remedy = match error {
                data_dir::Error::TooNew { .. } => "run the newer version that wrote it",
                data_dir::Error::NoVersion { .. } => "name the right directory with --data, or restore a backup",
                _ => "give the user that runs hubbub the right to read and write it",
            };
            (Finding { verdict: Verdict::Bad, about, found: error.to_string(), remedy: remedy.to_owned() }, false)
        }
    }
}

fn permissions(path: &Path) -> Finding {
    let about = "permissions";
    let Ok(found) = fs::metadata(path) else { return good(about, "nothing there yet".to_owned()) };
    let mode = found.permissions().mode() & 0o777;
    if mode.trailing_zeros() >= 6 {
        // Nothing for group and others.
        return good(about, format!("only the owner can enter ({mode:o})"));
    }
    let found = format!("others can look into {} ({mode:o}): it holds messages and the signing key", path.display());
    Finding { verdict: Verdict::Warn, about, found, remedy: format!("chmod 700 {}", path.display()) }
}

fn space(settings: &Settings) -> Finding {
    let about = "disk space";
    // Before the first start only an ancestor is there.
    let absolute = std::path::absolute(&settings.data.dir).unwrap_or_else(|_| settings.data.dir.clone());
    let existing = absolute.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let free = match runtime::disk::free_bytes(existing) {
        Ok(free) => free,
        Err(error) => {
            let found = format!("can't see how much is free: {error}");
            return Finding { verdict: Verdict::Warn, about, found, remedy: "see `df`".to_owned() };
        }
    };
    let found = format!("{} MiB free at {}", free >> 20, existing.display());
    let remedy = "make room, or move the data directory; messages are refused below data.refuse_free".to_owned();
    match free {
        free if free < settings.data.refuse_free.0 => Finding { verdict: Verdict::Bad, about, found, remedy },
        free if free < settings.data.warn_free.0 => Finding { verdict: Verdict::Warn, about, found, remedy },
        _ => good(about, found),
    }
}

fn handles(settings: &Settings) -> Finding {
    let about = "file handles";
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let wanted = u64::from(settings.limits.connections_max) + HANDLES_BESIDE;
    // A server raises its own limit as far as it may.
    match limit.maximum {
        Some(most) if most < wanted => Finding {
            verdict: Verdict::Warn,
            about,
            found: format!("{most} at most; limits.connections_max needs {wanted}"),
            remedy: format!(
                "raise it (systemd: LimitNOFILE={wanted}; shell: ulimit -Hn {wanted}), or lower limits.connections_max"
            ),
        },
        Some(most) => good(about, format!("up to {most}")),
        None => good(about, "unlimited".to_owned()),
    }
}

fn backlog() -> Finding {
    let about = "listen backlog";
    let wanted = runtime::limits::LISTEN_BACKLOG_CONNECTIONS;
    let most = fs::read_to_string("/proc/sys/net/core/somaxconn").ok().and_then(|text| text.trim().parse::<u32>().ok());
    match most {
        Some(most) if most < wanted => Finding {
            verdict: Verdict::Warn,
            about,
            found: format!("the kernel holds {most} connections; a large crowd that reconnects at once waits"),
            remedy: format!("sysctl -w net.core.somaxconn={wanted}"),
        },
        Some(most) => good(about, format!("{most} connections")),
        None => good(about, "unknown on this system".to_owned()),
    }
}

fn clock(data: &Path) -> Finding {
    let about = "clock";
    let now_ms = SystemClock.now_ms();
    let bad = |found: String| Finding {
        verdict: Verdict::Bad,
        about,
        found,
        remedy: "set the clock and keep it by NTP: tokens and the age of messages hang on it".to_owned(),
    };
    if now_ms < PROGRAM_WRITTEN_MS {
        return bad("the clock is before this program was written".to_owned());
    }
    let newest = fs::read_dir(data)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.metadata().ok()?.modified().ok()?.duration_since(UNIX_EPOCH).ok())
        .map(|since| since.as_millis() as u64)
        .max();
    match newest {
        Some(newest) if newest > now_ms + 60_000 => {
            bad(format!("files in {} are {} s younger than now", data.display(), (newest - now_ms) / 1_000))
        }
        _ => good(about, "plausible".to_owned()),
    }
}

fn ports(settings: &Settings, in_use: bool) -> Finding {
    let about = "port";
    for address in &settings.server.listen {
        if let Err(error) = TcpListener::bind(address) {
            if in_use && error.kind() == std::io::ErrorKind::AddrInUse {
                return good(about, format!("{address} is taken, and a hubbub is running"));
            }
            return Finding {
                verdict: Verdict::Bad,
                about,
                found: format!("{address}: {error}"),
                remedy: "end what listens there (`ss -ltnp`), or choose another with --listen".to_owned(),
            };
        }
    }
    let all: Vec<String> = settings.server.listen.iter().map(ToString::to_string).collect();
    good(about, format!("{} free", all.join(", ")))
}
