//! Whether the process lives and is ready, and if not, why: part by part.

use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// The health of the process. Clones share it.
#[derive(Clone, Debug)]
pub struct Health {
    parts: Arc<Mutex<BTreeMap<String, Part>>>,
    ready: watch::Sender<bool>,
}

/// How one part is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Part {
    /// Whether it does its work.
    pub ready: bool,
    /// Why not, or what will soon be wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What `/readyz` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether every part is ready.
    pub ready: bool,
    /// Each part.
    pub parts: BTreeMap<String, Part>,
}

/// One part, reporting.
#[derive(Clone, Debug)]
pub struct Component {
    name: String,
    health: Health,
}

impl Default for Health {
    fn default() -> Self {
        Self { parts: Arc::default(), ready: watch::Sender::new(true) }
    }
}

impl Health {
    /// Of a process without parts.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a part, which is not ready until it says so.
    pub fn component(&self, name: impl Into<String>) -> Component {
        let component = Component { name: name.into(), health: self.clone() };
        component.set(false, Some("starting".to_owned()));
        component
    }

    /// How everything is.
    pub fn report(&self) -> Report {
        let parts = self.parts().clone();
        Report { ready: parts.values().all(|part| part.ready), parts }
    }

    /// Waits until every part is ready.
    pub async fn all_ready(&self) {
        // The sender lives as long as `self`.
        let _ = self.ready.subscribe().wait_for(|ready| *ready).await;
    }

    fn parts(&self) -> MutexGuard<'_, BTreeMap<String, Part>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Component {
    /// It does its work.
    pub fn ready(&self) {
        self.set(true, None);
    }

    /// It does its work, but somebody should look.
    pub fn ready_but(&self, reason: impl Into<String>) {
        self.set(true, Some(reason.into()));
    }

    /// It does not, because.
    pub fn not_ready(&self, reason: impl Into<String>) {
        self.set(false, Some(reason.into()));
    }

    fn set(&self, ready: bool, reason: Option<String>) {
        let mut parts = self.health.parts();
        parts.insert(self.name.clone(), Part { ready, reason });
        let all = parts.values().all(|part| part.ready);
        self.health.ready.send_if_modified(|before| std::mem::replace(before, all) != all);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_ready_when_every_part_is_and_says_why_it_is_not() {
        let health = Health::new();
        let (log, disk) = (health.component("log"), health.component("disk"));
        log.ready();
        assert_eq!(health.report().parts["disk"].reason.as_deref(), Some("starting"));
        assert!(!health.report().ready);
        disk.ready_but("9 GiB left");
        assert!(health.report().ready);
        log.not_ready("no owner");
        assert!(!health.report().ready);
    }
}
