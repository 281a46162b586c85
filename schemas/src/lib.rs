//! What leaves the process: Avro records, JSON frames, HTTP types, and the table of topics.
//!
//! Promises: every byte that another process, a browser or a data engineer sees is made or read here. A version is a
//! module; all versions that were ever written can be read, the newest is written; `.avsc` files are the source of truth
//! and change only FULL_TRANSITIVE. It does no IO and decides nothing.

mod avro;
pub mod client_frames;
pub mod cloud_events;
pub mod error_codes;
pub mod event_frames;
pub mod frames;
pub mod http;
pub mod records;
pub mod registry;
pub mod topic_page;
pub mod topics;
