//! The report of a migration: what the journal says, and the lists that only the state has.
//!
//! # Invariants
//!
//! - Servers are not needed, and a run that is at work is not disturbed: then only its journal is read.
//! - Nothing is changed but the two files of the report, each replaced in one step.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::ops::ControlFlow;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::error::StoreError;
use super::reader::Reader;
use super::record::FindingState;
use super::witness::journal_error;
use super::{folder, lock, now_ms, status};
use crate::audit::journal::hex;
use crate::audit::reader::Lines;
use crate::audit::report::build::{Builder, Lists, RawKey, Rest};
use crate::audit::report::model::Chain;
use crate::audit::report::{Redaction, Report, html, json};
use crate::plan::Plan;

/// The report of the migration `name`, for `command`, which whoever waits for the lock meanwhile is told.
///
/// # Errors
///
/// [`StoreError::Unknown`] with the names there are; a journal that is missing, damaged, or does not say what was moved.
pub fn report(
    state_dir: &Path,
    name: &str,
    redact_keys: Redaction,
    command: &str,
) -> Result<Report, StoreError> {
    let known = status::list(state_dir);
    if !known.iter().any(|known| known == name) {
        return Err(StoreError::Unknown {
            name: name.to_owned(),
            state_dir: state_dir.to_owned(),
            known,
        });
    }
    let dir = state_dir.join(name);
    // Asked first: a run that ends in between has told so by the time its journal is read.
    let running = lock::is_held(&dir)?;
    let (mut builder, mut chain) = read_journal(&dir, name)?;
    let mut found = None;
    if builder.needs_state() && !running {
        match Reader::open(state_dir, name, command) {
            Ok(reader) => {
                // Once more, so that journal and lists are of one moment.
                (builder, chain) = read_journal(&dir, name)?;
                found = Some(lists(&reader)?);
            }
            // What the journal says holds without the state.
            Err(error) => builder.remark(format!(
                "The state beside the journal can't be read: {error}"
            )),
        }
    }
    // A run that is at work may be writing the last line.
    chain.torn &= !running;
    let rest = Rest {
        made_ms: now_ms(),
        made_by: env!("CARGO_PKG_VERSION").to_owned(),
        running,
        lists: found,
        chain,
        redact_keys,
    };
    builder.finish(rest).ok_or_else(|| nothing(name))
}

fn nothing(name: &str) -> StoreError {
    StoreError::NoStatus {
        name: name.to_owned(),
    }
}

/// What every line says, and where they end.
fn read_journal(dir: &Path, name: &str) -> Result<(Builder, Chain), StoreError> {
    let failed = |error| journal_error(dir, error);
    let mut lines = Lines::open(&dir.join(folder::JOURNAL))
        .map_err(failed)?
        .ok_or_else(|| nothing(name))?;
    let mut builder = Builder::default();
    for numbered in lines.by_ref() {
        let line = numbered.map_err(failed)?.line;
        builder.learn(line.at_ms, line.event);
    }
    let chain = Chain {
        lines: lines.number(),
        root: hex(&lines.head()),
        lanes: Vec::new(),
        torn: lines.is_torn(),
    };
    Ok((builder, chain))
}

/// Makes the report and puts it into the migration's folder, as a page and as JSON. Returns the page's path.
///
/// # Errors
///
/// As [`report`], and what the file system says.
pub fn write_report(state_dir: &Path, name: &str, command: &str) -> Result<PathBuf, StoreError> {
    let report = report(state_dir, name, Redaction::None, command)?;
    let dir = state_dir.join(name);
    replace(&dir.join("report.json"), &json(&report))?;
    let page = dir.join("report.html");
    replace(&page, &html::html(&report))?;
    Ok(page)
}

/// Replaces a file in one step: a reader sees the old one or the new one.
fn replace(path: &Path, text: &str) -> Result<(), StoreError> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&new)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .and_then(|()| fs::rename(&new, path))
        .map_err(|error| StoreError::io("write", &new, &error))
}

fn lists(reader: &Reader) -> Result<Lists, StoreError> {
    let plan = &reader.meta().plan;
    let mut lists = Lists::default();
    reader.visit_quarantine(|key| {
        let entry = &key.entry;
        lists.quarantined.push(|| RawKey {
            db: source_db(plan, key.lane),
            name: entry.name.clone(),
            name_bytes: entry.name_bytes,
            verdict: None,
            key_type: String::new(),
            reason: entry.record.reason.clone(),
            error: entry.record.error.clone(),
        });
        ControlFlow::Continue(())
    })?;
    if reader.compare().is_some() {
        reader.visit_findings(|found| {
            let record = &found.record;
            if record.state == FindingState::Open {
                lists.findings.push(|| RawKey {
                    db: source_db(plan, found.lane),
                    name: found.name.clone(),
                    name_bytes: found.name.len() as u64,
                    verdict: Some(record.verdict),
                    key_type: record.key_type.clone(),
                    reason: record.detail.clone(),
                    error: None,
                });
            }
            ControlFlow::Continue(())
        })?;
    }
    Ok(lists)
}

fn source_db(plan: &Plan, lane: u32) -> u32 {
    plan.lanes
        .get(lane as usize)
        .map_or(lane, |lane| lane.source_db)
}
