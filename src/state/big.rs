//! Keys that are copied in pieces: which names on the target are ours for a while, and which values may be complete.
//!
//! # Invariant
//!
//! A temporary name is on disk before the target hears of it, and until it has heard that the name is not needed any
//! more. So whatever ends a run, the next one knows what it has to go on with, or to clear away.

use super::engine::Writes;
use super::error::StoreError;
use super::layout;
use super::record::{BigKeyId, BigRecord};
use super::store::Store;
use crate::temporary::Temporary;

impl Store {
    /// The temporary names of this migration.
    pub fn temporary(&self) -> Temporary {
        let meta = self.meta();
        Temporary::of(&meta.name, &meta.fingerprint, meta.created_ms)
    }

    /// The keys of a lane that are recorded as being copied in pieces.
    pub fn big_keys(&self, lane: u32) -> Result<Vec<(BigKeyId, BigRecord)>, StoreError> {
        let mut found = Vec::new();
        let mut damaged = false;
        self.engine.visit(layout::bigs(lane), |key, value| {
            match layout::parse_big(key).zip(layout::decode(value)) {
                Some(record) => {
                    found.push(record);
                    std::ops::ControlFlow::Continue(())
                }
                None => {
                    damaged = true;
                    std::ops::ControlFlow::Break(())
                }
            }
        })?;
        match damaged {
            true => Err(StoreError::damaged(
                "the record of a big key can't be read",
                &self.dir,
            )),
            false => Ok(found),
        }
    }

    /// Records that a key is copied in pieces, or how far that is; durable on return.
    pub fn put_big_key(
        &mut self,
        lane: u32,
        id: BigKeyId,
        record: &BigRecord,
    ) -> Result<(), StoreError> {
        let mut writes = Writes::default();
        writes.put(layout::big(lane, id), layout::encode(record));
        self.write_through(writes)
    }

    /// Forgets keys whose temporary names the target does not have any more.
    pub fn forget_big_keys(&mut self, lane: u32, ids: &[BigKeyId]) -> Result<(), StoreError> {
        let mut writes = Writes::default();
        for id in ids {
            writes.remove(layout::big(lane, *id));
        }
        self.attempt(|store| {
            store.engine.apply(writes)?;
            store.engine.flush()
        })
    }
}
