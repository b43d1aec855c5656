//! What was done, by which run, in which order.
//!
//! # Invariant
//!
//! Nothing in here asks a server: the audit tells what was recorded, not what is there now.

pub mod check;
pub mod entry;
pub mod journal;
pub mod reader;
pub mod report;
