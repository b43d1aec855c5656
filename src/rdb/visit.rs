//! What a value consists of, told piece by piece and in the payload's own order.
//!
//! A payload can be as large as the memory that it came from, so nobody builds its value: the decoder walks it once and
//! tells a [`Visitor`] what it meets. The digest and the encoder are visitors.
//!
//! # Invariants
//!
//! - [`Visitor::begin`] comes first and once. After it come only the calls that its [`Kind`] names.
//! - A slice is the logical content: integers as their decimal text, compressed strings uncompressed.
//! - A payload that turns out to be damaged ends the calls in the middle; what was told until then means nothing.

/// What kind of value a payload holds; which calls follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One [`Visitor::string`].
    String,
    /// An [`Visitor::element`] for each element, from head to tail.
    List,
    /// A [`Visitor::member`] for each member, in any order.
    Set,
    /// A [`Visitor::scored`] for each member, in any order.
    Zset,
    /// A [`Visitor::field`] for each field, in any order.
    Hash,
    /// An [`Visitor::entry`] for each entry that was not deleted, ascending; then one [`Visitor::stream`], a
    /// [`Visitor::group`] for each consumer group, and at most one [`Visitor::idempotence`].
    Stream,
    /// One [`Visitor::array`], then a [`Visitor::slot`] for each index in use, ascending (Redis 8.8).
    Array,
    /// One [`Visitor::vector_set`], then a [`Visitor::vector`] for each element, in any order (Redis 8.0).
    VectorSet,
    /// One [`Visitor::module`]: a value that only its module can interpret.
    Module,
}

/// Receives what the decoder meets. Only what its [`Kind`] names is called, so a visitor need not know all kinds.
pub trait Visitor {
    /// The value begins.
    fn begin(&mut self, kind: Kind);
    /// The whole string.
    fn string(&mut self, bytes: &[u8]);
    /// The next element of a list.
    fn element(&mut self, bytes: &[u8]);
    /// A member of a set.
    fn member(&mut self, bytes: &[u8]);
    /// A member of a sorted set; the score is never NaN.
    fn scored(&mut self, member: &[u8], score: f64);
    /// A field of a hash, with the instant at which it expires (Unix milliseconds, the source's clock), if it does.
    fn field(&mut self, field: &[u8], value: &[u8], expires_ms: Option<i64>);
    /// A living entry of a stream: its fields and values in order, alternately.
    fn entry(&mut self, id: StreamId, fields: &[&[u8]]);
    /// What a stream says of itself.
    fn stream(&mut self, stream: &StreamState);
    /// A consumer group of a stream.
    fn group(&mut self, group: &Group);
    /// What a stream remembers of idempotent producers (Redis 8.6).
    fn idempotence(&mut self, idempotence: &Idempotence);
    /// What an array says of itself.
    fn array(&mut self, insert_index: Option<u64>);
    /// A slot of an array in use.
    fn slot(&mut self, index: u64, value: SlotValue<'_>);
    /// What a vector set says of itself.
    fn vector_set(&mut self, vector_set: &VectorSetState<'_>);
    /// An element of a vector set.
    fn vector(&mut self, vector: &VectorElement<'_>);
    /// A module's value: the name of its type, its version, and its tokens as they are stored, without the end mark.
    fn module(&mut self, name: &str, version: u16, tokens: &[u8]);
}

/// An entry's place in a stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    /// Unix milliseconds, as a rule.
    pub ms: u64,
    /// Number within the millisecond.
    pub seq: u64,
}

/// What a stream says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamState {
    /// How many entries it says it has.
    pub len: u64,
    /// The highest id ever given.
    pub last_id: StreamId,
    /// Since Redis 7.0 (type 19); absent in older payloads.
    pub since_7_0: Option<StreamCounters>,
}

/// What a stream counts since Redis 7.0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamCounters {
    /// Id of the first living entry.
    pub first_id: StreamId,
    /// Highest id of a deleted entry.
    pub max_deleted_id: StreamId,
    /// Entries ever added.
    pub entries_added: u64,
}

/// A consumer group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: Vec<u8>,
    /// Last id delivered.
    pub last_id: StreamId,
    /// Since Redis 7.0: entries read so far, `-1` where the server does not know. Absent in older payloads.
    pub entries_read: Option<i64>,
    /// Entries delivered and not acknowledged, ascending.
    pub pending: Vec<Pending>,
    /// Its consumers, in the payload's order.
    pub consumers: Vec<Consumer>,
    /// Pending entries without an owner (XNACK, Redis 8.8).
    pub unowned: Vec<StreamId>,
}

/// An entry that was delivered and not acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pending {
    /// Which entry; it may have been deleted since.
    pub id: StreamId,
    /// Last delivery, Unix milliseconds.
    pub delivered_ms: i64,
    /// How often it was delivered.
    pub deliveries: u64,
}

/// A consumer of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consumer {
    /// Its name.
    pub name: Vec<u8>,
    /// Last seen, Unix milliseconds.
    pub seen_ms: i64,
    /// Since Redis 7.2: last time it got or claimed something, `-1` for never. Absent in older payloads.
    pub active_ms: Option<i64>,
    /// Its part of the group's pending entries, ascending.
    pub pending: Vec<StreamId>,
}

/// What a stream remembers of idempotent producers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotence {
    /// How long ids are remembered, seconds.
    pub duration_s: u64,
    /// How many ids are remembered for a producer.
    pub ids_max: u64,
    /// Producers, in the payload's order.
    pub producers: Vec<Producer>,
    /// Ids ever added.
    pub ids_added: u64,
    /// Duplicates ever refused.
    pub ids_duplicates: u64,
}

/// A producer whose ids are remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Producer {
    /// Its name.
    pub name: Vec<u8>,
    /// Its ids, each with the entry that it made, in the payload's order.
    pub ids: Vec<(Vec<u8>, StreamId)>,
}

/// What an array's slot holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SlotValue<'a> {
    /// A string.
    Text(&'a [u8]),
    /// An integer.
    Integer(i64),
    /// A floating-point number.
    Double(f64),
}

/// What a vector set says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VectorSetState<'a> {
    /// Dimensions of each vector, after the projection if there is one.
    pub dimensions: u64,
    /// How vectors are stored, as the module numbers it (0 none, 1 eight bits, 2 binary).
    pub quantization: u64,
    /// The random matrix that reduces a query's dimensions, as it is stored; empty: none.
    pub projection: &'a [u8],
}

/// An element of a vector set. Its links to others are left out: a server may lay them anew whenever it loads them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VectorElement<'a> {
    /// Its name.
    pub name: &'a [u8],
    /// Its attributes; empty: none.
    pub attributes: &'a [u8],
    /// Its vector, of length 1, as it is stored.
    pub components: &'a [u8],
    /// The length that the vector had before.
    pub norm: f32,
    /// What the largest of eight-bit components stands for; 0 in other quantizations.
    pub range: f32,
}
