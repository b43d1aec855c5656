//! What is to be moved: validated once, immutable, and known by its fingerprint.
//!
//! # Invariant
//!
//! Everything that decides *which* keys arrive *how* is in here; how fast they travel is not, and neither is how the
//! servers are spoken to: user, password, TLS. So a run with another `--batch`, or with `rediss://` where the last one had
//! `redis://`, continues a migration; a run with another `--match` does not. Whether the same server answers at an
//! address is told by its `run_id`, not by the way to it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::key::Escaped;
use crate::renaming::DbPrefix;
use crate::selection::Shard;

/// The validated, immutable description of a migration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Address of the source, as `host:port` or a socket's path. No user, no password.
    pub source: String,
    /// Address of the target, in the same form.
    pub target: String,
    /// Who chose the databases.
    pub databases: Databases,
    /// The databases, in the order in which they are copied. Never empty, once they are known.
    pub lanes: Vec<LanePlan>,
    /// Only keys whose name matches this glob (`SCAN … MATCH`), bytes as given.
    pub match_glob: Option<Vec<u8>>,
    /// No keys whose name matches one of these globs; sorted and without doubles.
    pub exclude: Vec<Vec<u8>>,
    /// Only this part of the keys.
    pub shard: Option<Shard>,
    /// Only the keys of this list, which lies beside the state; nothing is scanned.
    pub keys_from: Option<KeysFrom>,
    /// Only keys of these types, sorted and without doubles; empty means all types.
    pub types: Vec<KeyType>,
    /// Only keys whose name begins like this, which is cut off on the target.
    pub strip_prefix: Option<Vec<u8>>,
    /// What goes in front of every name on the target.
    pub prefix: Option<Vec<u8>>,
    /// What goes in front of the names of each database, behind `prefix`.
    pub db_prefix: Option<DbPrefix>,
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

/// Who chose the databases of a plan.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Databases {
    /// Whoever gave the command, by numbers.
    #[default]
    Named,
    /// All that held keys when the migration was created (`--all-dbs`), and where each goes. From then on the lanes stay
    /// what they are.
    All(DbMap),
}

/// Where databases go, as `--db-map` says it. A database that it does not name keeps its number.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DbMap {
    /// Databases with a place of their own, sorted by the source's number.
    pub pairs: Vec<LanePlan>,
    /// Where all others go (`*:0`).
    pub others: Option<u32>,
}

/// A list of names, as it lies beside the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeysFrom {
    /// BLAKE3 over the names, each preceded by its length as u32 LE: the file as it is stored.
    pub digest: [u8; 32],
    /// Number of names, doubles counted.
    pub keys: u64,
    /// Length of the stored file.
    pub bytes: u64,
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnConflict {
    #[default]
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TtlPolicy {
    #[default]
    /// A key expires on the target when it expires on the source.
    Keep,
    /// Keys arrive without expiry.
    Drop,
}

/// What happens to a hash whose fields expire, if the target can't hold that (before Redis 7.4 and Valkey 9.0).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FieldTtl {
    #[default]
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

impl DbMap {
    /// Where the source's database `db` goes.
    pub fn target_of(&self, db: u32) -> u32 {
        let named = self.pairs.iter().find(|pair| pair.source_db == db);
        named.map_or(self.others.unwrap_or(db), |pair| pair.target_db)
    }

    /// The lane of the source's database `db`.
    pub fn lane(&self, db: u32) -> LanePlan {
        LanePlan {
            source_db: db,
            target_db: self.target_of(db),
        }
    }
}

impl Plan {
    /// The plan as it was asked for: without the databases that `--all-dbs` found and without what a list consists of. So
    /// the same command makes the same one each time, before any server or list was looked at.
    #[must_use]
    pub fn as_asked(&self) -> Self {
        let mut asked = self.clone();
        if let Databases::All(_) = asked.databases {
            asked.lanes.clear();
        }
        asked.keys_from = asked.keys_from.map(|_| KeysFrom {
            digest: [0; 32],
            keys: 0,
            bytes: 0,
        });
        asked
    }

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
        let fingerprint = self.as_asked().fingerprint();
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
        const MARKED: [&str; 4] = ["--match", "--prefix", "--strip-prefix", "--db-prefix"];
        let shown = |field: &str, value: Vec<u8>| match (field, value.as_slice()) {
            (_, []) => "(none)".to_owned(),
            // Without the mark that tells an empty text from none.
            (field, [b'=', text @ ..]) if MARKED.contains(&field) => Escaped(text).to_string(),
            // Escaped already, each for itself.
            ("--exclude", globs) => String::from_utf8_lossy(globs).into_owned(),
            (_, value) => Escaped(value).to_string(),
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

    /// What the plan says beyond servers and databases, as flags for people: empty if nothing was said.
    pub fn flags(&self) -> Vec<String> {
        let nothing_said = Self {
            source: self.source.clone(),
            target: self.target.clone(),
            lanes: self.lanes.clone(),
            ..Self::default()
        };
        nothing_said
            .differences(self)
            .into_iter()
            .map(
                |Difference { field, now, .. }| match (field, now.as_str()) {
                    ("--all-dbs", "*:*") => field.to_owned(),
                    ("--all-dbs", map) => format!("{field} --db-map {map}"),
                    ("--keys-from", list) => format!("{field} ({list})"),
                    (field, now) => format!("{field} {now}"),
                },
            )
            .collect()
    }

    /// Every field, by the name that the operator knows, as bytes to hash or to show.
    fn fields(&self) -> [(&'static str, Vec<u8>); 15] {
        // Taken apart, so that a new field does not compile until it is listed.
        let Self {
            source,
            target,
            databases,
            lanes,
            match_glob,
            exclude,
            shard,
            keys_from,
            types,
            strip_prefix,
            prefix,
            db_prefix,
            on_conflict,
            ttl,
            field_ttl,
        } = self;
        let lanes: Vec<String> = lanes.iter().map(ToString::to_string).collect();
        let types: Vec<&str> = types.iter().map(|key_type| key_type.name()).collect();
        // An absent text and an empty one are different plans.
        let marked = |text: Option<&[u8]>| match text {
            Some(text) => [b"=", text].concat(),
            None => Vec::new(),
        };
        let all_dbs = match databases {
            Databases::Named => String::new(),
            Databases::All(map) => map.to_string(),
        };
        // Escaped, so that a space divides two of them and nothing else.
        let exclude: Vec<String> = exclude
            .iter()
            .map(|glob| Escaped(glob).to_string().replace(' ', "\\x20"))
            .collect();
        let shard = shard.map(|shard| shard.to_string()).unwrap_or_default();
        let keys_from = keys_from.map(|list| list.to_string()).unwrap_or_default();
        let db_prefix = db_prefix.as_ref().map(DbPrefix::template);
        [
            ("source", source.clone().into_bytes()),
            ("target", target.clone().into_bytes()),
            ("--all-dbs", all_dbs.into_bytes()),
            ("databases", lanes.join(",").into_bytes()),
            ("--match", marked(match_glob.as_deref())),
            ("--exclude", exclude.join(" ").into_bytes()),
            ("--shard", shard.into_bytes()),
            ("--keys-from", keys_from.into_bytes()),
            ("--type", types.join(",").into_bytes()),
            ("--strip-prefix", marked(strip_prefix.as_deref())),
            ("--prefix", marked(prefix.as_deref())),
            ("--db-prefix", marked(db_prefix)),
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

/// As `--db-map` takes it; of an empty map that every database keeps its number.
impl fmt::Display for DbMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs = self.pairs.iter().map(ToString::to_string);
        let others = self.others.map(|db| format!("*:{db}"));
        let all: Vec<String> = pairs.chain(others).collect();
        match all.is_empty() {
            true => f.write_str("*:*"),
            false => f.write_str(&all.join(",")),
        }
    }
}

impl fmt::Display for KeysFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digest = blake3::Hash::from(self.digest).to_hex();
        write!(f, "{} names, blake3 {}", self.keys, &digest[..16])
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
            ..Plan::default()
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
        check("--all-dbs", |plan| {
            plan.databases = Databases::All(DbMap::default());
        });
        check("--exclude", |plan| plan.exclude = vec![b"tmp:*".to_vec()]);
        check("--shard", |plan| {
            plan.shard = Some(Shard { number: 1, of: 2 });
        });
        check("--keys-from", |plan| {
            plan.keys_from = Some(KeysFrom {
                digest: [7; 32],
                keys: 1,
                bytes: 5,
            });
        });
        check("--strip-prefix", |plan| {
            plan.strip_prefix = Some(b"a".to_vec())
        });
        check("--prefix", |plan| plan.prefix = Some(b"".to_vec()));
        check("--db-prefix", |plan| {
            plan.db_prefix = DbPrefix::new(b"{db}:").ok();
        });
        check("--type", |plan| plan.types = vec![KeyType::Hash]);
        check("--on-conflict", |plan| plan.on_conflict = OnConflict::Skip);
        check("--ttl", |plan| plan.ttl = TtlPolicy::Drop);
        check("--field-ttl", |plan| plan.field_ttl = FieldTtl::Drop);
        assert!(plan().differences(&plan()).is_empty());
    }

    #[test]
    fn what_is_found_out_later_makes_no_other_name() {
        let list = |digest| {
            Some(KeysFrom {
                digest: [digest; 32],
                keys: u64::from(digest),
                bytes: 5,
            })
        };
        let mut asked = plan();
        asked.databases = Databases::All(DbMap::default());
        asked.lanes.clear();
        asked.keys_from = list(1);
        let mut found = plan();
        found.databases = Databases::All(DbMap::default());
        found.keys_from = list(2);
        assert_eq!(asked.default_name(), found.default_name());
        assert_ne!(asked.fingerprint(), found.fingerprint());
        found.databases = Databases::Named;
        assert_ne!(asked.default_name(), found.default_name());
    }

    #[test]
    fn a_plan_is_shown_by_what_was_said() {
        assert_eq!(plan().flags(), [""; 0]);
        let said = Plan {
            databases: Databases::All(DbMap {
                pairs: vec![],
                others: Some(0),
            }),
            match_glob: Some(b"user:*".to_vec()),
            exclude: vec![b"a b".to_vec(), b"\n".to_vec()],
            shard: Some(Shard { number: 3, of: 8 }),
            db_prefix: DbPrefix::new(b"db{db}:").ok(),
            on_conflict: OnConflict::Skip,
            ..plan()
        };
        assert_eq!(
            said.flags().join("  "),
            r"--all-dbs --db-map *:0  --match user:*  --exclude a\x20b \n  --shard 3/8  --db-prefix db{db}:  --on-conflict skip"
        );
    }

    #[test]
    fn a_map_says_where_each_database_goes() {
        let pair = |source_db, target_db| LanePlan {
            source_db,
            target_db,
        };
        let mut map = DbMap {
            pairs: vec![pair(3, 0), pair(5, 1)],
            others: None,
        };
        assert_eq!([0, 3, 5].map(|db| map.target_of(db)), [0, 0, 1]);
        assert_eq!(map.to_string(), "3:0,5:1");
        map.others = Some(7);
        assert_eq!([0, 3, 5].map(|db| map.target_of(db)), [7, 0, 1]);
        assert_eq!(map.to_string(), "3:0,5:1,*:7");
        assert_eq!(DbMap::default().to_string(), "*:*");
    }

    #[test]
    fn two_lists_of_patterns_have_two_fingerprints() {
        let of = |globs: &[&str]| {
            let exclude = globs.iter().map(|glob| glob.as_bytes().to_vec()).collect();
            Plan { exclude, ..plan() }.fingerprint()
        };
        assert_ne!(of(&["a", "b"]), of(&["a b"]));
        assert_ne!(of(&["a b"]), of(&["a\\x20b"]));
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
