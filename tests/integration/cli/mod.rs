//! The command line: what it refuses and how it says so, what it shows, and how it ends.
//!
//! # Invariant
//!
//! What an operator can get wrong has its exit code and its message here, as a snapshot: what, why, and a hint. No row
//! panics.

/// The demonstration, and the old tool's spelling.
mod demo;
/// `keys`: every name, harmless.
mod keys;
/// A source with keys, and an empty target.
mod pair;
/// Every command as it is really used: passwords, files, variables.
mod passwords;
/// What other users of the machine can see.
mod processes;
mod rump;
/// What may lie where the state belongs, and `status`.
/// Databases, names and lists that can't be meant.
mod selection;
/// What servers can have that a migration can't begin with.
mod servers;
/// Ctrl-C, SIGTERM, closed pipes, terminals.
mod signals;
mod state;
mod status;
/// Runs that may only take so long, or work only in some hours of the day.
mod times;
/// Words that can't be meant.
mod usage;

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::redknot::{Finished, Redknot};
use crate::support::wait_for;

/// How a command ended and what it said, in a form for snapshots.
pub struct Said(String);

impl Said {
    pub fn of(finished: &Finished) -> Self {
        let code = finished
            .code()
            .map_or_else(|| "none".to_owned(), |code| code.to_string());
        let mut text = format!("exit {code}\n{}", finished.stderr());
        if !finished.stdout.is_empty() {
            text.push_str(&format!("--- stdout\n{}", finished.stdout()));
        }
        assert!(
            !text.contains("panicked at") && !text.contains("internal error"),
            "{text}"
        );
        Self(text)
    }

    /// Shows `name` where `text`, another one in every run, stands.
    pub fn hide(self, text: &str, name: &str) -> Self {
        Self(self.0.replace(text, name))
    }

    /// Shows `name` instead of a path.
    pub fn hide_path(self, path: &Path, name: &str) -> Self {
        self.hide(&path.display().to_string(), name)
    }
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.trim_end())
    }
}

/// Several command lines and what each of them ended with. An argument is a word without spaces.
fn said_of_all(lines: &[&str]) -> String {
    let mut text = String::new();
    for line in lines {
        let finished = Redknot::new(line.split(' ').filter(|word| !word.is_empty())).run();
        text.push_str(&format!("$ redknot {line}\n{}\n\n", Said::of(&finished)));
    }
    text
}

/// `redknot ARGS…` with something on its standard input.
fn with_stdin<A: AsRef<OsStr>>(
    args: impl IntoIterator<Item = A>,
    stdin: &[u8],
) -> std::process::Output {
    let mut child = command(env!("CARGO_BIN_EXE_redknot"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may end without reading all of it.
    let _ = child.stdin.take().unwrap().write_all(stdin);
    child.wait_with_output().unwrap()
}

/// `redknot ARGS…` on a terminal of its own with so many columns. `typed` is typed once its first part is shown. Returns
/// the exit code and everything that the terminal was sent.
pub fn on_terminal(
    args: &[&str],
    env: &[(&str, &str)],
    columns: u32,
    typed: Option<(&str, &[u8])>,
) -> (Option<i32>, String) {
    on_a_terminal(args, env, columns, typed, true)
}

/// The same, for a question whose answer is no secret.
pub fn answered_on_terminal(args: &[&str], question: &str, keys: &[u8]) -> (Option<i32>, String) {
    on_a_terminal(args, &[], 80, Some((question, keys)), false)
}

fn on_a_terminal(
    args: &[&str],
    env: &[(&str, &str)],
    columns: u32,
    typed: Option<(&str, &[u8])>,
    secret: bool,
) -> (Option<i32>, String) {
    let words: Vec<String> = args.iter().map(|word| format!("'{word}'")).collect();
    let line = format!(
        "stty cols {columns}; exec '{}' {}",
        env!("CARGO_BIN_EXE_redknot"),
        words.join(" ")
    );
    let mut child = command("script")
        .args([
            "--quiet",
            "--flush",
            "--return",
            "--command",
            &line,
            "/dev/null",
        ])
        .env("TERM", "xterm")
        .envs(env.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("script(1) gives a command a terminal");
    let mut keyboard = child.stdin.take().unwrap();
    let mut screen = child.stdout.take().unwrap();
    let mut shown = Vec::new();
    if let Some((prompt, keys)) = typed {
        let mut byte = [0];
        while !String::from_utf8_lossy(&shown).contains(prompt) {
            assert_eq!(
                screen.read(&mut byte).unwrap(),
                1,
                "{}",
                String::from_utf8_lossy(&shown)
            );
            shown.push(byte[0]);
        }
        let wait = "the terminal to show no more of what is typed";
        wait_for(wait, Duration::from_secs(10), || {
            (!secret || !shows_what_is_typed(child.id())).then_some(())
        });
        keyboard.write_all(keys).unwrap();
    }
    screen.read_to_end(&mut shown).unwrap();
    let status = child.wait().unwrap();
    (status.code(), String::from_utf8_lossy(&shown).into_owned())
}

/// Whether the terminal of the process that `script`, a process of this id, started has its echo on.
fn shows_what_is_typed(script: u32) -> bool {
    use rustix::termios::{LocalModes, tcgetattr};
    children(script).into_iter().all(|pid| {
        let terminal = std::fs::File::open(format!("/proc/{pid}/fd/0")).unwrap();
        tcgetattr(terminal)
            .unwrap()
            .local_modes
            .contains(LocalModes::ECHO)
    })
}

/// A command without anything in its environment that speaks to redknot.
fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"REDKNOT_") || name == "NO_COLOR" {
            command.env_remove(name);
        }
    }
    command
}

/// Process ids whose parent is `pid`.
fn children(pid: u32) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    numbers
        .filter(|number| {
            let stat = std::fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
            // The name, which may contain anything, stands in parentheses before the state and the parent.
            let after = stat
                .rsplit_once(')')
                .map(|(_, after)| after.to_owned())
                .unwrap_or_default();
            after
                .split_whitespace()
                .nth(1)
                .and_then(|parent| parent.parse().ok())
                == Some(pid)
        })
        .collect()
}
