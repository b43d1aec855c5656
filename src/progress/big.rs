//! The big key that is being copied.

use serde::{Deserialize, Serialize};

/// How far a key is that is copied in pieces.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BigKeyStatus {
    /// Database on the source.
    pub db: u32,
    /// The key, escaped.
    pub key: String,
    /// About the bytes that it has.
    pub bytes: u64,
    /// Share of it that was read.
    pub percent: f64,
    /// How often it has been begun: it is read again where it changes meanwhile.
    pub readings: u32,
}
