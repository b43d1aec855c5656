//! `redknot audit check`: does everything that was recorded fit together?

use redknot::audit::check::{self, Checked, Place};
use redknot::error::Error;
use serde_json::{Value, json};

use crate::cli::args::{CheckArgs, Common};
use crate::cli::console::Console;
use crate::cli::exit_code::ExitCode;
use crate::cli::failure::Failure;
use crate::cli::{format, migrate, names};

/// Checks one migration; exit code 1 if something does not fit.
///
/// # Errors
///
/// If there is no such migration, a run works on it, or the engine can't even open its files.
pub fn run(args: &CheckArgs, common: &Common, console: &Console) -> Result<ExitCode, Failure> {
    let dir = common.state_dir();
    let name = names::one(&dir, args.name.as_deref(), "check")?;
    let checked = check::check(&dir, &name).map_err(Error::from)?;
    match console.json {
        true => console.out(&format!("{}\n", object(&checked))),
        false => console.out(&text(&checked, console)),
    };
    Ok(match checked.fits() {
        true => ExitCode::Done,
        false => ExitCode::Attention,
    })
}

fn text(checked: &Checked, console: &Console) -> String {
    let paint = console.out_paint;
    let batches: u64 = checked.lanes.iter().map(|lane| lane.batches).sum();
    let mut text = match checked.misfits.first() {
        None => format!("  {}\n", paint.green("everything fits")),
        Some(first) => format!(
            "  {}: {}\n",
            paint.red("does not fit"),
            format::one_line(&first.place.to_string())
        ),
    };
    for misfit in &checked.misfits {
        let place = format::one_line(&misfit.place.to_string());
        let what = format::one_line(&misfit.what);
        text.push_str(&format!("  misfit    {place}: {what}\n"));
    }
    text.push_str(&format!(
        "  checked   {}, {} in {}, {}, {}\n",
        format::counted(checked.lines, "line"),
        batches_of(batches),
        format::counted(u64::from(checked.runs), "run"),
        format::counted(checked.quarantined, "quarantined key"),
        format::counted(checked.findings, "finding"),
    ));
    text.push_str(&format!(
        "  accounts  {}\n",
        migrate::accounts(&checked.counters)
    ));
    for note in &checked.notes {
        text.push_str(&format!("  note      {}\n", format::one_line(note)));
    }
    text.push_str(&format!("  root      {}\n", checked.root));
    text
}

fn batches_of(batches: u64) -> String {
    match batches {
        1 => "1 batch".to_owned(),
        _ => format!("{} batches", format::count(batches)),
    }
}

fn object(checked: &Checked) -> Value {
    let misfits: Vec<Value> = checked
        .misfits
        .iter()
        .map(|misfit| {
            let mut object = json!({ "place": misfit.place.to_string(), "what": misfit.what });
            match &misfit.place {
                Place::Line(line) => object["line"] = json!(line),
                Place::Batch { lane, pass, seq } => {
                    object["lane"] = json!(lane);
                    object["pass"] = json!(pass);
                    object["batch"] = json!(seq);
                }
                Place::Record(_) | Place::Status => {}
            }
            object
        })
        .collect();
    let lanes: Vec<Value> = checked
        .lanes
        .iter()
        .map(|lane| {
            json!({
                "pass": lane.pass,
                "batches": lane.batches,
                "counters": lane.counters,
                "chain": lane.chain,
            })
        })
        .collect();
    json!({
        "migration": checked.migration,
        "fits": checked.fits(),
        "misfits": misfits,
        "lines": checked.lines,
        "root": checked.root,
        "runs": checked.runs,
        "lanes": lanes,
        "counters": checked.counters,
        "quarantined": checked.quarantined,
        "findings": checked.findings,
        "notes": checked.notes,
    })
}
