//! Are two servers equal? An answer that shares no code with what is tested.
//!
//! Every key of both sides is read with the ordinary commands of its type, through the `redis` crate, and compared by
//! meaning: members of sets and fields of hashes in any order, scores as numbers, streams with their groups, consumers
//! and pending entries, HyperLogLogs without the cardinality that PFCOUNT caches in them. DUMP is never used: equal values may have different bytes, and DUMP is what is tested. Nor is
//! DEBUG DIGEST-VALUE: it is slower than reading (1.3 against 0.9 s for 20 000 keys) and says less about expiry.
//!
//! Both sides must stand still. A difference counts only if it is there at a second look, so that a key that expires
//! between two reads is none.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use redis::{Connection, Value};

use super::cluster::Cluster;
use super::server::Server;

/// How far the expiry of a key may be off, unless a test says otherwise.
const TTL_TOLERANCE_MS: i64 = 500;

/// Keys read with one pipeline. Bounds the memory, not the speed.
const CHUNK_KEYS: usize = 1_000;

/// What is wrong with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verdict {
    /// Only on the source.
    Missing,
    /// Only on the target.
    Extra,
    /// Another type.
    Type,
    /// Another value.
    Value,
    /// Expires at another time, or on one side only.
    Expiry,
    /// Of a type that this oracle can't read. Never silently equal.
    NotCompared,
}

/// One key that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The key's name.
    pub key: Vec<u8>,
    /// What is wrong.
    pub verdict: Verdict,
    /// Both sides, in few words.
    pub detail: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} \"{}\": {}",
            self.verdict,
            self.key.escape_ascii(),
            self.detail
        )
    }
}

/// What a comparison found.
#[derive(Debug)]
pub struct Comparison {
    /// Names on either side.
    pub keys: usize,
    /// Keys that differ, by name.
    pub differences: Vec<Difference>,
    /// Largest distance between the two expiries of a key that has one on both sides.
    pub ttl_drift_max_ms: i64,
}

/// A comparison to be made; the defaults compare database 0 of both sides by value.
pub struct Oracle<'a> {
    source: (Vec<&'a Server>, u32),
    target: (Vec<&'a Server>, u32),
    ttl_tolerance_ms: i64,
    field_expiries: bool,
}

/// Differences between database 0 of both servers.
pub fn differences(source: &Server, target: &Server) -> Vec<Difference> {
    Oracle::between(source, target).compare().differences
}

/// Panics with the first differences unless both databases 0 are equal and not empty. Returns the number of keys.
pub fn assert_equal(source: &Server, target: &Server) -> usize {
    Oracle::between(source, target).assert_equal()
}

/// One side of a comparison: one server, or the nodes of a cluster.
pub struct Servers<'a>(Vec<&'a Server>);

impl<'a> From<&'a Server> for Servers<'a> {
    fn from(server: &'a Server) -> Self {
        Self(vec![server])
    }
}

impl<'a> From<&'a Cluster> for Servers<'a> {
    fn from(cluster: &'a Cluster) -> Self {
        Self(cluster.masters())
    }
}

impl<'a> Oracle<'a> {
    /// Database 0 of both sides.
    pub fn between(source: impl Into<Servers<'a>>, target: impl Into<Servers<'a>>) -> Self {
        Self {
            source: (source.into().0, 0),
            target: (target.into().0, 0),
            ttl_tolerance_ms: TTL_TOLERANCE_MS,
            field_expiries: true,
        }
    }

    /// Other databases.
    #[must_use]
    pub fn databases(mut self, source: u32, target: u32) -> Self {
        self.source.1 = source;
        self.target.1 = target;
        self
    }

    /// How far an expiry may be off.
    #[must_use]
    pub fn ttl_tolerance_ms(mut self, tolerance: i64) -> Self {
        self.ttl_tolerance_ms = tolerance;
        self
    }

    /// Takes fields for equal whenever they expire: for a target that can't hold their expiries.
    #[must_use]
    pub fn without_field_expiries(mut self) -> Self {
        self.field_expiries = false;
        self
    }

    /// Panics with the first differences unless both are equal and not empty. Returns the number of keys.
    pub fn assert_equal(&self) -> usize {
        let found = self.compare();
        assert!(
            found.keys > 0,
            "nothing on either side: that proves nothing"
        );
        let shown: Vec<String> = found
            .differences
            .iter()
            .take(20)
            .map(Difference::to_string)
            .collect();
        assert!(
            shown.is_empty(),
            "{} of {} keys differ:\n{}",
            found.differences.len(),
            found.keys,
            shown.join("\n")
        );
        found.keys
    }

    /// Compares every key of both sides.
    pub fn compare(&self) -> Comparison {
        let mut source = Side::new(&self.source, self);
        let mut target = Side::new(&self.target, self);
        let (of_source, of_target) = both(|| source.names(), || target.names());
        let names: Vec<Vec<u8>> = of_source.union(&of_target).cloned().collect();

        let mut found = Comparison {
            keys: names.len(),
            differences: Vec::new(),
            ttl_drift_max_ms: 0,
        };
        for chunk in names.chunks(CHUNK_KEYS) {
            let suspects = self.compare_chunk(chunk, &mut source, &mut target, &mut found);
            // The second look.
            let names: Vec<Vec<u8>> = suspects.into_iter().map(|suspect| suspect.key).collect();
            if !names.is_empty() {
                let differences = self.compare_chunk(&names, &mut source, &mut target, &mut found);
                found.differences.extend(differences);
            }
        }
        found
    }

    fn compare_chunk(
        &self,
        names: &[Vec<u8>],
        source: &mut Side,
        target: &mut Side,
        found: &mut Comparison,
    ) -> Vec<Difference> {
        let (on_source, on_target) = both(|| source.read(names), || target.read(names));
        let mut differences = Vec::new();
        for (key, (ours, theirs)) in names.iter().zip(on_source.into_iter().zip(on_target)) {
            if let (Some((_, early)), Some((late, _))) = in_order(ours.expiry, theirs.expiry) {
                found.ttl_drift_max_ms = found.ttl_drift_max_ms.max(late - early);
            }
            if let Some((verdict, detail)) = self.judge(&ours, &theirs) {
                differences.push(Difference {
                    key: key.clone(),
                    verdict,
                    detail,
                });
            }
        }
        differences
    }

    fn judge(&self, ours: &Reading, theirs: &Reading) -> Option<(Verdict, String)> {
        let types = format!("{} on the source, {} on the target", ours.kind, theirs.kind);
        match (ours.kind.as_str(), theirs.kind.as_str()) {
            ("none", "none") => return None,
            ("none", _) => return Some((Verdict::Extra, types)),
            (_, "none") => return Some((Verdict::Missing, types)),
            (a, b) if a != b => return Some((Verdict::Type, types)),
            _ => {}
        }
        if ours.value == Value::Nil || theirs.value == Value::Nil {
            return Some((Verdict::NotCompared, types));
        }
        if ours.value != theirs.value {
            return Some((
                Verdict::Value,
                first_difference(&ours.kind, &ours.value, &theirs.value),
            ));
        }
        let off = match in_order(ours.expiry, theirs.expiry) {
            (None, None) => false,
            (Some((_, early)), Some((late, _))) => late - early > self.ttl_tolerance_ms,
            _ => true,
        };
        let expiries = || {
            format!(
                "{:?} on the source, {:?} on the target",
                ours.expiry, theirs.expiry
            )
        };
        off.then(|| (Verdict::Expiry, expiries()))
    }
}

/// Runs both at the same time.
fn both<A: Send, B>(on_source: impl FnOnce() -> A + Send, on_target: impl FnOnce() -> B) -> (A, B) {
    std::thread::scope(|scope| {
        let source = scope.spawn(on_source);
        let of_target = on_target();
        (source.join().expect("reading the source"), of_target)
    })
}

/// When a key expires: the earliest and the latest Unix millisecond that is possible by what the server answered.
pub type Expiry = Option<(i64, i64)>;

fn in_order(a: Expiry, b: Expiry) -> (Expiry, Expiry) {
    if a <= b { (a, b) } else { (b, a) }
}

/// What one side says of a key.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// What TYPE says.
    pub kind: String,
    /// When it expires.
    pub expiry: Expiry,
    /// In a form in which equal values are equal; nil for a type that can't be read.
    pub value: Value,
}

/// Reads one side: each key at the server where SCAN has found it.
struct Side {
    readers: Vec<Reader>,
    homes: HashMap<Vec<u8>, usize>,
}

impl Side {
    fn new((servers, db): &(Vec<&Server>, u32), oracle: &Oracle<'_>) -> Self {
        let readers = servers
            .iter()
            .map(|server| Reader::new((server, *db), oracle));
        Self {
            readers: readers.collect(),
            homes: HashMap::new(),
        }
    }

    /// # Panics
    ///
    /// If two nodes of a cluster have the same key.
    fn names(&mut self) -> BTreeSet<Vec<u8>> {
        let mut names = BTreeSet::new();
        for (home, reader) in self.readers.iter_mut().enumerate() {
            let of_this = reader.names();
            for name in &of_this {
                let other = self.homes.insert(name.clone(), home);
                assert!(
                    other.is_none(),
                    "\"{}\" is at two nodes",
                    name.escape_ascii()
                );
            }
            names.extend(of_this);
        }
        names
    }

    fn read(&mut self, names: &[Vec<u8>]) -> Vec<Reading> {
        let mut readings: Vec<Option<Reading>> = names.iter().map(|_| None).collect();
        for (home, reader) in self.readers.iter_mut().enumerate() {
            let here = |name: &Vec<u8>| self.homes.get(name) == Some(&home);
            let (indices, names): (Vec<usize>, Vec<Vec<u8>>) = names
                .iter()
                .cloned()
                .enumerate()
                .filter(|(_, name)| here(name))
                .unzip();
            for (index, reading) in indices.into_iter().zip(reader.read(&names)) {
                readings[index] = Some(reading);
            }
        }
        let nothing = || Reading {
            kind: "none".to_owned(),
            expiry: None,
            value: Value::Nil,
        };
        readings
            .into_iter()
            .map(|reading| reading.unwrap_or_else(nothing))
            .collect()
    }
}

/// Reads one server.
pub struct Reader {
    connection: Connection,
    knows_pexpiretime: bool,
    /// Both sides keep counts of stream entries; an older one has nothing to compare them with.
    stream_counts: bool,
    field_ttl: bool,
}

impl Reader {
    fn new((server, db): (&Server, u32), oracle: &Oracle<'_>) -> Self {
        let kinds = [oracle.source.0[0].kind(), oracle.target.0[0].kind()];
        Self {
            connection: server.connection_to(db),
            knows_pexpiretime: server.kind().knows_pexpiretime,
            stream_counts: kinds.iter().all(|kind| kind.knows_pexpiretime),
            field_ttl: server.kind().knows_field_ttl && oracle.field_expiries,
        }
    }

    /// One server alone, with everything that it knows about its keys.
    pub fn alone(server: &Server, db: u32) -> Self {
        Self::new((server, db), &Oracle::between(server, server))
    }

    /// Every name there is.
    pub fn names(&mut self) -> BTreeSet<Vec<u8>> {
        let mut names = BTreeSet::new();
        let mut cursor = 0_u64;
        loop {
            let (next, batch): (u64, Vec<Vec<u8>>) = redis::cmd("SCAN")
                .arg(cursor)
                .arg("COUNT")
                .arg(2_000)
                .query(&mut self.connection)
                .expect("SCAN");
            names.extend(batch);
            if next == 0 {
                return names;
            }
            cursor = next;
        }
    }

    /// What there is under these names.
    pub fn read(&mut self, names: &[Vec<u8>]) -> Vec<Reading> {
        let kinds_and_expiries = self.kinds_and_expiries(names);
        let kinds: Vec<&str> = kinds_and_expiries
            .iter()
            .map(|(kind, _)| kind.as_str())
            .collect();
        let values = self.values(names, &kinds);
        kinds_and_expiries
            .into_iter()
            .zip(values)
            .map(|((kind, expiry), value)| Reading {
                kind,
                expiry,
                value,
            })
            .collect()
    }

    fn kinds_and_expiries(&mut self, names: &[Vec<u8>]) -> Vec<(String, Expiry)> {
        let expiry_command = if self.knows_pexpiretime {
            "PEXPIRETIME"
        } else {
            "PTTL"
        };
        let mut pipe = redis::pipe();
        pipe.cmd("TIME");
        for name in names {
            pipe.cmd("TYPE").arg(name).cmd(expiry_command).arg(name);
        }
        pipe.cmd("TIME");
        let mut replies: Vec<Value> = pipe.query(&mut self.connection).expect("TYPE and expiry");
        let ended_ms = milliseconds(replies.pop().expect("TIME"));
        let mut replies = replies.into_iter();
        let began_ms = milliseconds(replies.next().expect("TIME"));
        // A relative answer was given at some moment between the two.
        let (early, late) = if self.knows_pexpiretime {
            (0, 0)
        } else {
            (began_ms, ended_ms)
        };
        names
            .iter()
            .map(|_| {
                let kind: String = from(replies.next().expect("TYPE"));
                let expiry: i64 = from(replies.next().expect("expiry"));
                (
                    kind,
                    (expiry >= 0).then_some((early + expiry, late + expiry)),
                )
            })
            .collect()
    }

    fn values(&mut self, names: &[Vec<u8>], kinds: &[&str]) -> Vec<Value> {
        let mut values = vec![Value::Nil; names.len()];
        let mut pipe = redis::pipe();
        pipe.ignore_errors();
        let mut asked = Vec::new();
        for (index, (name, kind)) in names.iter().zip(kinds).enumerate() {
            match *kind {
                "none" => continue,
                "stream" => pipe
                    .cmd("XINFO")
                    .arg("STREAM")
                    .arg(name)
                    .arg("FULL")
                    .arg("COUNT")
                    .arg(0),
                "string" => pipe.cmd("GET").arg(name),
                "list" => pipe.cmd("LRANGE").arg(name).arg(0).arg(-1),
                "set" => pipe.cmd("SMEMBERS").arg(name),
                "hash" => pipe.cmd("HGETALL").arg(name),
                "zset" => pipe
                    .cmd("ZRANGE")
                    .arg(name)
                    .arg(0)
                    .arg(-1)
                    .arg("WITHSCORES"),
                _ => continue,
            };
            asked.push(index);
        }
        let replies = self.ask(&pipe);
        for (&index, reply) in asked.iter().zip(replies) {
            values[index] = match (kinds[index], reply) {
                // Expired since TYPE was asked: the second look will see it.
                (_, Value::ServerError(_) | Value::Nil) => Value::Nil,
                ("string", reply) => without_cached_cardinality(reply),
                ("set", reply) => sorted(elements(reply)),
                ("hash", reply) => sorted(pairs(reply)),
                ("zset", reply) => Value::Array(pairs(reply).into_iter().map(with_score).collect()),
                ("stream", reply) => self.stream(reply),
                (_, reply) => reply,
            };
        }
        if self.field_ttl {
            self.add_field_expiries(names, kinds, &mut values);
        }
        values
    }

    fn ask(&mut self, pipe: &redis::Pipeline) -> Vec<Value> {
        // The crate refuses to send nothing.
        if pipe.is_empty() {
            return Vec::new();
        }
        pipe.query(&mut self.connection).expect("reads")
    }

    /// Turns `[field, value]` into `[field, value, expiry]` where the field has an expiry of its own.
    fn add_field_expiries(&mut self, names: &[Vec<u8>], kinds: &[&str], values: &mut [Value]) {
        let mut pipe = redis::pipe();
        pipe.ignore_errors();
        let mut asked = Vec::new();
        for (index, value) in values.iter().enumerate() {
            let Value::Array(pairs) = value else { continue };
            if kinds[index] != "hash" {
                continue;
            }
            pipe.cmd("HPEXPIRETIME")
                .arg(&names[index])
                .arg("FIELDS")
                .arg(pairs.len());
            for pair in pairs {
                let Value::Array(pair) = pair else {
                    unreachable!("made by pairs()")
                };
                pipe.arg(bytes(&pair[0]));
            }
            asked.push(index);
        }
        let replies = self.ask(&pipe);
        for (&index, reply) in asked.iter().zip(replies) {
            let Value::Array(pairs) = &mut values[index] else {
                unreachable!("chosen above")
            };
            for (pair, expiry) in pairs.iter_mut().zip(elements(reply)) {
                let Value::Array(pair) = pair else {
                    unreachable!("made by pairs()")
                };
                if from::<i64>(expiry.clone()) >= 0 {
                    pair.push(expiry);
                }
            }
        }
    }

    /// Of XINFO STREAM FULL, what a copy has to keep. Left out: the layout of nodes, when consumers were last seen, and
    /// what follows from the rest.
    fn stream(&self, reply: Value) -> Value {
        let counts: &[&str] = if self.stream_counts {
            &["max-deleted-entry-id", "entries-added"]
        } else {
            &[]
        };
        let stream = Fields::of(reply);
        let mut kept = stream.take(&["length", "last-generated-id", "entries"]);
        kept.extend(stream.take(counts));
        let groups = elements(stream.get("groups"))
            .into_iter()
            .map(|group| self.group(group));
        kept.push(sorted(groups.collect()));
        Value::Array(kept)
    }

    fn group(&self, group: Value) -> Value {
        let group = Fields::of(group);
        // Pending entries are listed as id, consumer, delivery time, delivery count: all of it is kept.
        let mut kept = group.take(&["name", "last-delivered-id", "pending"]);
        if self.stream_counts {
            kept.extend(group.take(&["entries-read"]));
        }
        let consumers = elements(group.get("consumers"))
            .into_iter()
            .map(|consumer| Value::Array(Fields::of(consumer).take(&["name", "pending"])));
        kept.push(sorted(consumers.collect()));
        Value::Array(kept)
    }
}

/// A reply that is a flat list of names and values.
struct Fields(Vec<Value>);

impl Fields {
    fn of(reply: Value) -> Self {
        Self(pairs(reply))
    }

    fn get(&self, name: &str) -> Value {
        self.0
            .iter()
            .find_map(|pair| match pair {
                Value::Array(pair) if bytes(&pair[0]) == name.as_bytes() => Some(pair[1].clone()),
                _ => None,
            })
            .unwrap_or_else(|| panic!("the reply has no {name}: {:?}", self.0))
    }

    fn take(&self, names: &[&str]) -> Vec<Value> {
        names.iter().map(|name| self.get(name)).collect()
    }
}

fn from<T: redis::FromRedisValue>(value: Value) -> T {
    redis::from_redis_value(value).expect("a reply of the documented form")
}

fn milliseconds(time: Value) -> i64 {
    let (seconds, microseconds): (i64, i64) = from(time);
    seconds * 1_000 + microseconds / 1_000
}

fn bytes(value: &Value) -> &[u8] {
    match value {
        Value::BulkString(bytes) => bytes,
        Value::SimpleString(text) => text.as_bytes(),
        other => panic!("not a string: {other:?}"),
    }
}

fn elements(reply: Value) -> Vec<Value> {
    match reply {
        Value::Array(elements) => elements,
        other => panic!("not a list: {other:?}"),
    }
}

/// `a b c d` as `[a b] [c d]`.
fn pairs(reply: Value) -> Vec<Value> {
    let mut elements = elements(reply).into_iter();
    let mut pairs = Vec::with_capacity(elements.len() / 2);
    while let (Some(first), Some(second)) = (elements.next(), elements.next()) {
        pairs.push(Value::Array(vec![first, second]));
    }
    pairs
}

/// Sorted by the first string in each element, which no two share.
fn sorted(mut values: Vec<Value>) -> Value {
    fn name(value: &Value) -> &[u8] {
        match value {
            Value::Array(parts) => name(&parts[0]),
            value => bytes(value),
        }
    }
    values.sort_by(|a, b| name(a).cmp(name(b)));
    Value::Array(values)
}

/// `[member, "1.5"]` as `[member, 1.5]`: versions write one number in different ways, and -0 is 0.
fn with_score(pair: Value) -> Value {
    let mut pair = elements(pair);
    let score: f64 = from(pair.pop().expect("a score"));
    pair.push(Value::Double(score));
    Value::Array(pair)
}

/// Bytes 8 to 15 of a HyperLogLog cache its cardinality: PFCOUNT rewrites them, and they follow from the rest.
fn without_cached_cardinality(string: Value) -> Value {
    match string {
        Value::BulkString(mut bytes) if bytes.starts_with(b"HYLL") && bytes.len() >= 16 => {
            bytes[8..16].fill(0);
            Value::BulkString(bytes)
        }
        other => other,
    }
}

/// Where two values begin to differ, in few words.
fn first_difference(kind: &str, ours: &Value, theirs: &Value) -> String {
    if let (Value::Array(a), Value::Array(b)) = (ours, theirs) {
        if a.len() != b.len() {
            return format!(
                "{kind} with {} elements on the source, {} on the target",
                a.len(),
                b.len()
            );
        }
        if let Some(index) = a.iter().zip(b).position(|(a, b)| a != b) {
            return format!(
                "{kind}[{index}] {}",
                first_difference("", &a[index], &b[index])
            );
        }
    }
    format!(
        "{kind} {} on the source, {} on the target",
        shortened(ours),
        shortened(theirs)
    )
}

fn shortened(value: &Value) -> String {
    let mut text = match value {
        Value::BulkString(bytes) => format!("\"{}\"", bytes.escape_ascii()),
        other => format!("{other:?}"),
    };
    if text.len() > 120 {
        text = text.chars().take(120).collect::<String>() + "…";
    }
    text
}
