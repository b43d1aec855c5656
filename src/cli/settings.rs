//! From the flags of `migrate` to a request: plain values, checked once.

use std::path::PathBuf;
use std::time::Duration;

use clap::ArgMatches;
use clap::parser::ValueSource;
use redknot::config::limits;
use redknot::copy::{CopyOptions, OnSourceChange, ReadWith, Request, WriteWith};
use redknot::plan::{FieldTtl, OnConflict, Plan, TtlPolicy};
use redknot::progress::Limits;
use redknot::state::Durability;

use super::args::{Common, MigrateArgs, TimesArgs, WatchArgs};
use super::config_file;
use super::console::Console;
use super::failure::Failure;
use super::key_list;
use super::passwords;
use super::selection;
use super::servers::{self, Said};

/// Which of the flags stood on the command line itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct OnCommandLine {
    pub from: bool,
    pub to: bool,
}

impl OnCommandLine {
    /// As clap saw it.
    pub fn of(matches: &ArgMatches) -> Self {
        let said = |flag| matches.value_source(flag) == Some(ValueSource::CommandLine);
        Self {
            from: said("from"),
            to: said("to"),
        }
    }
}

/// What is to be done, from flags, environment, file and defaults.
///
/// # Errors
///
/// Whatever of it is missing, contradictory or can't be read.
pub fn request(
    args: MigrateArgs,
    visible: OnCommandLine,
    common: &Common,
    console: &Console,
) -> Result<Request, Failure> {
    migration(args, visible, common, console).map(|asked| asked.request)
}

/// What a command line of `migrate` asks for.
pub struct Asked {
    pub request: Request,
    /// Compare both sides when all is copied.
    pub compare: bool,
    /// When it may work.
    pub times: TimesArgs,
    /// Who is told how it goes.
    pub watch: WatchArgs,
}

/// As [`request`], with what concerns only the command.
///
/// # Errors
///
/// As [`request`].
pub fn migration(
    args: MigrateArgs,
    visible: OnCommandLine,
    common: &Common,
    console: &Console,
) -> Result<Asked, Failure> {
    let args = match &args.config {
        Some(path) => {
            let file = config_file::read(path)?;
            args.or(file)
        }
        None => args,
    };
    refuse_contradictions(&args, common)?;
    let named = selection::names(Plan::default(), args.match_glob, &args.selection)?;
    let source = servers::server(
        &Said {
            url_on_command_line: visible.from,
            no_input: common.no_input,
            require_tls: args.require_tls,
            ..Said::source(args.from.as_deref(), &args.source)
        },
        console,
    )?;
    let target = servers::server(
        &Said {
            url_on_command_line: visible.to,
            no_input: common.no_input,
            require_tls: args.require_tls,
            ..Said::target(args.to.as_deref(), &args.target)
        },
        console,
    )?;
    let mut types = args.types;
    types.sort_unstable();
    types.dedup();
    let (databases, lanes) = selection::databases(&args.db, &args.selection, &source, &target)?;
    let mut plan = Plan {
        source: source.endpoint.address.to_string(),
        target: target.endpoint.address.to_string(),
        databases,
        lanes,
        types,
        on_conflict: args.on_conflict.unwrap_or(OnConflict::RequireEmpty),
        ttl: args.ttl.unwrap_or(TtlPolicy::Keep),
        field_ttl: args.field_ttl.unwrap_or(FieldTtl::Quarantine),
        ..named
    };
    let new_list = match &args.selection.keys_from {
        None => None,
        Some(path) => {
            let said = key_list::Said {
                path,
                null: args.selection.keys_from0,
                state_dir: &common.state_dir(),
                name: args.name.as_deref(),
                restart: args.restart,
            };
            key_list::read(&said, &mut plan)?
        }
    };
    let options = CopyOptions {
        batch_keys: args.batch.unwrap_or(limits::BATCH_KEYS_DEFAULT),
        connections: args.connections.unwrap_or(limits::CONNECTIONS_DEFAULT),
        in_flight_bytes_max: args.max_memory.unwrap_or(limits::IN_FLIGHT_BYTES_DEFAULT),
        big_key: Some(args.big_key.unwrap_or(limits::BIG_KEY_DEFAULT)).filter(|bytes| *bytes > 0),
        read_with: args.read_with.unwrap_or(ReadWith::Auto),
        write_with: args.write_with.unwrap_or(WriteWith::Auto),
        limits: given_limits(args.rate, args.bandwidth, args.max_latency),
        max_unavailable: args
            .max_unavailable
            .unwrap_or(limits::MAX_UNAVAILABLE_DEFAULT),
        timeout: args.timeout.unwrap_or(limits::TIMEOUT_DEFAULT),
        grace: args.grace.unwrap_or(limits::GRACE_DEFAULT),
        on_source_change: args.on_source_change.unwrap_or(OnSourceChange::NewPass),
        trust_cursor: args.trust_cursor,
        trust_target: args.trust_target,
        new_pass: args.new_pass,
        functions: args.functions,
        durability: args.durability.unwrap_or(Durability::Fsync),
        max_quarantine: args.max_quarantine,
        record_digests: args.record_digests,
    };
    let request = Request {
        plan,
        source: source.endpoint,
        target: target.endpoint,
        options,
        name: args.name,
        state_dir: common.state_dir(),
        restart: args.restart,
        new_list,
        settings: Vec::new(),
    };
    Ok(Asked {
        request,
        compare: args.compare,
        times: args.times,
        watch: args.watch,
    })
}

/// What `--rate`, `--bandwidth` and `--max-latency` say.
pub fn given_limits(
    keys_per_s: Option<u64>,
    bytes_per_s: Option<u64>,
    latency: Option<Duration>,
) -> Limits {
    Limits {
        keys_per_s,
        bytes_per_s,
        latency_us: latency.map(|time| time.as_micros() as u64),
    }
}

/// Flags that can't both be meant.
fn refuse_contradictions(args: &MigrateArgs, common: &Common) -> Result<(), Failure> {
    let pairs = [
        (
            args.restart && args.trust_cursor,
            "--restart and --trust-cursor",
            "a migration that begins from nothing has no cursor to trust",
        ),
        (
            args.restart && args.trust_target,
            "--restart and --trust-target",
            "a migration that begins from nothing has no acknowledgements to trust",
        ),
        (
            args.restart && args.new_pass,
            "--restart and --new-pass",
            "one sets the state aside, the other continues it",
        ),
        (
            reads_stdin_twice(args),
            "--keys-from - and a password from standard input",
            "what is read from there once is gone",
        ),
    ];
    if args.selection.keys_from0 && args.selection.keys_from.is_none() {
        return Err(Failure::usage(
            "--keys-from0 says nothing without --keys-from",
            "it says how the names of a list are written",
            "give --keys-from FILE as well, or leave it away",
        ));
    }
    let logins = passwords::contradictions(&args.source, &args.target, common.no_input);
    refuse_pairs(pairs.into_iter().chain(logins))
}

fn reads_stdin_twice(args: &MigrateArgs) -> bool {
    let is_stdin =
        |path: &Option<PathBuf>| path.as_ref().is_some_and(|path| path.as_os_str() == "-");
    is_stdin(&args.selection.keys_from)
        && (is_stdin(&args.source.from_pass_file) || is_stdin(&args.target.to_pass_file))
}

/// Refuses the first pair of flags that is there; with each stands why they can't both be meant.
pub fn refuse_pairs(
    mut pairs: impl Iterator<Item = (bool, &'static str, &'static str)>,
) -> Result<(), Failure> {
    match pairs.find(|(both, _, _)| *both) {
        Some((_, flags, why)) => Err(Failure::usage(
            format!("{flags} contradict each other"),
            why,
            "leave one of them away; it may also stand in the environment or in --config",
        )),
        None => Ok(()),
    }
}
