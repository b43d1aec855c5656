//! From the flags of `migrate` to a request: plain values, checked once.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use clap::ArgMatches;
use clap::parser::ValueSource;
use redknot::config::limits;
use redknot::copy::{CopyOptions, OnSourceChange, ReadWith, Request};
use redknot::endpoint::Side;
use redknot::plan::{FieldTtl, LanePlan, OnConflict, Plan, TtlPolicy};
use redknot::state::Durability;

use super::args::{Common, MigrateArgs};
use super::config_file;
use super::console::Console;
use super::failure::Failure;
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
            side: Side::Source,
            url: args.from.as_deref(),
            url_on_command_line: visible.from,
            user: args.source.from_user.as_deref(),
            pass_file: args.source.from_pass_file.as_deref(),
            askpass: args.source.from_askpass,
            db: args.source.from_db,
            no_input: common.no_input,
        },
        console,
    )?;
    let target = servers::server(
        &Said {
            side: Side::Target,
            url: args.to.as_deref(),
            url_on_command_line: visible.to,
            user: args.target.to_user.as_deref(),
            pass_file: args.target.to_pass_file.as_deref(),
            askpass: args.target.to_askpass,
            db: args.target.to_db,
            no_input: common.no_input,
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
    Ok(Request {
        plan,
        source: source.endpoint,
        target: target.endpoint,
        options,
        name: args.name,
        state_dir: common.state_dir(),
        restart: args.restart,
    })
}

/// Flags that can't both be meant.
fn refuse_contradictions(args: &MigrateArgs, common: &Common) -> Result<(), Failure> {
    let is_stdin = |path: &Option<PathBuf>| {
        path.as_deref().map(|path| path.as_os_str()) == Some(OsStr::new("-"))
    };
    let (from_stdin, to_stdin) = (
        is_stdin(&args.source.from_pass_file),
        is_stdin(&args.target.to_pass_file),
    );
    let has_file = args.source.from_pass_file.is_some();
    let to_has_file = args.target.to_pass_file.is_some();
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
            from_stdin && to_stdin,
            "--from-pass-file - and --to-pass-file -",
            "standard input can hold only one password",
        ),
        (
            has_file && args.source.from_askpass,
            "--from-pass-file and --from-askpass",
            "both give the password of the source",
        ),
        (
            to_has_file && args.target.to_askpass,
            "--to-pass-file and --to-askpass",
            "both give the password of the target",
        ),
        (
            from_stdin && args.target.to_askpass,
            "--from-pass-file - and --to-askpass",
            "standard input holds the one password, so nobody can type the other",
        ),
        (
            to_stdin && args.source.from_askpass,
            "--to-pass-file - and --from-askpass",
            "standard input holds the one password, so nobody can type the other",
        ),
        (
            common.no_input && args.source.from_askpass,
            "--no-input and --from-askpass",
            "the one forbids what the other does",
        ),
        (
            common.no_input && args.target.to_askpass,
            "--no-input and --to-askpass",
            "the one forbids what the other does",
        ),
    ];
    match pairs.into_iter().find(|(both, _, _)| *both) {
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
