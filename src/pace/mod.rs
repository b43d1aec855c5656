//! How hard a run may press on its servers: the limits that it was given, what they allow at present, and which of them holds
//! it back. The copy, the comparison and the repair keep to it alike.
//!
//! # Invariants
//!
//! - Whoever reads asks here first and says what it read: nobody counts for himself.
//! - Without a limit there is nothing to be counted, and no server is asked anything because of it.
//! - Only what is kept to is said to be: a limit that came while the run works is told once it holds.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::endpoint::Side;
use crate::progress::{HeldBy, Limits};

mod control;
mod guard;
mod pacer;
mod probe;
mod share;

pub use control::follow;
pub use pacer::LOOK_AGAIN;
pub use probe::{Probe, Probes, commands_per_s, spare};
pub use share::Share;

use guard::{Guard, SCAN_KEYS_MIN};
use pacer::Pacer;

/// Longest pause for the sake of a server's other clients.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Between the parts of a run, which are on one thread.
pub type Shared = Rc<RefCell<Pace>>;

/// Why a run is slow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Which limit.
    pub by: HeldBy,
    /// The side that is spared by it.
    pub side: Side,
    /// For people.
    pub reason: String,
}

/// See the module.
pub struct Pace {
    limits: Limits,
    /// Others came, and nobody has been told.
    changed: bool,
    pacer: Pacer,
    /// The side whose keys and bytes count.
    reads: Side,
    /// The sides whose clients a guard spares.
    spares: &'static [Side],
    guards: [Option<Guard>; 2],
    /// Keys a second that each of them leaves.
    rates: [Option<f64>; 2],
    /// Keys that were asked for, ever.
    keys_asked: u64,
    /// How the reader's window compares to its smallest one.
    window: f64,
}

impl Default for Pace {
    /// That of a copy without limits.
    fn default() -> Self {
        Self::new(Side::Source, &[Side::Source], Limits::default())
    }
}

impl Pace {
    /// Keeps to these limits. Keys and bytes are those of the side `reads`.
    pub fn new(reads: Side, spares: &'static [Side], limits: Limits) -> Self {
        let mut pace = Self {
            limits: Limits::default(),
            changed: false,
            pacer: Pacer::default(),
            reads,
            spares,
            guards: [None, None],
            rates: [None, None],
            keys_asked: 0,
            window: f64::INFINITY,
        };
        pace.set(limits);
        pace
    }

    /// As [`Self::new`], to be shared.
    pub fn shared(reads: Side, spares: &'static [Side], limits: Limits) -> Shared {
        Rc::new(RefCell::new(Self::new(reads, spares, limits)))
    }

    fn set(&mut self, limits: Limits) {
        let latency = self.limits.latency();
        self.limits = limits;
        self.pacer.set(limits);
        if limits.latency() == latency {
            return;
        }
        for side in self.spares {
            let guard = limits.latency().map(|most| Guard::new(*side, most));
            self.guards[*side as usize] = guard;
        }
        self.rates = [None, None];
        self.pacer.guard(None);
    }

    /// Keeps to these limits from now on. Returns whether they are others than before.
    pub fn change(&mut self, limits: Limits) -> bool {
        let others = limits != self.limits;
        if others {
            self.set(limits);
            self.changed = true;
        }
        others
    }

    /// What it keeps to.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// What it keeps to, if that has changed since it was asked for the last time.
    pub fn take_change(&mut self) -> Option<Limits> {
        std::mem::take(&mut self.changed).then_some(self.limits)
    }

    // ---- before something is read

    /// It is `now`: `asked` keys are on their way, and a value seems to have `expected` bytes. Returns whether there are
    /// limits, so that time alone may allow more.
    pub fn fill(&mut self, now: impl FnOnce() -> Instant, asked: usize, expected: u64) -> bool {
        if self.is_measuring() {
            return true;
        }
        let is_limited = self.pacer.is_limited();
        if is_limited {
            self.pacer.fill(now(), asked, expected);
        }
        is_limited
    }

    /// Whether nothing may be asked, because a side is measured while nothing is.
    pub fn is_measuring(&self) -> bool {
        self.guards.iter().flatten().any(Guard::is_measuring)
    }

    /// How many keys may be asked for while `asked` are, if a value has about `expected` bytes. Each is paid for with
    /// [`Self::asked`].
    pub fn allowance(&self, asked: usize, expected: u64) -> usize {
        self.pacer.allowance(asked, expected)
    }

    /// Bytes of values that may come by now.
    pub fn bytes_left(&self) -> u64 {
        self.pacer.bytes_left()
    }

    /// There were keys to be asked for, and none was allowed.
    pub fn hold(&mut self) {
        self.pacer.hold();
    }

    /// Whether names may be asked for: what was passed over has been paid.
    pub fn may_scan(&mut self) -> bool {
        self.pacer.may_scan()
    }

    /// Whether the next piece of a big value may be read.
    pub fn may_read_piece(&mut self, now: Instant) -> bool {
        if self.is_measuring() {
            return false;
        }
        self.pacer.fill(now, 0, 1);
        let may = !self.pacer.owes_bytes();
        if !may {
            self.pacer.hold();
        }
        may
    }

    /// How much of a window the guards leave, above 0 and at most 1.
    pub fn pressure(&self) -> f64 {
        let guards = self.guards.iter().flatten();
        guards.map(Guard::pressure).fold(1.0, f64::min)
    }

    /// How long to leave the servers to others after they were kept busy for so long.
    pub fn pause_after(&self, busy: Duration) -> Duration {
        let pressure = self.pressure();
        busy.mul_f64(1.0 / pressure - 1.0).min(PAUSE_MAX)
    }

    /// Names that a SCAN may ask for, of `most`: what can be read in a second, since a stop waits for a batch to its end.
    pub fn scan_keys(&self, most: u32) -> u32 {
        let of_a_second = self.pacer.keys_of_a_second().max(SCAN_KEYS_MIN as usize);
        let guards = self.guards.iter().flatten();
        let keys = guards.map(|guard| guard.scan_keys(most));
        let keys = keys.min().unwrap_or(most);
        u32::try_from(of_a_second).map_or(keys, |of_a_second| keys.min(of_a_second))
    }

    /// How many names to know in advance, of `most`: reading them takes a second, and a stop waits for it.
    pub fn names_ahead(&self, most: usize) -> usize {
        self.pacer.keys_of_a_second().min(most)
    }

    // ---- what was read

    /// So many keys were asked for.
    pub fn asked(&mut self, count: usize) {
        self.pacer.asked(count);
        self.keys_asked += count as u64;
    }

    /// So many names came and are not of keys that are read.
    pub fn passed_over(&mut self, names: usize) {
        self.keys_asked += self.pacer.passed_over(names);
    }

    /// A value of so many bytes has come.
    pub fn came(&mut self, bytes: usize) {
        self.pacer.came(bytes);
    }

    /// The reader's window, as it would be without a guard, is so many times its smallest one.
    pub fn window(&mut self, times: f64) {
        self.window = times;
    }

    /// No more than so many bytes of values may come from now on, until this is called again.
    pub fn room(&mut self, bytes: Option<u64>) {
        self.pacer.room(bytes);
    }

    // ---- what other clients feel

    /// Whether somebody wants to know what other clients of a side feel.
    pub fn is_guarded(&self, side: Side) -> bool {
        self.guards[side as usize].is_some()
    }

    /// Whether a side has not been measured yet.
    pub fn measures(&self, side: Side) -> bool {
        let guard = self.guards[side as usize].as_ref();
        guard.is_some_and(Guard::is_measuring)
    }

    /// A side serves so many commands a second while nothing is asked of it; `None` where it does not tell.
    pub fn serves(&mut self, side: Side, commands_per_s: Option<u64>) {
        if let Some(guard) = &mut self.guards[side as usize] {
            guard.serves(commands_per_s);
        }
    }

    /// A probe of a side took this long, until `now`.
    pub fn felt(&mut self, side: Side, latency: Duration, now: Instant) {
        let nothing_is_read = self.is_measuring();
        let Some(guard) = &mut self.guards[side as usize] else {
            return;
        };
        if guard.is_measuring() {
            guard.observe(latency);
            guard.read_per_s(now, self.keys_asked);
            return;
        }
        // While the other side is measured, nothing can be said of this one.
        if nothing_is_read || !guard.observe(latency) {
            return;
        }
        let read_per_s = guard.read_per_s(now, self.keys_asked);
        let share = self.window * guard.pressure();
        self.rates[side as usize] = guard.keys_per_s(read_per_s, share);
        let rates = self.rates.iter().flatten().copied();
        self.pacer.guard(rates.reduce(f64::min));
    }

    /// Which limit holds the run back at present.
    pub fn held(&self) -> Option<Held> {
        let by_pacer = self.pacer.held().map(|(by, reason)| Held {
            by,
            side: match by {
                HeldBy::Memory => Side::Target,
                _ => self.reads,
            },
            reason,
        });
        by_pacer.or_else(|| {
            let mut guards: Vec<&Guard> = self.guards.iter().flatten().collect();
            guards.sort_by(|one, other| one.pressure().total_cmp(&other.pressure()));
            guards.sort_by_key(|guard| !guard.is_measuring());
            guards.into_iter().find_map(|guard| {
                Some(Held {
                    by: HeldBy::Latency,
                    side: guard.side(),
                    reason: guard.held()?,
                })
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guarded() -> Pace {
        let limits = Limits {
            latency_us: Some(5_000),
            ..Limits::default()
        };
        Pace::new(Side::Source, &[Side::Source, Side::Target], limits)
    }

    fn measure(pace: &mut Pace, side: Side) {
        let mut probes = 0;
        while pace.measures(side) {
            pace.felt(side, Duration::from_millis(1), Instant::now());
            probes += 1;
            assert!(probes < 10_000, "it is never measured");
        }
        pace.serves(side, Some(200));
    }

    #[test]
    fn without_limits_everything_is_allowed_and_nothing_is_asked_for_the_time() {
        let mut pace = Pace::default();
        assert!(!pace.fill(|| unreachable!("nobody has to know"), 7, 100));
        assert_eq!(pace.allowance(7, 100), usize::MAX);
        assert_eq!((pace.pressure(), pace.scan_keys(500)), (1.0, 500));
        assert_eq!(pace.names_ahead(2048), 2048);
        assert_eq!(pace.bytes_left(), u64::MAX);
        assert!(pace.may_scan() && pace.may_read_piece(Instant::now()));
        assert_eq!((pace.held(), pace.take_change()), (None, None));
        assert!(!pace.is_guarded(Side::Source) && !pace.is_guarded(Side::Target));
    }

    #[test]
    fn limits_that_come_are_told_once_and_only_if_they_are_others() {
        let mut pace = Pace::default();
        let limits = Limits {
            keys_per_s: Some(10),
            ..Limits::default()
        };
        assert!(pace.change(limits));
        assert!(!pace.change(limits));
        assert_eq!(pace.take_change(), Some(limits));
        assert_eq!((pace.take_change(), pace.limits()), (None, limits));
        assert_eq!(pace.names_ahead(2048), 10);
        assert_eq!((pace.scan_keys(500), pace.scan_keys(5)), (SCAN_KEYS_MIN, 5));
    }

    #[test]
    fn both_sides_are_measured_before_anything_is_read_and_the_slower_one_counts() {
        let mut pace = guarded();
        assert!(pace.is_measuring() && pace.fill(Instant::now, 0, 1));
        assert!(!pace.may_read_piece(Instant::now()));
        measure(&mut pace, Side::Source);
        assert!(pace.is_measuring());
        // Nothing is asked of the source while the target is measured: that it is quick says nothing.
        let before = pace.pressure();
        for _ in 0..1000 {
            pace.felt(Side::Source, Duration::from_millis(1), Instant::now());
        }
        assert_eq!(pace.pressure(), before);
        let held = pace.held().map(|held| (held.by, held.side));
        assert_eq!(held, Some((HeldBy::Latency, Side::Target)));
        measure(&mut pace, Side::Target);
        assert!(!pace.is_measuring());
        for _ in 0..20_000 {
            pace.felt(Side::Source, Duration::from_millis(1), Instant::now());
            pace.felt(Side::Target, Duration::from_millis(1), Instant::now());
        }
        assert_eq!((pace.pressure(), pace.held()), (1.0, None));
        for _ in 0..3 {
            pace.felt(Side::Target, Duration::from_millis(50), Instant::now());
        }
        assert!(pace.pressure() < 1.0);
        let held = pace.held().map(|held| held.reason);
        let said = "the target's latency, which may be 5ms";
        assert_eq!(held.as_deref(), Some(said));
        let busy = Duration::from_millis(70);
        assert!(pace.pause_after(busy) > Duration::from_millis(20));
    }

    #[test]
    fn a_limit_that_is_taken_back_takes_its_guards_with_it() {
        let mut pace = guarded();
        assert!(pace.is_guarded(Side::Target));
        pace.change(Limits::default());
        assert!(!pace.is_guarded(Side::Source) && !pace.is_guarded(Side::Target));
        assert!(!pace.is_measuring());
        assert_eq!(pace.allowance(0, 1), usize::MAX);
    }
}
