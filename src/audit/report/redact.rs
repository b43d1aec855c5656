//! How names of keys are shown, and kept out of everything else where they are not to be.
//!
//! # Invariant
//!
//! With any redaction but none, no name of a key is in the report: not in a list, and not in a message or a pattern either.

use super::model::Redaction;
use crate::audit::journal::hex;
use crate::key::{Escaped, visible};

/// Bytes of a name that are shown.
const SHOWN_BYTES: usize = 200;

/// A key's name; `whole` is its length where only its beginning is known.
pub fn name(redaction: Redaction, name: &[u8], whole: u64) -> String {
    match redaction {
        Redaction::None => shown(name, whole),
        Redaction::Hash => digest(name),
        Redaction::Prefix => match prefix(name) {
            Some(prefix) => format!("{}\u{2026} {}", shown(prefix, 0), digest(name)),
            None => digest(name),
        },
    }
}

/// What comes before the first colon, and the colon; only if something follows.
fn prefix(name: &[u8]) -> Option<&[u8]> {
    let colon = name.iter().position(|byte| *byte == b':')?;
    (colon + 1 < name.len()).then_some(&name[..=colon])
}

fn shown(name: &[u8], whole: u64) -> String {
    let part = &name[..name.len().min(SHOWN_BYTES)];
    let bytes = whole.max(name.len() as u64);
    match bytes > part.len() as u64 {
        true => format!("{}\u{2026} ({bytes} bytes)", Escaped(part)),
        false => Escaped(part).to_string(),
    }
}

fn digest(name: &[u8]) -> String {
    let hash = hex(&blake3::hash(name).as_bytes()[..8]);
    format!("blake3:{hash}")
}

/// A message of redknot's own, which may quote names and servers.
pub fn message(redaction: Redaction, text: &str) -> String {
    let text = visible(text);
    match redaction {
        Redaction::None => text,
        Redaction::Hash | Redaction::Prefix => without_quotes(&text),
    }
}

/// A server's words, which may be anything: only the first, if it is a code, is known to be no name.
pub fn error(redaction: Redaction, line: &str) -> String {
    match redaction {
        Redaction::None => visible(line),
        Redaction::Hash | Redaction::Prefix => {
            let code = line.split_whitespace().next().unwrap_or_default();
            let is_code = !code.is_empty() && code.bytes().all(|byte| byte.is_ascii_uppercase());
            match is_code && code.len() <= 16 {
                true => format!("{code} \u{2026}"),
                false => "\u{2026}".to_owned(),
            }
        }
    }
}

/// Replaces what stands between double quotes; a quote behind a backslash is part of it.
fn without_quotes(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut quoted = false;
    let mut escaped = false;
    for character in text.chars() {
        match (quoted, character) {
            (false, '"') => {
                quoted = true;
                kept.push_str("\"\u{2026}\"");
            }
            (true, '"') if !escaped => quoted = false,
            (true, _) => {}
            (false, _) => kept.push(character),
        }
        escaped = quoted && character == '\\' && !escaped;
    }
    kept
}

/// A pattern for names: without a wildcard it is one.
pub fn pattern(redaction: Redaction, glob: &[u8]) -> String {
    match redaction {
        Redaction::None => Escaped(glob).to_string(),
        Redaction::Hash | Redaction::Prefix => name(redaction, glob, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_shown_as_was_asked_for() {
        let check = |redaction, bytes: &[u8], wanted: &str| {
            let hash = hex(&blake3::hash(bytes).as_bytes()[..8]);
            assert_eq!(
                name(redaction, bytes, bytes.len() as u64),
                wanted.replace("HASH", &format!("blake3:{hash}"))
            );
        };
        check(Redaction::None, b"user:1\n", "user:1\\n");
        check(Redaction::Hash, b"user:1", "HASH");
        check(Redaction::Prefix, b"user:1", "user:\u{2026} HASH");
        check(Redaction::Prefix, b"secret", "HASH");
        // All of it would be shown.
        check(Redaction::Prefix, b"secret:", "HASH");
        let long = [b'x'; 300];
        assert!(name(Redaction::None, &long, 5000).ends_with("x\u{2026} (5000 bytes)"));
    }

    #[test]
    fn messages_and_errors_keep_no_name() {
        let check = |text: &str, wanted: &str| assert_eq!(message(Redaction::Hash, text), wanted);
        check(
            "failed to restore \"user:1\": it is there",
            "failed to restore \"\u{2026}\": it is there",
        );
        check("a \"x\\\"y\" b \"z", "a \"\u{2026}\" b \"\u{2026}\"");
        check("nothing quoted", "nothing quoted");
        assert_eq!(
            message(Redaction::None, "a \"x\"\u{202e}"),
            "a \"x\"\\xe2\\x80\\xae"
        );
        assert_eq!(
            error(Redaction::Prefix, "NOPERM no access to user:1"),
            "NOPERM \u{2026}"
        );
        assert_eq!(error(Redaction::Hash, "user:1 is bad"), "\u{2026}");
        assert_eq!(pattern(Redaction::None, b"user:*"), "user:*");
        assert!(!pattern(Redaction::Hash, b"user:1").contains("user"));
    }
}
