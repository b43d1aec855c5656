//! Listpacks: the compact encoding since Redis 5.0 (streams) and 7.0 (everything else).
//!
//! ```text
//! bytes (u32) │ count (u16; 65535: unknown) │ element │ … │ 0xff
//! element: encoding and content │ their length, to be read from behind
//! ```

use super::error::Flaw;
use super::packed::Element;

/// The count of a listpack that has too many elements for the field.
const COUNT_UNKNOWN: u16 = u16::MAX;

/// The mark at the end.
const END: u8 = 0xff;

/// The elements of a listpack. After an error there are no more.
#[derive(Clone)]
pub(super) struct Listpack<'a> {
    rest: &'a [u8],
    /// How many elements are still to come, as the header says it.
    announced: Option<u16>,
}

impl<'a> Listpack<'a> {
    pub(super) fn new(blob: &'a [u8]) -> Result<Self, Flaw> {
        let (bytes, rest) = blob.split_first_chunk().ok_or(Flaw::Listpack)?;
        let (count, rest) = rest.split_first_chunk().ok_or(Flaw::Listpack)?;
        let rest = rest.strip_suffix(&[END]).ok_or(Flaw::Listpack)?;
        if usize::try_from(u32::from_le_bytes(*bytes)) != Ok(blob.len()) {
            return Err(Flaw::Listpack);
        }
        let count = u16::from_le_bytes(*count);
        Ok(Self {
            rest,
            announced: (count != COUNT_UNKNOWN).then_some(count),
        })
    }

    #[inline]
    fn element(&mut self) -> Option<Element<'a>> {
        let (&first, body) = self.rest.split_first()?;
        let (element, rest) = match first {
            0x00..=0x7f => (Element::Integer(first.into()), body),
            0x80..=0xbf => string(body, usize::from(first & 0x3f))?,
            0xc0..=0xdf => {
                let (&low, rest) = body.split_first()?;
                // Thirteen bits, shifted up to the sign and down again.
                let number = i16::from_be_bytes([first, low]).wrapping_shl(3) >> 3;
                (Element::Integer(number.into()), rest)
            }
            0xe0..=0xef => {
                let (&low, rest) = body.split_first()?;
                string(rest, u16::from_be_bytes([first & 0x0f, low]).into())?
            }
            0xf0 => {
                let (len, rest) = body.split_first_chunk()?;
                string(rest, usize::try_from(u32::from_le_bytes(*len)).ok()?)?
            }
            0xf1 => integer::<2>(body)?,
            0xf2 => integer::<3>(body)?,
            0xf3 => integer::<4>(body)?,
            0xf4 => integer::<8>(body)?,
            _ => return None,
        };
        let len = self.rest.len().checked_sub(rest.len())?;
        self.rest = skip_backlen(rest, len)?;
        self.announced = match self.announced {
            Some(count) => Some(count.checked_sub(1)?),
            None => None,
        };
        Some(element)
    }
}

impl<'a> Iterator for Listpack<'a> {
    type Item = Result<Element<'a>, Flaw>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return match self.announced.take() {
                Some(0) | None => None,
                Some(_) => Some(Err(Flaw::Listpack)),
            };
        }
        let element = self.element();
        if element.is_none() {
            self.rest = &[];
            self.announced = None;
        }
        Some(element.ok_or(Flaw::Listpack))
    }
}

#[inline]
fn string(bytes: &[u8], len: usize) -> Option<(Element<'_>, &[u8])> {
    let (string, rest) = bytes.split_at_checked(len)?;
    Some((Element::Bytes(string), rest))
}

/// A little-endian integer of N bytes.
#[inline]
pub(super) fn integer<const N: usize>(bytes: &[u8]) -> Option<(Element<'_>, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<N>()?;
    // Filled from the top, so that shifting down brings the sign along.
    let mut wide = [0; 8];
    wide.last_chunk_mut::<N>()?.copy_from_slice(number);
    let unused = 64u32.saturating_sub(8u32.saturating_mul(u32::try_from(N).ok()?));
    let number = i64::from_le_bytes(wide).wrapping_shr(unused);
    Some((Element::Integer(number), rest))
}

/// Takes the length `len` of the element before off the front of `bytes`.
#[inline]
fn skip_backlen(bytes: &[u8], len: usize) -> Option<&[u8]> {
    if len <= 127 {
        let (&backlen, rest) = bytes.split_first()?;
        return (usize::from(backlen) == len).then_some(rest);
    }
    skip_long_backlen(bytes, len)
}

/// Seven bits a byte, the highest first; all but the first have their highest bit set.
fn skip_long_backlen(bytes: &[u8], len: usize) -> Option<&[u8]> {
    // The limits are the server's own: it takes a byte more than it had to where all bits would be set.
    let bytes_used = match len {
        0..16_383 => 2,
        16_383..2_097_151 => 3,
        2_097_151..268_435_455 => 4,
        _ => 5,
    };
    let (backlen, rest) = bytes.split_at_checked(bytes_used)?;
    let mut stored: usize = 0;
    for &byte in backlen {
        stored = stored.checked_shl(7)? | usize::from(byte & 0x7f);
    }
    (stored == len).then_some(rest)
}
