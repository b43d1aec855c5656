//! Intsets: sets of nothing but integers.
//!
//! ```text
//! width of an integer in bytes (u32; 2, 4 or 8) │ count (u32) │ integers
//! ```

use super::error::Flaw;
use super::listpack::integer;
use super::packed::Element;

/// The integers of an intset.
pub(super) struct Intset<'a> {
    rest: &'a [u8],
    width: u32,
}

impl<'a> Intset<'a> {
    pub(super) fn new(blob: &'a [u8]) -> Result<Self, Flaw> {
        let (width, rest) = blob.split_first_chunk().ok_or(Flaw::Intset)?;
        let (count, rest) = rest.split_first_chunk().ok_or(Flaw::Intset)?;
        let width = u32::from_le_bytes(*width);
        let bytes = u64::from(u32::from_le_bytes(*count)).checked_mul(width.into());
        if !matches!(width, 2 | 4 | 8) || bytes != u64::try_from(rest.len()).ok() {
            return Err(Flaw::Intset);
        }
        Ok(Self { rest, width })
    }
}

impl<'a> Iterator for Intset<'a> {
    type Item = Result<Element<'a>, Flaw>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (element, rest) = match self.width {
            2 => integer::<2>(self.rest)?,
            4 => integer::<4>(self.rest)?,
            _ => integer::<8>(self.rest)?,
        };
        self.rest = rest;
        Some(Ok(element))
    }
}
