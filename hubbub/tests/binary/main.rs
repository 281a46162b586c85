//! The real binary, started as people and scripts start it.

mod chat;
mod server;
mod started;
mod tools;
