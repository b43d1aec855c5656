//! Strings, lists, sorted sets, sets and hashes, read in pieces.
//!
//! Strings, lists and sorted sets are read by place: offset, index, rank. Sets and hashes have no places, so they are scanned.
//!
//! # Invariant
//!
//! How many elements an answer may have follows from the sizes of those before, not from how long they took.

use redis::Value;

use super::answers::{self, Pair, array, bytes, number, pairs, strings};
use super::piece::{Content, Field};
use super::{Limits, Next, Piece};
use crate::client::LinkError;
use crate::client::control::Control;
use crate::plan::KeyType;

/// How many elements are asked for first, when nothing is known of their size.
const FIRST_ELEMENTS: usize = 16;

/// How many times as many may be asked for at once as before.
const GROWTH_MAX: usize = 4;

/// What an element costs beside its bytes, in memory and on the wire.
const ELEMENT_OVERHEAD_BYTES: usize = 32;

/// How many elements the next answer may have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Count {
    elements: usize,
}

impl Count {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            elements: FIRST_ELEMENTS.min(limits.answer_elements).max(1),
        }
    }

    pub(super) fn get(self) -> usize {
        self.elements
    }

    /// After an answer with so many elements of so many bytes in all.
    pub(super) fn learn(&mut self, elements: usize, bytes: usize, limits: Limits) {
        // An answer without any says nothing of their size.
        if let Some(each) = bytes.checked_div(elements) {
            let fitting = limits.answer_bytes / each.max(1);
            self.elements = fitting
                .min(self.elements.saturating_mul(GROWTH_MAX))
                .min(limits.answer_elements)
                .max(1);
        }
    }
}

/// About the memory of some strings.
pub(super) fn strings_size<'a>(strings: impl IntoIterator<Item = &'a Vec<u8>>) -> usize {
    let each = |string: &Vec<u8>| string.len().saturating_add(ELEMENT_OVERHEAD_BYTES);
    strings.into_iter().map(each).sum()
}

/// A place in a string, a list or a sorted set.
#[derive(Debug)]
pub(super) struct Window {
    at: u64,
    count: Count,
    begun: bool,
}

impl Window {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            at: 0,
            count: Count::new(limits),
            begun: false,
        }
    }

    pub(super) async fn next(
        &mut self,
        source: &mut Control,
        key: &[u8],
        kind: KeyType,
        length: u64,
        limits: Limits,
    ) -> Result<Next, LinkError> {
        // Of an empty string there is one piece as well.
        if self.at >= length && self.begun {
            return Ok(Next::End);
        }
        self.begun = true;
        match kind {
            KeyType::Zset => self.scored(source, key, length, limits).await,
            KeyType::List => self.elements(source, key, length, limits).await,
            _ => self.text(source, key, length, limits).await,
        }
    }

    async fn text(
        &mut self,
        source: &mut Control,
        key: &[u8],
        length: u64,
        limits: Limits,
    ) -> Result<Next, LinkError> {
        let offset = self.at;
        let wanted = (length - offset).min(limits.piece_bytes.max(1) as u64);
        let mut command = redis::cmd("GETRANGE");
        command.arg(key).arg(offset);
        command.arg((offset + wanted).saturating_sub(1));
        let value = source.ask(&command).await?;
        let bytes = bytes(value)?;
        if bytes.len() as u64 != wanted {
            return Ok(Next::Changed);
        }
        self.at += wanted;
        Ok(Next::Piece(Piece {
            bytes: bytes.len(),
            content: Content::Text { offset, bytes },
        }))
    }

    async fn elements(
        &mut self,
        source: &mut Control,
        key: &[u8],
        length: u64,
        limits: Limits,
    ) -> Result<Next, LinkError> {
        let index = self.at;
        let mut elements = Vec::new();
        let mut bytes = 0;
        while self.at < length && bytes < limits.piece_bytes {
            let mut command = redis::cmd("LRANGE");
            let wanted = self.range(&mut command, key, length);
            let value = source.ask(&command).await?;
            let more = strings(value)?;
            if more.len() as u64 != wanted {
                return Ok(Next::Changed);
            }
            bytes += self.took(more.len(), strings_size(&more), limits);
            elements.extend(more);
        }
        Ok(Next::Piece(Piece {
            bytes,
            content: Content::Elements { index, elements },
        }))
    }

    async fn scored(
        &mut self,
        source: &mut Control,
        key: &[u8],
        length: u64,
        limits: Limits,
    ) -> Result<Next, LinkError> {
        let mut members = Vec::new();
        let mut bytes = 0;
        while self.at < length && bytes < limits.piece_bytes {
            let mut command = redis::cmd("ZRANGE");
            let wanted = self.range(&mut command, key, length);
            command.arg("WITHSCORES");
            let value = source.ask(&command).await?;
            let more = pairs(value)?;
            if more.len() as u64 != wanted {
                return Ok(Next::Changed);
            }
            let size = strings_size(more.iter().flat_map(|(member, score)| [member, score]));
            bytes += self.took(more.len(), size, limits);
            members.extend(more);
        }
        Ok(Next::Piece(Piece {
            bytes,
            content: Content::Scored(members),
        }))
    }

    /// Adds `key first last`, and says how many that are.
    fn range(&self, command: &mut redis::Cmd, key: &[u8], length: u64) -> u64 {
        let wanted = (self.count.get() as u64).min(length - self.at);
        command.arg(key).arg(self.at).arg(self.at + wanted - 1);
        wanted
    }

    fn took(&mut self, elements: usize, bytes: usize, limits: Limits) -> usize {
        self.at += elements as u64;
        self.count.learn(elements, bytes, limits);
        bytes
    }
}

/// A place in a set or a hash that is scanned.
#[derive(Debug)]
pub(super) struct Elements {
    /// `None`: before the beginning, which has the same number as the end.
    cursor: Option<Vec<u8>>,
    ended: bool,
    count: Count,
    of: Of,
}

#[derive(Debug, Clone, Copy)]
enum Of {
    Set,
    /// `expiries`: the source knows fields that expire.
    Hash {
        expiries: bool,
    },
}

impl Elements {
    pub(super) fn of_set(limits: Limits) -> Self {
        Self::new(Of::Set, limits)
    }

    /// Asks whether fields can expire there.
    pub(super) async fn of_hash(source: &mut Control, limits: Limits) -> Result<Self, LinkError> {
        let expiries = source.knows_field_expiries().await?;
        Ok(Self::new(Of::Hash { expiries }, limits))
    }

    fn new(of: Of, limits: Limits) -> Self {
        Self {
            cursor: None,
            ended: false,
            count: Count::new(limits),
            of,
        }
    }

    pub(super) async fn next(
        &mut self,
        source: &mut Control,
        key: &[u8],
        limits: Limits,
    ) -> Result<Next, LinkError> {
        let mut bytes = 0;
        let mut members = Vec::new();
        let mut fields = Vec::new();
        // A piece of nothing would be the end.
        while !self.ended && (bytes < limits.piece_bytes || members.is_empty() && fields.is_empty())
        {
            let found = self.scan(source, key).await?;
            let (elements, size) = match self.of {
                Of::Set => {
                    let found = strings(found)?;
                    let told = (found.len(), strings_size(&found));
                    members.extend(found);
                    told
                }
                Of::Hash { expiries } => {
                    let found = pairs(found)?;
                    let size = strings_size(found.iter().flat_map(|(name, value)| [name, value]));
                    let told = (found.len(), size);
                    match with_expiries(source, key, found, expiries).await? {
                        Some(found) => fields.extend(found),
                        None => return Ok(Next::Changed),
                    }
                    told
                }
            };
            bytes += size;
            self.count.learn(elements, size, limits);
        }
        let content = match self.of {
            Of::Set if members.is_empty() => return Ok(Next::End),
            Of::Set => Content::Members(members),
            Of::Hash { .. } if fields.is_empty() => return Ok(Next::End),
            Of::Hash { .. } => Content::Fields(fields),
        };
        Ok(Next::Piece(Piece { content, bytes }))
    }

    /// One step of the scan.
    async fn scan(&mut self, source: &mut Control, key: &[u8]) -> Result<Value, LinkError> {
        let mut command = redis::cmd(match self.of {
            Of::Set => "SSCAN",
            Of::Hash { .. } => "HSCAN",
        });
        command.arg(key);
        command.arg(self.cursor.as_deref().unwrap_or(b"0"));
        command.arg("COUNT").arg(self.count.get());
        let value = source.ask(&command).await?;
        let Ok([cursor, found]) = <[Value; 2]>::try_from(array(value)?) else {
            return Err(answers::unexpected("a cursor and elements", &Value::Nil));
        };
        let cursor = bytes(cursor)?;
        self.ended = cursor == b"0";
        self.cursor = Some(cursor);
        Ok(found)
    }
}

/// Asks when fields expire. What has expired meanwhile is left out, as the source itself would.
async fn with_expiries(
    source: &mut Control,
    key: &[u8],
    found: Vec<Pair>,
    expiries: bool,
) -> Result<Option<Vec<Field>>, LinkError> {
    let field = |(name, value), expires_ms| Field {
        name,
        value,
        expires_ms,
    };
    if !expiries || found.is_empty() {
        return Ok(Some(
            found.into_iter().map(|pair| field(pair, None)).collect(),
        ));
    }
    let names = found.iter().map(|(name, _)| name);
    let instants = match source.ask(&field_expiries(key, names)).await? {
        Value::Nil => return Ok(None),
        value => array(value)?,
    };
    if instants.len() != found.len() {
        return Ok(None);
    }
    let mut fields = Vec::with_capacity(found.len());
    for (pair, instant) in found.into_iter().zip(&instants) {
        match number(instant)? {
            -1 => fields.push(field(pair, None)),
            instant if instant >= 0 => fields.push(field(pair, Some(instant))),
            // It is gone.
            _ => {}
        }
    }
    Ok(Some(fields))
}

fn field_expiries<'a>(
    key: &[u8],
    names: impl IntoIterator<Item = &'a Vec<u8>, IntoIter: ExactSizeIterator>,
) -> redis::Cmd {
    let names = names.into_iter();
    let mut command = redis::cmd("HPEXPIRETIME");
    command.arg(key).arg("FIELDS").arg(names.len());
    for name in names {
        command.arg(name.as_slice());
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_grow_as_far_as_elements_are_small_and_shrink_at_once() {
        let limits = Limits {
            piece_bytes: 1 << 20,
            answer_bytes: 100_000,
            answer_elements: 500,
        };
        let mut count = Count::new(limits);
        let mut check = |elements, bytes, next| {
            count.learn(elements, bytes, limits);
            assert_eq!(count.get(), next, "after {elements} of {bytes} bytes");
        };
        check(16, 16 * 50, 64);
        // An empty part of a table.
        check(0, 0, 64);
        check(64, 64 * 50, 256);
        check(256, 256 * 50, 500);
        check(500, 500 * 1000, 100);
        check(100, 100 * 1_000_000, 1);
        check(1, 0, 4);
        let tiny = Limits {
            answer_elements: 0,
            answer_bytes: 0,
            ..limits
        };
        let mut count = Count::new(tiny);
        assert_eq!(count.get(), 1);
        count.learn(1, 1000, tiny);
        assert_eq!(count.get(), 1, "something is asked for in any case");
    }
}
