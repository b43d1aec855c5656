//! Zipmaps: small hashes before Redis 2.6. Every server still loads them.
//!
//! ```text
//! count (u8; 254 and more: unknown) │ field │ value │ … │ 0xff
//! field: length │ bytes       value: length │ unused bytes (u8) │ bytes │ unused bytes
//! length: one byte below 254, or 254 and u32
//! ```

use super::error::Flaw;

/// Announces a length of four bytes; the count is unknown from here on.
const LONG: u8 = 254;

/// The mark at the end.
const END: u8 = 255;

/// Fields and values of a zipmap. After an error there are no more.
pub(super) struct Zipmap<'a> {
    rest: &'a [u8],
    /// How many fields are still to come, as the header says it.
    announced: Option<u8>,
}

impl<'a> Zipmap<'a> {
    pub(super) fn new(blob: &'a [u8]) -> Result<Self, Flaw> {
        let (&count, rest) = blob.split_first().ok_or(Flaw::Zipmap)?;
        let rest = rest.strip_suffix(&[END]).ok_or(Flaw::Zipmap)?;
        Ok(Self {
            rest,
            announced: (count < LONG).then_some(count),
        })
    }

    fn field(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        let (len, rest) = length(self.rest)?;
        let (field, rest) = rest.split_at_checked(len)?;
        let (len, rest) = length(rest)?;
        let (&unused, rest) = rest.split_first()?;
        let (value, rest) = rest.split_at_checked(len)?;
        let (_, rest) = rest.split_at_checked(unused.into())?;
        self.rest = rest;
        self.announced = match self.announced {
            Some(count) => Some(count.checked_sub(1)?),
            None => None,
        };
        Some((field, value))
    }
}

impl<'a> Iterator for Zipmap<'a> {
    type Item = Result<(&'a [u8], &'a [u8]), Flaw>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return match self.announced.take() {
                Some(0) | None => None,
                Some(_) => Some(Err(Flaw::Zipmap)),
            };
        }
        let field = self.field();
        if field.is_none() {
            self.rest = &[];
            self.announced = None;
        }
        Some(field.ok_or(Flaw::Zipmap))
    }
}

fn length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    match first {
        END => None,
        LONG => {
            let (len, rest) = rest.split_first_chunk()?;
            Some((usize::try_from(u32::from_le_bytes(*len)).ok()?, rest))
        }
        short => Some((short.into(), rest)),
    }
}
