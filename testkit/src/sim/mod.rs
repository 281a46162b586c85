//! The simulation: role code over simulated log, store, network and time, all from one seed.
//!
//! A run is one thread with paused time: what waits, waits for a timer or for another task, so the same seed gives the same
//! trace byte for byte. [`world`] drives people and faults against any [`world::System`] and lets the auditor judge.

pub mod limits;
#[cfg(test)]
mod model;
pub mod net;
pub mod seeds;
pub mod store;
#[cfg(test)]
mod tests;
pub mod time;
pub mod trace;
pub mod world;

pub use seeds::{check_seeds, first_failure};
pub use world::{Setup, System, Verdict, simulate};
