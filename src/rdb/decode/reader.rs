//! What values are made of: lengths, strings and numbers, off the front of a payload.
//!
//! # Invariants
//!
//! - A number is big endian where it is a length, and little endian elsewhere; a stream's id is big endian.
//! - Nothing is reserved for a length. A string is a slice of the payload or, where it has to be made, of a [`Text`].

use super::error::Flaw;
use super::lzf;
use crate::rdb::visit::StreamId;

/// Where a string is made that the payload does not hold as it is: an integer's digits, or uncompressed bytes.
#[derive(Default)]
pub(super) struct Text {
    digits: itoa::Buffer,
    uncompressed: Vec<u8>,
}

impl Text {
    /// The decimal text of `number`.
    #[inline]
    pub(super) fn number(&mut self, number: i64) -> &[u8] {
        self.digits.format(number).as_bytes()
    }
}

/// The rest of a payload.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    /// How many bytes are left.
    pub(super) fn len(&self) -> usize {
        self.rest.len()
    }

    /// What has been read since this reader was `start`.
    pub(super) fn since(&self, start: Reader<'a>) -> &'a [u8] {
        let len = start.rest.len().saturating_sub(self.rest.len());
        start.rest.get(..len).unwrap_or_default()
    }

    #[inline]
    pub(super) fn bytes(&mut self, len: usize) -> Result<&'a [u8], Flaw> {
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(Flaw::Truncated)?;
        self.rest = rest;
        Ok(bytes)
    }

    #[inline]
    pub(super) fn chunk<const N: usize>(&mut self) -> Result<[u8; N], Flaw> {
        let (chunk, rest) = self.rest.split_first_chunk().ok_or(Flaw::Truncated)?;
        self.rest = rest;
        Ok(*chunk)
    }

    #[inline]
    pub(super) fn byte(&mut self) -> Result<u8, Flaw> {
        let (&byte, rest) = self.rest.split_first().ok_or(Flaw::Truncated)?;
        self.rest = rest;
        Ok(byte)
    }

    /// A length; also whatever else is written like one.
    #[inline]
    pub(super) fn length(&mut self) -> Result<u64, Flaw> {
        let first = self.byte()?;
        self.length_after(first)
    }

    #[inline]
    fn length_after(&mut self, first: u8) -> Result<u64, Flaw> {
        match first {
            0x00..=0x3f => Ok(first.into()),
            0x40..=0x7f => Ok(u16::from_be_bytes([first & 0x3f, self.byte()?]).into()),
            0x80 => Ok(u32::from_be_bytes(self.chunk()?).into()),
            0x81 => Ok(u64::from_be_bytes(self.chunk()?)),
            _ => Err(Flaw::Length),
        }
    }

    /// How many elements follow: at least one.
    #[inline]
    pub(super) fn count(&mut self) -> Result<u64, Flaw> {
        match self.length()? {
            0 => Err(Flaw::Empty),
            count => Ok(count),
        }
    }

    /// A string, also in one of its four special encodings.
    #[inline]
    pub(super) fn string<'s>(&mut self, text: &'s mut Text) -> Result<&'s [u8], Flaw>
    where
        'a: 's,
    {
        let first = self.byte()?;
        if first < 0xc0 {
            let len = self.length_after(first)?;
            return self.bytes(usize::try_from(len).map_err(|_| Flaw::Truncated)?);
        }
        match first {
            0xc0 => Ok(text.number(i8::from_le_bytes(self.chunk()?).into())),
            0xc1 => Ok(text.number(i16::from_le_bytes(self.chunk()?).into())),
            0xc2 => Ok(text.number(i32::from_le_bytes(self.chunk()?).into())),
            0xc3 => self.compressed(text),
            _ => Err(Flaw::String),
        }
    }

    fn compressed<'s>(&mut self, text: &'s mut Text) -> Result<&'s [u8], Flaw> {
        let compressed = self.length()?;
        let len = self.length()?;
        let compressed = self.bytes(usize::try_from(compressed).map_err(|_| Flaw::Truncated)?)?;
        let len = usize::try_from(len).map_err(|_| Flaw::TooLarge)?;
        lzf::decompress(compressed, len, &mut text.uncompressed)?;
        Ok(&text.uncompressed)
    }

    /// A floating-point number as the machine has it.
    #[inline]
    pub(super) fn double(&mut self) -> Result<f64, Flaw> {
        Ok(f64::from_le_bytes(self.chunk()?))
    }

    /// An instant in Unix milliseconds, or any other number of eight bytes.
    #[inline]
    pub(super) fn integer(&mut self) -> Result<i64, Flaw> {
        Ok(i64::from_le_bytes(self.chunk()?))
    }

    /// A stream's id as two lengths.
    pub(super) fn stream_id(&mut self) -> Result<StreamId, Flaw> {
        Ok(StreamId {
            ms: self.length()?,
            seq: self.length()?,
        })
    }

    /// A stream's id as sixteen bytes.
    pub(super) fn raw_stream_id(&mut self) -> Result<StreamId, Flaw> {
        Ok(StreamId {
            ms: u64::from_be_bytes(self.chunk()?),
            seq: u64::from_be_bytes(self.chunk()?),
        })
    }
}
