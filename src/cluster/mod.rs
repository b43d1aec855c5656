//! Redis Cluster: which slot a key belongs to, which node has a slot, how slots are walked, and what a redirection says.
//!
//! # Invariant
//!
//! No input or output. What a cluster says about itself may be old by the time it is read: nothing here is ever taken
//! as proof that a node has a slot. Only the node's own answer to a command in that slot is.

mod redirect;
mod slot;
mod topology;
mod walk;

pub use redirect::Redirect;
pub use slot::{Probes, SLOTS, Slot, hashed_part, slot_of};
pub use topology::{Node, NodeAddress, SlotRange, Topology, TopologyError};
pub use walk::{Listed, SlotWalk};
