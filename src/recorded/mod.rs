//! What the target should hold once the source is gone: 32 bytes for each key that was copied (`--record-digests`).
//!
//! [`entry`] is what is kept of a key, [`digesting`] makes it from a value and holds a value of the target against it,
//! [`table`] finds the entry of a name. The copy makes entries when the target acknowledges, the state keeps them with the
//! batch that counts them, and `redknot compare --recorded` reads them back.
//!
//! # Invariants
//!
//! - Pure: no I/O, no clock.
//! - What is kept of a value is cut from its canonical digest ([`crate::digest`]), so the target may hold it in whatever
//!   encoding.
//!
//! # How sure "as recorded" is
//!
//! A name is known by 13 bytes of its XXH3, a value by 12 of its digest. Of n keys of the target and m recorded ones, a
//! name is taken for another with a probability of about n·m / 2^104: for a thousand million each 5 in 10^14. A value that
//! is another one passes with 2^-96; in a hash whose fields expire with 2^-48, since the other half of its place holds
//! when the first of them does.

pub mod digesting;
pub mod entry;
pub mod table;

pub use digesting::{Digesting, Likeness, Value};
pub use entry::{ENTRY_BYTES, Entry, Outcome};
pub use table::Table;
