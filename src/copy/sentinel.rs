//! Whether a side that sentinels watch still has the master that this run speaks to.
//!
//! # Invariant
//!
//! What a master acknowledged that is none any more never makes a migration complete.

use std::rc::Rc;

use super::engine::{Context, End, Shared};
use super::link::{Env, Waited, retrying, suspect};
use super::walk::LaneEnd;
use crate::client::master::{ASK_EVERY, is_watched, master_of};
use crate::client::sentinel::settled;
use crate::endpoint::Side;
use crate::error::Error;
use crate::shutdown::StopReason;
use crate::state::record::ServerIdentity;

/// Ends the lane, to begin anew where it is durable, when a side has another master.
///
/// Sentinels that do not answer are no trouble of their own: the data path goes on as long as it can.
pub async fn watch(shared: Rc<Shared>) -> End {
    let request = &shared.env.request;
    let sides = [
        (Side::Source, &request.source),
        (Side::Target, &request.target),
    ];
    loop {
        tokio::time::sleep(ASK_EVERY).await;
        for (side, endpoint) in sides {
            let checkpoint = shared.durable.borrow().lanes[shared.index].clone();
            let known = match side {
                Side::Source => checkpoint.source.run_id,
                Side::Target => checkpoint.target.run_id,
            };
            let timeout = request.options.timeout;
            let Ok(Some(now)) = master_of(endpoint, timeout).await else {
                continue;
            };
            if known.is_some_and(|known| known != now) {
                shared.env.warn(format!(
                    "the sentinels name another master of the {side} {} by now",
                    endpoint.address
                ));
                return End::Lane(LaneEnd::Again);
            }
        }
    }
}

/// Whether a side has to be watched.
pub fn is_used(env: &Env) -> bool {
    let request = &env.request;
    [&request.source, &request.target]
        .into_iter()
        .any(is_watched)
}

/// What stands in the way of calling it complete.
pub enum Objection {
    /// A stop was asked for first.
    Stopped(StopReason),
    /// Another master than the one that acknowledged.
    Suspect(String),
}

/// The last look at the target, when all lanes are at their end.
pub async fn objection(context: &Context) -> Result<Option<Objection>, Error> {
    let env = &context.env;
    let endpoint = &env.request.target;
    if !is_watched(endpoint) {
        return Ok(None);
    }
    let lanes = context.lanes();
    let mut budget = env.budget(Side::Target);
    let attempt = async |timeout| {
        settled(endpoint, timeout).await?;
        let now = ServerIdentity {
            run_id: master_of(endpoint, timeout).await?,
            version: String::new(),
        };
        for (lane, plan) in lanes.iter().zip(&env.request.plan.lanes) {
            if let Some(reason) = suspect(env, lane, *plan, &now).await? {
                return Ok(Some(reason));
            }
        }
        Ok(None)
    };
    let objection = retrying(env, Side::Target, &mut budget, None, attempt).await?;
    Ok(match objection {
        Waited::Ready(reason) => reason.map(Objection::Suspect),
        Waited::Stopped(reason) => Some(Objection::Stopped(reason)),
    })
}
