//! Towards the source: what to ask next, and what its answers mean.
//!
//! A key is read in one of two ways. *Whole*: DUMP and its expiry in one go. *As strings*: the values of many keys by one
//! MGET, and their expiries right behind it; what is none is then read whole. That an expiry is asked in vain for a key
//! that is no string costs the source little, because it has just looked the key up. A request later, when it has
//! looked at a thousand others, every expiry would cost it twice as much. Where no key has an expiry, one number stands for
//! all of them (`together.rs`).
//!
//! # Invariants
//!
//! - The value is read before its expiry: a write in between can then at worst leave an older value with the newer
//!   expiry. The other way round a key that lost its expiry would lose its life. It makes no difference how many
//!   commands lie in between, nor whether the key has become one of another type meanwhile.
//! - What MGET answers with nil is no string, or is not there: only DUMP's nil says that it has vanished.
//! - Values become ready in the order in which they were read, since a value's expiry is asked for right behind it.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::{Bytes, BytesMut};

use super::convert::Converted;
use super::{Asked, IN_FLIGHT_BATCHES_MAX, Lane, PartialRead, Trouble, Valued, strings};
use crate::client::LinkError;
use crate::copy::batch::{Expiry, KeyOutcome, KeyRef, Payload, Ready};
use crate::key::Escaped;
use crate::plan::TtlPolicy;
use crate::rdb::string;
use crate::resp::{
    ErrorCode, ExpiryQuery, Retry, Token, encode_command, encode_dump, encode_expiry,
    encode_with_keys,
};

/// Keys of one MGET: more would save nothing, and the server serves nobody else meanwhile.
const MGET_KEYS_MAX: usize = 256;

/// What DUMP answered.
pub(super) enum Dumped {
    Payload(Bytes),
    /// So many bytes, which were not kept.
    TooBig(u64),
    Gone,
    /// It is at another node of the cluster.
    Elsewhere,
    /// The error line.
    Refused(Bytes),
}

impl Lane {
    /// Appends to `out` what the source should be asked next; nothing, if it is asked for enough.
    pub fn request(&mut self, out: &mut BytesMut) {
        let window = self.window.keys();
        // Refill in halves: a command at a time would cost a system call each.
        if self.asked_keys > window / 2 || self.pace.borrow().is_measuring() || self.full.is_some()
        {
            return;
        }
        // SCAN goes first: its reply comes while the payloads behind it are still being made, so the next keys are
        // known before the source runs out of work.
        self.ask_scan(out);
        self.ask_look(out);
        let expected = self.window.payload_bytes();
        let allowed = self.pace.borrow().allowance(self.asked_keys, expected);
        let mut left = allowed;
        while self.may_ask(window) {
            if let Some(key) = self.pop_whole() {
                // It has been paid for, where it was asked for as a string.
                self.ask_whole(out, key);
            } else if !self.has_readable() {
                // A size is paid for with the value.
                if !self.ask_size(out) {
                    break;
                }
            } else if left == 0 {
                self.pace.borrow_mut().hold();
                break;
            } else if self.strings.in_use() {
                left -= self.ask_strings(out, window, left);
            } else if let Some(key) = self.pop_readable() {
                self.ask_whole(out, key);
                left -= 1;
            }
        }
        self.pace.borrow_mut().asked(allowed - left);
    }

    /// Whether all names that are known will be asked for at once, and more may be begun. Their values are read soon after
    /// their names were: what the source has just looked up is then still at hand.
    pub(super) fn has_room_for_names(&self) -> bool {
        let window = self.window.keys();
        let unread = self.keys_to_read() + self.unchecked.len() + self.being_checked;
        unread <= window.saturating_sub(self.asked_keys)
            && !self.stopping
            && self.batches_in_flight() < IN_FLIGHT_BATCHES_MAX
    }

    fn ask_scan(&mut self, out: &mut BytesMut) {
        if self.has_room_for_names()
            && self.pace.borrow_mut().may_scan()
            && self
                .scan
                .ask(out, &self.rules, |seq| seq < self.in_doubt_before)
        {
            self.asked.push_back(Asked::Scan);
        }
    }

    /// Asks for at most so many values by MGET, and for their expiries; returns how many they are.
    fn ask_strings(&mut self, out: &mut BytesMut, window: usize, most: usize) -> usize {
        let mut keys = VecDeque::new();
        let mut slot = None;
        while keys.len() < MGET_KEYS_MAX.min(most)
            && self.may_ask(window)
            && let Some(key) = self.front_readable()
            && self.shares_slot(key, &mut slot)
        {
            self.pop_readable();
            keys.push_back(key);
            self.asked_keys += 1;
        }
        let names = keys.iter().map(|key| self.batch(*key).name(key.index));
        let count = keys.len();
        if self.rules.ttl == TtlPolicy::Drop {
            encode_with_keys(out, b"MGET", names);
            self.asked.push_back(Asked::Strings(keys));
        } else if self.expiries.counts(count) {
            Self::encode_together(out, |out| encode_with_keys(out, b"MGET", names));
            self.asked.push_back(Asked::Together(keys));
        } else {
            encode_with_keys(out, b"MGET", names.clone());
            let query = self.expiry_query();
            names.for_each(|name| encode_expiry(out, query, name));
            self.asked.push_back(Asked::Strings(keys));
            self.asked.push_back(Asked::Expiries(count));
            self.expiries.asked_each(count);
        }
        count
    }

    /// Asks for a value and its expiry in one go.
    fn ask_whole(&mut self, out: &mut BytesMut, key: KeyRef) {
        self.encode_type_and_dump(out, key);
        if self.rules.ttl == TtlPolicy::Keep {
            let name = self.batch(key).name(key.index);
            encode_expiry(out, self.expiry_query(), name);
        }
        self.asked.push_back(Asked::Whole(key));
        self.asked_keys += 1;
    }

    fn encode_type_and_dump(&self, out: &mut BytesMut, key: KeyRef) {
        let name = self.batch(key).name(key.index);
        if !self.rules.ask_types.is_empty() {
            encode_command(out, &[b"TYPE", name]);
        }
        encode_dump(out, name);
    }

    fn expiry_query(&self) -> ExpiryQuery {
        match self.rules.expire_time {
            true => ExpiryQuery::PExpireTime,
            false => ExpiryQuery::PTtl,
        }
    }

    /// Whether one more key fits the window, in number and in bytes that are to be expected.
    fn may_ask(&self, window: usize) -> bool {
        let expected = self.window.payload_bytes();
        let held = self.held_bytes() + self.asked_keys as u64 * expected;
        self.asked_keys < window && (held == 0 || held + expected <= self.ready_bytes_max)
    }

    /// Takes the next token of the source's answers, read from the socket at `now`.
    pub fn source_token(&mut self, token: Token, now: Instant) -> Result<(), Trouble> {
        match self.asked.front_mut() {
            None => Err(LinkError::Unexpected("nothing", format!("{token:?}")).into()),
            Some(Asked::Scan) => self.scan_token(token),
            Some(Asked::Size(key, then)) => {
                let (key, then) = (*key, *then);
                self.size_token(key, then, token)
            }
            Some(Asked::Whole(key)) => {
                let key = *key;
                self.whole_token(key, token, now)
            }
            Some(Asked::Strings(keys)) if self.partial.in_array => {
                let key = keys
                    .pop_front()
                    .expect("the array has as many elements as keys were asked for");
                if keys.is_empty() {
                    self.asked.pop_front();
                    self.partial = PartialRead::default();
                }
                self.string_token(key, token, now)
            }
            Some(Asked::Strings(keys)) => {
                let asked = keys.len();
                self.strings_token(asked, token)
            }
            Some(Asked::Expiries(_)) => self.expiry_token(token, now),
            Some(Asked::Together(_)) => self.together_token(token, now),
            Some(Asked::Look) => self.look_token(token),
        }
    }

    /// The source's connection is lost: what it still owed is asked again on the next one.
    pub fn source_lost(&mut self) {
        self.partial = PartialRead::default();
        self.expiries.lost();
        self.asked_keys = 0;
        while let Some(asked) = self.asked.pop_back() {
            match asked {
                Asked::Scan => self.scan.lost(),
                Asked::Size(key, then) => self.size_lost(key, then),
                Asked::Whole(key) => self.unread.push_front(key),
                // Whole: a connection that breaks in every large answer must not keep its keys from ever being read.
                Asked::Strings(keys) | Asked::Together(keys) => keys
                    .into_iter()
                    .rev()
                    .for_each(|key| self.whole.push_front(key)),
                Asked::Expiries(_) | Asked::Look => {}
            }
        }
        // A value is not kept for an expiry that perhaps another process would tell.
        self.valued_read_again();
    }

    fn scan_token(&mut self, token: Token) -> Result<(), Trouble> {
        let in_doubt_before = self.in_doubt_before;
        let batch = match self
            .scan
            .token(token, &self.rules, |seq| seq < in_doubt_before)
        {
            Ok(None) => return Ok(()),
            Ok(Some(batch)) => batch,
            Err(Trouble::Link(LinkError::Reply(ErrorCode::InvalidCursor, line))) => {
                return Err(Trouble::CursorRefused(line));
            }
            Err(trouble) => return Err(trouble),
        };
        self.asked.pop_front();
        self.source_answers += 1;
        self.names_came(batch);
        Ok(())
    }

    // ---- whole

    fn whole_token(&mut self, key: KeyRef, token: Token, now: Instant) -> Result<(), Trouble> {
        if self.type_is_next() {
            return self.type_token(token);
        }
        let Some(dumped) = self.partial.dumped.take() else {
            self.partial.dumped = Some((self.dump_answer(token)?, now));
            if self.rules.ttl == TtlPolicy::Drop {
                self.whole_read(key, Some(-1), now);
            }
            return Ok(());
        };
        let expiry = match token {
            Token::Integer(ms) => Some(ms),
            // A key that may not be read: DUMP has said so already.
            Token::Error(_) if matches!(dumped.0, Dumped::Refused(_) | Dumped::Elsewhere) => None,
            Token::Error(line) if self.is_elsewhere(&line) => {
                self.partial.elsewhere = true;
                None
            }
            Token::Error(line) => return Err(side_error(&line)),
            other => return Err(unexpected("PTTL", &other)),
        };
        self.partial.dumped = Some(dumped);
        self.whole_read(key, expiry, now);
        Ok(())
    }

    /// All replies for the front key have come.
    fn whole_read(&mut self, key: KeyRef, expiry: Option<i64>, now: Instant) {
        self.asked.pop_front();
        self.asked_keys -= 1;
        let partial = std::mem::take(&mut self.partial);
        let (dumped, value_read_at) = partial
            .dumped
            .expect("the value's reply comes before the expiry's");
        // Half of it may be what the key was here, and half what it is there.
        if partial.elsewhere || matches!(dumped, Dumped::Elsewhere) {
            return self.strays.push_back(key);
        }
        if let Dumped::Payload(payload) = &dumped {
            self.pace.borrow_mut().came(payload.len());
        }
        if let Some(payload) = self.payload(key, dumped, partial.wanted) {
            self.window.observe_payload(payload.size());
            if !self.strings.in_use() {
                let is_string = payload.kind() == Some(string::KIND);
                self.strings.observe(is_string.then(|| payload.size()));
            }
            self.key_read(key, payload, expiry.unwrap_or(-1), value_read_at, now);
        }
    }

    // ---- as strings

    /// What comes first of the answer to MGET.
    fn strings_token(&mut self, asked: usize, token: Token) -> Result<(), Trouble> {
        let line = match token {
            Token::Array(elements) if elements == asked => {
                self.partial.in_array = true;
                return Ok(());
            }
            Token::Error(line) => line,
            other => {
                self.refuse_strings("its answer is none".into());
                return Err(unexpected("MGET", &other));
            }
        };
        let code = ErrorCode::of(&line);
        if !strings::refuses(code) {
            return Err(side_error(&line));
        }
        // Where a slot is on its way, each of its keys is asked for by itself.
        if !self.is_about_a_slot(code) {
            self.refuse_strings(format!("it answers \"{}\"", Escaped(&line)));
        }
        if let Some(Asked::Strings(keys)) = self.asked.pop_front() {
            self.asked_keys -= keys.len();
            if self.rules.ttl == TtlPolicy::Keep {
                self.valued.extend(keys.iter().map(|_| None));
            }
            self.whole.extend(keys);
        }
        Ok(())
    }

    fn refuse_strings(&mut self, why: String) {
        if self.strings.refuse() {
            self.notes.push(format!(
                "the source does not serve MGET ({why}): strings are read by DUMP, which costs it more"
            ));
        }
    }

    /// An element of MGET's answer.
    pub(super) fn string_token(
        &mut self,
        key: KeyRef,
        token: Token,
        now: Instant,
    ) -> Result<(), Trouble> {
        self.asked_keys -= 1;
        match token {
            Token::Bulk(value) => {
                self.strings.observe(Some(value.len()));
                self.string_read(key, Payload::String(value), now);
                Ok(())
            }
            Token::Skipped(bytes) => {
                self.pace.borrow_mut().came(bytes as usize);
                self.too_big(key, bytes);
                if self.rules.ttl == TtlPolicy::Keep {
                    self.valued.push_back(None);
                }
                Ok(())
            }
            // A proxy may put an error in the place of a key that it could not get.
            Token::Null | Token::Error(_) => {
                self.strings.observe(None);
                self.read_whole_instead(key);
                Ok(())
            }
            other => {
                self.unread.push_front(key);
                self.refuse_strings("its answer is none".into());
                Err(unexpected("MGET", &other))
            }
        }
    }

    /// MGET has brought a value; its expiry comes next.
    fn string_read(&mut self, key: KeyRef, payload: Payload, now: Instant) {
        self.window.observe_payload(payload.size());
        self.pace.borrow_mut().came(payload.size());
        if self.rules.ttl == TtlPolicy::Drop {
            return self.key_read(key, payload, -1, now, now);
        }
        // Larger than was to be expected; and the rest of the reply has to be read before the expiry comes, so the
        // socket can't be left alone until there is room. What finds none is read again, whole.
        if self.held_bytes() >= self.rules.in_flight_bytes_max {
            return self.read_whole_instead(key);
        }
        self.valued_bytes += payload.size() as u64;
        self.valued.push_back(Some(Valued {
            key,
            payload,
            read_at: now,
        }));
    }

    /// What MGET said is of no use, and so is the expiry that comes next.
    fn read_whole_instead(&mut self, key: KeyRef) {
        self.whole.push_back(key);
        if self.rules.ttl == TtlPolicy::Keep {
            self.valued.push_back(None);
        }
    }

    fn expiry_token(&mut self, token: Token, now: Instant) -> Result<(), Trouble> {
        let Some(Asked::Expiries(owed)) = self.asked.front_mut() else {
            return Err(unexpected("nothing", &token));
        };
        *owed -= 1;
        if *owed == 0 {
            self.asked.pop_front();
        }
        let valued = self.valued.pop_front();
        let valued = valued.expect("MGET's answer comes before the expiries'");
        if let Some(valued) = &valued {
            self.valued_bytes -= valued.payload.size() as u64;
        }
        match (valued, token) {
            (Some(valued), Token::Integer(ms)) => {
                self.key_read(valued.key, valued.payload, ms, valued.read_at, now);
                Ok(())
            }
            (None, Token::Integer(_)) => Ok(()),
            // It is about the key: DUMP has to tell.
            (None, Token::Error(line)) if concerns_key(&line) || self.is_elsewhere(&line) => Ok(()),
            (Some(valued), Token::Error(line)) if self.is_elsewhere(&line) => {
                self.strays.push_back(valued.key);
                Ok(())
            }
            (valued, token) => {
                self.whole.extend(valued.map(|valued| valued.key));
                match token {
                    Token::Error(line) => Err(side_error(&line)),
                    other => Err(unexpected("PTTL", &other)),
                }
            }
        }
    }

    // ---- either way

    fn type_is_next(&self) -> bool {
        !self.rules.ask_types.is_empty() && self.partial.wanted.is_none()
    }

    fn type_token(&mut self, token: Token) -> Result<(), Trouble> {
        let name = match token {
            Token::Simple(name) => name,
            Token::Error(line) if self.is_elsewhere(&line) => {
                (self.partial.elsewhere, self.partial.wanted) = (true, Some(true));
                return Ok(());
            }
            // Of what type a key is that may not be read, nobody tells: DUMP will be refused as well, and counts.
            Token::Error(line) if ErrorCode::of(&line) == ErrorCode::NoPermKey => {
                self.partial.wanted = Some(true);
                return Ok(());
            }
            Token::Error(line) => return Err(side_error(&line)),
            other => return Err(unexpected("TYPE", &other)),
        };
        let mut asked_for = self.rules.ask_types.iter();
        self.partial.wanted = Some(asked_for.any(|wanted| wanted.name().as_bytes() == &name[..]));
        Ok(())
    }

    fn dump_answer(&self, token: Token) -> Result<Dumped, Trouble> {
        match token {
            Token::Bulk(payload) => Ok(Dumped::Payload(payload)),
            Token::Skipped(bytes) => Ok(Dumped::TooBig(bytes)),
            Token::Null => Ok(Dumped::Gone),
            Token::Error(line) if self.is_elsewhere(&line) => Ok(Dumped::Elsewhere),
            Token::Error(line) if concerns_key(&line) => Ok(Dumped::Refused(line)),
            Token::Error(line) => Err(side_error(&line)),
            other => Err(unexpected("DUMP", &other)),
        }
    }

    /// What there is to be written; a key that has nothing gets its outcome.
    pub(super) fn payload(
        &mut self,
        key: KeyRef,
        dumped: Dumped,
        wanted: Option<bool>,
    ) -> Option<Payload> {
        let payload = match dumped {
            Dumped::Payload(payload) => payload,
            Dumped::TooBig(bytes) => {
                self.source_answers += 1;
                self.too_big(key, bytes);
                return None;
            }
            Dumped::Elsewhere => {
                self.strays.push_back(key);
                return None;
            }
            Dumped::Gone => {
                self.source_answers += 1;
                self.settle(key, KeyOutcome::Vanished);
                return None;
            }
            Dumped::Refused(line) => {
                self.source_answers += 1;
                let line = Escaped(&line).to_string();
                self.try_again_or_quarantine(
                    key,
                    "the source refuses to dump it",
                    Some(line),
                    None,
                );
                return None;
            }
        };
        if wanted == Some(false) {
            self.source_answers += 1;
            self.settle(key, KeyOutcome::Filtered);
            return None;
        }
        Some(Payload::Dumped(payload))
    }

    /// Value and expiry have come: the value is checked, and waits for the target.
    pub(super) fn key_read(
        &mut self,
        key: KeyRef,
        payload: Payload,
        expiry: i64,
        value_read_at: Instant,
        now: Instant,
    ) {
        self.source_answers += 1;
        if expiry == -2 && self.rules.ttl == TtlPolicy::Keep {
            return self.settle(key, KeyOutcome::Vanished);
        }
        let size_and_kind = Some((payload.size() as u64, payload.kind()));
        if let Err(error) = payload.check() {
            return self.try_again_or_quarantine(
                key,
                &format!("the payload is damaged: {error}"),
                None,
                size_and_kind,
            );
        }
        if payload.size() as u64 > self.rules.payload_bytes_max {
            if self.may_be_pieced(key) {
                return self.too_big(key, payload.size() as u64);
            }
            let reason = format!(
                "the payload has {} bytes, the target takes at most {} (proto-max-bulk-len)",
                payload.size(),
                self.rules.payload_bytes_max
            );
            return self.quarantine(key, reason, None, size_and_kind);
        }
        let Some(expiry) = self.expiry_of(expiry, now) else {
            return self.settle(key, KeyOutcome::Vanished);
        };
        let payload = match self.for_target(key, payload, now) {
            Converted::Ready(payload) => payload,
            Converted::Gone => return self.settle(key, KeyOutcome::Vanished),
            Converted::Impossible(reason) => return self.give_up(key, reason, size_and_kind),
        };
        self.ready_bytes += payload.size() as u64;
        let connection = self.connection_of(key);
        self.ready[connection].push_back(Ready {
            key,
            payload,
            expiry,
            value_read_at,
            expiry_read_at: now,
        });
    }

    /// What the source's answer means; `None`: the key has expired.
    pub(super) fn expiry_of(&self, answer: i64, now: Instant) -> Option<Expiry> {
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
        if let Some(connection) = self.routed(key) {
            return connection;
        }
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

pub(super) fn concerns_key(line: &[u8]) -> bool {
    match ErrorCode::of(line).retry() {
        Retry::Key | Retry::Unknown => true,
        Retry::AfterBackoff | Retry::AfterReconnect | Retry::Human => false,
    }
}

pub(super) fn side_error(line: &[u8]) -> Trouble {
    LinkError::Reply(ErrorCode::of(line), Escaped(line).to_string()).into()
}

pub(super) fn unexpected(command: &'static str, token: &Token) -> Trouble {
    LinkError::Unexpected(command, format!("{token:?}")).into()
}
