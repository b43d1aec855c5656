//! Where passwords come from: a file, the environment, a prompt, and last the URL.
//!
//! # Invariant
//!
//! A password goes from here into an [`redknot::endpoint::Endpoint`] and nowhere else; no message contains one.

use std::ffi::OsString;
use std::io::{IsTerminal, Read};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::console::Console;
use super::failure::Failure;
use super::server_args::{SourceArgs, TargetArgs};

/// Longest password that is read from a file; a longer one is some other file.
const PASSWORD_BYTES_MAX: u64 = 64 * 1024;

/// The password in a file, without the newline at its end. `-` is standard input.
///
/// # Errors
///
/// If the file can't be read, is a folder, is empty, or can't be a password.
pub fn from_file(path: &Path, flag: &str, console: &Console) -> Result<Vec<u8>, Failure> {
    let refuse = |why: &str, hint: &str| {
        let what = format!("{flag} {}: no password in it", path.display());
        Err(Failure::usage(what, why, hint))
    };
    const HINT: &str = "the file holds the password and nothing else";
    let read = if path == Path::new("-") {
        if std::io::stdin().is_terminal() {
            let askpass = flag.replace("pass-file", "askpass");
            return refuse(
                "standard input is a terminal, which would show what is typed",
                &format!("use {askpass}"),
            );
        }
        read_limited(std::io::stdin().lock())
    } else {
        std::fs::File::open(path).and_then(|file| {
            warn_of_readers(path, flag, "the password", console);
            read_limited(file)
        })
    };
    let mut password = match read {
        Ok(password) => password,
        Err(error) => return refuse(&error.to_string(), HINT),
    };
    if password.len() as u64 > PASSWORD_BYTES_MAX {
        return refuse("it has more than 64 KiB", HINT);
    }
    if password.last() == Some(&b'\n') {
        password.pop();
        if password.last() == Some(&b'\r') {
            password.pop();
        }
    }
    if password.is_empty() {
        return refuse("it is empty", HINT);
    }
    Ok(password)
}

/// Warns of a file with a secret that others can read. What can't be looked at can't be read either, which is said then.
pub fn warn_of_readers(path: &Path, flag: &str, secret: &str, console: &Console) {
    let Ok(metadata) = std::fs::metadata(path) else {
        return;
    };
    let mode = metadata.permissions().mode() & 0o777;
    // A pipe, as in `--from-pass-file <(pass show redis)`, has no readers to fear.
    if metadata.is_file() && mode & 0o077 != 0 {
        let path = path.display();
        console.warn(&format!(
            "{flag} {path} has mode {mode:04o}: others can read {secret} (chmod 600 {path})"
        ));
    }
}

fn read_limited(from: impl Read) -> std::io::Result<Vec<u8>> {
    let mut password = Vec::new();
    from.take(PASSWORD_BYTES_MAX + 1)
        .read_to_end(&mut password)?;
    Ok(password)
}

/// The password in an environment variable; an empty variable is as good as none.
pub fn from_env(variable: &str) -> Option<Vec<u8>> {
    let password = std::env::var_os(variable).map(OsString::into_vec);
    password.filter(|password| !password.is_empty())
}

/// Asks on the terminal. What is typed is not shown.
///
/// # Errors
///
/// If there is no terminal to ask on, or nobody may be asked.
pub fn from_prompt(question: &str, flag: &str, no_input: bool) -> Result<Vec<u8>, Failure> {
    let instead = flag.replace("askpass", "pass-file");
    let hint = format!("use {instead} FILE, or {instead} - for standard input");
    let refuse = |why: String| {
        Failure::usage(
            format!("{flag}: the password can't be asked for"),
            why,
            hint.as_str(),
        )
    };
    if no_input {
        return Err(refuse("--no-input forbids to ask".into()));
    }
    if !std::io::stdin().is_terminal() {
        return Err(refuse("standard input is no terminal".into()));
    }
    match rpassword::prompt_password(question) {
        Ok(password) => Ok(password.into_bytes()),
        Err(error) => Err(refuse(error.to_string())),
    }
}

/// Pairs of flags about passwords that can't both be meant, and why.
pub fn contradictions(
    source: &SourceArgs,
    target: &TargetArgs,
    no_input: bool,
) -> [(bool, &'static str, &'static str); 9] {
    let is_stdin = |path: &Option<PathBuf>| path.as_deref() == Some(Path::new("-"));
    let (from_stdin, to_stdin) = (
        is_stdin(&source.from_pass_file),
        is_stdin(&target.to_pass_file),
    );
    let sentinels_stdin = [
        is_stdin(&source.from_sentinel_pass_file),
        is_stdin(&target.to_sentinel_pass_file),
    ];
    [
        (
            sentinels_stdin[0] && sentinels_stdin[1],
            "--from-sentinel-pass-file - and --to-sentinel-pass-file -",
            "standard input can hold only one password",
        ),
        (
            sentinels_stdin.contains(&true) && (from_stdin || to_stdin),
            "a server's --…-pass-file - and its sentinels' --…-sentinel-pass-file -",
            "standard input can hold only one password",
        ),
        (
            from_stdin && to_stdin,
            "--from-pass-file - and --to-pass-file -",
            "standard input can hold only one password",
        ),
        (
            source.from_pass_file.is_some() && source.from_askpass,
            "--from-pass-file and --from-askpass",
            "both give the password of the source",
        ),
        (
            target.to_pass_file.is_some() && target.to_askpass,
            "--to-pass-file and --to-askpass",
            "both give the password of the target",
        ),
        (
            from_stdin && target.to_askpass,
            "--from-pass-file - and --to-askpass",
            "standard input holds the one password, so nobody can type the other",
        ),
        (
            to_stdin && source.from_askpass,
            "--to-pass-file - and --from-askpass",
            "standard input holds the one password, so nobody can type the other",
        ),
        (
            no_input && source.from_askpass,
            "--no-input and --from-askpass",
            "the one forbids what the other does",
        ),
        (
            no_input && target.to_askpass,
            "--no-input and --to-askpass",
            "the one forbids what the other does",
        ),
    ]
}
