//! What a run tells the outside while it works: events as they happen, and a status a second.
//!
//! # Invariant
//!
//! Counters here come from the state store after its fsync: nothing is shown that a crash could take back.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::endpoint::{Endpoint, Side};
use crate::plan::LanePlan;

mod big;
mod compare;
mod functions;
mod limits;
mod makeup;
mod repair;

pub use big::BigKeyStatus;
pub use compare::{CompareCounters, CompareState, CompareStatus, Verdict};
pub use functions::FunctionsStatus;
pub use limits::{HeldBy, Limits};
pub use makeup::{
    Arrived, BothLive, ComparedLives, Drift, KeyKind, Life, LifeCount, Makeup, SIZE_CLASSES,
    SizeCount,
};
pub use repair::{RepairCounters, RepairOutcome, RepairState, RepairStatus};

/// Receives events in the order in which they happen. Implementations draw, print or log; they must not block.
pub trait Observer {
    /// Called on the thread of the data path.
    fn event(&self, event: &Event);
}

/// How many keys came to which end. Scanned = written + vanished + kept + quarantined + filtered, for every
/// acknowledged batch and so for their sums (promise P5).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Names that SCAN returned, doubles included.
    pub keys_scanned: u64,
    /// The target acknowledged the payload.
    pub keys_written: u64,
    /// Deleted or expired on the source between SCAN and RESTORE.
    pub keys_vanished: u64,
    /// Already on the target, and the plan says to keep what is there.
    pub keys_kept: u64,
    /// Could not be copied; listed with the reason.
    pub keys_quarantined: u64,
    /// Not of a type, or without a name, that the plan asks for.
    pub keys_filtered: u64,
    /// Payload bytes that the target acknowledged.
    pub payload_bytes_written: u64,
    /// Of the keys written, those whose values were re-encoded, since the target does not know the source's encoding.
    #[serde(default)]
    pub keys_reencoded: u64,
    /// Of the keys written, those that were too big to be read at once and arrived in pieces.
    #[serde(default)]
    pub keys_in_pieces: u64,
    /// Of those, the ones that were read again from their beginning, because they had changed meanwhile.
    #[serde(default)]
    pub keys_read_again: u64,
}

impl Counters {
    /// Adds `other`, field by field.
    pub fn add(&mut self, other: &Self) {
        // Taken apart, so that a new counter does not compile until it is summed.
        let Self {
            keys_scanned,
            keys_written,
            keys_vanished,
            keys_kept,
            keys_quarantined,
            keys_filtered,
            payload_bytes_written,
            keys_reencoded,
            keys_in_pieces,
            keys_read_again,
        } = other;
        self.keys_scanned += keys_scanned;
        self.keys_written += keys_written;
        self.keys_vanished += keys_vanished;
        self.keys_kept += keys_kept;
        self.keys_quarantined += keys_quarantined;
        self.keys_filtered += keys_filtered;
        self.payload_bytes_written += payload_bytes_written;
        self.keys_reencoded += keys_reencoded;
        self.keys_in_pieces += keys_in_pieces;
        self.keys_read_again += keys_read_again;
    }

    /// Whether every scanned key is accounted for (promise P5).
    pub fn balance(&self) -> bool {
        self.keys_scanned
            == self.keys_written
                + self.keys_vanished
                + self.keys_kept
                + self.keys_quarantined
                + self.keys_filtered
    }
}

/// Something that the operator or a log wants to know.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// The run begins. `resumed` says whether there was a state to continue from.
    Start {
        /// 1 for the first process that works on this migration.
        run: u32,
        /// Whether an earlier run of this migration left a state.
        resumed: bool,
        /// One line: how the run before this one ended, as far as is known.
        last_run: Option<String>,
        /// Durable part at the start, in percent.
        percent: f64,
    },
    /// Said before the first batch of a lane, and whenever the position is decided anew.
    Lane {
        /// Which databases.
        lane: LanePlan,
        /// The pass that goes on or begins.
        pass: u32,
        /// What was decided.
        decision: LaneDecision,
        /// Why, in a sentence for the operator.
        reason: String,
    },
    /// A database's copy had counted on another process of the source than the one that answers now.
    SourceChanged(ProcessChange),
    /// Likewise, of the target.
    TargetChanged(ProcessChange),
    /// A side is a cluster.
    Cluster {
        /// Which side.
        side: Side,
        /// How many of its nodes have slots.
        masters: usize,
    },
    /// About once a second.
    Progress(Box<Status>),
    /// A side failed; the run waits and tries again.
    Retry {
        /// Which side.
        side: Side,
        /// What it said or did.
        cause: String,
        /// Tries since the last progress.
        attempt: u32,
        /// Until the next try, in milliseconds.
        wait_ms: u64,
    },
    /// The side that failed answers again.
    Recovered {
        /// Which side.
        side: Side,
    },
    /// A key could not be copied. Said when it happens; counted only when durable.
    Quarantined {
        /// Database on the source.
        db: u32,
        /// The key, escaped.
        key: String,
        /// Why.
        reason: String,
    },
    /// Something that the operator should know; the run goes on.
    Warning {
        /// A sentence.
        message: String,
    },
    /// A run that is under way keeps to other limits from now on (`redknot throttle`).
    LimitsChanged {
        /// All of them.
        limits: Limits,
    },
    /// A stop was asked for; batches in flight are brought to their end.
    Stopping {
        /// Batches still in flight.
        batches: u64,
    },
    /// The libraries of functions are where they should be (`--functions`).
    Functions(FunctionsStatus),
    /// How the libraries of functions of both sides compare, by their names.
    FunctionsCompared {
        /// The same on both sides.
        equal: u64,
        /// On the source alone.
        missing: Vec<String>,
        /// Of the same name, and not the same.
        different: Vec<String>,
        /// On the target alone.
        extra: Vec<String>,
    },
    /// Every lane is at its end and the accounts add up.
    Complete(Box<Status>),
    /// A comparison begins or is continued.
    CompareStart {
        /// 1 for the first comparison of this migration.
        compare: u32,
        /// The run that works on it.
        run: u32,
        /// Whether an earlier run left a part of it done.
        resumed: bool,
        /// Durable part at the start, in percent.
        percent: f64,
    },
    /// Said when a lane's comparison begins, and whenever its position is decided anew.
    CompareLane {
        /// Which databases.
        lane: LanePlan,
        /// What was decided.
        decision: LaneDecision,
        /// Why, in a sentence for the operator.
        reason: String,
    },
    /// About once a second.
    CompareProgress(Box<CompareStatus>),
    /// A key that is not equal, also after it was read again. Said when it happens; counted only when durable.
    Finding {
        /// Database on the source.
        db: u32,
        /// The key, escaped.
        key: String,
        /// What is wrong with it.
        verdict: Verdict,
        /// Type of the value on the source; of the one on the target, if only that has it.
        key_type: String,
        /// Where it differs first, and the beginnings of both digests.
        detail: String,
    },
    /// The comparison has its result.
    Compared(Box<CompareStatus>),
    /// A repair begins or is continued.
    RepairStart {
        /// 1 for the first repair of this migration.
        repair: u32,
        /// Number of the comparison whose findings it works on.
        compare: u32,
        /// The run that works on it.
        run: u32,
        /// Findings to be looked at.
        findings: u64,
        /// How many keys were confirmed to be deleted.
        delete: Option<u64>,
    },
    /// A finding was tried, and that is on disk.
    Repair {
        /// Database on the source.
        db: u32,
        /// The key, escaped.
        key: String,
        /// What was wrong with it.
        verdict: Verdict,
        /// What became of it.
        outcome: RepairOutcome,
        /// Why it still differs, if it does.
        detail: String,
    },
    /// About once a second.
    RepairProgress(Box<RepairStatus>),
    /// Every finding was tried.
    Repaired(Box<RepairStatus>),
}

/// Another server process where one was known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProcessChange {
    /// Database on that side.
    pub db: u32,
    /// The one that was known, as it names itself.
    pub run_id_before: Option<String>,
    /// The one that answers now.
    pub run_id: Option<String>,
}

/// Where a lane starts in this run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LaneDecision {
    /// First pass of a lane that has never been scanned.
    Begin,
    /// The stored cursor is alive and is continued.
    Continue,
    /// The stored cursor, or what the target acknowledged, can't be trusted: the lane is scanned from its beginning again.
    NewPass,
    /// The lane was already at its end.
    Finished,
}

/// How a migration stands. The content of `status.json`, of `status --json` and of progress events.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of this record's form.
    pub v: u32,
    /// Name of the migration.
    pub migration: String,
    /// Source and target, without secrets.
    pub source: String,
    /// See `source`.
    pub target: String,
    /// How the source is spoken to.
    #[serde(default)]
    pub source_tls: TlsUse,
    /// How the target is spoken to.
    #[serde(default)]
    pub target_tls: TlsUse,
    /// What the plan says beyond servers and databases, as flags.
    #[serde(default)]
    pub plan: Vec<String>,
    /// What the run is doing, or how it ended.
    pub state: RunState,
    /// How the run ended, in a sentence, once it has.
    pub end: Option<String>,
    /// When the migration became complete, Unix milliseconds, if it is.
    #[serde(default)]
    pub completed_ms: Option<u64>,
    /// The run that wrote this.
    pub run: u32,
    /// Process id of the run.
    pub pid: u32,
    /// Machine of the run.
    pub host: String,
    /// Start of the run, Unix milliseconds.
    pub run_began_ms: u64,
    /// When this was written, Unix milliseconds.
    pub updated_ms: u64,
    /// One entry a database, in the order of the plan.
    pub lanes: Vec<LaneStatus>,
    /// Sums over the current passes of all lanes.
    pub counters: Counters,
    /// Batches whose acknowledgement is durable, current passes.
    pub batches_durable: u64,
    /// Batches scanned and not yet durable.
    pub batches_in_flight: u64,
    /// DBSIZE of the source databases when the run began, if it could be asked.
    pub keys_estimate: Option<u64>,
    /// How much of the keyspace the durable cursors cover, 0–100.
    pub percent: f64,
    /// Durable keys per second, over the last seconds.
    pub keys_per_s: f64,
    /// Durable payload bytes per second, over the last seconds.
    pub bytes_per_s: f64,
    /// Seconds left, if the rate stays.
    pub eta_s: Option<f64>,
    /// When the newest durable checkpoint was made, Unix milliseconds.
    pub checkpoint_ms: Option<u64>,
    /// Failures of a side that were tried again in this run.
    pub retries: u64,
    /// Round trip of the probe PING on the source, milliseconds, smoothed.
    pub source_latency_ms: Option<f64>,
    /// How strings are read at present, or were last in this run.
    #[serde(default)]
    pub strings_by: Option<StringsBy>,
    /// How strings are written, likewise.
    #[serde(default)]
    pub strings_written_by: Option<StringsWrittenBy>,
    /// How strings' expiries are asked for, likewise.
    #[serde(default)]
    pub expiries_by: Option<ExpiriesBy>,
    /// Most keys whose values are asked of the source at once, at present.
    pub read_window: u32,
    /// Why the copy waits, if it does.
    pub throttle: Option<String>,
    /// What it waits for, if it does.
    #[serde(default)]
    pub throttled_by: Option<HeldBy>,
    /// What the copy keeps to.
    #[serde(default)]
    pub limits: Limits,
    /// Keys that the target has evicted since the run began, whosever they were.
    #[serde(default)]
    pub evicted_keys: u64,
    /// Passes that were begun and why, oldest first.
    pub passes: Vec<PassStatus>,
    /// What became of the libraries of functions, if they were carried (`--functions`).
    #[serde(default)]
    pub functions: Option<FunctionsStatus>,
    /// The big key that is being copied in pieces, if one is.
    #[serde(default)]
    pub big_key: Option<BigKeyStatus>,
    /// The newest comparison, if there is one.
    #[serde(default)]
    pub compare: Option<CompareStatus>,
    /// The newest repair, if there is one.
    #[serde(default)]
    pub repair: Option<RepairStatus>,
}

/// How a server is spoken to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TlsUse {
    /// In the clear.
    #[default]
    None,
    /// Encrypted, and it is who it should be.
    Verified,
    /// Encrypted, and it may be anybody (`--from-insecure`, `--to-insecure`).
    Unverified,
}

impl TlsUse {
    /// How this endpoint is spoken to.
    pub fn of(endpoint: &Endpoint) -> Self {
        match &endpoint.tls {
            None => Self::None,
            Some(tls) if tls.is_verified() => Self::Verified,
            Some(_) => Self::Unverified,
        }
    }
}

/// What the run is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Copying. If `updated_ms` is old and the lock is free, the process died.
    Running,
    /// Stopped on request, checkpoint saved.
    #[default]
    Stopped,
    /// Ended by an error, checkpoint saved.
    Failed,
    /// Every lane is at its end.
    Complete,
}

/// How strings are read. It is chosen for speed and makes no difference to what arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StringsBy {
    /// Many by one MGET; DUMP only for keys of other types.
    Mget,
    /// By DUMP, as all keys.
    Dump,
}

impl fmt::Display for StringsBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mget => "strings by MGET",
            Self::Dump => "strings by DUMP",
        })
    }
}

/// How strings are written. It is chosen for speed and makes no difference to what arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StringsWrittenBy {
    /// By SET, where they were read as strings.
    Set,
    /// By RESTORE, as all keys.
    Restore,
}

impl fmt::Display for StringsWrittenBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Set => "written by SET",
            Self::Restore => "written by RESTORE",
        })
    }
}

/// How strings' expiries are asked for. It is chosen for speed and makes no difference to what arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExpiriesBy {
    /// Once for many keys, by the number of keys of the database that have one: there is none.
    Count,
    /// Of each key.
    Key,
    /// Not at all (`--ttl drop`).
    None,
}

impl fmt::Display for ExpiriesBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Count => "expiries by INFO keyspace",
            Self::Key => "expiries key by key",
            Self::None => "expiries not asked for",
        })
    }
}

/// How one database stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LaneStatus {
    /// Database on the source.
    pub source_db: u32,
    /// Database on the target.
    pub target_db: u32,
    /// Current pass, from 1; 0 before the first.
    pub pass: u32,
    /// Durable cursor, as the server spells it; `None` before the first and after the last batch.
    pub cursor: Option<u64>,
    /// Whether the current pass has reached its end.
    pub finished: bool,
    /// `run_id` of the source process that this pass walks.
    pub source_run_id: Option<String>,
    /// `run_id` of the target process that acknowledged.
    pub target_run_id: Option<String>,
    /// Durable counters of the current pass.
    pub counters: Counters,
}

/// One pass and why it began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassStatus {
    /// Index of the lane in the plan.
    pub lane: u32,
    /// From 1.
    pub pass: u32,
    /// Unix milliseconds.
    pub began_ms: u64,
    /// Why it began.
    pub reason: String,
}
