//! What happens beside the data path: probing the source's latency, reading clocks, settling doubts.
//!
//! # Invariant
//!
//! Nothing here is needed for the copy to be right, but the doubts: a key in doubt has no outcome until both sides
//! have been asked for its value.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::doubt::{held, same_value};
use super::engine::{End, Shared};
use super::lane::{Lane, Trouble};
use super::link::{self, Env, Waited};
use super::walk::LaneEnd;
use crate::client::LinkError;
use crate::client::control::Control;
use crate::cluster::{NodeAddress, slot_of};
use crate::endpoint::Side;
use crate::pace::{self, Probe, commands_per_s};
use crate::state::control;

/// How often the source's latency is probed, and the pace of the target is measured.
const PROBE_EVERY: Duration = Duration::from_millis(100);
/// How often the target's latency is measured.
const PROBE_TARGET_EVERY: Duration = Duration::from_millis(200);
/// Every so many probes the clocks are read again: servers' clocks are set, and ours drifts.
const CLOCKS_EVERY_PROBES: u64 = 50;

/// Feels what other clients of the source feel, measures how much the target takes, and keeps both clocks fresh.
///
/// A probe that fails is no trouble of its own: the data path will notice.
pub async fn probe(shared: Rc<Shared>) -> End {
    let mut pace = Pace::new();
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
            shared.env.pulse.probed(Side::Source, latency);
            shared.lane.borrow_mut().window.observe_latency(latency);
        }
        shared.stray_wake.notify_one();
        if round % CLOCKS_EVERY_PROBES == 0 {
            let clock = source
                .ask_single(&shared.env, async |control| control.clock().await)
                .await;
            shared
                .lane
                .borrow_mut()
                .rules
                .set_source_clock(clock.flatten());
            let clock = target
                .ask_single(&shared.env, async |control| control.clock().await)
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

/// Probes the source more often, where a guard wants to know what other clients feel.
pub async fn guard(shared: Rc<Shared>) -> End {
    let probe = AtSource {
        source: Beside::new(Side::Source),
        shared: Rc::clone(&shared),
    };
    match pace::spare(Rc::clone(&shared.env.pace), Side::Source, probe).await {}
}

/// The server, or the node of a cluster, that is read.
struct AtSource {
    source: Beside,
    shared: Rc<Shared>,
}

impl Probe for AtSource {
    async fn ping(&mut self) -> Option<Duration> {
        let env = &self.shared.env;
        self.source
            .ask(env, async |control| control.ping().await)
            .await
    }

    async fn served(&mut self) -> Option<u64> {
        let env = &self.shared.env;
        self.source.ask(env, commands_per_s).await.flatten()
    }
}

/// Keeps to the limits that come while the copy runs.
pub async fn follow_control(shared: Rc<Shared>) -> End {
    let env = &shared.env;
    let path = control::path(&env.request.state_dir, &env.name);
    let told = |told| match told {
        Ok(limits) => {
            if env.pace.borrow_mut().change(limits) {
                shared.source_wake.notify_one();
                shared.settled_wake.notify_one();
            }
        }
        Err(why) => env.warn(why),
    };
    match pace::follow(path, env.run, told).await {}
}

/// Measures the target's latency, for the journal: nothing depends on it.
pub async fn probe_target(shared: Rc<Shared>) -> End {
    let mut target = Beside::new(Side::Target);
    loop {
        tokio::time::sleep(PROBE_TARGET_EVERY).await;
        if let Some(latency) = target
            .ask_single(&shared.env, async |control| control.ping().await)
            .await
        {
            shared.env.pulse.probed(Side::Target, latency);
        }
    }
}

/// How much the target takes.
struct Pace {
    measured: Instant,
    acknowledged: u64,
    bytes_per_s: Option<f64>,
}

impl Pace {
    fn new() -> Self {
        Self {
            measured: Instant::now(),
            acknowledged: 0,
            bytes_per_s: None,
        }
    }

    fn measure(&mut self, lane: &mut Lane) {
        // A probe that waits for its answer makes the interval longer.
        let seconds = self.measured.elapsed().as_secs_f64();
        self.measured = Instant::now();
        let taken = (lane.bytes_acknowledged - self.acknowledged) as f64 / seconds;
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
pub struct Beside {
    side: Side,
    control: Option<Control>,
    /// In a cluster, the node that it leads to.
    node: Option<NodeAddress>,
}

impl Beside {
    /// Nothing is connected before something is asked.
    pub fn new(side: Side) -> Self {
        Self {
            side,
            control: None,
            node: None,
        }
    }

    /// As [`Self::ask`], of a single server: the nodes of a cluster do not speak for each other.
    pub async fn ask_single<T>(
        &mut self,
        env: &Env,
        question: impl AsyncFnOnce(&mut Control) -> Result<T, LinkError>,
    ) -> Option<T> {
        match env.cluster(self.side) {
            Some(_) => None,
            None => self.ask(env, question).await,
        }
    }

    async fn ask<T>(
        &mut self,
        env: &Env,
        question: impl AsyncFnOnce(&mut Control) -> Result<T, LinkError>,
    ) -> Option<T> {
        let nodes = env.cluster(self.side);
        let node = nodes.as_ref().and_then(|nodes| nodes.reading());
        if node != self.node {
            self.control = None;
            self.node.clone_from(&node);
        }
        let mut control = match self.control.take() {
            Some(control) => control,
            None => {
                let endpoint = match (self.side, nodes.zip(node)) {
                    (_, Some((nodes, node))) => nodes.endpoint_of(&node),
                    (Side::Source, None) => env.request.source.clone(),
                    (Side::Target, None) => env.request.target.clone(),
                };
                Control::connect(&endpoint, 0, env.request.options.timeout)
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
    // Kept from key to key: after a new pass there may be as many as the target has keys.
    let connected = RefCell::new(None);
    loop {
        let Some((key, name)) = ({ shared.lane.borrow_mut().take_doubtful() }) else {
            shared.doubt_wake.notified().await;
            continue;
        };
        let there = {
            let lane = shared.lane.borrow();
            lane.rules.renaming.to_target(&name)
        };
        let attempt = async |_| {
            let kept = connected.borrow_mut().take();
            let (mut source, mut target) = match kept {
                Some(pair) => pair,
                None => both_sides(&shared, [&name, &there]).await?,
            };
            let big = shared.env.request.options.big_key;
            let same = match same_value(&mut source, &mut target, [&name, &there], big).await {
                Ok(same) => same,
                Err(error) => return Err(at_nodes(&shared, error).await),
            };
            if same && shared.lane.borrow().records() {
                match held(&mut target, &there).await {
                    Ok(held) => shared.lane.borrow_mut().seen_in_doubt(key, held),
                    Err(error) => return Err(at_nodes(&shared, error).await),
                }
            }
            // The nodes of a cluster are kept elsewhere, since each has only some keys.
            if [Side::Source, Side::Target]
                .iter()
                .all(|side| shared.env.cluster(*side).is_none())
            {
                *connected.borrow_mut() = Some((source, target));
            }
            Ok(same)
        };
        let asked = link::retrying(&shared.env, Side::Target, &mut budget, None, attempt).await;
        let same = match asked {
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

async fn both_sides(shared: &Shared, names: [&[u8]; 2]) -> Result<(Control, Control), LinkError> {
    let request = &shared.env.request;
    let plan = request.plan.lanes[shared.index];
    let timeout = request.options.timeout;
    let source = match shared.env.cluster(Side::Source) {
        Some(nodes) => {
            nodes
                .control(slot_of(names[0]), plan.source_db, timeout)
                .await?
        }
        None => Control::connect(&request.source, plan.source_db, timeout).await?,
    };
    let target = match shared.env.cluster(Side::Target) {
        Some(nodes) => {
            nodes
                .control(slot_of(names[1]), plan.target_db, timeout)
                .await?
        }
        None => Control::connect(&request.target, plan.target_db, timeout).await?,
    };
    Ok((source, target))
}

/// What an error means if it came from a node of a cluster: whoever it was, somebody else may be right by now.
async fn at_nodes(shared: &Shared, error: LinkError) -> LinkError {
    let timeout = shared.env.request.options.timeout;
    let mut at_node = false;
    for side in [Side::Source, Side::Target] {
        if let Some(nodes) = shared.env.cluster(side) {
            at_node = true;
            if let Err(error) = nodes.refresh(timeout).await {
                return error;
            }
        }
    }
    match at_node {
        true => error.of_node(),
        false => error,
    }
}
