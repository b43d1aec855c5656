//! Big keys: found before they are read where that is worth its price, and put aside to be copied in pieces
//! ([`super::super::big`]).
//!
//! MEMORY USAGE costs the source as much as half a small key. So sizes are asked for only as far as there may be big keys
//! ([`Probing`]); what turns out to be big when it comes nevertheless is not kept, but read again in pieces.
//!
//! # Invariants
//!
//! - A key that is copied in pieces is nowhere else in the lane until it has its outcome or is to be read whole.
//! - A key that is to be read whole because nothing else is possible is not put aside again.

use std::collections::{HashSet, VecDeque};
use std::time::Instant;

use bytes::BytesMut;

use super::source::{side_error, unexpected};
use super::{Asked, Lane, Rules, Trouble};
use crate::client::sizes::{Probing, SAMPLES};
use crate::copy::batch::{Expiry, KeyOutcome, KeyRef};
use crate::key::Escaped;
use crate::plan::{KeyType, TtlPolicy};
use crate::progress::{Arrived, Life};
use crate::resp::{ErrorCode, Token, encode_command};

/// Where a key goes once its size is known and small.
#[derive(Debug, Clone, Copy)]
pub(super) enum Then {
    /// It is read as any key.
    Readable,
    /// It is read by DUMP.
    Whole,
}

/// The big keys of a lane, and those of which it is being found out.
pub(super) struct Big {
    /// From which size on a key is big; `None`: nothing is.
    from: Option<u64>,
    /// Bytes from which on a value that has not been asked about is not kept.
    skip_above: Option<usize>,
    probing: Probing,
    /// Unread keys that are small.
    readable: VecDeque<KeyRef>,
    /// Small keys that are to be read by DUMP.
    whole: VecDeque<KeyRef>,
    /// With about the bytes that they have.
    waiting: VecDeque<(KeyRef, u64)>,
    /// Keys that can't be copied in pieces.
    never: HashSet<KeyRef>,
    met_bytes: u64,
}

/// A big key that is to be copied.
pub struct BigKey {
    /// Which.
    pub key: KeyRef,
    /// About how many bytes it has.
    pub bytes: u64,
    /// Its name on the source.
    pub name: Vec<u8>,
    /// What is under its name on the target may be our own.
    pub in_doubt: bool,
}

/// What became of a big key.
#[derive(Debug)]
pub enum BigEnd {
    /// All pieces arrived, and it bears its name.
    Arrived(Arrived, bool),
    /// There is no such key any more.
    Vanished,
    /// It is not of a type that is asked for.
    Filtered,
    /// The target has a key of this name.
    Conflict,
    /// It can't be copied in pieces.
    Whole,
    /// It can't be copied: why, and what the server says.
    Refused(String, Option<String>),
}

impl Big {
    pub(super) fn new(rules: &Rules) -> Self {
        let kept = |from: u64| usize::try_from(from.max(rules.in_flight_bytes_max)).ok();
        Self {
            from: rules.big_key,
            skip_above: rules.big_key.and_then(kept),
            // Until somebody has looked.
            probing: match rules.big_key {
                Some(_) => Probing::All,
                None => Probing::Nothing,
            },
            readable: VecDeque::new(),
            whole: VecDeque::new(),
            waiting: VecDeque::new(),
            never: HashSet::new(),
            met_bytes: 0,
        }
    }

    /// A batch is finished.
    pub(super) fn forget(&mut self, seq: u64) {
        if !self.never.is_empty() {
            self.never.retain(|key| key.seq != seq);
        }
    }
}

impl Lane {
    // ---- what may be asked for

    /// The next key to be read by DUMP that needs no look at its size, or has had it.
    pub(super) fn pop_whole(&mut self) -> Option<KeyRef> {
        let small = self.big.whole.pop_front();
        small.or_else(|| match self.big.probing {
            Probing::Nothing | Probing::All => self.whole.pop_front(),
            // What was found to be no other way does not have to be found again.
            Probing::Wholes => match self.whole.front() {
                Some(key) if self.big.never.contains(key) => self.whole.pop_front(),
                _ => None,
            },
        })
    }

    /// Whether unread keys need no look at their size.
    fn reads_at_once(&self) -> bool {
        match self.big.probing {
            Probing::Nothing => true,
            Probing::Wholes => self.strings.in_use(),
            Probing::All => false,
        }
    }

    /// Whether there are keys for [`Self::pop_readable`].
    pub(super) fn has_readable(&self) -> bool {
        !self.big.readable.is_empty() || (self.reads_at_once() && !self.unread.is_empty())
    }

    /// What [`Self::pop_readable`] would take.
    pub(super) fn front_readable(&self) -> Option<KeyRef> {
        let small = self.big.readable.front().copied();
        small.or_else(|| match self.reads_at_once() {
            true => self.unread.front().copied(),
            false => None,
        })
    }

    /// The next unread key that needs no look at its size, or has had it.
    pub(super) fn pop_readable(&mut self) -> Option<KeyRef> {
        let small = self.big.readable.pop_front();
        small.or_else(|| match self.reads_at_once() {
            true => self.unread.pop_front(),
            false => None,
        })
    }

    /// Keys that the source is still to be asked for.
    pub(super) fn keys_to_read(&self) -> usize {
        let small = self.big.readable.len() + self.big.whole.len();
        self.unread.len() + self.whole.len() + small
    }

    /// One of the keys that are to be read next.
    pub(super) fn first_to_read(&self) -> Option<&KeyRef> {
        let queues = [
            &self.big.whole,
            &self.big.readable,
            &self.whole,
            &self.unread,
        ];
        queues.iter().find_map(|keys| keys.front())
    }

    // ---- sizes

    /// Asks for the size of the next key that needs it. Returns whether there was one.
    pub(super) fn ask_size(&mut self, out: &mut BytesMut) -> bool {
        let whole = match self.big.probing {
            Probing::Wholes => self.whole.pop_front(),
            Probing::Nothing | Probing::All => None,
        };
        let next = match whole {
            Some(key) => Some((key, Then::Whole)),
            None => self.unread.pop_front().map(|key| (key, Then::Readable)),
        };
        let Some((key, then)) = next else {
            return false;
        };
        let name = self.batch(key).name(key.index);
        encode_command(out, &[b"MEMORY", b"USAGE", name, b"SAMPLES", SAMPLES]);
        self.asked.push_back(Asked::Size(key, then));
        self.asked_keys += 1;
        true
    }

    pub(super) fn size_token(
        &mut self,
        key: KeyRef,
        then: Then,
        token: Token,
    ) -> Result<(), Trouble> {
        self.asked.pop_front();
        self.asked_keys -= 1;
        match token {
            Token::Integer(bytes) => {
                let bytes = u64::try_from(bytes).unwrap_or_default();
                match self.big.from.is_some_and(|from| bytes >= from) {
                    true if self.may_be_pieced(key) => self.too_big(key, bytes),
                    _ => {
                        self.window.expect_payload(bytes);
                        self.is_small(key, then);
                    }
                }
                Ok(())
            }
            // Its value will tell that it is gone.
            Token::Null => {
                self.is_small(key, then);
                Ok(())
            }
            Token::Error(line) if self.is_elsewhere(&line) => {
                self.strays.push_back(key);
                Ok(())
            }
            Token::Error(line) => {
                let code = ErrorCode::of(&line);
                self.is_small(key, then);
                match code {
                    ErrorCode::NoPermKey => Ok(()),
                    ErrorCode::NoPerm | ErrorCode::UnknownCommand | ErrorCode::Other => {
                        self.refuse_sizes(&Escaped(&line).to_string());
                        Ok(())
                    }
                    _ => Err(side_error(&line)),
                }
            }
            other => {
                self.is_small(key, then);
                Err(unexpected("MEMORY USAGE", &other))
            }
        }
    }

    fn is_small(&mut self, key: KeyRef, then: Then) {
        match then {
            Then::Readable => self.big.readable.push_back(key),
            Then::Whole => self.big.whole.push_back(key),
        }
    }

    /// The connection ended before the size came.
    pub(super) fn size_lost(&mut self, key: KeyRef, then: Then) {
        match then {
            Then::Readable => self.unread.push_front(key),
            Then::Whole => self.whole.push_front(key),
        }
    }

    /// The source does not tell sizes, in these words.
    fn refuse_sizes(&mut self, line: &str) {
        if std::mem::replace(&mut self.big.probing, Probing::Nothing) == Probing::Nothing {
            return;
        }
        self.notes.push(format!(
            "the source does not serve MEMORY USAGE (it answers \"{line}\"): big keys are found only by what arrives, and DUMP of one keeps the source from serving others meanwhile"
        ));
        self.big.from = None;
    }

    /// Of which keys the size is asked for from now on, unless the source refuses to tell.
    pub fn probe_sizes(&mut self, probing: Probing) {
        if self.big.from.is_some() {
            self.big.probing = probing;
        }
    }

    /// Whether there is anybody to ask for sizes.
    pub fn may_probe_sizes(&self) -> bool {
        self.big.from.is_some()
    }

    /// From how many bytes on this key is big, if its size is to be asked for.
    pub fn big_from(&self, key: KeyRef) -> Option<u64> {
        match self.big.probing {
            Probing::Nothing => None,
            Probing::Wholes | Probing::All => self.big.from.filter(|_| self.may_be_pieced(key)),
        }
    }

    /// Bytes of the big keys that were met.
    pub fn big_bytes_met(&self) -> u64 {
        self.big.met_bytes
    }

    /// Longer strings are not to be kept, of what the source answers next.
    #[inline]
    pub fn skip_above(&self) -> Option<usize> {
        if self.big.never.is_empty() {
            return self.big.skip_above;
        }
        match self.asked.front() {
            Some(Asked::Whole(key)) if self.big.never.contains(key) => None,
            _ => self.big.skip_above,
        }
    }

    /// Whether the key may be put aside.
    pub(super) fn may_be_pieced(&self, key: KeyRef) -> bool {
        self.rules.big_key.is_some() && !self.big.never.contains(&key)
    }

    /// The key is to be copied in pieces.
    pub fn too_big(&mut self, key: KeyRef, bytes: u64) {
        self.big.met_bytes += bytes;
        self.big.waiting.push_back((key, bytes));
    }

    // ---- what becomes of them

    /// The next big key that is to be copied.
    pub fn take_big(&mut self) -> Option<BigKey> {
        let (key, bytes) = self.big.waiting.pop_front()?;
        let batch = self.batch(key);
        Some(BigKey {
            key,
            bytes,
            name: batch.name(key.index).to_vec(),
            in_doubt: batch.in_doubt,
        })
    }

    /// Whether a value of this type is to be moved.
    pub fn wants_type(&self, kind: KeyType) -> bool {
        self.rules.ask_types.is_empty() || self.rules.ask_types.contains(&kind)
    }

    /// A big key has come to this end.
    pub fn big_ended(&mut self, key: KeyRef, end: BigEnd) -> Result<(), Trouble> {
        match end {
            BigEnd::Arrived(arrived, read_again) => {
                self.target_answers += 1;
                self.refused_in_a_row = 0;
                // The value was never here as a whole: the target may tell its digest.
                self.keep_written(key, None);
                self.settle(
                    key,
                    KeyOutcome::InPieces {
                        arrived,
                        read_again,
                    },
                );
            }
            BigEnd::Vanished => self.settle(key, KeyOutcome::Vanished),
            BigEnd::Filtered => self.settle(key, KeyOutcome::Filtered),
            BigEnd::Conflict => {
                let line = "BUSYKEY Target key name already exists.".to_owned();
                return self.conflict(key, line);
            }
            BigEnd::Whole => {
                self.big.never.insert(key);
                self.whole.push_back(key);
            }
            BigEnd::Refused(reason, line) => {
                self.quarantine(key, reason, line.clone(), None);
                if let Some(line) = line {
                    return self.refused_alike(&line);
                }
            }
        }
        Ok(())
    }

    /// The pass that is under way.
    pub fn pass(&self) -> u32 {
        self.pass
    }

    /// What the source answered to the question for the expiry means for the target, as
    /// [`Self::restore_ttl`] says it, and how long the key lives on; `None`: it has expired.
    pub fn big_expiry(
        &self,
        answer: i64,
        read_at: Instant,
        now: Instant,
    ) -> Option<((u64, bool), Life)> {
        let expiry = match self.rules.ttl {
            TtlPolicy::Drop => Expiry::Never,
            TtlPolicy::Keep => self.expiry_of(answer, read_at)?,
        };
        let ttl = self.restore_ttl(expiry, read_at, now)?;
        Some((ttl, self.life(expiry, now)))
    }

    // ---- pace

    /// Whether the next piece may be read, at the present limits.
    pub fn may_read_piece(&mut self, now: Instant) -> bool {
        self.full.is_none() && self.pace.borrow_mut().may_read_piece(now)
    }

    /// A piece of so many bytes was read.
    pub fn piece_read(&mut self, bytes: usize) {
        self.pace.borrow_mut().came(bytes);
        self.source_answers += 1;
    }

    /// The target has acknowledged a piece of so many bytes.
    pub fn piece_written(&mut self, bytes: u64) {
        self.bytes_acknowledged += bytes;
        self.target_answers += 1;
    }
}
