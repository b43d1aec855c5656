//! What is written means what was told, in every dialect that can hold it.

use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;

use super::*;
use crate::digest::{DigestRules, KeyDigest, StreamLevel, of_payload};
use crate::rdb::footer;
use crate::rdb::visit::{Consumer, Pending, Producer};

const NOW_MS: i64 = 1_000_000;
const BYTES_MAX: u64 = 1 << 24;

fn redis(highest: u16) -> Dialect {
    Dialect::of_accepted(6..=highest).expect("not empty")
}

fn valkey_9() -> Dialect {
    Dialect::of_accepted((6..=11).chain([80])).expect("not empty")
}

/// One for each set of encodings.
fn dialects() -> Vec<Dialect> {
    let mut dialects: Vec<Dialect> = [6, 7, 8, 9, 10, 11, 12, 13, 14].map(redis).to_vec();
    dialects.push(valkey_9());
    dialects
}

fn rules(dialect: Dialect) -> Rules {
    Rules {
        dialect,
        drop_field_expiry: None,
        bytes_max: BYTES_MAX,
    }
}

/// A payload as a server of this dialect might write it.
fn payload(dialect: Dialect, source_type: u8, tell: &dyn Fn(&mut Encoder<'_>)) -> Vec<u8> {
    let rules = rules(dialect);
    let mut encoder = Encoder::new(&rules, source_type, None);
    tell(&mut encoder);
    if let Some(first) = encoder.first_expiry {
        encoder = Encoder::new(&rules, source_type, Some(first));
        tell(&mut encoder);
    }
    match encoder.finish() {
        Ok(Reencoded::Payload(payload)) => payload,
        other => panic!("{other:?}"),
    }
}

fn digest(payload: &[u8], stream_level: StreamLevel, now_ms: i64) -> KeyDigest {
    footer::check(payload).expect("a right footer");
    let rules = DigestRules {
        field_expiries: true,
        now_ms,
        stream_level,
    };
    of_payload(payload, rules).expect("it can be decoded")
}

fn reencoded(payload: &[u8], rules: &Rules) -> Vec<u8> {
    match reencode(payload, rules) {
        Ok(Reencoded::Payload(reencoded)) => reencoded,
        other => panic!("{other:?}"),
    }
}

/// The payload means the same in every dialect that has its type, and is told by it to be known.
fn same_everywhere(payload: &[u8], can_hold: impl Fn(Dialect) -> bool) {
    for dialect in dialects().into_iter().filter(|dialect| can_hold(*dialect)) {
        let other = reencoded(payload, &rules(dialect));
        let level = StreamLevel::of_type(payload[0]).min(StreamLevel::of_type(other[0]));
        let digests = [payload, &other].map(|payload| digest(payload, level, 0).digest);
        assert_eq!(digests[0], digests[1], "{dialect:?}: {other:02x?}");
        let version = footer::check(&other).expect("a right footer").version;
        assert_eq!(version, dialect.stamp());
        assert_eq!(
            dialect.way(other[0], version),
            crate::rdb::dialect::Way::AsItIs,
            "type {} for {dialect:?}",
            other[0]
        );
    }
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => vec(any::<u8>(), 0..20),
        2 => any::<i64>().prop_map(|number| number.to_string().into_bytes()),
        1 => (60_usize..20_000, any::<u8>()).prop_map(|(length, byte)| vec![byte; length]),
    ]
}

fn score() -> impl Strategy<Value = f64> {
    any::<f64>().prop_filter("scores are numbers", |score| !score.is_nan())
}

proptest! {
    #[test]
    fn strings_and_lists_survive(text in bytes(), elements in vec(bytes(), 1..20)) {
        let string = payload(redis(9), 0, &|to| {
            to.begin(Kind::String);
            to.string(&text);
        });
        prop_assert_eq!(digest(&string, StreamLevel::Plain, 0).digest, crate::digest::of_string(&text).digest);
        same_everywhere(&string, |_| true);
        let list = payload(redis(9), 1, &|to| {
            to.begin(Kind::List);
            elements.iter().for_each(|element| to.element(element));
        });
        same_everywhere(&list, |_| true);
    }

    #[test]
    fn sets_and_scores_survive(members in btree_set(bytes(), 1..20), scores in btree_map(bytes(), score(), 1..20)) {
        let set = payload(redis(9), 2, &|to| {
            to.begin(Kind::Set);
            members.iter().for_each(|member| to.member(member));
        });
        same_everywhere(&set, |_| true);
        let zset = payload(redis(9), 5, &|to| {
            to.begin(Kind::Zset);
            scores.iter().for_each(|(member, score)| to.scored(member, *score));
        });
        prop_assert_eq!(zset[0], 5);
        same_everywhere(&zset, |_| true);
        let as_text = payload(redis(6), 3, &|to| {
            to.begin(Kind::Zset);
            scores.iter().for_each(|(member, score)| to.scored(member, *score));
        });
        prop_assert_eq!(as_text[0], 3);
        same_everywhere(&as_text, |_| true);
    }

    #[test]
    fn hashes_survive_with_the_expiry_of_their_fields(
        fields in btree_map(bytes(), (bytes(), prop::option::of(1..1_i64 << 47)), 1..20),
    ) {
        let expiring = fields.values().any(|(_, expires_ms)| expires_ms.is_some());
        for (dialect, payload_type) in [(redis(12), 24), (valkey_9(), 22)] {
            let hash = payload(dialect, payload_type, &|to| {
                to.begin(Kind::Hash);
                for (field, (value, expires_ms)) in &fields {
                    to.field(field, value, *expires_ms);
                }
            });
            prop_assert_eq!(hash[0], if expiring { payload_type } else { 4 });
            same_everywhere(&hash, |dialect| !expiring || dialect.field_expiry() != FieldExpiry::None);
            if expiring {
                prop_assert_eq!(reencode(&hash, &rules(redis(10))), Err(Unconvertible::FieldsExpire));
            }
        }
    }

    #[test]
    fn streams_survive_as_far_as_both_sides_know_them(stream in stream()) {
        for source_type in [15, 19, 21, 26, 27] {
            let highest = match source_type {
                15 => 9,
                19 => 10,
                21 => 12,
                26 => 13,
                _ => 14,
            };
            let written = payload(redis(highest), source_type, &|to| stream.tell(to, source_type));
            prop_assert_eq!(written[0], source_type);
            same_everywhere(&written, |dialect| dialect.stream_type().is_some());
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..200), version in 0..100_u16) {
        let mut payload = bytes;
        append_footer(&mut payload, version);
        for dialect in [redis(6), redis(14), valkey_9()] {
            let _ = reencode(&payload, &rules(dialect));
        }
    }
}

#[derive(Debug, Clone)]
struct Stream {
    entries: Vec<(StreamId, Vec<Vec<u8>>)>,
    counters: StreamCounters,
    groups: Vec<Group>,
    idempotence: Idempotence,
}

fn id() -> impl Strategy<Value = StreamId> {
    (any::<u64>(), any::<u64>()).prop_map(|(ms, seq)| StreamId { ms, seq })
}

/// Entries whose fields often are the first one's, as in life.
fn entries() -> impl Strategy<Value = Vec<(StreamId, Vec<Vec<u8>>)>> {
    let values = (any::<bool>(), vec(bytes(), 2));
    (0_u64..1 << 60, vec((0..3_u64, 1..4_u64, values), 0..250)).prop_map(|(start, steps)| {
        let mut at = StreamId { ms: start, seq: 0 };
        let mut entries = Vec::new();
        for (ms, seq, (same, values)) in steps {
            at = match ms {
                0 => StreamId {
                    seq: at.seq + seq,
                    ..at
                },
                _ => StreamId {
                    ms: at.ms + ms,
                    seq: 3 - seq,
                },
            };
            let name = if same { b"field" } else { b"other" };
            let fields = vec![
                name.to_vec(),
                values[0].clone(),
                b"second".to_vec(),
                values[1].clone(),
            ];
            entries.push((at, fields));
        }
        entries
    })
}

fn group() -> impl Strategy<Value = Group> {
    let pending = prop::collection::btree_map(id(), (any::<i64>(), 0..9_u64, 0..3_usize), 0..9);
    (bytes(), id(), any::<i64>(), pending, any::<i64>()).prop_map(
        |(name, last_id, entries_read, pending, seen_ms)| Group {
            name,
            last_id,
            entries_read: Some(entries_read),
            consumers: (0..3)
                .map(|number| Consumer {
                    name: vec![b'a' + number as u8],
                    seen_ms,
                    active_ms: Some(-1),
                    pending: pending
                        .iter()
                        .filter(|(_, (_, _, owner))| *owner == number)
                        .map(|(id, _)| *id)
                        .collect(),
                })
                .collect(),
            pending: pending
                .into_iter()
                .map(|(id, (delivered_ms, deliveries, _))| Pending {
                    id,
                    delivered_ms,
                    deliveries,
                })
                .collect(),
            unowned: vec![],
        },
    )
}

fn stream() -> impl Strategy<Value = Stream> {
    let groups = btree_map(bytes(), group(), 0..4);
    (entries(), id(), id(), any::<u64>(), groups).prop_map(
        |(entries, first_id, max_deleted_id, entries_added, groups)| Stream {
            counters: StreamCounters {
                first_id,
                max_deleted_id,
                entries_added,
            },
            idempotence: Idempotence {
                duration_s: entries_added >> 1,
                ids_max: 7,
                producers: vec![Producer {
                    name: b"p".to_vec(),
                    ids: vec![(b"i".to_vec(), first_id)],
                }],
                ids_added: 1,
                ids_duplicates: 2,
            },
            entries,
            groups: groups
                .into_iter()
                .map(|(name, group)| Group { name, ..group })
                .collect(),
        },
    )
}

impl Stream {
    fn tell(&self, to: &mut dyn Visitor, payload_type: u8) {
        to.begin(Kind::Stream);
        for (id, fields) in &self.entries {
            let fields: Vec<&[u8]> = fields.iter().map(Vec::as_slice).collect();
            to.entry(*id, &fields);
        }
        to.stream(&StreamState {
            len: self.entries.len() as u64,
            last_id: self
                .entries
                .last()
                .map_or(StreamId::default(), |last| last.0),
            since_7_0: (payload_type >= 19).then_some(self.counters),
        });
        self.groups.iter().for_each(|group| to.group(group));
        if payload_type >= 26 {
            to.idempotence(&self.idempotence);
        }
    }
}

#[test]
fn without_their_expiry_only_living_fields_are_left() {
    let hash = |expiries: &[Option<i64>]| {
        payload(redis(12), 24, &|to| {
            to.begin(Kind::Hash);
            for (index, expires_ms) in expiries.iter().enumerate() {
                to.field(&[index as u8], b"v", *expires_ms);
            }
        })
    };
    let drop = Rules {
        drop_field_expiry: Some(NOW_MS),
        ..rules(redis(10))
    };
    let living = reencoded(
        &hash(&[None, Some(NOW_MS), Some(NOW_MS + 1), Some(1)]),
        &drop,
    );
    let expected = payload(redis(10), 4, &|to| {
        to.begin(Kind::Hash);
        to.field(&[0], b"v", None);
        to.field(&[2], b"v", None);
    });
    assert_eq!(living, expected);
    assert_eq!(
        reencode(&hash(&[Some(NOW_MS), Some(1)]), &drop),
        Ok(Reencoded::Vacant)
    );
    // A target that can hold the expiry gets it, whatever the rule for others.
    let held = reencoded(
        &hash(&[Some(1)]),
        &Rules {
            drop_field_expiry: Some(NOW_MS),
            ..rules(valkey_9())
        },
    );
    assert_eq!(held[0], 22);
}

#[test]
fn what_a_target_can_not_hold_is_said() {
    let check = |payload: &[u8], dialect: Dialect, why: Unconvertible| {
        assert_eq!(reencode(payload, &rules(dialect)), Err(why));
    };
    let stream = payload(redis(9), 15, &|to| {
        to.begin(Kind::Stream);
        to.stream(&StreamState {
            len: 0,
            last_id: StreamId::default(),
            since_7_0: None,
        });
    });
    check(&stream, redis(8), Unconvertible::NoStreams);
    let mut module = b"\x07\x81\0\0\0\0\0\0\0\0\0".to_vec();
    append_footer(&mut module, 9);
    check(
        &module,
        redis(12),
        Unconvertible::Module("AAAAAAAAA".to_owned()),
    );
    let mut unknown = b"\x7f".to_vec();
    append_footer(&mut unknown, 20);
    let error = DecodeError::UnknownType {
        type_byte: 0x7f,
        version: 20,
    };
    check(&unknown, redis(12), Unconvertible::Undecodable(error));
}

#[test]
fn a_pending_entry_without_an_owner_is_not_forgotten() {
    let pending = Pending {
        id: StreamId { ms: 1, seq: 0 },
        delivered_ms: 5,
        deliveries: 1,
    };
    let stream = payload(redis(14), 27, &|to| {
        to.begin(Kind::Stream);
        to.stream(&StreamState {
            len: 0,
            last_id: StreamId::default(),
            since_7_0: Some(StreamCounters {
                first_id: StreamId::default(),
                max_deleted_id: StreamId::default(),
                entries_added: 0,
            }),
        });
        to.group(&Group {
            name: b"g".to_vec(),
            last_id: StreamId::default(),
            entries_read: Some(0),
            pending: vec![pending],
            consumers: vec![],
            unowned: vec![pending.id],
        });
        to.idempotence(&Idempotence {
            duration_s: 0,
            ids_max: 0,
            producers: vec![],
            ids_added: 0,
            ids_duplicates: 0,
        });
    });
    assert_eq!(
        reencode(&stream, &rules(redis(13))),
        Err(Unconvertible::UnownedEntries)
    );
    same_everywhere(&stream, |dialect| dialect.stream_type() == Some(27));
}

#[test]
fn what_would_become_too_large_is_not_made() {
    // Compressed by redis-server 7.0.15: SET s "a" a hundred times.
    let mut compressed = b"\x00\xc3\x09\x40\x64\x01aa\xe0\x57\x00\x01aa".to_vec();
    append_footer(&mut compressed, 10);
    let limited = |bytes_max| Rules {
        bytes_max,
        ..rules(redis(10))
    };
    let whole = reencoded(&compressed, &limited(113));
    assert_eq!(whole.len(), 1 + 2 + 100 + 10);
    assert_eq!(
        reencode(&compressed, &limited(112)),
        Err(Unconvertible::TooLarge { bytes_max: 112 })
    );
}

#[test]
fn another_footer_changes_nothing_else() {
    let string = payload(redis(12), 0, &|to| {
        to.begin(Kind::String);
        to.string(b"value");
    });
    let restamped = restamp(&string, 9);
    assert_eq!(footer::check(&restamped).expect("sound").version, 9);
    assert_eq!(restamped.len(), string.len());
    let body = string.len() - FOOTER_BYTES;
    assert_eq!(restamped[..body], string[..body]);
}
