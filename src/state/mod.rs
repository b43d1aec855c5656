//! What both servers have acknowledged, on disk: one folder a migration, opened by one process at a time.
//!
//! [`open`] gives a [`Store`]; a [`Recorder`] takes the store on a thread of its own, makes batches durable in groups
//! and says how far it is. `redknot status` reads [`status`] files beside a running migration, without any lock.
//!
//! # Invariants
//!
//! - What [`Store::commit`] has returned for survives a killed process and a power cut ([`Durability::Fsync`]).
//! - A batch, the checkpoint that counts it and the keys that it quarantined are written together or not at all.
//! - A state that is damaged, emptied, foreign or newer is refused, never guessed at, and never deleted.
//! - An error of the disk is final: from then on the store refuses every write.
//! - Nothing in here knows a server, and no other module names the storage engine.

pub mod control;
pub mod record;
pub mod status;

mod big;
mod chain;
mod commit;
mod compare;
mod engine;
mod error;
mod folder;
pub mod inspect;
mod key_list;
mod layout;
mod lock;
mod open;
mod plan;
mod pulse;
mod reader;
mod rebuild;
mod recorded;
mod recorder;
mod repair;
mod report;
mod retell;
mod store;
#[cfg(test)]
mod tests;
mod verify;
mod walked;
mod watchdog;
mod witness;

pub use commit::{AcknowledgedBatch, Commit};
pub use compare::{Candidate, CompareCommit, Finding};
pub use error::{IoFailure, StoreError};
pub use key_list::{Chunk, KeyList, ListWriter, NewList};
pub use open::open;
pub use plan::{journal_of, plan_of};
pub use pulse::Pulse;
pub use reader::{QuarantinedKey, Reader};
pub use rebuild::{Rebuilt, rebuild};
pub use recorded::Coverage;
pub use recorder::{Durable, Handle, Recorder};
pub use repair::RepairCommit;
pub use report::{report, write_report};
pub use store::{Durability, OpenRequest, Store};
pub use walked::Walked;

/// Unix time in milliseconds; 0 on a clock before 1970.
fn now_ms() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
}
