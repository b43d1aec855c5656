//! What a copy feels while it works, kept until the next milestone tells it: latencies, and waits for a side.
//!
//! # Invariant
//!
//! Whoever copies only ever adds here, in memory: a slow disk is never waited for.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::now_ms;
use crate::audit::entry::{Event, Latency, ThrottleKind};
use crate::endpoint::Side;

/// Round trips that are kept between two milestones, at most; what comes beyond them is left out.
const PROBES_MAX: usize = 1024;

/// Different waits that are kept between two milestones, at most; what comes beyond them counts to the last one.
const WAITS_MAX: usize = 16;

/// Shared by the copy, which feels, and the state, which tells.
#[derive(Debug, Clone, Default)]
pub struct Pulse(Arc<Mutex<Felt>>);

#[derive(Debug, Default)]
struct Felt {
    copying: bool,
    /// Microseconds, a list a side.
    probes: [Vec<u32>; 2],
    waiting: [Option<Wait>; 2],
    ended: Vec<Ended>,
    waited: Duration,
}

#[derive(Debug)]
struct Wait {
    kind: ThrottleKind,
    reason: String,
    since: Instant,
    began_ms: u64,
    attempts: u64,
    told: bool,
}

impl Wait {
    fn new(kind: ThrottleKind, reason: &str) -> Self {
        Self {
            kind,
            reason: super::store::shortened(reason),
            since: Instant::now(),
            began_ms: now_ms(),
            attempts: 0,
            told: false,
        }
    }
}

#[derive(Debug)]
struct Ended {
    side: Side,
    kind: ThrottleKind,
    reason: String,
    began_ms: u64,
    waited: Duration,
    waits: u64,
    attempts: u64,
}

/// What was felt since it was asked for the last time.
#[derive(Debug, Default)]
pub(super) struct Since {
    /// Whether a copy is under way.
    pub copying: bool,
    pub source: Option<Latency>,
    pub target: Option<Latency>,
    /// How long it waited for a side.
    pub waited: Duration,
    /// Why it waits at this moment.
    pub throttle: Option<String>,
}

impl Pulse {
    /// A copy is under way: milestones carry a sample from now on.
    pub fn begin(&self) {
        self.felt().copying = true;
    }

    /// A side answered a probe.
    pub fn probed(&self, side: Side, round_trip: Duration) {
        let probes = &mut self.felt().probes[side as usize];
        if probes.len() < PROBES_MAX {
            probes.push(u32::try_from(round_trip.as_micros()).unwrap_or(u32::MAX));
        }
    }

    /// The copy waits for a side, or goes on waiting after one more try.
    pub fn waits(&self, side: Side, kind: ThrottleKind, reason: &str) {
        let mut felt = self.felt();
        let waiting = felt.waiting[side as usize].as_ref();
        if waiting.is_some_and(|wait| wait.kind == ThrottleKind::Limited) {
            felt.end(side);
        }
        let wait = felt.waiting[side as usize].get_or_insert_with(|| Wait::new(kind, reason));
        wait.attempts += 1;
    }

    /// A limit that was given holds the run back to spare a side, or none does any more. Asked for about once a second.
    pub fn limited(&self, held: Option<(Side, &str)>) {
        let mut felt = self.felt();
        for side in [Side::Source, Side::Target] {
            let reason = held.and_then(|(spared, reason)| (spared == side).then_some(reason));
            felt.limited(side, reason);
        }
    }

    /// A side answers again.
    pub fn answers(&self, side: Side) {
        let mut felt = self.felt();
        felt.end(side);
    }

    /// Lines about waits that the journal has not been told of. With `all`, those that last are at their end as well.
    pub(super) fn lines(&self, all: bool) -> Vec<Event> {
        let mut felt = self.felt();
        if all {
            felt.end(Side::Source);
            felt.end(Side::Target);
        }
        let mut lines: Vec<Event> = felt.ended.drain(..).map(Ended::line).collect();
        for side in [Side::Source, Side::Target] {
            let Some(wait) = &mut felt.waiting[side as usize] else {
                continue;
            };
            if !wait.told {
                wait.told = true;
                lines.push(Event::ThrottleBegan {
                    side,
                    kind: wait.kind,
                    reason: wait.reason.clone(),
                });
            }
        }
        lines
    }

    /// What was felt since this was asked for the last time.
    pub(super) fn take(&self) -> Since {
        let mut felt = self.felt();
        let [source, target] = &mut felt.probes;
        let (source, target) = (latency(source), latency(target));
        let throttle = felt.waiting.iter().flatten().next();
        let throttle = throttle.map(|wait| wait.reason.clone());
        let mut waited = std::mem::take(&mut felt.waited);
        for wait in felt.waiting.iter().flatten() {
            waited += wait.since.elapsed();
        }
        Since {
            copying: felt.copying,
            source,
            target,
            waited,
            throttle,
        }
    }

    fn felt(&self) -> MutexGuard<'_, Felt> {
        // Numbers for people: what a panic left half done is good enough.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Felt {
    fn limited(&mut self, side: Side, reason: Option<&str>) {
        let same = match (&self.waiting[side as usize], reason) {
            (Some(wait), _) if wait.kind != ThrottleKind::Limited => return,
            (Some(wait), Some(reason)) => wait.reason == reason,
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if same {
            return;
        }
        self.end(side);
        self.waiting[side as usize] = reason.map(|reason| Wait::new(ThrottleKind::Limited, reason));
    }

    fn end(&mut self, side: Side) {
        let Some(wait) = self.waiting[side as usize].take() else {
            return;
        };
        let waited = wait.since.elapsed();
        self.waited += waited;
        let full = self.ended.len() == WAITS_MAX;
        let same = self.ended.iter_mut().rev().find(|ended| {
            full || (ended.side, ended.kind, &ended.reason) == (side, wait.kind, &wait.reason)
        });
        match same {
            Some(ended) => {
                ended.waited += waited;
                ended.waits += 1;
                ended.attempts += wait.attempts;
            }
            None => self.ended.push(Ended {
                side,
                kind: wait.kind,
                reason: wait.reason,
                began_ms: wait.began_ms,
                waited,
                waits: 1,
                attempts: wait.attempts,
            }),
        }
    }
}

impl Ended {
    fn line(self) -> Event {
        Event::ThrottleEnded {
            side: self.side,
            kind: self.kind,
            reason: self.reason,
            began_ms: self.began_ms,
            waited_ms: u64::try_from(self.waited.as_millis()).unwrap_or(u64::MAX),
            waits: self.waits,
            attempts: self.attempts,
        }
    }
}

/// The shape of some round trips, which are forgotten.
fn latency(probes: &mut Vec<u32>) -> Option<Latency> {
    probes.sort_unstable();
    let at = |percent: usize| probes.get(((probes.len() * percent).div_ceil(100)).max(1) - 1);
    let latency = Latency {
        probes: u32::try_from(probes.len()).unwrap_or(u32::MAX),
        p50_us: *at(50)?,
        p99_us: *at(99)?,
        max_us: *probes.last()?,
    };
    probes.clear();
    Some(latency)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
mod tests {
    use super::*;

    #[test]
    fn the_shape_of_round_trips_is_that_of_the_sorted_list() {
        let check = |probes: &[u32], p50, p99, max| {
            let mut probes = probes.to_vec();
            let told = latency(&mut probes).unwrap();
            assert_eq!((told.p50_us, told.p99_us, told.max_us), (p50, p99, max));
            assert!(probes.is_empty());
        };
        check(&[7], 7, 7, 7);
        check(&[9, 1], 1, 9, 9);
        check(&(1..=100).rev().collect::<Vec<u32>>(), 50, 99, 100);
        assert!(latency(&mut Vec::new()).is_none());
    }

    #[test]
    fn waits_that_follow_each_other_for_one_reason_are_one_line() {
        let pulse = Pulse::default();
        for _ in 0..3 {
            pulse.waits(Side::Target, ThrottleKind::Lost, "closed");
            pulse.waits(Side::Target, ThrottleKind::Lost, "refused");
            pulse.answers(Side::Target);
        }
        pulse.waits(Side::Source, ThrottleKind::Refused, "LOADING");
        let lines = pulse.lines(false);
        assert!(
            matches!(
                &lines[..],
                [
                    Event::ThrottleEnded {
                        side: Side::Target,
                        waits: 3,
                        attempts: 6,
                        ..
                    },
                    Event::ThrottleBegan {
                        side: Side::Source,
                        ..
                    },
                ]
            ),
            "{lines:?}"
        );
        assert!(pulse.lines(false).is_empty());
        assert_eq!(pulse.take().throttle.as_deref(), Some("LOADING"));
        assert!(matches!(
            &pulse.lines(true)[..],
            [Event::ThrottleEnded {
                side: Side::Source,
                waits: 1,
                attempts: 1,
                ..
            }]
        ));
    }

    #[test]
    fn a_limit_that_holds_back_is_one_wait_until_it_changes_or_a_side_is_lost() {
        let pulse = Pulse::default();
        for _ in 0..3 {
            pulse.limited(Some((Side::Source, "the limit of 10 keys/s")));
        }
        pulse.limited(Some((Side::Source, "the limit of 20 keys/s")));
        pulse.waits(Side::Source, ThrottleKind::Lost, "closed");
        pulse.limited(Some((Side::Source, "the limit of 20 keys/s")));
        pulse.answers(Side::Source);
        pulse.limited(None);
        let told = pulse.lines(false).into_iter().map(|line| match line {
            Event::ThrottleEnded { kind, reason, .. } => (kind, reason),
            other => panic!("{other:?}"),
        });
        assert_eq!(
            told.collect::<Vec<_>>(),
            [
                (ThrottleKind::Limited, "the limit of 10 keys/s".to_owned()),
                (ThrottleKind::Limited, "the limit of 20 keys/s".to_owned()),
                (ThrottleKind::Lost, "closed".to_owned()),
            ]
        );
    }

    #[test]
    fn however_many_reasons_there_are_the_list_is_bounded() {
        let pulse = Pulse::default();
        for n in 0..1000 {
            pulse.waits(Side::Source, ThrottleKind::Lost, &format!("reason {n}"));
            pulse.answers(Side::Source);
        }
        let lines = pulse.lines(false);
        assert_eq!(lines.len(), WAITS_MAX);
        let waits: u64 = lines
            .iter()
            .map(|line| match line {
                Event::ThrottleEnded { waits, .. } => *waits,
                _ => 0,
            })
            .sum();
        assert_eq!(waits, 1000);
    }
}
