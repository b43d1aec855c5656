//! Vector sets (Redis 8.0): a module's value whose tokens are known.
//!
//! ```text
//! dimensions │ count │ quantization (8 bits), links of a node (16 bits) │ flags │ [dimensions before, matrix] │ element │ …
//! element: name │ [attributes] │ vector │ number of parameters │ parameters
//! parameters: node's id, level, links … │ the vector's length (f32), its range (f32)
//! ```
//!
//! Vectors are stored with length 1. The graph of links is built anew differently by each server, so it is not told.

use super::Scratch;
use super::error::Flaw;
use super::module::{end_token, string_token, unsigned_token};
use super::reader::Reader;
use crate::rdb::visit::{Kind, VectorElement, VectorSetState, Visitor};

/// The module's name for it.
pub(super) const TYPE_NAME: &str = "vectorset";

/// The only version of the type's encoding so far.
pub(super) const TYPE_VERSION: u16 = 0;

/// A matrix follows that reduces dimensions.
const FLAG_PROJECTION: u64 = 1;

/// Each element has attributes, though they may be empty.
const FLAG_ATTRIBUTES: u64 = 2;

/// No quantization: a component is four bytes.
const QUANTIZATION_NONE: u64 = 0;

/// A component is one byte.
const QUANTIZATION_EIGHT_BITS: u64 = 1;

/// A component is one bit, in words of eight bytes.
const QUANTIZATION_BINARY: u64 = 2;

pub(super) fn vector_set<V: Visitor + ?Sized>(
    reader: &mut Reader<'_>,
    scratch: &mut Scratch,
    visitor: &mut V,
) -> Result<(), Flaw> {
    let dimensions = unsigned_token(reader)?;
    let count = unsigned_token(reader)?;
    let quantization = unsigned_token(reader)? & 0xff;
    let flags = unsigned_token(reader)?;
    let components_len = components_len(dimensions, quantization).ok_or(Flaw::VectorSet)?;
    if count == 0 {
        return Err(Flaw::Empty);
    }
    if flags & !(FLAG_PROJECTION | FLAG_ATTRIBUTES) != 0 {
        return Err(Flaw::VectorSet);
    }
    let mut projection: &[u8] = &[];
    if flags & FLAG_PROJECTION != 0 {
        // The dimensions before follow from the matrix's length.
        unsigned_token(reader)?;
        projection = string_token(reader, &mut scratch.more)?;
    }
    visitor.begin(Kind::VectorSet);
    visitor.vector_set(&VectorSetState {
        dimensions,
        quantization,
        projection,
    });
    for _ in 0..count {
        let name = string_token(reader, &mut scratch.first)?;
        let attributes: &[u8] = match flags & FLAG_ATTRIBUTES {
            0 => &[],
            _ => string_token(reader, &mut scratch.second)?,
        };
        let components = string_token(reader, &mut scratch.more)?;
        if u64::try_from(components.len()) != Ok(components_len) {
            return Err(Flaw::VectorSet);
        }
        let [norm, range] = norm_and_range(reader)?;
        // Of other vectors a server stores whatever was there in its memory.
        let range = match quantization {
            QUANTIZATION_EIGHT_BITS => range,
            _ => 0.0,
        };
        visitor.vector(&VectorElement {
            name,
            attributes,
            components,
            norm,
            range,
        });
    }
    end_token(reader)
}

fn components_len(dimensions: u64, quantization: u64) -> Option<u64> {
    match quantization {
        QUANTIZATION_NONE => dimensions.checked_mul(4),
        QUANTIZATION_EIGHT_BITS => Some(dimensions),
        QUANTIZATION_BINARY => dimensions.div_ceil(64).checked_mul(8),
        _ => None,
    }
}

/// The last of an element's parameters; those before it are its place in the graph.
fn norm_and_range(reader: &mut Reader<'_>) -> Result<[f32; 2], Flaw> {
    let mut last = None;
    for _ in 0..unsigned_token(reader)? {
        last = Some(unsigned_token(reader)?);
    }
    let [norm, range] = match last.ok_or(Flaw::VectorSet)?.to_le_bytes() {
        [a, b, c, d, e, f, g, h] => [[a, b, c, d], [e, f, g, h]],
    };
    Ok([f32::from_le_bytes(norm), f32::from_le_bytes(range)])
}
