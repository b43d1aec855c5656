//! What is inside a DUMP payload.
//!
//! # Invariants
//!
//! Nothing in here does I/O or panics on any input.
#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

pub mod decode;
pub mod dialect;
pub mod encode;
pub mod footer;
pub mod module;
pub mod string;
pub mod visit;
