//! The flags of `redknot compare`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::{BoolishValueParser, PossibleValuesParser, TypedValueParser};
use redknot::compare::CompareWith;
use redknot::compare::sample::{Sample, SampleError};
use redknot::config::{limits, units};
use redknot::plan::{KeyType, TtlPolicy};
use redknot::state::Durability;

use super::{
    SelectionArgs, SourceArgs, TargetArgs, TimesArgs, WatchArgs, bandwidth, batch, db, durability,
    key_type, keys, max_latency, max_unavailable, memory, rate, timeout, ttl,
};

#[derive(Debug, Clone, Default, Args)]
#[command(after_help = "Examples:
  redknot compare shop                       the migration shop: its servers, databases and filters
  redknot compare --from cache:6379 --to 10.0.0.9:6379
  redknot compare shop --sample 5%           another --seed looks at other keys
  redknot compare shop --sample 3/8          the third of eight parts that together are all keys
  redknot compare shop --recorded            the source is gone: the target, and what was recorded of each key

Exit code 0: both sides are equal. 1: they are not, and the findings are kept for redknot keys and repair.
Nothing is written on either side. Passwords are not stored: redknot help urls.")]
pub struct CompareArgs {
    /// Which migration; may be left out where there is only one, or where both servers are named
    pub name: Option<String>,
    /// The one side; of a migration only if its URL is to be given again
    #[arg(
        long,
        env = "REDKNOT_FROM",
        value_name = "URL",
        alias = "source",
        help_heading = "Servers"
    )]
    pub from: Option<OsString>,
    /// The other side, likewise
    #[arg(
        long,
        env = "REDKNOT_TO",
        value_name = "URL",
        alias = "target",
        help_heading = "Servers"
    )]
    pub to: Option<OsString>,
    /// File with flags, for example from = "redis://old:6379" and timeout = "9s", one a line; that of migrate will do
    #[arg(
        long,
        env = "REDKNOT_CONFIG",
        value_name = "FILE",
        help_heading = "Servers"
    )]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub source: SourceArgs,
    #[command(flatten)]
    pub target: TargetArgs,
    /// Refuse to begin if a server on another machine would be spoken to without TLS, or without verifying who it is
    #[arg(long, env = "REDKNOT_REQUIRE_TLS", value_parser = BoolishValueParser::new(), action = clap::ArgAction::SetTrue, help_heading = "Servers")]
    pub require_tls: bool,

    /// Databases, each with the same number on both sides [default: the migration's, or those that the URLs name]
    #[arg(long, env = "REDKNOT_DB", value_name = "LIST", value_delimiter = ',', value_parser = db,
        allow_negative_numbers = true, help_heading = "What is compared")]
    pub db: Vec<u32>,
    /// Only keys whose name matches this pattern of the KEYS command
    #[arg(
        long = "match",
        env = "REDKNOT_MATCH",
        value_name = "GLOB",
        help_heading = "What is compared"
    )]
    pub match_glob: Option<OsString>,
    /// Only keys of these types
    #[arg(long = "type", env = "REDKNOT_TYPE", value_name = "TYPE", value_delimiter = ',', value_parser = key_type(), help_heading = "What is compared")]
    pub types: Vec<KeyType>,
    /// Whether expiries were kept, or dropped and are not compared [default: keep]
    #[arg(long, env = "REDKNOT_TTL", value_name = "POLICY", value_parser = ttl(), help_heading = "What is compared")]
    pub ttl: Option<TtlPolicy>,
    #[command(flatten)]
    pub selection: SelectionArgs,
    /// Do not look for keys that only the target has
    #[arg(long, env = "REDKNOT_ONE_WAY", value_parser = BoolishValueParser::new(), action = clap::ArgAction::SetTrue, help_heading = "What is compared")]
    pub one_way: bool,
    /// Only a part of the keys: 5%, about 100k of them, or the third of eight parts (3/8)
    #[arg(long, env = "REDKNOT_SAMPLE", value_name = "PART", value_parser = sample, allow_negative_numbers = true, help_heading = "What is compared")]
    pub sample: Option<Sample>,
    /// Chooses the keys of a sample; the same number chooses the same ones [default: 0]
    #[arg(long, env = "REDKNOT_SEED", value_name = "NUMBER", value_parser = keys, help_heading = "What is compared")]
    pub seed: Option<u64>,

    /// Compare the target alone, with the digests that migrate --record-digests has kept: the source may be gone
    #[arg(long, env = "REDKNOT_RECORDED", value_parser = BoolishValueParser::new(), action = clap::ArgAction::SetTrue, help_heading = "What is compared")]
    pub recorded: bool,

    /// How far instants of expiry may lie apart [default: 1s]
    #[arg(long, env = "REDKNOT_TTL_TOLERANCE", value_name = "TIME", value_parser = ttl_tolerance, help_heading = "How it is compared")]
    pub ttl_tolerance: Option<Duration>,
    /// How long a key that differs is left alone before it is read again [default: 1s]
    #[arg(long, env = "REDKNOT_SETTLE", value_name = "TIME", value_parser = settle, help_heading = "How it is compared")]
    pub settle: Option<Duration>,
    /// How strings are read: by MGET where there are enough of them, or by DUMP as all else [default: auto]
    #[arg(long, env = "REDKNOT_COMPARE_WITH", value_name = "HOW", value_parser = compare_with(), help_heading = "How it is compared")]
    pub compare_with: Option<CompareWith>,
    /// Forget a comparison that was left unfinished, and begin one
    #[arg(long, env = "REDKNOT_RESTART", value_parser = BoolishValueParser::new(), action = clap::ArgAction::SetTrue, help_heading = "How it is compared")]
    pub restart: bool,
    /// What a checkpoint survives: a power cut, or only the death of the process [default: fsync]
    #[arg(long, env = "REDKNOT_DURABILITY", value_name = "POLICY", value_parser = durability(), help_heading = "How it is compared")]
    pub durability: Option<Durability>,

    /// Keys asked of one SCAN [default: 500]
    #[arg(long, env = "REDKNOT_BATCH", value_name = "KEYS", value_parser = batch, help_heading = "Speed")]
    pub batch: Option<u32>,
    /// Bytes of values held in memory, with their unit [default: 32MiB]
    #[arg(long, env = "REDKNOT_MAX_MEMORY", value_name = "SIZE", value_parser = memory, help_heading = "Speed")]
    pub max_memory: Option<u64>,
    /// Most keys that are compared, with the unit: 1000/s. Each is read on both sides; ten names that are passed over, or
    /// that are only looked for on the source, count as a key [default: no limit]
    #[arg(long, env = "REDKNOT_RATE", value_name = "KEYS/s", value_parser = rate, help_heading = "Speed")]
    pub rate: Option<u64>,
    /// Most bytes of values that are read from the source, with their unit: 50MiB/s. What the target answers is about as
    /// much and does not count; with --recorded, only the target is read, and its bytes count [default: no limit]
    #[arg(long, env = "REDKNOT_BANDWIDTH", value_name = "SIZE/s", value_parser = bandwidth, help_heading = "Speed")]
    pub bandwidth: Option<u64>,
    /// Round trip that 99 of 100 PINGs stay below on the source and on the target: less is asked of both as soon as they
    /// do not on one of them. Where others use a side, that is 1.2 times what they take without the comparison; more than
    /// that is never asked for [default: no limit]
    #[arg(long, env = "REDKNOT_MAX_LATENCY", value_name = "TIME", value_parser = max_latency, help_heading = "Speed")]
    pub max_latency: Option<Duration>,
    /// Keys from this size on, as MEMORY USAGE tells it, are compared in pieces, so that no server is kept busy by one of
    /// them; or never [default: 8MiB]
    #[arg(long, env = "REDKNOT_BIG_KEY", value_name = "SIZE", value_parser = big_key, help_heading = "Speed")]
    pub big_key: Option<u64>,
    /// How long a server may be away before the run ends [default: 10m]
    #[arg(long, env = "REDKNOT_MAX_UNAVAILABLE", value_name = "TIME", value_parser = max_unavailable, help_heading = "Speed")]
    pub max_unavailable: Option<Duration>,
    /// How long a connect, or a server that owes an answer, may take [default: 5s]
    #[arg(long, env = "REDKNOT_TIMEOUT", value_name = "TIME", value_parser = timeout, help_heading = "Speed")]
    pub timeout: Option<Duration>,

    #[command(flatten)]
    pub times: TimesArgs,
    #[command(flatten)]
    pub watch: WatchArgs,
}

fn compare_with() -> impl TypedValueParser<Value = CompareWith> {
    PossibleValuesParser::new(["auto", "dump"]).map(|how| match how.as_str() {
        "dump" => CompareWith::Dump,
        _ => CompareWith::Auto,
    })
}

/// 0 for never.
fn big_key(text: &str) -> Result<u64, units::UnitError> {
    match text {
        "never" | "0" => Ok(0),
        size => units::bytes(size, &limits::BIG_KEY_COMPARED),
    }
}

fn sample(text: &str) -> Result<Sample, SampleError> {
    text.parse()
}

fn settle(text: &str) -> Result<Duration, units::UnitError> {
    units::duration(text, &limits::SETTLE)
}

fn ttl_tolerance(text: &str) -> Result<Duration, units::UnitError> {
    units::duration(text, &limits::TTL_TOLERANCE)
}
