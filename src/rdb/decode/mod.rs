//! Walks a payload and tells a visitor what is inside.
//!
//! One file per way of encoding; this one knows which type byte means which of them.
//!
//! # Invariants
//!
//! - No input makes it panic, loop for longer than the payload is long, or recurse.
//! - A length in the payload is a claim. Strings are slices of the payload; what is uncompressed is bounded by what its
//!   compressed bytes can give ([`LZF_EXPANSION_MAX`] times as much) and lives in one of three buffers, which are used
//!   again. A stream's entry takes sixteen bytes for each of its strings, a group less than ten for each of the bytes
//!   that it was read from.
//! - Elements that belong together are told together or not at all; a payload that ends in the middle is an error.

mod array;
mod collections;
mod error;
mod functions;
mod hash_expiry;
mod intset;
mod listpack;
mod lzf;
mod module;
mod packed;
mod reader;
mod stream;
mod stream_group;
mod vector_set;
mod ziplist;
mod zipmap;

pub use error::{DecodeError, Flaw};
pub use functions::{LIBRARY, libraries};
pub use lzf::{EXPANSION_MAX as LZF_EXPANSION_MAX, decompress as lzf_decompress};
pub(super) use module::type_name as module_type_name;

use super::footer::{FOOTER_BYTES, VALKEY_VERSION};
use super::visit::{Kind, Visitor};
use reader::{Reader, Text};

#[cfg(test)]
mod tests;

/// Precedes the type where a module has attached metadata to the key (Redis 8.6).
const KEY_METADATA: u8 = 0xf3;

/// What a payload has beside its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Walked {
    /// How the value is encoded.
    pub type_byte: u8,
    /// The version in the footer.
    pub version: u16,
    /// Whether modules attached metadata to the key. It is not told to the visitor, and other servers refuse it.
    pub has_key_metadata: bool,
    /// Bytes between the value and the footer. Servers skip them; KeyDB puts a time stamp of its own there.
    pub trailing_bytes: usize,
}

/// Walks `payload` and tells `visitor` its value, piece by piece.
///
/// The checksum is not looked at: [`super::footer::check`] does that. For many payloads, [`Decoder::walk`] is cheaper.
///
/// # Errors
///
/// The type is unknown, or the payload is not what a server writes. What the visitor was told means nothing then.
pub fn walk<V: Visitor + ?Sized>(payload: &[u8], visitor: &mut V) -> Result<Walked, DecodeError> {
    Decoder::new().walk(payload, visitor)
}

/// Walks payloads one after the other, in the same memory.
#[derive(Default)]
pub struct Decoder {
    scratch: Scratch,
}

/// Where strings are made; as many as have to be known at the same time.
#[derive(Default)]
struct Scratch {
    first: Text,
    second: Text,
    more: Text,
}

impl Decoder {
    /// A decoder that holds no memory yet. Between two payloads it keeps a few buffers for strings of ordinary length.
    pub fn new() -> Self {
        Self::default()
    }

    /// As [`walk`].
    ///
    /// # Errors
    ///
    /// As [`walk`].
    pub fn walk<V: Visitor + ?Sized>(
        &mut self,
        payload: &[u8],
        visitor: &mut V,
    ) -> Result<Walked, DecodeError> {
        let walked = self.walk_once(payload, visitor);
        let Scratch {
            first,
            second,
            more,
        } = &mut self.scratch;
        for text in [first, second, more] {
            text.forget_long();
        }
        walked
    }

    #[inline]
    fn walk_once<V: Visitor + ?Sized>(
        &mut self,
        payload: &[u8],
        visitor: &mut V,
    ) -> Result<Walked, DecodeError> {
        let too_short = DecodeError::TooShort { len: payload.len() };
        let (body, footer) = payload
            .split_last_chunk::<FOOTER_BYTES>()
            .ok_or(too_short)?;
        let [low, high, ..] = *footer;
        let version = u16::from_le_bytes([low, high]);
        let mut reader = Reader::new(body);
        let scratch = &mut self.scratch;
        let mut type_byte = reader.byte().map_err(|_| too_short)?;
        let has_key_metadata = type_byte == KEY_METADATA;
        if has_key_metadata {
            skip_key_metadata(&mut reader, scratch)?;
            type_byte = reader.byte()?;
        }
        let known = value(type_byte, version, &mut reader, scratch, visitor)?;
        if !known {
            return Err(DecodeError::UnknownType { type_byte, version });
        }
        Ok(Walked {
            type_byte,
            version,
            has_key_metadata,
            trailing_bytes: reader.len(),
        })
    }
}

/// Passes what modules attached to the key: per class its name, version and flags in four bytes, and tokens.
fn skip_key_metadata(reader: &mut Reader<'_>, scratch: &mut Scratch) -> Result<(), Flaw> {
    for _ in 0..reader.length()? {
        reader.bytes(4)?;
        module::skip_tokens(reader, &mut scratch.first)?;
    }
    Ok(())
}

/// What kind of value stands behind a type byte; `None` where the type is unknown, or metadata precedes it.
pub fn kind_of_type(type_byte: u8) -> Option<Kind> {
    Some(match type_byte {
        0 => Kind::String,
        1 | 10 | 14 | 18 => Kind::List,
        2 | 11 | 20 => Kind::Set,
        3 | 5 | 12 | 17 => Kind::Zset,
        4 | 9 | 13 | 16 | 22..=25 => Kind::Hash,
        15 | 19 | 21 | 26 | 27 => Kind::Stream,
        28 => Kind::Array,
        7 => Kind::Module,
        _ => return None,
    })
}

/// Reads the value behind its type; false where the type is unknown.
#[inline]
fn value<V: Visitor + ?Sized>(
    type_byte: u8,
    version: u16,
    reader: &mut Reader<'_>,
    scratch: &mut Scratch,
    visitor: &mut V,
) -> Result<bool, Flaw> {
    match type_byte {
        0 => {
            visitor.begin(Kind::String);
            visitor.string(reader.string(&mut scratch.first)?);
        }
        1 => collections::list(reader, scratch, visitor)?,
        2 => collections::set(reader, scratch, visitor)?,
        3 => collections::zset_with_text_scores(reader, scratch, visitor)?,
        4 => collections::hash(reader, scratch, visitor)?,
        5 => collections::zset(reader, scratch, visitor)?,
        7 => module::module(reader, scratch, visitor)?,
        9 => collections::hash_of_zipmap(reader, scratch, visitor)?,
        10 => collections::list_of_ziplist(reader, scratch, visitor)?,
        11 => collections::set_of_intset(reader, scratch, visitor)?,
        12 => collections::zset_of_ziplist(reader, scratch, visitor)?,
        13 => collections::hash_of_ziplist(reader, scratch, visitor)?,
        14 => collections::quicklist_of_ziplists(reader, scratch, visitor)?,
        16 => collections::hash_of_listpack(reader, scratch, visitor)?,
        17 => collections::zset_of_listpack(reader, scratch, visitor)?,
        18 => collections::quicklist(reader, scratch, visitor)?,
        15 | 19 | 21 | 26 | 27 => stream::stream(type_byte, reader, scratch, visitor)?,
        20 => collections::set_of_listpack(reader, scratch, visitor)?,
        22 if version >= VALKEY_VERSION => hash_expiry::valkey_hash(reader, scratch, visitor)?,
        22 => hash_expiry::hash_with_instants(reader, scratch, visitor)?,
        23 => hash_expiry::hash_of_listpack_with_instants(reader, scratch, visitor)?,
        24 => hash_expiry::hash(reader, scratch, visitor)?,
        25 => hash_expiry::hash_of_listpack(reader, scratch, visitor)?,
        28 => array::array(reader, scratch, visitor)?,
        _ => return Ok(false),
    }
    Ok(true)
}
