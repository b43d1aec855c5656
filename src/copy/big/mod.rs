//! Big keys: copied beside the lane, one at a time and in pieces, so that none keeps a server busy for long.
//!
//! A key is read under WATCH and put together on the target under a temporary name ([`crate::temporary`]). When the source
//! has said, by an EXEC that is not nil, that it has not changed since, its value gets its expiry and its name in one
//! transaction. A key that changes is read again; one that changes each time is left to DUMP.
//!
//! Each piece is one transaction on the target together with a *mark*: how many pieces are there, and a hash over them. A
//! mark is thus exactly as durable as the pieces that it counts, whatever happens to this process, to the connection or to
//! the target. Whoever goes on with the key reads the source from its beginning, under a WATCH of his own, and writes
//! nothing as long as the mark is ahead. If the pieces that were read then are those of the mark, he goes on behind them;
//! if not, he begins anew.
//!
//! # Invariants
//!
//! - A key gets its name only with what was read of it under one WATCH, from its first piece to its last.
//! - A temporary name is in the state before the target hears of it, and until it has been taken from it.
//! - What was renamed, and what may have been, is in the state before it is. A mark without its value then says that the
//!   value bears its own name.
//! - At most two pieces are in memory.

mod ends;
mod mark;
mod rights;
mod source;
mod survey;
mod sweep;
mod target;
mod work;

pub use survey::survey;
pub use sweep::sweep;

use std::rc::Rc;

use super::engine::{End, Shared};
use super::lane::{BigEnd, Trouble};
use super::link::Waited;
use super::walk::LaneEnd;
use work::Work;

/// Copies the big keys of a lane.
pub async fn copy_big_keys(shared: Rc<Shared>) -> End {
    let mut work = match Work::begin(&shared).await {
        Ok(Waited::Ready(work)) => work,
        Ok(Waited::Stopped(reason)) => return End::Lane(LaneEnd::Stopped(reason)),
        Err(error) => return error.into(),
    };
    loop {
        let Some(big) = ({ shared.lane.borrow_mut().take_big() }) else {
            shared.big_wake.notified().await;
            continue;
        };
        // Its size counts as met.
        shared.survey_wake.notify_one();
        let copied = work.copy(&big).await;
        shared.env.big_key.replace(None);
        let end = match copied {
            Ok(Waited::Ready(end)) => end,
            Ok(Waited::Stopped(reason)) => return End::Lane(LaneEnd::Stopped(reason)),
            Err(error) => return error.into(),
        };
        if matches!(end, BigEnd::Arrived(..)) {
            crate::crash_point!("big_key_arrived");
        }
        let settled = shared.lane.borrow_mut().big_ended(big.key, end);
        match settled {
            Ok(()) => {}
            Err(Trouble::Fatal(error)) => return End::Failed(error),
            Err(_) => unreachable!("there is no connection in it"),
        }
        shared.settled_wake.notify_one();
        shared.doubt_wake.notify_one();
        shared.source_wake.notify_one();
    }
}
