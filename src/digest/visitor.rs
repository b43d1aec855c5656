//! Makes a value's digest from its pieces, as the decoder meets them.

use super::frame::{Frame, domain, hash, summand};
use super::groups::{Groups, put_id};
use super::{DigestRules, KeyDigest, StreamLevel, string_digest};
use crate::rdb::decode::{DecodeError, Decoder};
use crate::rdb::visit::{
    Group, Idempotence, Kind, SlotValue, StreamId, StreamState, VectorElement, VectorSetState,
    Visitor,
};

// What follows in a sequence of different things.
const ENTRY: &[u8] = b"e";
const STATE: &[u8] = b"s";
const IDEMPOTENCE: &[u8] = b"i";
const TEXT: &[u8] = b"t";
const DOUBLE: &[u8] = b"d";
/// What may be there and is, or is not.
pub(super) const PRESENT: &[u8] = b"+";
pub(super) const ABSENT: &[u8] = b"-";

/// The quantization of vectors whose components have a range.
const EIGHT_BITS: u64 = 1;

/// Digests one value after the other, in the same memory.
pub struct Digester {
    decoder: Decoder,
    pieces: Pieces,
}

impl Digester {
    /// For values that are compared by these rules.
    pub fn new(rules: DigestRules) -> Self {
        Self {
            decoder: Decoder::new(),
            pieces: Pieces::new(rules),
        }
    }

    /// For the values that follow, other rules.
    pub fn set_rules(&mut self, rules: DigestRules) {
        self.pieces.rules = rules;
    }

    /// The digest of a payload's value. The checksum is not looked at.
    ///
    /// # Errors
    ///
    /// The payload can't be decoded.
    pub fn of_payload(&mut self, payload: &[u8]) -> Result<KeyDigest, DecodeError> {
        self.decoder.walk(payload, &mut self.pieces)?;
        Ok(self.pieces.finish())
    }

    /// When the first field of the hash that was digested last expires, of those that have not, Unix milliseconds.
    pub fn first_field_expiry(&self) -> Option<i64> {
        self.pieces.first_expiry
    }
}

/// Takes a value's pieces and makes its digest; ready for the next one then.
pub struct Pieces {
    rules: DigestRules,
    kind: Kind,
    string: [u8; 32],
    /// What has an order.
    sequence: Frame,
    /// How many there are of what has none.
    count: u64,
    /// The sum of their hashes modulo 2^128.
    sum: u128,
    member: Frame,
    /// Fields that are not there any more.
    expired: u64,
    /// When the first of those that are there will go.
    first_expiry: Option<i64>,
    eight_bit_vectors: bool,
}

impl Pieces {
    /// For values that are compared by these rules.
    pub fn new(rules: DigestRules) -> Self {
        Self {
            rules,
            kind: Kind::String,
            string: [0; 32],
            sequence: Frame::new(domain::LIST),
            count: 0,
            sum: 0,
            member: Frame::new(domain::SET_MEMBER),
            expired: 0,
            first_expiry: None,
            eight_bit_vectors: false,
        }
    }

    /// The digest of the value that was told last.
    pub fn finish(&mut self) -> KeyDigest {
        let vacant = self.kind == Kind::Hash && self.count == 0 && self.expired > 0;
        let digest = match self.kind {
            Kind::Module => None,
            Kind::String => Some(self.string),
            Kind::List
            | Kind::Set
            | Kind::Zset
            | Kind::Hash
            | Kind::Stream
            | Kind::Array
            | Kind::VectorSet => {
                self.sequence.put_u64(self.count);
                self.sequence.put(&self.sum.to_le_bytes());
                Some(self.sequence.finish())
            }
        };
        KeyDigest {
            kind: self.kind,
            digest,
            vacant,
        }
    }

    fn take(&mut self, hash: [u8; 32]) {
        self.take_all(1, summand(hash));
    }

    /// Takes so many things that have no order, with the sum of their hashes.
    pub(super) fn take_all(&mut self, count: u64, sum: u128) {
        self.count = self.count.wrapping_add(count);
        self.sum = self.sum.wrapping_add(sum);
    }

    fn take_member(&mut self) {
        let hash = self.member.finish();
        self.take(hash);
    }

    /// A string whose hash was made elsewhere.
    pub(super) fn take_string(&mut self, hash: [u8; 32]) {
        self.string = hash;
    }

    /// A field that has expired.
    pub(super) fn take_expired(&mut self) {
        self.expired = self.expired.wrapping_add(1);
    }

    /// When the first of the fields expires that were taken and can.
    pub(super) fn first_expiry(&self) -> Option<i64> {
        self.first_expiry
    }

    /// The hash of a field, as long as it is there.
    pub(super) fn field_hash(
        &mut self,
        field: &[u8],
        value: &[u8],
        expires_ms: Option<i64>,
    ) -> [u8; 32] {
        match expires_ms.filter(|_| self.rules.field_expiries) {
            Some(ms) => {
                self.member.restart(domain::EXPIRING_FIELD);
                self.member.put(&ms.to_le_bytes());
            }
            None => self.member.restart(domain::FIELD),
        }
        self.member.put_framed(field);
        self.member.put(value);
        self.member.finish()
    }
}

impl Visitor for Pieces {
    fn begin(&mut self, kind: Kind) {
        self.kind = kind;
        self.count = 0;
        self.sum = 0;
        self.expired = 0;
        self.first_expiry = None;
        self.sequence.restart(match kind {
            Kind::String | Kind::Module => domain::STRING,
            Kind::List => domain::LIST,
            Kind::Set => domain::SET,
            Kind::Zset => domain::ZSET,
            Kind::Hash => domain::HASH,
            Kind::Stream => domain::STREAM,
            Kind::Array => domain::ARRAY,
            Kind::VectorSet => domain::VECTOR_SET,
        });
    }

    fn string(&mut self, bytes: &[u8]) {
        self.string = string_digest(bytes);
    }

    fn element(&mut self, bytes: &[u8]) {
        self.count = self.count.wrapping_add(1);
        self.sequence.put_framed(bytes);
    }

    fn member(&mut self, bytes: &[u8]) {
        self.take(hash(domain::SET_MEMBER, bytes));
    }

    fn scored(&mut self, member: &[u8], score: f64) {
        self.member.restart(domain::ZSET_MEMBER);
        // -0.0 and 0.0 are one score, and encodings differ in which of them they write.
        let score = if score == 0.0 { 0.0 } else { score };
        self.member.put_u64(score.to_bits());
        self.member.put(member);
        self.take_member();
    }

    fn field(&mut self, field: &[u8], value: &[u8], expires_ms: Option<i64>) {
        if let Some(ms) = expires_ms.filter(|ms| *ms > self.rules.now_ms) {
            self.first_expiry = Some(self.first_expiry.map_or(ms, |first| first.min(ms)));
        }
        if expires_ms.is_some_and(|ms| ms <= self.rules.now_ms) {
            self.take_expired();
            return;
        }
        let hash = self.field_hash(field, value, expires_ms);
        self.take(hash);
    }

    fn entry(&mut self, id: StreamId, fields: &[&[u8]]) {
        self.sequence.put(ENTRY);
        put_id(&mut self.sequence, id);
        self.sequence.put_u64(fields.len() as u64);
        for part in fields {
            self.sequence.put_framed(part);
        }
    }

    fn stream(&mut self, stream: &StreamState) {
        self.sequence.put(STATE);
        self.sequence.put_u64(stream.len);
        put_id(&mut self.sequence, stream.last_id);
        if self.rules.stream_level < StreamLevel::Counted {
            return;
        }
        match &stream.since_7_0 {
            // The first id follows from the entries.
            Some(counters) => {
                self.sequence.put(PRESENT);
                put_id(&mut self.sequence, counters.max_deleted_id);
                self.sequence.put_u64(counters.entries_added);
            }
            None => self.sequence.put(ABSENT),
        }
    }

    fn group(&mut self, group: &Group) {
        let mut groups = Groups::in_frame(&mut self.member, self.rules.stream_level);
        groups.whole(group);
        let (count, sum) = (groups.count, groups.sum);
        self.take_all(count, sum);
    }

    fn idempotence(&mut self, idempotence: &Idempotence) {
        if self.rules.stream_level < StreamLevel::Idempotent {
            return;
        }
        self.sequence.put(IDEMPOTENCE);
        self.sequence.put_u64(idempotence.duration_s);
        self.sequence.put_u64(idempotence.ids_max);
        self.sequence.put_u64(idempotence.ids_added);
        self.sequence.put_u64(idempotence.ids_duplicates);
        for producer in &idempotence.producers {
            self.member.restart(domain::PRODUCER);
            self.member.put_framed(&producer.name);
            // In the order in which they will be forgotten.
            for (id, entry) in &producer.ids {
                self.member.put_framed(id);
                put_id(&mut self.member, *entry);
            }
            self.take_member();
        }
    }

    fn array(&mut self, insert_index: Option<u64>) {
        match insert_index {
            Some(index) => {
                self.sequence.put(PRESENT);
                self.sequence.put_u64(index);
            }
            None => self.sequence.put(ABSENT),
        }
    }

    fn slot(&mut self, index: u64, value: SlotValue<'_>) {
        self.count = self.count.wrapping_add(1);
        self.sequence.put_u64(index);
        match value {
            SlotValue::Text(text) => {
                self.sequence.put(TEXT);
                self.sequence.put_framed(text);
            }
            // Whether digits are stored as a number is a matter of encoding.
            SlotValue::Integer(number) => {
                self.sequence.put(TEXT);
                self.sequence
                    .put_framed(itoa::Buffer::new().format(number).as_bytes());
            }
            SlotValue::Double(number) => {
                self.sequence.put(DOUBLE);
                self.sequence.put_u64(number.to_bits());
            }
        }
    }

    fn vector_set(&mut self, vector_set: &VectorSetState<'_>) {
        self.eight_bit_vectors = vector_set.quantization == EIGHT_BITS;
        self.sequence.put_u64(vector_set.dimensions);
        self.sequence.put_u64(vector_set.quantization);
        self.sequence.put_framed(vector_set.projection);
    }

    fn vector(&mut self, vector: &VectorElement<'_>) {
        self.member.restart(domain::VECTOR);
        self.member.put_framed(vector.name);
        self.member.put_framed(vector.attributes);
        self.member.put(&vector.norm.to_le_bytes());
        if self.eight_bit_vectors {
            self.member.put(&vector.range.to_le_bytes());
        }
        self.member.put(vector.components);
        self.take_member();
    }

    fn module(&mut self, _name: &str, _version: u16, _tokens: &[u8]) {}
}
