//! `redknot keys`: the names behind a figure, for people, for `xargs -0`, and for programs.
//!
//! # Invariants
//!
//! - No byte of a name reaches a terminal unescaped.
//! - A list that is not whole says so and ends with exit code 1: a name that is not stored whole is marked, and left out
//!   where only whole names are of use.
//! - Only a page of the keys is in memory.

use std::io::IsTerminal;
use std::ops::ControlFlow;

use redknot::audit::journal::hex;
use redknot::error::Error;
use redknot::key::Escaped;
use redknot::plan::LanePlan;
use redknot::progress::Verdict;
use redknot::state::record::FindingState;
use redknot::state::{Finding, QuarantinedKey, Reader};
use serde_json::{Map, Value, json};

use super::args::{Common, KeyClass, KeysArgs};
use super::console::Console;
use super::exit_code::ExitCode;
use super::failure::Failure;
use super::{format, names};

/// Written at once; what reads it is served every so many bytes.
const CHUNK_BYTES: usize = 32 * 1024;

/// Lists the keys of one class.
///
/// # Errors
///
/// If there is no such migration, a run works on it, or its state can't be read.
pub fn run(args: &KeysArgs, common: &Common, console: &Console) -> Result<ExitCode, Failure> {
    let form = Form::of(args, console)?;
    let class = class(args)?;
    let dir = common.state_dir();
    let name = names::one(&dir, args.name.as_deref(), "list keys of")?;
    let reader = Reader::open(&dir, &name, "redknot keys").map_err(Error::from)?;
    let mut list = List::new(form, console);
    match class {
        KeyClass::Quarantined => {
            let lanes = &reader.meta().plan.lanes;
            reader
                .visit_quarantine(|key| list.add(&quarantined(key, lanes)))
                .map_err(Error::from)?;
        }
        KeyClass::Findings => findings(&reader, None, &mut list)?,
        KeyClass::Finding(verdict) => findings(&reader, Some(verdict), &mut list)?,
    }
    Ok(list.end(class.name()))
}

/// The class that is asked for, if its keys are listed.
fn class(args: &KeysArgs) -> Result<KeyClass, Failure> {
    let Some(asked) = args.class.as_deref() else {
        return Err(Failure::usage(
            "--class is missing",
            "which keys are to be listed has to be said",
            format!("--class {}", KeyClass::names().join("|")),
        ));
    };
    match KeyClass::of(asked) {
        Some(class) => Ok(class),
        None => Err(Failure::usage(
            "the keys that were kept are counted, not listed",
            "a target may have as many of them as it has keys, and nobody has looked at their values",
            "redknot compare looks at them: those that differ are listed with --class value, type or ttl",
        )),
    }
}

/// How the keys are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// A line a key: name, database, class and reason, separated by tabs, which no name contains once it is escaped.
    Lines,
    /// The names' own bytes, each followed by a NUL.
    Raw,
    /// An object a line.
    Json,
}

impl Form {
    fn of(args: &KeysArgs, console: &Console) -> Result<Self, Failure> {
        if args.null && console.json {
            return Err(Failure::usage(
                "--null and --json contradict each other",
                "one writes names alone, the other an object a line",
                "leave one of them away",
            ));
        }
        if args.null && std::io::stdout().is_terminal() {
            return Err(Failure::usage(
                "--null writes names as they are, which a terminal must not be shown",
                "a name can hold commands for the terminal",
                "redknot keys … -0 | xargs -0 …, or without -0 for people",
            ));
        }
        Ok(match (args.null, console.json) {
            (true, _) => Self::Raw,
            (false, true) => Self::Json,
            (false, false) => Self::Lines,
        })
    }
}

/// One key of the list.
struct Listed<'a> {
    /// As much of the name as is stored.
    name: &'a [u8],
    /// Length of the whole name.
    name_bytes: u64,
    /// Database on the source.
    db: u32,
    class: &'static str,
    reason: String,
    /// What else a program may want to know.
    fields: Map<String, Value>,
}

impl Listed<'_> {
    fn is_cut(&self) -> bool {
        self.name.len() as u64 != self.name_bytes
    }

    fn line(&self, console: &Console) -> String {
        let cut = match self.is_cut() {
            true => format!(
                " (the first {} of the name's {} bytes)",
                self.name.len(),
                self.name_bytes
            ),
            false => String::new(),
        };
        let (name, reason) = (console.name(self.name), format::one_line(&self.reason));
        format!("{name}\tdb{}\t{}\t{reason}{cut}\n", self.db, self.class)
    }

    fn object(&self) -> String {
        let mut object = Map::new();
        object.insert("key".into(), json!(Escaped(self.name).to_string()));
        object.insert("key_hex".into(), json!(hex(self.name)));
        object.insert("key_bytes".into(), json!(self.name_bytes));
        object.insert("cut".into(), json!(self.is_cut()));
        object.insert("db".into(), json!(self.db));
        object.insert("class".into(), json!(self.class));
        object.insert("reason".into(), json!(self.reason));
        object.extend(self.fields.clone());
        format!("{}\n", Value::Object(object))
    }
}

/// The list on its way out.
struct List<'a> {
    form: Form,
    console: &'a Console,
    chunk: Vec<u8>,
    listed: u64,
    /// Names that are not stored whole.
    cut: u64,
}

impl<'a> List<'a> {
    fn new(form: Form, console: &'a Console) -> Self {
        Self {
            form,
            console,
            chunk: Vec::new(),
            listed: 0,
            cut: 0,
        }
    }

    /// Adds a key; breaks when nobody reads any more.
    fn add(&mut self, key: &Listed<'_>) -> ControlFlow<()> {
        self.listed += 1;
        self.cut += u64::from(key.is_cut());
        match self.form {
            Form::Lines => self.chunk.extend(key.line(self.console).bytes()),
            Form::Json => self.chunk.extend(key.object().bytes()),
            // Half a name would be another key's.
            Form::Raw if key.is_cut() => {}
            Form::Raw => {
                self.chunk.extend_from_slice(key.name);
                self.chunk.push(0);
            }
        }
        match self.chunk.len() < CHUNK_BYTES || self.flush() {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    }

    fn flush(&mut self) -> bool {
        let is_read = self.console.raw(&self.chunk);
        self.chunk.clear();
        is_read
    }

    fn end(mut self, class: &str) -> ExitCode {
        self.flush();
        if self.listed == 0 {
            self.console
                .note(&format!("there is no key of class {class}"));
        }
        if self.cut > 0 {
            let what = match self.form {
                Form::Raw => "left out",
                Form::Lines | Form::Json => "marked",
            };
            self.console.warn(&format!(
                "{} of {} names are longer than what is kept of them, and {what}",
                format::count(self.cut),
                format::count(self.listed)
            ));
            return ExitCode::Attention;
        }
        ExitCode::Done
    }
}

/// Adds what the newest comparison found and nobody has repaired since, of one verdict or of all.
fn findings(reader: &Reader, verdict: Option<Verdict>, list: &mut List<'_>) -> Result<(), Failure> {
    if reader.compare().is_none() {
        return Err(Failure::usage(
            "there are no findings",
            "both sides have never been compared",
            format!("redknot compare {}", reader.meta().name),
        ));
    }
    let lanes = &reader.meta().plan.lanes;
    let listed = |found: &Finding| {
        let record = &found.record;
        record.state == FindingState::Open && verdict.is_none_or(|asked| asked == record.verdict)
    };
    reader
        .visit_findings(|found| match listed(found) {
            true => list.add(&finding(found, lanes)),
            false => ControlFlow::Continue(()),
        })
        .map_err(|error| Error::from(error).into())
}

fn finding<'a>(found: &'a Finding, lanes: &[LanePlan]) -> Listed<'a> {
    let record = &found.record;
    let fields = [
        ("verdict", json!(record.verdict)),
        ("type", json!(record.key_type)),
        ("detail", json!(record.detail)),
        (
            "source_digest",
            json!(record.source_digest.map(|digest| hex(&digest))),
        ),
        (
            "target_digest",
            json!(record.target_digest.map(|digest| hex(&digest))),
        ),
        ("payload_bytes", json!(record.payload_bytes)),
        ("found_ms", json!(record.found_ms)),
    ];
    Listed {
        name: &found.name,
        name_bytes: found.name.len() as u64,
        db: source_db(lanes, found.lane),
        class: record.verdict.name(),
        reason: match record.key_type.as_str() {
            "" => record.detail.clone(),
            key_type => format!("{key_type}  {}", record.detail),
        },
        fields: owned(fields),
    }
}

fn source_db(lanes: &[LanePlan], lane: u32) -> u32 {
    lanes.get(lane as usize).map_or(0, |lane| lane.source_db)
}

fn owned<const N: usize>(fields: [(&str, Value); N]) -> Map<String, Value> {
    fields
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

fn quarantined<'a>(key: &'a QuarantinedKey, lanes: &[LanePlan]) -> Listed<'a> {
    let entry = &key.entry;
    let record = &entry.record;
    let reason = match &record.error {
        Some(error) => format!("{}: {error}", record.reason),
        None => record.reason.clone(),
    };
    let fields = [
        ("error", json!(record.error)),
        ("payload_bytes", json!(record.payload_bytes)),
        ("payload_type", json!(record.payload_type)),
        ("pass", json!(record.pass)),
        ("batch", json!(record.seq)),
        ("at_ms", json!(record.at_ms)),
    ];
    Listed {
        name: &entry.name,
        name_bytes: entry.name_bytes,
        db: source_db(lanes, key.lane),
        class: KeyClass::Quarantined.name(),
        reason,
        fields: owned(fields),
    }
}
