//! The code of a library, as FUNCTION RESTORE takes it.

use super::writer::Writer;
use crate::rdb::decode::LIBRARY;

/// The version of Redis 7.0, the first with functions. Whoever has them takes it, also Valkey 9, which refuses those of
/// newer versions of Redis.
const VERSION: u16 = 10;

/// The payload of one library. Its code is text, and means the same to every server.
pub fn library(code: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new(LIBRARY, u64::MAX);
    writer.string(code);
    writer.finish(VERSION)
}
