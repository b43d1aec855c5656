//! Values of modules: tokens that can be told apart, but not understood, without the module.
//!
//! ```text
//! id: nine characters of 6 bits, version of 10 bits │ token │ … │ 0
//! token: 1, 2: length │ 3: four bytes │ 4: eight bytes │ 5: string
//! ```

use super::Scratch;
use super::error::Flaw;
use super::reader::{Reader, Text};
use super::vector_set;
use crate::rdb::visit::{Kind, Visitor};

const TOKEN_END: u64 = 0;
const TOKEN_SIGNED: u64 = 1;
const TOKEN_UNSIGNED: u64 = 2;
const TOKEN_FLOAT: u64 = 3;
const TOKEN_DOUBLE: u64 = 4;
const TOKEN_STRING: u64 = 5;

/// What the 6 bits of a name's character stand for.
const NAME_ALPHABET: &[u8; 64] =
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The bits of an id that are the version of the type's encoding.
const VERSION_BITS: u32 = 10;

pub(super) fn module<V: Visitor + ?Sized>(
    reader: &mut Reader<'_>,
    scratch: &mut Scratch,
    visitor: &mut V,
) -> Result<(), Flaw> {
    let id = reader.length()?;
    let version = u16::try_from(id & ((1 << VERSION_BITS) - 1)).map_err(|_| Flaw::Module)?;
    let name = type_name(id);
    let name = std::str::from_utf8(&name).map_err(|_| Flaw::Module)?;
    if (name, version) == (vector_set::TYPE_NAME, vector_set::TYPE_VERSION) {
        return vector_set::vector_set(reader, scratch, visitor);
    }
    let tokens = skip_tokens(reader, &mut scratch.first)?;
    visitor.begin(Kind::Module);
    visitor.module(name, version, tokens);
    Ok(())
}

/// The name in a type's id.
pub fn type_name(id: u64) -> [u8; 9] {
    let mut name = [0; 9];
    let mut bits = id >> VERSION_BITS;
    for character in name.iter_mut().rev() {
        // In range: six bits of sixty-four characters.
        *character = usize::try_from(bits & 0x3f)
            .ok()
            .and_then(|index| NAME_ALPHABET.get(index).copied())
            .unwrap_or_default();
        bits >>= 6;
    }
    name
}

/// Passes a module's tokens and their end mark; the tokens without it.
pub(super) fn skip_tokens<'a>(reader: &mut Reader<'a>, text: &mut Text) -> Result<&'a [u8], Flaw> {
    let start = *reader;
    loop {
        let tokens = reader.since(start);
        match reader.length()? {
            TOKEN_END => return Ok(tokens),
            TOKEN_SIGNED | TOKEN_UNSIGNED => {
                reader.length()?;
            }
            TOKEN_FLOAT => {
                reader.bytes(4)?;
            }
            TOKEN_DOUBLE => {
                reader.bytes(8)?;
            }
            TOKEN_STRING => {
                reader.string(text)?;
            }
            _ => return Err(Flaw::Module),
        }
    }
}

/// A token that is a number without a sign.
#[inline]
pub(super) fn unsigned_token(reader: &mut Reader<'_>) -> Result<u64, Flaw> {
    match reader.length()? {
        TOKEN_UNSIGNED => reader.length(),
        _ => Err(Flaw::Module),
    }
}

/// A token that is a string.
#[inline]
pub(super) fn string_token<'s, 'a: 's>(
    reader: &mut Reader<'a>,
    text: &'s mut Text,
) -> Result<&'s [u8], Flaw> {
    match reader.length()? {
        TOKEN_STRING => reader.string(text),
        _ => Err(Flaw::Module),
    }
}

/// The end mark.
pub(super) fn end_token(reader: &mut Reader<'_>) -> Result<(), Flaw> {
    match reader.length()? {
        TOKEN_END => Ok(()),
        _ => Err(Flaw::Module),
    }
}
