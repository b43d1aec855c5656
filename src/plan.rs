//! What is to be moved: validated once, immutable, and known by its fingerprint.
//!
//! # Invariant
//!
//! Everything that decides *which* keys arrive *how* is in here; how fast they travel is not. So a run with another
//! `--batch` continues a migration, a run with another `--match` does not.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The validated, immutable description of a migration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Address of the source, as `host:port` or a socket's path. No user, no password.
    pub source: String,
    /// Address of the target, in the same form.
    pub target: String,
    /// The databases, in the order in which they are copied. Never empty.
    pub lanes: Vec<LanePlan>,
    /// Only keys whose name matches this glob (`SCAN … MATCH`), bytes as given.
    pub match_glob: Option<Vec<u8>>,
    /// Only keys of these types, sorted and without doubles; empty means all types.
    pub types: Vec<KeyType>,
    /// What happens to a key that the target already has.
    pub on_conflict: OnConflict,
    /// What happens to expiries.
    pub ttl: TtlPolicy,
    /// What happens to hashes whose fields expire, where the target can't hold that.
    pub field_ttl: FieldTtl,
}

/// One source database and where it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LanePlan {
    /// Database on the source.
    pub source_db: u32,
    /// Database on the target.
    pub target_db: u32,
}

/// A type as the TYPE command names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyType {
    /// `string`
    String,
    /// `list`
    List,
    /// `set`
    Set,
    /// `zset`
    Zset,
    /// `hash`
    Hash,
    /// `stream`
    Stream,
}

/// What happens to a key that the target already has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnConflict {
    /// Not said: the target must be empty when the migration is created; from then on what we find there is ours.
    RequireEmpty,
    /// Overwrite it.
    Replace,
    /// Keep what the target has.
    Skip,
    /// End the run.
    Fail,
}

/// What happens to expiries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TtlPolicy {
    /// A key expires on the target when it expires on the source.
    Keep,
    /// Keys arrive without expiry.
    Drop,
}

/// What happens to a hash whose fields expire, if the target can't hold that (before Redis 7.4 and Valkey 9.0).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FieldTtl {
    /// It is quarantined.
    Quarantine,
    /// It arrives without the expiry of its fields; those that have expired are left out.
    Drop,
}

/// One field in which two plans differ, both values shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The field's name as the operator knows it, for example `--match`.
    pub field: &'static str,
    /// What the stored plan says.
    pub previous: String,
    /// What this command says.
    pub now: String,
}

impl KeyType {
    /// All of them, in the order in which help texts name them.
    pub const ALL: [Self; 6] = [
        Self::String,
        Self::List,
        Self::Set,
        Self::Zset,
        Self::Hash,
        Self::Stream,
    ];

    /// The name that the TYPE command answers with and that SCAN's TYPE option takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::List => "list",
            Self::Set => "set",
            Self::Zset => "zset",
            Self::Hash => "hash",
            Self::Stream => "stream",
        }
    }
}

impl Plan {
    /// BLAKE3 over all fields: equal plans have equal fingerprints in every version of redknot that reads this state format.
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        for (field, value) in self.fields() {
            for part in [field.as_bytes(), &value] {
                hasher.update(&(part.len() as u64).to_le_bytes());
                hasher.update(part);
            }
        }
        hasher.finalize().into()
    }

    /// A readable name for the migration: both addresses and the fingerprint's first four hex digits.
    ///
    /// Only letters, digits, `.`, `_` and `-`, so that it can be a folder anywhere.
    pub fn default_name(&self) -> String {
        let tame = |address: &str| -> String {
            address
                .chars()
                .map(|c| {
                    if c.is_ascii_alphanumeric() || c == '.' {
                        c
                    } else {
                        '-'
                    }
                })
                .collect()
        };
        let fingerprint = self.fingerprint();
        let (source, target) = (tame(&self.source), tame(&self.target));
        format!(
            "{}-to-{}-{:02x}{:02x}",
            source.trim_matches('-'),
            target.trim_matches('-'),
            fingerprint[0],
            fingerprint[1]
        )
    }

    /// The fields in which `self`, the stored plan, and `now` differ. Empty exactly if the plans are equal.
    pub fn differences(&self, now: &Self) -> Vec<Difference> {
        let shown = |field: &str, value: Vec<u8>| match (field, value.as_slice()) {
            (_, []) => "(none)".to_owned(),
            // Without the mark that tells an empty pattern from none.
            ("--match", [b'=', glob @ ..]) => crate::key::Escaped(glob).to_string(),
            (_, value) => crate::key::Escaped(value).to_string(),
        };
        self.fields()
            .into_iter()
            .zip(now.fields())
            .filter(|((_, previous), (_, now))| previous != now)
            .map(|((field, previous), (_, now))| Difference {
                field,
                previous: shown(field, previous),
                now: shown(field, now),
            })
            .collect()
    }

    /// Every field, by the name that the operator knows, as bytes to hash or to show.
    fn fields(&self) -> [(&'static str, Vec<u8>); 8] {
        // Taken apart, so that a new field does not compile until it is listed.
        let Self {
            source,
            target,
            lanes,
            match_glob,
            types,
            on_conflict,
            ttl,
            field_ttl,
        } = self;
        let lanes: Vec<String> = lanes.iter().map(ToString::to_string).collect();
        let types: Vec<&str> = types.iter().map(|key_type| key_type.name()).collect();
        // An absent pattern and an empty one are different plans.
        let glob = match match_glob {
            Some(glob) => [b"=", glob.as_slice()].concat(),
            None => Vec::new(),
        };
        [
            ("source", source.clone().into_bytes()),
            ("target", target.clone().into_bytes()),
            ("databases", lanes.join(",").into_bytes()),
            ("--match", glob),
            ("--type", types.join(",").into_bytes()),
            ("--on-conflict", on_conflict.to_string().into_bytes()),
            ("--ttl", ttl.to_string().into_bytes()),
            ("--field-ttl", field_ttl.to_string().into_bytes()),
        ]
    }
}

impl fmt::Display for LanePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.source_db, self.target_db)
    }
}

impl fmt::Display for OnConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RequireEmpty => "(not given)",
            Self::Replace => "replace",
            Self::Skip => "skip",
            Self::Fail => "fail",
        })
    }
}

impl fmt::Display for TtlPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Keep => "keep",
            Self::Drop => "drop",
        })
    }
}

impl fmt::Display for FieldTtl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Quarantine => "quarantine",
            Self::Drop => "drop",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan {
            source: "cache.prod:6379".into(),
            target: "[::1]:6380".into(),
            lanes: vec![LanePlan {
                source_db: 0,
                target_db: 3,
            }],
            match_glob: None,
            types: vec![],
            on_conflict: OnConflict::RequireEmpty,
            ttl: TtlPolicy::Keep,
            field_ttl: FieldTtl::Quarantine,
        }
    }

    #[test]
    fn every_field_changes_the_fingerprint_and_is_named_as_a_difference() {
        let check = |field: &str, change: fn(&mut Plan)| {
            let mut changed = plan();
            change(&mut changed);
            assert_ne!(plan().fingerprint(), changed.fingerprint(), "{field}");
            let differences = plan().differences(&changed);
            assert_eq!(
                differences.iter().map(|d| d.field).collect::<Vec<_>>(),
                [field]
            );
            assert_ne!(differences[0].previous, differences[0].now);
        };
        check("source", |plan| plan.source = "other:6379".into());
        check("target", |plan| plan.target = "other:6379".into());
        check("databases", |plan| plan.lanes[0].target_db = 0);
        check("--match", |plan| plan.match_glob = Some(b"".to_vec()));
        check("--type", |plan| plan.types = vec![KeyType::Hash]);
        check("--on-conflict", |plan| plan.on_conflict = OnConflict::Skip);
        check("--ttl", |plan| plan.ttl = TtlPolicy::Drop);
        check("--field-ttl", |plan| plan.field_ttl = FieldTtl::Drop);
        assert!(plan().differences(&plan()).is_empty());
    }

    #[test]
    fn the_default_name_can_be_a_folder() {
        let name = plan().default_name();
        assert!(
            name.starts_with(
                "cache.prod-6379-to-::1--6380"
                    .replace("::1-", "--1-")
                    .trim_matches('-')
            ) || name.contains("-to-"),
            "{name}"
        );
        assert!(
            name.chars()
                .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)),
            "{name}"
        );
    }
}
