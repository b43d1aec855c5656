//! A stream's entries in nodes of our own.
//!
//! A node is a listpack: first what its entries have in common, then the entries, their ids as distances from the first.

use super::listpack::{self, integer, string};
use super::writer::{Writer, id_bytes};
use crate::rdb::visit::StreamId;

/// What Redis puts into a node unless it is told otherwise.
const NODE_ENTRIES_MAX: i64 = 100;
const NODE_BYTES_MAX: usize = 4096;

/// The entry has the fields that are named at the node's beginning.
const SAME_FIELDS: i64 = 2;

/// Collects entries until a node is full.
#[derive(Default)]
pub struct Nodes {
    first: StreamId,
    /// The first entry's field names, encoded.
    fields: Vec<u8>,
    field_count: i64,
    /// All entries, encoded.
    entries: Vec<u8>,
    entry_count: i64,
    /// Elements in `entries`.
    elements: u64,
    /// An entry's field names, encoded, to be compared with the first's.
    names: Vec<u8>,
}

impl Nodes {
    /// Takes an entry; a node that it does not fit into any more is written first. True, if one was.
    pub fn entry(&mut self, out: &mut Writer, id: StreamId, fields: &[&[u8]]) -> bool {
        let full = self.entry_count >= NODE_ENTRIES_MAX || self.entries.len() >= NODE_BYTES_MAX;
        let written = full && self.finish(out);
        self.names.clear();
        for name in fields.iter().step_by(2) {
            string(&mut self.names, name);
        }
        let field_count = i64::try_from(fields.len() / 2).unwrap_or(i64::MAX);
        if self.entry_count == 0 {
            self.first = id;
            self.field_count = field_count;
            self.fields.clone_from(&self.names);
        }
        let same = self.field_count == field_count && self.fields == self.names;
        self.append(id, fields, field_count, same);
        written
    }

    fn append(&mut self, id: StreamId, fields: &[&[u8]], field_count: i64, same: bool) {
        let out = &mut self.entries;
        let mut elements = integer(out, if same { SAME_FIELDS } else { 0 });
        // Distances wrap, as the server's own do: a later entry may have a smaller sequence number.
        elements = elements.saturating_add(integer(out, distance(id.ms, self.first.ms)));
        elements = elements.saturating_add(integer(out, distance(id.seq, self.first.seq)));
        if !same {
            elements = elements.saturating_add(integer(out, field_count));
        }
        let (skip, step) = if same { (1, 2) } else { (0, 1) };
        for part in fields.iter().skip(skip).step_by(step) {
            elements = elements.saturating_add(string(out, part));
        }
        integer(out, i64::try_from(elements).unwrap_or(i64::MAX));
        self.elements = self.elements.saturating_add(elements).saturating_add(1);
        self.entry_count = self.entry_count.saturating_add(1);
    }

    /// Writes the node that is open. False, if there is none.
    pub fn finish(&mut self, out: &mut Writer) -> bool {
        if self.entry_count == 0 {
            return false;
        }
        let mut common = Vec::with_capacity(self.fields.len().saturating_add(16));
        integer(&mut common, self.entry_count);
        integer(&mut common, 0);
        integer(&mut common, self.field_count);
        common.extend_from_slice(&self.fields);
        integer(&mut common, 0);
        let elements = u64::try_from(self.field_count)
            .unwrap_or(u64::MAX)
            .saturating_add(4)
            .saturating_add(self.elements);
        let bytes = common.len().saturating_add(self.entries.len());
        match listpack::frame(elements, bytes) {
            Some((header, end)) => {
                out.string(&id_bytes(self.first));
                out.length(
                    (bytes as u64)
                        .saturating_add(header.len() as u64)
                        .saturating_add(1),
                );
                out.raw(&header);
                out.raw(&common);
                out.raw(&self.entries);
                out.raw(&[end]);
            }
            None => out.overflow(),
        }
        self.entries.clear();
        self.entry_count = 0;
        self.elements = 0;
        true
    }
}

fn distance(to: u64, from: u64) -> i64 {
    to.wrapping_sub(from) as i64
}
