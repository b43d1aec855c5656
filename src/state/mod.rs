//! What both servers have acknowledged, on disk.

pub mod record;
