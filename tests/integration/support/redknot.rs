//! The real binary: its command line, how it ended, what it said, how much memory it took.
//!
//! # Invariants
//!
//! - No process outlives the test that started it: it is killed at its time limit, and when its value is dropped.
//! - Whatever a run prints with `--json` keeps the contract of `docs/json-schema.json`.
//! - A run that is given a password by a variable or a file is searched for it: what it said, and all of its state folder.
//! - A failed expectation shows the command line, the exit code and the end of both outputs.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ::redknot::progress::Status;

use super::contract::{self, Document};
use super::{secrets, wait_for};

/// Longer than this, a run hangs.
const TIME_LIMIT: Duration = Duration::from_secs(120);

/// A command line in the making.
#[derive(Debug, Clone)]
pub struct Redknot {
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    stdin: Option<PathBuf>,
    time_limit: Duration,
    audited: bool,
}

impl Redknot {
    /// `redknot ARGS…`, with nothing of this process's environment that speaks to redknot.
    pub fn new<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Self {
        Self {
            args: args
                .into_iter()
                .map(|arg| arg.as_ref().to_owned())
                .collect(),
            env: Vec::new(),
            stdin: None,
            time_limit: TIME_LIMIT,
            audited: true,
        }
    }

    /// `redknot migrate --from FROM --to TO --state-dir DIR`.
    pub fn migrate(from: &str, to: &str, state_dir: &Path) -> Self {
        Self::new(["migrate", "--from", from, "--to", to, "--state-dir"]).arg(state_dir)
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// More arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args
            .extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// A variable of its environment, `FAILPOINTS` for example.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env
            .push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// A file as its standard input; without it there is nothing to be read.
    #[must_use]
    pub fn stdin(mut self, path: impl AsRef<Path>) -> Self {
        self.stdin = Some(path.as_ref().to_owned());
        self
    }

    /// Kills it and fails the test after this time.
    #[must_use]
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = limit;
        self
    }

    /// Leaves out the check of what it recorded: a test that damages a state knows better.
    #[must_use]
    pub fn unaudited(mut self) -> Self {
        self.audited = false;
        self
    }

    /// The folder of states that it writes to, if what it records there is to be checked.
    fn audited_dir(&self) -> Option<PathBuf> {
        const WRITE: [&str; 3] = ["migrate", "compare", "repair"];
        let writes = self
            .args
            .first()
            .is_some_and(|command| WRITE.iter().any(|write| command == write));
        let flag = self.args.iter().position(|arg| arg == "--state-dir")?;
        let dir = self.args.get(flag + 1)?;
        (self.audited && writes).then(|| dir.into())
    }

    /// Runs it to its end.
    pub fn run(&self) -> Finished {
        self.start().wait()
    }

    /// Starts it.
    pub fn start(&self) -> Running {
        let mut command = Command::new(env!("CARGO_BIN_EXE_redknot"));
        command
            .args(&self.args)
            .stdin(match &self.stdin {
                None => Stdio::null(),
                Some(path) => File::open(path).expect("the input is there").into(),
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        for (name, _) in std::env::vars_os() {
            let speaks_to_redknot = name.as_encoded_bytes().starts_with(b"REDKNOT_")
                || name == "FAILPOINTS"
                || name == "REDISCLI_AUTH";
            if speaks_to_redknot {
                command.env_remove(name);
            }
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        let mut process = command
            .spawn()
            .expect("the binary that cargo has just built");
        let stdout = Output::collect(process.stdout.take().expect("piped"));
        let stderr = Output::collect(process.stderr.take().expect("piped"));
        let rss_max = Arc::new(AtomicU64::new(0));
        sample_rss(process.id(), Arc::clone(&rss_max));
        let secrets = self.secrets();
        let listed = Arc::new(AtomicBool::new(false));
        watch_list_of_processes(process.id(), &secrets, Arc::clone(&listed));
        Running {
            audited_dir: self.audited_dir(),
            document: self.document(),
            command_line: self.to_string(),
            secrets,
            listed,
            state_dir: self.state_dir(),
            process,
            began: Instant::now(),
            time_limit: self.time_limit,
            stdout,
            stderr,
            rss_max,
        }
    }
}

impl Redknot {
    /// The passwords that it is given by variables, files and URLs.
    ///
    /// # Panics
    ///
    /// If one is so short, or such a word, that it would be found by chance: then nobody could look for it.
    fn secrets(&self) -> Vec<Vec<u8>> {
        let is_secret = |name: &OsStr| name.as_encoded_bytes().ends_with(b"_PASSWORD");
        let variables = self.env.iter().filter(|(name, _)| is_secret(name));
        let variables = variables.map(|(_, value)| value.as_encoded_bytes().to_vec());
        let files = self.args.windows(2).filter_map(|pair| {
            let flag = pair[0].as_encoded_bytes();
            let content = std::fs::read(&pair[1]).ok()?;
            flag.ends_with(b"-pass-file")
                .then(|| content.trim_ascii_end().to_vec())
        });
        let urls = self.args.iter().flat_map(|arg| password_in_url(arg));
        let all = variables.chain(files).chain(urls);
        let secrets: Vec<Vec<u8>> = all.filter(|secret| !secret.is_empty()).collect();
        for secret in &secrets {
            assert!(
                secret.len() > b"PASSWORD".len(),
                "a password of a test has to be recognised: {}",
                secret.escape_ascii()
            );
        }
        secrets
    }

    /// What it prints as JSON, if it is asked to and there is a contract about that.
    fn document(&self) -> Option<Document> {
        let words: Vec<&str> = self.args.iter().filter_map(|arg| arg.to_str()).collect();
        let asked =
            words.contains(&"--json") || self.env.iter().any(|(name, _)| name == "REDKNOT_JSON");
        asked.then(|| Document::of(&words)).flatten()
    }

    fn state_dir(&self) -> Option<PathBuf> {
        let pair = self.args.windows(2).find(|pair| pair[0] == "--state-dir")?;
        Some(PathBuf::from(&pair[1]))
    }
}

impl std::fmt::Display for Redknot {
    /// As a person would type it, near enough.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (name, value) in &self.env {
            write!(f, "{}={:?} ", name.display(), value)?;
        }
        write!(f, "redknot")?;
        for arg in &self.args {
            write!(f, " {}", arg.display())?;
        }
        Ok(())
    }
}

/// An output that is read while the process runs, so that it never blocks on a full pipe.
struct Output {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Output {
    fn collect(mut pipe: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&bytes);
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 8 * 1024];
            // Ends with the process, or with an error that means the same.
            while let Ok(read) = pipe.read(&mut buffer) {
                if read == 0 {
                    return;
                }
                sink.lock()
                    .expect("no reader has panicked")
                    .extend_from_slice(&buffer[..read]);
            }
        });
        Self { bytes, reader }
    }

    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().expect("no reader has panicked")).into_owned()
    }

    fn finish(self) -> Vec<u8> {
        self.reader.join().expect("no reader has panicked");
        std::mem::take(&mut self.bytes.lock().expect("no reader has panicked"))
    }
}

/// A process of redknot. Killed when dropped.
pub struct Running {
    command_line: String,
    secrets: Vec<Vec<u8>>,
    /// The list of processes showed one of them.
    listed: Arc<AtomicBool>,
    state_dir: Option<PathBuf>,
    audited_dir: Option<PathBuf>,
    document: Option<Document>,
    process: Child,
    began: Instant,
    time_limit: Duration,
    stdout: Output,
    stderr: Output,
    rss_max: Arc<AtomicU64>,
}

impl Running {
    /// Process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Since its start.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        self.process
            .try_wait()
            .expect("the state of a child")
            .is_none()
    }

    /// What it has said on stderr so far.
    pub fn stderr_so_far(&self) -> String {
        self.stderr.so_far()
    }

    /// What it has said on stdout so far.
    pub fn stdout_so_far(&self) -> String {
        self.stdout.so_far()
    }

    /// Sends a signal, to stop it or to freeze it.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.process);
        // It may have ended meanwhile; the exit code will say so.
        let _ = rustix::process::kill_process(pid, signal);
    }

    /// `kill -9`, now.
    pub fn kill_9(mut self) -> Finished {
        // Fails only where it has ended already, which the caller sees by `was_killed`.
        let _ = self.process.kill();
        self.wait()
    }

    /// `kill -9` at this age, unless it ends before: see [`Finished::was_killed`].
    pub fn kill_9_after(mut self, age: Duration) -> Finished {
        while self.elapsed() < age && self.is_running() {
            std::thread::sleep(Duration::from_micros(500).min(age.saturating_sub(self.elapsed())));
        }
        self.kill_9()
    }

    /// Waits until it ends by itself.
    ///
    /// # Panics
    ///
    /// At the time limit, after it was killed.
    pub fn wait(mut self) -> Finished {
        let deadline = self.time_limit.saturating_sub(self.elapsed());
        let mut status = None;
        let began = Instant::now();
        while status.is_none() && began.elapsed() < deadline {
            status = self.process.try_wait().expect("the state of a child");
            if status.is_none() {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        let wall = self.elapsed();
        let in_time = status.is_some();
        let status = match status {
            Some(status) => status,
            None => {
                let _ = self.process.kill();
                self.process.wait().expect("the exit of a child")
            }
        };
        let finished = Finished {
            command_line: std::mem::take(&mut self.command_line),
            status,
            wall,
            rss_max_bytes: self.rss_max.load(Ordering::SeqCst),
            stdout: std::mem::replace(&mut self.stdout, Output::collect(std::io::empty())).finish(),
            stderr: std::mem::replace(&mut self.stderr, Output::collect(std::io::empty())).finish(),
        };
        assert!(
            in_time,
            "still running after {:?}\n{finished}",
            self.time_limit
        );
        self.assert_kept_secrets(&finished);
        let breach = self
            .document
            .and_then(|document| contract::breach(document, &finished.stdout()));
        if let Some(breach) = breach {
            panic!("--json breaks docs/json-schema.json: {breach}\n{finished}");
        }
        if let Some(dir) = self.audited_dir.take() {
            finished.expect_audited(&dir);
        }
        finished
    }

    /// Whatever a test is about: a password that the run was given is in nothing that it said or stored.
    fn assert_kept_secrets(&self, finished: &Finished) {
        if self.secrets.is_empty() {
            return;
        }
        assert!(
            !self.listed.load(Ordering::SeqCst),
            "the list of processes showed a password of {}",
            finished.command_line
        );
        let secrets: Vec<&[u8]> = self.secrets.iter().map(Vec::as_slice).collect();
        let outputs = [finished.stdout.as_slice(), finished.stderr.as_slice()];
        let nothing = Path::new("/nonexistent");
        let folder = self.state_dir.as_deref().filter(|folder| folder.is_dir());
        let found = match folder {
            Some(folder) => secrets::search(folder, &outputs, &secrets),
            None => secrets::search_outputs(&outputs, &secrets),
        };
        let folder = folder.unwrap_or(nothing).display();
        assert!(
            found.places.is_empty(),
            "a password of {} lies around in {folder}: {:?}",
            finished.command_line,
            found.places
        );
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A process that has ended.
#[derive(Debug)]
pub struct Finished {
    /// As a person would type it.
    pub command_line: String,
    /// Exit code or signal.
    pub status: ExitStatus,
    /// From start to end.
    pub wall: Duration,
    /// Peak of its resident memory, as sampled every 5 ms; 0 if it ended before the first sample.
    pub rss_max_bytes: u64,
    /// All of it.
    pub stdout: Vec<u8>,
    /// All of it.
    pub stderr: Vec<u8>,
}

impl Finished {
    /// Exit code, if it was not ended by a signal.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Whether `kill -9` came before its own end.
    pub fn was_killed(&self) -> bool {
        self.status.signal() == Some(9)
    }

    /// Its stdout as text.
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Its stderr as text.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Panics unless it ended with this exit code, and never panicked on the way.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(
            self.code(),
            Some(code),
            "another exit code was expected\n{self}"
        );
        assert!(!self.stderr().contains("panicked at"), "a panic\n{self}");
        self
    }

    /// Panics if what lies in this folder of states does not fit together, whatever ended this process.
    #[track_caller]
    fn expect_audited(&self, state_dir: &Path) {
        // A state that the process refused is none to be checked.
        const REFUSED: [i32; 5] = [2, 13, 14, 25, 26];
        if self.code().is_some_and(|code| REFUSED.contains(&code)) {
            return;
        }
        let entries = std::fs::read_dir(state_dir).into_iter().flatten().flatten();
        let migrations = entries.filter(|entry| entry.path().join("lock").is_file());
        for migration in migrations {
            let mut command = Command::new(env!("CARGO_BIN_EXE_redknot"));
            command.args(["audit", "check", "--color", "never", "--state-dir"]);
            command.arg(state_dir).arg(migration.file_name());
            let checked = command.output().expect("the binary that has just run");
            // Another process may work on it by now.
            let fits = matches!(checked.status.code(), Some(0 | 14));
            assert!(
                fits,
                "what was recorded does not fit together ({})\n{}{}{self}",
                checked.status,
                String::from_utf8_lossy(&checked.stdout),
                String::from_utf8_lossy(&checked.stderr)
            );
        }
    }

    /// Its stdout as one JSON value a line, as `--json` prints.
    #[track_caller]
    pub fn json_lines(&self) -> Vec<serde_json::Value> {
        self.stdout()
            .lines()
            .map(|line| {
                serde_json::from_str(line)
                    .unwrap_or_else(|error| panic!("{error} in {line}\n{self}"))
            })
            .collect()
    }
}

impl std::fmt::Display for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "command: {}", self.command_line)?;
        writeln!(
            f,
            "ended:   {} after {:?}, {} KiB at most",
            self.status,
            self.wall,
            self.rss_max_bytes / 1024
        )?;
        writeln!(f, "stdout (end):\n{}", tail(&self.stdout()))?;
        write!(f, "stderr (end):\n{}", tail(&self.stderr()))
    }
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

/// `redknot status NAME --state-dir DIR --json`, parsed.
#[track_caller]
pub fn status(name: &str, state_dir: &Path) -> Status {
    let finished = Redknot::new(["status", name, "--json", "--state-dir"])
        .arg(state_dir)
        .run()
        .expect_code(0);
    serde_json::from_slice(&finished.stdout).unwrap_or_else(|error| panic!("{error}\n{finished}"))
}

/// The migration's `status.json` as it lies on disk, if it is there; for polling beside a run.
pub fn status_file(name: &str, state_dir: &Path) -> Option<Status> {
    let bytes = std::fs::read(state_dir.join(name).join("status.json")).ok()?;
    Some(
        serde_json::from_slice(&bytes)
            .expect("a whole status.json, since it is replaced atomically"),
    )
}

/// Polls `status.json` until `reached` is true of it.
pub fn wait_for_status(
    name: &str,
    state_dir: &Path,
    awaited: &str,
    reached: impl Fn(&Status) -> bool,
) -> Status {
    wait_for(awaited, TIME_LIMIT, || {
        status_file(name, state_dir).filter(|status| reached(status))
    })
}

/// Keeps the peak of a process's resident memory up to date until the process ends.
fn sample_rss(pid: u32, rss_max: Arc<AtomicU64>) {
    std::thread::spawn(move || {
        while let Some(peak) = peak_rss_bytes(pid) {
            rss_max.fetch_max(peak, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(5));
        }
    });
}

/// Looks whether other users could read one of the secrets once the process has had time to hide it.
fn watch_list_of_processes(pid: u32, secrets: &[Vec<u8>], listed: Arc<AtomicBool>) {
    /// It takes a few milliseconds; a busy machine may take longer.
    const TIME_TO_HIDE: Duration = Duration::from_secs(1);
    if secrets.is_empty() {
        return;
    }
    let secrets = secrets.to_vec();
    std::thread::spawn(move || {
        std::thread::sleep(TIME_TO_HIDE);
        let shown = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let secrets: Vec<&[u8]> = secrets.iter().map(Vec::as_slice).collect();
        let found = secrets::search_outputs(&[&shown], &secrets);
        listed.store(!found.places.is_empty(), Ordering::SeqCst);
    });
}

/// The password in `scheme://user:password@host`, as it is written there and as it is meant.
fn password_in_url(word: &OsStr) -> Vec<Vec<u8>> {
    let word = word.to_string_lossy();
    let login = word
        .split_once("://")
        .and_then(|(_, rest)| rest.rsplit_once('@'));
    let password = login.and_then(|(login, _)| login.split_once(':'));
    let Some((_, written)) = password else {
        return Vec::new();
    };
    let meant = percent_encoding::percent_decode_str(written).collect();
    // The short ones are in tests about URLs that can't be meant.
    let long = |password: &Vec<u8>| password.len() > b"PASSWORD".len();
    let passwords = [written.as_bytes().to_vec(), meant];
    passwords.into_iter().filter(long).collect()
}

/// Peak resident memory of a process so far; `None` once it has ended.
pub fn peak_rss_bytes(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}
