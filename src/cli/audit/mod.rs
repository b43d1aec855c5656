//! `redknot audit`: what was recorded, and whether it fits together.
//!
//! # Invariant
//!
//! Names of keys, words of servers and whatever else stands in the journal may have been written by somebody who wants to
//! speak to the terminal or to a spreadsheet. Nothing is shown as it stands there.

mod check;
mod export;
pub mod report;
mod show;

use redknot::error::Error;
use redknot::state;
use serde_json::json;

use super::args::{AuditCommand, Common, RebuildArgs};
use super::console::Console;
use super::exit_code::ExitCode;
use super::failure::Failure;
use super::{format, names, status};

/// Runs one of the commands.
///
/// # Errors
///
/// As the command says.
pub fn run(
    command: &AuditCommand,
    common: &Common,
    console: &Console,
) -> Result<ExitCode, Failure> {
    match command {
        AuditCommand::Show(args) => show::run(args, common, console),
        AuditCommand::Report(args) => report::run(args, common, console),
        AuditCommand::Check(args) => check::run(args, common, console),
        AuditCommand::Export(args) => export::run(args, common, console),
        AuditCommand::Rebuild(args) => rebuild(args, common, console),
        AuditCommand::List => status::list(common, console),
    }
}

/// Makes a lost state anew.
///
/// # Errors
///
/// If there is no such migration, a run works on it, or its journal is not whole.
fn rebuild(args: &RebuildArgs, common: &Common, console: &Console) -> Result<ExitCode, Failure> {
    let dir = common.state_dir();
    let name = names::one(&dir, args.name.as_deref(), "make anew")?;
    let rebuilt = state::rebuild(&dir, &name).map_err(Error::from)?;
    let Some(rebuilt) = rebuilt else {
        if console.json {
            console.out(&format!(
                "{}\n",
                json!({ "migration": name, "rebuilt": false })
            ));
        } else {
            console.out(&format!(
                "  {name} can be opened as it is; nothing was changed\n  next      redknot audit check {name}\n"
            ));
        }
        return Ok(ExitCode::Done);
    };
    let aside = rebuilt
        .set_aside
        .as_ref()
        .map(|path| path.display().to_string());
    if console.json {
        let lanes: Vec<_> = rebuilt
            .lanes
            .iter()
            .map(
                |lane| json!({ "lane": lane.lane, "pass": lane.pass, "next_batch": lane.next_seq }),
            )
            .collect();
        let object = json!({
            "migration": name,
            "rebuilt": true,
            "runs": rebuilt.runs,
            "lanes": lanes,
            "quarantined": rebuilt.quarantined,
            "set_aside": aside,
        });
        console.out(&format!("{object}\n"));
        return Ok(ExitCode::Done);
    }
    let mut text = format!("  {name} was made anew from its journal\n");
    for lane in &rebuilt.lanes {
        text.push_str(&format!(
            "  lane      {} goes on after batch {} of pass {}, {} keys\n",
            lane.lane,
            format::count(lane.next_seq),
            lane.pass,
            format::count(lane.counters.keys_scanned)
        ));
    }
    if let Some(aside) = aside {
        text.push_str(&format!("  set aside {aside}\n"));
    }
    text.push_str("  next      the same redknot migrate command goes on from there\n");
    console.out(&text);
    Ok(ExitCode::Done)
}
