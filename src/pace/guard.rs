//! Keeps what other clients of a server feel below a limit: it is probed, and what the run asks of it is taken back.
//!
//! What counts is the round trip that nearly every probe stays below (99 of 100). Before the run begins, and whenever it
//! has been held back for long, it is measured while nothing is asked: no run makes a server quicker than it is alone, so
//! what is allowed is never less than a little above that. Where other clients are at work it is not more either, since
//! they would feel it, however high the limit is; a server that nobody uses may be pressed up to the limit.
//!
//! # Invariants
//!
//! - One slow probe changes nothing, nor do two; the third of a round takes back at once.
//! - However slow the server is, the run goes on: a few keys a second are always asked for.

use std::time::{Duration, Instant};

use crate::config::units::Time;
use crate::endpoint::Side;

/// Probes of a round.
const ROUND: usize = 200;
/// Slower ones of a round that take back: more than one of a hundred.
const SLOW: usize = 3;
/// Probes while nothing is asked.
const ALONE: usize = 2 * ROUND;
/// Time between two probes.
pub const PROBE_EVERY: Duration = Duration::from_millis(5);
/// Probes right after something was taken back do not count: what was asked before is still on its way.
const SETTLING: usize = 20;
/// What is left of the run's pressure when it is too much.
const LEFT: f64 = 0.7;
/// What it begins with: whoever is to be spared must not be hurt first.
const PRESSURE_FIRST: f64 = 1.0 / 16.0;
/// The smallest pressure.
const PRESSURE_MIN: f64 = 1.0 / 4096.0;
/// What a quiet round adds at first, as a share of what it is added to.
const STEP_FIRST: f64 = 0.05;
/// What it adds at most.
const STEP_MAX: f64 = 0.1;
/// So much faster it is added for each quiet round before.
const STEP_GROWS: f64 = 1.25;
/// So much above what the server has alone is always allowed.
const ABOVE_ALONE: f64 = 1.2;
/// What can't be told from what the server has alone, by a hundred probes: a process waits so long for its processor.
const RESOLUTION: Duration = Duration::from_micros(150);
/// Commands a second of others from which on a server is in use.
const IN_USE_PER_S: u64 = 500;
/// Fewest names of a SCAN: below that, the round trips cost more than they spare.
pub const SCAN_KEYS_MIN: u32 = 16;
/// Rounds in which it was taken back, one after the other, until the server is measured alone again.
const TAKEN_BACK_MAX: u32 = 12;
/// Fewest keys that are read a second.
const KEYS_PER_S_MIN: f64 = 20.0;

/// See the module.
pub struct Guard {
    side: Side,
    limit: Duration,
    /// What the server has alone; `None` while that is measured.
    alone: Option<Duration>,
    /// Whether others use it.
    in_use: bool,
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
    pub fn new(side: Side, limit: Duration) -> Self {
        Self {
            side,
            limit,
            alone: None,
            in_use: true,
            round: Vec::with_capacity(ALONE),
            settling: 0,
            pressure: PRESSURE_FIRST,
            step: STEP_MAX,
            taken_back: 0,
            keys_per_s: f64::INFINITY,
            began: None,
        }
    }

    /// Whose server it is.
    pub fn side(&self) -> Side {
        self.side
    }

    /// Whether the server is measured alone: the run has to wait meanwhile.
    pub fn is_measuring(&self) -> bool {
        self.alone.is_none()
    }

    /// What is allowed.
    fn allowed(&self) -> Duration {
        let alone = self.alone.unwrap_or_default();
        let above = alone.mul_f64(ABOVE_ALONE);
        match self.in_use {
            true => self.limit.min(alone + RESOLUTION).max(above),
            false => self.limit.max(above),
        }
    }

    /// The server serves so many commands a second while it is measured alone; `None` where it does not tell.
    pub fn serves(&mut self, commands_per_s: Option<u64>) {
        let probes_per_s = 1000 / PROBE_EVERY.as_millis() as u64;
        self.in_use = commands_per_s.is_none_or(|served| served > probes_per_s + IN_USE_PER_S);
    }

    /// Names that a SCAN may ask for, of `most`: it stops the source for everybody else, as the keys of a window do.
    pub fn scan_keys(&self, most: u32) -> u32 {
        let keys = (f64::from(most) * self.pressure) as u32;
        keys.clamp(SCAN_KEYS_MIN.min(most), most)
    }

    /// A probe took this long. Returns whether a round is over, with a new pressure.
    pub fn observe(&mut self, latency: Duration) -> bool {
        if self.settling > 0 {
            self.settling -= 1;
            return false;
        }
        self.round.push(latency);
        if self.is_measuring() {
            if self.round.len() == ALONE {
                self.round.sort_unstable();
                self.alone = Some(self.round[ALONE - ALONE / 100]);
                tracing::info!(alone = ?self.alone, in_use = self.in_use, "the {} is measured alone", self.side);
                self.round.clear();
            }
            return false;
        }
        let allowed = self.allowed();
        let slow = self.round.iter().filter(|probe| **probe > allowed).count();
        if slow >= SLOW {
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

    /// Why the run is held back, if it is.
    pub fn held(&self) -> Option<String> {
        let (side, limit) = (self.side, Time(self.limit));
        match (self.is_measuring(), self.pressure < 1.0) {
            (true, _) => Some(format!(
                "the {side}'s latency is measured while nothing is asked of it"
            )),
            (false, true) if self.allowed() < self.limit => Some(format!(
                "the {side}'s latency, which may be {:.1} ms, as others use it (at most {limit})",
                self.allowed().as_secs_f64() * 1000.0
            )),
            (false, true) => Some(format!("the {side}'s latency, which may be {limit}")),
            (false, false) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Duration = Duration::from_millis(1);
    const SLUGGISH: Duration = Duration::from_millis(9);

    /// A guard at 5 ms of a source that has `alone` while nothing is asked.
    fn measured(alone: Duration) -> Guard {
        let mut guard = Guard::new(Side::Source, Duration::from_millis(5));
        guard.serves(Some(200));
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
    fn two_slow_probes_of_a_round_change_nothing_and_three_take_back_at_once() {
        let mut guard = measured(QUICK);
        assert!(!guard.observe(SLUGGISH));
        assert!(!guard.observe(SLUGGISH));
        (0..ROUND - 3).for_each(|_| assert!(!guard.observe(QUICK)));
        assert!(guard.observe(QUICK));
        assert_eq!((guard.pressure(), guard.held()), (1.0, None));
        assert!(!guard.observe(SLUGGISH));
        assert!(!guard.observe(QUICK));
        assert!(!guard.observe(SLUGGISH));
        assert!(guard.observe(SLUGGISH));
        assert_eq!(guard.pressure(), LEFT);
        let held = "the source's latency, which may be 5ms";
        assert_eq!(guard.held().as_deref(), Some(held));
    }

    #[test]
    fn a_source_in_use_may_hardly_be_slower_than_it_is_alone() {
        let check = |alone_us, served, allowed_us| {
            let mut guard = Guard::new(Side::Source, Duration::from_millis(5));
            guard.serves(served);
            while guard.is_measuring() {
                guard.observe(Duration::from_micros(alone_us));
            }
            let allowed = Duration::from_micros(allowed_us);
            assert_eq!(guard.allowed(), allowed, "{alone_us} {served:?}");
        };
        check(100, Some(20_000), 250);
        check(2_000, Some(20_000), 2_400);
        check(4_900, Some(20_000), 5_880);
        check(2_000, None, 2_400);
        check(100, Some(250), 5_000);
        let mut guard = measured(QUICK);
        guard.serves(None);
        guard.pressure = 0.5;
        let held = "the source's latency, which may be 1.2 ms, as others use it (at most 5ms)";
        assert_eq!(guard.held().as_deref(), Some(held));
    }

    #[test]
    fn names_are_asked_for_by_fewer_as_keys_are() {
        let mut guard = measured(QUICK);
        assert_eq!(guard.scan_keys(1000), 1000);
        guard.pressure = 0.1;
        assert_eq!((guard.scan_keys(1000), guard.scan_keys(5)), (100, 5));
        guard.pressure = PRESSURE_MIN;
        assert_eq!(guard.scan_keys(1000), SCAN_KEYS_MIN);
    }

    #[test]
    fn what_was_taken_back_comes_again_while_it_is_quiet() {
        let mut guard = measured(QUICK);
        rounds(&mut guard, SLUGGISH, TAKEN_BACK_MAX as usize - 1);
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
        let mut guard = measured(SLUGGISH);
        rounds(&mut guard, SLUGGISH, 5);
        assert_eq!(guard.pressure(), 1.0);
        rounds(&mut guard, SLUGGISH * 2, 1);
        assert_eq!(guard.pressure(), LEFT);
    }

    #[test]
    fn a_source_that_stays_slow_is_measured_alone_again() {
        let mut guard = measured(QUICK);
        for _ in 0..1000 {
            guard.observe(SLUGGISH);
            if guard.is_measuring() {
                break;
            }
        }
        assert!(guard.is_measuring());
        while guard.is_measuring() {
            guard.observe(SLUGGISH);
        }
        let before = guard.pressure();
        rounds(&mut guard, SLUGGISH, 1);
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
