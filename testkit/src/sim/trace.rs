//! What happened in a simulation, line by line: two runs of one seed have the same trace, byte for byte.

use std::fmt::{self, Display, Write};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::time::Instant;

/// A growing text. Clones share it.
#[derive(Clone)]
pub struct Trace {
    origin: Instant,
    text: Arc<Mutex<String>>,
}

impl Trace {
    /// An empty trace that begins now.
    pub fn start() -> Self {
        Self { origin: Instant::now(), text: Arc::default() }
    }

    /// Adds a line with the simulated time.
    pub fn say(&self, line: impl Display) {
        let at = self.origin.elapsed().as_micros();
        let mut text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        // Writing to a string can't fail.
        let _infallible = writeln!(text, "{:>8}.{:03} {line}", at / 1_000, at % 1_000);
    }

    /// All of it.
    pub fn text(&self) -> String {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trace")
    }
}
