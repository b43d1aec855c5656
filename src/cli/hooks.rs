//! `--hook`: programs of the operator that are run when something happens. `docs/hooks.md` says which and how.
//!
//! # Invariants
//!
//! - A hook changes nothing about the run: it is run beside it, one at a time, for a limited time, and what goes wrong
//!   with it is a warning.
//! - No shell is between: a name of a key is a value of a variable, and never a command.
//! - A hook finds no variable in its environment by which redknot takes passwords.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use redknot::key::Escaped;
use redknot::progress::{Event, LaneDecision};
use serde_json::{Map, Value, json};

use super::failure::Failure;
use super::format;
use super::json::Header;

/// How often it is looked whether a run moves, and whether a hook has ended.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Of a value, a hook sees no more than this: the system limits what an environment may hold.
const VALUE_BYTES_MAX: usize = 4096;

/// Of what a hook complains about, no more is read.
const COMPLAINT_BYTES_MAX: u64 = 1024;

/// What hooks are called.
pub const NAMES: [&str; 6] = [
    "on-start",
    "on-pass",
    "on-source-changed",
    "on-stall",
    "on-complete",
    "on-finding",
];

/// Hears of events, and lets a thread of its own run the hooks.
pub struct Hooks {
    queue: Sender<Message>,
    run: Arc<Run>,
    thread: RefCell<Option<JoinHandle<()>>>,
    header: RefCell<Header>,
}

/// What is known of the run while it goes on.
#[derive(Default)]
struct Run {
    /// Changes whenever it has moved.
    moved: AtomicU64,
    /// What it has told last about how it stands.
    latest: Mutex<Map<String, Value>>,
    /// Findings that no hook has been told of.
    findings: AtomicU64,
}

enum Message {
    Call(&'static str, Map<String, Value>),
    End,
}

/// Where hooks are and what all of them are told.
pub struct Setting {
    pub path: PathBuf,
    /// After this a hook is killed, with all that it has started.
    pub timeout: Duration,
    /// Without progress for so long, a run stalls.
    pub stall_after: Duration,
    /// By name; they do not depend on what happens.
    pub variables: Vec<(&'static str, String)>,
}

impl Hooks {
    /// Begins to hear. `warn` tells the operator.
    ///
    /// # Errors
    ///
    /// If there is no hook at the path that could be run.
    pub fn start(
        setting: Setting,
        header: Header,
        warn: impl Fn(String) + Send + 'static,
    ) -> Result<Self, Failure> {
        refuse_unusable(&setting.path)?;
        let (queue, messages) = channel();
        let run = Arc::<Run>::default();
        let heard = Arc::clone(&run);
        let thread = std::thread::Builder::new()
            .name("hooks".into())
            .spawn(move || obey(&messages, &heard, &setting, warn))
            .map_err(|error| {
                Failure::usage(
                    "no thread can be started",
                    error.to_string(),
                    "is `ulimit -u` too low?",
                )
            })?;
        Ok(Self {
            queue,
            run,
            thread: RefCell::new(Some(thread)),
            header: RefCell::new(header),
        })
    }

    /// Takes what a run tells.
    pub fn event(&self, event: &Event) {
        match event {
            Event::Start { .. } | Event::CompareStart { .. } | Event::RepairStart { .. } => {
                self.latest(event);
                self.call("on-start", event);
            }
            Event::Lane {
                decision: LaneDecision::Begin | LaneDecision::NewPass,
                ..
            } => {
                self.call("on-pass", event);
            }
            Event::SourceChanged(_) => self.call("on-source-changed", event),
            Event::Complete(_) | Event::Compared(_) | Event::Repaired(_) => {
                self.call("on-complete", event);
            }
            // A hook that runs, or waits for another, hears of all that are found meanwhile at once.
            Event::Finding { .. } if self.run.findings.fetch_add(1, Ordering::Relaxed) == 0 => {
                self.call("on-finding", event);
            }
            Event::Retry { .. } => self.latest(event),
            Event::Progress(_) | Event::CompareProgress(_) | Event::RepairProgress(_) => {
                self.run.moved.store(figure(event), Ordering::Relaxed);
                self.latest(event);
            }
            _ => {}
        }
    }

    /// Waits until every hook has been run.
    pub fn finish(&self) {
        let _ = self.queue.send(Message::End);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }

    fn call(&self, name: &'static str, event: &Event) {
        // Fails only if the thread is gone.
        let _ = self.queue.send(Message::Call(name, self.fields(event)));
    }

    fn latest(&self, event: &Event) {
        let fields = self.fields(event);
        *self
            .run
            .latest
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = fields;
    }

    fn fields(&self, event: &Event) -> Map<String, Value> {
        self.header.borrow_mut().fields(event)
    }
}

/// A number that differs whenever a run has moved.
fn figure(event: &Event) -> u64 {
    match event {
        Event::Progress(status) => {
            let passes = status.passes.len() as u64;
            status.counters.keys_scanned + status.batches_durable + (passes << 48)
        }
        Event::CompareProgress(status) => {
            let counters = &status.counters;
            counters.keys_scanned + counters.target_keys_scanned + counters.keys_compared
        }
        Event::RepairProgress(status) => status.counters.settled() + status.keys_differing,
        _ => 0,
    }
}

// ---- the thread that runs them

fn obey(messages: &Receiver<Message>, run: &Run, setting: &Setting, warn: impl Fn(String)) {
    let call = |name, fields: Map<String, Value>| {
        let program = program(&setting.path, name);
        if let Some(Err(why)) = program.map(|program| execute(&program, name, &fields, setting)) {
            warn(format!("the hook {name} {why}"));
        }
    };
    let mut stall = Stall::new(run);
    loop {
        match messages.recv_timeout(LOOK_EVERY) {
            Ok(Message::Call(name, mut fields)) => {
                if name == "on-finding" {
                    let findings = run.findings.swap(0, Ordering::Relaxed);
                    fields.insert("findings".into(), json!(findings));
                }
                call(name, fields);
            }
            Ok(Message::End) | Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {}
        }
        if let Some(stalled) = stall.since(run, setting.stall_after) {
            let mut fields = run
                .latest
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            fields.insert("stalled_s".into(), json!(stalled.as_secs()));
            call("on-stall", fields);
        }
    }
}

/// Whether a run moves.
struct Stall {
    moved: u64,
    at: Instant,
    told: bool,
}

impl Stall {
    fn new(run: &Run) -> Self {
        Self {
            moved: run.moved.load(Ordering::Relaxed),
            at: Instant::now(),
            told: false,
        }
    }

    /// How long it has not moved, if that is too long and has not been said.
    fn since(&mut self, run: &Run, limit: Duration) -> Option<Duration> {
        if self.moved != run.moved.load(Ordering::Relaxed) {
            *self = Self::new(run);
        }
        let stalled = self.at.elapsed();
        let news = stalled >= limit && !std::mem::replace(&mut self.told, stalled >= limit);
        news.then_some(stalled)
    }
}

/// What is to be run, if there is a hook of that name.
fn program(path: &Path, name: &str) -> Option<PathBuf> {
    match path.is_dir() {
        false => Some(path.to_owned()),
        true => Some(path.join(name)).filter(|program| program.exists()),
    }
}

/// Runs a hook to its end; if that is not a good one, says what was wrong, so that it goes on a sentence.
fn execute(
    program: &Path,
    name: &str,
    fields: &Map<String, Value>,
    setting: &Setting,
) -> Result<(), String> {
    let mut command = Command::new(program);
    for (variable, _) in std::env::vars_os() {
        let variable_bytes = variable.as_encoded_bytes();
        if variable_bytes.starts_with(b"REDKNOT_") || variable_bytes == b"REDISCLI_AUTH" {
            command.env_remove(variable);
        }
    }
    let spawned = command
        .arg(name)
        .envs(variables(name, fields, setting))
        .stdin(Stdio::null())
        // Our own belongs to results and events.
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        // So that all that it has started can be killed with it.
        .process_group(0)
        .spawn();
    let mut child = spawned.map_err(|error| format!("can't be run: {error}"))?;
    let complaint = complaint(&mut child);
    let deadline = Instant::now() + setting.timeout;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < deadline => std::thread::sleep(LOOK_EVERY),
            Ok(None) => {
                kill(&mut child);
                let limit = format::seconds(setting.timeout.as_secs_f64());
                return Err(format!(
                    "took longer than {limit} and was killed (--hook-timeout)"
                ));
            }
            Err(error) => return Err(format!("can't be waited for: {error}")),
        }
    };
    if status.success() {
        return Ok(());
    }
    // A process that it has left behind may keep the pipe open.
    let said = complaint.recv_timeout(LOOK_EVERY).unwrap_or_default();
    let said = match said.lines().next() {
        Some(line) if !line.is_empty() => format!(": {}", Escaped(line.as_bytes())),
        _ => String::new(),
    };
    Err(format!("failed ({status}){said}"))
}

fn kill(child: &mut Child) {
    let group = rustix::process::Pid::from_child(child);
    // It may have ended just now.
    let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    let _ = child.wait();
}

/// Reads what a hook says on its standard error, so that it never waits for a reader.
fn complaint(child: &mut Child) -> Receiver<String> {
    let (sender, receiver) = channel();
    if let Some(mut pipe) = child.stderr.take() {
        // Without a thread nothing is heard of it.
        let _ = std::thread::Builder::new()
            .name("hook-errors".into())
            .spawn(move || {
                let mut said = Vec::new();
                let _ = pipe
                    .by_ref()
                    .take(COMPLAINT_BYTES_MAX)
                    .read_to_end(&mut said);
                let _ = sender.send(String::from_utf8_lossy(&said).into_owned());
                let _ = std::io::copy(&mut pipe, &mut std::io::sink());
            });
    }
    receiver
}

/// The fields of an event that are plain values, under the names of the contract for JSON.
fn variables(
    name: &str,
    fields: &Map<String, Value>,
    setting: &Setting,
) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    let mut set = |field: &str, value: String| {
        variables.insert(
            format!("REDKNOT_HOOK_{}", field.to_ascii_uppercase()),
            value,
        );
    };
    for (field, value) in fields {
        // One level deep: the counters, and the database of a pass.
        match value {
            Value::Object(inner) => inner
                .iter()
                .filter_map(|(field, value)| Some((field, plain(value)?)))
                .for_each(|(field, value)| set(field, value)),
            _ => {
                if let Some(value) = plain(value) {
                    set(field, value);
                }
            }
        }
    }
    for (field, value) in &setting.variables {
        set(field, value.clone());
    }
    set("event", name.trim_start_matches("on-").to_owned());
    variables
}

fn plain(value: &Value) -> Option<String> {
    let mut text = match value {
        Value::String(text) => text.replace('\0', " "),
        Value::Number(number) => number.to_string(),
        Value::Bool(yes) => yes.to_string(),
        Value::Null | Value::Array(_) | Value::Object(_) => return None,
    };
    let mut ends = (0..=VALUE_BYTES_MAX.min(text.len())).rev();
    text.truncate(ends.find(|end| text.is_char_boundary(*end))?);
    Some(text)
}

/// What can't be run is better said now than when it is needed.
fn refuse_unusable(path: &Path) -> Result<(), Failure> {
    const HINT: &str = "a folder with hooks, or a program";
    let refuse = |why: String, hint: String| {
        let what = format!("--hook {} can't be used", path.display());
        Err(Failure::usage(what, why, hint))
    };
    let programs: Vec<PathBuf> = match std::fs::metadata(path) {
        Err(error) => return refuse(error.to_string(), HINT.into()),
        Ok(found) if found.is_dir() => NAMES.map(|name| path.join(name)).into(),
        Ok(_) => vec![path.to_owned()],
    };
    let mut hooks = 0;
    for program in programs {
        let shown = program.display();
        match std::fs::metadata(&program) {
            Err(_) => continue,
            Ok(found) if !found.is_file() => {
                return refuse(format!("{shown} is no program"), HINT.into());
            }
            Ok(found) if found.permissions().mode() & 0o111 == 0 => {
                return refuse(
                    format!("{shown} may not be run"),
                    format!("chmod +x {shown}"),
                );
            }
            Ok(_) => hooks += 1,
        }
    }
    match hooks {
        0 => refuse(
            "there is no hook in this folder".into(),
            format!("hooks are called {}", NAMES.join(", ")),
        ),
        _ => Ok(()),
    }
}
