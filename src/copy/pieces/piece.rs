//! A piece of a value, and the commands that append it to a key of the target.
//!
//! # Invariants
//!
//! - After the commands of a piece that was written before, in full or in part, the key is the same as after once, if what
//!   [`Piece::is_written`] knows is taken for success.
//! - A field that expires is never left without its expiry but where the plan says so.
//! - No argument is longer than what the target takes.

use redis::Cmd;

use super::answers::Pair;
use super::groups::GroupPiece;
use crate::plan::FieldTtl;
use crate::rdb::dialect::{Dialect, FieldExpiry};
use crate::rdb::visit::StreamId;

/// Most elements of one command: it keeps the target busy for less than a millisecond.
pub(super) const COMMAND_ELEMENTS_MAX: usize = 500;

/// The group that makes a stream without entries, for a moment. The stream's own groups come later.
const MAKER: &str = "redknot";

/// What the target can hold, and what the plan says where it can't.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// What its payloads look like, which tells its abilities.
    pub dialect: Dialect,
    /// What becomes of fields that expire where it can't hold that.
    pub field_ttl: FieldTtl,
    /// Longest argument that it takes (`proto-max-bulk-len`), and so the longest string that it can hold.
    pub bulk_bytes_max: u64,
}

/// Why a target can't get a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// Before Redis 7.4 and Valkey 9.0 fields don't expire.
    #[error(
        "fields of the hash expire, and the target can't hold that (--field-ttl drop: without their expiry)"
    )]
    FieldsExpire,
    /// Before Redis 5.0 there are no streams.
    #[error("the target has no streams")]
    NoStreams,
    /// It is longer than what the target takes.
    #[error(
        "it has {bytes} bytes in one string, and the target takes {bytes_max} (proto-max-bulk-len)"
    )]
    TooLong {
        /// How long it is.
        bytes: u64,
        /// What the target takes.
        bytes_max: u64,
    },
}

/// A piece of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    pub(super) content: Content,
    pub(super) bytes: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    /// Of a string, from this offset on.
    Text { offset: u64, bytes: Vec<u8> },
    /// Of a list, from this index on.
    Elements { index: u64, elements: Vec<Vec<u8>> },
    /// Of a set.
    Members(Vec<Vec<u8>>),
    /// Of a sorted set: members, and scores as the source told them.
    Scored(Vec<Pair>),
    /// Of a hash.
    Fields(Vec<Field>),
    /// Of a stream.
    Entries(Vec<Entry>),
    /// What a stream says of itself, behind its entries.
    Stream(StreamState),
    /// Of a stream's consumer groups, behind everything else.
    Group(GroupPiece),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field {
    pub name: Vec<u8>,
    pub value: Vec<u8>,
    /// Unix milliseconds.
    pub expires_ms: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub id: StreamId,
    /// Fields and values, alternately.
    pub parts: Vec<Vec<u8>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StreamState {
    pub is_empty: bool,
    pub last_id: StreamId,
    /// Since Redis 7.0: entries ever added, and the highest id deleted.
    pub counters: Option<(u64, StreamId)>,
}

impl Target {
    /// Whether streams count what was added to them (Redis 7.0).
    pub(super) fn counts_entries(&self) -> bool {
        self.dialect.stream_type() >= Some(19)
    }

    pub(super) fn check_length(&self, bytes: u64) -> Result<(), Obstacle> {
        match bytes > self.bulk_bytes_max {
            true => Err(Obstacle::TooLong {
                bytes,
                bytes_max: self.bulk_bytes_max,
            }),
            false => Ok(()),
        }
    }
}

impl Piece {
    /// About the memory that it takes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How much of the key it is, in the unit of [`super::Reader::length`].
    pub fn length(&self) -> u64 {
        let length = match &self.content {
            Content::Text { bytes, .. } => bytes.len(),
            Content::Elements { elements, .. } => elements.len(),
            Content::Members(members) => members.len(),
            Content::Scored(members) => members.len(),
            Content::Fields(fields) => fields.len(),
            Content::Entries(entries) => entries.len(),
            Content::Stream(_) | Content::Group(_) => 0,
        };
        length as u64
    }

    /// What it holds, in which order: two pieces of one digest are the same. BLAKE3, cut.
    pub fn digest(&self) -> [u8; 16] {
        let mut frame = Frame::default();
        match &self.content {
            Content::Text { offset, bytes } => frame.tag(0).number(*offset).put(bytes),
            Content::Elements { index, elements } => frame.tag(1).number(*index).put_all(elements),
            Content::Members(members) => frame.tag(2).put_all(members),
            Content::Scored(members) => {
                frame.tag(3);
                for (member, score) in members {
                    frame.put(member).put(score);
                }
                &mut frame
            }
            Content::Fields(fields) => {
                frame.tag(4);
                for field in fields {
                    // No instant is the lowest number.
                    let expires_ms = field.expires_ms.unwrap_or(i64::MIN);
                    frame.put(&field.name).put(&field.value);
                    frame.put(&expires_ms.to_le_bytes());
                }
                &mut frame
            }
            Content::Entries(entries) => {
                frame.tag(5);
                for entry in entries {
                    frame.id(entry.id).number(entry.parts.len() as u64);
                    frame.put_all(&entry.parts);
                }
                &mut frame
            }
            Content::Stream(state) => {
                frame.tag(6).tag(u8::from(state.is_empty)).id(state.last_id);
                if let Some((added, deleted)) = state.counters {
                    frame.number(added).id(deleted);
                }
                &mut frame
            }
            Content::Group(group) => group.digest_into(frame.tag(7)),
        };
        frame.finish()
    }

    /// The commands that append it to `key` of the target, to be sent in this order. Of a hash whose fields have all
    /// expired there may be none, and then there is no key.
    ///
    /// # Errors
    ///
    /// The target can't hold it.
    pub fn commands(&self, key: &[u8], target: &Target) -> Result<Vec<Cmd>, Obstacle> {
        match &self.content {
            Content::Text { offset, bytes } => text(key, *offset, bytes, target),
            Content::Elements { index, elements } => list(key, *index, elements, target),
            Content::Members(members) => {
                in_commands("SADD", key, members, target, |member| [member])
            }
            Content::Scored(members) => {
                in_commands("ZADD", key, members, target, |(member, score)| {
                    [score, member]
                })
            }
            Content::Fields(fields) => hash(key, fields, target),
            Content::Entries(entries) => entries
                .iter()
                .map(|entry| add_entry(key, entry, target))
                .collect(),
            Content::Stream(state) => stream(key, state, target),
            Content::Group(group) => Ok(group.commands(key, target)),
        }
    }

    /// Whether an error that the target answers to one of the commands says that an earlier try has written it.
    pub fn is_written(&self, error_line: &str) -> bool {
        match self.content {
            Content::Entries(_) => error_line.contains("ID specified in XADD is equal or smaller"),
            // The group that makes an empty stream, of a try that ended before it had gone again.
            Content::Stream(state) => state.is_empty && error_line.starts_with("BUSYGROUP"),
            _ => false,
        }
    }
}

fn text(key: &[u8], offset: u64, bytes: &[u8], target: &Target) -> Result<Vec<Cmd>, Obstacle> {
    target.check_length(offset.saturating_add(bytes.len() as u64))?;
    let mut command = Cmd::new();
    // SETRANGE of nothing makes no key.
    match bytes.is_empty() {
        true => command.arg("SET").arg(key).arg(bytes),
        false => command.arg("SETRANGE").arg(key).arg(offset).arg(bytes),
    };
    Ok(vec![command])
}

fn list(
    key: &[u8],
    index: u64,
    elements: &[Vec<u8>],
    target: &Target,
) -> Result<Vec<Cmd>, Obstacle> {
    // What an earlier try has appended goes first; as a rule there is nothing. A range that ends before it begins is none.
    let mut cut = Cmd::new();
    cut.arg("LTRIM").arg(key);
    match index.checked_sub(1) {
        Some(last) => cut.arg(0).arg(last),
        None => cut.arg(1).arg(0),
    };
    let mut commands = in_commands("RPUSH", key, elements, target, |element| [element])?;
    commands.insert(0, cut);
    Ok(commands)
}

fn hash(key: &[u8], fields: &[Field], target: &Target) -> Result<Vec<Cmd>, Obstacle> {
    let expiring = || {
        let expiries = fields.iter();
        expiries.filter_map(|field| field.expires_ms.map(|ms| (ms, &field.name)))
    };
    let carried = target.dialect.field_expiry() != FieldExpiry::None;
    if !carried && target.field_ttl == FieldTtl::Quarantine && expiring().next().is_some() {
        return Err(Obstacle::FieldsExpire);
    }
    let mut commands = in_commands("HMSET", key, fields, target, |field| {
        [&field.name, &field.value]
    })?;
    if !carried {
        return Ok(commands);
    }
    let mut by_instant: Vec<(i64, &Vec<u8>)> = expiring().collect();
    by_instant.sort_by_key(|(ms, _)| *ms);
    for same in by_instant.chunk_by(|(one, _), (other, _)| one == other) {
        for few in same.chunks(COMMAND_ELEMENTS_MAX) {
            let mut command = redis::cmd("HPEXPIREAT");
            command.arg(key).arg(same[0].0);
            command.arg("FIELDS").arg(few.len());
            few.iter().for_each(|(_, name)| {
                command.arg(name.as_slice());
            });
            commands.push(command);
        }
    }
    Ok(commands)
}

fn add_entry(key: &[u8], entry: &Entry, target: &Target) -> Result<Cmd, Obstacle> {
    if target.dialect.stream_type().is_none() {
        return Err(Obstacle::NoStreams);
    }
    let mut command = redis::cmd("XADD");
    command.arg(key).arg(shown(entry.id));
    for part in &entry.parts {
        target.check_length(part.len() as u64)?;
        command.arg(part.as_slice());
    }
    Ok(command)
}

fn stream(key: &[u8], state: &StreamState, target: &Target) -> Result<Vec<Cmd>, Obstacle> {
    if target.dialect.stream_type().is_none() {
        return Err(Obstacle::NoStreams);
    }
    let mut commands = Vec::new();
    if state.is_empty {
        // No entry can make the key, so a group does that goes again.
        let mut create = redis::cmd("XGROUP");
        create.arg("CREATE").arg(key).arg(MAKER).arg("0");
        create.arg("MKSTREAM");
        let mut destroy = redis::cmd("XGROUP");
        destroy.arg("DESTROY").arg(key).arg(MAKER);
        commands.extend([create, destroy]);
    }
    let mut command = redis::cmd("XSETID");
    command.arg(key).arg(shown(state.last_id));
    if let Some((added, deleted)) = state.counters.filter(|_| target.counts_entries()) {
        command.arg("ENTRIESADDED").arg(added);
        command.arg("MAXDELETEDID").arg(shown(deleted));
    }
    commands.push(command);
    Ok(commands)
}

/// `command key …`, with some elements each.
fn in_commands<'a, T, const N: usize>(
    name: &str,
    key: &[u8],
    elements: &'a [T],
    target: &Target,
    arguments: impl Fn(&'a T) -> [&'a Vec<u8>; N],
) -> Result<Vec<Cmd>, Obstacle> {
    let mut commands = Vec::with_capacity(elements.len() / COMMAND_ELEMENTS_MAX + 1);
    for few in elements.chunks(COMMAND_ELEMENTS_MAX) {
        let mut command = redis::cmd(name);
        command.arg(key);
        for argument in few.iter().flat_map(&arguments) {
            target.check_length(argument.len() as u64)?;
            command.arg(argument.as_slice());
        }
        commands.push(command);
    }
    Ok(commands)
}

/// As commands take it.
pub(super) fn shown(id: StreamId) -> String {
    format!("{}-{}", id.ms, id.seq)
}

/// Hashes what is told, each part with its length in front.
#[derive(Debug, Default)]
pub(super) struct Frame(blake3::Hasher);

impl Frame {
    pub(super) fn finish(&self) -> [u8; 16] {
        let mut digest = [0; 16];
        self.0.finalize_xof().fill(&mut digest);
        digest
    }

    pub(super) fn tag(&mut self, tag: u8) -> &mut Self {
        self.0.update(&[tag]);
        self
    }

    pub(super) fn number(&mut self, number: u64) -> &mut Self {
        self.0.update(&number.to_le_bytes());
        self
    }

    pub(super) fn id(&mut self, id: StreamId) -> &mut Self {
        self.number(id.ms).number(id.seq)
    }

    pub(super) fn put(&mut self, bytes: &[u8]) -> &mut Self {
        self.number(bytes.len() as u64);
        self.0.update(bytes);
        self
    }

    pub(super) fn put_all(&mut self, all: &[Vec<u8>]) -> &mut Self {
        for bytes in all {
            self.put(bytes);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(content: Content) -> [u8; 16] {
        Piece { content, bytes: 0 }.digest()
    }

    #[test]
    fn pieces_that_mean_something_else_have_another_digest() {
        let bytes = |texts: &[&str]| -> Vec<Vec<u8>> {
            texts.iter().map(|text| text.as_bytes().to_vec()).collect()
        };
        let field = |name: &str, value: &str, expires_ms| Field {
            name: name.into(),
            value: value.into(),
            expires_ms,
        };
        let entry = |seq, parts: &[&str]| Entry {
            id: StreamId { ms: 1, seq },
            parts: bytes(parts),
        };
        let elements = |index, texts| Content::Elements {
            index,
            elements: bytes(texts),
        };
        let text = |offset, text: &str| Content::Text {
            offset,
            bytes: text.into(),
        };
        let state = |is_empty, counters| {
            Content::Stream(StreamState {
                is_empty,
                last_id: StreamId::default(),
                counters,
            })
        };
        let all = [
            text(0, "ab"),
            text(1, "ab"),
            text(0, "ba"),
            elements(0, &["a", "b"]),
            elements(1, &["a", "b"]),
            elements(0, &["ab"]),
            elements(0, &["ab", ""]),
            elements(0, &["b", "a"]),
            Content::Members(bytes(&["a", "b"])),
            Content::Scored(vec![("a".into(), "b".into())]),
            Content::Fields(vec![field("a", "b", None)]),
            Content::Fields(vec![field("a", "b", Some(0))]),
            Content::Fields(vec![field("ab", "", None)]),
            Content::Entries(vec![entry(1, &["a", "b"]), entry(2, &["c", "d"])]),
            Content::Entries(vec![entry(1, &["a", "b", "c", "d"])]),
            Content::Entries(vec![entry(2, &["a", "b", "c", "d"])]),
            state(false, None),
            state(true, None),
            state(true, Some((0, StreamId::default()))),
        ];
        let digests: std::collections::HashSet<[u8; 16]> =
            all.iter().cloned().map(digest).collect();
        assert_eq!(digests.len(), all.len());
        for content in all {
            assert_eq!(digest(content.clone()), digest(content));
        }
    }

    /// A lost connection leaves any part of a piece written.
    #[test]
    fn a_list_is_cut_to_its_length_before_the_piece() {
        let commands = |index| {
            let content = Content::Elements {
                index,
                elements: vec![b"e".to_vec(); COMMAND_ELEMENTS_MAX + 1],
            };
            let target = Target {
                dialect: Dialect::of_server("redis 7.0.15"),
                field_ttl: FieldTtl::Quarantine,
                bulk_bytes_max: 10,
            };
            let piece = Piece { content, bytes: 0 };
            piece.commands(b"key", &target).expect("it is short")
        };
        let packed = |command: &Cmd| {
            let packed = command.get_packed_command();
            String::from_utf8_lossy(&packed).replace("\r\n", " ")
        };
        let first = commands(0);
        assert_eq!(first.len(), 3);
        assert_eq!(packed(&first[0]), "*4 $5 LTRIM $3 key $1 1 $1 0 ");
        let later = commands(70);
        assert_eq!(packed(&later[0]), "*4 $5 LTRIM $3 key $1 0 $2 69 ");
        assert_eq!(packed(&later[2]), "*3 $5 RPUSH $3 key $1 e ");
    }
}
