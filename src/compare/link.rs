//! Getting a connection to either side, and getting it back.
//!
//! # Invariant
//!
//! A stop that is asked for ends every wait here at once.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Request;
use crate::client::retry::{Budget, Verdict};
use crate::client::sizes::Probing;
use crate::client::{Link, LinkError, Nodes, connect_source};
use crate::endpoint::{Endpoint, Side};
use crate::error::Error;
use crate::pace::{self, Pace, Probes};
use crate::progress::{Event, HeldBy, Limits, Observer};
use crate::shutdown::{Shutdown, StopReason};
use crate::state::{Pulse, Store, control};
use crate::temporary::Temporary;

/// What every part of a run shares.
pub struct Env {
    /// What the run was given.
    pub request: Request,
    /// Number of this run.
    pub run: u32,
    /// Who is told.
    pub observer: Rc<dyn Observer>,
    /// Whether a stop has been asked for.
    pub shutdown: Shutdown,
    /// Failures of a side that were tried again.
    pub retries: Cell<u64>,
    /// Why the comparison waits for a side, if it does.
    pub throttle: RefCell<Option<(HeldBy, String)>>,
    /// What it keeps to.
    pub pace: pace::Shared,
    /// What holds it back, for the journal.
    pub pulse: Pulse,
    /// The nodes of source and target, where these are clusters.
    pub clusters: RefCell<[Option<Rc<Nodes>>; 2]>,
    /// Of which keys sizes are asked for, and since when that is known.
    pub probing: Cell<Option<(Probing, Instant)>>,
    /// Names that big keys have on the target for a while.
    pub temporary: Temporary,
}

/// What came of waiting.
pub enum Waited<T> {
    /// It came.
    Ready(T),
    /// A stop was asked for first.
    Stopped(StopReason),
}

impl Env {
    /// Of a run on an opened state. `pace`: what it keeps to.
    pub fn new(
        request: Request,
        store: &Store,
        pace: Pace,
        observer: Rc<dyn Observer>,
        shutdown: Shutdown,
    ) -> Self {
        Self {
            request,
            run: store.run(),
            observer,
            shutdown,
            retries: Cell::new(0),
            throttle: RefCell::new(None),
            pace: Rc::new(RefCell::new(pace)),
            pulse: store.pulse(),
            clusters: RefCell::default(),
            temporary: store.temporary(),
            probing: Cell::new(None),
        }
    }

    /// What holds the comparison back, if anything does; the journal will be told.
    pub fn held(&self) -> Option<(HeldBy, String)> {
        let held = self.pace.borrow().held();
        let limited = held.as_ref().map(|held| (held.side, held.reason.as_str()));
        self.pulse.limited(limited);
        let waits = self.throttle.borrow().clone();
        waits.or_else(|| held.map(|held| (held.by, held.reason)))
    }

    /// Limits that came since this was asked for the last time; the observer is told.
    pub fn take_change(&self) -> Option<Limits> {
        let limits = self.pace.borrow_mut().take_change()?;
        self.observer.event(&Event::LimitsChanged { limits });
        Some(limits)
    }

    /// Keeps to the limits that come while the comparison runs, and says `changed` then.
    pub async fn follow_control(&self, changed: impl Fn()) -> Infallible {
        let path = control::path(&self.request.state_dir, &self.request.name);
        let told = |told| match told {
            Ok(limits) => {
                if self.pace.borrow_mut().change(limits) {
                    changed();
                }
            }
            Err(why) => self.warn(why),
        };
        pace::follow(path, self.run, told).await
    }

    /// Feels what other clients of a side feel, where a limit asks for it.
    pub async fn spare(&self, side: Side) -> Infallible {
        let probes = Probes::new(|| self.nodes(side), self.request.options.timeout);
        pace::spare(Rc::clone(&self.pace), side, probes).await
    }

    /// A full budget for one side.
    pub fn budget(&self, side: Side) -> Budget {
        Budget::new(
            side,
            self.request.options.max_unavailable,
            self.request.options.timeout,
        )
    }

    /// Tells the operator something; the run goes on.
    pub fn warn(&self, message: String) {
        self.observer.event(&Event::Warning { message });
    }

    /// A connection that reads a database of one side. Nothing is written on either of them.
    pub async fn connect(&self, side: Side, db: u32, timeout: Duration) -> Result<Link, LinkError> {
        connect_source(self.endpoint(side), db, &self.client_name(), timeout).await
    }

    /// Where a side is.
    pub fn endpoint(&self, side: Side) -> &Endpoint {
        match side {
            Side::Source => &self.request.source,
            Side::Target => &self.request.target,
        }
    }

    /// Where the nodes of a side are that have keys.
    pub fn nodes(&self, side: Side) -> Vec<Endpoint> {
        match self.cluster(side) {
            None => vec![self.endpoint(side).clone()],
            Some(nodes) => {
                let masters = nodes.masters();
                masters.iter().map(|node| nodes.endpoint_of(node)).collect()
            }
        }
    }

    /// How this run's connections are called on the servers.
    pub fn client_name(&self) -> String {
        // CLIENT SETNAME takes no spaces and no control characters; names of migrations have none.
        format!("redknot:{}:{}", self.request.name, self.run)
    }

    /// The nodes of one side, if it is a cluster.
    pub fn cluster(&self, side: Side) -> Option<Rc<Nodes>> {
        self.clusters.borrow()[side as usize].clone()
    }
}

/// Tries until it works, the budget is used up, or a stop is asked for. With `failure`, a wait comes first.
pub async fn retrying<T>(
    env: &Env,
    side: Side,
    budget: &mut Budget,
    mut failure: Option<LinkError>,
    attempt: impl AsyncFn(Duration) -> Result<T, LinkError>,
) -> Result<Waited<T>, Error> {
    let mut shutdown = env.shutdown.clone();
    let mut failed_before = false;
    loop {
        if let Some(error) = failure.take() {
            failed_before = true;
            if let Some(reason) = pause(env, side, budget, &error).await? {
                return Ok(Waited::Stopped(reason));
            }
        }
        let result = tokio::select! {
            result = attempt(budget.silence_max()) => result,
            reason = shutdown.wait() => return Ok(Waited::Stopped(reason)),
        };
        match result {
            Ok(value) => {
                budget.contact();
                if failed_before {
                    env.throttle.borrow_mut().take();
                    env.observer.event(&Event::Recovered { side });
                }
                return Ok(Waited::Ready(value));
            }
            Err(error) => failure = Some(error),
        }
    }
}

/// Waits before the next try, as long as the budget says; returns early, and why, if a stop is asked for.
async fn pause(
    env: &Env,
    side: Side,
    budget: &mut Budget,
    error: &LinkError,
) -> Result<Option<StopReason>, Error> {
    let (wait, attempt) = match budget.failed(error, Instant::now()) {
        Verdict::Wait { wait, attempt } => (wait, attempt),
        Verdict::GiveUp(error) => return Err(*error),
    };
    env.retries.set(env.retries.get() + 1);
    *env.throttle.borrow_mut() = Some((side.into(), format!("{side}: {error}")));
    env.observer.event(&Event::Retry {
        side,
        cause: error.to_string(),
        attempt,
        wait_ms: wait.as_millis() as u64,
    });
    let mut shutdown = env.shutdown.clone();
    tokio::select! {
        () = tokio::time::sleep(wait) => Ok(None),
        reason = shutdown.wait() => Ok(Some(reason)),
    }
}

/// A connection to one side, waiting for it if need be.
pub async fn connected(
    env: &Env,
    side: Side,
    budget: &mut Budget,
    db: u32,
    failure: Option<LinkError>,
) -> Result<Waited<Link>, Error> {
    let attempt = async |timeout| env.connect(side, db, timeout).await;
    retrying(env, side, budget, failure, attempt).await
}
