//! Towards the source: what to ask next, and what its answers mean.

use std::time::Instant;

use bytes::BytesMut;

use super::{Asked, IN_FLIGHT_BATCHES_MAX, Lane, PartialRead, Trouble};
use crate::client::LinkError;
use crate::copy::batch::{Expiry, KeyOutcome, KeyRef, Ready};
use crate::key::Escaped;
use crate::plan::{KeyType, TtlPolicy};
use crate::rdb::footer;
use crate::resp::{
    ErrorCode, ExpiryQuery, Retry, Token, encode_command, encode_dump, encode_expiry, encode_scan,
};

impl Lane {
    /// Appends to `out` what the source should be asked next; nothing, if it is asked for enough.
    pub fn request(&mut self, out: &mut BytesMut) {
        let window = self.window.keys();
        // Refill in halves: a command at a time would cost a system call each.
        if self.asked_keys > window / 2 {
            return;
        }
        // SCAN goes first: its reply comes while the payloads behind it are still being made, so the next keys are
        // known before the source runs out of work.
        let after = self.unread.len().saturating_sub(window - self.asked_keys);
        if after <= window / 2
            && !self.stopping
            && self.batches_in_flight() < IN_FLIGHT_BATCHES_MAX
            && let Some(cursor) = self.scan.begin()
        {
            encode_scan(
                out,
                cursor,
                self.rules.batch_keys,
                self.rules.match_glob.as_deref(),
                self.rules.scan_type.map(KeyType::name),
            );
            self.asked.push_back(Asked::Scan);
        }
        let expected = self.window.payload_bytes();
        let query = match self.rules.expire_time {
            true => ExpiryQuery::PExpireTime,
            false => ExpiryQuery::PTtl,
        };
        while self.asked_keys < window {
            let held = self.ready_bytes + self.asked_keys as u64 * expected;
            if held + expected > self.ready_bytes_max && held > 0 {
                break;
            }
            let Some(key) = self.unread.pop_front() else {
                break;
            };
            let first = self.batches[0].seq;
            let name = self.batches[(key.seq - first) as usize].name(key.index);
            if !self.rules.ask_types.is_empty() {
                encode_command(out, &[b"TYPE", name]);
            }
            // The value before its expiry: a write in between can then at worst leave an older value with the
            // newer expiry. The other way round a key that lost its expiry would lose its life.
            encode_dump(out, name);
            if self.rules.ttl == TtlPolicy::Keep {
                encode_expiry(out, query, name);
            }
            self.asked.push_back(Asked::Key(key));
            self.asked_keys += 1;
        }
    }

    /// Takes the next token of the source's answers, read from the socket at `now`.
    pub fn source_token(&mut self, token: Token, now: Instant) -> Result<(), Trouble> {
        match self.asked.front() {
            None => Err(LinkError::Unexpected("nothing", format!("{token:?}")).into()),
            Some(Asked::Scan) => self.scan_token(token),
            Some(Asked::Key(key)) => {
                let key = *key;
                self.key_token(key, token, now)
            }
        }
    }

    /// The source's connection is lost: what it still owed is asked again on the next one.
    pub fn source_lost(&mut self) {
        self.partial = PartialRead::default();
        self.asked_keys = 0;
        while let Some(asked) = self.asked.pop_back() {
            match asked {
                Asked::Scan => self.scan.lost(),
                Asked::Key(key) => self.unread.push_front(key),
            }
        }
    }

    fn scan_token(&mut self, token: Token) -> Result<(), Trouble> {
        let in_doubt_before = self.in_doubt_before;
        let batch = match self.scan.token(token, |seq| seq < in_doubt_before) {
            Ok(None) => return Ok(()),
            Ok(Some(batch)) => batch,
            Err(Trouble::Link(LinkError::Reply(ErrorCode::InvalidCursor, line))) => {
                return Err(Trouble::CursorRefused(line));
            }
            Err(trouble) => return Err(trouble),
        };
        self.asked.pop_front();
        self.source_answers += 1;
        let seq = batch.seq;
        self.unread
            .extend((0..batch.len() as u32).map(|index| KeyRef { seq, index }));
        self.batches.push_back(batch);
        self.hand_on();
        Ok(())
    }

    fn key_token(&mut self, key: KeyRef, token: Token, now: Instant) -> Result<(), Trouble> {
        if !self.rules.ask_types.is_empty() && !self.partial.type_seen {
            self.partial.type_seen = true;
            self.partial.wanted = match token {
                Token::Simple(name) => Some(
                    self.rules
                        .ask_types
                        .iter()
                        .any(|wanted| wanted.name().as_bytes() == &name[..]),
                ),
                Token::Error(line) => return Err(self.side_error(&line)),
                other => return Err(unexpected("TYPE", &other)),
            };
            return Ok(());
        }
        if self.partial.value.is_none() {
            let value = match token {
                Token::Bulk(payload) => Ok(Some(payload)),
                Token::Null => Ok(None),
                Token::Error(line) => {
                    let code = ErrorCode::of(&line);
                    match code.retry() {
                        Retry::Key | Retry::Unknown => Err((code, line)),
                        Retry::AfterBackoff | Retry::AfterReconnect | Retry::Human => {
                            return Err(self.side_error(&line));
                        }
                    }
                }
                other => return Err(unexpected("DUMP", &other)),
            };
            self.partial.value = Some(value);
            if self.rules.ttl == TtlPolicy::Drop {
                self.key_read(key, Some(-1), now);
            }
            return Ok(());
        }
        let expiry = match token {
            Token::Integer(ms) => Some(ms),
            // A key that may not be read: DUMP has said so already.
            Token::Error(_) if matches!(self.partial.value, Some(Err(_))) => None,
            Token::Error(line) => return Err(self.side_error(&line)),
            other => return Err(unexpected("PTTL", &other)),
        };
        self.key_read(key, expiry, now);
        Ok(())
    }

    fn side_error(&self, line: &[u8]) -> Trouble {
        LinkError::Reply(ErrorCode::of(line), Escaped(line).to_string()).into()
    }

    /// All replies for the front key have come.
    fn key_read(&mut self, key: KeyRef, expiry: Option<i64>, now: Instant) {
        self.asked.pop_front();
        self.asked_keys -= 1;
        self.source_answers += 1;
        let partial = std::mem::take(&mut self.partial);
        let value = partial
            .value
            .expect("the value's reply comes before the expiry's");
        let gone = expiry == Some(-2) && self.rules.ttl == TtlPolicy::Keep;
        let payload = match value {
            Ok(Some(payload)) if !gone => payload,
            Ok(_) => return self.settle(key, KeyOutcome::Vanished),
            Err((_, line)) => {
                let line = Escaped(&line).to_string();
                return self.try_again_or_quarantine(
                    key,
                    "the source refuses to dump it",
                    Some(line),
                    None,
                );
            }
        };
        if partial.wanted == Some(false) {
            return self.settle(key, KeyOutcome::Filtered);
        }
        self.window.observe_payload(payload.len());
        if let Err(error) = footer::check(&payload) {
            return self.try_again_or_quarantine(
                key,
                &format!("the payload is damaged: {error}"),
                None,
                Some((payload.len() as u64, footer::payload_type(&payload))),
            );
        }
        if payload.len() as u64 > self.rules.payload_bytes_max {
            let reason = format!(
                "the payload has {} bytes, the target takes at most {} (proto-max-bulk-len)",
                payload.len(),
                self.rules.payload_bytes_max
            );
            return self.quarantine(
                key,
                reason,
                None,
                Some((payload.len() as u64, footer::payload_type(&payload))),
            );
        }
        let Some(expiry) = self.expiry_of(expiry.unwrap_or(-1), now) else {
            return self.settle(key, KeyOutcome::Vanished);
        };
        self.ready_bytes += payload.len() as u64;
        let connection = self.connection_of(key);
        self.ready[connection].push_back(Ready {
            key,
            payload,
            expiry,
            read_at: now,
        });
    }

    /// What the source's answer means; `None`: the key has expired.
    fn expiry_of(&self, answer: i64, now: Instant) -> Option<Expiry> {
        match answer {
            -1 => Some(Expiry::Never),
            instant if self.rules.expire_time => {
                let expired = self
                    .rules
                    .source_clock
                    .is_some_and(|clock| clock.at(now) >= instant);
                (!expired).then_some(Expiry::At(instant))
            }
            // PTTL answers 0 for a key in its last millisecond; sent on, it would mean "never".
            left if left <= 0 => None,
            left => Some(Expiry::In(left)),
        }
    }

    fn connection_of(&self, key: KeyRef) -> usize {
        match self.ready.len() {
            1 => 0,
            several => {
                let name = self.batch(key).name(key.index);
                let hash = blake3::hash(name);
                usize::from(hash.as_bytes()[0]) % several
            }
        }
    }
}

fn unexpected(command: &'static str, token: &Token) -> Trouble {
    LinkError::Unexpected(command, format!("{token:?}")).into()
}
