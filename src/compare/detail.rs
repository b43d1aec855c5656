//! Where two values differ first, in words.
//!
//! Names of fields and members are said, escaped and cut; values never are.
//!
//! # Invariant
//!
//! Memory stays bounded: of a value with more than [`PIECES_MAX`] pieces nothing is said.

use std::collections::HashMap;

use crate::key::Escaped;
use crate::rdb::decode::walk;
use crate::rdb::visit::{
    Group, Idempotence, Kind, SlotValue, StreamId, StreamState, VectorElement, VectorSetState,
    Visitor,
};

/// Most pieces of a value that are remembered, in about as many times 50 bytes.
const PIECES_MAX: usize = 100_000;
/// Most characters of a name that are shown.
const NAME_CHARS_MAX: usize = 64;

/// Where two payloads' values differ first; nothing, if that can't be said.
pub fn first_difference(source: &[u8], target: &[u8]) -> Option<String> {
    let mut pieces = Pieces::default();
    walk(source, &mut pieces).ok()?;
    let mut against = Against {
        kind: None,
        pieces: &mut pieces,
        place: 0,
        found: None,
    };
    walk(target, &mut against).ok()?;
    let (kind, found) = (against.kind?, against.found.take());
    if pieces.kind != Some(kind) || pieces.overflow {
        return None;
    }
    if found.is_some() {
        return found;
    }
    // All that the target has is on the source; what else does that have?
    let mut rest = Rest {
        kind,
        pieces: &pieces,
        place: 0,
        found: None,
    };
    walk(source, &mut rest).ok()?;
    rest.found
}

/// What a piece is known by within its value, and what it holds. The name is made only for what differs.
struct Piece<'a> {
    id: Id<'a>,
    content: u64,
}

enum Id<'a> {
    Named(&'static str, &'a [u8]),
    Entry(StreamId),
    Place(&'static str, u64),
    Whole(&'static str),
}

impl Id<'_> {
    fn hash(&self) -> u128 {
        let mut hasher = blake3::Hasher::new();
        match self {
            Self::Named(what, name) => hasher.update(what.as_bytes()).update(name),
            Self::Entry(id) => hasher
                .update(b"entry")
                .update(&id.ms.to_le_bytes())
                .update(&id.seq.to_le_bytes()),
            Self::Place(what, place) => hasher.update(what.as_bytes()).update(&place.to_le_bytes()),
            Self::Whole(what) => hasher.update(what.as_bytes()),
        };
        let mut first = [0; 16];
        first.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        u128::from_le_bytes(first)
    }

    fn shown(&self) -> String {
        match self {
            Self::Named(what, name) => {
                let mut shown: String = Escaped(name).to_string();
                if shown.chars().count() > NAME_CHARS_MAX {
                    shown = shown.chars().take(NAME_CHARS_MAX).collect();
                    shown.push('\u{2026}');
                }
                format!("{what} \"{shown}\"")
            }
            Self::Entry(id) => format!("entry {}-{}", id.ms, id.seq),
            Self::Place(what, place) => format!("{what} {place}"),
            Self::Whole(what) => (*what).to_owned(),
        }
    }
}

fn content(parts: &[&[u8]]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(first)
}

/// What each kind of walk does with a piece.
trait Take {
    fn kind(&mut self, kind: Kind);
    fn take(&mut self, piece: &Piece<'_>);
    /// Number of the next element in a sequence.
    fn place(&mut self) -> u64;
}

/// The source's pieces: what they hold, and whether the target has them.
#[derive(Default)]
struct Pieces {
    kind: Option<Kind>,
    known: HashMap<u128, (u64, bool)>,
    place: u64,
    overflow: bool,
}

impl Take for Pieces {
    fn kind(&mut self, kind: Kind) {
        self.kind = Some(kind);
    }

    fn take(&mut self, piece: &Piece<'_>) {
        self.overflow |= self.known.len() >= PIECES_MAX;
        if !self.overflow {
            self.known.insert(piece.id.hash(), (piece.content, false));
        }
    }

    fn place(&mut self) -> u64 {
        self.place += 1;
        self.place - 1
    }
}

/// Walks the target and looks for the first piece that the source has not, or has otherwise.
struct Against<'a> {
    kind: Option<Kind>,
    pieces: &'a mut Pieces,
    place: u64,
    found: Option<String>,
}

impl Take for Against<'_> {
    fn kind(&mut self, kind: Kind) {
        self.kind = Some(kind);
    }

    fn take(&mut self, piece: &Piece<'_>) {
        if self.found.is_some() || self.pieces.overflow {
            return;
        }
        self.found = match self.pieces.known.get_mut(&piece.id.hash()) {
            None => Some(format!("{} only on target", piece.id.shown())),
            Some((content, seen)) => {
                *seen = true;
                (*content != piece.content).then(|| format!("{} differs", piece.id.shown()))
            }
        };
    }

    fn place(&mut self) -> u64 {
        self.place += 1;
        self.place - 1
    }
}

/// Walks the source again and looks for the first piece that the target has not.
struct Rest<'a> {
    kind: Kind,
    pieces: &'a Pieces,
    place: u64,
    found: Option<String>,
}

impl Take for Rest<'_> {
    fn kind(&mut self, kind: Kind) {
        self.kind = kind;
    }

    fn take(&mut self, piece: &Piece<'_>) {
        if self.found.is_none()
            && self
                .pieces
                .known
                .get(&piece.id.hash())
                .is_some_and(|(_, seen)| !seen)
        {
            self.found = Some(format!("{} only on source", piece.id.shown()));
        }
    }

    fn place(&mut self) -> u64 {
        self.place += 1;
        self.place - 1
    }
}

fn whole<T: Take>(walk: &mut T, what: &'static str, content: u64) {
    walk.take(&Piece {
        id: Id::Whole(what),
        content,
    });
}

impl<T: Take> Visitor for T {
    fn begin(&mut self, kind: Kind) {
        self.kind(kind);
    }

    fn string(&mut self, bytes: &[u8]) {
        whole(self, "length", bytes.len() as u64);
        // Its content is said by the digests.
    }

    fn element(&mut self, bytes: &[u8]) {
        let place = self.place();
        self.take(&Piece {
            id: Id::Place("element", place),
            content: content(&[bytes]),
        });
    }

    fn member(&mut self, bytes: &[u8]) {
        self.take(&Piece {
            id: Id::Named("member", bytes),
            content: 0,
        });
    }

    fn scored(&mut self, member: &[u8], score: f64) {
        // -0 and 0 are one score.
        let score = if score == 0.0 { 0.0 } else { score };
        self.take(&Piece {
            id: Id::Named("member", member),
            content: score.to_bits(),
        });
    }

    fn field(&mut self, field: &[u8], value: &[u8], expires_ms: Option<i64>) {
        let expires = expires_ms.map_or([0; 9], |ms| {
            let mut bytes = [1; 9];
            bytes[1..].copy_from_slice(&ms.to_le_bytes());
            bytes
        });
        self.take(&Piece {
            id: Id::Named("field", field),
            content: content(&[value, &expires]),
        });
    }

    fn entry(&mut self, id: StreamId, fields: &[&[u8]]) {
        self.take(&Piece {
            id: Id::Entry(id),
            content: content(fields),
        });
    }

    fn stream(&mut self, stream: &StreamState) {
        let StreamId { ms, seq } = stream.last_id;
        whole(
            self,
            "last id",
            content(&[&ms.to_le_bytes(), &seq.to_le_bytes()]),
        );
    }

    fn group(&mut self, group: &Group) {
        let mut parts: Vec<Vec<u8>> = vec![
            group.last_id.ms.to_le_bytes().to_vec(),
            group.last_id.seq.to_le_bytes().to_vec(),
        ];
        for pending in &group.pending {
            parts.push(pending.id.ms.to_le_bytes().to_vec());
            parts.push(pending.id.seq.to_le_bytes().to_vec());
            parts.push(pending.deliveries.to_le_bytes().to_vec());
        }
        let mut consumers: Vec<Vec<u8>> = group
            .consumers
            .iter()
            .map(|consumer| {
                let mut owned = consumer.name.clone();
                for id in &consumer.pending {
                    owned.extend(id.ms.to_le_bytes());
                    owned.extend(id.seq.to_le_bytes());
                }
                owned
            })
            .collect();
        consumers.sort_unstable();
        parts.append(&mut consumers);
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        self.take(&Piece {
            id: Id::Named("group", &group.name),
            content: content(&parts),
        });
    }

    fn idempotence(&mut self, idempotence: &Idempotence) {
        let shown = format!("{idempotence:?}");
        whole(self, "idempotence", content(&[shown.as_bytes()]));
    }

    fn array(&mut self, insert_index: Option<u64>) {
        whole(
            self,
            "insert index",
            insert_index.map_or(0, |index| index + 1),
        );
    }

    fn slot(&mut self, index: u64, value: SlotValue<'_>) {
        let shown = format!("{value:?}");
        self.take(&Piece {
            id: Id::Place("slot", index),
            content: content(&[shown.as_bytes()]),
        });
    }

    fn vector_set(&mut self, vector_set: &VectorSetState<'_>) {
        let shown = format!("{vector_set:?}");
        whole(self, "dimensions", content(&[shown.as_bytes()]));
    }

    fn vector(&mut self, vector: &VectorElement<'_>) {
        let shown = format!("{vector:?}");
        self.take(&Piece {
            id: Id::Named("element", vector.name),
            content: content(&[shown.as_bytes()]),
        });
    }

    fn module(&mut self, _: &str, _: u16, tokens: &[u8]) {
        whole(self, "module value", content(&[tokens]));
    }
}
