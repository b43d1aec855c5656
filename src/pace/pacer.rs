//! How much may be asked of a side by the word of the operator: so many keys and so many bytes a second.
//!
//! Names that are passed over load a server too: ten of them count as a key.
//!
//! Each limit is a bucket that fills at its rate. A key is paid for when it is asked for; its bytes, whose number nobody
//! knows before, when they come, so a large value is a debt that has to be paid before the next one is asked for.
//!
//! # Invariants
//!
//! - No more than a tenth of a second's worth, and a key, is saved up: the server sees an even load, whatever was not
//!   used before.
//! - One key may always be asked for once its bucket is not in debt, however large values are and however low the limit.

use std::time::{Duration, Instant};

use crate::config::units::Bytes;
use crate::progress::{HeldBy, Limits};

/// What may be saved up, in seconds.
const SAVED_S: f64 = 0.1;
/// Names that are passed over and cost a server as much as a key that is read.
const NAMES_OF_A_KEY: usize = 10;
/// The buckets are filled in steps: what may be asked for is then worth a system call.
const STEP: Duration = Duration::from_millis(5);
/// How often whoever is held back looks again.
pub const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// Payloads over which their size is averaged. Strings of many keys come before what is none, so the last few say little.
const AVERAGED: f64 = 1024.0;
/// Who was held back within this time, is.
const HELD: Duration = Duration::from_millis(1500);

/// See the module.
#[derive(Default)]
pub struct Pacer {
    limits: Limits,
    /// What a guard leaves, keys a second.
    guarded: Option<f64>,
    keys: Option<Bucket>,
    bytes: Option<Bucket>,
    /// Payload bytes for which there is room, until somebody has looked again.
    room: Option<f64>,
    /// Bytes of a payload, on an average over many, and over how many.
    average: (f64, f64),
    /// Names that were passed over and do not make a key yet.
    names: usize,
    /// When the buckets were filled.
    filled: Option<Instant>,
    /// Which limit held the reader back, and when it did last.
    held: Option<(Held, Instant)>,
}

#[derive(Clone, Copy)]
enum Held {
    Keys,
    Bytes,
    Room,
    /// Who guards says why.
    Guard,
}

struct Bucket {
    per_s: f64,
    /// Below zero is a debt.
    level: f64,
}

impl Bucket {
    /// Empty: what was not used before there was a limit is not saved.
    fn at_rate(bucket: Option<Self>, per_s: Option<f64>) -> Option<Self> {
        let per_s = per_s?;
        // What is in it, or owed, stays.
        let level = bucket.map_or(0.0, |bucket| bucket.level);
        Some(Self { per_s, level })
    }

    /// With what `seconds` bring; `beside` may lie in it beside what is saved up.
    fn fill(&mut self, seconds: f64, beside: f64) {
        let most = self.per_s * SAVED_S + beside;
        self.level = (self.level + self.per_s * seconds).min(most);
    }
}

impl Pacer {
    /// Keeps to these limits from now on.
    pub fn set(&mut self, limits: Limits) {
        self.limits = limits;
        self.set_buckets();
    }

    /// Keeps to so many keys a second as well, by the word of a guard.
    pub fn guard(&mut self, keys_per_s: Option<f64>) {
        self.guarded = keys_per_s;
        self.set_buckets();
    }

    /// No more than so many payload bytes may come from now on, until this is called again.
    pub fn room(&mut self, bytes: Option<u64>) {
        self.room = bytes.map(|bytes| bytes as f64);
        self.forget_if_unlimited();
    }

    fn set_buckets(&mut self) {
        let keys = self.limits.keys_per_s.map(|keys| keys as f64);
        let keys = match (keys, self.guarded) {
            (Some(keys), Some(guarded)) => Some(keys.min(guarded)),
            (keys, guarded) => keys.or(guarded),
        };
        let bytes = self.limits.bytes_per_s.map(|bytes| bytes as f64);
        self.keys = Bucket::at_rate(self.keys.take(), keys);
        self.bytes = Bucket::at_rate(self.bytes.take(), bytes);
        self.forget_if_unlimited();
    }

    fn forget_if_unlimited(&mut self) {
        if !self.is_limited() {
            self.filled = None;
            self.held = None;
        }
    }

    /// Whether there is a limit.
    pub fn is_limited(&self) -> bool {
        self.keys.is_some() || self.bytes.is_some() || self.room.is_some()
    }

    /// It is `now`; `asked` keys are asked for, whose values have about `expected` bytes.
    pub fn fill(&mut self, now: Instant, asked: usize, expected: u64) {
        let filled = *self.filled.get_or_insert(now);
        let passed = now.saturating_duration_since(filled);
        if passed < STEP {
            return;
        }
        self.filled = Some(now);
        let expected = self.expected(expected);
        let seconds = passed.as_secs_f64();
        if let Some(keys) = &mut self.keys {
            keys.fill(seconds, 1.0);
        }
        if let Some(bytes) = &mut self.bytes {
            // Those are not paid for yet. Without room for them a long way would be a limit of its own.
            bytes.fill(seconds, asked as f64 * expected);
        }
    }

    /// How many keys may be asked for while `asked` are, if a value has about `expected` bytes.
    pub fn allowance(&self, asked: usize, expected: u64) -> usize {
        // A float that is too large, or below zero, becomes what is nearest.
        let keys = self
            .keys
            .as_ref()
            .map_or(usize::MAX, |keys| keys.level as usize);
        keys.min(self.bytes_allowance(asked, expected))
    }

    fn bytes_allowance(&self, asked: usize, expected: u64) -> usize {
        let Some(level) = self.bytes_level() else {
            return usize::MAX;
        };
        let expected = self.expected(expected);
        let fits = ((level - asked as f64 * expected) / expected) as usize;
        match asked {
            0 if level >= 0.0 => fits.max(1),
            _ => fits,
        }
    }

    /// Bytes that a payload is thought to have at most, if the next ones seem to have `soon`.
    fn expected(&self, soon: u64) -> f64 {
        self.average.0.max(soon as f64)
    }

    /// How many bytes may come, by whatever they are limited most.
    fn bytes_level(&self) -> Option<f64> {
        let by_rate = self.bytes.as_ref().map(|bytes| bytes.level);
        match (by_rate, self.room) {
            (Some(by_rate), Some(room)) => Some(by_rate.min(room)),
            (by_rate, room) => by_rate.or(room),
        }
    }

    /// How many bytes may come by now.
    pub fn bytes_left(&self) -> u64 {
        // As above.
        self.bytes_level().map_or(u64::MAX, |level| level as u64)
    }

    /// How many keys may be asked for in a second.
    pub fn keys_of_a_second(&self) -> usize {
        let keys = self.keys.as_ref();
        keys.map_or(usize::MAX, |keys| keys.per_s as usize)
    }

    /// Whether bytes that have come are not paid for.
    pub fn owes_bytes(&self) -> bool {
        self.bytes_level().is_some_and(|level| level < 0.0)
    }

    /// So many keys were asked for.
    pub fn asked(&mut self, count: usize) {
        if let Some(keys) = &mut self.keys {
            keys.level -= count as f64;
        }
    }

    /// So many names came and are not of keys that are read, or were kept back by the server. Returns how many keys they
    /// count as.
    pub fn passed_over(&mut self, names: usize) -> u64 {
        self.names += names;
        let keys = self.names / NAMES_OF_A_KEY;
        self.names %= NAMES_OF_A_KEY;
        self.asked(keys);
        keys as u64
    }

    /// Whether names may be asked for: what was passed over has been paid.
    pub fn may_scan(&mut self) -> bool {
        let in_debt = self.keys.as_ref().is_some_and(|keys| keys.level < 0.0);
        if in_debt {
            self.hold();
        }
        !in_debt
    }

    /// A payload of so many bytes has come.
    pub fn came(&mut self, bytes: usize) {
        let (average, over) = &mut self.average;
        *over = (*over + 1.0).min(AVERAGED);
        *average += (bytes as f64 - *average) / *over;
        if let Some(bucket) = &mut self.bytes {
            bucket.level -= bytes as f64;
        }
        if let Some(room) = &mut self.room {
            *room -= bytes as f64;
        }
    }

    /// There were keys to be asked for, and [`Self::allowance`] was none.
    pub fn hold(&mut self) {
        let Some(now) = self.filled else {
            return;
        };
        let by = match &self.keys {
            Some(keys) if keys.level < 1.0 => match self.guarded {
                Some(guarded) if guarded <= keys.per_s => Held::Guard,
                _ => Held::Keys,
            },
            _ => match (self.room, &self.bytes) {
                (Some(room), Some(bytes)) if bytes.level < room => Held::Bytes,
                (Some(_), _) => Held::Room,
                (None, _) => Held::Bytes,
            },
        };
        self.held = Some((by, now));
    }

    /// Which limit holds the reader back at present.
    pub fn held(&self) -> Option<(HeldBy, String)> {
        let (by, at) = self.held?;
        let recently = self
            .filled
            .is_some_and(|now| now.saturating_duration_since(at) < HELD);
        let (by, limit) = match by {
            Held::Keys => (HeldBy::Rate, format!("{} keys", self.limits.keys_per_s?)),
            Held::Guard => return None,
            Held::Room => {
                let reason = "little is left of the target's memory".to_owned();
                return recently.then_some((HeldBy::Memory, reason));
            }

            Held::Bytes => {
                let bytes = Bytes(self.limits.bytes_per_s?);
                (HeldBy::Bandwidth, bytes.to_string())
            }
        };
        recently.then(|| (by, format!("the limit of {limit}/s")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limited(keys_per_s: Option<u64>, bytes_per_s: Option<u64>) -> Pacer {
        let mut pacer = Pacer::default();
        pacer.set(Limits {
            keys_per_s,
            bytes_per_s,
            latency_us: None,
        });
        pacer
    }

    /// Asks for all that is allowed every 10 ms, with values of `size` that come `late` steps later and are thought to have
    /// `expected` bytes. Returns the keys, the bytes that came, and the most bytes of one step.
    fn over_10_s(
        mut pacer: Pacer,
        size: usize,
        expected: u64,
        late: usize,
    ) -> (usize, usize, usize) {
        let began = Instant::now();
        let (mut asked, mut came, mut most) = (0, 0, 0);
        let mut on_their_way = std::collections::VecDeque::from(vec![0; late]);
        for step in 0..1000 {
            let arrived = on_their_way.pop_front().unwrap_or_default();
            (0..arrived).for_each(|_| pacer.came(size));
            came += arrived;
            let outstanding = on_their_way.iter().sum();
            let now = began + step * Duration::from_millis(10);
            pacer.fill(now, outstanding, expected);
            let allowed = pacer.allowance(outstanding, expected);
            pacer.asked(allowed);
            on_their_way.push_back(allowed);
            asked += allowed;
            most = most.max(allowed);
        }
        (asked, came * size, most * size)
    }

    #[test]
    fn without_a_limit_everything_is_allowed() {
        let mut pacer = Pacer::default();
        pacer.fill(Instant::now(), 0, 1);
        assert_eq!(pacer.allowance(5, 100), usize::MAX);
        assert!(!pacer.is_limited());
        assert_eq!(pacer.held(), None);
    }

    #[test]
    fn over_ten_seconds_keys_keep_to_their_rate() {
        for rate in [7, 100, 1_000, 50_000, 1_000_000] {
            let (asked, _, most) = over_10_s(limited(Some(rate), None), 1, 1, 30);
            let ratio = asked as f64 / (rate * 10) as f64;
            assert!((0.95..=1.05).contains(&ratio), "{rate}/s: {ratio}");
            assert!(most as f64 <= rate as f64 * SAVED_S + 1.0, "{most}");
        }
    }

    #[test]
    fn over_ten_seconds_bytes_keep_to_their_rate_however_large_values_are() {
        for (size, expected, late) in [
            (100, 100, 3),
            (100, 100, 30),
            (100, 1000, 3),
            (1000, 100, 1),
            (300_000, 300_000, 3),
        ] {
            let (_, came, _) = over_10_s(limited(None, Some(1 << 20)), size, expected, late);
            let ratio = came as f64 / f64::from(10 << 20);
            assert!(
                (0.95..=1.05).contains(&ratio),
                "{size}, {expected}, {late}: {ratio}"
            );
        }
    }

    #[test]
    fn names_that_are_passed_over_are_paid_for_before_more_are_asked_for() {
        let mut pacer = limited(Some(1000), None);
        let now = Instant::now();
        pacer.fill(now, 0, 1);
        assert!(pacer.may_scan());
        assert_eq!(pacer.passed_over(5), 0);
        assert_eq!(pacer.passed_over(500), 50);
        assert!(!pacer.may_scan());
        pacer.fill(now + Duration::from_millis(40), 0, 1);
        assert!(!pacer.may_scan());
        let held = Some((HeldBy::Rate, "the limit of 1000 keys/s".to_owned()));
        assert_eq!(pacer.held(), held);
        pacer.fill(now + Duration::from_millis(51), 0, 1);
        assert!(pacer.may_scan());
    }

    #[test]
    fn what_was_not_used_is_saved_for_a_tenth_of_a_second_only() {
        let mut pacer = limited(Some(1000), Some(1 << 20));
        let now = Instant::now();
        pacer.fill(now, 0, 1);
        assert_eq!(pacer.allowance(0, 1), 0);
        pacer.fill(now + Duration::from_secs(60), 0, 1);
        assert_eq!(pacer.allowance(0, 1), 101);
    }

    #[test]
    fn a_value_larger_than_its_second_is_a_debt() {
        let mut pacer = limited(None, Some(1000));
        let now = Instant::now();
        pacer.fill(now, 0, 1);
        assert_eq!(pacer.allowance(0, 5000), 1, "one may always be asked for");
        pacer.came(5000);
        pacer.fill(now + Duration::from_millis(4900), 0, 1);
        assert_eq!(pacer.allowance(0, 5000), 0);
        pacer.fill(now + Duration::from_millis(5010), 0, 1);
        assert_eq!(pacer.allowance(0, 5000), 1);
    }

    #[test]
    fn who_is_held_back_says_by_what() {
        let mut pacer = limited(Some(1000), Some(1 << 20));
        let now = Instant::now();
        pacer.fill(now, 0, 1);
        pacer.hold();
        let held = |by, reason: &str| Some((by, reason.to_owned()));
        assert_eq!(pacer.held(), held(HeldBy::Rate, "the limit of 1000 keys/s"));
        pacer.fill(now + Duration::from_secs(1), 0, 1);
        pacer.came(1 << 20);
        pacer.hold();
        assert_eq!(pacer.held(), held(HeldBy::Bandwidth, "the limit of 1MiB/s"));
        pacer.fill(now + Duration::from_secs(5), 0, 1);
        assert_eq!(pacer.held(), None);
        pacer.set(Limits::default());
        assert!(!pacer.is_limited());
    }

    #[test]
    fn no_more_is_asked_for_than_there_is_room_for_until_somebody_looks_again() {
        let mut pacer = limited(None, Some(1 << 20));
        let now = Instant::now();
        pacer.fill(now, 0, 100);
        pacer.fill(now + Duration::from_secs(1), 0, 100);
        assert_eq!(pacer.allowance(0, 100), 1048);
        pacer.room(Some(3000));
        assert_eq!(pacer.allowance(0, 100), 30);
        assert_eq!(pacer.allowance(20, 100), 10);
        (0..30).for_each(|_| pacer.came(100));
        assert_eq!(pacer.allowance(20, 100), 0);
        pacer.hold();
        let reason = "little is left of the target's memory".to_owned();
        assert_eq!(pacer.held(), Some((HeldBy::Memory, reason)));
        pacer.room(Some(90));
        assert_eq!(pacer.allowance(0, 100), 1, "a value larger than that");
        pacer.room(None);
        assert_eq!(pacer.allowance(0, 100), 1018);
    }
}
