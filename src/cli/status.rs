//! `redknot status`: how migrations stand, read beside them and without their lock.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redknot::error::Error;
use redknot::key::Escaped;
use redknot::progress::{
    CompareState, LaneStatus, RepairState, RepairStatus, RunState, Status, TlsUse, Verdict,
};
use redknot::state::status::{self, StatusFile};
use serde_json::{Value, json};

use super::args::{Common, StatusArgs};
use super::console::{Console, Paint};
use super::exit_code::ExitCode;
use super::failure::Failure;
use super::{format, migrate, overview, repair};

/// How often `--watch` looks again.
const INTERVAL: Duration = Duration::from_secs(1);

/// Shows the migration that is asked for, or the only one, or a table of all.
///
/// # Errors
///
/// If there is none, or none of that name, or its status can't be read.
pub fn run(args: &StatusArgs, common: &Common, console: &Console) -> Result<ExitCode, Failure> {
    let dir = common.state_dir();
    loop {
        let names = names(&dir, args.name.as_deref())?;
        let mut all = Vec::new();
        for name in names {
            all.push(read(&dir, &name)?);
        }
        let text = match console.json {
            true => all.iter().map(|file| json(file, &dir)).collect(),
            false => text(&all, &dir, console.out_paint, now_ms()),
        };
        let text = if args.watch && console.redraws_output {
            format!("\x1b[H\x1b[2J{text}")
        } else {
            text
        };
        let is_read = console.out(&text);
        if !args.watch || !is_read || all.iter().all(|one| one.status.state == RunState::Complete) {
            return Ok(ExitCode::Done);
        }
        std::thread::sleep(INTERVAL);
    }
}

/// The table of all migrations, even if there is only one.
///
/// # Errors
///
/// As [`run`].
pub fn list(common: &Common, console: &Console) -> Result<ExitCode, Failure> {
    let dir = common.state_dir();
    let mut all = Vec::new();
    for name in names(&dir, None)? {
        all.push(read(&dir, &name)?);
    }
    console.out(&match console.json {
        true => all.iter().map(|file| json(file, &dir)).collect(),
        false => overview::table(&all, &dir, console.out_paint),
    });
    Ok(ExitCode::Done)
}

/// Which migrations to show. Never empty.
fn names(dir: &Path, asked: Option<&str>) -> Result<Vec<String>, Failure> {
    // Whether it exists says whoever reads it, with the names there are.
    if let Some(asked) = asked {
        return Ok(vec![asked.to_owned()]);
    }
    let names = status::list(dir);
    if names.is_empty() {
        return Err(Failure::usage(
            "there is no migration to show",
            format!("{} has none", dir.display()),
            "redknot migrate begins one; --state-dir DIR names another folder",
        ));
    }
    Ok(names)
}

fn read(dir: &Path, name: &str) -> Result<StatusFile, Failure> {
    status::read(dir, name).map_err(|error| Error::from(error).into())
}

fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// One line: the status, whether its run is alive, and whether it died; in a few words what it came to.
fn json(file: &StatusFile, dir: &Path) -> String {
    let mut value = serde_json::to_value(&file.status).unwrap_or_default();
    if let Value::Object(fields) = &mut value {
        fields.insert("running".into(), json!(file.running));
        fields.insert("interrupted".into(), json!(is_interrupted(file)));
        fields.insert("verdict".into(), json!(overview::verdict(file)));
        let report = overview::report_hash(dir, &file.status.migration);
        fields.insert("report_hash".into(), json!(report));
    }
    format!("{value}\n")
}

/// A run with a start and no end, whose process is gone.
fn is_interrupted(file: &StatusFile) -> bool {
    file.status.state == RunState::Running && !file.running
}

fn text(all: &[StatusFile], dir: &Path, paint: Paint, now_ms: u64) -> String {
    match all {
        [one] => block(one, paint, now_ms),
        _ => overview::table(all, dir, paint),
    }
}

/// Everything about one migration.
fn block(file: &StatusFile, paint: Paint, now_ms: u64) -> String {
    let status = &file.status;
    let lead = status.migration.chars().count().max(9) + 3;
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let painted = if text.is_empty() {
            paint.bold(name)
        } else {
            paint.dim(name)
        };
        let gap = " ".repeat(lead.saturating_sub(name.chars().count()));
        text.push_str(&format!("{painted}{gap}{value}\n"));
    };
    line(
        &status.migration,
        format!("{} \u{2192} {}", status.source, status.target),
    );
    if let Some(tls) = unverified(status) {
        line("tls", paint.red(&tls));
    }
    if !status.plan.is_empty() {
        line("plan", format::one_line(&status.plan.join("  ")));
    }
    line(
        "state",
        format!("{}   run {}", state(file, paint), status.run),
    );
    line("progress", progress(status));
    let checkpoint = match status.checkpoint_ms {
        Some(at) => format!(
            "last checkpoint {} ago",
            format::seconds(now_ms.saturating_sub(at) as f64 / 1000.0)
        ),
        None => "no checkpoint yet".into(),
    };
    line(
        "durable",
        format!(
            "batch {}   {checkpoint}",
            format::count(status.batches_durable)
        ),
    );
    line("accounts", migrate::accounts(&status.counters));
    for lane in &status.lanes {
        line("lane", lane_text(lane));
    }
    for pass in &status.passes {
        let lane = status
            .lanes
            .get(pass.lane as usize)
            .map_or(pass.lane, |lane| lane.source_db);
        line(
            "pass",
            format!(
                "db{lane} pass {} since {}: {}",
                pass.pass,
                format::time(pass.began_ms),
                pass.reason
            ),
        );
    }
    if let Some(functions) = &status.functions {
        line("functions", format::functions(functions));
    }
    line("compare", compare_text(file, paint));
    if let Some(repair) = &status.repair {
        line("repair", repair_text(repair, file.running));
    }
    if status.evicted_keys > 0 {
        let keys = format::count(status.evicted_keys);
        line(
            "evicted",
            format!("keys evicted on the target during the run: {keys}"),
        );
    }
    if file.running {
        line("health", health(status));
    }
    line("next", next(file));
    text
}

fn state(file: &StatusFile, paint: Paint) -> String {
    let status = &file.status;
    let end = status
        .end
        .as_deref()
        .map_or_else(String::new, |end| format!(" ({end})"));
    let process = format!("pid {} on {}", status.pid, Escaped(status.host.as_bytes()));
    match status.state {
        RunState::Running if file.running => {
            format!(
                "{} ({process}, since {})",
                paint.green("running"),
                format::time(status.run_began_ms)
            )
        }
        RunState::Running => format!(
            "{} (the process died: {process}, last seen {})",
            paint.yellow("interrupted"),
            format::time(status.updated_ms)
        ),
        RunState::Stopped => format!(
            "{}{end} at {}",
            paint.yellow("stopped"),
            format::time(status.updated_ms)
        ),
        RunState::Failed => format!(
            "{}{end} at {}",
            paint.red("failed"),
            format::time(status.updated_ms)
        ),
        RunState::Complete => format!(
            "{} since {}",
            paint.green("complete"),
            format::time(status.updated_ms)
        ),
    }
}

/// Which sides may have been anybody, if some may.
fn unverified(status: &Status) -> Option<String> {
    let sides = [
        ("source", "--from-insecure", status.source_tls),
        ("target", "--to-insecure", status.target_tls),
    ];
    let said: Vec<String> = sides
        .into_iter()
        .filter(|(_, _, tls)| *tls == TlsUse::Unverified)
        .map(|(side, flag, _)| format!("the {side} was not verified ({flag})"))
        .collect();
    (!said.is_empty()).then(|| said.join(", "))
}

fn progress(status: &Status) -> String {
    let keys = format::count(status.counters.keys_scanned);
    let keys = match status.keys_estimate {
        Some(estimate) if estimate >= status.counters.keys_scanned => {
            format!("{keys} of about {} keys", format::count(estimate))
        }
        _ => format!("{keys} keys"),
    };
    let bytes = format::bytes(status.counters.payload_bytes_written as f64);
    format!(
        "{} of the keyspace by cursor, {keys}, {bytes}",
        format::percent(status.percent)
    )
}

fn lane_text(lane: &LaneStatus) -> String {
    let position = match (lane.finished, lane.cursor) {
        (true, _) => "at its end".into(),
        (false, Some(cursor)) => format!("cursor {cursor}"),
        (false, None) => "at its beginning".into(),
    };
    let server = match &lane.source_run_id {
        Some(id) => format!(
            " of source {}",
            Escaped(id.as_bytes())
                .to_string()
                .chars()
                .take(12)
                .collect::<String>()
        ),
        None => String::new(),
    };
    format!(
        "db{} \u{2192} db{}   pass {}{server}   {position}",
        lane.source_db, lane.target_db, lane.pass
    )
}

/// What was done about the findings of a comparison.
/// Whether both sides were found equal, and whether that still says something.
fn compare_text(file: &StatusFile, paint: Paint) -> String {
    const UNSAFE: &str = "not safe to cut over";
    let Some(status) = &file.status.compare else {
        return format!("not started \u{2014} {UNSAFE}");
    };
    let counters = &status.counters;
    let keys = format::count(counters.keys_compared + counters.extra);
    let Some(ended) = status.ended_ms else {
        let how = match (status.state, file.running) {
            (CompareState::Stopped, _) => "stopped",
            (_, true) => "comparing",
            (_, false) => "interrupted (the process died)",
        };
        return format!(
            "{} at {}, {keys} keys, {} to be read again, {} differ \u{2014} {UNSAFE}",
            paint.yellow(how),
            format::percent(status.percent),
            format::count(counters.candidates),
            format::count(counters.findings())
        );
    };
    let at = format::time(ended);
    let mut text = match counters.findings() {
        0 => format!("{}, {keys} keys by value at {at}", paint.green("equal")),
        findings => {
            let terms: Vec<String> = Verdict::ALL
                .into_iter()
                .filter(|verdict| counters.of(*verdict) > 0)
                .map(|verdict| {
                    format!("{} {}", verdict.name(), format::count(counters.of(verdict)))
                })
                .collect();
            format!(
                "{} of {keys} keys at {at}: {} \u{2014} {UNSAFE}",
                paint.red(&format!("{} differ", format::count(findings))),
                terms.join(", ")
            )
        }
    };
    if status.outdated {
        text.push_str(&format!(
            "   but keys have been copied since \u{2014} {UNSAFE}"
        ));
    }
    for sentence in &status.not_compared {
        text.push_str(&format!("   not compared: {sentence}"));
    }
    text
}

fn repair_text(status: &RepairStatus, running: bool) -> String {
    let state = match status.state {
        RepairState::Repairing if running => "at work".to_owned(),
        RepairState::Repairing => "interrupted".to_owned(),
        RepairState::Stopped => "stopped".to_owned(),
        RepairState::Repaired => format!(
            "at {}",
            format::time(status.ended_ms.unwrap_or(status.began_ms))
        ),
    };
    let left = match status.findings_left {
        0 => String::new(),
        left => format!("   {} left", format::count(left)),
    };
    format!(
        "of comparison {} {state}: {}{left}",
        status.compare,
        repair::summary(status)
    )
}

fn health(status: &Status) -> String {
    let mut parts = vec![
        format!("{} keys/s", format::rough(status.keys_per_s)),
        format!("{}/s", format::bytes(status.bytes_per_s)),
    ];
    if let Some(eta) = status.eta_s {
        parts.push(format!("{} left", format::seconds(eta)));
    }
    if let Some(latency) = status.source_latency_ms {
        parts.push(format!("source latency {latency:.1} ms"));
    }
    parts.extend(status.strings_by.map(|by| by.to_string()));
    parts.extend(status.strings_written_by.map(|by| by.to_string()));
    parts.extend(status.expiries_by.map(|by| by.to_string()));
    parts.push(format!("{} retries", format::count(status.retries)));
    if let Some(throttle) = &status.throttle {
        parts.push(format!("waiting: {throttle}"));
    } else if !status.limits.is_none() {
        parts.push(format!("limits: {}", status.limits));
    }
    parts.extend(status.big_key.as_ref().map(format::big_key));
    parts.join("   ")
}

fn next(file: &StatusFile) -> String {
    let name = &file.status.migration;
    match file.status.state {
        RunState::Running if file.running => format!("redknot status {name} --watch"),
        RunState::Running | RunState::Stopped | RunState::Failed => {
            "run the same command to continue".into()
        }
        RunState::Complete => after_completion(&file.status),
    }
}

/// What is left to do once everything was copied: nothing, as soon as both sides were seen to be equal.
fn after_completion(status: &Status) -> String {
    let name = &status.migration;
    let Some(compare) = &status.compare else {
        return format!("redknot compare {name}");
    };
    match (compare.state, &status.repair) {
        (CompareState::Compared, Some(repair)) if repair.state != RepairState::Repaired => {
            format!("redknot repair {name}")
        }
        (CompareState::Compared, Some(repair)) if repair.findings_left > 0 => {
            format!("redknot keys {name} --class findings")
        }
        // There is no source to repair from.
        (CompareState::Compared, None) if compare.recorded && compare.counters.findings() > 0 => {
            format!("redknot keys {name} --class findings")
        }
        // What was repaired was compared again; only another comparison has looked at everything.
        (CompareState::Compared, None) if compare.counters.findings() > 0 => {
            format!("redknot repair {name}")
        }
        (CompareState::Compared, None) => {
            "done; the same command with --new-pass scans the source again".into()
        }
        _ => format!("redknot compare {name}"),
    }
}

#[cfg(test)]
mod tests {
    use redknot::progress::CompareStatus;

    use super::*;
    use crate::cli::testing;

    fn file(state: RunState, running: bool) -> StatusFile {
        StatusFile {
            status: Status {
                state,
                ..testing::status()
            },
            running,
        }
    }

    #[test]
    fn a_running_migration_is_one_screen() {
        let text = block(
            &file(RunState::Running, true),
            Paint::PLAIN,
            1_795_356_190_000,
        );
        insta::assert_snapshot!(text, @r"
        shop        redis://cache.prod:6379 → redis://10.0.0.9:6379
        state       running (pid 4411 on vm-7, since 2026-11-22 14:02:11 UTC)   run 3
        progress    71.4 % of the keyspace by cursor, 8 911 632 of about 12 481 903 keys, 5.9 GiB
        durable     batch 17 822   last checkpoint 0.2 s ago
        accounts    scanned 8 911 632 = written 8 911 220 + vanished 412 + kept 0 + quarantined 0 + filtered 0
        lane        db0 → db0   pass 2 of source 8867557519e1   cursor 188414
        pass        db0 pass 1 since 2026-11-22 13:43:20 UTC: first pass
        pass        db0 pass 2 since 2026-11-22 14:02:11 UTC: the source restarted
        compare     not started — not safe to cut over
        health      184 k keys/s   96 MiB/s   19 s left   source latency 0.9 ms   strings by MGET   written by SET   expiries key by key   3 retries
        next        redknot status shop --watch
        ");
    }

    #[test]
    fn a_run_without_an_end_whose_process_is_gone_was_interrupted() {
        let died = file(RunState::Running, false);
        let text = block(&died, Paint::PLAIN, 1_795_356_190_000);
        assert!(text.contains("interrupted (the process died: pid 4411 on vm-7, last seen 2026-11-22 14:03:10 UTC)"), "{text}");
        assert!(text.contains("run the same command to continue"), "{text}");
        assert!(!text.contains("health"), "{text}");
        let line: Value = serde_json::from_str(&json(&died, Path::new("none"))).expect("JSON");
        assert_eq!(
            (&line["state"], &line["running"], &line["interrupted"]),
            (&json!("running"), &json!(false), &json!(true))
        );
        assert_eq!(line["counters"]["keys_written"], 8_911_220);
    }

    #[test]
    fn a_side_that_was_not_verified_is_named() {
        let mut insecure = file(RunState::Complete, false);
        insecure.status.target_tls = TlsUse::Unverified;
        let text = block(&insecure, Paint::PLAIN, 0);
        assert!(
            text.contains("tls         the target was not verified (--to-insecure)\n"),
            "{text}"
        );
        let line: Value = serde_json::from_str(&json(&insecure, Path::new("none"))).expect("JSON");
        assert_eq!(
            (&line["source_tls"], &line["target_tls"]),
            (&json!("none"), &json!("unverified"))
        );
    }

    #[test]
    fn what_to_do_next_follows_what_was_found_and_repaired() {
        let check = |compare: Option<CompareStatus>, repair: Option<RepairStatus>, wanted: &str| {
            let mut file = file(RunState::Complete, false);
            file.status.compare = compare;
            file.status.repair = repair;
            assert!(next(&file).starts_with(wanted), "{}", next(&file));
        };
        let compared = |missing| {
            let mut status = CompareStatus {
                state: CompareState::Compared,
                ..CompareStatus::default()
            };
            status.counters.missing = missing;
            Some(status)
        };
        let repaired = |state, findings_left| {
            Some(RepairStatus {
                state,
                findings_left,
                ..RepairStatus::default()
            })
        };
        check(None, None, "redknot compare shop");
        check(Some(CompareStatus::default()), None, "redknot compare shop");
        check(compared(0), None, "done");
        check(compared(3), None, "redknot repair shop");
        let stopped = repaired(RepairState::Stopped, 2);
        check(compared(3), stopped, "redknot repair shop");
        let left = repaired(RepairState::Repaired, 2);
        check(compared(3), left, "redknot keys shop --class findings");
        let all = repaired(RepairState::Repaired, 0);
        check(compared(3), all, "redknot compare shop");
    }

    #[test]
    fn several_migrations_are_a_table() {
        let all = [
            file(RunState::Complete, false),
            file(RunState::Running, false),
        ];
        insta::assert_snapshot!(text(&all, Path::new("none"), Paint::PLAIN, 0), @r"
        MIGRATION  FROM                     TO                          KEYS  VERDICT                WHEN                     REPORT
        shop       redis://cache.prod:6379  redis://10.0.0.9:6379  8 911 632  not compared           2026-11-22 14:03:10 UTC  -
        shop       redis://cache.prod:6379  redis://10.0.0.9:6379  8 911 632  interrupted at 71.4 %  2026-11-22 14:03:10 UTC  -
        ");
    }
}
