//! The only sockets.
//!
//! [`wire`] is one connection, with our own codec, and opens it, encrypted by [`tls`] where that was asked for;
//! [`handshake`] makes it one whose server is known; [`control`] asks everything that is not the data path, through the
//! `redis` crate, on a connection that was opened and logged in the same way. [`canary`] proves a cursor alive,
//! [`functions`] are not keys, [`retry`] says how long a server is waited for, [`served`] what it was asked meanwhile,
//! [`sizes`] whether it may have big keys,
//! [`cluster`] knows the nodes of a cluster, and [`sentinel`] finds the master of a service.
//!
//! # Invariant
//!
//! What decides whether a cursor is alive (`run_id`, the canary) is asked on the very connection that will use it:
//! behind a balancer another connection may lead to another server.

pub mod canary;
pub mod cluster;
pub mod control;
pub mod databases;
pub mod functions;
pub mod handshake;
pub mod master;
pub mod retry;
mod rivals;
pub mod seeds;
mod seen;
pub mod sentinel;
pub mod served;
pub mod sizes;
mod takes;
pub mod tls;
pub mod topology;
pub mod wire;

pub use cluster::Nodes;
pub use handshake::{Clock, Link, connect_source, connect_target, connect_target_node};
pub use rivals::Rivals;
pub use sentinel::SentinelError;
pub use takes::Takes;
pub use tls::TlsError;
pub use wire::{LinkError, Reply, Wire, WireReader, WireWriter};
