//! The lines of the journal, as they stand in the file: one JSON object each.
//!
//! # Invariants
//!
//! - A reader passes over fields and events that it does not know; a field that is added later has a default.
//! - No secret is in here, and no value of a key. Names of keys stand escaped, for people, and in hex, for programs.
//! - Times are Unix milliseconds of the machine that wrote the line, so they may run backwards where its clock was set.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::endpoint::{MetNode, Side};
use crate::plan::Plan;
use crate::progress::{
    CompareCounters, ComparedLives, Counters, Limits, Makeup, RepairCounters, TlsUse, Verdict,
};

/// Version of the form of a line. It is raised when a reader would misunderstand a line, not when fields are added.
pub const LINE_VERSION: u32 = 1;

/// A line as it stands in the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// See [`LINE_VERSION`].
    #[serde(default = "first_version")]
    pub v: u32,
    /// BLAKE3 of the line before it without its newline, hex; zeros in the first.
    pub prev: String,
    /// When it was written.
    pub at_ms: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

fn first_version() -> u32 {
    1
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The migration was created.
    Created {
        /// Format version of the state.
        format: u32,
        /// Version of redknot.
        version: String,
        /// Name of the migration.
        migration: String,
        /// What is moved. No secrets are in it.
        plan: Box<Plan>,
        /// The plan's fingerprint, hex.
        fingerprint: String,
    },
    /// The state before this one was set aside (`--restart`).
    Restarted {
        /// The folder that holds it.
        set_aside: String,
    },
    /// The journal was missing though the state was there; what happened before is not in it.
    Adopted {
        /// Runs before this line.
        runs: u32,
    },
    /// The state was lost or emptied, and made anew from the milestones of this journal (`audit rebuild`).
    Rebuilt {
        /// Runs before this line.
        runs: u32,
        /// The folder that holds what was left of the state, if something was.
        set_aside: Option<String>,
        /// Where each lane goes on. Batches that were made durable after these milestones are copied again.
        lanes: Vec<Milestone>,
    },
    /// The libraries of functions of the source are on the target, as far as was wanted.
    Functions {
        /// How many the source has.
        libraries: u64,
        /// Given to the target now; the others were there already, and the same.
        written: u64,
        /// The target has others of the same name, and keeps them.
        kept: u64,
    },
    /// A process began to work.
    RunBegan {
        /// From 1.
        run: u32,
        /// Process id.
        pid: u32,
        /// Machine.
        host: String,
        /// Version of redknot.
        version: String,
        /// Who ran it: login name, or `uid 1000` where it has none.
        #[serde(default)]
        user: String,
        /// `redknot migrate`, without arguments.
        #[serde(default)]
        command: String,
        /// `fsync` or `none`.
        #[serde(default)]
        durability: String,
    },
    /// What the run was told, and by what. Said right after [`Event::RunBegan`].
    Settings {
        /// The run.
        run: u32,
        /// In the order of the help text.
        settings: Vec<Setting>,
    },
    /// The run keeps to other limits from now on (`redknot throttle`).
    LimitsChanged {
        /// The run.
        run: u32,
        /// All of them.
        limits: Limits,
    },
    /// So many keys the target has evicted since the run began, whosever they were. A later line of the same run counts
    /// them all.
    Evicted {
        /// The run.
        run: u32,
        /// Keys.
        keys: u64,
    },
    /// Which server answers on a side. Said when a run first meets it, and again when something of it has changed.
    Server {
        /// The run.
        run: u32,
        /// Which side.
        side: Side,
        /// What is known of it.
        #[serde(flatten)]
        server: Box<ServerSeen>,
    },
    /// The migration came to another phase.
    Phase {
        /// `planned`, `copying` or `copied`.
        phase: String,
    },
    /// A lane is walked from its beginning.
    PassBegan {
        /// Index in the plan.
        lane: u32,
        /// From 1.
        pass: u32,
        /// Run that began it.
        #[serde(default)]
        run: u32,
        /// Why.
        reason: String,
        /// The source process, if known.
        source_run_id: Option<String>,
        /// The target process, if known.
        target_run_id: Option<String>,
    },
    /// A lane goes on where an earlier run, or an earlier connection, left it: said with what made its cursor credible.
    LaneContinued {
        /// Index in the plan.
        lane: u32,
        /// Current pass.
        pass: u32,
        /// Run that goes on.
        run: u32,
        /// Why it may.
        reason: String,
        /// The source process, if known.
        #[serde(default)]
        source_run_id: Option<String>,
        /// The target process, if known.
        #[serde(default)]
        target_run_id: Option<String>,
    },
    /// A milestone: how far the lanes that moved since the last one are durable.
    Checkpoint {
        /// The lanes that moved.
        lanes: Vec<Milestone>,
        /// How fast the copy is at this moment; absent where no copy is under way.
        #[serde(default)]
        sample: Option<Sample>,
    },
    /// The copy waits for a side, and will try again.
    ThrottleBegan {
        /// Which side.
        side: Side,
        /// Whether the side was lost or asked us to wait.
        kind: ThrottleKind,
        /// What it said or did.
        reason: String,
    },
    /// The side answers again. Waits of one side for one reason that follow each other closely stand in one line.
    ThrottleEnded {
        /// Which side.
        side: Side,
        /// Of the first of these waits.
        kind: ThrottleKind,
        /// Of the first of these waits.
        reason: String,
        /// When the first of these waits began.
        began_ms: u64,
        /// So long they took together.
        waited_ms: u64,
        /// So many waits.
        waits: u64,
        /// So many tries.
        attempts: u64,
    },
    /// A key could not be copied.
    Quarantined {
        /// Index in the plan.
        lane: u32,
        /// Pass in which it was met.
        pass: u32,
        /// Batch in which it was met.
        seq: u64,
        /// Its name, escaped, for people.
        key: String,
        /// Its name, hex, for programs.
        key_hex: String,
        /// Length of the whole name, where only its beginning is kept.
        #[serde(default)]
        key_bytes: u64,
        /// Why.
        reason: String,
        /// The server's words, if it was a server that refused.
        error: Option<String>,
        /// Size of the payload, if it had one.
        #[serde(default)]
        payload_bytes: Option<u64>,
        /// RDB type byte of the payload, if it had one.
        #[serde(default)]
        payload_type: Option<u8>,
    },
    /// A repair of a comparison's findings began, or goes on.
    RepairStarted {
        /// From 1.
        repair: u32,
        /// Number of the comparison.
        compare: u32,
        /// Run that works on it.
        run: u32,
        /// Open findings.
        findings: u64,
        /// How many keys may be deleted on the target; none, if absent.
        delete: Option<u64>,
    },
    /// A key that only the target had was deleted there.
    Deleted {
        /// Index in the plan.
        lane: u32,
        /// Its name, escaped, for people.
        key: String,
        /// Its name, hex, for programs.
        key_hex: String,
    },
    /// A repair has tried every finding.
    Repaired {
        /// From 1.
        repair: u32,
        /// Number of the comparison.
        compare: u32,
        /// Run that ended it.
        run: u32,
        /// What was done, over all runs of this repair.
        counters: RepairCounters,
        /// Findings that are left.
        findings_left: u64,
    },
    /// What a server has counted while a run was at work, whichever client asked it.
    Served {
        /// From 1.
        run: u32,
        /// Which side.
        side: Side,
        /// Which of its nodes, if it is a cluster.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        node: Option<String>,
        /// Calls of each command.
        #[serde(default)]
        calls: BTreeMap<String, u64>,
        /// Why it is not known, if it is not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        unknown: Option<String>,
    },
    /// A process came to its end and could still say so.
    RunEnded {
        /// From 1.
        run: u32,
        /// How, in a sentence.
        how: String,
        /// How, for programs.
        #[serde(default)]
        end: EndKind,
        /// Of a failure: what a script should make of it.
        #[serde(default)]
        class: Option<String>,
    },
    /// Every lane is at its end.
    Completed {
        /// Sums over the final passes of all lanes.
        counters: Counters,
    },
    /// A comparison of both sides began.
    CompareStarted {
        /// From 1.
        compare: u32,
        /// Run that began it.
        run: u32,
        /// Which part of the keys is looked at; all, if absent.
        sample: Option<String>,
        /// Seed of the sample.
        seed: Option<u64>,
        /// Keys that only the target has are not looked for.
        one_way: bool,
        /// The target alone is looked at, and what the copy has kept of each key.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        recorded: bool,
        /// How far the copy was, a pass and a batch for each lane.
        #[serde(default)]
        copied: Vec<(u32, u64)>,
    },
    /// A lane's comparison begins, or begins anew.
    CompareLaneBegan {
        /// Number of the comparison.
        compare: u32,
        /// Index in the plan.
        lane: u32,
        /// Why.
        reason: String,
        /// The source process, if known.
        source_run_id: Option<String>,
        /// The target process, if known.
        target_run_id: Option<String>,
    },
    /// A key that a comparison found different. Said right before [`Event::Compared`], for the first
    /// [`FINDINGS_TOLD_MAX`] of them.
    Finding {
        /// Number of the comparison.
        compare: u32,
        /// Index in the plan.
        lane: u32,
        /// Its name, escaped, for people.
        key: String,
        /// Its name, hex, for programs.
        key_hex: String,
        /// Length of the whole name, where only its beginning is kept.
        key_bytes: u64,
        /// What is wrong with it.
        verdict: Verdict,
        /// Type of the value on the source; of the one on the target, if only that has it.
        key_type: String,
        /// Where it differs first.
        detail: String,
    },
    /// A comparison has its result.
    Compared {
        /// From 1.
        compare: u32,
        /// Run that ended it.
        run: u32,
        /// Sums over all lanes.
        counters: CompareCounters,
        /// Digest of all keys compared on the source.
        source_digest: String,
        /// Digest of all keys compared on the target.
        target_digest: String,
        /// What was not compared, in sentences.
        not_compared: Vec<String>,
        /// For how long the keys live on whose values are equal, where expiries were compared.
        #[serde(default)]
        lives: Box<ComparedLives>,
    },
    /// Written by a newer redknot of the same format.
    #[serde(other)]
    Unknown,
}

/// So many findings of a comparison are told one by one; all of them are in the state until the next comparison.
pub const FINDINGS_TOLD_MAX: usize = 1000;

/// So many bytes of a key's name are told.
pub const NAME_TOLD_BYTES: usize = 4096;

/// How far a lane is durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Milestone {
    /// Index in the plan.
    pub lane: u32,
    /// Current pass.
    pub pass: u32,
    /// Number of its next batch.
    pub next_seq: u64,
    /// Chain hash of its newest batch over all passes, hex.
    pub chain: String,
    /// Cursor that its newest batch returned, 0 at the end of the pass; absent before the pass's first batch.
    #[serde(default)]
    pub cursor: Option<u64>,
    /// Sums over the batches of this pass.
    pub counters: Counters,
    /// What the keys written in this pass are like; as many as `counters.keys_written`.
    #[serde(default)]
    pub makeup: Box<Makeup>,
    /// Sums over the batches of all passes.
    #[serde(default)]
    pub counters_of_all_passes: Counters,
}

/// How fast the copy was between two milestones. What is counted is durable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Run that was at work.
    pub run: u32,
    /// Since the milestone before, or since the run began.
    pub over_ms: u64,
    /// Keys scanned, over all lanes, passes and runs: it never falls.
    pub keys_scanned: u64,
    /// Keys written, likewise.
    pub keys_written: u64,
    /// Payload bytes written, likewise.
    pub payload_bytes_written: u64,
    /// Keys scanned a second since the milestone before.
    pub keys_per_s: f64,
    /// Payload bytes written a second since the milestone before.
    pub bytes_per_s: f64,
    /// Round trips of the probe on the source since the milestone before; absent if none was answered.
    pub source_latency: Option<Latency>,
    /// Round trips of the probe on the target, likewise.
    pub target_latency: Option<Latency>,
    /// How long the newest commit took to become durable, microseconds.
    pub fsync_us: u64,
    /// So much of this time the copy waited for a side, milliseconds.
    pub throttled_ms: u64,
    /// Why it waits at this moment, if it does.
    pub throttle: Option<String>,
}

/// Round trips of some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// How many.
    pub probes: u32,
    /// Half of them took no longer, microseconds.
    pub p50_us: u32,
    /// 99 of 100 took no longer, microseconds.
    pub p99_us: u32,
    /// The longest, microseconds.
    pub max_us: u32,
}

/// Something that a run was told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// The flag without its dashes, `batch` for example.
    pub name: String,
    /// As it holds, in the form that the flag takes. An address stands without its password.
    pub value: String,
    /// Who said it.
    pub origin: Origin,
}

/// Who said a setting, strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The command line.
    Flag,
    /// A variable of the environment.
    Environment,
    /// The file of `--config`.
    File,
    /// Nobody.
    Default,
    /// A newer redknot knows.
    #[serde(other)]
    Unknown,
}

/// A server, as a run met it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerSeen {
    /// `redis://user@host:port/db`, never with a password.
    pub address: String,
    /// `redis 7.0.15`, `valkey 9.1.2`; empty if unknown.
    pub version: String,
    /// The process, if known.
    pub run_id: Option<String>,
    /// `master` or `slave`, as the server calls it, if known.
    pub role: Option<String>,
    /// Nodes with slots, if it is a cluster.
    pub masters: Option<usize>,
    /// Everybody who belongs to the cluster: by any of them it is found again when the one that was named is gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<MetNode>,
    /// How it is spoken to.
    pub tls: TlsUse,
    /// SHA-256 of the certificate that it showed, hex, if it showed one.
    pub certificate_sha256: Option<String>,
    /// How far its clock is ahead of this machine's, milliseconds, if it tells the time.
    pub clock_ahead_ms: Option<i64>,
    /// That may be wrong by so much.
    pub clock_uncertainty_ms: Option<i64>,
    /// DBSIZE of the databases of the plan, together, if it may be asked.
    pub keys: Option<u64>,
}

/// Why the copy waits for a side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ThrottleKind {
    /// The connection was lost or can't be made: what ends it is a reconnect.
    Lost,
    /// The server answers and asks to come back later: LOADING, OOM, READONLY.
    Refused,
    /// The copy keeps to a limit that it was given.
    Limited,
    /// A newer redknot knows.
    #[serde(other)]
    Unknown,
}

/// How a run ended, if it could still say so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndKind {
    /// It did what it was asked for.
    Complete,
    /// Asked to end, with a checkpoint.
    Stopped,
    /// By an error.
    Failed,
    /// The sentence has to do.
    #[default]
    #[serde(other)]
    Unknown,
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes
        .iter()
        .fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
            // Writing to a string can't fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// The bytes of lower-case hex.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let bytes = text.as_bytes();
    if !bytes.len().is_multiple_of(2) {
        return None;
    }
    bytes
        .chunks_exact(2)
        .map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?))
        .collect()
}
