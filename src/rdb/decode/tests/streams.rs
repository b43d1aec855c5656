//! Streams of every version, and what of them is refused.

use super::*;

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

/// A stream's node of the id 1-1 whose listpack has these elements, its end, and one group's beginning.
fn stream(type_byte: u8, elements: &[&[u8]], tail: &[u8]) -> Vec<u8> {
    let listpack = blob(&listpack(elements, elements.len() as u16));
    let id = [1u64.to_be_bytes(), 1u64.to_be_bytes()].concat();
    typed(type_byte, &[b"\x01", &string(&id), &listpack, tail])
}

/// One entry with its own field: `f=v`.
const ONE_ENTRY: [&[u8]; 10] = [
    b"\x01", b"\x00", b"\x01", b"\x81f", b"\x00", // the node
    b"\x02", b"\x00", b"\x00", b"\x81v", b"\x04", // an entry
];

#[test]
fn a_stream_before_7_0() {
    check(
        &stream(15, &ONE_ENTRY, b"\x01\x01\x01\x00"),
        9,
        &["Stream", "1-1 f v", "length 1 last 1-1"],
    );
}

#[test]
fn a_streams_node_has_the_entries_that_it_announces() {
    let mut elements = ONE_ENTRY.to_vec();
    let refuse = |elements: &[&[u8]], flaw| {
        refuse(&stream(15, elements, b"\x01\x01\x01\x00"), 9, flaw);
    };
    for (at, wrong) in [
        (0, b"\x02".as_slice()),
        (0, b"\x00"),
        (0, b"\xdf\xff"),
        (0, b"\x81x"),
        (1, b"\x01"),
        (2, b"\x02"),
        (4, b"\x01"),
        (5, b"\x00"),
        (5, b"\x81x"),
        (9, b"\x05"),
    ] {
        let right = std::mem::replace(&mut elements[at], wrong);
        refuse(&elements, Flaw::StreamNode);
        elements[at] = right;
    }
    // An entry twice.
    elements[0] = b"\x02";
    elements.extend_from_slice(&ONE_ENTRY[5..10]);
    refuse(&elements, Flaw::StreamOrder);
}

#[test]
fn what_a_consumer_has_pending_is_its_own() {
    let id = |ms: u64| [ms.to_be_bytes(), 0u64.to_be_bytes()].concat();
    let pending = |ms: u64| [&id(ms)[..], &5i64.to_le_bytes(), b"\x02"].concat();
    let consumer = |name: &[u8], ids: &[u64]| {
        let mut consumer = [&string(name)[..], &6i64.to_le_bytes(), &[ids.len() as u8]].concat();
        ids.iter().for_each(|&ms| consumer.extend(id(ms)));
        consumer
    };
    let group = |all: &[u64], consumers: &[Vec<u8>]| {
        let mut group = b"\x00\x09\x00\x01\x01g\x09\x00".to_vec();
        group.push(all.len() as u8);
        all.iter().for_each(|&ms| group.extend(pending(ms)));
        group.push(consumers.len() as u8);
        group.extend(consumers.concat());
        typed(15, &[b"\x00", &group])
    };
    check(
        &group(
            &[1, 2, 7],
            &[consumer(b"one", &[1, 7]), consumer(b"two", &[2])],
        ),
        9,
        &[
            "Stream",
            "length 0 last 9-0",
            "group g last 9-0 read None unowned []",
            "pending 1-0 at 5 times 2",
            "pending 2-0 at 5 times 2",
            "pending 7-0 at 5 times 2",
            "consumer one seen 6 active None has [1-0 7-0]",
            "consumer two seen 6 active None has [2-0]",
        ],
    );
    refuse(&group(&[1], &[consumer(b"one", &[2])]), 9, Flaw::Pending);
    refuse(
        &group(&[1], &[consumer(b"one", &[1]), consumer(b"two", &[1])]),
        9,
        Flaw::Pending,
    );
    refuse(&group(&[1], &[consumer(b"one", &[1, 1])]), 9, Flaw::Pending);
    refuse(&group(&[2, 1], &[]), 9, Flaw::StreamOrder);
    refuse(&group(&[1, 1], &[]), 9, Flaw::StreamOrder);
    refuse(
        &group(&[1, 2], &[consumer(b"one", &[2, 1])]),
        9,
        Flaw::StreamOrder,
    );
    // A count of what can't follow reserves nothing.
    let claims = b"\x0f\x00\x00\x00\x00\x01\x01g\x00\x00\x81\x00\xff\xff\xff\xff\xff\xff\xff";
    refuse(claims, 9, Flaw::Truncated);
}

/// Made by hand after the layout that the newest servers' sources have: none was at hand to record.
#[test]
fn streams_since_8_6() {
    let state = b"\x01\x01\x01\x01\x01\x00\x00\x01";
    let idempotence = b"\x64\x32\x01\x01p\x01\x02id\x01\x01\x05\x06";
    let group = [b"\x01\x01g\x01\x01\x01".as_slice(), b"\x02"].concat();
    let id = |ms: u64| [ms.to_be_bytes(), 0u64.to_be_bytes()].concat();
    let pending = |ms: u64| [&id(ms)[..], &5i64.to_le_bytes(), b"\x02"].concat();
    let consumer = [
        b"\x01\x01c".as_slice(),
        &6i64.to_le_bytes(),
        &(-1i64).to_le_bytes(),
        b"\x01",
        &id(2),
    ]
    .concat();
    let remembered = "Idempotence { duration_s: 100, ids_max: 50, producers: [Producer { name: [112], ids: [([105, 100], StreamId { ms: 1, seq: 1 })] }], ids_added: 5, ids_duplicates: 6 }";
    let head = "length 1 last 1-1 first 1-1 deleted 0-0 added 1";
    // A length of 100 takes two bytes.
    let idempotence = [b"\x40", &idempotence[..]].concat();
    check(
        &stream(
            26,
            &ONE_ENTRY,
            &[&state[..], b"\x00", &idempotence].concat(),
        ),
        13,
        &["Stream", "1-1 f v", head, remembered],
    );
    let group = [
        &group[..],
        &pending(1),
        &pending(2),
        &consumer,
        b"\x01",
        &id(1),
    ]
    .concat();
    check(
        &stream(27, &ONE_ENTRY, &[&state[..], &group, &idempotence].concat()),
        14,
        &[
            "Stream",
            "1-1 f v",
            head,
            "group g last 1-1 read Some(1) unowned [1-0]",
            "pending 1-0 at 5 times 2",
            "pending 2-0 at 5 times 2",
            "consumer c seen 6 active Some(-1) has [2-0]",
            remembered,
        ],
    );
}
