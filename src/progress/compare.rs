//! What a comparison tells: its verdicts, its counters, and how it stands.
//!
//! # Invariant
//!
//! As for the copy: what is counted here is on disk.

use serde::{Deserialize, Serialize};

use super::limits::{HeldBy, Limits};

/// What a comparison says of a key that is not equal on both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The target does not have it.
    Missing,
    /// Only the target has it.
    Extra,
    /// The two sides have values of different types.
    Type,
    /// The values differ.
    Value,
    /// The values are equal, the instants of expiry are not.
    Ttl,
    /// It never stood still long enough to be compared.
    Undecided,
}

impl Verdict {
    /// All of them, in the order in which they are listed.
    pub const ALL: [Self; 6] = [
        Self::Missing,
        Self::Value,
        Self::Type,
        Self::Ttl,
        Self::Extra,
        Self::Undecided,
    ];

    /// As it stands in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Extra => "extra",
            Self::Type => "type",
            Self::Value => "value",
            Self::Ttl => "ttl",
            Self::Undecided => "undecided",
        }
    }
}

/// What a comparison found, key by key ([`Self::balance`]).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompareCounters {
    /// Names that the source's SCAN returned, doubles included, and keys that only the walk of the target met.
    pub keys_scanned: u64,
    /// Keys with a verdict, equal or not.
    pub keys_compared: u64,
    /// Equal in type, value and expiry.
    pub equal: u64,
    /// Of the equal ones: the bytes that DUMP returns differ, their content does not.
    pub equal_other_bytes: u64,
    /// Of the equal ones: they differed when they were read first, and were equal when they were read again.
    pub settled: u64,
    /// See [`Verdict::Missing`].
    pub missing: u64,
    /// See [`Verdict::Value`].
    pub value: u64,
    /// See [`Verdict::Type`].
    #[serde(rename = "type")]
    pub kind: u64,
    /// See [`Verdict::Ttl`].
    pub ttl: u64,
    /// See [`Verdict::Undecided`].
    pub undecided: u64,
    /// Values that only a module, or a newer redknot, can interpret, and whose bytes differ.
    pub not_compared: u64,
    /// Gone from the source when they were read, or about to expire there.
    pub vanished: u64,
    /// Not of a type, or without a name, that the plan asks for.
    pub filtered: u64,
    /// Different from what the target has, where a key of another database has their name.
    pub collided: u64,
    /// Not in the sample.
    pub unsampled: u64,
    /// Returned by SCAN again while they waited to be read again.
    pub doubled: u64,
    /// Names that the target's SCAN returned.
    pub target_keys_scanned: u64,
    /// Of those: names that the plan does not select, or that no key which it moves can have there.
    pub target_keys_unselected: u64,
    /// See [`Verdict::Extra`].
    pub extra: u64,
    /// Waiting to be read again.
    pub candidates: u64,
    /// Longest time until a key that differed first was seen equal, milliseconds.
    pub settled_ms_max: u64,
    /// Bytes of values read from the source.
    pub bytes_read: u64,
}

impl CompareCounters {
    /// Adds `other`, field by field.
    pub fn add(&mut self, other: &Self) {
        // Taken apart, so that a new counter does not compile until it is summed.
        let Self {
            keys_scanned,
            keys_compared,
            equal,
            equal_other_bytes,
            settled,
            missing,
            value,
            kind,
            ttl,
            undecided,
            not_compared,
            vanished,
            filtered,
            collided,
            unsampled,
            doubled,
            target_keys_scanned,
            target_keys_unselected,
            extra,
            candidates,
            settled_ms_max,
            bytes_read,
        } = other;
        self.keys_scanned += keys_scanned;
        self.keys_compared += keys_compared;
        self.equal += equal;
        self.equal_other_bytes += equal_other_bytes;
        self.settled += settled;
        self.missing += missing;
        self.value += value;
        self.kind += kind;
        self.ttl += ttl;
        self.undecided += undecided;
        self.not_compared += not_compared;
        self.vanished += vanished;
        self.filtered += filtered;
        self.collided += collided;
        self.unsampled += unsampled;
        self.doubled += doubled;
        self.target_keys_scanned += target_keys_scanned;
        self.target_keys_unselected += target_keys_unselected;
        self.extra += extra;
        self.candidates += candidates;
        self.settled_ms_max = self.settled_ms_max.max(*settled_ms_max);
        self.bytes_read += bytes_read;
    }

    /// How many keys got `verdict`.
    pub fn of(&self, verdict: Verdict) -> u64 {
        match verdict {
            Verdict::Missing => self.missing,
            Verdict::Extra => self.extra,
            Verdict::Type => self.kind,
            Verdict::Value => self.value,
            Verdict::Ttl => self.ttl,
            Verdict::Undecided => self.undecided,
        }
    }

    /// Counts a key with `verdict`.
    pub fn count(&mut self, verdict: Verdict) {
        match verdict {
            // Not a key of the source's.
            Verdict::Extra => {
                self.extra += 1;
                return;
            }
            Verdict::Missing => self.missing += 1,
            Verdict::Type => self.kind += 1,
            Verdict::Value => self.value += 1,
            Verdict::Ttl => self.ttl += 1,
            Verdict::Undecided => self.undecided += 1,
        }
        self.keys_compared += 1;
    }

    /// Keys with any verdict but equal.
    pub fn findings(&self) -> u64 {
        Verdict::ALL
            .into_iter()
            .map(|verdict| self.of(verdict))
            .sum()
    }

    /// Whether every scanned key is accounted for, once none waits any more: scanned = compared + vanished + not compared
    /// + filtered + collided + unsampled + doubled, and compared = equal + missing + value + type + ttl + undecided.
    pub fn balance(&self) -> bool {
        let differing = self.findings() - self.extra;
        self.candidates == 0
            && self.keys_compared == self.equal + differing
            && self.keys_scanned
                == self.keys_compared
                    + self.vanished
                    + self.not_compared
                    + self.filtered
                    + self.collided
                    + self.unsampled
                    + self.doubled
    }
}

/// How a comparison stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CompareStatus {
    /// Number among the comparisons of this migration, from 1.
    pub compare: u32,
    /// What it is doing, or how it ended.
    pub state: CompareState,
    /// Unix milliseconds.
    pub began_ms: u64,
    /// When it came to its result, Unix milliseconds.
    pub ended_ms: Option<u64>,
    /// What it found so far; durable.
    pub counters: CompareCounters,
    /// The target alone was looked at, and what the copy had kept of each key.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub recorded: bool,
    /// Digest of all keys compared on the source with their types and values; present once it has ended.
    pub source_digest: Option<String>,
    /// See `source_digest`.
    pub target_digest: Option<String>,
    /// Which part of the keys is looked at, if it is not all of them.
    pub sample: Option<String>,
    /// Keys that only the target has are not looked for.
    pub one_way: bool,
    /// What is not compared, in sentences.
    pub not_compared: Vec<String>,
    /// Keys have been copied since it began: it says nothing about them.
    pub outdated: bool,
    /// Keys of the source, as DBSIZE says, where it may be asked.
    pub keys_estimate: Option<u64>,
    /// Share that is done, 0–100.
    pub percent: f64,
    /// Keys a second, over the last seconds.
    pub keys_per_s: f64,
    /// Seconds left, if the rate stays.
    pub eta_s: Option<f64>,
    /// Why it waits, if it does.
    pub throttle: Option<String>,
    /// What it waits for, if it does.
    #[serde(default)]
    pub throttled_by: Option<HeldBy>,
    /// What its run keeps to.
    #[serde(default)]
    pub limits: Limits,
}

/// What a comparison is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CompareState {
    /// Walking the source and reading both sides. If the lock is free, the process died.
    #[default]
    Comparing,
    /// Walking the target for keys that the source does not have.
    Extras,
    /// Reading again what differed.
    Settling,
    /// Stopped on request, or by an error; the same command continues.
    Stopped,
    /// Every key has its verdict.
    Compared,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verdict_has_its_counter_and_the_accounts_add_up() {
        let mut counters = CompareCounters {
            keys_scanned: 15,
            equal: 3,
            keys_compared: 3,
            vanished: 1,
            not_compared: 2,
            filtered: 1,
            unsampled: 1,
            doubled: 2,
            ..CompareCounters::default()
        };
        for verdict in Verdict::ALL {
            assert_eq!(counters.of(verdict), 0);
            counters.count(verdict);
            assert_eq!(counters.of(verdict), 1, "{verdict:?}");
        }
        assert_eq!(counters.findings(), 6);
        assert_eq!(
            counters.keys_compared, 8,
            "an extra key is none of the source's"
        );
        assert!(counters.balance());
        let mut twice = counters;
        twice.add(&counters);
        assert_eq!(twice.findings(), 12);
        assert!(twice.balance());
        counters.keys_scanned += 1;
        assert!(!counters.balance());
    }
}
