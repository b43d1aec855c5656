//! Arrays: values at indices, most of which may be unused (Redis 8.8).
//!
//! ```text
//! count │ whether there is an insert index (0, 1) │ [insert index] │ index, tag, value │ …
//! ```
//!
//! The layout is librdb's; no server that writes it was at hand.

use super::Scratch;
use super::error::Flaw;
use super::reader::Reader;
use crate::rdb::visit::{Kind, SlotValue, Visitor};

const TAG_STRING: u64 = 0;
const TAG_INTEGER: u64 = 1;
const TAG_DOUBLE: u64 = 2;
const TAG_SMALL_STRING: u64 = 3;

pub(super) fn array<V: Visitor + ?Sized>(
    reader: &mut Reader<'_>,
    scratch: &mut Scratch,
    visitor: &mut V,
) -> Result<(), Flaw> {
    let count = reader.count()?;
    let insert_index = match reader.length()? {
        0 => None,
        1 => Some(reader.length()?),
        _ => return Err(Flaw::Array),
    };
    visitor.begin(Kind::Array);
    visitor.array(insert_index);
    let mut last = None;
    for _ in 0..count {
        let index = reader.length()?;
        if last.replace(index).is_some_and(|last| last >= index) {
            return Err(Flaw::Array);
        }
        let value = match reader.length()? {
            TAG_STRING | TAG_SMALL_STRING => SlotValue::Text(reader.string(&mut scratch.first)?),
            TAG_INTEGER => SlotValue::Integer(reader.integer()?),
            TAG_DOUBLE => SlotValue::Double(reader.double()?),
            _ => return Err(Flaw::Array),
        };
        visitor.slot(index, value);
    }
    Ok(())
}
