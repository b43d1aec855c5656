//! All migrations at a glance: what moved where, and whether it can be relied on.

use std::fs::File;
use std::path::Path;

use redknot::progress::{CompareState, CompareStatus, RepairState, RunState, Status};
use redknot::state::status::StatusFile;

use super::console::Paint;
use super::format;

/// So many hex digits of a report's hash are shown in the table.
const HASH_SHOWN: usize = 12;

/// One line a migration: name, from, to, keys, verdict, when, report.
pub fn table(all: &[StatusFile], state_dir: &Path, paint: Paint) -> String {
    let head = [
        "MIGRATION",
        "FROM",
        "TO",
        "KEYS",
        "VERDICT",
        "WHEN",
        "REPORT",
    ];
    let rows: Vec<[String; 7]> = all.iter().map(|file| row(file, state_dir)).collect();
    let widths: [usize; 7] = std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([head[column].len()]).max().unwrap_or(0)
    });
    let line = |cells: [&str; 7]| {
        let mut text = String::new();
        for (column, cell) in cells.into_iter().enumerate() {
            let gap = " ".repeat(widths[column].saturating_sub(cell.chars().count()));
            // Numbers end at the same column.
            match column {
                3 => text.push_str(&format!("{gap}{cell}  ")),
                _ => text.push_str(&format!("{cell}{gap}  ")),
            }
        }
        text.trim_end().to_owned()
    };
    let mut text = paint.bold(&line(head)) + "\n";
    for row in &rows {
        text.push_str(&line(row.each_ref().map(String::as_str)));
        text.push('\n');
    }
    text
}

fn row(file: &StatusFile, state_dir: &Path) -> [String; 7] {
    let status = &file.status;
    let report = report_hash(state_dir, &status.migration);
    [
        &status.migration,
        &status.source,
        &status.target,
        &format::count(status.counters.keys_scanned),
        &verdict(file),
        &format::time(status.updated_ms),
        &report.map_or_else(|| "-".to_owned(), |hash| hash[..HASH_SHOWN].to_owned()),
    ]
    .map(|text| format::one_line(text))
}

/// In a few words, what is known of a migration's result.
pub fn verdict(file: &StatusFile) -> String {
    let status = &file.status;
    let at = format::percent(status.percent);
    match status.state {
        RunState::Running if file.running => format!("running, {at}"),
        RunState::Running => format!("interrupted at {at}"),
        RunState::Stopped => format!("stopped at {at}"),
        RunState::Failed => format!("failed at {at}"),
        RunState::Complete => {
            let compared = match &status.compare {
                None => "not compared".to_owned(),
                Some(compare) => comparison(compare, status),
            };
            match status.counters.keys_quarantined {
                0 => compared,
                keys => format!("{} quarantined, {compared}", format::count(keys)),
            }
        }
    }
}

fn comparison(compare: &CompareStatus, status: &Status) -> String {
    if compare.outdated {
        return "copied since it was compared".to_owned();
    }
    if compare.state != CompareState::Compared {
        return format!("compared to {}", format::percent(compare.percent));
    }
    let findings = compare.counters.findings();
    let repair = status.repair.as_ref().filter(|repair| {
        repair.compare == compare.compare && repair.state == RepairState::Repaired
    });
    match (findings, repair) {
        (0, _) => match &compare.sample {
            Some(sample) => format!("equal in {}", sample),
            None if compare.recorded => "as it was copied".to_owned(),
            None if compare.not_compared.is_empty() => "equal".to_owned(),
            None => "equal, not all compared".to_owned(),
        },
        (_, Some(repair)) if repair.findings_left == 0 => {
            format!("{} repaired", format::count(findings))
        }
        (_, Some(repair)) => format!("{} differ", format::count(repair.findings_left)),
        (findings, None) => format!("{} differ", format::count(findings)),
    }
}

/// BLAKE3 of the newest report in the migration's folder, hex, if there is one.
pub fn report_hash(state_dir: &Path, name: &str) -> Option<String> {
    let folder = state_dir.join(name);
    let file = ["report.html", "report.json"]
        .into_iter()
        .find_map(|report| File::open(folder.join(report)).ok())?;
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file).ok()?;
    Some(hasher.finalize().to_hex().to_string())
}
