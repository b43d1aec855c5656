//! The walk of a list of names, instead of a keyspace: nothing is scanned.
//!
//! A place in the list means the same to every server and for ever. So it needs no proof after a restart, and the list may
//! be read for whichever server answers.
//!
//! # Invariant
//!
//! Places are walked in ascending order and none is left out: the next batch begins where the last one ended.

use super::batch::Batch;
use super::engine::Shared;
use super::lane::Trouble;
use crate::client::handshake::unix_ms;
use crate::error::{Class, Error};
use crate::state::record::Position;
use crate::state::{Chunk, KeyList};

/// See the module.
pub struct ListWalk {
    position: Position,
    next_seq: u64,
}

impl ListWalk {
    /// A walk that goes on at `position`; its next batch gets number `seq`.
    pub fn new(position: Position, seq: u64) -> Self {
        Self {
            position,
            next_seq: seq,
        }
    }

    /// Where the next names begin; `None` at the end.
    pub fn next(&self) -> Option<u64> {
        self.position.cursor()
    }

    /// Whether the last name was read.
    pub fn is_over(&self) -> bool {
        self.position == Position::End
    }

    /// The next names have been read.
    pub fn take(&mut self, chunk: &Chunk, in_doubt: impl Fn(u64) -> bool) -> Batch {
        let place = self.next().expect("names are read where there are some");
        let seq = self.next_seq;
        let next = chunk.next.unwrap_or(0);
        let mut batch = Batch::new(seq, place, next, unix_ms(), in_doubt(seq));
        chunk.names().for_each(|name| batch.push(name));
        self.next_seq += 1;
        self.position = Position::after(next);
        batch
    }
}

/// Reads the next names, if the lane has room for them.
///
/// # Cancel safety
///
/// Names that were read and not taken are read again.
pub async fn read_ahead(shared: &Shared, list: &KeyList) -> Result<(), Trouble> {
    let keys_max = shared.env.request.options.batch_keys;
    loop {
        let Some(place) = shared.lane.borrow().wants_names() else {
            return Ok(());
        };
        let list = list.clone();
        let read = tokio::task::spawn_blocking(move || list.read(place, keys_max)).await;
        let read = read.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        let chunk = read.map_err(|error| {
            let doing = "read the list of keys beside the state";
            Trouble::Fatal(Box::new(Error::new(
                Class::StateIo,
                doing,
                error.to_string(),
            )))
        })?;
        shared.lane.borrow_mut().take_names(&chunk);
        shared.settled_wake.notify_one();
        shared.rival_wake.notify_one();
        shared.stray_wake.notify_one();
    }
}
