//! What the tests of more than one role share: the auditor, a socket client, a cluster in a process, simulated adapters.

pub mod auditor;
pub mod client;
