//! From what the operator says to values that the rest can rely on: limits with their reasons, and units.
//!
//! Where the values come from, and who wins, is the command line's business: flag, then environment, then file, then
//! the default that stands here.

pub mod hours;
pub mod limits;
pub mod units;
