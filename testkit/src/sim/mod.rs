//! The simulation: the real role code over simulated log, store, network and time, all from one seed.

pub mod limits;
pub mod net;
pub mod time;
pub mod trace;
