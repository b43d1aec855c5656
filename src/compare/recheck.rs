//! What becomes of a key that differed, when it is read again.
//!
//! On a source that is written to, two reads of a key are of two moments, and they differ though nothing is wrong. So a
//! difference is believed only when it shows the same again and again, with time between.
//!
//! # Invariants
//!
//! - A finding has shown the same [`UNCHANGED_MIN`] times in a row since it was first seen.
//! - A key that changes from read to read is *undecided* in the end, never a difference.

use std::time::Duration;

use super::judge::{Difference, kind_name};
use crate::client::handshake::unix_ms;
use crate::compare::expiry::Expiry;
use crate::progress::Verdict;
use crate::state::record::{CandidateRecord, FindingRecord, FindingState};

/// Times in a row that a difference must show the same before it is believed.
pub const UNCHANGED_MIN: u32 = 2;
/// Times that a key is read again before it is given up as undecided.
pub const ROUNDS_MAX: u32 = 8;
/// The time between two reads grows to so many times the settle time.
const PATIENCE_MAX: u32 = 4;

/// What is to be done with a candidate that still differs.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// Read it again later.
    Wait(CandidateRecord),
    /// It is a finding.
    Found(Verdict),
}

/// When a candidate may be read again, Unix milliseconds.
pub fn due_ms(record: &CandidateRecord, settle: Duration) -> u64 {
    let patience = 1_u32
        .checked_shl(record.rounds)
        .unwrap_or(PATIENCE_MAX)
        .min(PATIENCE_MAX);
    record
        .read_ms
        .saturating_add((settle * patience).as_millis() as u64)
}

/// Decides after a candidate was read again and differed.
pub fn decide(before: &CandidateRecord, difference: &Difference) -> Next {
    let (source_seen, target_seen) = (difference.seen(0), difference.seen(1));
    let same = (before.source_seen, before.target_seen) == (source_seen, target_seen);
    let unchanged = if same { before.unchanged + 1 } else { 0 };
    let rounds = before.rounds + 1;
    if unchanged >= UNCHANGED_MIN {
        return Next::Found(difference.verdict);
    }
    if rounds >= ROUNDS_MAX {
        return Next::Found(Verdict::Undecided);
    }
    Next::Wait(CandidateRecord {
        verdict: difference.verdict,
        source_seen,
        target_seen,
        read_ms: unix_ms(),
        rounds,
        unchanged,
        payload_bytes: difference.payload_bytes(),
        ..before.clone()
    })
}

/// What is kept of a finding. `first`: where the values differ first.
pub fn finding(verdict: Verdict, difference: &Difference, first: Option<&str>) -> FindingRecord {
    let kind = |side: usize| difference.sides[side].map(|seen| kind_name(seen.digest.kind));
    let digest = |side: usize| difference.sides[side].and_then(|seen| seen.digest.digest);
    let key_type = kind(0).or(kind(1)).unwrap_or_default();
    FindingRecord {
        verdict,
        key_type: key_type.to_owned(),
        detail: detail(verdict, difference, first),
        source_digest: digest(0),
        target_digest: digest(1),
        payload_bytes: difference.payload_bytes(),
        found_ms: unix_ms(),
        state: FindingState::Open,
    }
}

fn detail(verdict: Verdict, difference: &Difference, first: Option<&str>) -> String {
    let kind =
        |side: usize| difference.sides[side].map_or("gone", |seen| kind_name(seen.digest.kind));
    let digests = digests(difference);
    match verdict {
        Verdict::Type => format!("{} on source, {} on target", kind(0), kind(1)),
        Verdict::Ttl => expiries(difference),
        Verdict::Undecided => format!("changed each time that it was read \u{b7} {digests}"),
        Verdict::Missing | Verdict::Extra => digests,
        Verdict::Value => match first {
            Some(first) => format!("{first} \u{b7} {digests}"),
            None => digests,
        },
    }
}

/// `blake3 4be1… ≠ 90aa…`, or of the one side that has the key.
fn digests(difference: &Difference) -> String {
    let of = |side: usize| {
        difference.sides[side].map(|seen| {
            let digest = seen.digest.digest.or(seen.bytes).unwrap_or_default();
            format!("{:02x}{:02x}\u{2026}", digest[0], digest[1])
        })
    };
    match (of(0), of(1)) {
        (Some(source), Some(target)) => format!("blake3 {source} \u{2260} {target}"),
        (Some(one), None) | (None, Some(one)) => format!("blake3 {one}"),
        (None, None) => "gone".to_owned(),
    }
}

fn expiries(difference: &Difference) -> String {
    match difference.expiries {
        [Some(Expiry::At(source)), Some(Expiry::At(target))] => {
            let apart = target.saturating_sub(source) as f64 / 1000.0;
            let side = if apart > 0.0 { "later" } else { "earlier" };
            format!("expires {:.1} s {side} on target", apart.abs())
        }
        [Some(Expiry::At(_)), _] => "expires on source, never on target".to_owned(),
        [_, Some(Expiry::At(_))] => "never expires on source, expires on target".to_owned(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::judge::Seen;
    use crate::digest::of_string;

    fn difference(source: &[u8], target: Option<&[u8]>) -> Difference {
        let seen = |bytes: &[u8]| Seen {
            digest: of_string(bytes),
            bytes: None,
            len: bytes.len(),
        };
        Difference {
            verdict: match target {
                Some(_) => Verdict::Value,
                None => Verdict::Missing,
            },
            sides: [Some(seen(source)), target.map(seen)],
            expiries: [Some(Expiry::Never); 2],
            exact: true,
            lives: None,
        }
    }

    fn first(difference: &Difference) -> CandidateRecord {
        CandidateRecord {
            verdict: difference.verdict,
            source_seen: difference.seen(0),
            target_seen: difference.seen(1),
            first_ms: 1,
            read_ms: 1,
            rounds: 0,
            unchanged: 0,
            payload_bytes: 1,
            from_target: false,
        }
    }

    fn waits(next: Next) -> CandidateRecord {
        match next {
            Next::Wait(record) => record,
            Next::Found(verdict) => panic!("{verdict:?} too early"),
        }
    }

    #[test]
    fn a_difference_is_believed_when_it_shows_the_same_twice_more() {
        let seen = difference(b"a", Some(b"b"));
        let once = waits(decide(&first(&seen), &seen));
        assert_eq!((once.rounds, once.unchanged), (1, 1));
        assert_eq!(decide(&once, &seen), Next::Found(Verdict::Value));
    }

    #[test]
    fn what_changed_in_between_has_to_show_the_same_anew() {
        let seen = difference(b"a", Some(b"b"));
        let once = waits(decide(&first(&seen), &seen));
        for other in [difference(b"x", Some(b"b")), difference(b"a", Some(b"x"))] {
            let changed = waits(decide(&once, &other));
            assert_eq!((changed.rounds, changed.unchanged), (2, 0));
        }
        let gone = difference(b"a", None);
        let changed = waits(decide(&once, &gone));
        let again = waits(decide(&changed, &gone));
        assert_eq!(decide(&again, &gone), Next::Found(Verdict::Missing));
    }

    #[test]
    fn what_never_stands_still_is_undecided() {
        let mut record = first(&difference(b"0", Some(b"t")));
        for round in 1..ROUNDS_MAX {
            let changed = difference(round.to_string().as_bytes(), Some(b"t"));
            record = waits(decide(&record, &changed));
        }
        let changed = difference(b"last", Some(b"t"));
        assert_eq!(decide(&record, &changed), Next::Found(Verdict::Undecided));
    }

    #[test]
    fn the_time_between_two_reads_grows() {
        let seen = difference(b"a", Some(b"b"));
        let settle = Duration::from_secs(1);
        let due = |rounds| {
            let record = CandidateRecord {
                rounds,
                read_ms: 10_000,
                ..first(&seen)
            };
            due_ms(&record, settle)
        };
        assert_eq!(
            [0, 1, 2, 3, 40].map(due),
            [11_000, 12_000, 14_000, 14_000, 14_000]
        );
    }

    #[test]
    fn a_finding_says_where_it_differs_and_shows_no_value() {
        let seen = difference(b"secret", Some(b"other secret"));
        let record = finding(Verdict::Value, &seen, Some("field \"qty\" only on source"));
        assert!(
            record
                .detail
                .starts_with("field \"qty\" only on source \u{b7} blake3 "),
            "{record:?}"
        );
        assert!(!record.detail.contains("secret"));
        assert_eq!(record.key_type, "string");
        let gone = difference(b"a", None);
        let record = finding(Verdict::Missing, &gone, None);
        assert_eq!(record.target_digest, None);
        assert!(record.source_digest.is_some());
        let mut late = difference(b"a", Some(b"a"));
        late.expiries = [Some(Expiry::At(5_000)), Some(Expiry::At(7_000))];
        assert_eq!(
            finding(Verdict::Ttl, &late, None).detail,
            "expires 2.0 s later on target"
        );
    }
}
