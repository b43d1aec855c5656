//! What became of the libraries of functions.

use serde::{Deserialize, Serialize};

/// Libraries of the source, and what became of them on the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionsStatus {
    /// How many the source has.
    pub libraries: u64,
    /// Given to the target by the last run that carried them; the others were there already, and the same.
    pub written: u64,
    /// The target has others of the same name, and keeps them.
    pub kept: u64,
}
