//! What the compact encodings have in common: elements that are bytes or integers, one behind the other.

use super::error::Flaw;
use super::reader::Text;

/// An element of a listpack, a ziplist or an intset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Element<'a> {
    Bytes(&'a [u8]),
    /// Stands for its decimal text.
    Integer(i64),
}

impl<'a> Element<'a> {
    /// The element as a client would read it.
    #[inline]
    pub(super) fn text<'s>(self, text: &'s mut Text) -> &'s [u8]
    where
        'a: 's,
    {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Integer(number) => text.number(number),
        }
    }

    /// The element as a sorted set's score.
    #[inline]
    pub(super) fn score(self) -> Result<f64, Flaw> {
        match self {
            Self::Bytes(bytes) => score_of_text(bytes),
            Self::Integer(number) => Ok(number as f64),
        }
    }
}

/// A score in decimal digits, `inf` or `-inf`.
pub(super) fn score_of_text(text: &[u8]) -> Result<f64, Flaw> {
    std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or(Flaw::Score)
        .and_then(valid_score)
}

/// No score is NaN: nothing could be ordered by it.
#[inline]
pub(super) fn valid_score(score: f64) -> Result<f64, Flaw> {
    if score.is_nan() {
        Err(Flaw::Score)
    } else {
        Ok(score)
    }
}

/// The second of two elements that belong together.
#[inline]
pub(super) fn partner<'a>(
    elements: &mut impl Iterator<Item = Result<Element<'a>, Flaw>>,
) -> Result<Element<'a>, Flaw> {
    elements.next().ok_or(Flaw::Incomplete)?
}
