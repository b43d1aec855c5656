//! Reads replies as flat tokens, from input that may end anywhere.
//!
//! # Invariants
//!
//! - A byte is searched once, however many calls it takes until its token is whole: a header line's search goes on
//!   where it stopped, and a bulk string is not searched at all.
//! - A token's bytes are slices of the input buffer. They are never copied, and they keep that buffer alive.
//! - After an error every later call fails as well: where the next reply begins is unknown, so the connection is lost.

use bytes::{Buf, Bytes, BytesMut};

use crate::key::Escaped;

/// The longest bulk string taken from a server. DUMP's replies may exceed `proto-max-bulk-len` (512 MiB by default),
/// which bounds one argument and not one value; beyond 4 GiB no payload could be restored anywhere.
pub const BULK_BYTES_MAX: u64 = 4 << 30;

/// The most elements that an array may announce. A SCAN reply has as many as a hash bucket run holds, so this only
/// refuses nonsense.
pub const ARRAY_ELEMENTS_MAX: u64 = u32::MAX as u64;

/// The longest status or error line, CRLF included. Redis cuts its own at far less (it quotes at most 128 bytes of
/// arguments); scripts and proxies may say more.
pub const LINE_BYTES_MAX: usize = 64 * 1024;

/// The longest line that holds nothing but a number: a type byte, 20 characters of an `i64`, CRLF, and some zeros.
const NUMBER_LINE_BYTES_MAX: usize = 32;

/// How much of an answer that is not RESP is shown.
const PREVIEW_BYTES_MAX: usize = 48;

const _: () = {
    // Otherwise a number that fits its type could be refused as a line that is too long.
    assert!(NUMBER_LINE_BYTES_MAX >= 1 + 20 + 2);
    assert!(NUMBER_LINE_BYTES_MAX <= LINE_BYTES_MAX);
};

/// One item of a reply. A nested array is its [`Token::Array`] followed by the tokens of its elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    /// A status line such as `OK`, without its `+`.
    Simple(Bytes),
    /// An error line, without its `-`.
    Error(Bytes),
    /// A number.
    Integer(i64),
    /// A string of any bytes.
    Bulk(Bytes),
    /// A string of so many bytes, which were not kept ([`Decoder::skip_above`]).
    Skipped(u64),
    /// The nil bulk string or the nil array.
    Null,
    /// So many elements follow. The number is a claim of the server: don't reserve memory for it.
    Array(usize),
}

/// Why the input is not RESP2. The connection it came from is of no further use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// No reply begins like this; holds the first bytes, so that an HTTP or a TLS answer can be recognised.
    #[error("not a Redis reply: \"{}\"", Escaped(.0))]
    UnknownType(Bytes),
    /// A header line has no end within its limit.
    #[error("a reply's line does not end within {0} bytes")]
    LineTooLong(usize),
    /// A line feed without a carriage return, or a bulk string that is not followed by both.
    #[error("a reply's line or string does not end with CRLF")]
    MissingCrlf,
    /// A number was expected.
    #[error("not a number in a reply: \"{}\"", Escaped(.0))]
    BadNumber(Bytes),
    /// A length below -1.
    #[error("a reply announces a negative length: {0}")]
    NegativeLength(i64),
    /// More than [`BULK_BYTES_MAX`].
    #[error("a reply announces a string of {0} bytes, more than {BULK_BYTES_MAX}")]
    BulkTooLong(u64),
    /// More than [`ARRAY_ELEMENTS_MAX`].
    #[error("a reply announces an array of {0} elements, more than {ARRAY_ELEMENTS_MAX}")]
    ArrayTooLong(u64),
}

/// Takes tokens off the front of one connection's input.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The bytes at the front of the input that hold no line feed.
    searched: usize,
    /// The length of a bulk string whose header has been taken off the input.
    bulk: Option<usize>,
    /// Longer strings are not kept.
    skip_above: Option<usize>,
    /// Of a string that is not kept: its length, and how many bytes are still to come, CRLF included.
    skipping: Option<(usize, usize)>,
    /// See [`Decoder::bytes_wanted`].
    wanted: usize,
    #[cfg(test)]
    bytes_searched: usize,
}

impl Decoder {
    /// A decoder at the beginning of a reply.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bulk strings longer than this that begin from now on are not kept, only counted; `None`: all are kept.
    #[inline]
    pub fn skip_above(&mut self, bytes: Option<usize>) {
        self.skip_above = bytes;
    }

    /// Takes the next whole token off the front of `input`; `None` means that more bytes are needed.
    ///
    /// Between two calls `input` may only grow at its end.
    ///
    /// # Errors
    ///
    /// The input is not RESP2, or it exceeds a limit.
    #[inline]
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Option<Token>, DecodeError> {
        if let Some(len) = self.bulk {
            return self.take_bulk(len, input);
        }
        if let Some((len, left)) = self.skipping {
            return self.skip(len, left, input);
        }
        // What a target says a million times: no search, and nothing that keeps the buffer alive.
        if self.searched == 0 && input.starts_with(b"+OK\r\n") {
            input.advance(5);
            return Ok(Some(Token::Simple(Bytes::from_static(b"OK"))));
        }
        if self.searched == 0
            && let Some((kind, number, line_bytes)) = short_number(input)
        {
            return self.take_number(kind, number, line_bytes, input);
        }
        let Some(line_feed) = self.find_line_feed(input)? else {
            self.wanted = 1;
            return Ok(None);
        };
        self.take_line(line_feed, input)
    }

    /// A lower bound on the bytes that [`Decoder::next`] still needs before it can return a token, at least 1 after it
    /// returned `None`.
    ///
    /// Exact inside a bulk string, so that a reader can make room for a big one at once. It is a claim of the server, up
    /// to [`BULK_BYTES_MAX`]: a reader that does not trust the server makes room in steps.
    pub fn bytes_wanted(&self) -> usize {
        self.wanted
    }

    /// Where the line at the front of `input` ends, or `None` while its end has not arrived.
    fn find_line_feed(&mut self, input: &[u8]) -> Result<Option<usize>, DecodeError> {
        let Some(&kind) = input.first() else {
            return Ok(None);
        };
        let line_bytes_max = match kind {
            b'+' | b'-' => LINE_BYTES_MAX,
            b':' | b'$' | b'*' => NUMBER_LINE_BYTES_MAX,
            _ => return Err(DecodeError::UnknownType(preview(input))),
        };
        let end = input.len().min(line_bytes_max);
        let unsearched = input.get(self.searched..end).unwrap_or_default();
        let found = unsearched.iter().position(|&byte| byte == b'\n');
        #[cfg(test)]
        {
            self.bytes_searched += found.map_or(unsearched.len(), |at| at + 1);
        }
        match found {
            Some(at) => Ok(Some(self.searched.saturating_add(at))),
            None if end == line_bytes_max => Err(DecodeError::LineTooLong(line_bytes_max)),
            None => {
                self.searched = end;
                Ok(None)
            }
        }
    }

    /// Takes the line that ends at `line_feed`, and the bulk string that it announces.
    fn take_line(
        &mut self,
        line_feed: usize,
        input: &mut BytesMut,
    ) -> Result<Option<Token>, DecodeError> {
        let Some((&[kind, ref text @ .., b'\r'], _)) = input.split_at_checked(line_feed) else {
            return Err(DecodeError::MissingCrlf);
        };
        let token = match kind {
            b'+' => Token::Simple(take_text(text.len(), input)),
            b'-' => Token::Error(take_text(text.len(), input)),
            _ => {
                let number = parse_number(text)?;
                return self.take_number(kind, number, line_feed.saturating_add(1), input);
            }
        };
        self.searched = 0;
        Ok(Some(token))
    }

    /// Takes the line of `line_bytes` that says `number`, and the bulk string that it announces.
    #[inline]
    fn take_number(
        &mut self,
        kind: u8,
        number: i64,
        line_bytes: usize,
        input: &mut BytesMut,
    ) -> Result<Option<Token>, DecodeError> {
        let token = match kind {
            b':' => Token::Integer(number),
            // RESP2 has two nils, `$-1` and `*-1`; they mean the same.
            _ if number == -1 => Token::Null,
            b'*' => Token::Array(length(
                number,
                ARRAY_ELEMENTS_MAX,
                DecodeError::ArrayTooLong,
            )?),
            _ => {
                let len = length(number, BULK_BYTES_MAX, DecodeError::BulkTooLong)?;
                input.advance(line_bytes);
                self.searched = 0;
                if self.skip_above.is_some_and(|most| len > most) {
                    return self.skip(len, len.saturating_add(2), input);
                }
                self.bulk = Some(len);
                return self.take_bulk(len, input);
            }
        };
        input.advance(line_bytes);
        self.searched = 0;
        Ok(Some(token))
    }

    /// Takes a bulk string whose header is gone from `input`, and the CRLF behind it.
    #[inline]
    fn take_bulk(
        &mut self,
        len: usize,
        input: &mut BytesMut,
    ) -> Result<Option<Token>, DecodeError> {
        let with_crlf = len.saturating_add(2);
        let Some(end) = input.get(len..with_crlf) else {
            self.wanted = with_crlf.saturating_sub(input.len());
            return Ok(None);
        };
        if end != b"\r\n" {
            return Err(DecodeError::MissingCrlf);
        }
        let bytes = input.split_to(len).freeze();
        input.advance(2);
        self.bulk = None;
        Ok(Some(Token::Bulk(bytes)))
    }
}

impl Decoder {
    /// Takes what is there of a string that is not kept, of which `left` bytes are still to come with the CRLF behind it.
    #[cold]
    fn skip(
        &mut self,
        len: usize,
        left: usize,
        input: &mut BytesMut,
    ) -> Result<Option<Token>, DecodeError> {
        // The last two bytes are looked at together.
        let now = match input.len() >= left {
            true => left.saturating_sub(2),
            false => input.len().min(left.saturating_sub(2)),
        };
        input.advance(now);
        let left = left.saturating_sub(now);
        if left > 2 || input.len() < 2 {
            self.skipping = Some((len, left));
            self.wanted = 1;
            return Ok(None);
        }
        if !input.starts_with(b"\r\n") {
            return Err(DecodeError::MissingCrlf);
        }
        input.advance(2);
        self.skipping = None;
        Ok(Some(Token::Skipped(len as u64)))
    }
}

/// Takes a type byte, `len` bytes of text and CRLF, all of which are there, and returns the text.
fn take_text(len: usize, input: &mut BytesMut) -> Bytes {
    input.advance(1);
    let text = input.split_to(len).freeze();
    input.advance(2);
    text
}

/// The type, the number and the length of the line at the front of `input`, in one look at each byte.
///
/// Only where enough bytes are there for any number's line, so that none is looked at again for having been incomplete;
/// and only for up to 18 digits, which can't overflow. `None` leaves the line to [`parse_number`].
#[inline]
fn short_number(input: &[u8]) -> Option<(u8, i64, usize)> {
    const DIGITS_MAX: usize = 18;
    let (&[kind, ref text @ ..], _) = input.split_first_chunk::<NUMBER_LINE_BYTES_MAX>()?;
    if !matches!(kind, b':' | b'$' | b'*') {
        return None;
    }
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, &digits[..]),
        digits => (false, &digits[..]),
    };
    let mut number = 0i64;
    for (at, &byte) in digits.iter().enumerate().take(DIGITS_MAX.saturating_add(1)) {
        let digit = byte.wrapping_sub(b'0');
        if digit <= 9 {
            number = number.wrapping_mul(10).wrapping_add(i64::from(digit));
            continue;
        }
        let whole = at > 0 && byte == b'\r' && digits.get(at.saturating_add(1)) == Some(&b'\n');
        return whole.then(|| {
            let number = if negative {
                number.wrapping_neg()
            } else {
                number
            };
            // The type, the sign, the digits and CRLF.
            let line_bytes = at.saturating_add(if negative { 4 } else { 3 });
            (kind, number, line_bytes)
        });
    }
    None
}

fn parse_number(text: &[u8]) -> Result<i64, DecodeError> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] | digits => (false, digits),
    };
    let bad = || DecodeError::BadNumber(preview(text));
    if digits.is_empty() {
        return Err(bad());
    }
    // Negative numbers reach one further than positive ones, so all are built on that side.
    let mut number = 0i64;
    for &byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return Err(bad());
        }
        number = number
            .checked_mul(10)
            .and_then(|number| number.checked_sub(i64::from(digit)))
            .ok_or_else(bad)?;
    }
    if negative {
        Ok(number)
    } else {
        number.checked_neg().ok_or_else(bad)
    }
}

fn length(
    number: i64,
    max: u64,
    too_long: impl FnOnce(u64) -> DecodeError,
) -> Result<usize, DecodeError> {
    let length = u64::try_from(number).map_err(|_| DecodeError::NegativeLength(number))?;
    match usize::try_from(length) {
        Ok(fits) if length <= max => Ok(fits),
        _ => Err(too_long(length)),
    }
}

/// The beginning of something unexpected, as a copy that does not keep the input alive.
fn preview(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes.get(..PREVIEW_BYTES_MAX).unwrap_or(bytes))
}

#[cfg(test)]
mod tests;
