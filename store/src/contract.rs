//! The contract every adapter passes.
