//! One value has one digest, however it is told; every change of a value has another.

use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use proptest::sample::Index;

use super::visitor::Pieces;
use super::*;
use crate::rdb::visit::{
    Consumer, Group, Idempotence, Pending, Producer, SlotValue, StreamCounters, StreamId,
    StreamState, VectorElement, VectorSetState, Visitor,
};

const NOW_MS: i64 = 1_000_000;

fn digester(stream_level: StreamLevel) -> Pieces {
    Pieces::new(DigestRules {
        field_expiries: true,
        now_ms: NOW_MS,
        stream_level,
    })
}

fn told(kind: Kind, tell: impl FnOnce(&mut Pieces)) -> [u8; 32] {
    let mut digester = digester(StreamLevel::Unowned);
    digester.begin(kind);
    tell(&mut digester);
    digester.finish().digest.expect("it can be verified")
}

fn list(elements: &[Vec<u8>]) -> [u8; 32] {
    told(Kind::List, |digester| {
        elements
            .iter()
            .for_each(|element| digester.element(element));
    })
}

fn set<'a>(members: impl IntoIterator<Item = &'a Vec<u8>>) -> [u8; 32] {
    told(Kind::Set, |digester| {
        members
            .into_iter()
            .for_each(|member| digester.member(member));
    })
}

fn zset<'a>(members: impl IntoIterator<Item = (&'a Vec<u8>, &'a f64)>) -> [u8; 32] {
    told(Kind::Zset, |digester| {
        for (member, score) in members {
            digester.scored(member, *score);
        }
    })
}

type Fields = std::collections::BTreeMap<Vec<u8>, (Vec<u8>, Option<i64>)>;

fn hash<'a>(
    fields: impl IntoIterator<Item = (&'a Vec<u8>, &'a (Vec<u8>, Option<i64>))>,
) -> [u8; 32] {
    told(Kind::Hash, |digester| {
        for (field, (value, expires_ms)) in fields {
            digester.field(field, value, *expires_ms);
        }
    })
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..12)
}

fn expires() -> impl Strategy<Value = Option<i64>> {
    prop::option::of(NOW_MS + 1..i64::MAX)
}

proptest! {
    #[test]
    fn every_change_of_a_list_has_another_digest(elements in vec(bytes(), 1..9), at in any::<Index>(), other in bytes()) {
        let at = at.index(elements.len());
        let before = list(&elements);
        let mut changed = elements.clone();
        changed[at].push(0);
        prop_assert_ne!(list(&changed), before);
        let mut longer = elements.clone();
        longer.insert(at, other);
        prop_assert_ne!(list(&longer), before);
        let mut swapped = elements.clone();
        swapped.swap(0, at);
        prop_assert_eq!(list(&swapped) == before, swapped == elements);
    }

    #[test]
    fn a_set_has_no_order_and_every_change_another_digest(
        members in btree_set(bytes(), 1..9), at in any::<Index>(), bit in any::<Index>(),
    ) {
        let before = set(&members);
        prop_assert_eq!(set(members.iter().rev()), before);
        let at = at.index(members.len());
        let mut changed: Vec<Vec<u8>> = members.iter().cloned().collect();
        changed[at].push(0);
        prop_assert_ne!(set(&changed), before);
        changed[at].pop();
        if !changed[at].is_empty() {
            let bit = bit.index(changed[at].len() * 8);
            changed[at][bit / 8] ^= 1 << (bit % 8);
            prop_assert_ne!(set(&changed), before);
        }
        changed.remove(at);
        prop_assert_ne!(set(&changed), before);
    }

    #[test]
    fn a_score_differs_by_its_last_bit(
        members in btree_map(bytes(), prop::num::f64::NORMAL | prop::num::f64::ZERO | prop::num::f64::SUBNORMAL, 1..9),
        at in any::<Index>(),
    ) {
        let before = zset(&members);
        prop_assert_eq!(zset(members.iter().rev()), before);
        let member = members.keys().nth(at.index(members.len())).expect("below the length");
        let mut changed = members.clone();
        let score = members[member];
        changed.insert(member.clone(), score.next_up());
        // From -0.0 the next number up is the smallest above 0.
        prop_assert_ne!(zset(&changed), before);
        changed.remove(member);
        prop_assert_ne!(zset(&changed), before);
    }

    #[test]
    fn a_hash_is_its_living_fields_with_their_expiries(
        fields in btree_map(bytes(), (bytes(), expires()), 1..9), at in any::<Index>(), expired in bytes(), ago in 0..NOW_MS,
    ) {
        let before = hash(&fields);
        prop_assert_eq!(hash(fields.iter().rev()), before);
        let field = fields.keys().nth(at.index(fields.len())).expect("below the length").clone();
        let (value, expires_ms) = fields[&field].clone();
        let changes = [
            ([&field[..], b"x"].concat(), (value.clone(), expires_ms)),
            (field.clone(), ([&value[..], b"x"].concat(), expires_ms)),
            (field.clone(), (value, expires_ms.map_or(Some(NOW_MS + 1), |_| None))),
        ];
        for (name, content) in changes {
            let mut changed: Fields = fields.clone();
            changed.remove(&field);
            changed.insert(name, content);
            prop_assert_ne!(hash(&changed), before);
        }
        let with_expired = (expired, (b"v".to_vec(), Some(NOW_MS - ago)));
        let all: Vec<_> = fields.iter().chain([(&with_expired.0, &with_expired.1)]).collect();
        prop_assert_eq!(hash(all), before);
    }

    #[test]
    fn a_string_is_its_bytes(text in bytes(), other in bytes()) {
        prop_assert_eq!(told(Kind::String, |digester| digester.string(&text)), of_string(&text).digest.expect("a string"));
        prop_assert_eq!(of_string(&text).compare(&of_string(&other)) == Comparison::Equal, text == other);
    }
}

#[test]
fn borders_between_parts_count() {
    let parts = |parts: &[&str]| {
        parts
            .iter()
            .map(|part| part.as_bytes().to_vec())
            .collect::<Vec<_>>()
    };
    assert_ne!(list(&parts(&["ab", "c"])), list(&parts(&["a", "bc"])));
    assert_ne!(list(&parts(&["a", ""])), list(&parts(&["a"])));
    let pair = |field: &str, value: &str| {
        hash([(
            &field.as_bytes().to_vec(),
            &(value.as_bytes().to_vec(), None),
        )])
    };
    assert_ne!(pair("ab", "c"), pair("a", "bc"));
    assert_ne!(
        set(&parts(&["a", "b"])),
        set(&parts(&["a", "b", "b"])),
        "the count is a part of it"
    );
}

#[test]
fn types_never_share_a_digest() {
    let kinds = [
        Kind::String,
        Kind::List,
        Kind::Set,
        Kind::Zset,
        Kind::Hash,
        Kind::Stream,
        Kind::Array,
        Kind::VectorSet,
    ];
    let digests = kinds.map(|kind| told(kind, |_| {}));
    for (index, digest) in digests.iter().enumerate() {
        assert!(!digests[..index].contains(digest), "{:?}", kinds[index]);
    }
}

#[test]
fn zero_has_no_sign_and_infinities_have() {
    let scored = |score: f64| zset([(&b"m".to_vec(), &score)]);
    assert_eq!(scored(-0.0), scored(0.0));
    assert_ne!(scored(f64::INFINITY), scored(f64::NEG_INFINITY));
    assert_ne!(scored(1.0), scored(-1.0));
}

#[test]
fn a_hash_whose_fields_have_all_expired_says_so() {
    let vacant = |fields: &[Option<i64>]| {
        let mut digester = digester(StreamLevel::Plain);
        digester.begin(Kind::Hash);
        fields
            .iter()
            .for_each(|expires_ms| digester.field(b"f", b"v", *expires_ms));
        digester.finish().vacant
    };
    assert!(vacant(&[Some(0), Some(NOW_MS)]));
    assert!(!vacant(&[Some(0), Some(NOW_MS + 1)]));
    assert!(!vacant(&[None]));
}

#[test]
fn the_cached_cardinality_of_a_hyperloglog_is_no_part_of_it() {
    let hll = |cache: u8, register: u8| {
        let mut bytes = b"HYLL\0\0\0\0".to_vec();
        bytes.extend([cache; 8]);
        bytes.extend([register; 12288]);
        of_string(&bytes)
    };
    assert_eq!(hll(1, 7).compare(&hll(2, 7)), Comparison::Equal);
    assert_eq!(hll(1, 7).compare(&hll(1, 8)), Comparison::Different);
    let no_hll = |cache: u8| of_string(&[&b"HYLL\0\0\0\0"[..], &[cache; 100]].concat());
    assert_eq!(no_hll(1).compare(&no_hll(2)), Comparison::Different);
}

#[test]
fn a_modules_value_is_never_equal() {
    let mut digester = digester(StreamLevel::Plain);
    digester.begin(Kind::Module);
    digester.module("ReJSON-RL", 3, b"tokens");
    let module = digester.finish();
    assert_eq!(module.compare(&module), Comparison::Unverified);
    assert_eq!(module.compare(&of_string(b"")), Comparison::Different);
    assert_eq!(of_string(b"").compare(&module), Comparison::Different);
}

#[test]
fn one_digester_serves_one_value_after_the_other() {
    let mut digester = digester(StreamLevel::Plain);
    digester.begin(Kind::Set);
    digester.member(b"left behind by a damaged payload");
    for _ in 0..2 {
        digester.begin(Kind::List);
        digester.element(b"a");
        assert_eq!(digester.finish().digest, Some(list(&[b"a".to_vec()])));
    }
}

// ---- streams

#[derive(Clone)]
struct Stream {
    entries: Vec<(StreamId, Vec<&'static [u8]>)>,
    state: StreamState,
    groups: Vec<Group>,
    idempotence: Option<Idempotence>,
}

fn id(ms: u64, seq: u64) -> StreamId {
    StreamId { ms, seq }
}

fn stream() -> Stream {
    let group = |name: &str| Group {
        name: name.into(),
        last_id: id(2, 0),
        entries_read: Some(2),
        pending: vec![
            Pending {
                id: id(1, 0),
                delivered_ms: 5,
                deliveries: 1,
            },
            Pending {
                id: id(2, 0),
                delivered_ms: 6,
                deliveries: 3,
            },
        ],
        consumers: vec![
            Consumer {
                name: b"alice".to_vec(),
                seen_ms: 7,
                active_ms: Some(8),
                pending: vec![id(1, 0)],
            },
            Consumer {
                name: b"bob".to_vec(),
                seen_ms: 7,
                active_ms: None,
                pending: vec![id(2, 0)],
            },
        ],
        unowned: vec![],
    };
    Stream {
        entries: vec![(id(1, 0), vec![b"f", b"v"]), (id(2, 0), vec![b"f", b"w"])],
        state: StreamState {
            len: 2,
            last_id: id(2, 0),
            since_7_0: Some(StreamCounters {
                first_id: id(1, 0),
                max_deleted_id: id(0, 5),
                entries_added: 3,
            }),
        },
        groups: vec![group("g"), group("h")],
        idempotence: Some(Idempotence {
            duration_s: 60,
            ids_max: 100,
            producers: vec![Producer {
                name: b"p".to_vec(),
                ids: vec![(b"i".to_vec(), id(1, 0))],
            }],
            ids_added: 1,
            ids_duplicates: 0,
        }),
    }
}

fn digest(stream: &Stream, level: StreamLevel) -> [u8; 32] {
    let mut digester = digester(level);
    digester.begin(Kind::Stream);
    for (id, fields) in &stream.entries {
        digester.entry(*id, fields);
    }
    digester.stream(&stream.state);
    stream.groups.iter().for_each(|group| digester.group(group));
    if let Some(idempotence) = &stream.idempotence {
        digester.idempotence(idempotence);
    }
    digester.finish().digest.expect("it can be verified")
}

/// From `level` on the change is seen; below it, it is not.
fn check(what: &str, from: Option<StreamLevel>, change: fn(&mut Stream)) {
    let mut changed = stream();
    change(&mut changed);
    for level in [
        StreamLevel::Plain,
        StreamLevel::Counted,
        StreamLevel::Idempotent,
        StreamLevel::Unowned,
    ] {
        assert_eq!(
            digest(&changed, level) != digest(&stream(), level),
            from.is_some_and(|from| level >= from),
            "{what} at {level:?}"
        );
    }
}

#[test]
fn every_change_of_a_stream_is_seen_from_its_level_on() {
    let check = |what: &str, from: StreamLevel, change| check(what, Some(from), change);
    let plain = StreamLevel::Plain;
    check("entry gone", plain, |s| drop(s.entries.pop()));
    check("entry's id", plain, |s| s.entries[1].0.seq = 1);
    check("value", plain, |s| s.entries[1].1[1] = b"v");
    check("field", plain, |s| s.entries[0].1[0] = b"g");
    check("border", plain, |s| s.entries[0].1 = vec![b"fv", b""]);
    check("fields", plain, |s| {
        s.entries[0].1.extend([&b"f"[..], b"v"])
    });
    check("length", plain, |s| s.state.len = 3);
    check("last id", plain, |s| s.state.last_id.seq = 9);
    check("group gone", plain, |s| drop(s.groups.pop()));
    check("group's name", plain, |s| s.groups[0].name.push(b'g'));
    check("group's last id", plain, |s| s.groups[0].last_id.ms = 1);
    check("pending gone", plain, |s| s.groups[0].pending.truncate(1));
    check("deliveries", plain, |s| {
        s.groups[1].pending[0].deliveries = 2
    });
    check("consumer gone", plain, |s| {
        drop(s.groups[0].consumers.pop())
    });
    check("consumer", plain, |s| {
        s.groups[0].consumers[0].name.push(b'x')
    });
    check("owner", plain, |s| {
        let [alice, bob] = &mut s.groups[0].consumers[..] else {
            panic!("two consumers");
        };
        std::mem::swap(&mut alice.pending, &mut bob.pending);
    });
    let counted = StreamLevel::Counted;
    check("entries read", counted, |s| {
        s.groups[0].entries_read = Some(-1)
    });
    check("entries added", counted, |s| {
        s.state.since_7_0.as_mut().expect("has them").entries_added = 4;
    });
    check("deleted id", counted, |s| {
        s.state
            .since_7_0
            .as_mut()
            .expect("has them")
            .max_deleted_id
            .seq = 6;
    });
    check("counters", counted, |s| s.state.since_7_0 = None);
    let idempotent = StreamLevel::Idempotent;
    check("idempotence", idempotent, |s| s.idempotence = None);
    check("producer's id", idempotent, |s| {
        s.idempotence.as_mut().expect("has it").producers[0].ids[0]
            .0
            .push(b'x');
    });
    check("duration", idempotent, |s| {
        s.idempotence.as_mut().expect("has it").duration_s = 61;
    });
    check("unowned", StreamLevel::Unowned, |s| {
        s.groups[0].unowned.push(id(2, 0));
    });
}

#[test]
fn what_reading_changes_and_what_has_no_order_is_not_seen() {
    check("first id", None, |s| {
        s.state.since_7_0.as_mut().expect("has them").first_id = id(0, 0);
    });
    check("seen", None, |s| s.groups[0].consumers[0].seen_ms = 99);
    check("active", None, |s| {
        s.groups[0].consumers[0].active_ms = None
    });
    check("delivered", None, |s| {
        s.groups[0].pending[0].delivered_ms = 99
    });
    check("order of groups", None, |s| s.groups.reverse());
    check("order of consumers", None, |s| {
        s.groups[0].consumers.reverse()
    });
}

#[test]
fn levels_follow_the_types() {
    let lower = |one, other| StreamLevel::of_type(one).min(StreamLevel::of_type(other));
    assert_eq!(lower(15, 21), StreamLevel::Plain);
    assert_eq!(lower(19, 21), StreamLevel::Counted);
    assert_eq!(lower(26, 21), StreamLevel::Counted);
    assert_eq!(lower(26, 26), StreamLevel::Idempotent);
    assert_eq!(lower(27, 26), StreamLevel::Idempotent);
    assert_eq!(lower(0, 15), StreamLevel::Plain);
}

// ---- arrays and vector sets

#[test]
fn arrays_are_compared_slot_by_slot() {
    let array = |insert_index, slots: &[(u64, SlotValue<'_>)]| {
        told(Kind::Array, |digester| {
            digester.array(insert_index);
            slots
                .iter()
                .for_each(|(index, value)| digester.slot(*index, *value));
        })
    };
    let text = SlotValue::Text(b"7");
    let before = array(None, &[(3, text)]);
    assert_eq!(array(None, &[(3, SlotValue::Integer(7))]), before);
    assert_ne!(array(Some(3), &[(3, text)]), before);
    assert_ne!(array(None, &[(4, text)]), before);
    assert_ne!(array(None, &[(3, SlotValue::Double(7.0))]), before);
    assert_ne!(array(None, &[(3, text), (4, text)]), before);
}

#[test]
fn vector_sets_are_compared_element_by_element() {
    let vectors = |dimensions, quantization, projection: &[u8], elements: &[VectorElement<'_>]| {
        told(Kind::VectorSet, |digester| {
            digester.vector_set(&VectorSetState {
                dimensions,
                quantization,
                projection,
            });
            elements.iter().for_each(|element| digester.vector(element));
        })
    };
    let a = VectorElement {
        name: b"a",
        attributes: b"",
        components: b"0001",
        norm: 1.0,
        range: 0.5,
    };
    let b = VectorElement { name: b"b", ..a };
    let before = vectors(1, 0, b"", &[a, b]);
    assert_eq!(vectors(1, 0, b"", &[b, a]), before);
    assert_ne!(vectors(2, 0, b"", &[a, b]), before);
    assert_ne!(vectors(1, 1, b"", &[a, b]), before);
    assert_ne!(vectors(1, 0, b"p", &[a, b]), before);
    assert_ne!(vectors(1, 0, b"", &[a]), before);
    let changed = |other| assert_ne!(vectors(1, 0, b"", &[a, other]), before);
    changed(VectorElement { name: b"c", ..b });
    changed(VectorElement {
        attributes: b"{}",
        ..b
    });
    changed(VectorElement {
        components: b"0002",
        ..b
    });
    changed(VectorElement { norm: 2.0, ..b });
    let ranged = VectorElement { range: 0.6, ..b };
    assert_eq!(vectors(1, 0, b"", &[a, ranged]), before);
    assert_ne!(
        vectors(1, 1, b"", &[a, ranged]),
        vectors(1, 1, b"", &[a, b]),
        "eight bits have a range"
    );
}

#[test]
fn expiries_of_fields_count_unless_they_were_dropped() {
    let with = |field_expiries, expires_ms| {
        let mut digester = Pieces::new(DigestRules {
            now_ms: NOW_MS,
            field_expiries,
            stream_level: StreamLevel::Plain,
        });
        digester.begin(Kind::Hash);
        digester.field(b"f", b"v", expires_ms);
        digester.finish().digest.expect("it can be verified")
    };
    let later = Some(NOW_MS + 1);
    assert_ne!(with(true, later), with(true, None));
    assert_eq!(with(false, later), with(false, None));
    assert_eq!(with(false, None), with(true, None));
}
