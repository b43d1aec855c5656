//! What is kept of a key that is copied in pieces.

use serde::{Deserialize, Serialize};

/// The first bytes of the BLAKE3 of a key's name on the source.
pub type BigKeyId = [u8; 16];

/// A key that is copied in pieces, from before its first piece is written until its batch is durable.
///
/// How much of it has arrived is not here: the target says that, in the same step in which a piece arrives, and so
/// forgets it with the piece.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BigRecord {
    /// Pass in which it was met.
    pub pass: u32,
    /// Batch in which it was met.
    pub seq: u64,
    /// What its value is called while it is put together.
    pub temporary: Vec<u8>,
    /// Where the target says how much of that is there.
    pub mark: Vec<u8>,
    /// All pieces are there, and the value may bear its own name already.
    pub renaming: bool,
}
