//! Payloads, recorded and made by hand, and what is told of them.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::rdb::footer;
use crate::rdb::visit::*;

/// Writes down what it is told, a line a call.
#[derive(Default)]
struct Told(Vec<String>);

impl Told {
    fn say(&mut self, line: String) {
        self.0.push(line);
    }
}

fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

fn id(id: StreamId) -> String {
    format!("{}-{}", id.ms, id.seq)
}

fn ids(all: &[StreamId]) -> String {
    all.iter().copied().map(id).collect::<Vec<_>>().join(" ")
}

impl Visitor for Told {
    fn begin(&mut self, kind: Kind) {
        assert!(self.0.is_empty(), "a value begins once");
        self.say(format!("{kind:?}"));
    }
    fn string(&mut self, bytes: &[u8]) {
        self.say(text(bytes));
    }
    fn element(&mut self, bytes: &[u8]) {
        self.say(text(bytes));
    }
    fn member(&mut self, bytes: &[u8]) {
        self.say(text(bytes));
    }
    fn scored(&mut self, member: &[u8], score: f64) {
        self.say(format!("{} {score:?}", text(member)));
    }
    fn field(&mut self, field: &[u8], value: &[u8], expires_ms: Option<i64>) {
        let expiry = expires_ms.map_or(String::new(), |ms| format!(" until {ms}"));
        self.say(format!("{}={}{expiry}", text(field), text(value)));
    }
    fn entry(&mut self, at: StreamId, fields: &[&[u8]]) {
        let fields: Vec<String> = fields.iter().map(|field| text(field)).collect();
        self.say(format!("{} {}", id(at), fields.join(" ")));
    }
    fn stream(&mut self, stream: &StreamState) {
        let since_7_0 = stream.since_7_0.map_or(String::new(), |counters| {
            format!(
                " first {} deleted {} added {}",
                id(counters.first_id),
                id(counters.max_deleted_id),
                counters.entries_added
            )
        });
        self.say(format!(
            "length {} last {}{since_7_0}",
            stream.len,
            id(stream.last_id)
        ));
    }
    fn group(&mut self, group: &Group) {
        self.say(format!(
            "group {} last {} read {:?} unowned [{}]",
            text(&group.name),
            id(group.last_id),
            group.entries_read,
            ids(&group.unowned)
        ));
        for pending in &group.pending {
            self.say(format!(
                "pending {} at {} times {}",
                id(pending.id),
                pending.delivered_ms,
                pending.deliveries
            ));
        }
        for consumer in &group.consumers {
            self.say(format!(
                "consumer {} seen {} active {:?} has [{}]",
                text(&consumer.name),
                consumer.seen_ms,
                consumer.active_ms,
                ids(&consumer.pending)
            ));
        }
    }
    fn idempotence(&mut self, idempotence: &Idempotence) {
        self.say(format!("{idempotence:?}"));
    }
    fn array(&mut self, insert_index: Option<u64>) {
        self.say(format!("insert at {insert_index:?}"));
    }
    fn slot(&mut self, index: u64, value: SlotValue<'_>) {
        self.say(format!("{index} {value:?}"));
    }
    fn vector_set(&mut self, vector_set: &VectorSetState<'_>) {
        self.say(format!("{vector_set:?}"));
    }
    fn vector(&mut self, vector: &VectorElement<'_>) {
        self.say(format!("{vector:?}"));
    }
    fn module(&mut self, name: &str, version: u16, tokens: &[u8]) {
        self.say(format!("{name} {version} {}", text(tokens)));
    }
}

/// `body` with a footer.
fn payload(body: &[u8], version: u16) -> Vec<u8> {
    let mut payload = body.to_vec();
    payload.extend(version.to_le_bytes());
    payload.extend(footer::crc64(&payload).to_le_bytes());
    payload
}

/// Checks what is told of a body, and that none of its beginnings passes for a value.
fn check(body: &[u8], version: u16, expected: &[&str]) {
    let whole = payload(body, version);
    let mut told = Told::default();
    let walked = walk(&whole, &mut told).map(|walked| (walked.version, walked.trailing_bytes));
    assert_eq!(told.0, expected);
    assert_eq!(walked, Ok((version, 0)));
    for len in 0..body.len() {
        let cut = payload(&body[..len], version);
        assert!(walk(&cut, &mut Told::default()).is_err(), "{len} bytes");
    }
}

fn refuse(body: &[u8], version: u16, flaw: Flaw) {
    assert_eq!(
        walk(&payload(body, version), &mut Told::default()),
        Err(DecodeError::Damaged(flaw)),
        "{}",
        text(body)
    );
}

#[test]
fn strings() {
    check(b"\x00\x05hello", 10, &["String", "hello"]);
    check(b"\x00\x00", 10, &["String", ""]);
    check(b"\x00\xc0\xff", 10, &["String", "-1"]);
    check(b"\x00\xc190", 10, &["String", "12345"]);
    check(b"\x00\xc2\x00\x00\x00\x80", 10, &["String", "-2147483648"]);
    check(b"\x00\x80\x00\x00\x00\x01a", 10, &["String", "a"]);
    check(
        b"\x00\x81\x00\x00\x00\x00\x00\x00\x00\x01a",
        10,
        &["String", "a"],
    );
    let long = [b"\x00\x41\x00".as_slice(), &[b'x'; 256]].concat();
    check(&long, 10, &["String", &"x".repeat(256)]);
    check(
        b"\x00\xc3\x09\x40\x64\x01aa\xe0\x57\x00\x01aa",
        10,
        &["String", &"a".repeat(100)],
    );
    refuse(b"\x00\xc4", 10, Flaw::String);
    refuse(b"\x00\x82", 10, Flaw::Length);
    refuse(
        b"\x00\x81\xff\xff\xff\xff\xff\xff\xff\xff",
        10,
        Flaw::Truncated,
    );
}

#[test]
fn a_stream_with_a_group() {
    check(
        b"\x13\x01\x10\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01\x1d\x1d\x00\x00\x00\n\x00\
          \x01\x01\x00\x01\x01\x01\x81f\x02\x00\x01\x02\x01\x00\x01\x00\x01\x81v\x02\x04\x01\xff\x01\x01\x01\x01\
          \x01\x00\x00\x01\x01\x01g\x00\x00\x81\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00",
        10,
        &[
            "Stream",
            "1-1 f v",
            "length 1 last 1-1 first 1-1 deleted 0-0 added 1",
            "group g last 0-0 read Some(-1) unowned []",
        ],
    );
}

proptest! {
    #[test]
    fn random_bytes_never_panic(type_byte in 0u8..40, bytes in vec(any::<u8>(), 0..200), version in 6u16..90) {
        let _ = walk(&bytes, &mut Told::default());
        let typed = [&[type_byte], &bytes[..]].concat();
        let _ = walk(&payload(&typed, version), &mut Told::default());
    }
}
