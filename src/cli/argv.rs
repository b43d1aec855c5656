//! Keeps passwords that stand on the command line out of the list of processes.
//!
//! Every user of a machine can read the command line of every process, its environment only whoever owns the process. So a
//! command line that may hold a password is handed over in a variable of the environment, to the same program in the same
//! process (exec), whose command line then has `***` in the place of what stands before an `@`. What no program can hide is
//! the moment until then, and the shell's history.
//!
//! # Invariant
//!
//! The words are what they were, to the byte. Where the program can't be executed anew, it goes on as it is.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::process::Command;

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, percent_encode};

/// Holds this process's number and the words that its command line had, percent-encoded, with blanks between them.
const VARIABLE: &str = "REDKNOT_COMMAND_LINE";

/// The command line, which from now on shows no password, if that can be had.
pub fn without_passwords(words: Vec<OsString>) -> Vec<OsString> {
    if let Some(handed_over) = handed_over() {
        return handed_over;
    }
    if words.iter().any(|word| masked(word).is_some()) {
        // Returns only if it fails: then whoever gave the password is told that others may see it.
        let _ = execute_anew(&words);
    }
    words
}

/// Whether the list of processes shows another command line than there was.
pub fn is_masked() -> bool {
    handed_over().is_some()
}

fn execute_anew(words: &[OsString]) -> std::io::Error {
    let (Ok(program), Some((name, rest))) = (std::env::current_exe(), words.split_first()) else {
        return std::io::ErrorKind::NotFound.into();
    };
    let shown = rest
        .iter()
        .map(|word| masked(word).unwrap_or_else(|| word.clone()));
    let mut said = std::process::id().to_string();
    for word in words {
        said.push(' ');
        said.extend(percent_encode(word.as_bytes(), NON_ALPHANUMERIC));
    }
    Command::new(program)
        .arg0(name)
        .args(shown)
        .env(VARIABLE, said)
        .exec()
}

/// What an earlier program in this process has handed over. A child would inherit the variable, and is not meant.
fn handed_over() -> Option<Vec<OsString>> {
    let said = std::env::var(VARIABLE).ok()?;
    let (process, words) = said.split_once(' ')?;
    (process == std::process::id().to_string()).then(|| words.split(' ').map(decoded).collect())
}

fn decoded(word: &str) -> OsString {
    OsString::from_vec(percent_decode_str(word).collect())
}

/// The word without what may be a password in it; `None` if there can't be one.
fn masked(word: &OsStr) -> Option<OsString> {
    let bytes = word.as_bytes();
    let host = bytes.iter().rposition(|byte| *byte == b'@')?;
    let before = &bytes[..host];
    let flag = match before.iter().position(|byte| *byte == b'=') {
        Some(equals) if bytes.starts_with(b"-") => equals + 1,
        _ => 0,
    };
    let login = flag + scheme_len(&before[flag..]);
    let shown = [&bytes[..login], b"***", &bytes[host..]].concat();
    Some(OsString::from_vec(shown))
}

/// `redis://` and whatever looks like it; what has other characters in it may be a part of a password.
fn scheme_len(url: &[u8]) -> usize {
    let name = url.iter().position(|byte| *byte == b':').unwrap_or(0);
    let is_scheme = url[..name]
        .iter()
        .all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'+' | b'-'));
    match is_scheme && url[name..].starts_with(b"://") {
        true => name + 3,
        false => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_before_a_host_is_not_shown() {
        for (word, shown) in [
            ("redis://:secret@host:1/2", Some("redis://***@host:1/2")),
            ("redis://user:se@cr/et@host", Some("redis://***@host")),
            (
                "--from=rediss://u:secret@host",
                Some("--from=rediss://***@host"),
            ),
            ("-from=u:secret@host", Some("-from=***@host")),
            ("u:sec=ret@host", Some("***@host")),
            ("--from=x:sec://ret@host", Some("--from=***@host")),
            ("redis+unix://:pw@/a/b", Some("redis+unix://***@/a/b")),
            ("redis://host:6379/3", None),
            ("migrate", None),
        ] {
            assert_eq!(
                masked(OsStr::new(word)).as_deref(),
                shown.map(OsStr::new),
                "{word}"
            );
        }
    }

    #[test]
    fn any_bytes_come_back() {
        let word = OsString::from_vec((1..=255).collect());
        let encoded = percent_encode(word.as_bytes(), NON_ALPHANUMERIC).to_string();
        assert!(!encoded.contains(' '));
        assert_eq!(decoded(&encoded), word);
        assert_eq!(decoded(""), "");
    }
}
