//! What share of a reader's window the latency of a probe PING leaves, whether a limit is given or not.

use std::collections::VecDeque;
use std::time::Duration;

/// Latency of a probe PING from which on other clients of the source are considered hurt.
const LATENCY_HIGH: Duration = Duration::from_millis(10);
/// Probes whose median counts: one slow answer may be the machine's, not ours.
const PROBES: usize = 5;
/// The smallest share.
const SHARE_MIN: f64 = 1.0 / 64.0;

/// See the module.
pub struct Share {
    /// What the latency leaves, above 0 and at most 1.
    share: f64,
    /// What a guard leaves, likewise.
    guarded: f64,
    probes: VecDeque<Duration>,
}

impl Default for Share {
    /// Nothing is known yet.
    fn default() -> Self {
        Self {
            share: 1.0,
            guarded: 1.0,
            probes: VecDeque::with_capacity(PROBES),
        }
    }
}

impl Share {
    /// A probe PING took this long.
    pub fn observe_latency(&mut self, latency: Duration) {
        if self.probes.len() == PROBES {
            self.probes.pop_front();
        }
        self.probes.push_back(latency);
        if self.latency().is_some_and(|median| median > LATENCY_HIGH) {
            self.share = (self.share * 0.7).max(SHARE_MIN);
        } else {
            self.share = (self.share + 0.1).min(1.0);
        }
    }

    /// A guard leaves this much, above 0 and at most 1.
    pub fn guard(&mut self, share: f64) {
        self.guarded = share;
    }

    /// Median of the last probes.
    pub fn latency(&self) -> Option<Duration> {
        let mut sorted: Vec<Duration> = self.probes.iter().copied().collect();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied()
    }

    /// What is left of a window.
    pub fn of(&self, window: f64) -> f64 {
        window * self.share * self.guarded
    }
}
