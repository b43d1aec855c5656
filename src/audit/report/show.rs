//! What both pages, HTML and Markdown, say in the same words.

use super::model::{Compare, Lane, Process, Redaction, Repair, Report, Run, RunEnd, Setting, Side};
use crate::audit::entry::Origin;
use crate::figures::{self, count, counted};
use crate::progress::{Counters, TlsUse};

/// With which run_id a process answered.
pub fn run_id(process: &Process) -> &str {
    process.run_id.as_deref().unwrap_or("unknown")
}

/// How a side was spoken to.
pub fn tls(side: &Side) -> &'static str {
    match side.tls {
        None => "unknown",
        Some(TlsUse::None) => "none",
        Some(TlsUse::Verified) => "TLS, the server was verified",
        Some(TlsUse::Unverified) => "TLS, the server was not verified: it may have been anybody",
    }
}

/// Which databases a lane connects.
pub fn databases(lane: &Lane) -> String {
    match lane.source_db == lane.target_db {
        true => format!("db{}", lane.source_db),
        false => format!("db{} \u{2192} db{}", lane.source_db, lane.target_db),
    }
}

/// The accounting identity, with every term.
pub fn balance(counters: &Counters) -> String {
    let sign = if counters.balance() { '=' } else { '\u{2260}' };
    format!(
        "{} scanned {sign} {} written + {} vanished + {} kept + {} quarantined + {} filtered.",
        count(counters.keys_scanned),
        count(counters.keys_written),
        count(counters.keys_vanished),
        count(counters.keys_kept),
        count(counters.keys_quarantined),
        count(counters.keys_filtered),
    )
}

/// What the newest comparison did.
pub fn compared(compare: &Compare) -> String {
    let ended = compare.ended_ms.unwrap_or(compare.began_ms);
    let took = ended.saturating_sub(compare.began_ms) as f64 / 1000.0;
    let direction = match (compare.recorded, compare.one_way) {
        (true, _) => "of the target alone, against what the copy had recorded",
        (false, true) => "in one direction",
        (false, false) => "in both directions",
    };
    let settled = match compare.counters.settled {
        0 => String::new(),
        keys => format!(
            " {} changed meanwhile and {} equal when read again, after {} at the longest.",
            counted(keys, "key"),
            if keys == 1 { "was" } else { "were" },
            figures::seconds(compare.counters.settled_ms_max as f64 / 1000.0)
        ),
    };
    format!(
        "Comparison {} ended at {} and took {}: type, value and expiry of {}, {direction}.{settled}",
        compare.compare,
        figures::time(ended),
        figures::seconds(took),
        counted(
            compare.counters.keys_compared + compare.counters.extra,
            "key"
        ),
    )
}

/// What a comparison said of how many keys, and whether it is wrong if there is one.
pub fn verdicts(compare: &Compare) -> Vec<(&'static str, u64, bool)> {
    let counters = &compare.counters;
    vec![
        ("equal", counters.equal, false),
        (
            "of these with other bytes of DUMP",
            counters.equal_other_bytes,
            false,
        ),
        ("missing on the target", counters.missing, true),
        ("different value", counters.value, true),
        ("different type", counters.kind, true),
        ("different expiry", counters.ttl, true),
        ("only on the target", counters.extra, true),
        ("undecided: it never stood still", counters.undecided, true),
        ("not compared", counters.not_compared, true),
        ("vanished meanwhile", counters.vanished, false),
        ("filtered by type", counters.filtered, false),
        ("not in the sample", counters.unsampled, false),
    ]
    .into_iter()
    .filter(|(what, keys, wrong)| *keys > 0 || *wrong || *what == "equal")
    .collect()
}

/// What a repair did.
pub fn repaired(repair: &Repair) -> String {
    let counters = &repair.counters;
    let left = match repair.findings_left {
        0 => "none is left".to_owned(),
        left => format!("{} left", count(left)),
    };
    format!(
        "Repair {} of the findings of comparison {} {}: {} written anew, {} deleted on the target, {} gone from both sides; {left}.",
        repair.repair,
        repair.compare,
        match repair.ended_ms {
            Some(at) => format!("ended at {}", figures::time(at)),
            None => "has not ended".to_owned(),
        },
        count(counters.keys_repaired),
        count(counters.keys_deleted),
        count(counters.keys_vanished),
    )
}

/// How a run ended.
pub fn end(run: &Run) -> String {
    let kind = match run.end {
        RunEnd::Done => "done",
        RunEnd::Stopped => "stopped",
        RunEnd::Failed => "failed",
        RunEnd::Died => "died without a word (killed, or the machine went away)",
        RunEnd::Running => "at work",
        RunEnd::Unknown => "ended",
    };
    match run.end {
        _ if run.how.is_empty() => kind.to_owned(),
        // Its own words say it already.
        RunEnd::Done | RunEnd::Stopped => run.how.clone(),
        _ => format!("{kind}: {}", run.how),
    }
}

/// How long a run took; of one that died, how long it is known to have lived.
pub fn took(run: &Run) -> String {
    let took = span(run.began_ms, run.ended_ms);
    match run.end {
        RunEnd::Died => format!("\u{2265} {took}"),
        RunEnd::Done | RunEnd::Stopped | RunEnd::Failed | RunEnd::Running | RunEnd::Unknown => took,
    }
}

/// Who started a run, and where.
pub fn who(run: &Run) -> String {
    match run.user.is_empty() {
        true => format!("pid {} on {}", run.pid, run.host),
        false => format!("{} on {}, pid {}", run.user, run.host, run.pid),
    }
}

/// A share.
pub fn percent(percent: f64) -> String {
    match percent {
        100.0.. => "100 %".to_owned(),
        ..0.05 => "< 0.1 %".to_owned(),
        _ => figures::percent(percent),
    }
}

/// How long it was between two instants.
pub fn span(from_ms: u64, to_ms: u64) -> String {
    figures::seconds(to_ms.saturating_sub(from_ms) as f64 / 1000.0)
}

/// Of which runs it is known what a side served.
pub fn of_runs(side: &Side) -> String {
    let runs: Vec<String> = side.served.runs.iter().map(u32::to_string).collect();
    match runs.as_slice() {
        [one] => format!("run {one}"),
        several => format!("runs {}", several.join(", ")),
    }
}

/// Of which runs it is not known what a side served, and why; runs with the same reason together.
pub fn unknown(side: &Side) -> Vec<String> {
    let mut grouped: Vec<(&str, Vec<String>)> = Vec::new();
    for (run, why) in &side.served.unknown {
        match grouped.iter_mut().find(|(known, _)| known == why) {
            Some((_, runs)) => runs.push(run.to_string()),
            None => grouped.push((why, vec![run.to_string()])),
        }
    }
    let said = grouped.into_iter().map(|(why, runs)| {
        let noun = if runs.len() == 1 { "Run" } else { "Runs" };
        format!("{noun} {}: not known, {why}.", runs.join(", "))
    });
    said.collect()
}

/// Who said a setting.
pub fn origin(setting: &Setting) -> &'static str {
    match setting.origin {
        Origin::Flag => "flag",
        Origin::Environment => "environment",
        Origin::File => "file",
        Origin::Default => "default",
        Origin::Unknown => "",
    }
}

/// What a server process is, beside its version.
pub fn about(process: &Process) -> String {
    let mut parts = Vec::new();
    if let Some(masters) = process.masters {
        parts.push(format!("cluster of {}", counted(masters as u64, "master")));
    }
    if let Some(role) = process.role.as_deref().filter(|role| *role != "master") {
        parts.push(if role == "slave" {
            "replica".to_owned()
        } else {
            role.to_owned()
        });
    }
    parts.join(", ")
}

/// The two ends of an axis of time: without the date of the second if it is that of the first.
pub fn axis(from_ms: u64, to_ms: u64) -> [String; 2] {
    let (from, to) = (figures::time(from_ms), figures::time(to_ms));
    let same_day = from.get(..10) == to.get(..10);
    let end = match (same_day, to.get(11..)) {
        (true, Some(time)) => time.to_owned(),
        _ => to,
    };
    [from.trim_end_matches(" UTC").to_owned(), end]
}

/// An instant in a table that says once that all are UTC.
pub fn at(at_ms: u64) -> String {
    figures::time(at_ms).trim_end_matches(" UTC").to_owned()
}

/// How names of keys are shown in this report.
pub fn redaction(report: &Report) -> &'static str {
    match report.redact_keys {
        Redaction::None => "Names of keys are shown, values are not.",
        Redaction::Hash => {
            "Names of keys are replaced by the first 16 digits of their BLAKE3 hash; values are not shown."
        }
        Redaction::Prefix => {
            "Names of keys are shown up to their first colon, with the first 16 digits of their BLAKE3 hash; values are not shown."
        }
    }
}

/// How many keys have which drift, where both sides' expiries were read.
pub fn drifts(report: &Report) -> Option<Vec<(&'static str, u64)>> {
    let lives = report.compares.last()?.lives.as_ref()?;
    (lives.keys() > 0).then(|| {
        let all = lives.drifts().map(|(drift, keys)| (drift.name(), keys));
        all.filter(|(_, keys)| *keys > 0).collect()
    })
}
