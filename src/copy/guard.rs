//! Keeps what other clients of the source feel below a limit: probes it, and takes back what the copy asks of it.
//!
//! What counts is the round trip that nearly every probe stays below (99 of 100). Before the copy begins, and whenever it
//! has been held back for long, it is measured without the copy: no copy makes a server quicker than it is alone, so what
//! is allowed is never less than a little above that.
//!
//! # Invariants
//!
//! - One slow probe changes nothing; the second of a round takes back at once.
//! - However slow the source is, the copy goes on: a few keys a second are always asked for.

use std::time::{Duration, Instant};

/// Probes of a round.
const ROUND: usize = 100;
/// Time between two probes.
pub const PROBE_EVERY: Duration = Duration::from_millis(10);
/// Probes right after something was taken back do not count: what was asked before is still on its way.
const SETTLING: usize = 10;
/// What is left of the copy's pressure when it is too much.
const LEFT: f64 = 0.7;
/// What it begins with: whoever is to be spared must not be hurt first.
const PRESSURE_FIRST: f64 = 1.0 / 8.0;
/// The smallest pressure.
const PRESSURE_MIN: f64 = 1.0 / 4096.0;
/// What a quiet round adds at first, as a share of what it is added to.
const STEP_FIRST: f64 = 0.05;
/// What it adds at most.
const STEP_MAX: f64 = 0.1;
/// So much faster it is added for each quiet round before.
const STEP_GROWS: f64 = 1.25;
/// So much above what the source has alone is always allowed.
const ABOVE_ALONE: f64 = 1.2;
/// Rounds in which it was taken back, one after the other, until the source is measured alone again.
const TAKEN_BACK_MAX: u32 = 12;
/// Fewest keys that are read a second.
const KEYS_PER_S_MIN: f64 = 20.0;

/// See the module.
pub struct Guard {
    limit: Duration,
    /// What the source has without the copy; `None` while that is measured.
    alone: Option<Duration>,
    round: Vec<Duration>,
    settling: usize,
    /// Above 0 and at most 1.
    pressure: f64,
    step: f64,
    taken_back: u32,
    /// Keys a second in the newest round that had no limit of keys by the guard.
    keys_per_s: f64,
    /// When the round began, and how many keys had been asked for until then.
    began: Option<(Instant, u64)>,
}

impl Guard {
    /// A guard that has measured nothing yet.
    pub fn new(limit: Duration) -> Self {
        Self {
            limit,
            alone: None,
            round: Vec::with_capacity(ROUND),
            settling: 0,
            pressure: PRESSURE_FIRST,
            step: STEP_MAX,
            taken_back: 0,
            keys_per_s: f64::INFINITY,
            began: None,
        }
    }

    /// The limit that it was given.
    pub fn limit(&self) -> Duration {
        self.limit
    }

    /// Whether the source is measured without the copy, which has to wait meanwhile.
    pub fn is_measuring(&self) -> bool {
        self.alone.is_none()
    }

    /// What is allowed.
    fn allowed(&self) -> Duration {
        let alone = self.alone.unwrap_or_default();
        self.limit.max(alone.mul_f64(ABOVE_ALONE))
    }

    /// A probe took this long. Returns whether a round is over, with a new pressure.
    pub fn observe(&mut self, latency: Duration) -> bool {
        if self.settling > 0 {
            self.settling -= 1;
            return false;
        }
        self.round.push(latency);
        if self.is_measuring() {
            if self.round.len() == ROUND {
                self.round.sort_unstable();
                self.alone = Some(self.round[ROUND - 2]);
                self.round.clear();
            }
            return false;
        }
        let allowed = self.allowed();
        let slow = self.round.iter().filter(|probe| **probe > allowed).count();
        if slow >= 2 {
            self.take_back();
            return true;
        }
        if self.round.len() < ROUND {
            return false;
        }
        self.round.clear();
        self.taken_back = 0;
        self.pressure = (self.pressure + self.step).min(1.0);
        self.step = (self.step * STEP_GROWS).min(STEP_MAX);
        true
    }

    fn take_back(&mut self) {
        self.round.clear();
        self.settling = SETTLING;
        self.pressure = (self.pressure * LEFT).max(PRESSURE_MIN);
        self.step = self.pressure * STEP_FIRST;
        self.taken_back += 1;
        if self.taken_back == TAKEN_BACK_MAX {
            // It may be that somebody else presses.
            self.taken_back = 0;
            self.alone = None;
        }
    }

    /// How much of the window is left, above 0 and at most 1.
    pub fn pressure(&self) -> f64 {
        self.pressure
    }

    /// Keys a second of the round that ends `now`, when `asked` keys have been asked for; the next one begins.
    pub fn read_per_s(&mut self, now: Instant, asked: u64) -> f64 {
        let (began, before) = self.began.replace((now, asked)).unwrap_or((now, asked));
        // A round has at least two probes.
        let seconds = now.saturating_duration_since(began).max(PROBE_EVERY);
        asked.saturating_sub(before) as f64 / seconds.as_secs_f64()
    }

    /// `read_per_s` were read lately, and at the present pressure the window would be `share` of the smallest one. Below that
    /// it is a matter of keys a second.
    pub fn keys_per_s(&mut self, read_per_s: f64, share: f64) -> Option<f64> {
        if share >= 1.0 {
            self.keys_per_s = read_per_s;
            return None;
        }
        if self.keys_per_s.is_infinite() {
            self.keys_per_s = read_per_s;
        }
        Some((self.keys_per_s * share).max(KEYS_PER_S_MIN))
    }

    /// Why the copy is held back, if it is.
    pub fn held(&self) -> Option<String> {
        let limit = crate::config::units::Time(self.limit);
        match (self.is_measuring(), self.pressure < 1.0) {
            (true, _) => Some("the source's latency is measured without the copy".to_owned()),
            (false, true) => Some(format!("the source's latency, which may be {limit}")),
            (false, false) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Duration = Duration::from_millis(1);
    const SLOW: Duration = Duration::from_millis(9);

    /// A guard at 5 ms of a source that has `alone` without the copy.
    fn measured(alone: Duration) -> Guard {
        let mut guard = Guard::new(Duration::from_millis(5));
        while guard.is_measuring() {
            assert!(!guard.observe(alone));
        }
        assert!(guard.pressure() < 0.2, "it begins gently");
        guard.pressure = 1.0;
        guard
    }

    fn rounds(guard: &mut Guard, probe: Duration, count: usize) {
        for _ in 0..count {
            while !guard.observe(probe) {
                assert!(!guard.is_measuring());
            }
        }
    }

    #[test]
    fn one_slow_probe_of_a_hundred_changes_nothing_and_two_take_back_at_once() {
        let mut guard = measured(QUICK);
        assert!(!guard.observe(SLOW));
        (0..98).for_each(|_| assert!(!guard.observe(QUICK)));
        assert!(guard.observe(QUICK));
        assert_eq!((guard.pressure(), guard.held()), (1.0, None));
        assert!(!guard.observe(SLOW));
        assert!(!guard.observe(QUICK));
        assert!(guard.observe(SLOW));
        assert_eq!(guard.pressure(), LEFT);
        let held = "the source's latency, which may be 5ms";
        assert_eq!(guard.held().as_deref(), Some(held));
    }

    #[test]
    fn what_was_taken_back_comes_again_while_it_is_quiet() {
        let mut guard = measured(QUICK);
        rounds(&mut guard, SLOW, TAKEN_BACK_MAX as usize - 1);
        let least = guard.pressure();
        assert!(least < 0.05, "{least}");
        rounds(&mut guard, QUICK, 1);
        let gained = guard.pressure() - least;
        assert!(
            gained > 0.0 && gained <= least * STEP_FIRST * 1.01,
            "{gained}"
        );
        rounds(&mut guard, QUICK, 60);
        assert_eq!(guard.pressure(), 1.0);
    }

    #[test]
    fn a_source_that_is_slow_alone_is_allowed_to_be() {
        let mut guard = measured(SLOW);
        rounds(&mut guard, SLOW, 5);
        assert_eq!(guard.pressure(), 1.0);
        rounds(&mut guard, SLOW * 2, 1);
        assert_eq!(guard.pressure(), LEFT);
    }

    #[test]
    fn a_source_that_stays_slow_is_measured_alone_again() {
        let mut guard = measured(QUICK);
        for _ in 0..1000 {
            guard.observe(SLOW);
            if guard.is_measuring() {
                break;
            }
        }
        assert!(guard.is_measuring());
        while guard.is_measuring() {
            guard.observe(SLOW);
        }
        let before = guard.pressure();
        rounds(&mut guard, SLOW, 1);
        assert!(guard.pressure() > before);
    }

    #[test]
    fn below_the_smallest_window_it_is_a_matter_of_keys_a_second() {
        let mut guard = measured(QUICK);
        assert_eq!(guard.keys_per_s(10_000.0, 2.0), None);
        assert_eq!(guard.keys_per_s(10_000.0, 1.0), None);
        assert_eq!(guard.keys_per_s(9_000.0, 0.5), Some(5_000.0));
        assert_eq!(guard.keys_per_s(4_000.0, 0.5), Some(5_000.0));
        assert_eq!(guard.keys_per_s(4_000.0, 0.000_1), Some(KEYS_PER_S_MIN));
    }

    #[test]
    fn keys_a_second_are_those_of_the_round() {
        let mut guard = measured(QUICK);
        let now = Instant::now();
        assert_eq!(guard.read_per_s(now, 70), 0.0);
        assert_eq!(
            guard.read_per_s(now + Duration::from_millis(100), 170),
            1000.0
        );
        assert_eq!(
            guard.read_per_s(now + Duration::from_millis(600), 180),
            20.0
        );
    }
}
