//! `redknot audit export`: the batches for programs, the keys that need attention for spreadsheets.

use std::ops::ControlFlow;

use redknot::audit::journal::hex;
use redknot::error::{Class, Error};
use redknot::key::Escaped;
use redknot::plan::LanePlan;
use redknot::state::inspect::{Inspection, Numbered, Unreadable};
use redknot::state::record::FindingState;
use redknot::state::{Finding, QuarantinedKey, Reader};
use serde_json::{Map, Value, json};

use crate::cli::args::{Common, ExportArgs};
use crate::cli::console::Console;
use crate::cli::exit_code::ExitCode;
use crate::cli::failure::Failure;
use crate::cli::{format, names};

const COMMAND: &str = "redknot audit export";

/// Written at once.
const CHUNK_BYTES: usize = 32 * 1024;

/// The columns of the CSV.
const COLUMNS: [&str; 11] = [
    "class",
    "db",
    "key",
    "key_hex",
    "key_bytes",
    "type",
    "reason",
    "payload_bytes",
    "pass",
    "state",
    "at",
];

/// Writes one of both.
///
/// # Errors
///
/// If there is no such migration, a run works on it, or its state can't be read.
pub fn run(args: &ExportArgs, common: &Common, console: &Console) -> Result<ExitCode, Failure> {
    let dir = common.state_dir();
    let name = names::one(&dir, args.name.as_deref(), "export")?;
    let mut out = Out::new(console);
    match args.findings {
        true => {
            let reader = Reader::open(&dir, &name, COMMAND).map_err(Error::from)?;
            findings(&reader, &mut out).map_err(Error::from)?;
        }
        false => {
            let state = Inspection::open(&dir, &name, COMMAND).map_err(Error::from)?;
            if let Some(state) = state {
                batches(&state, &mut out)?;
            }
        }
    }
    out.flush();
    Ok(ExitCode::Done)
}

/// What is written, in larger pieces.
struct Out<'a> {
    console: &'a Console,
    chunk: Vec<u8>,
}

impl<'a> Out<'a> {
    fn new(console: &'a Console) -> Self {
        Self {
            console,
            chunk: Vec::with_capacity(CHUNK_BYTES + 4096),
        }
    }

    /// Breaks when nobody reads any more.
    fn add(&mut self, line: &str) -> ControlFlow<()> {
        self.chunk.extend_from_slice(line.as_bytes());
        if self.chunk.len() < CHUNK_BYTES || self.flush() {
            return ControlFlow::Continue(());
        }
        ControlFlow::Break(())
    }

    fn flush(&mut self) -> bool {
        let is_read = self.console.raw(&self.chunk);
        self.chunk.clear();
        is_read
    }
}

// ---- batches

fn batches(state: &Inspection, out: &mut Out<'_>) -> Result<(), Failure> {
    let damaged = |Unreadable(what)| Error::new(Class::StateDamaged, "read the state", what);
    let meta = state.meta().map_err(Error::from)?.map_err(damaged)?;
    let lanes = meta.map_or_else(Vec::new, |meta| meta.plan.lanes);
    for (index, plan) in (0..).zip(&lanes) {
        let mut batches = state.batches(index);
        while let Some(batch) = batches.next(state).map_err(Error::from)?.map_err(damaged)? {
            if out.add(&batch_line(index, plan, &batch)).is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn batch_line(lane: u32, plan: &LanePlan, batch: &Numbered) -> String {
    let record = &batch.record;
    let mut object = Map::new();
    let mut put = |name: &str, value: Value| object.insert(name.to_owned(), value);
    put("lane", json!(lane));
    put("source_db", json!(plan.source_db));
    put("target_db", json!(plan.target_db));
    put("pass", json!(batch.pass));
    put("batch", json!(batch.seq));
    put("run", json!(record.run));
    put("cursor_in", json!(record.cursor_in));
    put("cursor_out", json!(record.cursor_out));
    if let Ok(Value::Object(counters)) = serde_json::to_value(record.counters) {
        for (name, count) in counters {
            put(&name, count);
        }
    }
    put("keys_digest", json!(hex(&record.keys_digest)));
    put("scanned_ms", json!(record.scanned_ms));
    put("acknowledged_ms", json!(record.acknowledged_ms));
    put("chain", json!(hex(&record.chain)));
    format!("{}\n", Value::Object(object))
}

// ---- keys

fn findings(reader: &Reader, out: &mut Out<'_>) -> Result<(), redknot::state::StoreError> {
    let lanes = &reader.meta().plan.lanes;
    let _ = out.add(&row(&COLUMNS.map(str::to_owned)));
    reader.visit_quarantine(|key| out.add(&row(&quarantined(key, lanes))))?;
    if reader.compare().is_some() {
        reader.visit_findings(|found| out.add(&row(&finding(found, lanes))))?;
    }
    Ok(())
}

fn quarantined(key: &QuarantinedKey, lanes: &[LanePlan]) -> [String; COLUMNS.len()] {
    let entry = &key.entry;
    let record = &entry.record;
    let reason = match &record.error {
        Some(error) => format!("{}: {error}", record.reason),
        None => record.reason.clone(),
    };
    [
        "quarantined".to_owned(),
        db(lanes, key.lane),
        Escaped(&entry.name).to_string(),
        hex(&entry.name),
        entry.name_bytes.to_string(),
        String::new(),
        format::one_line(&reason),
        record
            .payload_bytes
            .map_or_else(String::new, |bytes| bytes.to_string()),
        record.pass.to_string(),
        "open".to_owned(),
        format::time(record.at_ms),
    ]
}

fn finding(found: &Finding, lanes: &[LanePlan]) -> [String; COLUMNS.len()] {
    let record = &found.record;
    let state = match record.state {
        FindingState::Open => "open",
        FindingState::Repaired { .. } => "repaired",
    };
    [
        record.verdict.name().to_owned(),
        db(lanes, found.lane),
        Escaped(&found.name).to_string(),
        hex(&found.name),
        found.name.len().to_string(),
        format::one_line(&record.key_type),
        format::one_line(&record.detail),
        record.payload_bytes.to_string(),
        String::new(),
        state.to_owned(),
        format::time(record.found_ms),
    ]
}

fn db(lanes: &[LanePlan], lane: u32) -> String {
    let db = lanes.get(lane as usize).map_or(0, |lane| lane.source_db);
    db.to_string()
}

/// A line of CSV (RFC 4180).
fn row(cells: &[String; COLUMNS.len()]) -> String {
    let cells: Vec<String> = cells.iter().map(|text| cell(text)).collect();
    cells.join(",") + "\r\n"
}

/// A text as a cell that no spreadsheet takes for a formula.
fn cell(text: &str) -> String {
    let guard = match text.starts_with(['=', '+', '-', '@', '\t', '\r', '\'']) {
        true => "'",
        false => "",
    };
    match guard.is_empty() && !text.contains([',', '"', '\r', '\n']) {
        true => text.to_owned(),
        false => format!("\"{guard}{}\"", text.replace('"', "\"\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_one_cell_and_never_a_formula() {
        let check = |text: &str, wanted: &str| assert_eq!(cell(text), wanted);
        check("user:1", "user:1");
        check("", "");
        check("a,b", "\"a,b\"");
        check("say \"no\"", "\"say \"\"no\"\"\"");
        check("=cmd|' /C calc'!A0", "\"'=cmd|' /C calc'!A0\"");
        check("+1", "\"'+1\"");
        check("-1", "\"'-1\"");
        check("@SUM(A1)", "\"'@SUM(A1)\"");
        // What begins with the guard itself is told apart from what was guarded.
        check("'=x", "\"''=x\"");
    }
}
