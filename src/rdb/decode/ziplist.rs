//! Ziplists: the compact encoding up to Redis 6.2.
//!
//! ```text
//! bytes (u32) │ offset of the last element (u32) │ count (u16; 65535: unknown) │ element │ … │ 0xff
//! element: length of the element before (one byte, or 0xfe and u32) │ encoding and content
//! ```

use super::error::Flaw;
use super::listpack::integer;
use super::packed::Element;

/// The count of a ziplist that has too many elements for the field.
const COUNT_UNKNOWN: u16 = u16::MAX;

/// The mark at the end.
const END: u8 = 0xff;

/// Announces that the length of the element before has four bytes.
const LONG_PREVIOUS: u8 = 0xfe;

/// The elements of a ziplist. After an error there are no more.
pub(super) struct Ziplist<'a> {
    rest: &'a [u8],
    /// How many elements are still to come, as the header says it.
    announced: Option<u16>,
    /// The bytes of the element before.
    previous: usize,
}

impl<'a> Ziplist<'a> {
    pub(super) fn new(blob: &'a [u8]) -> Result<Self, Flaw> {
        let (bytes, rest) = blob.split_first_chunk().ok_or(Flaw::Ziplist)?;
        // Where the last element begins is only needed to read from behind.
        let (_, rest) = rest.split_first_chunk::<4>().ok_or(Flaw::Ziplist)?;
        let (count, rest) = rest.split_first_chunk().ok_or(Flaw::Ziplist)?;
        let rest = rest.strip_suffix(&[END]).ok_or(Flaw::Ziplist)?;
        if usize::try_from(u32::from_le_bytes(*bytes)) != Ok(blob.len()) {
            return Err(Flaw::Ziplist);
        }
        let count = u16::from_le_bytes(*count);
        Ok(Self {
            rest,
            announced: (count != COUNT_UNKNOWN).then_some(count),
            previous: 0,
        })
    }

    #[inline]
    fn element(&mut self) -> Option<Element<'a>> {
        let (previous, body) = self.rest.split_first()?;
        let (previous, body) = match *previous {
            END => return None,
            LONG_PREVIOUS => {
                let (previous, body) = body.split_first_chunk()?;
                (usize::try_from(u32::from_le_bytes(*previous)).ok()?, body)
            }
            short => (short.into(), body),
        };
        if previous != self.previous {
            return None;
        }
        let (element, rest) = content(body)?;
        self.previous = self.rest.len().checked_sub(rest.len())?;
        self.rest = rest;
        self.announced = match self.announced {
            Some(count) => Some(count.checked_sub(1)?),
            None => None,
        };
        Some(element)
    }
}

impl<'a> Iterator for Ziplist<'a> {
    type Item = Result<Element<'a>, Flaw>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return match self.announced.take() {
                Some(0) | None => None,
                Some(_) => Some(Err(Flaw::Ziplist)),
            };
        }
        let element = self.element();
        if element.is_none() {
            self.rest = &[];
            self.announced = None;
        }
        Some(element.ok_or(Flaw::Ziplist))
    }
}

/// Encoding and content of an element, and what follows it.
#[inline]
fn content(bytes: &[u8]) -> Option<(Element<'_>, &[u8])> {
    let (&first, body) = bytes.split_first()?;
    let (len, rest) = match first {
        0x00..=0x3f => (first.into(), body),
        0x40..=0x7f => {
            let (&low, rest) = body.split_first()?;
            (u16::from_be_bytes([first & 0x3f, low]).into(), rest)
        }
        0x80 => {
            let (len, rest) = body.split_first_chunk()?;
            (usize::try_from(u32::from_be_bytes(*len)).ok()?, rest)
        }
        0xc0 => return integer::<2>(body),
        0xd0 => return integer::<4>(body),
        0xe0 => return integer::<8>(body),
        0xf0 => return integer::<3>(body),
        0xfe => return integer::<1>(body),
        0xf1..=0xfd => {
            let number = i64::from(first).wrapping_sub(0xf1);
            return Some((Element::Integer(number), body));
        }
        _ => return None,
    };
    let (string, rest) = rest.split_at_checked(len)?;
    Some((Element::Bytes(string), rest))
}
