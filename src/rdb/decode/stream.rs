//! Streams: entries in nodes, what the stream says of itself, and its groups.
//!
//! ```text
//! nodes │ node's id, listpack │ … │ length │ last id │ [first id, highest deleted id, entries added] │ groups
//! [how long and how many ids are remembered │ producers │ ids added, ids refused]
//! listpack: living, deleted, n, n fields, 0 │ entry │ …
//! entry: flags, ms and seq less the node's, [n, then per field its name and value │ only values], their number
//! ```
//!
//! # Invariants
//!
//! - Ids ascend over all entries that are told.
//! - A node has as many entries as it announces, and nothing else.

use std::mem;

use super::Scratch;
use super::error::Flaw;
use super::listpack::Listpack;
use super::packed::Element;
use super::reader::{Reader, Text};
use super::stream_group::{self, several};
use crate::rdb::visit::{
    Idempotence, Kind, Producer, StreamCounters, StreamId, StreamState, Visitor,
};

/// The first type with counters (Redis 7.0).
pub(super) const SINCE_7_0: u8 = 19;

/// The first type with the time at which a consumer was active (Redis 7.2).
pub(super) const SINCE_7_2: u8 = 21;

/// The first type with what is remembered of idempotent producers (Redis 8.6).
const SINCE_8_6: u8 = 26;

/// The first type with pending entries without an owner (Redis 8.8).
pub(super) const SINCE_8_8: u8 = 27;

/// A producer: an empty name, no ids.
const PRODUCER_BYTES_MIN: usize = 1 + 1;

/// A producer's id: empty, and two lengths of a byte each.
const PRODUCER_ID_BYTES_MIN: usize = 1 + 2;

/// An entry that was deleted and still takes its place.
const FLAG_DELETED: i64 = 1;

/// An entry whose fields are the node's.
const FLAG_SAME_FIELDS: i64 = 2;

pub(super) fn stream<V: Visitor + ?Sized>(
    type_byte: u8,
    reader: &mut Reader<'_>,
    scratch: &mut Scratch,
    visitor: &mut V,
) -> Result<(), Flaw> {
    visitor.begin(Kind::Stream);
    let text = &mut scratch.first;
    let mut entries = Entries::default();
    for _ in 0..reader.length()? {
        let id = reader.string(text)?;
        let id: [u8; 16] = id.try_into().map_err(|_| Flaw::StreamNode)?;
        let id = Reader::new(&id).raw_stream_id()?;
        entries.node(id, reader.string(text)?, visitor)?;
    }
    visitor.stream(&state(type_byte, reader)?);
    for _ in 0..reader.length()? {
        visitor.group(&stream_group::group(type_byte, reader, text)?);
    }
    if type_byte >= SINCE_8_6 {
        visitor.idempotence(&idempotence(reader, text)?);
    }
    Ok(())
}

fn state(type_byte: u8, reader: &mut Reader<'_>) -> Result<StreamState, Flaw> {
    Ok(StreamState {
        len: reader.length()?,
        last_id: reader.stream_id()?,
        since_7_0: if type_byte >= SINCE_7_0 {
            Some(StreamCounters {
                first_id: reader.stream_id()?,
                max_deleted_id: reader.stream_id()?,
                entries_added: reader.length()?,
            })
        } else {
            None
        },
    })
}

fn idempotence(reader: &mut Reader<'_>, text: &mut Text) -> Result<Idempotence, Flaw> {
    Ok(Idempotence {
        duration_s: reader.length()?,
        ids_max: reader.length()?,
        producers: several(reader, PRODUCER_BYTES_MIN, |reader| {
            Ok(Producer {
                name: reader.string(text)?.to_vec(),
                ids: several(reader, PRODUCER_ID_BYTES_MIN, |reader| {
                    Ok((reader.string(text)?.to_vec(), reader.stream_id()?))
                })?,
            })
        })?,
        ids_added: reader.length()?,
        ids_duplicates: reader.length()?,
    })
}

/// Tells the entries of one node after the other.
#[derive(Default)]
struct Entries {
    /// The last id told.
    last: Option<StreamId>,
    /// The digits of an entry's integers, each behind its number of digits.
    digits: Vec<u8>,
    /// An entry's fields and values. Empty between two entries: only its memory is kept.
    fields: Vec<&'static [u8]>,
}

impl Entries {
    fn node<V: Visitor + ?Sized>(
        &mut self,
        id: StreamId,
        blob: &[u8],
        visitor: &mut V,
    ) -> Result<(), Flaw> {
        let mut elements = Listpack::new(blob)?;
        let living = count(&mut elements)?;
        let deleted = count(&mut elements)?;
        let entries = living.checked_add(deleted).ok_or(Flaw::StreamNode)?;
        let fields = count(&mut elements)?;
        let names = elements.clone();
        for _ in 0..fields {
            element(&mut elements)?;
        }
        if number(&mut elements)? != 0 {
            return Err(Flaw::StreamNode);
        }
        let node = Node { id, fields, names };
        for _ in 0..entries {
            self.entry(&node, &mut elements, visitor)?;
        }
        match elements.next() {
            None => Ok(()),
            Some(_) => Err(Flaw::StreamNode),
        }
    }

    fn entry<'a, V: Visitor + ?Sized>(
        &mut self,
        node: &Node<'a>,
        elements: &mut Listpack<'a>,
        visitor: &mut V,
    ) -> Result<(), Flaw> {
        let flags = number(elements)?;
        // Wrapping as the server's own arithmetic does: the second number may be smaller than the node's.
        let id = StreamId {
            ms: node.id.ms.wrapping_add_signed(number(elements)?),
            seq: node.id.seq.wrapping_add_signed(number(elements)?),
        };
        let same_fields = flags & FLAG_SAME_FIELDS != 0;
        let (fields, extra) = if same_fields {
            (node.fields, node.fields.checked_add(3))
        } else {
            let fields = count(elements)?;
            (fields, fields.checked_mul(2).and_then(|n| n.checked_add(4)))
        };
        let pairs = Pairs {
            names: same_fields.then(|| node.names.clone()),
            values: elements.clone(),
            left: fields,
        };
        *elements = self.collect_digits(pairs.clone())?;
        if Some(count(elements)?) != extra {
            return Err(Flaw::StreamNode);
        }
        if flags & FLAG_DELETED != 0 {
            return Ok(());
        }
        if self.last.replace(id).is_some_and(|last| last >= id) {
            return Err(Flaw::StreamOrder);
        }
        self.tell(id, pairs, visitor)
    }

    /// Passes an entry's fields and values, and keeps the text of those that are integers; the elements behind them.
    fn collect_digits<'a>(&mut self, mut pairs: Pairs<'a>) -> Result<Listpack<'a>, Flaw> {
        self.digits.clear();
        let mut buffer = itoa::Buffer::new();
        while let Some((name, value)) = pairs.next()? {
            for element in [name, value] {
                if let Element::Integer(number) = element {
                    let digits = buffer.format(number).as_bytes();
                    let len = u8::try_from(digits.len()).expect("an i64 has at most 20 characters");
                    self.digits.push(len);
                    self.digits.extend_from_slice(digits);
                }
            }
        }
        Ok(pairs.values)
    }

    /// Tells an entry whose digits have been collected.
    fn tell<V: Visitor + ?Sized>(
        &mut self,
        id: StreamId,
        mut pairs: Pairs<'_>,
        visitor: &mut V,
    ) -> Result<(), Flaw> {
        let mut fields: Vec<&[u8]> = mem::take(&mut self.fields);
        // As many as there are: their digits have been collected.
        let len = usize::try_from(pairs.left).unwrap_or(0).saturating_mul(2);
        fields.try_reserve_exact(len).map_err(|_| Flaw::TooLarge)?;
        let mut digits = self.digits.as_slice();
        while let Some((name, value)) = pairs.next()? {
            for element in [name, value] {
                fields.push(match element {
                    Element::Bytes(bytes) => bytes,
                    Element::Integer(_) => {
                        let (&len, rest) = digits.split_first().ok_or(Flaw::StreamNode)?;
                        let (number, rest) =
                            rest.split_at_checked(len.into()).ok_or(Flaw::StreamNode)?;
                        digits = rest;
                        number
                    }
                });
            }
        }
        visitor.entry(id, &fields);
        fields.clear();
        // Nothing is left in it that borrows; collecting in place keeps the memory.
        self.fields = fields.into_iter().map(|_| &[][..]).collect();
        Ok(())
    }
}

/// What the entries of a node refer to.
struct Node<'a> {
    id: StreamId,
    fields: u64,
    names: Listpack<'a>,
}

/// The fields of an entry: names and values in turn, or the names elsewhere.
#[derive(Clone)]
struct Pairs<'a> {
    names: Option<Listpack<'a>>,
    values: Listpack<'a>,
    left: u64,
}

impl<'a> Pairs<'a> {
    #[inline]
    fn next(&mut self) -> Result<Option<(Element<'a>, Element<'a>)>, Flaw> {
        let Some(left) = self.left.checked_sub(1) else {
            return Ok(None);
        };
        self.left = left;
        let name = element(self.names.as_mut().unwrap_or(&mut self.values))?;
        Ok(Some((name, element(&mut self.values)?)))
    }
}

#[inline]
fn element<'a>(elements: &mut Listpack<'a>) -> Result<Element<'a>, Flaw> {
    elements.next().ok_or(Flaw::StreamNode)?
}

#[inline]
fn number(elements: &mut Listpack<'_>) -> Result<i64, Flaw> {
    match element(elements)? {
        Element::Integer(number) => Ok(number),
        Element::Bytes(_) => Err(Flaw::StreamNode),
    }
}

#[inline]
fn count(elements: &mut Listpack<'_>) -> Result<u64, Flaw> {
    u64::try_from(number(elements)?).map_err(|_| Flaw::StreamNode)
}
