//! Hashes whose fields expire, in the dialects of Redis 7.4 and of Valkey 9.0.

use super::Scratch;
use super::error::Flaw;
use super::listpack::Listpack;
use super::packed::{Element, partner};
use super::reader::Reader;
use crate::rdb::visit::{Kind, Visitor};

/// What Valkey writes for a field that doesn't expire. 0 is an instant like any other there.
const VALKEY_NEVER: i64 = -1;

/// Valkey's: field, value, instant.
pub(super) fn valkey_hash<V: Visitor + ?Sized>(
    reader: &mut Reader<'_>,
    scratch: &mut Scratch,
    visitor: &mut V,
) -> Result<(), Flaw> {
    let count = reader.count()?;
    visitor.begin(Kind::Hash);
    for _ in 0..count {
        let field = reader.string(&mut scratch.first)?;
        let value = reader.string(&mut scratch.second)?;
        let expires_ms = reader.integer()?;
        let expires_ms = (expires_ms != VALKEY_NEVER).then_some(expires_ms);
        visitor.field(field, value, expires_ms);
    }
    Ok(())
}

/// Redis': the earliest instant, then per field 1 more than how much later it expires (0: never), field, value.
pub(super) fn hash<V: Visitor + ?Sized>(
    reader: &mut Reader<'_>,
    scratch: &mut Scratch,
    visitor: &mut V,
) -> Result<(), Flaw> {
    // So the first field that expires is written as 1.
    let base = reader.integer()?.checked_sub(1).ok_or(Flaw::Expiry)?;
    hash_from(base, reader, scratch, visitor)
}

/// As release candidates of Redis 7.4 wrote it: an absolute instant (0: never), field, value.
pub(super) fn hash_with_instants<V: Visitor + ?Sized>(
    reader: &mut Reader<'_>,
    scratch: &mut Scratch,
    visitor: &mut V,
) -> Result<(), Flaw> {
    hash_from(0, reader, scratch, visitor)
}

fn hash_from<V: Visitor + ?Sized>(
    base: i64,
    reader: &mut Reader<'_>,
    scratch: &mut Scratch,
    visitor: &mut V,
) -> Result<(), Flaw> {
    let count = reader.count()?;
    visitor.begin(Kind::Hash);
    for _ in 0..count {
        let expires_ms = match reader.length()? {
            0 => None,
            later => Some(base.checked_add_unsigned(later).ok_or(Flaw::Expiry)?),
        };
        let field = reader.string(&mut scratch.first)?;
        let value = reader.string(&mut scratch.second)?;
        visitor.field(field, value, expires_ms);
    }
    Ok(())
}

/// Redis', when small: the earliest instant, then a listpack.
pub(super) fn hash_of_listpack<V: Visitor + ?Sized>(
    reader: &mut Reader<'_>,
    scratch: &mut Scratch,
    visitor: &mut V,
) -> Result<(), Flaw> {
    // The earliest instant is one of those that follow.
    reader.integer()?;
    hash_of_listpack_with_instants(reader, scratch, visitor)
}

/// A listpack of field, value, instant (0: never).
pub(super) fn hash_of_listpack_with_instants<V: Visitor + ?Sized>(
    reader: &mut Reader<'_>,
    scratch: &mut Scratch,
    visitor: &mut V,
) -> Result<(), Flaw> {
    let Scratch {
        first,
        second,
        more,
    } = scratch;
    let mut elements = Listpack::new(reader.string(more)?)?;
    visitor.begin(Kind::Hash);
    let mut told = false;
    while let Some(field) = elements.next() {
        let field = field?;
        let value = partner(&mut elements)?;
        let expires_ms = match partner(&mut elements)? {
            Element::Integer(0) => None,
            Element::Integer(instant @ 1..) => Some(instant),
            _ => return Err(Flaw::Expiry),
        };
        visitor.field(field.text(first), value.text(second), expires_ms);
        told = true;
    }
    if told { Ok(()) } else { Err(Flaw::Empty) }
}
