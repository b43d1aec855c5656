//! Payloads, recorded and made by hand, and what is told of them.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::rdb::footer;
use crate::rdb::visit::*;

mod streams;

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
fn a_long_string_is_no_reason_to_keep_its_memory() {
    let run_of = |bytes: u64| {
        // Each three bytes of it stand for 264.
        let copies = bytes / 264;
        let compressed = [b"\x00a".to_vec(), b"\xe0\xff\x00".repeat(copies as usize)].concat();
        let lengths = [compressed.len() as u64, 1 + 264 * copies].map(u64::to_be_bytes);
        let body = [
            b"\x00\xc3\x81",
            &lengths[0][..],
            b"\x81",
            &lengths[1],
            &compressed,
        ]
        .concat();
        payload(&body, 10)
    };
    let mut decoder = Decoder::new();
    for (bytes, keeps) in [(50_000, true), (1 << 20, false)] {
        let mut told = Told::default();
        decoder.walk(&run_of(bytes), &mut told).expect("a string");
        assert_eq!(told.0[1].len() as u64, 1 + bytes / 264 * 264);
        assert_eq!(decoder.scratch.first.bytes_kept() > 0, keeps);
    }
}

/// A string as it is written, up to 63 bytes.
fn string(bytes: &[u8]) -> Vec<u8> {
    assert!(bytes.len() < 64);
    [&[bytes.len() as u8], bytes].concat()
}

/// A blob of any length.
fn blob(bytes: &[u8]) -> Vec<u8> {
    let mut blob = b"\x80".to_vec();
    blob.extend((bytes.len() as u32).to_be_bytes());
    blob.extend(bytes);
    blob
}

/// A listpack of elements that are encoded already, without their backlens.
fn listpack(elements: &[&[u8]], count: u16) -> Vec<u8> {
    let mut body = Vec::new();
    for element in elements {
        body.extend(*element);
        let len = element.len();
        match len {
            0..=127 => body.push(len as u8),
            128..16_383 => body.extend([(len >> 7) as u8, (len & 127) as u8 | 128]),
            _ => panic!("not needed here"),
        }
    }
    let mut listpack = (body.len() as u32 + 7).to_le_bytes().to_vec();
    listpack.extend(count.to_le_bytes());
    listpack.extend(body);
    listpack.push(0xff);
    listpack
}

/// A ziplist of elements that are encoded already, without the lengths before them.
fn ziplist(elements: &[&[u8]], count: u16) -> Vec<u8> {
    let mut body = Vec::new();
    let mut previous = 0;
    for element in elements {
        let start = body.len();
        match previous {
            0..254 => body.push(previous as u8),
            _ => {
                body.push(254);
                body.extend((previous as u32).to_le_bytes());
            }
        }
        body.extend(*element);
        previous = body.len() - start;
    }
    let mut ziplist = (body.len() as u32 + 11).to_le_bytes().to_vec();
    // Where the last element begins; nobody reads from behind.
    ziplist.extend(10u32.to_le_bytes());
    ziplist.extend(count.to_le_bytes());
    ziplist.extend(body);
    ziplist.push(0xff);
    ziplist
}

fn typed(type_byte: u8, parts: &[&[u8]]) -> Vec<u8> {
    [&[type_byte], &parts.concat()[..]].concat()
}

#[test]
fn lists_and_sets_of_old_servers() {
    check(b"\x01\x02\x01a\xc0\x05", 6, &["List", "a", "5"]);
    check(b"\x02\x02\x01a\xc0\x05", 6, &["Set", "a", "5"]);
    refuse(b"\x01\x00", 6, Flaw::Empty);
    refuse(b"\x02\x00", 6, Flaw::Empty);
    let elements: [&[u8]; 4] = [b"\x01a", b"\xf1", b"\xfd", b"\xfe\xff"];
    let list = typed(10, &[&blob(&ziplist(&elements, 4))]);
    check(&list, 6, &["List", "a", "0", "12", "-1"]);
    refuse(&typed(10, &[&blob(&ziplist(&[], 0))]), 6, Flaw::Empty);
}

#[test]
fn scores_in_decimal_digits() {
    check(
        b"\x03\x04\x01a\x031.5\x01b\xfe\x01c\xff\x01d\x14-0.30000000000000004",
        6,
        &["Zset", "a 1.5", "b inf", "c -inf", "d -0.30000000000000004"],
    );
    refuse(b"\x03\x01\x01a\xfd", 6, Flaw::Score);
    refuse(b"\x03\x01\x01a\x03nan", 6, Flaw::Score);
    refuse(b"\x03\x01\x01a\x00", 6, Flaw::Score);
    refuse(b"\x03\x01\x01a\x021x", 6, Flaw::Score);
    let nan = f64::NAN.to_le_bytes();
    refuse(&typed(5, &[b"\x01\x01a", &nan]), 9, Flaw::Score);
    let nan = listpack(&[b"\x81m", b"\x83nan"], 2);
    refuse(&typed(17, &[&blob(&nan)]), 10, Flaw::Score);
}

#[test]
fn hashes_of_the_oldest_servers() {
    let body = |zipmap: &[u8]| typed(9, &[&string(zipmap)]);
    let two = b"\x02\x01f\x01\x00v\x03foo\xfe\x02\x00\x00\x00\x03ba...\xff";
    check(&body(two), 6, &["Hash", "f=v", "foo=ba"]);
    let uncounted = b"\xfe\x01f\x00\x00\xff";
    check(&body(uncounted), 6, &["Hash", "f="]);
    refuse(&body(b"\x00\xff"), 6, Flaw::Empty);
    refuse(&body(b"\x02\x01f\x00\x00\xff"), 6, Flaw::Zipmap);
    refuse(&body(b"\x00\x01f\x00\x00\xff"), 6, Flaw::Zipmap);
    refuse(&body(b"\x01\x01f\x00\x00"), 6, Flaw::Zipmap);
    refuse(&body(b"\x01\x01f\x02\x00v\xff"), 6, Flaw::Zipmap);
    refuse(&body(b""), 6, Flaw::Zipmap);
}

#[test]
fn more_elements_than_the_header_can_count() {
    let one: &[u8] = b"\x01";
    let many = vec![one; 70_000];
    let mut expected = vec!["Set".to_owned()];
    expected.extend(vec!["1".to_owned(); 70_000]);
    let tell = |body: &[u8]| {
        let mut told = Told::default();
        walk(&payload(body, 11), &mut told).map(|_| told.0)
    };
    let body = typed(20, &[&blob(&listpack(&many, u16::MAX))]);
    assert!(tell(&body).as_ref() == Ok(&expected));
    expected[0] = "List".to_owned();
    let one: &[u8] = b"\xf2";
    let many = vec![one; 70_000];
    let body = typed(10, &[&blob(&ziplist(&many, u16::MAX))]);
    assert!(tell(&body).as_ref() == Ok(&expected));
}

#[test]
fn a_packed_encoding_that_does_not_hold_what_it_says() {
    let good = listpack(&[b"\x81a", b"\x01"], 2);
    check(&typed(20, &[&blob(&good)]), 11, &["Set", "a", "1"]);
    let refuse_set = |blob_bytes: &[u8]| {
        refuse(&typed(20, &[&blob(blob_bytes)]), 11, Flaw::Listpack);
    };
    for count in [0, 1, 3, u16::MAX - 1] {
        refuse_set(&listpack(&[b"\x81a", b"\x01"], count));
    }
    for at in [0, 6, 8, 10, 11] {
        let mut bad = good.clone();
        bad[at] ^= 0x7f;
        refuse_set(&bad);
    }
    refuse_set(&[&good[..], b"\xff"].concat());
    refuse(&typed(20, &[&blob(&listpack(&[], 0))]), 11, Flaw::Empty);

    let odd = blob(&listpack(&[b"\x81f", b"\x01", b"\x02"], 3));
    refuse(&typed(16, &[&odd]), 10, Flaw::Incomplete);
    refuse(&typed(17, &[&odd]), 10, Flaw::Incomplete);
    let odd = blob(&ziplist(&[b"\x01f"], 1));
    refuse(&typed(13, &[&odd]), 9, Flaw::Incomplete);

    let good = ziplist(&[b"\x01a", b"\x01b"], 2);
    for (at, flaw) in [(0, Flaw::Ziplist), (8, Flaw::Ziplist), (13, Flaw::Ziplist)] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        refuse(&typed(10, &[&blob(&bad)]), 9, flaw);
    }
}

#[test]
fn lengths_of_listpack_elements_are_checked_at_each_size() {
    for len in [63usize, 126, 127, 128, 4_000] {
        let encoded = match len {
            ..64 => [&[0x80 | len as u8], &vec![b'x'; len][..]].concat(),
            _ => [&[0xe0 | (len >> 8) as u8, len as u8], &vec![b'x'; len][..]].concat(),
        };
        let mut set = listpack(&[&encoded], 1);
        check(&typed(20, &[&blob(&set)]), 11, &["Set", &"x".repeat(len)]);
        let backlen = set.len() - 2;
        set[backlen] ^= 1;
        refuse(&typed(20, &[&blob(&set)]), 11, Flaw::Listpack);
    }
}

#[test]
fn intsets() {
    check(
        &typed(11, &[&string(b"\x02\0\0\0\x02\0\0\0\xfe\xff\x07\0")]),
        9,
        &["Set", "-2", "7"],
    );
    let refuse = |intset: &[u8], flaw| refuse(&typed(11, &[&string(intset)]), 9, flaw);
    refuse(b"\x02\0\0\0\0\0\0\0", Flaw::Empty);
    refuse(b"\x03\0\0\0\x01\0\0\0\x01\0\0", Flaw::Intset);
    refuse(b"\x02\0\0\0\x02\0\0\0\x01\0", Flaw::Intset);
    refuse(b"\x02\0\0\0\xff\xff\xff\xff\x01\0", Flaw::Intset);
    refuse(b"\x02\0\0\0\x01\0\0", Flaw::Intset);
}

#[test]
fn a_lists_nodes_may_be_empty_but_not_all_of_them() {
    let node = |elements: &[&[u8]]| {
        let listpack = listpack(elements, elements.len() as u16);
        [b"\x02", &blob(&listpack)[..]].concat()
    };
    let list = typed(
        18,
        &[b"\x03", &node(&[b"\x81a"]), &node(&[]), b"\x01\x05plain"],
    );
    check(&list, 10, &["List", "a", "plain"]);
    refuse(&typed(18, &[b"\x01", &node(&[])]), 10, Flaw::Empty);
    refuse(b"\x12\x01\x03\x01a", 10, Flaw::ListNode);
}

#[test]
fn fields_that_expire_in_each_dialect() {
    let expected = ["Hash", "a=1 until 1000", "b=2", "c=3 until 1002"];
    let instant = 1_000i64.to_le_bytes();
    // Absolute lengths, as release candidates of 7.4 wrote them.
    check(
        b"\x16\x03\x43\xe8\x01a\x011\x00\x01b\x012\x43\xea\x01c\x013",
        12,
        &expected,
    );
    // The same type, a Valkey.
    let valkey = typed(
        22,
        &[
            b"\x03\x01a\x011",
            &instant,
            b"\x01b\x012",
            &(-1i64).to_le_bytes(),
            b"\x01c\x013",
            &1_002i64.to_le_bytes(),
        ],
    );
    check(&valkey, 80, &expected);
    let past = typed(22, &[b"\x01\x01a\x011", &0i64.to_le_bytes()]);
    check(&past, 80, &["Hash", "a=1 until 0"]);
    let table = typed(
        24,
        &[&instant, b"\x03\x01\x01a\x011\x00\x01b\x012\x03\x01c\x013"],
    );
    check(&table, 12, &expected);

    let elements: [&[u8]; 9] = [
        b"\x81a",
        b"\x01",
        b"\xf1\xe8\x03",
        b"\x81b",
        b"\x02",
        b"\x00",
        b"\x81c",
        b"\x03",
        b"\xf1\xea\x03",
    ];
    let listpack_bytes = blob(&listpack(&elements, 9));
    check(&typed(23, &[&listpack_bytes]), 12, &expected);
    check(&typed(25, &[&instant, &listpack_bytes]), 12, &expected);

    let negative = blob(&listpack(&[b"\x81a", b"\x01", b"\xdf\xff"], 3));
    refuse(&typed(23, &[&negative]), 12, Flaw::Expiry);
    let text = blob(&listpack(&[b"\x81a", b"\x01", b"\x81x"], 3));
    refuse(&typed(23, &[&text]), 12, Flaw::Expiry);
    let far = typed(24, &[&i64::MAX.to_le_bytes(), b"\x01\x02\x01a\x011"]);
    refuse(&far, 12, Flaw::Expiry);
}

/// Made by hand after librdb's layout: no server was at hand to record.
#[test]
fn arrays() {
    let body = typed(
        28,
        &[
            b"\x04\x01\x09\x00\x00\x01a\x02\x01",
            &(-5i64).to_le_bytes(),
            b"\x03\x02",
            &1.5f64.to_le_bytes(),
            b"\x80\x00\x01\x00\x00\x03\x01b",
        ],
    );
    check(
        &body,
        14,
        &[
            "Array",
            "insert at Some(9)",
            "0 Text([97])",
            "2 Integer(-5)",
            "3 Double(1.5)",
            "65536 Text([98])",
        ],
    );
    check(
        b"\x1c\x01\x00\x07\x00\x01a",
        14,
        &["Array", "insert at None", "7 Text([97])"],
    );
    refuse(b"\x1c\x00\x00", 14, Flaw::Empty);
    refuse(b"\x1c\x01\x02", 14, Flaw::Array);
    refuse(b"\x1c\x01\x00\x07\x04", 14, Flaw::Array);
    refuse(b"\x1c\x02\x00\x07\x00\x01a\x07\x00\x01b", 14, Flaw::Array);
}

/// A module's value: the id made of `name` and `version`, and tokens.
fn module_value(name: &str, version: u64, tokens: &[u8]) -> Vec<u8> {
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let id = name.chars().fold(0u64, |id, character| {
        id << 6 | ALPHABET.find(character).expect("a character of names") as u64
    });
    typed(7, &[b"\x81", &(id << 10 | version).to_be_bytes(), tokens])
}

#[test]
fn values_of_modules() {
    let tokens = b"\x01\x05\x02\x40\x64\x03\x00\x00\x80\x3f\x04\x00\x00\x00\x00\x00\x00\xf0\x3f\x05\x03abc\x00";
    let told = text(&tokens[..tokens.len() - 1]);
    check(
        &module_value("ReJSON-RL", 3, tokens),
        10,
        &["Module", &format!("ReJSON-RL 3 {told}")],
    );
    check(
        &module_value("MBbloom--", 1023, b"\x00"),
        10,
        &["Module", "MBbloom-- 1023 "],
    );
    refuse(&module_value("MBbloom--", 2, b"\x06\x00"), 10, Flaw::Module);
    // A version of vector sets that nobody knows yet.
    check(
        &module_value("vectorset", 1, b"\x00"),
        12,
        &["Module", "vectorset 1 "],
    );
}

#[test]
fn vector_sets_are_read_to_their_end() {
    let one = b"\x02\x03\x02\x01\x02\x41\x01\x02\x00\x05\x01a\x05\x03xyz\x02\x01\x02\x00\x00";
    check(
        &module_value("vectorset", 0, one),
        12,
        &[
            "VectorSet",
            "VectorSetState { dimensions: 3, quantization: 1, projection: [] }",
            "VectorElement { name: [97], attributes: [], components: [120, 121, 122], norm: 0.0, range: 0.0 }",
        ],
    );
    let refuse = |at: usize, byte: u8, flaw| {
        let mut tokens = one.to_vec();
        tokens[at] = byte;
        refuse(&module_value("vectorset", 0, &tokens), 12, flaw);
    };
    refuse(1, 4, Flaw::VectorSet);
    refuse(3, 0, Flaw::Empty);
    refuse(6, 3, Flaw::VectorSet);
    refuse(8, 4, Flaw::VectorSet);
    refuse(9, 2, Flaw::Module);
    refuse(18, 0, Flaw::VectorSet);
    refuse(21, 5, Flaw::Module);
}

#[test]
fn what_stands_before_and_behind_a_value_is_said() {
    let walk = |body: &[u8]| walk(&payload(body, 13), &mut Told::default());
    let walked = Walked {
        type_byte: 0,
        version: 13,
        has_key_metadata: false,
        trailing_bytes: 0,
    };
    assert_eq!(walk(b"\x00\x01a"), Ok(walked));
    // As KeyDB ends its payloads.
    assert_eq!(
        walk(b"\x00\x01a\xfa\x0bmvcc-tstamp\x12117374637265158144"),
        Ok(Walked {
            trailing_bytes: 32,
            ..walked
        })
    );
    // Two classes of metadata, one of which has nothing to say.
    assert_eq!(
        walk(b"\xf3\x02ABCD\x02\x05\x05\x01x\x00EFGH\x00\x00\x01a"),
        Ok(Walked {
            has_key_metadata: true,
            ..walked
        })
    );
    assert_eq!(walk(b"\xf3\x01ABCD\x09"), Err(Flaw::Module.into()));
    assert_eq!(walk(b"\xf3\x01ABCD\x00"), Err(Flaw::Truncated.into()));
}

#[test]
fn types_that_nobody_knows_are_said() {
    for type_byte in [6, 8, 29, 30, 31, 32, 33, 64, 200, 255] {
        let unknown = DecodeError::UnknownType {
            type_byte,
            version: 16,
        };
        let walked = walk(&payload(&[type_byte, 0], 16), &mut Told::default());
        assert_eq!(walked, Err(unknown));
    }
    for len in 0..=10 {
        let walked = walk(&vec![0; len], &mut Told::default());
        assert_eq!(walked, Err(DecodeError::TooShort { len }));
    }
}

#[test]
fn an_error_says_what_is_wrong() {
    let said = |error: DecodeError| error.to_string();
    assert_eq!(
        said(Flaw::Truncated.into()),
        "damaged value: it ends in the middle"
    );
    assert_eq!(
        said(DecodeError::UnknownType {
            type_byte: 29,
            version: 16
        }),
        "values of type 29 are unknown here (payload version 16)"
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
