//! The fault wrapper.
