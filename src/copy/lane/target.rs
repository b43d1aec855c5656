//! Towards the target: RESTOREs and SETs out, outcomes in.

use std::time::Instant;

use bytes::{Bytes, BytesMut};

use super::sets::{self, Written};
use super::{Lane, READ_AGE_MAX, REFUSED_ALIKE_MAX, Sent, Trouble};
use crate::client::LinkError;
use crate::copy::batch::{Expiry, KeyOutcome, KeyRef, Payload};
use crate::error::{Class, Error};
use crate::key::Escaped;
use crate::plan::OnConflict;
use crate::progress::{Arrived, KeyKind, Life};
use crate::rdb::{footer, string};
use crate::resp::{
    ErrorCode, RestoreOptions, Retry, SetOptions, Token, encode_command, encode_restore_head,
    encode_restore_tail, encode_set_head, encode_set_tail,
};

/// Encoded commands handed to the socket in one write.
const WRITE_BYTES: usize = 64 * 1024;
/// What is gathered for a connection that shares the target with others, while the source goes on to answer. A server
/// reads 16 KiB at a time, and smaller writes cost it two system calls for fewer keys. And where nodes share processors,
/// each burst begins with cold caches: of 16 KiB every 3 ms a key costs a node a quarter more than of 64 KiB every 12 ms.
const GATHERED_BYTES: u64 = 64 * 1024;
/// What a RESTORE has beside its payload, about: its name, its options, the lengths.
const COMMAND_BYTES: u64 = 80;
/// From this size on a payload goes to the socket from the buffer it was read into.
const PAYLOAD_COPIED_MAX: usize = 16 * 1024;

/// Bytes that go to the socket from the buffer they were read into: they follow what has been encoded, and behind them
/// the rest of the command has to be.
pub struct LargePayload {
    /// The payload, or its value alone.
    pub bytes: Bytes,
    tail: Tail,
}

/// What follows large bytes.
enum Tail {
    Restore {
        /// What belongs to the payload behind these bytes.
        footer: Option<[u8; footer::FOOTER_BYTES]>,
        options: RestoreOptions,
    },
    Set(SetOptions),
}

impl LargePayload {
    /// Appends what follows the bytes.
    pub fn encode_tail(&self, out: &mut BytesMut) {
        match &self.tail {
            Tail::Restore { footer, options } => {
                if let Some(footer) = footer {
                    out.extend_from_slice(footer);
                }
                encode_restore_tail(out, *options);
            }
            Tail::Set(options) => encode_set_tail(out, *options),
        }
    }
}

impl Lane {
    /// Whether what waits for this connection should wait a little longer, for company. Every answer of the source is
    /// shared out among all connections: written at once, each would be fed a few keys at a time.
    ///
    /// Nothing is waited for that need not come: a source that owes nothing may be waiting for these very keys.
    pub fn gathers(&self, connection: usize) -> bool {
        let ready = &self.ready[connection];
        if self.ready.len() == 1 || ready.is_empty() || self.asked.is_empty() || self.is_full() {
            return false;
        }
        let bytes = ready.len() as u64 * (self.window.payload_bytes() + COMMAND_BYTES);
        bytes < GATHERED_BYTES
    }

    /// Appends commands to `out`, about 64 KiB of them at most, and ends early at a large payload.
    pub fn write(
        &mut self,
        connection: usize,
        out: &mut BytesMut,
        now: Instant,
    ) -> Option<LargePayload> {
        while out.len() < WRITE_BYTES {
            let ready = self.ready[connection].pop_front()?;
            let payload_bytes = ready.payload.size() as u64;
            self.ready_bytes -= payload_bytes;
            if now.saturating_duration_since(ready.value_read_at) > READ_AGE_MAX {
                self.unread.push_back(ready.key);
                continue;
            }
            let Some((ttl, absttl)) = self.restore_ttl(ready.expiry, ready.expiry_read_at, now)
            else {
                self.settle(ready.key, KeyOutcome::Vanished);
                continue;
            };
            let asking = self.asking.contains_key(&ready.key);
            if asking {
                encode_command(out, &[b"ASKING"]);
            }
            let life = self.life(ready.expiry, now);
            let written = self.sets.way_of(&ready.payload, ttl != 0);
            let entry = self.entry_of(ready.key, &ready.payload, (ttl, absttl), now);
            self.sent[connection].push_back(Sent {
                key: ready.key,
                asking,
                payload_bytes,
                payload_type: ready.payload.kind(),
                life,
                dumped: matches!(ready.payload, Payload::Dumped(_)),
                reencoded: matches!(ready.payload, Payload::Reencoded(_)),
                written,
                entry,
            });
            let large = self.encode_write(out, ready.key, ready.payload, written, (ttl, absttl));
            if large.is_some() {
                return large;
            }
        }
        None
    }

    /// Appends the command that writes a value, or what of it comes before a large one.
    fn encode_write(
        &mut self,
        out: &mut BytesMut,
        key: KeyRef,
        payload: Payload,
        written: Written,
        (ttl, absttl): (u64, bool),
    ) -> Option<LargePayload> {
        let mut buffer = std::mem::take(&mut self.name_buffer);
        let name = self.batch(key).name(key.index);
        let name = self.rules.renaming.target_name(name, &mut buffer);
        let replace = self.replaces();
        let large = match (payload, written) {
            (Payload::String(value), Written::Set { .. }) => {
                let options = sets::options((ttl, absttl), replace);
                encode_set_head(out, name, value.len(), options);
                append_value(out, value, options)
            }
            (payload, Written::Set { .. } | Written::Restored) => {
                let options = RestoreOptions { replace, absttl };
                encode_restore_head(out, name, ttl, payload.size(), options);
                append_payload(out, payload, options)
            }
        };
        self.name_buffer = buffer;
        large
    }

    /// Whether a key may be overwritten. A target that had to be empty has nothing but what we wrote.
    fn replaces(&self) -> bool {
        match self.rules.on_conflict {
            OnConflict::RequireEmpty | OnConflict::Replace => true,
            OnConflict::Skip | OnConflict::Fail => false,
        }
    }

    /// RESTORE's ttl argument and whether it is an instant; `None`: the key has expired while it waited.
    ///
    /// Never 0 for a key that expires: 0 means "never".
    pub(super) fn restore_ttl(
        &self,
        expiry: Expiry,
        read_at: Instant,
        now: Instant,
    ) -> Option<(u64, bool)> {
        let instant = |clock: Option<crate::client::Clock>, instant: i64| {
            let expired = instant <= 0 || clock.is_some_and(|clock| clock.at(now) >= instant);
            (!expired).then_some((instant as u64, true))
        };
        match expiry {
            Expiry::Never => Some((0, false)),
            Expiry::At(at) => instant(self.rules.source_clock, at),
            Expiry::In(left) => match self.rules.target_clock {
                // An instant of the target's clock does not age while it waits in buffers.
                Some(clock) if self.rules.absttl => {
                    instant(Some(clock), clock.at(read_at).saturating_add(left))
                }
                _ => {
                    let waited = now.saturating_duration_since(read_at).as_millis() as i64;
                    let left = left.saturating_sub(waited);
                    (left > 0).then_some((left as u64, false))
                }
            },
        }
    }

    /// For how long the key lives on, for the report.
    pub(super) fn life(&self, expiry: Expiry, now: Instant) -> Life {
        match (expiry, self.rules.source_clock) {
            (Expiry::Never, _) => Life::Forever,
            (Expiry::In(left), _) => Life::of_ms(left),
            (Expiry::At(at), Some(clock)) => Life::of_ms(at.saturating_sub(clock.at(now))),
            (Expiry::At(_), None) => Life::Unknown,
        }
    }

    /// Takes the next token of the target's answers on this connection.
    pub fn target_token(&mut self, connection: usize, token: Token) -> Result<(), Trouble> {
        let Some(mut sent) = self.sent[connection].pop_front() else {
            return Err(LinkError::Unexpected("nothing", format!("{token:?}")).into());
        };
        if sent.asking && matches!(token, Token::Simple(_)) {
            sent.asking = false;
            self.sent[connection].push_front(sent);
            return Ok(());
        }
        if sent.asking
            && let Token::Error(line) = &token
        {
            self.sent[connection].push_front(sent);
            return Err(LinkError::Reply(ErrorCode::of(line), Escaped(line).to_string()).into());
        }
        if !self.asking.is_empty() {
            self.asking.remove(&sent.key);
        }
        match token {
            Token::Simple(_) => {
                self.target_answers += 1;
                self.refused_in_a_row = 0;
                self.bytes_acknowledged += sent.payload_bytes;
                let arrived = Arrived {
                    payload_bytes: sent.payload_bytes,
                    kind: KeyKind::of_payload_type(sent.payload_type),
                    life: sent.life,
                };
                self.keep_written(sent.key, sent.entry);
                self.settle(
                    sent.key,
                    match sent.reencoded {
                        true => KeyOutcome::Reencoded(arrived),
                        false => KeyOutcome::Written(arrived),
                    },
                );
                Ok(())
            }
            // SET's word for it that there is such a key.
            Token::Null if matches!(sent.written, Written::Set { .. }) => {
                self.target_answers += 1;
                self.conflict(sent.key, "SET … NX was answered with nil".into())
            }
            Token::Error(line) => self.refused(connection, sent, &line),
            other => Err(LinkError::Unexpected("RESTORE", format!("{other:?}")).into()),
        }
    }

    fn refused(&mut self, connection: usize, sent: Sent, line: &[u8]) -> Result<(), Trouble> {
        let code = ErrorCode::of(line);
        let shown = Escaped(line).to_string();
        let payload = Some((sent.payload_bytes, sent.payload_type));
        if matches!(code, ErrorCode::Moved | ErrorCode::Ask) {
            return self.redirected(connection, sent, line);
        }
        if self.refuses_set(&sent, line) {
            self.target_answers += 1;
            self.unread.push_back(sent.key);
            return Ok(());
        }
        match code.retry() {
            Retry::Key if code == ErrorCode::BusyKey => {
                self.target_answers += 1;
                self.conflict(sent.key, shown)
            }
            Retry::AfterBackoff | Retry::AfterReconnect | Retry::Human => {
                // The key goes the way of everything that is unanswered on this connection.
                self.sent[connection].push_front(sent);
                Err(LinkError::Reply(code, shown).into())
            }
            Retry::Key if self.may_reencode(code, &sent) => {
                self.target_answers += 1;
                self.refused.insert(sent.key, shown);
                self.unread.push_back(sent.key);
                Ok(())
            }
            Retry::Key => {
                self.target_answers += 1;
                self.quarantine(
                    sent.key,
                    "the target refuses the payload".into(),
                    Some(shown.clone()),
                    payload,
                );
                self.refused_alike(&shown)?;
                match code {
                    // The server closes the connection after it.
                    ErrorCode::InvalidBulkLength => Err(LinkError::Closed.into()),
                    _ => Ok(()),
                }
            }
            Retry::Unknown => {
                self.try_again_or_quarantine(
                    sent.key,
                    "the target refuses the key",
                    Some(shown.clone()),
                    payload,
                );
                self.refused_alike(&shown)
            }
        }
    }

    /// A hundred refusals and not one key written: that is not about the keys.
    pub(super) fn refused_alike(&mut self, line: &str) -> Result<(), Trouble> {
        match self.one_more_refused(line) {
            None => Ok(()),
            Some(error) => Err(Trouble::Fatal(error)),
        }
    }

    /// A key that the target refused, and that can't be given to it in another way.
    pub(super) fn give_up(
        &mut self,
        key: KeyRef,
        reason: String,
        payload: Option<(u64, Option<u8>)>,
    ) {
        let refused = self.refused.get(&key).cloned();
        self.quarantine(key, reason, refused.clone(), payload);
        if let Some(error) = refused.and_then(|line| self.one_more_refused(&line)) {
            self.fatal = Some(error);
        }
    }

    fn one_more_refused(&mut self, line: &str) -> Option<Box<Error>> {
        self.refused_in_a_row += 1;
        if self.refused_in_a_row < REFUSED_ALIKE_MAX {
            return None;
        }
        let cause = format!(
            "the target refused {REFUSED_ALIKE_MAX} keys in a row, the last with \"{line}\""
        );
        let error = Error::new(Class::Incompatible, "restore keys", cause)
            .on(crate::endpoint::Side::Target)
            .hint("a target older than the source can't read its payloads; look at both versions (INFO server)");
        Some(Box::new(error))
    }

    /// The target already has the key.
    pub(super) fn conflict(&mut self, key: KeyRef, line: String) -> Result<(), Trouble> {
        if self.batch(key).in_doubt {
            self.doubtful.push_back(key);
            return Ok(());
        }
        match self.rules.on_conflict {
            OnConflict::Skip => self.settle(key, KeyOutcome::Kept),
            OnConflict::Fail => return Err(self.conflict_error(key)),
            OnConflict::RequireEmpty | OnConflict::Replace => {
                self.quarantine(
                    key,
                    "the target does not replace keys".into(),
                    Some(line),
                    None,
                );
            }
        }
        Ok(())
    }

    fn conflict_error(&self, key: KeyRef) -> Trouble {
        let name = Escaped(self.batch(key).name(key.index)).to_string();
        let error = Error::new(
            Class::TargetNotEmpty,
            format!("restore \"{name}\""),
            "the target already has this key, and --on-conflict fail was given",
        )
        .on(crate::endpoint::Side::Target)
        .hint("--on-conflict skip keeps what the target has, replace overwrites it");
        Trouble::Fatal(Box::new(error))
    }

    /// The next key of which it has to be found out whether the target's copy is ours.
    pub fn take_doubtful(&mut self) -> Option<(KeyRef, Vec<u8>)> {
        let key = self.doubtful.pop_front()?;
        Some((key, self.batch(key).name(key.index).to_vec()))
    }

    /// Tells whether both sides hold the same value under a doubtful key.
    pub fn doubt_settled(&mut self, key: KeyRef, same: bool) -> Result<(), Trouble> {
        if same {
            self.keep_written(key, None);
            self.settle(key, KeyOutcome::Written(Arrived::UNSEEN));
            return Ok(());
        }
        match self.rules.on_conflict {
            OnConflict::Fail => Err(self.conflict_error(key)),
            OnConflict::Skip | OnConflict::RequireEmpty | OnConflict::Replace => {
                self.settle(key, KeyOutcome::Kept);
                Ok(())
            }
        }
    }

    /// The target's connection is lost: whether it executed what it did not answer is unknown, so it gets it again.
    pub fn target_lost(&mut self, connection: usize) {
        while let Some(sent) = self.sent[connection].pop_back() {
            let first = self.batches[0].seq;
            self.batches[(sent.key.seq - first) as usize].in_doubt = true;
            self.unread.push_front(sent.key);
        }
    }
}

/// Appends what follows the head of RESTORE, or hands a large payload back.
fn append_payload(
    out: &mut BytesMut,
    payload: Payload,
    options: RestoreOptions,
) -> Option<LargePayload> {
    let (bytes, footer) = match payload {
        Payload::Dumped(payload) | Payload::Reencoded(payload)
            if payload.len() > PAYLOAD_COPIED_MAX =>
        {
            (payload, None)
        }
        Payload::String(value) if value.len() > PAYLOAD_COPIED_MAX => {
            let frame = string::Frame::around(&value);
            out.extend_from_slice(frame.head());
            (value, Some(frame.footer()))
        }
        Payload::Dumped(payload) | Payload::Reencoded(payload) => {
            out.extend_from_slice(&payload);
            encode_restore_tail(out, options);
            return None;
        }
        Payload::String(value) => {
            string::append_payload(out, &value);
            encode_restore_tail(out, options);
            return None;
        }
    };
    let tail = Tail::Restore { footer, options };
    Some(LargePayload { bytes, tail })
}

/// Appends what follows the head of SET, or hands a large value back.
fn append_value(out: &mut BytesMut, value: Bytes, options: SetOptions) -> Option<LargePayload> {
    if value.len() > PAYLOAD_COPIED_MAX {
        let tail = Tail::Set(options);
        return Some(LargePayload { bytes: value, tail });
    }
    out.extend_from_slice(&value);
    encode_set_tail(out, options);
    None
}
