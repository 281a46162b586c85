//! The process shell, without a word of chat: clock, entropy, tasks, shutdown, configuration, telemetry, health, listeners.
//!
//! Promises: roles get time, randomness and spawning only through the handles here, so that a simulation owns all three;
//! a shutdown reaches every task, and each has a bounded time to end.

pub mod access_tokens;
pub mod clock;
pub mod entropy;
pub mod shutdown;
pub mod tasks;

pub use clock::{Clock, SharedClock, SystemClock};
pub use entropy::{Entropy, SharedEntropy};
pub use shutdown::Shutdown;
pub use tasks::Tasks;
