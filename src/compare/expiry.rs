//! Do two keys expire at the same time? Two servers answer, each by its own clock.
//!
//! # Invariants
//!
//! - Where both servers tell the instant and their clocks agree, the instants are compared. Everywhere else it is the time
//!   left that counts, brought to one scale by our monotonic clock.
//! - A key that is about to expire, or should have expired, is as good as gone.

use std::time::{Duration, Instant};

use crate::client::Clock;
use crate::progress::{BothLive, Drift, Life};

/// Clocks further apart than this do not share instants.
const CLOCKS_AGREE_MS: i64 = 1000;

/// What PTTL and PEXPIRETIME say of a key that has no expiry.
pub const NEVER: i64 = -1;
/// What they say where there is no key.
pub const NO_KEY: i64 = -2;

/// How answers become instants on one scale.
#[derive(Debug, Clone)]
pub struct Expiries {
    /// The instants may differ by so much, milliseconds.
    tolerance_ms: i64,
    /// Which sides are asked for the instant (PEXPIRETIME) rather than for the time left (PTTL).
    absolute: [bool; 2],
    clocks: [Option<Clock>; 2],
    /// Instants of both sides are on one scale as they are.
    shared: bool,
    /// Zero of our own scale.
    zero: Instant,
}

/// An answer and when it was read.
#[derive(Debug, Clone, Copy)]
pub struct Answer {
    /// What the server said.
    pub ms: i64,
    /// When we read it.
    pub at: Instant,
}

/// An instant of expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// It has none.
    Never,
    /// In milliseconds, on a scale that holds for both sides in this run.
    At(i64),
}

impl Expiries {
    /// For two servers, of which each may know PEXPIRETIME and may tell its clock.
    pub fn new(tolerance: Duration, knows_instants: [bool; 2], clocks: [Option<Clock>; 2]) -> Self {
        let agree = match clocks {
            [Some(source), Some(target)] => target.ahead_of(&source).abs() <= CLOCKS_AGREE_MS,
            _ => false,
        };
        // An instant by a clock that nobody knows can't be compared with a time left.
        let absolute = [0, 1].map(|side| knows_instants[side] && clocks[side].is_some());
        Self {
            tolerance_ms: i64::try_from(tolerance.as_millis()).unwrap_or(i64::MAX),
            absolute,
            clocks,
            shared: absolute == [true, true] && agree,
            zero: Instant::now(),
        }
    }

    /// Whether a side is asked for the instant rather than for the time left.
    pub fn asks_instant(&self, side: usize) -> bool {
        self.absolute[side]
    }

    /// Whether [`Expiry::At`] is the server's own instant: only then is it the same each time that it is asked.
    pub fn is_exact(&self) -> bool {
        self.shared
    }

    /// How long ago or ahead `at` is on our own scale.
    fn ours(&self, at: Instant) -> i64 {
        match at.checked_duration_since(self.zero) {
            Some(since) => since.as_millis() as i64,
            None => -(self.zero.duration_since(at).as_millis() as i64),
        }
    }

    /// What an answer means; [`NO_KEY`] is the caller's.
    pub fn of(&self, side: usize, answer: Answer) -> Expiry {
        if answer.ms == NEVER {
            return Expiry::Never;
        }
        Expiry::At(match (self.absolute[side], self.clocks[side]) {
            (true, _) if self.shared => answer.ms,
            (true, Some(clock)) => answer
                .ms
                .saturating_sub(clock.unix_ms)
                .saturating_add(self.ours(clock.read_at)),
            _ => answer.ms.saturating_add(self.ours(answer.at)),
        })
    }

    /// Whether a key that has this expiry is about to vanish, or has vanished since.
    pub fn is_ending(&self, side: usize, answer: Answer, now: Instant) -> bool {
        self.left_ms(side, answer, now)
            .is_some_and(|left| left <= self.tolerance_ms)
    }

    /// Milliseconds until a key with this expiry is gone, if it has one.
    fn left_ms(&self, side: usize, answer: Answer, now: Instant) -> Option<i64> {
        let now = match self.clocks[side] {
            Some(clock) if self.shared => clock.at(now),
            _ => self.ours(now),
        };
        match self.of(side, answer) {
            Expiry::Never => None,
            Expiry::At(instant) => Some(instant.saturating_sub(now)),
        }
    }

    /// For how long a key lives on that both sides have.
    pub fn lives(&self, answers: [Answer; 2], now: Instant) -> BothLive {
        let life = |side: usize| {
            self.left_ms(side, answers[side], now)
                .map_or(Life::Forever, Life::of_ms)
        };
        let drift = match (self.of(0, answers[0]), self.of(1, answers[1])) {
            (Expiry::Never, Expiry::Never) => Drift::None,
            (Expiry::At(one), Expiry::At(other)) => Drift::of_ms(one.abs_diff(other)),
            _ => Drift::More,
        };
        BothLive {
            sides: [life(0), life(1)],
            drift,
        }
    }

    /// Whether both are the same, within the tolerance.
    pub fn equal(&self, source: Expiry, target: Expiry) -> bool {
        match (source, target) {
            (Expiry::Never, Expiry::Never) => true,
            (Expiry::At(one), Expiry::At(other)) => {
                one.abs_diff(other) <= self.tolerance_ms.unsigned_abs()
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(unix_ms: i64) -> Option<Clock> {
        Some(Clock {
            read_at: Instant::now(),
            unix_ms,
            uncertainty_ms: 1,
        })
    }

    fn differ(expiries: &Expiries, source: i64, target: i64) -> bool {
        let at = Instant::now();
        let source = expiries.of(0, Answer { ms: source, at });
        let target = expiries.of(1, Answer { ms: target, at });
        !expiries.equal(source, target)
    }

    const TOLERANCE: Duration = Duration::from_secs(1);

    #[test]
    fn instants_are_compared_where_the_clocks_agree() {
        let expiries = Expiries::new(TOLERANCE, [true; 2], [clock(1_000_000), clock(1_000_400)]);
        assert!(expiries.is_exact());
        assert!(!differ(&expiries, 5_000_000, 5_001_000));
        assert!(differ(&expiries, 5_000_000, 5_001_001));
        assert!(!differ(&expiries, -1, -1));
        assert!(differ(&expiries, -1, 5_000_000));
        assert!(differ(&expiries, 5_000_000, -1));
    }

    #[test]
    fn the_time_left_is_compared_where_they_do_not() {
        let ahead = 600_000;
        let expiries = Expiries::new(TOLERANCE, [true; 2], [clock(0), clock(ahead)]);
        assert!(!expiries.is_exact());
        assert!(!differ(&expiries, 90_000, 90_000 + ahead));
        assert!(differ(&expiries, 90_000, 90_000));
        assert!(differ(&expiries, 90_000, 92_000 + ahead));
        // One of them knows only the time left.
        let expiries = Expiries::new(TOLERANCE, [false, true], [clock(0), clock(ahead)]);
        assert!(!differ(&expiries, 90_000, 90_000 + ahead));
        assert!(differ(&expiries, 92_000, 90_000 + ahead));
        // An instant without a clock is of no use.
        let expiries = Expiries::new(TOLERANCE, [true; 2], [None, clock(ahead)]);
        assert!(!expiries.asks_instant(0));
        assert!(!differ(&expiries, 90_000, 90_000 + ahead));
    }

    #[test]
    fn how_long_a_key_lives_on_is_told_for_both_sides() {
        let check = |source: i64, target: i64, sides: [Life; 2], drift: Drift| {
            let at = Instant::now();
            let clocks = [clock(1_000_000), clock(1_000_000)];
            let expiries = Expiries::new(TOLERANCE, [true; 2], clocks);
            let answers = [source, target].map(|ms| Answer { ms, at });
            assert_eq!(expiries.lives(answers, at), BothLive { sides, drift });
        };
        check(NEVER, NEVER, [Life::Forever; 2], Drift::None);
        check(1_030_000, 1_030_000, [Life::Minute; 2], Drift::None);
        check(
            1_030_000,
            1_030_007,
            [Life::Minute; 2],
            Drift::TenMilliseconds,
        );
        check(1_030_000, NEVER, [Life::Minute, Life::Forever], Drift::More);
    }

    #[test]
    fn a_key_in_its_last_second_is_as_good_as_gone() {
        let expiries = Expiries::new(TOLERANCE, [true; 2], [clock(1_000_000), clock(1_000_000)]);
        let at = Instant::now();
        let ending = |ms| expiries.is_ending(0, Answer { ms, at }, at);
        assert!(ending(1_000_900));
        assert!(ending(5));
        assert!(!ending(1_002_000));
        assert!(!ending(NEVER));
        let expiries = Expiries::new(TOLERANCE, [false; 2], [None; 2]);
        let ending = |ms| expiries.is_ending(0, Answer { ms, at }, at);
        assert!(ending(900));
        assert!(!ending(2_000));
    }
}
