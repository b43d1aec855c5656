//! `redknot migrate`: runs the copy, tells how it went.

use std::path::Path;
use std::rc::Rc;

use redknot::copy::{self, CopyEnd, Request};
use redknot::progress::{Counters, Status};
use redknot::shutdown::{self, StopReason};

use super::console::Console;
use super::exit_code::{self, ExitCode};
use super::failure::Failure;
use super::json::Header;
use super::{Exit, format, progress, signals};

/// Copies what `request` says until it is complete, stopped or failed.
///
/// # Errors
///
/// What ended the run.
pub fn run(request: Request, console: &Console, exit: &Exit) -> Result<ExitCode, Failure> {
    let name = request
        .name
        .clone()
        .unwrap_or_else(|| request.plan.default_name());
    let folder = request.state_dir.join(&name);
    let header = Header {
        migration: Some(name.clone()),
        run: None,
    };
    let (observer, drawing) = progress::start(*console, header, folder.display().to_string());
    let (trigger, shutdown) = shutdown::channel();
    let on_signal = observer.clone();
    signals::watch(trigger, exit.leave(), move |reason| {
        on_signal.signal(reason)
    })
    .map_err(|error| {
        Failure::new(
            ExitCode::Usage,
            "signals can't be watched",
            error.to_string(),
        )
        .hint("is `ulimit -u` or `ulimit -n` too low?")
    })?;
    let end = copy::run(request, Rc::new(observer), shutdown);
    exit.set_header(drawing.finish());
    match end {
        Ok(CopyEnd::Complete {
            status,
            already,
            suspect,
        }) => {
            say(console, &complete(&status, already, &folder, console));
            if let Some(reason) = &suspect {
                console.warn(&format!(
                    "{reason}\n  hint: the same command with --new-pass copies everything again"
                ));
            }
            let whole = status.counters.keys_quarantined == 0 && suspect.is_none();
            Ok(match whole {
                true => ExitCode::Done,
                false => ExitCode::Attention,
            })
        }
        Ok(CopyEnd::Stopped { reason, status }) => {
            say(console, &stopped(&status, reason, &folder));
            Ok(exit_code::of_stop(reason))
        }
        Err(error) => Err(error.into()),
    }
}

/// The summary is a result, but events are what a program reads from standard output.
fn say(console: &Console, text: &str) {
    match (console.quiet, console.json) {
        (true, _) => {}
        (false, true) => console.say(text.trim_end()),
        (false, false) => {
            // A reader that has gone needs no summary.
            let _ = console.out(text);
        }
    }
}

fn complete(status: &Status, already: bool, folder: &Path, console: &Console) -> String {
    let green = |text| console.out_paint.green(text);
    let counters = &status.counters;
    let first = if already {
        format!(
            "{} since {}; nothing was sent",
            green("already complete"),
            format::time(status.completed_ms.unwrap_or(status.updated_ms))
        )
    } else if counters.keys_scanned == 0 {
        format!(
            "{}: nothing to migrate, no key was found",
            green("complete")
        )
    } else {
        let seconds = status.updated_ms.saturating_sub(status.run_began_ms) as f64 / 1000.0;
        let run = if status.run > 1 {
            format!(" (run {})", status.run)
        } else {
            String::new()
        };
        format!(
            "{} in {}{run}, {}",
            green("complete"),
            format::seconds(seconds),
            format::bytes(counters.payload_bytes_written as f64)
        )
    };
    let next = match (counters.keys_quarantined, already) {
        (0, true) => format!(
            "redknot status {}, or --new-pass to scan the source again",
            status.migration
        ),
        (0, false) => format!("redknot status {}", status.migration),
        (quarantined, _) => format!(
            "{} keys could not be copied: the reasons stand above and in the state",
            format::count(quarantined)
        ),
    };
    format!(
        "  {first}\n  accounts  {}\n  state     {}\n  next      {next}\n",
        accounts(counters),
        folder.display()
    )
}

fn stopped(status: &Status, reason: StopReason, folder: &Path) -> String {
    let number = exit_code::of_stop(reason).number();
    format!(
        "  stopped at {}, {} keys written\n  state     {}\n  checkpoint saved. Run the same command to continue.{:>24} {number}\n",
        format::percent(status.percent),
        format::count(status.counters.keys_written),
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
        .map(|(name, count)| format!("{name} {}", format::count(*count)))
        .collect();
    let sign = if counters.balance() { '=' } else { '\u{2260}' };
    format!(
        "scanned {} {sign} {}",
        format::count(*keys_scanned),
        terms.join(" + ")
    )
}
