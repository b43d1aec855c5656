//! `redknot audit report`: what was moved, as a page, as Markdown or as JSON.

use std::path::Path;

use redknot::audit::report::{html, json, markdown};
use redknot::error::Error;
use redknot::state;

use super::super::args::{Common, ReportArgs};
use super::super::console::Console;
use super::super::exit_code::ExitCode;
use super::super::failure::Failure;
use super::super::names;

/// Makes the report and writes it where that was asked for.
///
/// # Errors
///
/// If there is no such migration, its journal can't be read, or the file can't be written.
pub fn run(args: &ReportArgs, common: &Common, console: &Console) -> Result<ExitCode, Failure> {
    if [args.html, args.md, console.json]
        .iter()
        .filter(|form| **form)
        .count()
        > 1
    {
        return Err(Failure::usage(
            "--html, --md and --json contradict each other",
            "a report is written in one form at a time",
            "leave all of them away but one",
        ));
    }
    let dir = common.state_dir();
    let name = names::one(&dir, args.name.as_deref(), "report on")?;
    let redaction = args.redact_keys.unwrap_or_default();
    let report =
        state::report(&dir, &name, redaction, "redknot audit report").map_err(Error::from)?;
    let text = match (args.md, console.json) {
        (true, _) => markdown::markdown(&report),
        (_, true) => json(&report),
        _ => html::html(&report),
    };
    if report.running {
        console.note("a process works on the migration: this is what is known until now");
    }
    match &args.out {
        Some(path) => write(path, &text)?,
        None => {
            // Whoever stopped reading has what was wanted.
            let _ = console.out(&text);
        }
    }
    Ok(ExitCode::Done)
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|error| {
        Failure::usage(
            format!("the report can't be written to {}", path.display()),
            error.to_string(),
            "name another file with --out, or leave it away for standard output",
        )
    })
}

/// Puts the report of a migration that came to an end into its folder. That it can't be written is no error of the
/// migration: it can be made again at any time.
pub fn after(state_dir: &Path, name: &str, console: &Console) {
    if let Err(error) = state::write_report(state_dir, name, "redknot audit report") {
        console.warn(&format!(
            "the report was not written: {error} (redknot audit report {name} makes it again)"
        ));
    }
}
