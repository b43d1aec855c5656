//! Feels what other clients of a server feel, while a guard wants to know.
//!
//! # Invariant
//!
//! A probe that fails is no trouble of its own: the data path will notice.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use super::Shared;
use super::guard::PROBE_EVERY;
use crate::client::LinkError;
use crate::client::control::Control;
use crate::endpoint::{Endpoint, Side};

/// How often it is asked whether there is a guard, and tried again after a failure.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Who can be asked.
pub trait Probe {
    /// The round trip of a PING.
    async fn ping(&mut self) -> Option<Duration>;

    /// Commands that were served a second lately, if that is told.
    async fn served(&mut self) -> Option<u64>;
}

/// Probes a side for its guard, where it has one.
pub async fn spare(pace: Shared, side: Side, mut probe: impl Probe) -> Infallible {
    loop {
        if !pace.borrow().is_guarded(side) {
            tokio::time::sleep(LOOK_EVERY).await;
            continue;
        }
        tokio::time::sleep(PROBE_EVERY).await;
        let Some(latency) = probe.ping().await else {
            tokio::time::sleep(LOOK_EVERY).await;
            continue;
        };
        let was_measured = pace.borrow().measures(side);
        pace.borrow_mut().felt(side, latency, Instant::now());
        if was_measured && !pace.borrow().measures(side) {
            let served = probe.served().await;
            pace.borrow_mut().serves(side, served);
        }
    }
}

/// Commands that a server has served a second lately, if it tells.
///
/// # Errors
///
/// Only trouble with the connection.
pub async fn commands_per_s(control: &mut Control) -> Result<Option<u64>, LinkError> {
    match control.info_section("stats").await {
        Ok(stats) => Ok(stats
            .get("instantaneous_ops_per_sec")
            .and_then(|commands| commands.parse().ok())),
        Err(LinkError::Reply(..)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Connections for probes to all nodes of a side: the slowest of them counts.
pub struct Probes<E> {
    /// Where its nodes are by now.
    endpoints: E,
    connected: Vec<Control>,
    timeout: Duration,
}

impl<E: Fn() -> Vec<Endpoint>> Probes<E> {
    /// Nothing is connected before something is asked.
    pub fn new(endpoints: E, timeout: Duration) -> Self {
        Self {
            endpoints,
            connected: Vec::new(),
            timeout,
        }
    }

    /// Asks each node; if one of them does not answer, all are connected anew the next time.
    async fn ask<T>(
        &mut self,
        question: impl AsyncFn(&mut Control) -> Result<T, LinkError>,
    ) -> Option<Vec<T>> {
        if self.connected.is_empty() {
            let mut connected = Vec::new();
            for endpoint in (self.endpoints)() {
                let control = Control::connect(&endpoint, 0, self.timeout).await;
                connected.push(control.ok()?);
            }
            self.connected = connected;
        }
        let mut connected = std::mem::take(&mut self.connected);
        let mut answers = Vec::new();
        for control in &mut connected {
            answers.push(question(control).await.ok()?);
        }
        self.connected = connected;
        Some(answers)
    }
}

impl<E: Fn() -> Vec<Endpoint>> Probe for Probes<E> {
    async fn ping(&mut self) -> Option<Duration> {
        let answers = self.ask(async |control| control.ping().await).await;
        answers?.into_iter().max()
    }

    async fn served(&mut self) -> Option<u64> {
        let answers = self
            .ask(async |control| commands_per_s(control).await)
            .await;
        answers?.into_iter().flatten().max()
    }
}
