//! Lists, sets, sorted sets and hashes, plain and packed.

use super::Scratch;
use super::error::Flaw;
use super::intset::Intset;
use super::listpack::Listpack;
use super::packed::{Element, partner, score_of_text, valid_score};
use super::reader::{Reader, Text};
use super::ziplist::Ziplist;
use super::zipmap::Zipmap;
use crate::rdb::visit::{Kind, Visitor};

/// A quicklist's node that is one element by itself, because it is large.
const NODE_PLAIN: u64 = 1;

/// A quicklist's node that is a listpack.
const NODE_PACKED: u64 = 2;

/// Elements of a packed encoding.
trait Elements<'a>: Iterator<Item = Result<Element<'a>, Flaw>> {}

impl<'a, I: Iterator<Item = Result<Element<'a>, Flaw>>> Elements<'a> for I {}

pub(super) fn list<V: Visitor + ?Sized>(
    reader: &mut Reader<'_>,
    scratch: &mut Scratch,
    visitor: &mut V,
) -> Result<(), Flaw> {
    let count = reader.count()?;
    visitor.begin(Kind::List);
    for _ in 0..count {
        visitor.element(reader.string(&mut scratch.first)?);
    }
    Ok(())
}

pub(super) fn set<V: Visitor + ?Sized>(
    reader: &mut Reader<'_>,
    scratch: &mut Scratch,
    visitor: &mut V,
) -> Result<(), Flaw> {
    let count = reader.count()?;
    visitor.begin(Kind::Set);
    for _ in 0..count {
        visitor.member(reader.string(&mut scratch.first)?);
    }
    Ok(())
}

/// Scores are eight bytes each (since Redis 4.0).
pub(super) fn zset<V: Visitor + ?Sized>(
    reader: &mut Reader<'_>,
    scratch: &mut Scratch,
    visitor: &mut V,
) -> Result<(), Flaw> {
    let count = reader.count()?;
    visitor.begin(Kind::Zset);
    for _ in 0..count {
        let member = reader.string(&mut scratch.first)?;
        visitor.scored(member, valid_score(reader.double()?)?);
    }
    Ok(())
}

/// Scores are decimal digits behind their number, or one of three numbers that no text has.
pub(super) fn zset_with_text_scores<V: Visitor + ?Sized>(
    reader: &mut Reader<'_>,
    scratch: &mut Scratch,
    visitor: &mut V,
) -> Result<(), Flaw> {
    let count = reader.count()?;
    visitor.begin(Kind::Zset);
    for _ in 0..count {
        let member = reader.string(&mut scratch.first)?;
        let score = match reader.byte()? {
            253 => return Err(Flaw::Score),
            254 => f64::INFINITY,
            255 => f64::NEG_INFINITY,
            len => score_of_text(reader.bytes(len.into())?)?,
        };
        visitor.scored(member, score);
    }
    Ok(())
}

pub(super) fn hash<V: Visitor + ?Sized>(
    reader: &mut Reader<'_>,
    scratch: &mut Scratch,
    visitor: &mut V,
) -> Result<(), Flaw> {
    let count = reader.count()?;
    visitor.begin(Kind::Hash);
    for _ in 0..count {
        let field = reader.string(&mut scratch.first)?;
        let value = reader.string(&mut scratch.second)?;
        visitor.field(field, value, None);
    }
    Ok(())
}

pub(super) fn hash_of_zipmap<V: Visitor + ?Sized>(
    reader: &mut Reader<'_>,
    scratch: &mut Scratch,
    visitor: &mut V,
) -> Result<(), Flaw> {
    let mut fields = Zipmap::new(reader.string(&mut scratch.first)?)?.peekable();
    fields.peek().ok_or(Flaw::Empty)?;
    visitor.begin(Kind::Hash);
    for field in fields {
        let (field, value) = field?;
        visitor.field(field, value, None);
    }
    Ok(())
}

pub(super) fn list_of_ziplist<V: Visitor + ?Sized>(
    reader: &mut Reader<'_>,
    scratch: &mut Scratch,
    visitor: &mut V,
) -> Result<(), Flaw> {
    let Scratch { first, second, .. } = scratch;
    let elements = Ziplist::new(reader.string(first)?)?;
    visitor.begin(Kind::List);
    not_empty(tell_elements(elements, second, visitor)?)
}

pub(super) fn set_of_intset<V: Visitor + ?Sized>(
    reader: &mut Reader<'_>,
    scratch: &mut Scratch,
    visitor: &mut V,
) -> Result<(), Flaw> {
    let Scratch { first, second, .. } = scratch;
    tell_members(Intset::new(reader.string(first)?)?, second, visitor)
}

pub(super) fn set_of_listpack<V: Visitor + ?Sized>(
    reader: &mut Reader<'_>,
    scratch: &mut Scratch,
    visitor: &mut V,
) -> Result<(), Flaw> {
    let Scratch { first, second, .. } = scratch;
    tell_members(Listpack::new(reader.string(first)?)?, second, visitor)
}

pub(super) fn zset_of_ziplist<V: Visitor + ?Sized>(
    reader: &mut Reader<'_>,
    scratch: &mut Scratch,
    visitor: &mut V,
) -> Result<(), Flaw> {
    let Scratch { first, second, .. } = scratch;
    tell_scored(Ziplist::new(reader.string(first)?)?, second, visitor)
}

pub(super) fn zset_of_listpack<V: Visitor + ?Sized>(
    reader: &mut Reader<'_>,
    scratch: &mut Scratch,
    visitor: &mut V,
) -> Result<(), Flaw> {
    let Scratch { first, second, .. } = scratch;
    tell_scored(Listpack::new(reader.string(first)?)?, second, visitor)
}

pub(super) fn hash_of_ziplist<V: Visitor + ?Sized>(
    reader: &mut Reader<'_>,
    scratch: &mut Scratch,
    visitor: &mut V,
) -> Result<(), Flaw> {
    let Scratch {
        first,
        second,
        more,
    } = scratch;
    tell_fields(Ziplist::new(reader.string(more)?)?, first, second, visitor)
}

pub(super) fn hash_of_listpack<V: Visitor + ?Sized>(
    reader: &mut Reader<'_>,
    scratch: &mut Scratch,
    visitor: &mut V,
) -> Result<(), Flaw> {
    let Scratch {
        first,
        second,
        more,
    } = scratch;
    tell_fields(Listpack::new(reader.string(more)?)?, first, second, visitor)
}

/// A list as Redis 3.2 to 6.2 keeps it.
pub(super) fn quicklist_of_ziplists<V: Visitor + ?Sized>(
    reader: &mut Reader<'_>,
    scratch: &mut Scratch,
    visitor: &mut V,
) -> Result<(), Flaw> {
    let Scratch { first, second, .. } = scratch;
    let nodes = reader.count()?;
    visitor.begin(Kind::List);
    let mut told = false;
    for _ in 0..nodes {
        let elements = Ziplist::new(reader.string(first)?)?;
        told |= tell_elements(elements, second, visitor)?;
    }
    not_empty(told)
}

/// A list as Redis 7.0 and newer keeps it.
pub(super) fn quicklist<V: Visitor + ?Sized>(
    reader: &mut Reader<'_>,
    scratch: &mut Scratch,
    visitor: &mut V,
) -> Result<(), Flaw> {
    let Scratch { first, second, .. } = scratch;
    let nodes = reader.count()?;
    visitor.begin(Kind::List);
    let mut told = false;
    for _ in 0..nodes {
        match reader.length()? {
            NODE_PLAIN => {
                visitor.element(reader.string(first)?);
                told = true;
            }
            NODE_PACKED => {
                let elements = Listpack::new(reader.string(first)?)?;
                told |= tell_elements(elements, second, visitor)?;
            }
            _ => return Err(Flaw::ListNode),
        }
    }
    not_empty(told)
}

/// Tells a list's node; whether there was anything in it.
#[inline]
fn tell_elements<'a, V: Visitor + ?Sized>(
    elements: impl Elements<'a>,
    text: &mut Text,
    visitor: &mut V,
) -> Result<bool, Flaw> {
    let mut told = false;
    for element in elements {
        visitor.element(element?.text(text));
        told = true;
    }
    Ok(told)
}

#[inline]
fn tell_members<'a, V: Visitor + ?Sized>(
    members: impl Elements<'a>,
    text: &mut Text,
    visitor: &mut V,
) -> Result<(), Flaw> {
    visitor.begin(Kind::Set);
    let mut told = false;
    for member in members {
        visitor.member(member?.text(text));
        told = true;
    }
    not_empty(told)
}

#[inline]
fn tell_scored<'a, V: Visitor + ?Sized>(
    mut elements: impl Elements<'a>,
    text: &mut Text,
    visitor: &mut V,
) -> Result<(), Flaw> {
    visitor.begin(Kind::Zset);
    let mut told = false;
    while let Some(member) = elements.next() {
        let member = member?;
        let score = partner(&mut elements)?.score()?;
        visitor.scored(member.text(text), score);
        told = true;
    }
    not_empty(told)
}

#[inline]
fn tell_fields<'a, V: Visitor + ?Sized>(
    mut elements: impl Elements<'a>,
    field_text: &mut Text,
    value_text: &mut Text,
    visitor: &mut V,
) -> Result<(), Flaw> {
    visitor.begin(Kind::Hash);
    let mut told = false;
    while let Some(field) = elements.next() {
        let field = field?;
        let value = partner(&mut elements)?;
        visitor.field(field.text(field_text), value.text(value_text), None);
        told = true;
    }
    not_empty(told)
}

fn not_empty(told: bool) -> Result<(), Flaw> {
    if told { Ok(()) } else { Err(Flaw::Empty) }
}
