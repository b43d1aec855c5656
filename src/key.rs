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
    use super::Escaped;

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
}
