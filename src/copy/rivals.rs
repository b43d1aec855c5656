//! Keys whose names are taken: another database of the source, earlier in the plan, has a key that goes to the same place.
//!
//! Of such keys the first one arrives and the others are quarantined. [`crate::client::Rivals`] says why the source is
//! asked and not the target.
//!
//! # Invariant
//!
//! No key is read before it is known that its name is free: what would be in the way of another is never sent.

use std::rc::Rc;

use super::engine::{End, Shared};
use super::link::{Waited, retrying};
use super::walk::LaneEnd;
use crate::client::Rivals;
use crate::endpoint::Side;

/// Names that are asked about at once. The server does nothing else while it answers.
const NAMES_AT_ONCE: usize = 256;

/// Asks for each key of a lane whether its name is free.
pub async fn ask_rivals(shared: Rc<Shared>, dbs: Vec<u32>) -> End {
    let env = Rc::clone(&shared.env);
    let plan = &env.request.plan;
    let mut budget = env.budget(Side::Source);
    let (types, nodes) = (plan.types.clone(), env.cluster(Side::Source));
    let rivals = Rivals::new(dbs, types, &env.request.source, nodes, env.client_name());
    let mut checked = 0;
    loop {
        let keys = shared.lane.borrow_mut().take_unchecked(NAMES_AT_ONCE);
        if keys.is_empty() {
            shared.rival_wake.notified().await;
            continue;
        }
        let names = shared.lane.borrow().names_of(&keys);
        let attempt = async |timeout| rivals.first_with(&names, timeout).await;
        let asked = retrying(&env, Side::Source, &mut budget, None, attempt).await;
        let found = match asked {
            Ok(Waited::Ready(found)) => found,
            Ok(Waited::Stopped(reason)) => return End::Lane(LaneEnd::Stopped(reason)),
            Err(error) => return error.into(),
        };
        checked += keys.len() as u64;
        budget.progress(checked);
        shared.lane.borrow_mut().names_checked(&keys, &found);
        shared.source_wake.notify_one();
        shared.stray_wake.notify_one();
        shared.settled_wake.notify_one();
    }
}
