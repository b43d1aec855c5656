//! `redknot repair`: shows what would be done about the findings of a comparison, and does it with `--apply`.
//!
//! # Invariant
//!
//! Nothing is sent to a server without `--apply`, and nothing is deleted without its number having been confirmed.

use std::io::IsTerminal;
use std::rc::Rc;

use redknot::config::limits;
use redknot::plan::LanePlan;
use redknot::progress::{RepairStatus, Verdict};
use redknot::repair::{self, Preview, RepairEnd, RepairOptions, Request};
use redknot::shutdown::StopReason;
use serde_json::{Map, json};

use super::args::{Common, RepairArgs};
use super::console::{Console, Paint};
use super::exit_code::{self, ExitCode};
use super::failure::Failure;
use super::json::Header;
use super::origins::Told;
use super::settings::{self, OnCommandLine};
use super::stored::{self, Logins};
use super::watched::Watched;
use super::{Exit, audit, format, names};

/// Shows or repairs.
///
/// # Errors
///
/// What can't be understood, what is not confirmed, and what ended the run.
pub fn run(
    args: &RepairArgs,
    told: &Told<'_>,
    visible: OnCommandLine,
    common: &Common,
    console: &Console,
    exit: &Exit,
) -> Result<ExitCode, Failure> {
    if args.yes.is_some() && !args.delete_extra {
        return Err(Failure::usage(
            "--yes confirms nothing without --delete-extra",
            "only deletions have to be confirmed",
            "give --delete-extra as well, or leave --yes away",
        ));
    }
    let dir = common.state_dir();
    let name = names::one(&dir, args.name.as_deref(), "repair")?;
    exit.set_header(Header {
        migration: Some(name.clone()),
        run: None,
    });
    let preview = repair::preview(&dir, &name, "redknot repair", args.overwrite_kept)?;
    let next = Next::new(&name, common);
    if let Some(code) = nothing_to_do(&preview, &next, console)? {
        return Ok(code);
    }
    if !args.apply {
        show(&preview, args, &next, &name, console);
        return Ok(ExitCode::Attention);
    }
    let delete_extra = confirmed(&preview, args, &next, common, console)?;
    let logins = Logins {
        name: &name,
        from: args.from.as_deref(),
        to: args.to.as_deref(),
        source: &args.source,
        target: &args.target,
        visible,
        require_tls: args.require_tls,
    };
    let (source, target) = stored::endpoints(&preview.plan, &logins, common, console)?;
    let request = Request {
        settings: told.settings(&source, &target),
        plan: preview.plan,
        source,
        target,
        options: RepairOptions {
            delete_extra,
            overwrite_kept: args.overwrite_kept,
            limits: settings::given_limits(args.rate, args.bandwidth, args.max_latency),
            max_unavailable: args
                .max_unavailable
                .unwrap_or(limits::MAX_UNAVAILABLE_DEFAULT),
            timeout: args.timeout.unwrap_or(limits::TIMEOUT_DEFAULT),
        },
        name,
        state_dir: dir,
    };
    apply(request, args, &next, console, exit)
}

/// A comparison that is missing, not at its end, or without findings.
fn nothing_to_do(
    preview: &Preview,
    next: &Next,
    console: &Console,
) -> Result<Option<ExitCode>, Failure> {
    let compare = next.command("compare");
    match &preview.compare {
        None => Err(Failure::usage(
            "there is nothing that could be repaired",
            "both sides have never been compared",
            compare,
        )),
        Some(record) if record.ended.is_none() => Err(Failure::usage(
            "the comparison has not come to its end",
            "what it suspects is not certain yet",
            format!("{compare} continues it"),
        )),
        Some(record) if preview.findings() == 0 => {
            let text = format!(
                "nothing to repair: comparison {} has no open findings\n",
                record.compare
            );
            match console.json {
                true => console.say(&text),
                false => {
                    console.out(&text);
                }
            }
            Ok(Some(ExitCode::Done))
        }
        Some(_) => Ok(None),
    }
}

/// Runs the repair and tells how it went.
fn apply(
    request: Request,
    args: &RepairArgs,
    next: &Next,
    console: &Console,
    exit: &Exit,
) -> Result<ExitCode, Failure> {
    let folder = request.state_dir.join(&request.name);
    let watched = Watched::begin(
        &args.times,
        &args.watch,
        &request.name,
        &folder,
        console,
        exit,
    )?;
    let (observer, shutdown) = (Rc::clone(&watched.observer), watched.shutdown.clone());
    let (name, state_dir) = (request.name.clone(), request.state_dir.clone());
    let end = repair::run(request, observer, shutdown);
    watched.end(exit);
    if matches!(end, Ok(RepairEnd::Done(_))) {
        audit::report::after(&state_dir, &name, console);
    }
    let paint = match console.json {
        true => console.err_paint,
        false => console.out_paint,
    };
    let (text, code) = match end? {
        RepairEnd::Done(status) => {
            let code = match status.findings_left {
                0 => ExitCode::Done,
                _ => ExitCode::Attention,
            };
            (done(&status, next, paint), code)
        }
        RepairEnd::Stopped { reason, status } => {
            (stopped(&status, reason, paint), exit_code::of_stop(reason))
        }
    };
    match (console.json, console.quiet) {
        (true, _) => console.say(&text),
        (false, true) => {}
        // A reader that has gone needs no summary.
        (false, false) => {
            console.out(&text);
        }
    }
    Ok(code)
}

/// How many keys are to be deleted, if any: said with `--yes`, or typed.
fn confirmed(
    preview: &Preview,
    args: &RepairArgs,
    next: &Next,
    common: &Common,
    console: &Console,
) -> Result<Option<u64>, Failure> {
    if !args.delete_extra {
        return Ok(None);
    }
    let extra = preview.extra();
    let wrong = |what: String| {
        Err(Failure::usage(
            what,
            format!(
                "the comparison found {}; nothing was sent",
                format::keys(extra, "only the target has")
            ),
            format!(
                "{} --class extra lists them; --yes {extra} confirms it",
                next.command("keys")
            ),
        ))
    };
    let said = match args.yes {
        Some(said) => said,
        None if extra == 0 => return Ok(None),
        None if common.no_input || !std::io::stdin().is_terminal() => {
            return wrong("--delete-extra has to be confirmed with --yes COUNT".into());
        }
        None => {
            console.ask(&format!(
                "{} will be deleted there. Type their number to go on: ",
                format::keys(extra, "only the target has")
            ));
            let mut line = String::new();
            let _ = std::io::stdin().read_line(&mut line);
            match line.trim().parse() {
                Ok(said) => said,
                Err(_) => return wrong("what was typed is not that number".into()),
            }
        }
    };
    match preview.confirmations().contains(&said) {
        true => Ok(Some(said)),
        false => wrong(format!("{said} is not the number of keys to delete")),
    }
}

/// Commands that can be typed next, for the same migration in the same folder.
struct Next {
    name: String,
    state_dir: String,
}

impl Next {
    fn new(name: &str, common: &Common) -> Self {
        let state_dir = match &common.state_dir {
            Some(dir) => format!(" --state-dir {}", quoted(&dir.display().to_string())),
            None => String::new(),
        };
        Self {
            name: name.to_owned(),
            state_dir,
        }
    }

    fn command(&self, command: &str) -> String {
        format!("redknot {command} {}{}", self.name, self.state_dir)
    }
}

/// A word for a shell.
fn quoted(word: &str) -> String {
    let tame = |c: char| c.is_ascii_alphanumeric() || "/._-+:,@%".contains(c);
    match !word.is_empty() && word.chars().all(tame) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// What `--apply` would do, in numbers and by some of the keys.
fn show(preview: &Preview, args: &RepairArgs, next: &Next, name: &str, console: &Console) {
    if console.json {
        console.out(&preview_object(preview, args, next, name));
    } else {
        let paint = console.out_paint;
        console.out(&preview_text(preview, args, next, paint, |key| {
            console.name(key)
        }));
    }
}

fn preview_text(
    preview: &Preview,
    args: &RepairArgs,
    next: &Next,
    paint: Paint,
    shown: impl Fn(&[u8]) -> String,
) -> String {
    let compare = preview.compare.as_ref();
    let of = compare.map_or_else(String::new, |record| {
        format!(
            " of comparison {}, {}",
            record.compare,
            format::time(
                record
                    .ended
                    .as_ref()
                    .map_or(record.began_ms, |end| end.at_ms)
            )
        )
    });
    let mut text = format!(
        "  {}{of}; nothing is sent without --apply\n",
        paint.bold(&format::counted(preview.findings(), "finding"))
    );
    text.push_str(&paint.bold("  verdict          keys  with --apply"));
    text.push('\n');
    for verdict in Verdict::ALL {
        let count = preview.open.get(&verdict).copied().unwrap_or(0);
        if count > 0 {
            let what = what_is_done(verdict, preview, args);
            let (name, count) = (verdict.name(), format::count(count));
            text.push_str(&format!("  {name:9}  {count:>10}  {what}\n"));
        }
    }
    if preview.settled > 0 {
        let settled = format::counted(preview.settled, "finding");
        text.push_str(&format!("  {settled} of it are repaired already\n"));
    }
    text.push('\n');
    for finding in &preview.shown {
        let record = &finding.record;
        text.push_str(&format!(
            "  {:9}  db{}  {}  {}  {}\n",
            record.verdict.name(),
            db(preview, finding.lane),
            shown(&finding.name),
            format::one_line(&record.key_type),
            format::one_line(&record.detail),
        ));
    }
    let not_shown = preview.findings() - preview.shown.len() as u64;
    if not_shown > 0 {
        let (more, keys) = (format::count(not_shown), next.command("keys"));
        text.push_str(&format!(
            "  \u{2026} {more} more: {keys} --class findings\n"
        ));
    }
    for (lead, command) in ["next     ", "         "]
        .iter()
        .zip(commands(preview, args, next))
    {
        text.push_str(&format!("  {lead}  {command}\n"));
    }
    text
}

/// What is done about keys of a verdict.
fn what_is_done(verdict: Verdict, preview: &Preview, args: &RepairArgs) -> &'static str {
    match verdict {
        Verdict::Missing => "is written",
        Verdict::Extra if args.delete_extra => "is deleted, if the source still does not have it",
        Verdict::Extra => "stays; --delete-extra deletes it",
        _ if preview.kept > 0 => {
            "stays, as --on-conflict skip was given and it may be the target's own; --overwrite-kept writes over it"
        }
        Verdict::Value | Verdict::Type => "is written over",
        Verdict::Ttl => "is written over, with its expiry",
        Verdict::Undecided => "is written over, as it stands then",
    }
}

/// The commands that do something about it.
fn commands(preview: &Preview, args: &RepairArgs, next: &Next) -> Vec<String> {
    let mut apply = format!("{} --apply", next.command("repair"));
    if args.overwrite_kept {
        apply.push_str(" --overwrite-kept");
    }
    let delete = format!("{apply} --delete-extra --yes {}", preview.extra());
    match (preview.extra(), args.delete_extra) {
        (0, _) => vec![apply],
        (_, true) => vec![delete],
        (_, false) if preview.extra() == preview.findings() => vec![delete],
        (_, false) => vec![apply, delete],
    }
}

fn preview_object(preview: &Preview, args: &RepairArgs, next: &Next, name: &str) -> String {
    let mut open = Map::new();
    for verdict in Verdict::ALL {
        let count = preview.open.get(&verdict).copied().unwrap_or(0);
        open.insert(verdict.name().into(), json!(count));
    }
    let keys: Vec<_> = preview
        .shown
        .iter()
        .map(|finding| {
            json!({
                "key": redknot::key::Escaped(&finding.name).to_string(),
                "key_hex": redknot::audit::journal::hex(&finding.name),
                "db": db(preview, finding.lane),
                "verdict": finding.record.verdict,
                "type": finding.record.key_type,
                "detail": finding.record.detail,
            })
        })
        .collect();
    let header = Header {
        migration: Some(name.to_owned()),
        run: None,
    };
    header.object(json!({
        "type": "repair_preview",
        "compare": preview.compare.as_ref().map(|record| record.compare),
        "findings": preview.findings(),
        "open": open,
        "kept": preview.kept,
        "settled": preview.settled,
        "keys": keys,
        "next": commands(preview, args, next),
    }))
}

fn db(preview: &Preview, lane: u32) -> u32 {
    let lane = preview.plan.lanes.get(lane as usize);
    lane.map_or(0, |lane: &LanePlan| lane.source_db)
}

fn done(status: &RepairStatus, next: &Next, paint: Paint) -> String {
    let left = status.findings_left;
    let first = match left {
        0 => paint.green("repaired"),
        _ => paint.yellow("repaired, but not all"),
    };
    let mut text = format!("  {first}: {}\n", summary(status));
    if left > 0 {
        let alone = left - status.keys_differing.min(left);
        text.push_str(&format!(
            "  left      {} still differ, {} left alone: {} --class findings\n",
            format::count(status.keys_differing),
            format::count(alone),
            next.command("keys")
        ));
    }
    let seconds = status
        .ended_ms
        .unwrap_or_default()
        .saturating_sub(status.began_ms) as f64
        / 1000.0;
    text.push_str(&format!("  took      {}\n", format::seconds(seconds)));
    text.push_str(&format!("  next      {}\n", next.command("compare")));
    text
}

fn stopped(status: &RepairStatus, reason: StopReason, paint: Paint) -> String {
    format!(
        "  {}: {}\n  {} left. Run the same command to continue.{:>24} {}\n",
        paint.yellow("stopped"),
        summary(status),
        format::counted(status.findings_left, "finding"),
        "exit",
        exit_code::of_stop(reason).number()
    )
}

/// What was done, with every term.
pub fn summary(status: &RepairStatus) -> String {
    let counters = &status.counters;
    format!(
        "repaired {} + deleted {} + vanished {}, {}",
        format::count(counters.keys_repaired),
        format::count(counters.keys_deleted),
        format::count(counters.keys_vanished),
        format::bytes(counters.payload_bytes_written as f64)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_can_be_typed_as_it_is_shown() {
        assert_eq!(quoted("/srv/states"), "/srv/states");
        assert_eq!(quoted("my states"), "'my states'");
        assert_eq!(quoted("it's $HOME"), r"'it'\''s $HOME'");
        assert_eq!(quoted(""), "''");
    }
}
