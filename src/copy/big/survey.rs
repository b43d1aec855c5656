//! Looks whether the source has room for big keys ([`crate::client::sizes`]).
//!
//! # Invariants
//!
//! - This decides about speed alone: a big key that comes unexpectedly is not kept, but read again in pieces.
//! - Where the source does not answer, sizes are asked for before DUMP.

use std::rc::Rc;
use std::time::Duration;

use crate::client::control::Control;
use crate::client::sizes::{self, Probing};
use crate::cluster::NodeAddress;
use crate::copy::engine::{End, Shared};
use crate::endpoint::Side;

/// How often it is looked again: the source goes on to live.
const EVERY: Duration = Duration::from_secs(60);

/// Looks at the source when the lane begins, whenever a big key was met, and from time to time.
pub async fn survey(shared: Rc<Shared>) -> End {
    let big = shared.env.request.options.big_key;
    let (Some(big), true) = (big, shared.lane.borrow().may_probe_sizes()) else {
        return std::future::pending().await;
    };
    if shared.lane.borrow().rules.from_list {
        // Nothing is listed where names are given: a sample of the source would be one of other keys, and SCAN a right of
        // its own.
        shared.lane.borrow_mut().probe_sizes(Probing::Wholes);
        return std::future::pending().await;
    }
    loop {
        let met = shared.lane.borrow().big_bytes_met();
        let probing = look(&shared, big, met).await;
        tracing::debug!(?probing, "sizes are asked for");
        shared.lane.borrow_mut().probe_sizes(probing);
        shared.source_wake.notify_one();
        let _ = tokio::time::timeout(EVERY, shared.survey_wake.notified()).await;
        // Many big keys are met one after the other.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// The most that any of the source's nodes needs.
async fn look(shared: &Shared, big: u64, met: u64) -> Probing {
    let env = &shared.env;
    let db = env.request.plan.lanes[shared.index].source_db;
    let timeout = env.request.options.timeout;
    let endpoints = match env.cluster(Side::Source) {
        None => vec![env.request.source.clone()],
        Some(nodes) => {
            let masters: Vec<NodeAddress> = nodes.masters();
            masters.iter().map(|node| nodes.endpoint_of(node)).collect()
        }
    };
    let mut probing = Probing::Nothing;
    for endpoint in endpoints {
        let looked = match Control::connect(&endpoint, db, timeout).await {
            Ok(mut source) => sizes::look(&mut source, big, met).await,
            Err(error) => Err(error),
        };
        probing = probing.max(looked.unwrap_or(Probing::Wholes));
    }
    probing
}
