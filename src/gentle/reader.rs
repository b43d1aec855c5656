//! A big key of one side, read in small answers and digested as it comes.
//!
//! # Invariants
//!
//! - A digest is made only of as many elements as the server counts. SCANs may tell an element twice, and then there are too
//!   many; what is torn is read again, and never guessed at.
//! - Under a WATCH that was sent before [`Reader::look`], and whose EXEC behind [`Reader::read`] is not nil, the digest is the
//!   value's at the moment of that EXEC. Nothing here sends MULTI, EXEC or UNWATCH.
//! - An answer is in memory at a time, and what [`Running`] keeps.

use std::time::{Duration, Instant};

use redis::{Cmd, Value, cmd};

use super::answers::{
    self, Pair, array, bytes, count, is_change, number, pairs, parts, score, strings,
};
use super::stream::Stream;
use crate::client::LinkError;
use crate::client::control::{Control, text};
use crate::digest::{DigestRules, Running, StreamLevel};
use crate::pace::{self, LOOK_AGAIN};
use crate::plan::KeyType;
use crate::rdb::visit::Kind;

/// About the bytes of an answer. An element may be larger, and so may an answer after small ones.
const ANSWER_BYTES: usize = 128 * 1024;
/// Most elements of an answer: it keeps the server busy for half a millisecond, of hashes, which cost it most.
const ANSWER_ELEMENTS: usize = 500;
/// Elements that are asked for first, when nothing is known of their size.
const FIRST_ELEMENTS: usize = 16;
/// How many times as many are asked for at once as before.
const GROWTH_MAX: usize = 4;
/// Bytes of a string in an answer. Strings up to here are taken at once, as all HyperLogLogs have to be.
const TEXT_BYTES: u64 = 256 * 1024;

/// What a key is, before it is read.
pub enum Look {
    /// There is no such key.
    Gone,
    /// It can't be read in pieces, and why.
    Whole(String),
    /// It can.
    Found(Reader),
}

/// What reading came to.
pub enum Read {
    /// All of it, with about its bytes.
    Value(Box<Running>, u64),
    /// It is not what it was at first, or what was told is not as much as there is.
    Torn,
    /// It can't be read in pieces, and why.
    Whole(String),
}

/// See the module.
pub struct Reader {
    key: Vec<u8>,
    kind: KeyType,
    /// Bytes of a string, elements of everything else.
    length: u64,
    /// Of a hash: its fields can expire there.
    fields_expire: bool,
    stream: Option<Stream>,
}

impl Reader {
    /// Looks what the key is.
    ///
    /// # Errors
    ///
    /// Trouble with the connection, refusals, and that it became another key between two questions ([`super::is_change`]).
    pub async fn look(server: &mut Control, key: &[u8]) -> Result<Look, LinkError> {
        let kind = text(&server.ask(cmd("TYPE").arg(key)).await?);
        let Some(kind) = KeyType::ALL.into_iter().find(|known| known.name() == kind) else {
            return Ok(match kind.as_str() {
                "none" => Look::Gone,
                kind => Look::Whole(format!("values of type {kind} can't be read in pieces")),
            });
        };
        let length = count(&server.ask(cmd(length_command(kind)).arg(key)).await?)?;
        let mut reader = Self {
            key: key.to_vec(),
            kind,
            length,
            fields_expire: false,
            stream: None,
        };
        match kind {
            KeyType::Hash => reader.fields_expire = server.knows_field_expiries().await?,
            KeyType::Stream => match Stream::look(server, key).await? {
                Ok(stream) => reader.stream = Some(stream),
                Err(why) => return Ok(Look::Whole(why)),
            },
            KeyType::String | KeyType::List | KeyType::Set | KeyType::Zset => {}
        }
        Ok(Look::Found(reader))
    }

    /// How much its server knows of a stream; of all other types everything, so that the lower of two is the stream's.
    pub fn level(&self) -> StreamLevel {
        match &self.stream {
            Some(stream) => stream.level(),
            None => StreamLevel::Unowned,
        }
    }

    /// Its type.
    pub fn kind(&self) -> KeyType {
        self.kind
    }

    /// Bytes of a string, elements of everything else.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Reads all of it, as fast as `keeps` allows. Fields that expire up to `horizon_ms` may have, at the end.
    ///
    /// # Errors
    ///
    /// Trouble with the connection, and refusals.
    pub async fn read(
        &self,
        server: &mut Control,
        rules: DigestRules,
        horizon_ms: i64,
        keeps: Option<Keeps<'_>>,
    ) -> Result<Read, LinkError> {
        let running = Running::new(kind_of(self.kind), rules, horizon_ms);
        let mut telling = Telling {
            server,
            key: &self.key,
            running: Box::new(running),
            count: FIRST_ELEMENTS,
            elements: 0,
            bytes: 0,
            keeps,
            bytes_counted: 0,
            asked: Instant::now(),
        };
        let told = match (self.kind, &self.stream) {
            (KeyType::String, _) => telling.text(self.length).await,
            (KeyType::List, _) => telling.list(self.length).await,
            (KeyType::Zset, _) => telling.zset(self.length).await,
            (KeyType::Set, _) => telling.set(self.length).await,
            (KeyType::Hash, _) => telling.hash(self.length, self.fields_expire).await,
            (KeyType::Stream, Some(stream)) => {
                let level = rules.stream_level;
                stream.tell(&mut telling, self.length, level).await
            }
            (KeyType::Stream, None) => Ok(Told::Torn),
        };
        match told {
            Ok(Told::All) => Ok(Read::Value(telling.running, telling.bytes)),
            Ok(Told::Torn) => Ok(Read::Torn),
            Ok(Told::Whole(why)) => Ok(Read::Whole(why)),
            Err(error) if is_change(&error) => Ok(Read::Torn),
            Err(error) => Err(error),
        }
    }
}

/// The limits that reading keeps to.
#[derive(Clone, Copy)]
pub struct Keeps<'a> {
    /// Of the run.
    pub pace: &'a pace::Shared,
    /// What is read here counts as bytes that were read.
    pub counts: bool,
}

/// How telling a value ended.
pub(super) enum Told {
    /// It is told.
    All,
    Torn,
    Whole(String),
}

/// A value that is being told to its digest.
pub(super) struct Telling<'a> {
    pub server: &'a mut Control,
    pub key: &'a [u8],
    pub running: Box<Running>,
    /// Elements of the next answer.
    pub count: usize,
    elements: u64,
    bytes: u64,
    keeps: Option<Keeps<'a>>,
    /// Of the bytes that have come, those that the limits know of.
    bytes_counted: u64,
    /// When the last answer was asked for.
    asked: Instant,
}

impl Telling<'_> {
    /// Waits until the limits allow the next answer.
    pub async fn next(&mut self) {
        let Some(Keeps { pace, counts }) = self.keeps else {
            return;
        };
        if counts {
            let new = self.bytes - self.bytes_counted;
            pace.borrow_mut()
                .came(usize::try_from(new).unwrap_or(usize::MAX));
            self.bytes_counted = self.bytes;
        }
        // Of other clients' time no more is taken than a guard leaves.
        let pause = pace.borrow().pause_after(self.asked.elapsed());
        if pause > Duration::ZERO {
            tokio::time::sleep(pause).await;
        }
        while !pace.borrow_mut().may_read_piece(Instant::now()) {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        self.asked = Instant::now();
    }

    async fn text(&mut self, length: u64) -> Result<Told, LinkError> {
        let mut at = 0;
        loop {
            self.next().await;
            let wanted = (length - at).min(TEXT_BYTES);
            let mut question = cmd("GETRANGE");
            question.arg(self.key).arg(at);
            question.arg((at + wanted).saturating_sub(1));
            let part = bytes(self.server.ask(&question).await?)?;
            if part.len() as u64 != wanted {
                return Ok(Told::Torn);
            }
            self.bytes += wanted;
            if wanted == length {
                self.running.string(&part);
                return Ok(Told::All);
            }
            self.running.text(&part);
            at += wanted;
            if at == length {
                return Ok(Told::All);
            }
        }
    }

    async fn list(&mut self, length: u64) -> Result<Told, LinkError> {
        while self.elements < length {
            self.next().await;
            let (question, wanted) = self.range("LRANGE", length);
            let elements = strings(self.server.ask(&question).await?)?;
            if elements.len() as u64 != wanted {
                return Ok(Told::Torn);
            }
            elements
                .iter()
                .for_each(|element| self.running.element(element));
            self.took(elements.len(), elements.iter().map(Vec::len).sum());
        }
        Ok(Told::All)
    }

    async fn zset(&mut self, length: u64) -> Result<Told, LinkError> {
        while self.elements < length {
            self.next().await;
            let (mut question, wanted) = self.range("ZRANGE", length);
            question.arg("WITHSCORES");
            let members = pairs(self.server.ask(&question).await?)?;
            if members.len() as u64 != wanted {
                return Ok(Told::Torn);
            }
            let mut size = 0;
            for (member, digits) in &members {
                self.running.scored(member, score(digits)?);
                size += member.len() + size_of::<f64>();
            }
            self.took(members.len(), size);
        }
        Ok(Told::All)
    }

    async fn set(&mut self, length: u64) -> Result<Told, LinkError> {
        let mut cursor = b"0".to_vec();
        loop {
            let found = self.scan("SSCAN", &mut cursor).await?;
            let members = strings(found)?;
            members
                .iter()
                .for_each(|member| self.running.member(member));
            self.took(members.len(), members.iter().map(Vec::len).sum());
            if cursor == b"0" {
                break;
            }
        }
        Ok(match self.elements == length {
            true => Told::All,
            false => Told::Torn,
        })
    }

    async fn hash(&mut self, length: u64, fields_expire: bool) -> Result<Told, LinkError> {
        let mut cursor = b"0".to_vec();
        loop {
            let found = self.scan("HSCAN", &mut cursor).await?;
            let fields = pairs(found)?;
            let expiries = match fields_expire && !fields.is_empty() {
                true => match self.expiries(&fields).await? {
                    Some(expiries) => expiries,
                    None => return Ok(Told::Torn),
                },
                false => vec![NEVER; fields.len()],
            };
            let mut size = 0;
            for ((name, value), expires_ms) in fields.iter().zip(expiries) {
                size += name.len() + value.len();
                let expires_ms = match expires_ms {
                    NEVER => None,
                    // It went between both questions.
                    ms if ms < 0 => continue,
                    ms => Some(ms),
                };
                if !self.running.field(name, value, expires_ms) {
                    let why = "too many of its fields expire while it is read".to_owned();
                    return Ok(Told::Whole(why));
                }
            }
            self.took(fields.len(), size);
            if cursor == b"0" {
                break;
            }
        }
        if self.elements == length {
            return Ok(Told::All);
        }
        if !fields_expire {
            return Ok(Told::Torn);
        }
        // Those that expired meanwhile were told, or not.
        let left = count(&self.server.ask(cmd("HLEN").arg(self.key)).await?)?;
        Ok(match (left..length).contains(&self.elements) {
            true => Told::All,
            false => Told::Torn,
        })
    }

    /// When fields expire; `None`: there is no such key any more.
    async fn expiries(&mut self, fields: &[Pair]) -> Result<Option<Vec<i64>>, LinkError> {
        let mut question = cmd("HPEXPIRETIME");
        question.arg(self.key).arg("FIELDS").arg(fields.len());
        fields.iter().for_each(|(name, _)| {
            question.arg(name.as_slice());
        });
        let instants = match self.server.ask(&question).await? {
            Value::Nil => return Ok(None),
            instants => array(instants)?,
        };
        if instants.len() != fields.len() {
            return Err(answers::unexpected("an instant for each field"));
        }
        let instants: Result<Vec<i64>, LinkError> = instants.iter().map(number).collect();
        instants.map(Some)
    }

    /// One step of a scan.
    async fn scan(&mut self, command: &str, cursor: &mut Vec<u8>) -> Result<Value, LinkError> {
        self.next().await;
        let mut question = cmd(command);
        question.arg(self.key).arg(cursor.as_slice());
        question.arg("COUNT").arg(self.count);
        let [next, found] = parts(self.server.ask(&question).await?)?;
        *cursor = bytes(next)?;
        Ok(found)
    }

    /// A question for the next elements by place, and how many they are.
    fn range(&self, command: &str, length: u64) -> (Cmd, u64) {
        let wanted = (self.count as u64).min(length - self.elements);
        let mut question = cmd(command);
        question.arg(self.key).arg(self.elements);
        question.arg(self.elements + wanted - 1);
        (question, wanted)
    }

    /// So many elements came, of so many bytes in all.
    pub fn took(&mut self, elements: usize, bytes: usize) {
        self.elements += elements as u64;
        self.bytes += bytes as u64;
        self.count = next_count(self.count, elements, bytes);
    }

    /// Elements that have come.
    pub fn elements(&self) -> u64 {
        self.elements
    }
}

/// How many elements are asked for after an answer with so many of so many bytes in all.
fn next_count(count: usize, elements: usize, bytes: usize) -> usize {
    // An answer without any says nothing of their size.
    let Some(each) = bytes.checked_div(elements) else {
        return count;
    };
    let fitting = ANSWER_BYTES / each.max(1);
    let grown = count.saturating_mul(GROWTH_MAX);
    fitting.min(grown).clamp(1, ANSWER_ELEMENTS)
}

/// What HPEXPIRETIME says of a field that does not expire.
const NEVER: i64 = -1;

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

fn kind_of(kind: KeyType) -> Kind {
    match kind {
        KeyType::String => Kind::String,
        KeyType::List => Kind::List,
        KeyType::Set => Kind::Set,
        KeyType::Zset => Kind::Zset,
        KeyType::Hash => Kind::Hash,
        KeyType::Stream => Kind::Stream,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_grow_as_far_as_elements_are_small_and_shrink_at_once() {
        let mut count = FIRST_ELEMENTS;
        let mut check = |elements, bytes, next| {
            count = next_count(count, elements, bytes);
            assert_eq!(count, next, "after {elements} of {bytes} bytes");
        };
        check(16, 16 * 50, 64);
        // An empty part of a table.
        check(0, 0, 64);
        check(64, 64 * 50, 256);
        check(256, 256 * 50, 500);
        check(500, 500 * 1024, 128);
        check(128, 128 * 1_000_000, 1);
        check(1, 0, 4);
    }
}
