//! Looks whether either side has room for big keys ([`crate::client::sizes`]).
//!
//! # Invariants
//!
//! - This decides about speed alone: a big key that comes unexpectedly is not kept, but read again in pieces.
//! - Where a side does not answer, sizes are asked for before DUMP.

use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::client::control::Control;
use crate::client::sizes::{self, Probing};
use crate::compare::engine::{End, Shared, name_of};
use crate::compare::lane::{SOURCE, TARGET};

/// How often it is looked again: the servers go on to live.
const EVERY: Duration = Duration::from_secs(60);

/// Looks when the lane begins, whenever a big key was met, and from time to time.
pub async fn survey(shared: Rc<Shared>) -> End {
    let big = shared.env.request.options.big_key;
    let (Some(big), true) = (big, shared.lane.borrow().may_probe_sizes()) else {
        return std::future::pending().await;
    };
    if shared.env.request.plan.keys_from.is_some() {
        // Nothing is listed where names are given: a sample would be one of other keys, and SCAN a right of its own.
        shared.lane.borrow_mut().probe_sizes(Probing::Wholes);
        return std::future::pending().await;
    }
    // What was seen for another lane, or another stage of this one, holds for the whole server.
    let mut known = shared.env.probing.get();
    loop {
        let recent = known.take().filter(|(_, at)| at.elapsed() < EVERY);
        let (probing, at) = match recent {
            Some(recent) => recent,
            None => (look(&shared, big).await, Instant::now()),
        };
        tracing::debug!(?probing, "sizes are asked for");
        shared.env.probing.set(Some((probing, at)));
        shared.lane.borrow_mut().probe_sizes(probing);
        shared.wake();
        let _ = tokio::time::timeout(EVERY, shared.survey.notified()).await;
        // Many big keys are met one after the other.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// The most that any node of either side needs.
async fn look(shared: &Shared, big: u64) -> Probing {
    let env = &shared.env;
    let met = shared.lane.borrow().big_bytes_met();
    let mut probing = Probing::Nothing;
    for side in [SOURCE, TARGET] {
        for endpoint in env.nodes(name_of(side)) {
            let timeout = env.request.options.timeout;
            let looked = match Control::connect(&endpoint, shared.db(side), timeout).await {
                Ok(mut server) => sizes::look(&mut server, big, met[side]).await,
                Err(error) => Err(error),
            };
            probing = probing.max(looked.unwrap_or(Probing::Wholes));
        }
    }
    probing
}
