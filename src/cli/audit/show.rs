//! `redknot audit show`: the journal as people read it.

use redknot::audit::entry::{EndKind, Event, Line, Milestone, Sample, ServerSeen, ThrottleKind};
use redknot::audit::journal::JournalError;
use redknot::audit::reader::{Lines, Numbered};
use redknot::error::{Class, Error};
use redknot::state::{StoreError, journal_of};
use serde_json::{Value, json};

use crate::cli::args::{Common, ShowArgs};
use crate::cli::console::Console;
use crate::cli::exit_code::ExitCode;
use crate::cli::failure::Failure;
use crate::cli::{format, migrate, names};

/// Shows every line, oldest first; with `--json` as it is, with its number and its hash.
///
/// # Errors
///
/// If there is no such migration, or its journal can't be read to its end; what comes before that is shown.
pub fn run(args: &ShowArgs, common: &Common, console: &Console) -> Result<ExitCode, Failure> {
    let dir = common.state_dir();
    let name = names::one(&dir, args.name.as_deref(), "show")?;
    let path = journal_of(&dir, &name).map_err(Error::from)?;
    let failed = |error| match error {
        JournalError::Io { doing, error } => Error::new(Class::StateIo, doing, error.to_string()),
        JournalError::Damaged { line, what } => {
            let what = format!("line {line}: {what}");
            Error::new(Class::StateDamaged, "read the journal", what).hint(format!(
                "redknot audit check {name} says what else does not fit"
            ))
        }
    };
    let Some(lines) = Lines::open(&path).map_err(failed)? else {
        return Err(Error::from(StoreError::NoStatus { name }).into());
    };
    // A milestone is shown when something else follows it, or with every other one.
    let mut held: Option<Numbered> = None;
    for line in lines {
        let line = line.map_err(failed)?;
        if console.json {
            if !console.out(&object(&line)) {
                return Ok(ExitCode::Done);
            }
            continue;
        }
        let is_milestone = matches!(line.line.event, Event::Checkpoint { .. });
        if is_milestone && !args.all {
            held = Some(line);
            continue;
        }
        for line in held.take().into_iter().chain([line]) {
            if !console.out(&text(&line.line, console)) {
                return Ok(ExitCode::Done);
            }
        }
    }
    if let Some(line) = held {
        console.out(&text(&line.line, console));
    }
    Ok(ExitCode::Done)
}

fn object(line: &Numbered) -> String {
    let mut object = serde_json::to_value(&line.line).unwrap_or_default();
    if let Value::Object(fields) = &mut object {
        fields.insert("line".into(), json!(line.number));
        let hash = redknot::audit::entry::hex(&line.hash);
        fields.insert("hash".into(), json!(hash));
    }
    format!("{object}\n")
}

fn text(line: &Line, console: &Console) -> String {
    let (what, how) = told(&line.event);
    let time = console.out_paint.dim(&format::time(line.at_ms));
    let text = safe(&how);
    format!("{time}  {what:<12} {text}\n")
}

/// `text` as one line that speaks to no terminal, also where it was not written by us.
fn safe(text: &str) -> String {
    // What is escaped already stays as it is.
    redknot::key::Escaped(text.as_bytes())
        .to_string()
        .replace("\\\\", "\\")
        .replace("\\\"", "\"")
}

/// One word, and the rest.
fn told(event: &Event) -> (&'static str, String) {
    match event {
        Event::Created {
            version,
            migration,
            plan,
            ..
        } => (
            "created",
            format!(
                "{migration}: {} \u{2192} {}, by redknot {version}",
                plan.source, plan.target
            ),
        ),
        Event::Restarted { set_aside } => {
            ("restarted", format!("the state before is in {set_aside}"))
        }
        Event::Adopted { runs } => (
            "adopted",
            format!("what {runs} runs did before is not in here"),
        ),
        Event::Rebuilt { lanes, .. } => (
            "rebuilt",
            format!("the state was lost: {}", milestones(lanes)),
        ),
        Event::RunBegan {
            run,
            pid,
            host,
            version,
            user,
            command,
            ..
        } => (
            "run",
            format!("{run} begins: {command} {version}, {user} on {host}, pid {pid}"),
        ),
        Event::Settings { settings, .. } => {
            let said: Vec<String> = settings
                .iter()
                .map(|setting| {
                    let origin = format!("{:?}", setting.origin).to_lowercase();
                    format!("{}={} ({origin})", setting.name, setting.value)
                })
                .collect();
            ("settings", said.join(" "))
        }
        Event::LimitsChanged { run, limits } => {
            ("limits", format!("of run {run} from now on: {limits}"))
        }
        Event::Evicted { run, keys } => {
            let keys = format::count(*keys);
            (
                "evicted",
                format!("keys evicted on the target during run {run}: {keys}"),
            )
        }
        Event::Server { side, server, .. } => ("server", format!("{side} {}", seen(server))),
        Event::Phase { phase } => ("phase", phase.clone()),
        Event::PassBegan {
            lane, pass, reason, ..
        } => ("pass", format!("{pass} of lane {lane} begins: {reason}")),
        Event::LaneContinued {
            lane, pass, reason, ..
        } => ("continued", format!("pass {pass} of lane {lane}: {reason}")),
        Event::Checkpoint { lanes, sample } => ("milestone", milestone(lanes, sample.as_ref())),
        Event::ThrottleBegan { side, kind, reason } => (
            "waits",
            format!("for the {side}{}: {reason}", kind_of(*kind)),
        ),
        Event::ThrottleEnded {
            side,
            kind,
            reason,
            waited_ms,
            waits,
            ..
        } => {
            let waited = format::seconds(*waited_ms as f64 / 1000.0);
            let times = match waits {
                1 => String::new(),
                waits => format!(" in {waits} waits"),
            };
            (
                "waited",
                format!("{waited}{times} for the {side}{}: {reason}", kind_of(*kind)),
            )
        }
        Event::RunEnded { run, how, end, .. } => ("run", format!("{run} {}: {how}", ended(*end))),
        Event::Completed { counters } => ("complete", migrate::accounts(counters)),
        _ => about_keys(event),
    }
}

/// What was found out about keys.
fn about_keys(event: &Event) -> (&'static str, String) {
    match event {
        Event::Quarantined {
            lane, key, reason, ..
        } => ("quarantined", format!("{key}  lane {lane}: {reason}")),
        Event::CompareStarted {
            compare, sample, ..
        } => {
            let of = sample
                .as_ref()
                .map_or_else(String::new, |sample| format!(" of {sample}"));
            ("compare", format!("{compare} begins{of}"))
        }
        Event::CompareLaneBegan { lane, reason, .. } => {
            ("compare", format!("lane {lane}: {reason}"))
        }
        Event::Finding {
            lane,
            key,
            verdict,
            key_type,
            detail,
            ..
        } => (
            "finding",
            format!("{key}  lane {lane}: {} {key_type} {detail}", verdict.name()),
        ),
        Event::Compared {
            compare, counters, ..
        } => (
            "compared",
            format!(
                "{compare}: {} keys, {}",
                format::count(counters.keys_compared + counters.extra),
                match counters.findings() {
                    0 => "equal".to_owned(),
                    findings => format::counted(findings, "finding"),
                }
            ),
        ),
        Event::RepairStarted {
            repair, findings, ..
        } => (
            "repair",
            format!("{repair} begins, {}", format::counted(*findings, "finding")),
        ),
        Event::Deleted { lane, key, .. } => ("deleted", format!("{key}  lane {lane}")),
        Event::Repaired {
            repair,
            counters,
            findings_left,
            ..
        } => (
            "repaired",
            format!(
                "{repair}: {} settled, {findings_left} left",
                format::count(counters.settled())
            ),
        ),
        _ => ("?", "written by a newer redknot".to_owned()),
    }
}

fn milestones(lanes: &[Milestone]) -> String {
    let lanes: Vec<String> = lanes
        .iter()
        .map(|lane| {
            format!(
                "lane {} batch {} of pass {}, {} keys",
                lane.lane,
                format::count(lane.next_seq),
                lane.pass,
                format::count(lane.counters.keys_scanned)
            )
        })
        .collect();
    lanes.join("; ")
}

fn milestone(lanes: &[Milestone], sample: Option<&Sample>) -> String {
    let mut text = milestones(lanes);
    if let Some(sample) = sample {
        text.push_str(&format!("   {} keys/s", format::rough(sample.keys_per_s)));
        if let Some(latency) = sample.source_latency {
            let ms = f64::from(latency.p99_us) / 1000.0;
            text.push_str(&format!("   source p99 {ms:.1} ms"));
        }
    }
    text
}

fn seen(server: &ServerSeen) -> String {
    let mut parts = vec![server.address.clone(), server.version.clone()];
    parts.extend(server.role.clone());
    parts.extend(server.masters.map(|masters| format!("{masters} masters")));
    parts.extend(server.run_id.clone().map(|id| format!("run_id {id}")));
    parts.extend(
        server
            .certificate_sha256
            .as_ref()
            .map(|sha| format!("certificate {sha}")),
    );
    parts.retain(|part| !part.is_empty());
    parts.join("  ")
}

fn kind_of(kind: ThrottleKind) -> &'static str {
    match kind {
        ThrottleKind::Lost => ", which was lost",
        ThrottleKind::Refused => ", which refuses",
        ThrottleKind::Limited | ThrottleKind::Unknown => "",
    }
}

fn ended(end: EndKind) -> &'static str {
    match end {
        EndKind::Complete => "is done",
        EndKind::Stopped => "stopped",
        EndKind::Failed => "failed",
        EndKind::Unknown => "ended",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_wrote_into_the_journal_speaks_to_no_terminal() {
        let check = |text: &str, wanted: &str| assert_eq!(safe(text), wanted);
        check("user:1 \u{2192} \"a\"", "user:1 \u{2192} \"a\"");
        check("a\x1b[2Jb\n", "a\\x1b[2Jb\\n");
        check("as \\x1b was", "as \\x1b was");
        check("\u{202e}", "\\xe2\\x80\\xae");
    }
}
