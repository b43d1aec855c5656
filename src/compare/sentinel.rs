//! Whether a side that sentinels watch still has the master that is read.
//!
//! # Invariant
//!
//! What was read of a master that is none any more never makes a comparison's result.

use std::rc::Rc;

use super::engine::{End, Shared, name_of};
use super::lane::{SOURCE, TARGET};
use super::link::{Env, Waited, retrying};
use crate::client::master::{ASK_EVERY, is_another, is_watched, master_of};
use crate::endpoint::Side;
use crate::error::Error;
use crate::state::record::CompareLane;

/// Whether a side has to be watched.
pub fn is_used(env: &Env) -> bool {
    [Side::Source, Side::Target]
        .into_iter()
        .any(|side| is_watched(env.endpoint(side)))
}

/// Ends the use of a lane, to be judged anew, when a side has another master.
///
/// Sentinels that do not answer are no trouble of their own: the data path goes on as long as it can.
pub async fn watch(shared: Rc<Shared>) -> End {
    let timeout = shared.env.request.options.timeout;
    loop {
        tokio::time::sleep(ASK_EVERY).await;
        for side in [SOURCE, TARGET] {
            let endpoint = shared.env.endpoint(name_of(side));
            let Ok(Some(now)) = master_of(endpoint, timeout).await else {
                continue;
            };
            let known = shared.identities[side].run_id.as_ref();
            if known.is_some_and(|known| *known != now) {
                return End::Judge(another(name_of(side), &endpoint.address.to_string()));
            }
        }
    }
}

fn another(side: Side, address: &str) -> String {
    format!("the sentinels name another master of the {side} {address} by now")
}

/// The last look at both sides, when every key has its verdict: why what was found is in doubt, if it is.
pub async fn objection(env: &Env, lanes: &[CompareLane]) -> Result<Waited<Option<String>>, Error> {
    for side in [Side::Source, Side::Target] {
        let endpoint = env.endpoint(side);
        let mut budget = env.budget(side);
        budget.contact();
        let attempt = async |timeout| {
            for lane in lanes {
                let known = match side {
                    Side::Source => lane.source.run_id.as_deref(),
                    Side::Target => lane.target.run_id.as_deref(),
                };
                if is_another(endpoint, known, timeout).await? {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        match retrying(env, side, &mut budget, None, attempt).await? {
            Waited::Ready(false) => {}
            Waited::Ready(true) => {
                let why = another(side, &endpoint.address.to_string());
                return Ok(Waited::Ready(Some(why)));
            }
            Waited::Stopped(reason) => return Ok(Waited::Stopped(reason)),
        }
    }
    Ok(Waited::Ready(None))
}
