//! The command line: every command and flag, and nothing of what they do.
//!
//! # Invariants
//!
//! - Every flag can be set by an environment variable `REDKNOT_<FLAG>`. What the variables hold is never shown, since an
//!   address may contain a password.
//! - What is not said is `None`: the defaults stand in [`redknot::config::limits`] and are filled in after the
//!   configuration file had its say.

mod audit;
mod compare;
mod keys;
mod repair;
mod selection;
mod throttle;
mod times;
mod watch;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{BoolishValueParser, PossibleValuesParser, TypedValueParser};
use clap::{Args, CommandFactory, Parser, Subcommand};
use redknot::config::{limits, units};
use redknot::copy::{OnSourceChange, ReadWith, WriteWith};
use redknot::endpoint::Side;
use redknot::plan::{FieldTtl, KeyType, OnConflict, TtlPolicy};
use redknot::state::Durability;

use super::log::LogFormat;
use super::server_args::{SourceArgs, TargetArgs};

pub use audit::{
    AuditArgs, AuditCommand, CheckArgs, ExportArgs, RebuildArgs, ReportArgs, ShowArgs,
};
pub use compare::CompareArgs;
pub use keys::{KeyClass, KeysArgs};
pub use repair::RepairArgs;
pub use selection::{Mapped, SelectionArgs};
pub use throttle::{Limit, ThrottleArgs};
pub use times::TimesArgs;
pub use watch::WatchArgs;

/// Moves a Redis that can only be SCANned. Kill it anywhere, run the same command again.
#[derive(Debug, Parser)]
#[command(
    name = "redknot",
    version,
    disable_help_subcommand = true,
    infer_subcommands = false,
    after_help = "Every flag can also be set in the environment: redknot help environment",
    max_term_width = 100
)]
pub struct Cli {
    #[command(flatten)]
    pub common: Common,
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Flags of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Common")]
pub struct Common {
    /// Say more: -v what is decided, -vv what is sent
    #[arg(short, long, global = true, env = "REDKNOT_VERBOSE", action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Say nothing but errors
    #[arg(short, long, global = true, env = "REDKNOT_QUIET", value_parser = BoolishValueParser::new(), action = clap::ArgAction::SetTrue)]
    pub quiet: bool,
    /// Events, or the status, as JSON on standard output
    #[arg(long, global = true, env = "REDKNOT_JSON", value_parser = BoolishValueParser::new(), action = clap::ArgAction::SetTrue)]
    pub json: bool,
    /// When to use colours
    #[arg(long, global = true, env = "REDKNOT_COLOR", value_name = "WHEN", default_value = "auto", value_parser = color())]
    pub color: Color,
    /// Plain lines instead of a progress bar
    #[arg(long, global = true, env = "REDKNOT_NO_PROGRESS", value_parser = BoolishValueParser::new(), action = clap::ArgAction::SetTrue)]
    pub no_progress: bool,
    /// How lines on standard error are written: for people, or each as a JSON object
    #[arg(long, global = true, env = "REDKNOT_LOG_FORMAT", value_name = "FORM", default_value = "text", value_parser = log_format())]
    pub log_format: LogFormat,
    /// Never ask anything
    #[arg(long, global = true, env = "REDKNOT_NO_INPUT", value_parser = BoolishValueParser::new(), action = clap::ArgAction::SetTrue)]
    pub no_input: bool,
    /// Folder of the states, one folder a migration [default: migrations-state]
    #[arg(long, global = true, env = "REDKNOT_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
}

impl Common {
    /// The folder of the states.
    pub fn state_dir(&self) -> PathBuf {
        self.state_dir
            .clone()
            .unwrap_or_else(|| "migrations-state".into())
    }
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Color {
    Auto,
    Always,
    Never,
}

impl From<Color> for clap::ColorChoice {
    fn from(color: Color) -> Self {
        match color {
            Color::Auto => Self::Auto,
            Color::Always => Self::Always,
            Color::Never => Self::Never,
        }
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a migration or continue it: the same command starts, resumes, and says "already complete"
    Migrate(Box<MigrateArgs>),
    /// How one migration stands, or all of them; works beside a running one
    Status(StatusArgs),
    /// Are both sides equal, by value, in both directions? Resumable; rereads what differs before it is believed
    Compare(Box<CompareArgs>),
    /// Make the target right where a comparison found it wrong: shows what it would do, and does it with --apply
    Repair(Box<RepairArgs>),
    /// List keys by what became of them: escaped, as they are with -0, or as JSON
    Keys(KeysArgs),
    /// Change what a run keeps to while it works: keys and bytes a second, latency
    Throttle(ThrottleArgs),
    /// What was done, as a report too; whether the records of it fit together, and a lost state made anew from them
    Audit(AuditArgs),
    /// See it work: two throw-away servers, killed half-way, resumed, checked key by key
    Demo(DemoArgs),
    /// Users that may do what redknot does and nothing else, as ACL lines to paste
    Acl(AclArgs),
    /// The old spelling: rump -from URL -to URL [-ttl] [-silent]
    #[command(disable_help_flag = true)]
    Rump(RumpArgs),
    /// More about a command, or about: exit-codes, environment, urls, selection, guarantees
    Help(HelpArgs),
}

#[derive(Debug, Clone, Default, Args)]
#[command(after_help = "Examples:
  redknot migrate --from cache.example.com:6379 --to 10.0.0.9:6379
  redknot migrate --from redis://cache.example.com/0 --from-pass-file old.secret \\
                  --to redis://app@10.0.0.9/0 --to-pass-file new.secret
  redknot migrate --from cache:6379 --to 10.0.0.9:6379 --db 0,3 --match 'user:*' --on-conflict skip

Addresses and passwords: redknot help urls. Exit codes: redknot help exit-codes.")]
pub struct MigrateArgs {
    /// The server that is read
    #[arg(
        long,
        env = "REDKNOT_FROM",
        value_name = "URL",
        alias = "source",
        help_heading = "Servers"
    )]
    pub from: Option<OsString>,
    /// The server that is written
    #[arg(
        long,
        env = "REDKNOT_TO",
        value_name = "URL",
        alias = "target",
        help_heading = "Servers"
    )]
    pub to: Option<OsString>,
    /// File with flags, for example from = "redis://old:6379" and batch = 1000, one a line
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

    /// Name of the migration [default: made of the addresses]
    #[arg(
        long,
        env = "REDKNOT_NAME",
        value_name = "NAME",
        help_heading = "What is moved"
    )]
    pub name: Option<String>,
    /// Databases, each to the same number on the target, for example 0,3 [default: those that the URLs name]
    #[arg(long, env = "REDKNOT_DB", value_name = "LIST", value_delimiter = ',', value_parser = db,
        allow_negative_numbers = true, help_heading = "What is moved")]
    pub db: Vec<u32>,
    /// Only keys whose name matches this pattern of the KEYS command
    #[arg(
        long = "match",
        env = "REDKNOT_MATCH",
        value_name = "GLOB",
        help_heading = "What is moved"
    )]
    pub match_glob: Option<OsString>,
    /// Only keys of these types
    #[arg(long = "type", env = "REDKNOT_TYPE", value_name = "TYPE", value_delimiter = ',', value_parser = key_type(), help_heading = "What is moved")]
    pub types: Vec<KeyType>,
    /// Expiries: keep them to the millisecond, or drop them [default: keep]
    #[arg(long, env = "REDKNOT_TTL", value_name = "POLICY", value_parser = ttl(), help_heading = "What is moved")]
    pub ttl: Option<TtlPolicy>,
    /// Hashes whose fields expire, where the target is too old to hold that: quarantine them, or drop the fields'
    /// expiry [default: quarantine]
    #[arg(long, env = "REDKNOT_FIELD_TTL", value_name = "POLICY", value_parser = field_ttl(), help_heading = "What is moved")]
    pub field_ttl: Option<FieldTtl>,

    #[command(flatten)]
    pub selection: SelectionArgs,

    /// A key that the target already has: replace it, skip it, or fail; not given, the target has to be empty
    #[arg(long, env = "REDKNOT_ON_CONFLICT", value_name = "POLICY", value_parser = on_conflict(), help_heading = "Safety")]
    pub on_conflict: Option<OnConflict>,
    /// The source is another server process than before: scan it anew, or fail [default: new-pass]
    #[arg(long, env = "REDKNOT_ON_SOURCE_CHANGE", value_name = "POLICY", value_parser = on_source_change(), help_heading = "Safety")]
    pub on_source_change: Option<OnSourceChange>,
    /// Continue a saved cursor even where the source can't prove that it still means something: keys may be missed
    #[arg(long, env = "REDKNOT_TRUST_CURSOR", value_parser = BoolishValueParser::new(), action = clap::ArgAction::SetTrue, help_heading = "Safety")]
    pub trust_cursor: bool,
    /// Believe what the target acknowledged before it restarted: keys may be missed
    #[arg(long, env = "REDKNOT_TRUST_TARGET", value_parser = BoolishValueParser::new(), action = clap::ArgAction::SetTrue, help_heading = "Safety")]
    pub trust_target: bool,
    /// Scan a complete migration again
    #[arg(long, env = "REDKNOT_NEW_PASS", value_parser = BoolishValueParser::new(), action = clap::ArgAction::SetTrue, help_heading = "Safety")]
    pub new_pass: bool,
    /// Begin from nothing; the old state is set aside, not deleted
    #[arg(long, env = "REDKNOT_RESTART", value_parser = BoolishValueParser::new(), action = clap::ArgAction::SetTrue, help_heading = "Safety")]
    pub restart: bool,
    /// Compare both sides when the copy is complete
    #[arg(long, env = "REDKNOT_COMPARE", value_parser = BoolishValueParser::new(), action = clap::ArgAction::SetTrue, help_heading = "Safety")]
    pub compare: bool,
    /// Keep a digest of every key, 32 bytes each: redknot compare --recorded proves the target when the source is gone
    #[arg(long, env = "REDKNOT_RECORD_DIGESTS", value_parser = BoolishValueParser::new(), action = clap::ArgAction::SetTrue, help_heading = "Safety")]
    pub record_digests: bool,
    /// Carry the libraries of functions too (Redis 7.0), when all keys have arrived
    #[arg(long, env = "REDKNOT_FUNCTIONS", value_parser = BoolishValueParser::new(), action = clap::ArgAction::SetTrue, help_heading = "What is moved")]
    pub functions: bool,
    /// What a checkpoint survives: a power cut, or only the death of the process [default: fsync]
    #[arg(long, env = "REDKNOT_DURABILITY", value_name = "POLICY", value_parser = durability(), help_heading = "Safety")]
    pub durability: Option<Durability>,
    /// End the run when more keys than this could not be copied [default: no limit]
    #[arg(
        long,
        env = "REDKNOT_MAX_QUARANTINE",
        value_name = "KEYS",
        value_parser = keys,
        help_heading = "Safety"
    )]
    pub max_quarantine: Option<u64>,

    /// Keys asked of one SCAN [default: 500]
    #[arg(long, env = "REDKNOT_BATCH", value_name = "KEYS", value_parser = batch, help_heading = "Speed")]
    pub batch: Option<u32>,
    /// Connections to the target [default: 1]
    #[arg(long, env = "REDKNOT_CONNECTIONS", value_name = "N", value_parser = connections, help_heading = "Speed")]
    pub connections: Option<u32>,
    /// Payload bytes held in memory, with their unit [default: 32MiB]
    #[arg(long, env = "REDKNOT_MAX_MEMORY", value_name = "SIZE", value_parser = memory, help_heading = "Speed")]
    pub max_memory: Option<u64>,
    /// Keys from this size on, as MEMORY USAGE tells it, are copied in pieces, so that no server is kept busy by one of
    /// them; or never [default: 8MiB]
    #[arg(long, env = "REDKNOT_BIG_KEY", value_name = "SIZE", value_parser = big_key, help_heading = "Speed")]
    pub big_key: Option<u64>,
    /// How values are read: strings by MGET, which spares the source; or all by DUMP, which compresses and has checksums
    /// [default: auto]
    #[arg(long, env = "REDKNOT_READ_WITH", value_name = "HOW", value_parser = read_with(), help_heading = "Speed")]
    pub read_with: Option<ReadWith>,
    /// How values are written: strings by SET, which spares the target; or all by RESTORE, which checks a checksum
    /// [default: auto]
    #[arg(long, env = "REDKNOT_WRITE_WITH", value_name = "HOW", value_parser = write_with(), help_heading = "Speed")]
    pub write_with: Option<WriteWith>,
    /// Most keys that are read from the source, with the unit: 1000/s; ten names that are passed over count as a key
    /// [default: no limit]
    #[arg(long, env = "REDKNOT_RATE", value_name = "KEYS/s", value_parser = rate, help_heading = "Speed")]
    pub rate: Option<u64>,
    /// Most payload bytes that are read from the source, with their unit: 50MiB/s [default: no limit]
    #[arg(long, env = "REDKNOT_BANDWIDTH", value_name = "SIZE/s", value_parser = bandwidth, help_heading = "Speed")]
    pub bandwidth: Option<u64>,
    /// Round trip that 99 of 100 PINGs on the source stay below: less is asked of it as soon as they do not. Where others
    /// use it, that is 1.2 times what they take without the copy; more than that is never asked for [default: no limit]
    #[arg(long, env = "REDKNOT_MAX_LATENCY", value_name = "TIME", value_parser = max_latency, help_heading = "Speed")]
    pub max_latency: Option<Duration>,
    /// How long a server may be away before the run ends [default: 10m]
    #[arg(long, env = "REDKNOT_MAX_UNAVAILABLE", value_name = "TIME", value_parser = max_unavailable, help_heading = "Speed")]
    pub max_unavailable: Option<Duration>,
    /// How long a connect, or a server that owes an answer, may take [default: 5s]
    #[arg(long, env = "REDKNOT_TIMEOUT", value_name = "TIME", value_parser = timeout, help_heading = "Speed")]
    pub timeout: Option<Duration>,
    /// How long batches in flight may take to end after Ctrl-C [default: 10s]
    #[arg(long, env = "REDKNOT_GRACE", value_name = "TIME", value_parser = grace, help_heading = "Speed")]
    pub grace: Option<Duration>,

    #[command(flatten)]
    pub times: TimesArgs,
    #[command(flatten)]
    pub watch: WatchArgs,
}

impl MigrateArgs {
    /// Every flag as said here, or else as said in `other`.
    pub fn or(self, other: Self) -> Self {
        // Taken apart, so that a new flag does not compile until it is merged.
        let Self {
            from,
            to,
            config,
            source,
            target,
            require_tls,
            name,
            db,
            match_glob,
            types,
            ttl,
            field_ttl,
            selection,
            on_conflict,
            on_source_change,
            trust_cursor,
            trust_target,
            new_pass,
            restart,
            compare,
            record_digests,
            functions,
            durability,
            max_quarantine,
            batch,
            connections,
            max_memory,
            big_key,
            read_with,
            write_with,
            rate,
            bandwidth,
            max_latency,
            max_unavailable,
            timeout,
            grace,
            times,
            watch,
        } = self;
        Self {
            from: from.or(other.from),
            to: to.or(other.to),
            config: config.or(other.config),
            source: source.or(other.source),
            target: target.or(other.target),
            require_tls: require_tls || other.require_tls,
            name: name.or(other.name),
            db: if db.is_empty() { other.db } else { db },
            match_glob: match_glob.or(other.match_glob),
            types: if types.is_empty() { other.types } else { types },
            ttl: ttl.or(other.ttl),
            field_ttl: field_ttl.or(other.field_ttl),
            selection: selection.or(other.selection),
            on_conflict: on_conflict.or(other.on_conflict),
            on_source_change: on_source_change.or(other.on_source_change),
            trust_cursor: trust_cursor || other.trust_cursor,
            trust_target: trust_target || other.trust_target,
            new_pass: new_pass || other.new_pass,
            restart: restart || other.restart,
            compare: compare || other.compare,
            record_digests: record_digests || other.record_digests,
            functions: functions || other.functions,
            durability: durability.or(other.durability),
            max_quarantine: max_quarantine.or(other.max_quarantine),
            batch: batch.or(other.batch),
            connections: connections.or(other.connections),
            max_memory: max_memory.or(other.max_memory),
            big_key: big_key.or(other.big_key),
            read_with: read_with.or(other.read_with),
            write_with: write_with.or(other.write_with),
            rate: rate.or(other.rate),
            bandwidth: bandwidth.or(other.bandwidth),
            max_latency: max_latency.or(other.max_latency),
            max_unavailable: max_unavailable.or(other.max_unavailable),
            timeout: timeout.or(other.timeout),
            grace: grace.or(other.grace),
            times: times.or(other.times),
            watch: watch.or(other.watch),
        }
    }
}

#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Which migration; may be left out where there is only one
    pub name: Option<String>,
    /// Show it anew every second
    #[arg(short, long, env = "REDKNOT_WATCH", value_parser = BoolishValueParser::new(), action = clap::ArgAction::SetTrue)]
    pub watch: bool,
}

#[derive(Debug, Args)]
pub struct AclArgs {
    /// Of one side only
    #[arg(long, env = "REDKNOT_SIDE", value_name = "SIDE", value_parser = side())]
    pub side: Option<Side>,
    /// Also the rights for --functions
    #[arg(long, env = "REDKNOT_FUNCTIONS", value_parser = BoolishValueParser::new(), action = clap::ArgAction::SetTrue)]
    pub functions: bool,
}

#[derive(Debug, Args)]
pub struct DemoArgs {
    /// How many keys to move
    #[arg(long, env = "REDKNOT_KEYS", value_name = "N", default_value_t = 200_000, value_parser = demo_keys)]
    pub keys: u32,
}

#[derive(Debug, Args)]
pub struct RumpArgs {
    /// What rump would be given
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "FLAGS"
    )]
    pub words: Vec<OsString>,
}

#[derive(Debug, Args)]
pub struct HelpArgs {
    /// A command or a topic
    pub topic: Option<String>,
}

/// The definitions, with what holds for all flags applied to all flags.
pub fn command() -> clap::Command {
    hide_env(Cli::command())
}

/// Keeps the values of environment variables, which may be passwords, out of every help text.
fn hide_env(command: clap::Command) -> clap::Command {
    command
        .mut_args(|arg| arg.hide_env(true).hide_env_values(true))
        .mut_subcommands(hide_env)
}

fn color() -> impl TypedValueParser<Value = Color> {
    PossibleValuesParser::new(["auto", "always", "never"]).map(|when| match when.as_str() {
        "always" => Color::Always,
        "never" => Color::Never,
        _ => Color::Auto,
    })
}

fn log_format() -> impl TypedValueParser<Value = LogFormat> {
    PossibleValuesParser::new(["text", "json"]).map(|form| match form.as_str() {
        "json" => LogFormat::Json,
        _ => LogFormat::Text,
    })
}

fn key_type() -> impl TypedValueParser<Value = KeyType> {
    PossibleValuesParser::new(KeyType::ALL.map(KeyType::name)).map(|name| {
        let known = KeyType::ALL
            .into_iter()
            .find(|key_type| key_type.name() == name);
        known.expect("only the names of types are possible values")
    })
}

fn ttl() -> impl TypedValueParser<Value = TtlPolicy> {
    PossibleValuesParser::new(["keep", "drop"]).map(|policy| match policy.as_str() {
        "drop" => TtlPolicy::Drop,
        _ => TtlPolicy::Keep,
    })
}

fn field_ttl() -> impl TypedValueParser<Value = FieldTtl> {
    PossibleValuesParser::new(["quarantine", "drop"]).map(|policy| match policy.as_str() {
        "drop" => FieldTtl::Drop,
        _ => FieldTtl::Quarantine,
    })
}

fn on_conflict() -> impl TypedValueParser<Value = OnConflict> {
    PossibleValuesParser::new(["replace", "skip", "fail"]).map(|policy| match policy.as_str() {
        "replace" => OnConflict::Replace,
        "skip" => OnConflict::Skip,
        _ => OnConflict::Fail,
    })
}

fn on_source_change() -> impl TypedValueParser<Value = OnSourceChange> {
    PossibleValuesParser::new(["new-pass", "fail"]).map(|policy| match policy.as_str() {
        "fail" => OnSourceChange::Fail,
        _ => OnSourceChange::NewPass,
    })
}

fn side() -> impl TypedValueParser<Value = Side> {
    PossibleValuesParser::new(["source", "target"]).map(|side| match side.as_str() {
        "target" => Side::Target,
        _ => Side::Source,
    })
}

fn durability() -> impl TypedValueParser<Value = Durability> {
    PossibleValuesParser::new(["fsync", "none"]).map(|policy| match policy.as_str() {
        "none" => Durability::None,
        _ => Durability::Fsync,
    })
}

fn read_with() -> impl TypedValueParser<Value = ReadWith> {
    PossibleValuesParser::new(["auto", "dump"]).map(|how| match how.as_str() {
        "dump" => ReadWith::Dump,
        _ => ReadWith::Auto,
    })
}

fn write_with() -> impl TypedValueParser<Value = WriteWith> {
    PossibleValuesParser::new(["auto", "restore"]).map(|how| match how.as_str() {
        "restore" => WriteWith::Restore,
        _ => WriteWith::Auto,
    })
}

pub(super) fn db(text: &str) -> Result<u32, units::UnitError> {
    units::whole(text, &limits::DB)
}

fn batch(text: &str) -> Result<u32, units::UnitError> {
    units::whole(text, &limits::BATCH_KEYS)
}

fn connections(text: &str) -> Result<u32, units::UnitError> {
    units::whole(text, &limits::CONNECTIONS)
}

fn keys(text: &str) -> Result<u64, units::UnitError> {
    units::count(text)
}

fn demo_keys(text: &str) -> Result<u32, units::UnitError> {
    units::whole(text, &(1_000..=5_000_000))
}

fn memory(text: &str) -> Result<u64, units::UnitError> {
    units::bytes(text, &limits::IN_FLIGHT_BYTES)
}

/// 0 for never.
fn big_key(text: &str) -> Result<u64, units::UnitError> {
    match text {
        "never" | "0" => Ok(0),
        size => units::bytes(size, &limits::BIG_KEY),
    }
}

fn rate(text: &str) -> Result<u64, units::UnitError> {
    units::keys_per_s(text, &limits::KEYS_PER_S)
}

fn bandwidth(text: &str) -> Result<u64, units::UnitError> {
    units::bytes_per_s(text, &limits::BYTES_PER_S)
}

fn max_latency(text: &str) -> Result<Duration, units::UnitError> {
    units::duration(text, &limits::MAX_LATENCY)
}

fn max_unavailable(text: &str) -> Result<Duration, units::UnitError> {
    units::duration(text, &limits::MAX_UNAVAILABLE)
}

fn timeout(text: &str) -> Result<Duration, units::UnitError> {
    units::duration(text, &limits::TIMEOUT)
}

fn grace(text: &str) -> Result<Duration, units::UnitError> {
    units::duration(text, &limits::GRACE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clap_finds_no_contradiction_in_the_definitions() {
        command().debug_assert();
    }

    #[test]
    fn every_flag_has_its_environment_variable() {
        let mut flags = 0;
        let root = command();
        for command in std::iter::once(&root).chain(root.get_subcommands()) {
            for arg in command.get_arguments() {
                let Some(long) = arg
                    .get_long()
                    .filter(|long| !["help", "version"].contains(long))
                else {
                    continue;
                };
                let variable = format!("REDKNOT_{}", long.to_ascii_uppercase().replace('-', "_"));
                let env = arg.get_env().map(|env| env.to_string_lossy().into_owned());
                assert_eq!(env, Some(variable), "--{long}");
                assert!(arg.is_hide_env_values_set(), "--{long}");
                flags += 1;
            }
        }
        assert!(flags > 30, "only {flags} flags were looked at");
    }

    #[test]
    fn help_names_the_defaults_that_hold() {
        let root = command();
        let migrate = root.find_subcommand("migrate").expect("migrate exists");
        let check = |flag: &str, default: String| {
            let arg = migrate
                .get_arguments()
                .find(|arg| arg.get_long() == Some(flag))
                .expect(flag);
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            assert!(
                help.ends_with(&format!("[default: {default}]")),
                "--{flag}: {help}"
            );
        };
        check("batch", limits::BATCH_KEYS_DEFAULT.to_string());
        check("connections", limits::CONNECTIONS_DEFAULT.to_string());
        check(
            "max-memory",
            units::Bytes(limits::IN_FLIGHT_BYTES_DEFAULT).to_string(),
        );
        check(
            "max-unavailable",
            units::Time(limits::MAX_UNAVAILABLE_DEFAULT).to_string(),
        );
        check("timeout", units::Time(limits::TIMEOUT_DEFAULT).to_string());
        check("grace", units::Time(limits::GRACE_DEFAULT).to_string());
        check(
            "hook-timeout",
            units::Time(limits::HOOK_TIMEOUT_DEFAULT).to_string(),
        );
        check(
            "stall-after",
            units::Time(limits::STALL_AFTER_DEFAULT).to_string(),
        );
    }
}
