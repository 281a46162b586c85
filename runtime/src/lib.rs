//! The process shell, without a word of chat: clock, entropy, tasks, shutdown, configuration, telemetry, health, listeners.
//!
//! Promises: roles get time, randomness and spawning only through the handles here, so that a simulation owns all three;
//! a shutdown reaches every task, and each has a bounded time to end.

// handles that roles hold
pub mod clock;
pub mod entropy;
pub mod shutdown;
pub mod tasks;
// who may
pub mod access_tokens;
// what the process is told, and what it says
pub mod config;
pub mod health;
pub mod telemetry;
// what the process holds
pub mod data_dir;
pub mod disk;
pub mod limits;
pub mod listener;
pub mod signals;

pub use clock::{Clock, SharedClock, SystemClock};
pub use entropy::{Entropy, SharedEntropy};
pub use health::Health;
pub use shutdown::Shutdown;
pub use tasks::Tasks;
