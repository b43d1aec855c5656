//! One big key after the other: looked at, read and confirmed, on both sides at once.
//!
//! # Invariant
//!
//! What one side has is told only together with what the other has: both are confirmed when both have been read.

use std::rc::Rc;
use std::time::{Duration, Instant};

use redis::{Cmd, cmd};

use super::ends::Reach;
use crate::client::LinkError;
use crate::compare::engine::{End, Shared, name_of};
use crate::compare::expiry::{Answer, NO_KEY};
use crate::compare::judge::Seen;
use crate::compare::lane::{BigEnd, BigKey, BigRead, SOURCE, TARGET};
use crate::digest::{DigestRules, Running, StreamLevel};
use crate::gentle::{Keeps, Look, Read, Reader, is_change, unchanged, watch};
use crate::key::Escaped;
use crate::plan::KeyType;
use crate::resp::{ErrorCode, Retry};

/// Readings of a key that changes each time, before it is left to DUMP.
const CHANGES_MAX: u32 = 5;
/// How long a reading is expected to take at most: fields that expire later are expected to be there at its end.
const READING_FIRST: Duration = Duration::from_secs(60);

/// See the module.
pub(super) struct Work {
    shared: Rc<Shared>,
    ends: [Reach; 2],
    /// A side does not serve what it takes.
    is_refused: bool,
}

/// Trouble with one of the servers.
struct Broken {
    side: usize,
    error: LinkError,
}

/// What one reading came to.
enum Reading {
    Ended(BigEnd),
    /// It changed meanwhile, or what was told was not all.
    Changed,
    /// Fields have expired that were expected to last.
    TooLong,
    /// It can't be read in pieces: on which side, and why.
    Whole(usize, String),
}

impl Work {
    pub fn new(shared: &Rc<Shared>) -> Self {
        Self {
            shared: Rc::clone(shared),
            ends: [SOURCE, TARGET].map(|side| Reach::new(shared, side)),
            is_refused: false,
        }
    }

    /// Compares a key, however often it takes.
    pub async fn compare(&mut self, big: &BigKey) -> Result<BigEnd, End> {
        let mut changed = 0;
        let mut expected = READING_FIRST;
        while !self.is_refused {
            for side in [SOURCE, TARGET] {
                self.ends[side].connect(&big.names[side]).await?;
            }
            let began = Instant::now();
            match self.read(big, expected).await {
                Ok(Reading::Ended(end)) => return Ok(end),
                Ok(Reading::Changed) => changed += 1,
                Ok(Reading::TooLong) => {
                    changed += 1;
                    expected = expected.max(began.elapsed() * 4);
                }
                Ok(Reading::Whole(side, why)) => {
                    self.warn(big, &format!("on the {} {why}", name_of(side)));
                    return Ok(BigEnd::Whole);
                }
                Err(broken) => match self.refused(big, &broken) {
                    Some(end) => return Ok(end),
                    None => self.ends[broken.side].lost(broken.error),
                },
            }
            if changed == CHANGES_MAX {
                let why = format!("it changed each of the {CHANGES_MAX} times that it was read");
                self.warn(big, &why);
                return Ok(BigEnd::Whole);
            }
        }
        Ok(BigEnd::Whole)
    }

    fn warn(&self, big: &BigKey, why: &str) {
        self.shared.env.warn(format!(
            "\"{}\" is big, and is compared by one DUMP of each side, which keeps both servers busy meanwhile: {why}",
            Escaped(&big.names[SOURCE])
        ));
    }

    /// What becomes of the key because of what a server answered, if that is not to be tried again.
    fn refused(&mut self, big: &BigKey, broken: &Broken) -> Option<BigEnd> {
        let LinkError::Reply(code, line) = broken.error.bare() else {
            return None;
        };
        let side = name_of(broken.side);
        match code {
            ErrorCode::NoPerm | ErrorCode::UnknownCommand => {
                self.is_refused = true;
                self.shared.env.warn(format!(
                    "big keys can't be compared in pieces: the {side} answers \"{line}\"; they are read whole, and each keeps both servers busy meanwhile (redknot acl lists the rights)"
                ));
                return Some(BigEnd::Whole);
            }
            // A slot has moved, and the next connection goes where it is.
            ErrorCode::Moved | ErrorCode::Ask => return None,
            _ => {}
        }
        match code.retry() {
            Retry::AfterBackoff | Retry::AfterReconnect | Retry::Human => None,
            Retry::Key | Retry::Unknown => {
                self.warn(big, &format!("the {side} answers \"{line}\""));
                Some(BigEnd::Whole)
            }
        }
    }

    // ---- one reading

    async fn read(&mut self, big: &BigKey, expected: Duration) -> Result<Reading, Broken> {
        let (now_ms, field_expiries) = {
            let lane = self.shared.lane.borrow();
            (lane.now_ms(Instant::now()), lane.compares_field_expiries())
        };
        let looks = self.both(async |end, side| look(end, &big.names[side]).await);
        let mut readers = [None, None];
        for (side, look) in looks.await?.into_iter().enumerate() {
            readers[side] = match look {
                Look::Gone => None,
                Look::Whole(why) => return Ok(Reading::Whole(side, why)),
                Look::Found(reader) => Some(reader),
            };
        }
        // As a payload that has no other to be compared with.
        let stream_level = match &readers {
            [Some(source), Some(target)] => source.level().min(target.level()),
            _ => StreamLevel::Unowned,
        };
        let rules = DigestRules {
            now_ms,
            field_expiries,
            stream_level,
        };
        let horizon_ms = now_ms.saturating_add(expected.as_millis() as i64);
        let shared = Rc::clone(&self.shared);
        // Each side has to wait for the other anyway.
        let keeps = |side| Keeps {
            pace: &shared.env.pace,
            counts: side == SOURCE,
        };
        let readings = self.both(async |end, side| match &readers[side] {
            None => Ok(None),
            Some(reader) => {
                let keeps = Some(keeps(side));
                let control = end.control()?;
                let read = reader.read(control, rules, horizon_ms, keeps).await?;
                end.moved();
                Ok(Some(read))
            }
        });
        let mut values = [None, None];
        for (side, read) in readings.await?.into_iter().enumerate() {
            values[side] = match read {
                None => None,
                Some(Read::Torn) => return Ok(Reading::Changed),
                Some(Read::Whole(why)) => return Ok(Reading::Whole(side, why)),
                Some(Read::Value(running, bytes)) => Some((running, bytes)),
            };
        }
        crate::crash_point!("big_key_read");
        self.confirm(big, &readers, values).await
    }

    /// Asks both sides whether the key is still what was read, and since when it is to expire.
    async fn confirm(
        &mut self,
        big: &BigKey,
        readers: &[Option<Reader>; 2],
        values: [Option<(Box<Running>, u64)>; 2],
    ) -> Result<Reading, Broken> {
        let questions = {
            let lane = self.shared.lane.borrow();
            [SOURCE, TARGET].map(|side| {
                let instant = lane.asks_instant(side)?;
                Some(expiry_question(instant, &big.names[side]))
            })
        };
        let told = self.both(async |end, side| {
            let told = unchanged(end.control()?, questions[side].as_ref()).await?;
            Ok(told.map(|ms| Answer {
                ms,
                at: Instant::now(),
            }))
        });
        let [Some(source), Some(target)] = told.await? else {
            return Ok(Reading::Changed);
        };
        let answers = [source, target];
        let asked = questions.iter().all(Option::is_some);
        let now_ms = self.shared.lane.borrow().now_ms(Instant::now());
        let mut sides = [None, None];
        for (side, value) in values.into_iter().enumerate() {
            let Some((running, bytes)) = value else {
                continue;
            };
            // What was read is not there, and yet nothing has changed: it has expired unnoticed.
            if asked && answers[side].ms == NO_KEY {
                return Ok(Reading::Changed);
            }
            let Some(digest) = running.finish(now_ms) else {
                return Ok(Reading::TooLong);
            };
            sides[side] = Some(Seen {
                digest,
                bytes: None,
                len: usize::try_from(bytes).unwrap_or(usize::MAX),
            });
        }
        let read = BigRead {
            sides,
            expiries: asked.then_some(answers),
            first: first_difference(readers),
        };
        Ok(Reading::Ended(BigEnd::Read(Box::new(read))))
    }

    /// Does the same on both sides at once.
    async fn both<T>(
        &mut self,
        ask: impl AsyncFn(&mut Reach, usize) -> Result<T, LinkError>,
    ) -> Result<[T; 2], Broken> {
        let [source, target] = &mut self.ends;
        let on = async |end: &mut Reach, side: usize| {
            let answer = ask(end, side).await;
            answer.map_err(|error| Broken { side, error })
        };
        let (source, target) = tokio::try_join!(on(source, SOURCE), on(target, TARGET))?;
        Ok([source, target])
    }
}

async fn look(end: &mut Reach, name: &[u8]) -> Result<Look, LinkError> {
    let control = end.control()?;
    watch(control, name).await?;
    match Reader::look(control, name).await {
        // Between two questions it became another one: what it is now, is looked at the next time.
        Err(error) if is_change(&error) => Reader::look(control, name).await,
        look => look,
    }
}

fn expiry_question(instant: bool, name: &[u8]) -> Cmd {
    let mut question = cmd(match instant {
        true => "PEXPIRETIME",
        false => "PTTL",
    });
    question.arg(name);
    question
}

/// Where two values of one type differ, as far as their lengths say it.
fn first_difference(readers: &[Option<Reader>; 2]) -> Option<String> {
    let [Some(source), Some(target)] = readers else {
        return None;
    };
    if source.kind() != target.kind() || source.length() == target.length() {
        return None;
    }
    let things = match source.kind() {
        KeyType::String => "bytes",
        KeyType::List => "elements",
        KeyType::Set | KeyType::Zset => "members",
        KeyType::Hash => "fields",
        KeyType::Stream => "entries",
    };
    Some(format!(
        "{} {things} on source, {} on target",
        source.length(),
        target.length()
    ))
}
