//! A value once more, in an encoding that its target knows.
//!
//! Each type has one encoding that every server of its time and all newer ones read: plain strings, counted and one after
//! the other. The server makes of them what its own settings say.
//!
//! # Invariants
//!
//! - What comes out means what went in, or there is a reason why it can't: nothing is left out but what the caller allows
//!   (the expiry of fields) and what no other server could know (idempotent producers, a consumer's last activity).
//! - It never becomes larger than the caller allows.

mod function;
mod listpack;
mod stream;
#[cfg(test)]
mod tests;
mod writer;

pub use function::library;

use super::decode::{DecodeError, walk};
use super::dialect::{Dialect, FieldExpiry};
use super::footer::FOOTER_BYTES;
use super::visit::{
    Group, Idempotence, Kind, SlotValue, StreamCounters, StreamId, StreamState, VectorElement,
    VectorSetState, Visitor,
};
use stream::Nodes;
use writer::{Place, Writer, append_footer};

/// Whom a value is encoded for, and how.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// What the target takes.
    pub dialect: Dialect,
    /// Where the target can't hold the expiry of fields: `None` says that such a hash is not to be encoded; an instant
    /// (Unix milliseconds) that its fields lose their expiry, but for those that have expired by then, which are gone.
    pub drop_field_expiry: Option<i64>,
    /// Largest payload that the target takes.
    pub bytes_max: u64,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reencoded {
    /// The payload for the target.
    Payload(Vec<u8>),
    /// A hash of which every field has expired: there is no such key any more.
    Vacant,
}

/// Why the target can't get a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unconvertible {
    /// The payload is damaged, or newer than this program.
    #[error("the payload can't be decoded: {0}")]
    Undecodable(#[from] DecodeError),
    /// Before Redis 7.4 and Valkey 9.0 fields don't expire.
    #[error(
        "fields of the hash expire, and the target can't hold that (--field-ttl drop: without their expiry)"
    )]
    FieldsExpire,
    /// Before Redis 5.0 there are no streams.
    #[error("the target has no streams")]
    NoStreams,
    /// Before Redis 8.8 each pending entry has an owner.
    #[error(
        "a consumer group has pending entries without an owner, and the target can't hold that"
    )]
    UnownedEntries,
    /// Only a module can interpret it.
    #[error(
        "it is the value of a module ({0}), and only the same version of the format can take it"
    )]
    Module(String),
    /// Before Redis 8.8 there are no arrays.
    #[error("the target has no arrays")]
    NoArrays,
    /// A module has attached to the key what other servers refuse.
    #[error("a module has attached metadata to the key, and the target can't hold that")]
    KeyMetadata,
    /// Uncompressed it is larger than what the target takes.
    #[error(
        "re-encoded for the target it has more than {bytes_max} bytes, which is what the target takes (proto-max-bulk-len)"
    )]
    TooLarge {
        /// What the target takes.
        bytes_max: u64,
    },
}

/// The same value with another footer, for a target that knows the encoding.
pub fn restamp(payload: &[u8], version: u16) -> Vec<u8> {
    let body = payload.len().saturating_sub(FOOTER_BYTES);
    let mut restamped = Vec::with_capacity(payload.len());
    restamped.extend_from_slice(payload.get(..body).unwrap_or_default());
    append_footer(&mut restamped, version);
    restamped
}

/// The value in an encoding that the target knows. The payload's checksum is not looked at.
///
/// # Errors
///
/// The value can't be decoded, or the target can't hold it.
pub fn reencode(payload: &[u8], rules: &Rules) -> Result<Reencoded, Unconvertible> {
    let payload_type = payload.first().copied().unwrap_or_default();
    let mut encoder = Encoder::new(rules, payload_type, None);
    let walked = walk(payload, &mut encoder)?;
    if walked.has_key_metadata {
        return Err(Unconvertible::KeyMetadata);
    }
    if let Some(first_expiry) = encoder.first_expiry {
        // The expiry of fields is told with the first of them, and only now it is known that there is any.
        encoder = Encoder::new(rules, payload_type, Some(first_expiry));
        walk(payload, &mut encoder)?;
    }
    encoder.finish()
}

/// Writes the value that it is told.
struct Encoder<'a> {
    rules: &'a Rules,
    /// The type of the payload that the value comes from.
    source_type: u8,
    out: Writer,
    kind: Kind,
    /// How many elements follow, told at the end.
    count_at: Option<Place>,
    count: u64,
    nodes: Nodes,
    stream_type: u8,
    /// The earliest expiry of a field: the encoding that can hold it has to be chosen at the beginning.
    first_expiry: Option<i64>,
    /// That encoding was chosen.
    with_expiry: bool,
    /// Fields that were left out because they have expired.
    expired: u64,
    failure: Option<Unconvertible>,
}

impl<'a> Encoder<'a> {
    fn new(rules: &'a Rules, source_type: u8, first_expiry: Option<i64>) -> Self {
        Self {
            rules,
            source_type,
            out: Writer::new(0, rules.bytes_max.saturating_sub(FOOTER_BYTES as u64)),
            kind: Kind::String,
            count_at: None,
            count: 0,
            nodes: Nodes::default(),
            stream_type: 0,
            first_expiry,
            with_expiry: first_expiry.is_some(),
            expired: 0,
            failure: None,
        }
    }

    fn finish(mut self) -> Result<Reencoded, Unconvertible> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        if let Some(place) = self.count_at {
            self.out.set(place, self.count);
        }
        if self.out.overflowed() {
            let bytes_max = self.rules.bytes_max;
            return Err(Unconvertible::TooLarge { bytes_max });
        }
        if self.kind == Kind::Hash && self.count == 0 && self.expired > 0 {
            return Ok(Reencoded::Vacant);
        }
        Ok(Reencoded::Payload(
            self.out.finish(self.rules.dialect.stamp()),
        ))
    }

    fn fail(&mut self, why: Unconvertible) {
        self.failure.get_or_insert(why);
    }

    /// A type whose elements are counted first.
    fn counted(&mut self, payload_type: u8) {
        self.out.set_type(payload_type);
        self.count_at = Some(self.out.place());
    }

    fn one_more(&mut self) {
        self.count = self.count.saturating_add(1);
    }

    fn begin_hash(&mut self) {
        let Some(first_expiry) = self.first_expiry else {
            return self.counted(4);
        };
        match self.rules.dialect.field_expiry() {
            FieldExpiry::Redis => {
                self.out.set_type(24);
                self.out.raw(&first_expiry.to_le_bytes());
                self.count_at = Some(self.out.place());
            }
            FieldExpiry::Valkey => self.counted(22),
            FieldExpiry::None => self.fail(Unconvertible::FieldsExpire),
        }
    }

    fn begin_stream(&mut self) {
        let Some(known) = self.rules.dialect.stream_type() else {
            return self.fail(Unconvertible::NoStreams);
        };
        // What the source did not know is better derived by the target itself. What only the newest types have follows
        // at the end, if there is any.
        self.stream_type = match self.source_type.min(known) {
            26 => 21,
            lower => lower,
        };
        self.counted(self.stream_type);
    }

    fn plain_field(&mut self, field: &[u8], value: &[u8]) {
        self.out.string(field);
        self.out.string(value);
        self.one_more();
    }

    fn expiring_field(&mut self, field: &[u8], value: &[u8], expires_ms: Option<i64>) {
        let first = self.first_expiry.unwrap_or_default();
        match self.rules.dialect.field_expiry() {
            FieldExpiry::Redis => {
                let after = expires_ms.map_or(0, |ms| ms.saturating_sub(first).saturating_add(1));
                self.out.length(u64::try_from(after).unwrap_or(0));
                self.plain_field(field, value);
            }
            FieldExpiry::Valkey => {
                self.plain_field(field, value);
                self.out.raw(&expires_ms.unwrap_or(-1).to_le_bytes());
            }
            FieldExpiry::None => {}
        }
    }

    fn counters(&mut self, counters: Option<&StreamCounters>) {
        if self.stream_type < 19 {
            return;
        }
        // A payload of such a type has them.
        let Some(counters) = counters else {
            return;
        };
        self.out.id(counters.first_id);
        self.out.id(counters.max_deleted_id);
        self.out.length(counters.entries_added);
    }
}

impl Visitor for Encoder<'_> {
    fn begin(&mut self, kind: Kind) {
        self.kind = kind;
        match kind {
            Kind::String => self.out.set_type(0),
            Kind::List => self.counted(1),
            Kind::Set => self.counted(2),
            Kind::Zset if self.rules.dialect.binary_scores() => self.counted(5),
            Kind::Zset => self.counted(3),
            Kind::Hash => self.begin_hash(),
            Kind::Stream => self.begin_stream(),
            Kind::Array => self.fail(Unconvertible::NoArrays),
            Kind::VectorSet => self.fail(Unconvertible::Module("vectorset".to_owned())),
            Kind::Module => {}
        }
    }

    fn string(&mut self, bytes: &[u8]) {
        self.out.string(bytes);
    }

    fn element(&mut self, bytes: &[u8]) {
        self.out.string(bytes);
        self.one_more();
    }

    fn member(&mut self, bytes: &[u8]) {
        self.out.string(bytes);
        self.one_more();
    }

    fn scored(&mut self, member: &[u8], score: f64) {
        self.out.string(member);
        if self.rules.dialect.binary_scores() {
            self.out.raw(&score.to_le_bytes());
        } else {
            text_score(&mut self.out, score);
        }
        self.one_more();
    }

    fn field(&mut self, field: &[u8], value: &[u8], expires_ms: Option<i64>) {
        if self.with_expiry {
            return self.expiring_field(field, value, expires_ms.map(not_before_epoch));
        }
        let Some(ms) = expires_ms else {
            return self.plain_field(field, value);
        };
        if self.rules.dialect.field_expiry() != FieldExpiry::None {
            let ms = not_before_epoch(ms);
            let earliest = self.first_expiry.map_or(ms, |first| first.min(ms));
            self.first_expiry = Some(earliest);
            return;
        }
        match self.rules.drop_field_expiry {
            None => self.fail(Unconvertible::FieldsExpire),
            Some(now_ms) if ms <= now_ms => self.expired = self.expired.saturating_add(1),
            Some(_) => self.plain_field(field, value),
        }
    }

    fn entry(&mut self, id: StreamId, fields: &[&[u8]]) {
        if self.nodes.entry(&mut self.out, id, fields) {
            self.one_more();
        }
    }

    fn stream(&mut self, stream: &StreamState) {
        if self.nodes.finish(&mut self.out) {
            self.one_more();
        }
        self.out.length(stream.len);
        self.out.id(stream.last_id);
        self.counters(stream.since_7_0.as_ref());
        if let Some(place) = self.count_at {
            self.out.set(place, self.count);
        }
        self.count_at = Some(self.out.place());
        self.count = 0;
    }

    fn group(&mut self, group: &Group) {
        self.one_more();
        if !group.unowned.is_empty() && self.stream_type < 27 {
            return self.fail(Unconvertible::UnownedEntries);
        }
        let out = &mut self.out;
        out.string(&group.name);
        out.id(group.last_id);
        if self.stream_type >= 19 {
            // -1 travels as the highest length.
            out.length(group.entries_read.unwrap_or(-1) as u64);
        }
        out.length(group.pending.len() as u64);
        for pending in &group.pending {
            out.raw_id(pending.id);
            out.raw(&pending.delivered_ms.to_le_bytes());
            out.length(pending.deliveries);
        }
        out.length(group.consumers.len() as u64);
        for consumer in &group.consumers {
            out.string(&consumer.name);
            out.raw(&consumer.seen_ms.to_le_bytes());
            if self.stream_type >= 21 {
                let active_ms = consumer.active_ms.unwrap_or(consumer.seen_ms);
                out.raw(&active_ms.to_le_bytes());
            }
            out.length(consumer.pending.len() as u64);
            consumer.pending.iter().for_each(|id| out.raw_id(*id));
        }
        if self.stream_type >= 27 {
            out.length(group.unowned.len() as u64);
            group.unowned.iter().for_each(|id| out.raw_id(*id));
        }
    }

    fn idempotence(&mut self, idempotence: &Idempotence) {
        if self.rules.dialect.stream_type() < Some(26) || self.source_type < 26 {
            return;
        }
        self.out.set_type(self.stream_type.max(26));
        let out = &mut self.out;
        out.length(idempotence.duration_s);
        out.length(idempotence.ids_max);
        out.length(idempotence.producers.len() as u64);
        for producer in &idempotence.producers {
            out.string(&producer.name);
            out.length(producer.ids.len() as u64);
            for (id, entry) in &producer.ids {
                out.string(id);
                out.id(*entry);
            }
        }
        out.length(idempotence.ids_added);
        out.length(idempotence.ids_duplicates);
    }

    // What has no other encoding; `begin` has said why.

    fn array(&mut self, _insert_index: Option<u64>) {}

    fn slot(&mut self, _index: u64, _value: SlotValue<'_>) {}

    fn vector_set(&mut self, _vector_set: &VectorSetState<'_>) {}

    fn vector(&mut self, _vector: &VectorElement<'_>) {}

    fn module(&mut self, name: &str, _version: u16, _tokens: &[u8]) {
        self.fail(Unconvertible::Module(name.to_owned()));
    }
}

/// Valkey can hold instants at and before 0, Redis can't. They are over in any case.
fn not_before_epoch(ms: i64) -> i64 {
    ms.max(1)
}

/// A score as text behind its length; 254 and 255 stand for the infinities.
fn text_score(out: &mut Writer, score: f64) {
    if score.is_infinite() {
        return out.raw(&[if score > 0.0 { 254 } else { 255 }]);
    }
    // The shortest that gives the same number, in the form that can't become long.
    let text = format!("{score:e}");
    out.raw(&[u8::try_from(text.len()).unwrap_or(u8::MAX)]);
    out.raw(text.as_bytes());
}
