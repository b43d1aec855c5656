//! What both servers have acknowledged, on disk.

pub mod record;
pub mod status;

/// What a checkpoint survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Durability {
    Fsync,
    None,
}
