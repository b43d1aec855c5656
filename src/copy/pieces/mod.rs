//! A big key, read and written in pieces: no call keeps either server busy for long, and no more than a piece is in
//! memory. DUMP and RESTORE of such a key block each server for as long as it takes to pack all of it.
//!
//! [`Reader`] reads pieces from the source, [`Piece::commands`] says what appends them to a key of the target. Temporary
//! names, WATCH, and RENAME are the caller's.
//!
//! # Invariants
//!
//! - Under a WATCH of the key that was sent on the same connection before [`Reader::begin`], and whose EXEC after
//!   [`Next::End`] is not nil, the pieces are the value at the moment of that EXEC. Nothing here sends MULTI, EXEC or UNWATCH.
//! - What WATCH does not see (XREADGROUP, XACK, XCLAIM) is read twice, and counts if both readings are equal.
//! - What pieces can't carry is a reason ([`Begun::Whole`], [`Next::Whole`]), never left out.
//! - Pieces are cut by what was read, never by the clock: the same value gives the same pieces, and so the same digests, as long
//!   as the source keeps its hash table as it is.
//! - Each piece may be written several times: the key is the same as after once.

mod answers;
mod collections;
mod groups;
mod piece;
mod stream;

pub use piece::{Obstacle, Piece, Target};

use answers::{is_change, is_refusal};
use collections::{Elements, Window};
use stream::Walk;

use crate::client::LinkError;
use crate::client::control::{Control, text};
use crate::plan::KeyType;

/// How often a key is looked at that becomes another one meanwhile.
const BEGIN_TRIES_MAX: u32 = 3;

/// How much at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// About the bytes of a piece: it ends with the answer that reaches them.
    pub piece_bytes: usize,
    /// About the bytes of one answer. An element may be larger, and so may an answer after small ones.
    pub answer_bytes: usize,
    /// Most elements of one answer.
    pub answer_elements: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // Written in one transaction, it keeps the target busy for some 4 ms: of sorted sets, which cost it most. Smaller ones are
            // no gentler to the source, and larger ones no faster.
            piece_bytes: 256 * 1024,
            answer_bytes: 128 * 1024,
            // Keeps the source busy for half a millisecond: of hashes, which cost it most.
            answer_elements: 500,
        }
    }
}

/// What a key is, before it is read.
#[derive(Debug)]
pub enum Begun {
    /// It can be read in pieces.
    Reader(Reader),
    /// There is no such key.
    Gone,
    /// It can't be read in pieces, and why; DUMP may take it whole.
    Whole(String),
}

/// What comes next of a key.
#[derive(Debug)]
pub enum Next {
    /// To be written behind the pieces before it.
    Piece(Piece),
    /// That was all.
    End,
    /// It is not what it was at the beginning; EXEC would say so too.
    Changed,
    /// It can't be read in pieces after all, and why; DUMP may take it whole.
    Whole(String),
}

/// Reads a key of the source in pieces.
#[derive(Debug)]
pub struct Reader {
    key: Vec<u8>,
    kind: KeyType,
    length: u64,
    done: u64,
    limits: Limits,
    stands: Stands,
}

/// Where a reader stands.
#[derive(Debug)]
enum Stands {
    /// In a string, a list or a sorted set: at this offset, index or rank.
    At(Window),
    /// In a set or a hash, at this cursor.
    Scan(Elements),
    Stream(Box<Walk>),
    End,
}

impl Reader {
    /// Looks what the key is: TYPE, its length, of hashes whether the source knows fields that expire, of streams what
    /// is pending.
    ///
    /// # Errors
    ///
    /// Trouble with the connection.
    pub async fn begin(
        source: &mut Control,
        key: &[u8],
        limits: Limits,
    ) -> Result<Begun, LinkError> {
        for _ in 0..BEGIN_TRIES_MAX {
            match Self::try_begin(source, key, limits).await {
                // Between two questions it became another one; TYPE tells which.
                Err(error) if is_change(&error) => {}
                Err(error) if is_refusal(&error) => return Ok(Begun::Whole(error.to_string())),
                begun => return begun,
            }
        }
        Ok(Begun::Whole("it changes all the time".to_owned()))
    }

    async fn try_begin(
        source: &mut Control,
        key: &[u8],
        limits: Limits,
    ) -> Result<Begun, LinkError> {
        let kind = text(&source.ask(redis::cmd("TYPE").arg(key)).await?);
        let Some(kind) = KeyType::ALL.into_iter().find(|known| known.name() == kind) else {
            return Ok(match kind.as_str() {
                "none" => Begun::Gone,
                kind => Begun::Whole(format!("values of type {kind} can't be read in pieces")),
            });
        };
        let length = source
            .ask(redis::cmd(length_command(kind)).arg(key))
            .await?;
        let length = u64::try_from(answers::number(&length)?).unwrap_or(0);
        let stands = match kind {
            KeyType::String | KeyType::List | KeyType::Zset => Stands::At(Window::new(limits)),
            KeyType::Set => Stands::Scan(Elements::of_set(limits)),
            KeyType::Hash => Stands::Scan(Elements::of_hash(source, limits).await?),
            KeyType::Stream => match Walk::begin(source, key, length, limits).await? {
                Ok(walk) => Stands::Stream(Box::new(walk)),
                Err(why) => return Ok(Begun::Whole(why)),
            },
        };
        Ok(Begun::Reader(Self {
            key: key.to_vec(),
            kind,
            length,
            done: 0,
            limits,
            stands,
        }))
    }

    /// Why the target can't get it, if that is known before it is read.
    pub fn obstacle(&self, target: &Target) -> Option<Obstacle> {
        match self.kind {
            KeyType::String => target.check_length(self.length).err(),
            KeyType::Stream if target.dialect.stream_type().is_none() => Some(Obstacle::NoStreams),
            _ => None,
        }
    }

    /// What it reads.
    pub fn kind(&self) -> KeyType {
        self.kind
    }

    /// How much there is in all: bytes of a string, elements of everything else. A stream's groups don't count.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// How much of it has been read. SCANs may tell an element twice, so it is never more than the length.
    pub fn done(&self) -> u64 {
        self.done.min(self.length)
    }

    /// The next piece. They must be written in this order.
    ///
    /// # Errors
    ///
    /// Trouble with the connection. The reader is of no more use then: begin anew.
    pub async fn next(&mut self, source: &mut Control) -> Result<Next, LinkError> {
        let next = match self.try_next(source).await {
            Err(error) if is_change(&error) => Next::Changed,
            Err(error) if is_refusal(&error) => Next::Whole(error.to_string()),
            next => next?,
        };
        match &next {
            Next::Piece(piece) => self.done = self.done.saturating_add(piece.length()),
            Next::End | Next::Changed | Next::Whole(_) => self.stands = Stands::End,
        }
        Ok(next)
    }

    async fn try_next(&mut self, source: &mut Control) -> Result<Next, LinkError> {
        let (key, limits) = (&self.key, self.limits);
        match &mut self.stands {
            Stands::At(window) => {
                window
                    .next(source, key, self.kind, self.length, limits)
                    .await
            }
            Stands::Scan(elements) => elements.next(source, key, limits).await,
            Stands::Stream(walk) => walk.next(source, key, limits).await,
            Stands::End => Ok(Next::End),
        }
    }
}

fn length_command(kind: KeyType) -> &'static str {
    match kind {
        KeyType::String => "STRLEN",
        KeyType::List => "LLEN",
        KeyType::Set => "SCARD",
        KeyType::Zset => "ZCARD",
        KeyType::Hash => "HLEN",
        KeyType::Stream => "XLEN",
    }
}
