//! The only sockets.
//!
//! [`wire`] is one connection of the data path, with our own codec; [`handshake`] makes it one whose server is known;
//! [`control`] asks everything that is not the data path, through the `redis` crate.
//!
//! # Invariant
//!
//! What decides whether a cursor is alive (`run_id`, the canary) is asked on the very connection that will use it:
//! behind a balancer another connection may lead to another server.

pub mod control;
pub mod handshake;
mod takes;
pub mod wire;

pub use handshake::{Clock, Link, connect_source, connect_target};
pub use takes::Takes;
pub use wire::{LinkError, Reply, Wire, WireReader, WireWriter};
