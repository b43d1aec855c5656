//! What a key of the target is to what was recorded of it.
//!
//! # Invariants
//!
//! - A key that should have expired by now, or is about to, is as good as gone.
//! - What was never seen, or what nobody can interpret, is neither equal nor a difference.

use crate::compare::judge::{kind_name, kind_of};
use crate::digest::KeyDigest;
use crate::plan::KeyType;
use crate::progress::Verdict;
use crate::recorded::digesting::{Digested, has_lost_fields, likeness};
use crate::recorded::entry::Recorded;
use crate::recorded::{Digesting, Likeness, Outcome, Value};

/// What the target has under a name.
#[derive(Debug, Clone, Copy)]
pub struct Held {
    /// Its value, digested as far as is known of what was recorded.
    pub digested: Digested,
    /// What it is to that, if something was.
    pub likeness: Option<Likeness>,
    /// Bytes of its payload.
    pub payload_bytes: u64,
    /// When it expires.
    pub expires_ms: Option<i64>,
}

/// What becomes of a key.
#[derive(Debug, Clone)]
pub enum Judged {
    /// It is as recorded.
    Same(KeyDigest),
    /// It has expired, or is about to; or it was the target's alone and is gone.
    Gone,
    /// Not of a type that is asked for.
    Filtered,
    /// Nobody can tell.
    Unknown,
    /// It differs.
    Differs(Box<Difference>),
}

/// How a key differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Why.
    pub verdict: Verdict,
    /// Type of what was recorded; of what the target has, if nothing was.
    pub key_type: &'static str,
    /// Where they differ, and the beginnings of both digests.
    pub detail: String,
    /// Digest of what the target has.
    pub target_digest: Option<[u8; 32]>,
    /// Bytes of its payload.
    pub payload_bytes: u64,
}

/// By what is judged.
#[derive(Debug)]
pub struct Rules {
    /// Instants of expiry may differ by so much.
    pub tolerance_ms: i64,
    /// Types that are asked for; empty: all.
    pub types: Vec<KeyType>,
}

/// Digests what DUMP returned, as far as is known of what was recorded.
pub fn digest(
    digesting: &mut Digesting,
    payload: &[u8],
    expected: Option<Outcome>,
    now_ms: i64,
) -> Held {
    let recorded = match &expected {
        Some(Outcome::Value(recorded)) => Some(recorded),
        _ => None,
    };
    let value = Value::Payload(payload);
    let digested = digesting.digested(value, recorded, now_ms);
    Held {
        likeness: recorded.map(|recorded| likeness(recorded, &digested, value, now_ms)),
        digested,
        payload_bytes: payload.len() as u64,
        expires_ms: None,
    }
}

impl Rules {
    /// What a key of the target is to what was recorded of it; `held`: it has none by now.
    pub fn judge(&self, expected: Option<Outcome>, held: Option<&Held>, now_ms: i64) -> Judged {
        match (expected, held) {
            (Some(Outcome::Value(recorded)), Some(held)) => self.value(&recorded, held, now_ms),
            (Some(Outcome::Value(recorded)), None) => self.missing(&recorded, now_ms),
            (Some(_), _) => Judged::Unknown,
            (None, Some(held)) => self.extra(held, now_ms),
            (None, None) => Judged::Gone,
        }
    }

    fn value(&self, recorded: &Recorded, held: &Held, now_ms: i64) -> Judged {
        let verdict = match held.likeness {
            Some(Likeness::Same) => match self.same_expiry(recorded.expires_ms, held.expires_ms) {
                true => return Judged::Same(held.digested.key),
                false => Verdict::Ttl,
            },
            Some(Likeness::OtherType) => Verdict::Type,
            Some(Likeness::OtherValue) => Verdict::Value,
            Some(Likeness::Unknown) | None => return Judged::Unknown,
        };
        // A key that both know to be about to go says nothing any more.
        let ends = |ms: Option<i64>| ms.is_some_and(|ms| self.has_ended(ms, now_ms));
        if ends(recorded.expires_ms) && ends(held.expires_ms) {
            return Judged::Gone;
        }
        let was = kind_name(recorded.kind);
        let digests = format!(
            "blake3 {} \u{2260} {}",
            beginning(&recorded.digest),
            beginning(&held.digested.whole)
        );
        let detail = match verdict {
            Verdict::Type => format!(
                "{was} was recorded, {} is on target",
                kind_name(held.digested.key.kind)
            ),
            Verdict::Ttl => expiries(recorded.expires_ms, held.expires_ms),
            _ => digests,
        };
        Judged::Differs(Box::new(Difference {
            verdict,
            key_type: was,
            detail,
            target_digest: held.digested.key.digest,
            payload_bytes: held.payload_bytes,
        }))
    }

    /// What was recorded and is not there.
    pub fn missing(&self, recorded: &Recorded, now_ms: i64) -> Judged {
        if recorded
            .expires_ms
            .is_some_and(|ms| self.has_ended(ms, now_ms))
        {
            return Judged::Gone;
        }
        // Perhaps all its fields have.
        if has_lost_fields(recorded, now_ms) {
            return Judged::Unknown;
        }
        Judged::Differs(Box::new(Difference {
            verdict: Verdict::Missing,
            key_type: kind_name(recorded.kind),
            detail: format!("blake3 {}", beginning(&recorded.digest)),
            target_digest: None,
            payload_bytes: 0,
        }))
    }

    fn extra(&self, held: &Held, now_ms: i64) -> Judged {
        let key = held.digested.key;
        let mut wanted = self.types.iter().map(|wanted| kind_of(*wanted));
        if !self.types.is_empty() && !wanted.any(|kind| kind == key.kind) {
            return Judged::Filtered;
        }
        if key.vacant || held.expires_ms.is_some_and(|ms| self.has_ended(ms, now_ms)) {
            return Judged::Gone;
        }
        Judged::Differs(Box::new(Difference {
            verdict: Verdict::Extra,
            key_type: kind_name(key.kind),
            detail: format!("blake3 {}", beginning(&held.digested.whole)),
            target_digest: key.digest,
            payload_bytes: held.payload_bytes,
        }))
    }

    fn same_expiry(&self, recorded: Option<i64>, held: Option<i64>) -> bool {
        match (recorded, held) {
            (None, None) => true,
            (Some(one), Some(other)) => one.abs_diff(other) <= self.tolerance_ms.unsigned_abs(),
            _ => false,
        }
    }

    fn has_ended(&self, expires_ms: i64, now_ms: i64) -> bool {
        expires_ms <= now_ms.saturating_add(self.tolerance_ms)
    }
}

fn beginning(digest: &[u8]) -> String {
    let shown: String = digest
        .iter()
        .take(2)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("{shown}\u{2026}")
}

fn expiries(recorded: Option<i64>, held: Option<i64>) -> String {
    match (recorded, held) {
        (Some(recorded), Some(held)) => {
            let apart = held.saturating_sub(recorded) as f64 / 1000.0;
            let side = if apart > 0.0 { "later" } else { "earlier" };
            format!(
                "expires {:.1} s {side} on target than recorded",
                apart.abs()
            )
        }
        (Some(_), None) => "should expire, never does on target".to_owned(),
        (None, Some(_)) => "should never expire, does on target".to_owned(),
        (None, None) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rdb::string;

    const NOW: i64 = 1_000_000;

    fn rules() -> Rules {
        Rules {
            tolerance_ms: 1_000,
            types: vec![],
        }
    }

    fn payload(value: &[u8]) -> Vec<u8> {
        let mut payload = bytes::BytesMut::new();
        string::append_payload(&mut payload, value);
        payload.to_vec()
    }

    fn expected(value: &[u8], expires_ms: Option<i64>) -> Option<Outcome> {
        let entry = Digesting::new().entry(b"k", Value::String(value), expires_ms, NOW);
        Some(entry.outcome())
    }

    fn verdict(expected: Option<Outcome>, value: Option<&[u8]>, expires_ms: Option<i64>) -> String {
        let held = value.map(|value| Held {
            expires_ms,
            ..digest(&mut Digesting::new(), &payload(value), expected, NOW)
        });
        match rules().judge(expected, held.as_ref(), NOW) {
            Judged::Differs(difference) => difference.verdict.name().to_owned(),
            Judged::Same(_) => "same".to_owned(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn values_and_expiries_are_held_against_what_was_recorded() {
        let later = Some(NOW + 60_000);
        let check = |expected, value: Option<&[u8]>, expires_ms, wanted: &str| {
            assert_eq!(verdict(expected, value, expires_ms), wanted);
        };
        check(expected(b"v", None), Some(b"v"), None, "same");
        check(expected(b"v", None), Some(b"w"), None, "value");
        check(expected(b"v", None), None, None, "missing");
        check(expected(b"v", None), Some(b"v"), later, "ttl");
        check(expected(b"v", later), Some(b"v"), None, "ttl");
        check(
            expected(b"v", later),
            Some(b"v"),
            later.map(|ms| ms + 1_000),
            "same",
        );
        check(
            expected(b"v", later),
            Some(b"v"),
            later.map(|ms| ms - 1_001),
            "ttl",
        );
        check(None, Some(b"v"), None, "extra");
        check(None, None, None, "Gone");
    }

    #[test]
    fn a_key_whose_time_is_over_is_as_good_as_gone() {
        let soon = Some(NOW + 900);
        assert_eq!(verdict(expected(b"v", soon), None, None), "Gone");
        assert_eq!(verdict(expected(b"v", soon), Some(b"w"), soon), "Gone");
        // Somebody has prolonged it, or it never went.
        assert_eq!(verdict(expected(b"v", soon), Some(b"v"), None), "ttl");
        assert_eq!(verdict(None, Some(b"v"), soon), "Gone");
    }

    #[test]
    fn what_was_never_seen_is_no_difference() {
        for outcome in [Outcome::Kept, Outcome::Unseen, Outcome::Quarantined] {
            assert_eq!(verdict(Some(outcome), Some(b"v"), None), "Unknown");
            assert_eq!(verdict(Some(outcome), None, None), "Unknown");
        }
    }

    #[test]
    fn extra_keys_of_other_types_are_none_of_ours() {
        let rules = Rules {
            types: vec![KeyType::Hash],
            ..rules()
        };
        let held = digest(&mut Digesting::new(), &payload(b"v"), None, NOW);
        let judged = rules.judge(None, Some(&held), NOW);
        assert!(matches!(judged, Judged::Filtered), "{judged:?}");
    }
}
