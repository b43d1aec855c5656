//! How hard a repair presses on both servers: how many findings are tried together, and when.
//!
//! # Invariants
//!
//! - A handful is begun when it has been paid for; the bytes of its values are paid for when they come.
//! - While it waits, that is told as often as its progress is, and a stop is heard.

use std::convert::Infallible;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Request;
use super::report::Report;
use crate::audit::entry::Event as Journaled;
use crate::client::Nodes;
use crate::endpoint::{Endpoint, Side};
use crate::error::Error;
use crate::pace::{self, LOOK_AGAIN, Pace, Probes};
use crate::progress::{Event, Observer};
use crate::shutdown::{Shutdown, StopReason};
use crate::state::{Store, control};

/// Times that a value is read from the source: to be written, and to be compared.
const READINGS: u64 = 2;

/// What may be tried together at present.
#[derive(Debug, Clone, Copy)]
pub struct Handful {
    /// So many findings; at least one.
    pub keys: usize,
    /// So many bytes of values; a larger one is tried alone.
    pub bytes: u64,
}

/// See the module.
pub struct Pacing {
    /// What the connections count for.
    pub pace: pace::Shared,
    shutdown: Shutdown,
    /// The servers have been busy until now because of the last handful, since then.
    busy_since: Option<Instant>,
}

impl Pacing {
    /// Of a run that keeps to what was asked for.
    pub fn new(request: &Request, shutdown: Shutdown) -> Self {
        let spared = &[Side::Source, Side::Target];
        Self {
            pace: Pace::shared(Side::Source, spared, request.options.limits),
            shutdown,
            busy_since: None,
        }
    }

    /// Waits until something may be tried: no more than `most`.
    pub async fn next(
        &mut self,
        most: Handful,
        report: &mut Report,
        store: &mut Store,
    ) -> Result<Result<Handful, StopReason>, Error> {
        if let Some(busy) = self.busy_since.take().map(|since| since.elapsed()) {
            let pause = self.pace.borrow().pause_after(busy);
            if let Some(reason) = self.wait(pause, report, store).await? {
                return Ok(Err(reason));
            }
        }
        loop {
            if let Some(reason) = self.shutdown.requested() {
                return Ok(Err(reason));
            }
            self.tell(report, store)?;
            if let Some(handful) = self.allowed(most) {
                self.busy_since = Some(Instant::now());
                return Ok(Ok(handful));
            }
            if let Some(reason) = self.wait(LOOK_AGAIN, report, store).await? {
                return Ok(Err(reason));
            }
        }
    }

    fn allowed(&self, most: Handful) -> Option<Handful> {
        let mut pace = self.pace.borrow_mut();
        pace.fill(Instant::now, 0, 1);
        if pace.is_measuring() {
            return None;
        }
        let allowed = pace.allowance(0, 1);
        if allowed == 0 {
            pace.hold();
            return None;
        }
        let window = (most.keys as f64 * pace.pressure()) as usize;
        Some(Handful {
            keys: window.max(1).min(allowed),
            bytes: most.bytes.min(pace.bytes_left() / READINGS),
        })
    }

    /// So many findings are tried now.
    pub fn tries(&self, findings: usize) {
        self.pace.borrow_mut().asked(findings);
    }

    /// Waits for so long; returns early, and why, if a stop is asked for.
    async fn wait(
        &mut self,
        time: Duration,
        report: &mut Report,
        store: &mut Store,
    ) -> Result<Option<StopReason>, Error> {
        if time.is_zero() {
            return Ok(None);
        }
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            reason = self.shutdown.wait() => return Ok(Some(reason)),
        }
        self.tell(report, store)?;
        Ok(None)
    }

    /// Tells what holds it back, and what it keeps to if that has changed.
    fn tell(&self, report: &mut Report, store: &mut Store) -> Result<(), Error> {
        let change = self.pace.borrow_mut().take_change();
        if let Some(limits) = change {
            let run = store.run();
            store.tell(Journaled::LimitsChanged { run, limits })?;
            report.tell(&Event::LimitsChanged { limits });
        }
        let pace = self.pace.borrow();
        report.held(pace.limits(), pace.held(), store)
    }
}

/// Keeps to the limits that come while the repair runs.
pub async fn follow_control(
    request: Request,
    run: u32,
    pace: pace::Shared,
    observer: Rc<dyn Observer>,
) -> Infallible {
    let path = control::path(&request.state_dir, &request.name);
    let told = |told| match told {
        Ok(limits) => drop(pace.borrow_mut().change(limits)),
        Err(message) => observer.event(&Event::Warning { message }),
    };
    pace::follow(path, run, told).await
}

/// Feels what other clients of a side feel, where a limit asks for it.
pub async fn spare(
    side: Side,
    endpoint: Endpoint,
    nodes: Option<Rc<Nodes>>,
    timeout: Duration,
    pace: pace::Shared,
) -> Infallible {
    let endpoints = || match &nodes {
        None => vec![endpoint.clone()],
        Some(nodes) => {
            let masters = nodes.masters();
            masters.iter().map(|node| nodes.endpoint_of(node)).collect()
        }
    };
    pace::spare(pace, side, Probes::new(endpoints, timeout)).await
}
