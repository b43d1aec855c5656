//! What happens beside the data path: probing the source's latency, reading clocks, settling doubts.
//!
//! # Invariant
//!
//! Nothing here is needed for the copy to be right, but the doubts: a key in doubt has no outcome until both sides
//! have been asked for its value.

use std::rc::Rc;
use std::time::Duration;

use super::doubt::same_value;
use super::engine::{End, Shared};
use super::lane::{Lane, Trouble};
use super::link::{self, Env, Waited};
use super::walk::LaneEnd;
use crate::client::LinkError;
use crate::client::control::Control;
use crate::endpoint::Side;

/// How often the source's latency is probed, and the pace of the target is measured.
const PROBE_EVERY: Duration = Duration::from_millis(100);
/// Every so many probes the clocks are read again: servers' clocks are set, and ours drifts.
const CLOCKS_EVERY_PROBES: u64 = 50;

/// Feels what other clients of the source feel, measures how much the target takes, and keeps both clocks fresh.
///
/// A probe that fails is no trouble of its own: the data path will notice.
pub async fn probe(shared: Rc<Shared>) -> End {
    let mut pace = Pace::default();
    let mut source = Beside::new(Side::Source);
    let mut target = Beside::new(Side::Target);
    for round in 0_u64.. {
        tokio::time::sleep(PROBE_EVERY).await;
        pace.measure(&mut shared.lane.borrow_mut());
        shared.source_wake.notify_one();
        shared.read_wake.notify_one();
        if let Some(latency) = source
            .ask(&shared.env, async |control| control.ping().await)
            .await
        {
            shared.lane.borrow_mut().window.observe_latency(latency);
        }
        if round % CLOCKS_EVERY_PROBES == 0 {
            let clock = source
                .ask(&shared.env, async |control| control.clock().await)
                .await;
            shared
                .lane
                .borrow_mut()
                .rules
                .set_source_clock(clock.flatten());
            let clock = target
                .ask(&shared.env, async |control| control.clock().await)
                .await;
            shared
                .lane
                .borrow_mut()
                .rules
                .set_target_clock(clock.flatten());
        }
    }
    unreachable!("the probe goes on until it is dropped")
}

/// How much the target takes.
#[derive(Default)]
struct Pace {
    acknowledged: u64,
    bytes_per_s: Option<f64>,
}

impl Pace {
    fn measure(&mut self, lane: &mut Lane) {
        let taken =
            (lane.bytes_acknowledged - self.acknowledged) as f64 / PROBE_EVERY.as_secs_f64();
        self.acknowledged = lane.bytes_acknowledged;
        // A target that had nothing to do says nothing about its pace.
        if lane.ready_bytes() == 0 {
            return;
        }
        let pace = self
            .bytes_per_s
            .map_or(taken, |before| 0.7 * before + 0.3 * taken);
        self.bytes_per_s = Some(pace);
        lane.pace(pace);
    }
}

/// A connection beside the data path, made anew whenever it is lost.
struct Beside {
    side: Side,
    control: Option<Control>,
}

impl Beside {
    fn new(side: Side) -> Self {
        Self {
            side,
            control: None,
        }
    }

    async fn ask<T>(
        &mut self,
        env: &Env,
        question: impl AsyncFnOnce(&mut Control) -> Result<T, LinkError>,
    ) -> Option<T> {
        let mut control = match self.control.take() {
            Some(control) => control,
            None => {
                let endpoint = match self.side {
                    Side::Source => &env.request.source,
                    Side::Target => &env.request.target,
                };
                Control::connect(endpoint, 0, env.request.options.timeout)
                    .await
                    .ok()?
            }
        };
        let answer = question(&mut control).await.ok()?;
        self.control = Some(control);
        Some(answer)
    }
}

/// Compares keys that the target already has and that may be our own.
pub async fn resolve_doubts(shared: Rc<Shared>) -> End {
    let mut budget = shared.env.budget(Side::Target);
    let mut failure = None;
    loop {
        let Some((key, name)) = ({ shared.lane.borrow_mut().take_doubtful() }) else {
            shared.doubt_wake.notified().await;
            continue;
        };
        let attempt = async |_| compare_sides(&shared, &name).await;
        let same = match link::retrying(
            &shared.env,
            Side::Target,
            &mut budget,
            failure.take(),
            attempt,
        )
        .await
        {
            Ok(Waited::Ready(same)) => same,
            Ok(Waited::Stopped(reason)) => return End::Lane(LaneEnd::Stopped(reason)),
            Err(error) => return error.into(),
        };
        let settled = shared.lane.borrow_mut().doubt_settled(key, same);
        if let Err(Trouble::Fatal(error)) = settled {
            return End::Failed(error);
        }
        shared.settled_wake.notify_one();
    }
}

async fn compare_sides(shared: &Shared, name: &[u8]) -> Result<bool, LinkError> {
    let request = &shared.env.request;
    let plan = request.plan.lanes[shared.index];
    let timeout = request.options.timeout;
    let mut source = Control::connect(&request.source, plan.source_db, timeout).await?;
    let mut target = Control::connect(&request.target, plan.target_db, timeout).await?;
    same_value(&mut source, &mut target, name).await
}
