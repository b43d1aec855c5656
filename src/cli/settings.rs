//! From the flags of `migrate` to a request: plain values, checked once.

use std::os::unix::ffi::OsStringExt;

use clap::ArgMatches;
use clap::parser::ValueSource;
use redknot::config::limits;
use redknot::copy::{CopyOptions, OnSourceChange, ReadWith, Request};
use redknot::plan::{FieldTtl, LanePlan, OnConflict, Plan, TtlPolicy};
use redknot::state::Durability;

use super::args::{Common, MigrateArgs};
use super::config_file;
use super::console::Console;
use super::failure::Failure;
use super::passwords;
use super::servers::{self, Said, Server};

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
    migration(args, visible, common, console).map(|(request, _)| request)
}

/// As [`request`]; also whether both sides are to be compared when all is copied.
///
/// # Errors
///
/// As [`request`].
pub fn migration(
    args: MigrateArgs,
    visible: OnCommandLine,
    common: &Common,
    console: &Console,
) -> Result<(Request, bool), Failure> {
    let args = match &args.config {
        Some(path) => {
            let file = config_file::read(path)?;
            args.or(file)
        }
        None => args,
    };
    refuse_contradictions(&args, common)?;
    let match_glob = args.match_glob.map(OsStringExt::into_vec);
    if let Some(glob) = &match_glob {
        check_glob(glob)?;
    }
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
    let plan = Plan {
        source: source.endpoint.address.to_string(),
        target: target.endpoint.address.to_string(),
        lanes: lanes(&args.db, &source, &target)?,
        match_glob,
        types,
        on_conflict: args.on_conflict.unwrap_or(OnConflict::RequireEmpty),
        ttl: args.ttl.unwrap_or(TtlPolicy::Keep),
        field_ttl: args.field_ttl.unwrap_or(FieldTtl::Quarantine),
    };
    let options = CopyOptions {
        batch_keys: args.batch.unwrap_or(limits::BATCH_KEYS_DEFAULT),
        connections: args.connections.unwrap_or(limits::CONNECTIONS_DEFAULT),
        in_flight_bytes_max: args.max_memory.unwrap_or(limits::IN_FLIGHT_BYTES_DEFAULT),
        read_with: args.read_with.unwrap_or(ReadWith::Auto),
        max_unavailable: args
            .max_unavailable
            .unwrap_or(limits::MAX_UNAVAILABLE_DEFAULT),
        timeout: args.timeout.unwrap_or(limits::TIMEOUT_DEFAULT),
        grace: args.grace.unwrap_or(limits::GRACE_DEFAULT),
        on_source_change: args.on_source_change.unwrap_or(OnSourceChange::NewPass),
        trust_cursor: args.trust_cursor,
        trust_target: args.trust_target,
        new_pass: args.new_pass,
        durability: args.durability.unwrap_or(Durability::Fsync),
        max_quarantine: args.max_quarantine,
    };
    let request = Request {
        plan,
        source: source.endpoint,
        target: target.endpoint,
        options,
        name: args.name,
        state_dir: common.state_dir(),
        restart: args.restart,
        settings: Vec::new(),
    };
    Ok((request, args.compare))
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
    ];
    let logins = passwords::contradictions(&args.source, &args.target, common.no_input);
    refuse_pairs(pairs.into_iter().chain(logins))
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

/// Refuses patterns that Redis reads in a way that nobody means.
fn check_glob(glob: &[u8]) -> Result<(), Failure> {
    const HINT: &str = "as in KEYS: * any text, ? one character, [a-z] one of them, \\ before a character that is meant itself";
    let refuse = |why: &str| {
        let shown = redknot::key::Escaped(glob);
        Err(Failure::usage(
            format!("--match can't be `{shown}`"),
            why,
            HINT,
        ))
    };
    if glob.is_empty() {
        return refuse(
            "an empty pattern matches only the key with the empty name; left out, all keys are moved",
        );
    }
    let (mut escaped, mut in_brackets) = (false, false);
    for byte in glob {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'[' => in_brackets = true,
            b']' => in_brackets = false,
            _ => {}
        }
    }
    match (escaped, in_brackets) {
        (true, _) => refuse("nothing follows the `\\` at its end"),
        (_, true) => refuse("a `[` is not closed"),
        (false, false) => Ok(()),
    }
}

/// Which databases go where.
fn lanes(dbs: &[u32], source: &Server, target: &Server) -> Result<Vec<LanePlan>, Failure> {
    if dbs.is_empty() {
        return Ok(vec![LanePlan {
            source_db: source.endpoint.db,
            target_db: target.endpoint.db,
        }]);
    }
    for (server, url, flag) in [(source, "--from", "--from-db"), (target, "--to", "--to-db")] {
        if server.db_given {
            return Err(Failure::usage(
                format!("--db and the database of {url} contradict each other"),
                format!(
                    "--db names the databases of both sides, and {url} or {flag} names one too"
                ),
                "leave one of them away",
            ));
        }
    }
    let mut dbs = dbs.to_vec();
    dbs.sort_unstable();
    dbs.dedup();
    Ok(dbs
        .into_iter()
        .map(|db| LanePlan {
            source_db: db,
            target_db: db,
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_that_redis_would_misread_is_refused() {
        for glob in ["user:*", "[a-z]?", "a\\[b", "a]b", "[\\]]", "*"] {
            assert!(check_glob(glob.as_bytes()).is_ok(), "{glob}");
        }
        for glob in ["[", "", "a\\", "a[b\\]"] {
            assert!(check_glob(glob.as_bytes()).is_err(), "{glob}");
        }
    }
}
