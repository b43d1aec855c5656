//! What a report tells: the content of `report.json`, and all that the pages show.
//!
//! # Invariants
//!
//! - Every figure in here was read from the journal or from the state, and can be recomputed from them.
//! - No value of a key is in here, and no secret; names of keys are escaped, and redacted where that was asked for.

use serde::{Deserialize, Serialize};

use super::verdict::Verdict;
use crate::audit::entry::Origin;
use crate::progress::{
    CompareCounters, ComparedLives, Counters, Makeup, RepairCounters, TlsUse, Verdict as KeyVerdict,
};

/// Version of this form.
pub const REPORT_VERSION: u32 = 1;

/// Everything about one migration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// See [`REPORT_VERSION`].
    pub v: u32,
    /// When it was made, Unix milliseconds.
    pub made_ms: u64,
    /// Version of redknot that made it.
    pub made_by: String,
    /// How names of keys are shown.
    pub redact_keys: Redaction,
    /// Name of the migration.
    pub migration: String,
    /// What can be said of it in a line.
    pub verdict: Verdict,
    /// How far it is.
    pub phase: Phase,
    /// Whether a process works on it at the moment.
    pub running: bool,
    /// Where from.
    pub source: Side,
    /// Where to.
    pub target: Side,
    /// What was moved, and how, with where each setting came from.
    pub settings: Vec<Setting>,
    /// The same of `compare` and `repair`, each as its newest run was told.
    #[serde(default)]
    pub settings_of: Vec<CommandSettings>,
    /// The plan's fingerprint, hex.
    pub fingerprint: String,
    /// When it was created, Unix milliseconds.
    pub created_ms: u64,
    /// When every database was copied to its end, Unix milliseconds; of the newest time.
    pub completed_ms: Option<u64>,
    /// One entry a process that worked on it.
    pub runs: Vec<Run>,
    /// One entry a walk of a database.
    pub passes: Vec<Pass>,
    /// Times in which it waited, and connections that were lost.
    pub waits: Vec<Wait>,
    /// How many there are; the list may be shorter.
    pub waits_total: u64,
    /// What became of the keys, sums over the present passes of all databases.
    pub counters: Counters,
    /// The same, by database.
    pub lanes: Vec<Lane>,
    /// What the keys written are like.
    pub makeup: Makeup,
    /// How fast it went.
    pub curve: Vec<Sample>,
    /// Every comparison, oldest first.
    pub compares: Vec<Compare>,
    /// Every repair, oldest first.
    pub repairs: Vec<Repair>,
    /// Keys that could not be copied.
    pub quarantined: KeyList,
    /// Keys that the newest comparison found not to be equal, and that nobody has repaired since.
    pub findings: KeyList,
    /// What nobody has looked at, in sentences.
    pub not_compared: Vec<String>,
    /// What was not as it should be, in sentences.
    pub remarks: Vec<String>,
    /// How to check all that.
    pub chain: Chain,
}

/// How names of keys are shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Redaction {
    /// As they are, escaped.
    #[default]
    None,
    /// By the beginning of the BLAKE3 of the name.
    Hash,
    /// By what comes before the first colon, and the hash.
    Prefix,
}

/// How far a migration is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Nothing was copied; both sides were compared, perhaps.
    Planned,
    /// Not every database is at its end.
    Copying,
    /// Every database is at its end.
    Copied,
}

/// One of the two sides.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// Address, without user and password.
    pub address: String,
    /// How it was spoken to last.
    pub tls: Option<TlsUse>,
    /// Everybody who has answered there, oldest first.
    pub processes: Vec<Process>,
    /// What it served while we were at work, if it said.
    pub served: Served,
}

/// A server process, as it was met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// For people: `redis 7.0.15`; empty if unknown.
    pub version: String,
    /// `run_id` of INFO, or what stands for it in a cluster; `None` where it can't be known.
    pub run_id: Option<String>,
    /// First met, Unix milliseconds.
    pub since_ms: u64,
    /// `master` or `slave`, if known.
    pub role: Option<String>,
    /// Nodes with slots, if it is a cluster.
    pub masters: Option<usize>,
    /// SHA-256 of its certificate, hex, if it showed one.
    pub certificate_sha256: Option<String>,
}

/// Commands that a server served while runs were at work, whoever sent them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    /// Command and calls, most called first.
    pub commands: Vec<(String, u64)>,
    /// Runs that it is known of.
    pub runs: Vec<u32>,
    /// Of a cluster: each node, and how many calls it served together.
    #[serde(default)]
    pub nodes: Vec<(String, u64)>,
    /// Why it is not known of the others, run by run.
    pub unknown: Vec<(u32, String)>,
}

/// What a command was told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandSettings {
    /// `redknot compare`
    pub command: String,
    /// As for the migration itself.
    pub settings: Vec<Setting>,
}

/// A setting and where it came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// As the operator knows it: `--match`.
    pub name: String,
    /// Its value.
    pub value: String,
    /// Who said so.
    pub origin: Origin,
}

/// A process that worked on the migration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// From 1.
    pub run: u32,
    /// Unix milliseconds.
    pub began_ms: u64,
    /// When it was last heard of, Unix milliseconds.
    pub ended_ms: u64,
    /// How it ended.
    pub end: RunEnd,
    /// How, in its own words; empty if it had none.
    pub how: String,
    /// What it did: `copy`, `compare`, `repair`.
    pub work: Vec<String>,
    /// Who started it; empty if unknown.
    pub user: String,
    /// Where.
    pub host: String,
    /// Process id.
    pub pid: u32,
    /// Version of redknot.
    pub version: String,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunEnd {
    /// It did what it was to do.
    Done,
    /// It was asked to stop.
    Stopped,
    /// An error ended it.
    Failed,
    /// It could not say.
    Died,
    /// It has not ended.
    Running,
    /// It said so in words alone.
    Unknown,
}

/// A walk of a database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pass {
    /// Database on the source.
    pub db: u32,
    /// From 1.
    pub pass: u32,
    /// Unix milliseconds.
    pub began_ms: u64,
    /// When it came to its end, was given up, or was last heard of, Unix milliseconds.
    pub ended_ms: u64,
    /// Why it began.
    pub reason: String,
    /// Whether a later one took its place before it counted.
    pub superseded: bool,
    /// What became of its keys.
    pub counters: Counters,
}

/// A time in which nothing was copied, or less than could have been.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    /// Unix milliseconds.
    pub from_ms: u64,
    /// Unix milliseconds; the same as `from_ms` for an instant.
    pub to_ms: u64,
    /// `source`, `target`, or empty.
    pub side: String,
    /// Why.
    pub reason: String,
}

/// A database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lane {
    /// On the source.
    pub source_db: u32,
    /// On the target.
    pub target_db: u32,
    /// Its present pass, from 1; 0 before the first.
    pub pass: u32,
    /// What became of the keys of that pass.
    pub counters: Counters,
}

/// How fast it went for some time, until an instant.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Unix milliseconds.
    pub at_ms: u64,
    /// For how long until then, milliseconds.
    pub over_ms: u64,
    /// Keys a second.
    pub keys_per_s: f64,
    /// Payload bytes a second.
    pub bytes_per_s: f64,
    /// Round trip of a PING to the source that 99 of 100 did not exceed, milliseconds.
    pub latency_ms: Option<f64>,
}

/// A comparison.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Compare {
    /// From 1.
    pub compare: u32,
    /// Unix milliseconds.
    pub began_ms: u64,
    /// When it had its result, Unix milliseconds.
    pub ended_ms: Option<u64>,
    /// Which part of the keys it looked at; all, if absent.
    pub sample: Option<String>,
    /// It did not look for keys that only the target has.
    pub one_way: bool,
    /// The target alone was read, and held against what the copy had recorded.
    #[serde(default)]
    pub recorded: bool,
    /// Keys have been copied since it began.
    pub outdated: bool,
    /// Its result; of one that has none yet, zeros.
    pub counters: CompareCounters,
    /// For how long keys live on both sides, where that was compared.
    pub lives: Option<ComparedLives>,
    /// Digest of all keys compared on the source, hex.
    pub source_digest: String,
    /// Digest of all keys compared on the target, hex.
    pub target_digest: String,
    /// What it did not compare, in sentences.
    pub not_compared: Vec<String>,
}

/// A repair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repair {
    /// From 1.
    pub repair: u32,
    /// Number of the comparison whose findings it worked on.
    pub compare: u32,
    /// Unix milliseconds.
    pub began_ms: u64,
    /// When it had tried every finding, Unix milliseconds.
    pub ended_ms: Option<u64>,
    /// What it did.
    pub counters: RepairCounters,
    /// Findings that were left.
    pub findings_left: u64,
}

/// A list of keys, which may be cut.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyList {
    /// How many there are; `None` where nobody could look.
    pub total: Option<u64>,
    /// The first of them.
    pub keys: Vec<ListedKey>,
    /// What lists all of them.
    pub command: String,
}

/// A key of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedKey {
    /// Database on the source.
    pub db: u32,
    /// Its name, escaped or redacted.
    pub key: String,
    /// What a comparison says of it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub verdict: Option<KeyVerdict>,
    /// What it holds, if known.
    pub key_type: String,
    /// Why it is in the list.
    pub reason: String,
}

/// What binds all this together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// Lines of the journal that this report was made of.
    pub lines: u64,
    /// BLAKE3 of the last of them, which is bound to all before it; hex.
    pub root: String,
    /// Chain hash of each database's newest batch, hex.
    pub lanes: Vec<(u32, String)>,
    /// Whether a torn last line was left out.
    pub torn: bool,
}
