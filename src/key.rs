//! How a key's name is shown to people.
//!
//! A key is any byte string, and it comes from a server that we do not trust: printed raw it could move the cursor of
//! the operator's terminal or forge a line of a log.

use std::fmt::{self, Write};

/// Prints a key so that it is one line of visible ASCII or UTF-8 and can be read back.
///
/// Control characters, backslash, quotes, and bytes that are not UTF-8 are escaped as `\n`, `\\`, `\"`, `\x1b`, as redis-cli does.
///
/// ```
/// assert_eq!(redknot::key::Escaped(b"cart\x1b[31m\n").to_string(), r"cart\x1b[31m\n");
/// ```
#[derive(Clone, Copy)]
pub struct Escaped<'a>(pub &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                match character {
                    '\n' => f.write_str("\\n")?,
                    '\r' => f.write_str("\\r")?,
                    '\t' => f.write_str("\\t")?,
                    '\\' => f.write_str("\\\\")?,
                    '"' => f.write_str("\\\"")?,
                    // Other invisible characters, among them the ones that reorder text on a terminal.
                    c if is_invisible(c) => write_bytes(f, c)?,
                    c => write!(f, "{c}")?,
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// What is wrong with an escaped name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnescapeError {
    /// A backslash with nothing behind it.
    #[error("nothing follows the `\\` at its end")]
    Unfinished,
    /// A backslash with something behind it that is never escaped.
    #[error("`\\` is followed by {}", Escaped(&[*.0]))]
    Unknown(u8),
    /// `\x` without two hexadecimal digits.
    #[error("`\\x` needs two hexadecimal digits")]
    Digits,
}

/// The name that [`Escaped`] shows as `text`. What redis-cli escapes beyond that (`\a`, `\b`) is understood as well; bytes
/// that need no escape stand for themselves.
///
/// # Errors
///
/// If a backslash begins nothing that is known.
///
/// ```
/// assert_eq!(redknot::key::unescape(br"cart\x1b\n").as_deref(), Ok(b"cart\x1b\n".as_slice()));
/// ```
pub fn unescape(text: &[u8]) -> Result<Vec<u8>, UnescapeError> {
    let mut name = Vec::with_capacity(text.len());
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            name.push(byte);
            continue;
        }
        name.push(match bytes.next().ok_or(UnescapeError::Unfinished)? {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'a' => 0x07,
            b'b' => 0x08,
            same @ (b'\\' | b'"') => same,
            b'x' => {
                let mut digit = || {
                    let digit = char::from(bytes.next().ok_or(UnescapeError::Digits)?);
                    digit.to_digit(16).ok_or(UnescapeError::Digits)
                };
                let (high, low) = (digit()?, digit()?);
                u8::try_from(high * 16 + low).map_err(|_| UnescapeError::Digits)?
            }
            other => return Err(UnescapeError::Unknown(other)),
        });
    }
    Ok(name)
}

/// `text`, which is meant for people but may quote a server, as one line without invisible characters. Unlike
/// [`Escaped`], it can't be read back.
///
/// ```
/// assert_eq!(redknot::key::visible("it says \"no\"\n\x1b[31m"), r#"it says "no" \x1b[31m"#);
/// ```
pub fn visible(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        // Writing to a string can't fail.
        let _ = match character {
            '\n' | '\r' | '\t' => line.write_char(' '),
            c if is_invisible(c) => write_bytes(&mut line, c),
            c => line.write_char(c),
        };
    }
    line
}

fn is_invisible(c: char) -> bool {
    c.is_control() || is_format(c)
}

fn write_bytes(to: &mut impl Write, c: char) -> fmt::Result {
    let mut utf8 = [0; 4];
    c.encode_utf8(&mut utf8)
        .bytes()
        .try_for_each(|byte| write!(to, "\\x{byte:02x}"))
}

/// Characters without a shape of their own that change how their neighbours are shown (Unicode category Cf).
fn is_format(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Escaped, UnescapeError, unescape};

    #[test]
    fn a_key_is_one_visible_line() {
        let check = |key: &[u8], shown: &str| assert_eq!(Escaped(key).to_string(), shown);
        check(b"user:1093:cart", "user:1093:cart");
        check(
            "schl\u{fc}ssel \u{1f426}".as_bytes(),
            "schl\u{fc}ssel \u{1f426}",
        );
        check(b"", "");
        check(b"a\nb\r\t\\\"", "a\\nb\\r\\t\\\\\\\"");
        check(b"\x1b[31mred\x00", "\\x1b[31mred\\x00");
        check(b"\xff\xfe", "\\xff\\xfe");
        check("\u{202e}evil".as_bytes(), "\\xe2\\x80\\xaeevil");
    }

    #[test]
    fn what_is_no_escape_is_refused() {
        let check = |text: &[u8], wanted| assert_eq!(unescape(text), Err(wanted));
        check(b"a\\", UnescapeError::Unfinished);
        check(b"a\\q", UnescapeError::Unknown(b'q'));
        check(b"\\x1", UnescapeError::Digits);
        check(b"\\xzz", UnescapeError::Digits);
        assert_eq!(
            unescape(b"\\a\\b\\X".as_slice()),
            Err(UnescapeError::Unknown(b'X'))
        );
        assert_eq!(unescape(b"\xff raw \\xFF"), Ok(b"\xff raw \xff".to_vec()));
    }

    proptest! {
        #[test]
        fn a_name_that_was_shown_can_be_read_back(name in prop::collection::vec(any::<u8>(), 0..40), text in ".{0,20}") {
            for name in [name, text.into_bytes()] {
                let shown = Escaped(&name).to_string();
                prop_assert!(!shown.contains(['\n', '\t', '\r']));
                prop_assert_eq!(unescape(shown.as_bytes()), Ok(name));
            }
        }
    }
}
