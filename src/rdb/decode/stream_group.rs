//! Consumer groups of a stream.
//!
//! ```text
//! name │ last id │ [entries read] │ pending: id, delivered, deliveries │ … │ consumers │ [pending without an owner: id │ …]
//! consumer: name │ seen │ [active] │ pending: id │ …
//! ```
//!
//! # Invariants
//!
//! - A group is built whole, since its parts refer to each other. It takes memory in proportion to the bytes that it was
//!   read from, and never for a number that only claims to be one of them.
//! - Pending entries ascend. What a consumer has pending is pending in the group, and no other consumer has it.

use super::error::Flaw;
use super::reader::{Reader, Text};
use super::stream::{SINCE_7_0, SINCE_7_2, SINCE_8_8};
use crate::rdb::visit::{Consumer, Group, Pending, StreamId};

/// A pending entry of a group: id, instant, and a length of a byte at least.
const PENDING_BYTES_MIN: usize = 16 + 8 + 1;

/// A consumer: an empty name, an instant, no pending entries.
const CONSUMER_BYTES_MIN: usize = 1 + 8 + 1;

/// A pending entry of a consumer.
const PENDING_ID_BYTES: usize = 16;

pub(super) fn group(
    type_byte: u8,
    reader: &mut Reader<'_>,
    text: &mut Text,
) -> Result<Group, Flaw> {
    let name = reader.string(text)?.to_vec();
    let last_id = reader.stream_id()?;
    let entries_read = if type_byte >= SINCE_7_0 {
        // -1 is written as the length that has the same bits.
        Some(reader.length()?.cast_signed())
    } else {
        None
    };
    let pending = several(reader, PENDING_BYTES_MIN, |reader| {
        Ok(Pending {
            id: reader.raw_stream_id()?,
            delivered_ms: reader.integer()?,
            deliveries: reader.length()?,
        })
    })?;
    if !pending.is_sorted_by(|one, next| one.id < next.id) {
        return Err(Flaw::StreamOrder);
    }
    let mut owned = vec![false; pending.len()];
    let consumers = several(reader, CONSUMER_BYTES_MIN, |reader| {
        consumer(type_byte, reader, text, &pending, &mut owned)
    })?;
    let unowned = if type_byte >= SINCE_8_8 {
        pending_ids(reader, &pending, &mut owned)?
    } else {
        Vec::new()
    };
    Ok(Group {
        name,
        last_id,
        entries_read,
        pending,
        consumers,
        unowned,
    })
}

fn consumer(
    type_byte: u8,
    reader: &mut Reader<'_>,
    text: &mut Text,
    pending: &[Pending],
    owned: &mut [bool],
) -> Result<Consumer, Flaw> {
    Ok(Consumer {
        name: reader.string(text)?.to_vec(),
        seen_ms: reader.integer()?,
        active_ms: if type_byte >= SINCE_7_2 {
            Some(reader.integer()?)
        } else {
            None
        },
        pending: pending_ids(reader, pending, owned)?,
    })
}

/// Ids of the group's pending entries that nobody has owned so far.
fn pending_ids(
    reader: &mut Reader<'_>,
    pending: &[Pending],
    owned: &mut [bool],
) -> Result<Vec<StreamId>, Flaw> {
    let ids = several(reader, PENDING_ID_BYTES, |reader| {
        let id = reader.raw_stream_id()?;
        let index = pending.binary_search_by_key(&id, |pending| pending.id);
        let owned = index.ok().and_then(|index| owned.get_mut(index));
        match owned {
            Some(owned) if !*owned => *owned = true,
            _ => return Err(Flaw::Pending),
        }
        Ok(id)
    })?;
    if ids.is_sorted() {
        Ok(ids)
    } else {
        Err(Flaw::StreamOrder)
    }
}

/// As many as a length says, each of at least `bytes_min` bytes.
pub(super) fn several<T>(
    reader: &mut Reader<'_>,
    bytes_min: usize,
    mut read: impl FnMut(&mut Reader<'_>) -> Result<T, Flaw>,
) -> Result<Vec<T>, Flaw> {
    let count = usize::try_from(reader.length()?).map_err(|_| Flaw::Truncated)?;
    if count > reader.len().checked_div(bytes_min).unwrap_or(count) {
        return Err(Flaw::Truncated);
    }
    let mut read_so_far = Vec::new();
    read_so_far
        .try_reserve_exact(count)
        .map_err(|_| Flaw::TooLarge)?;
    for _ in 0..count {
        read_so_far.push(read(reader)?);
    }
    Ok(read_so_far)
}
