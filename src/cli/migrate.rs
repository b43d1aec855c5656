//! `redknot migrate`: runs the copy, tells how it went.

use std::path::Path;
use std::rc::Rc;

use redknot::copy::{self, CopyEnd};
use redknot::progress::{Counters, Status};
use redknot::shutdown::StopReason;

use super::console::Console;
use super::exit_code::{self, ExitCode};
use super::failure::Failure;
use super::settings::Asked;
use super::watched::Watched;
use super::{Exit, audit, compare, format};

/// Connections, the files of the state, and room for what the system's resolver and libraries open.
const OPEN_FILES_MIN: u64 = 64;

/// Copies what is asked for until it is complete, stopped or failed; compares both sides then, if that is asked for as well.
///
/// # Errors
///
/// What ended the run.
pub fn run(asked: Asked, console: &Console, exit: &Exit) -> Result<ExitCode, Failure> {
    refuse_few_files()?;
    let Asked {
        request,
        compare,
        times,
        watch,
    } = asked;
    let name = request
        .name
        .clone()
        .unwrap_or_else(|| request.plan.default_name());
    let folder = request.state_dir.join(&name);
    let watched = Watched::begin(&times, &watch, &name, &folder, console, exit)?;
    let (observer, shutdown) = (Rc::clone(&watched.observer), watched.shutdown.clone());
    let state_dir = request.state_dir.clone();
    let comparison = compare.then(|| compare::of_migration(&request, &name));
    let end = copy::run(request, Rc::clone(&observer), shutdown.clone());
    let compared = match (&end, comparison) {
        (Ok(CopyEnd::Complete { status, .. }), Some(mut request)) => {
            // They may have changed meanwhile.
            request.options.limits = status.limits;
            Some(redknot::compare::run(request, observer, shutdown))
        }
        _ => None,
    };
    watched.end(exit);
    if matches!(end, Ok(CopyEnd::Complete { .. })) {
        audit::report::after(&state_dir, &name, console);
    }
    match end {
        Ok(CopyEnd::Complete {
            status,
            already,
            suspect,
        }) => {
            say(
                console,
                &complete(&status, already, suspect.as_deref(), &folder, console),
            );
            let whole = status.counters.keys_quarantined == 0 && suspect.is_none();
            let compared = match compared {
                Some(end) => compare::tell(end, &name, console)?,
                None => ExitCode::Done,
            };
            Ok(match (whole, compared) {
                (false, ExitCode::Done) => ExitCode::Attention,
                (_, code) => code,
            })
        }
        Ok(CopyEnd::Stopped { reason, status }) => {
            say(console, &stopped(&status, reason, &folder));
            Ok(exit_code::of_stop(reason))
        }
        Err(error) => Err(error.into()),
    }
}

/// Refuses to begin with so few file descriptors that the run would end in the middle of something.
fn refuse_few_files() -> Result<(), Failure> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    match limit {
        Some(limit) if limit < OPEN_FILES_MIN => Err(Failure::usage(
            "too few open files are allowed",
            format!("redknot needs {OPEN_FILES_MIN}, the limit is {limit}"),
            "ulimit -n 1024, or LimitNOFILE= of the systemd unit",
        )),
        _ => Ok(()),
    }
}

/// The summary is a result; but with `--json` standard output belongs to the events.
fn say(console: &Console, text: &str) {
    if console.json {
        console.say(text);
    } else if !console.quiet {
        // A reader that has gone needs no summary.
        let _ = console.out(text);
    }
}

fn complete(
    status: &Status,
    already: bool,
    suspect: Option<&str>,
    folder: &Path,
    console: &Console,
) -> String {
    let paint = if console.json {
        console.err_paint
    } else {
        console.out_paint
    };
    let counters = &status.counters;
    let since = format::time(status.completed_ms.unwrap_or(status.updated_ms));
    let first = if let Some(reason) = suspect {
        format!(
            "{}: it was complete at {since}, but {reason}",
            paint.yellow("in doubt")
        )
    } else if already {
        format!(
            "{} since {since}; nothing was sent",
            paint.green("already complete")
        )
    } else if counters.keys_scanned == 0 {
        format!(
            "{}: nothing to migrate, no key was found",
            paint.green("complete")
        )
    } else {
        let seconds = status.updated_ms.saturating_sub(status.run_began_ms) as f64 / 1000.0;
        let run = if status.run > 1 {
            format!(" (run {})", status.run)
        } else {
            String::new()
        };
        let bytes = format::bytes(counters.payload_bytes_written as f64);
        format!(
            "{} in {}{run}, {bytes}",
            paint.green("complete"),
            format::seconds(seconds)
        )
    };
    let next = match (suspect, counters.keys_quarantined) {
        (Some(_), _) => "the same command with --new-pass copies everything again".into(),
        (None, 0) if already => {
            format!(
                "redknot status {}, or --new-pass to scan the source again",
                status.migration
            )
        }
        (None, 0) => format!("redknot status {}", status.migration),
        (None, quarantined) => {
            format!(
                "{} could not be copied: the reasons stand above and in the state",
                format::counted(quarantined, "key")
            )
        }
    };
    format!(
        "  {first}\n  accounts  {}\n{}  state     {}\n  next      {next}\n",
        accounts(counters),
        evicted(status),
        folder.display()
    )
}

/// A line about what the target has evicted, if it has.
fn evicted(status: &Status) -> String {
    match status.evicted_keys {
        0 => String::new(),
        keys => format!(
            "  evicted   keys evicted on the target during the run: {}\n",
            format::count(keys)
        ),
    }
}

fn stopped(status: &Status, reason: StopReason, folder: &Path) -> String {
    let number = exit_code::of_stop(reason).number();
    format!(
        "  stopped at {}, {} keys written\n{}  state     {}\n  checkpoint saved. Run the same command to continue.{:>24} {number}\n",
        format::percent(status.percent),
        format::count(status.counters.keys_written),
        evicted(status),
        folder.display(),
        "exit",
    )
}

/// The accounting identity, with every term.
pub fn accounts(counters: &Counters) -> String {
    let Counters {
        keys_scanned,
        keys_written,
        keys_vanished,
        keys_kept,
        keys_quarantined,
        keys_filtered,
        payload_bytes_written: _,
        keys_reencoded,
        keys_in_pieces,
        keys_read_again: _,
    } = counters;
    let terms = [
        ("written", keys_written),
        ("vanished", keys_vanished),
        ("kept", keys_kept),
        ("quarantined", keys_quarantined),
        ("filtered", keys_filtered),
    ];
    let terms: Vec<String> = terms
        .into_iter()
        .map(|(name, count)| {
            let special = [
                (keys_reencoded, "re-encoded"),
                (keys_in_pieces, "in pieces"),
            ];
            let special: Vec<String> = special
                .into_iter()
                .filter(|(of_them, _)| name == "written" && **of_them > 0)
                .map(|(of_them, how)| format!("{} {how}", format::count(*of_them)))
                .collect();
            match special.is_empty() {
                true => format!("{name} {}", format::count(*count)),
                false => format!("{name} {} ({})", format::count(*count), special.join(", ")),
            }
        })
        .collect();
    let sign = if counters.balance() { '=' } else { '\u{2260}' };
    format!(
        "scanned {} {sign} {}",
        format::count(*keys_scanned),
        terms.join(" + ")
    )
}
