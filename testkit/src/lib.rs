//! What the tests of more than one role share: the auditor, a socket client, the truth of the log, simulations.

pub mod auditor;
pub mod client;
pub mod cluster;
pub mod sim;
pub mod truth;
