//! Free space, watched: a warning before it is short, a refusal before it is gone, and healing by itself.

use crate::config::ByteSize;
use crate::health::Component;
use crate::limits::DISK_LOOK;
use crate::{Shutdown, Tasks};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How much has to be free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserve {
    /// Below it there is a warning.
    pub warn: ByteSize,
    /// Below it nothing new is taken, so that what was taken can still be finished and the operator can still work.
    pub refuse: ByteSize,
}

/// Whether there is room. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Room(Arc<AtomicBool>);

impl Room {
    /// There is none: refuse what would be stored.
    pub fn is_full(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Bytes that an ordinary process can still write on the file system of `path`.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(path)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Watches the file system of `path` until the shutdown, and tells health. The first look is taken before it returns.
pub fn watch(path: PathBuf, reserve: Reserve, component: Component, tasks: &Tasks, shutdown: Shutdown) -> Room {
    let mut watcher = Watcher { path, reserve, component, room: Room::default(), level: Level::Enough };
    let room = watcher.room.clone();
    watcher.component.ready();
    let free = free_bytes(&watcher.path);
    watcher.look(free);
    tasks.spawn(async move {
        while shutdown.or_until(tokio::time::sleep(DISK_LOOK)).await.is_some() {
            let free = free_bytes(&watcher.path);
            watcher.look(free);
        }
    });
    room
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Enough,
    Low,
    Full,
}

struct Watcher {
    path: PathBuf,
    reserve: Reserve,
    component: Component,
    room: Room,
    level: Level,
}

impl Watcher {
    fn look(&mut self, free: io::Result<u64>) {
        let free = match free {
            Ok(free) => free,
            Err(error) => {
                // The next write will tell; a failed look is no reason to refuse.
                tracing::warn!(%error, path = %self.path.display(), "can't see how much space is free");
                return;
            }
        };
        let level = match free {
            free if free < self.reserve.refuse.0 => Level::Full,
            free if free < self.reserve.warn.0 => Level::Low,
            _ => Level::Enough,
        };
        if level == self.level {
            return;
        }
        self.level = level;
        self.room.0.store(level == Level::Full, Ordering::Relaxed);
        let free_mib = free >> 20;
        match level {
            Level::Enough => {
                tracing::info!(free_mib, "there is enough space again");
                self.component.ready();
            }
            Level::Low => {
                tracing::warn!(free_mib, path = %self.path.display(), "space is running out");
                self.component.ready_but(format!(
                    "{free_mib} MiB left; below {} MiB messages are refused",
                    self.reserve.refuse.0 >> 20
                ));
            }
            Level::Full => {
                tracing::error!(free_mib, path = %self.path.display(), "no space left: messages are refused until there is");
                self.component
                    .not_ready(format!("{free_mib} MiB left: messages are refused until there is more space"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Health;

    #[test]
    fn space_is_warned_about_then_refused_and_heals() {
        let health = Health::new();
        let reserve = Reserve { warn: ByteSize(200), refuse: ByteSize(100) };
        let component = health.component("disk");
        component.ready();
        let mut watcher = Watcher { path: "/".into(), reserve, component, room: Room::default(), level: Level::Enough };
        for (free, full, ready, reason) in
            [(150, false, true, true), (99, true, false, true), (100, false, true, true), (200, false, true, false)]
        {
            watcher.look(Ok(free));
            let report = health.report();
            assert_eq!((watcher.room.is_full(), report.ready), (full, ready), "{free}");
            assert_eq!(report.parts["disk"].reason.is_some(), reason, "{free}");
        }
        watcher.look(Err(io::ErrorKind::NotFound.into()));
        assert!(!watcher.room.is_full());
    }

    #[test]
    fn free_space_of_a_directory_that_exists_can_be_seen() {
        assert!(free_bytes(Path::new("/")).expect("the root exists") > 0);
    }
}
