//! Big keys: compared beside the lane, one at a time and in pieces, so that none keeps a server busy for long.
//!
//! DUMP of a hash with a million fields keeps a server busy for two seconds. So such a key is read on both sides at once
//! in small answers, each under a WATCH, and digested as it comes ([`crate::gentle`]); the digest is the one that its payload
//! would have. An EXEC on each side, when both have been read, is the proof that it did not change meanwhile. A key that
//! changes is read again; one that changes each time is left to DUMP, which shows it at one moment.
//!
//! # Invariants
//!
//! - A verdict is made only of readings that both servers have confirmed.
//! - Of a value an answer of each side is in memory, and never all of it.
//! - Nothing here comes from the copy.

mod ends;
mod survey;
mod work;

pub use survey::survey;

use std::rc::Rc;
use std::time::Instant;

use super::engine::{End, Shared};
use work::Work;

/// Compares the big keys of a lane.
pub async fn compare_big_keys(shared: Rc<Shared>) -> End {
    let mut work = Work::new(&shared);
    loop {
        let notes = shared.lane.borrow_mut().take_notes();
        notes.into_iter().for_each(|note| shared.env.warn(note));
        let Some(big) = ({ shared.lane.borrow_mut().take_big() }) else {
            shared.big.notified().await;
            continue;
        };
        // Its size counts as met.
        shared.survey.notify_one();
        let end = match work.compare(&big).await {
            Ok(end) => end,
            Err(end) => return end,
        };
        crate::crash_point!("big_key_compared");
        let now = Instant::now();
        shared.lane.borrow_mut().big_ended(big.key, end, now);
        shared.wake();
        shared.settled.notify_one();
    }
}
