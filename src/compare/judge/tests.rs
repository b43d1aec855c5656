use super::*;

fn payload(body: &[u8], version: u16) -> Bytes {
    let mut payload = body.to_vec();
    payload.extend(version.to_le_bytes());
    let checksum = footer::crc64(&payload);
    payload.extend(checksum.to_le_bytes());
    payload.into()
}

/// As DUMP has it: type 0, length, bytes.
fn string(bytes: &[u8]) -> Value {
    let mut body = vec![0, bytes.len() as u8];
    body.extend(bytes);
    Value::Payload(payload(&body, 10))
}

/// Type 2: a set in the order given.
fn set(members: &[&[u8]]) -> Value {
    let mut body = vec![2, members.len() as u8];
    for member in members {
        body.push(member.len() as u8);
        body.extend(*member);
    }
    Value::Payload(payload(&body, 10))
}

fn module(content: u8) -> Value {
    // Type 7: an id of nine zero letters and version 1, one unsigned integer, the end.
    let mut body = vec![7, 0x81];
    body.extend(1_u64.to_be_bytes());
    body.extend([2, content, 0]);
    Value::Payload(payload(&body, 10))
}

fn judge_values(source: &Value, target: &Value) -> Values {
    Judge::new(vec![], FieldTtl::Quarantine).values(source, target, 0)
}

fn verdict(values: &Values) -> Option<Verdict> {
    match values {
        Values::Differ { verdict, .. } => Some(*verdict),
        _ => None,
    }
}

#[test]
fn equal_bytes_are_equal_whatever_the_footer() {
    let Value::Payload(bytes) = string(b"v") else {
        unreachable!("it is one");
    };
    let newer = Value::Payload(payload(body(&bytes), 80));
    let values = judge_values(&string(b"v"), &newer);
    assert!(
        matches!(
            values,
            Values::Equal {
                other_bytes: false,
                ..
            }
        ),
        "{values:?}"
    );
}

#[test]
fn the_order_of_a_set_is_no_difference_and_a_member_is() {
    let values = judge_values(&set(&[b"a", b"b"]), &set(&[b"b", b"a"]));
    assert!(
        matches!(
            values,
            Values::Equal {
                other_bytes: true,
                ..
            }
        ),
        "{values:?}"
    );
    let values = judge_values(&set(&[b"a", b"b"]), &set(&[b"b", b"c"]));
    assert_eq!(verdict(&values), Some(Verdict::Value));
}

#[test]
fn each_difference_has_its_verdict() {
    let check = |source: &Value, target: &Value, wanted| {
        assert_eq!(
            verdict(&judge_values(source, target)),
            wanted,
            "{source:?} {target:?}"
        );
    };
    check(&string(b"a"), &string(b"b"), Some(Verdict::Value));
    check(&string(b"a"), &set(&[b"a"]), Some(Verdict::Type));
    check(&string(b"a"), &Value::Missing, Some(Verdict::Missing));
    check(&Value::Missing, &string(b"a"), None);
    check(&Value::Missing, &Value::Missing, None);
    let one = Value::String(Bytes::from_static(b"a"));
    let other = Value::String(Bytes::from_static(b"b"));
    check(&one, &other, Some(Verdict::Value));
    check(&one, &one, None);
    let mut judge = Judge::new(vec![], FieldTtl::Quarantine);
    judge.extras = true;
    let extra = judge.values(&Value::Missing, &string(b"a"), 0);
    assert_eq!(verdict(&extra), Some(Verdict::Extra));
}

#[test]
fn a_modules_value_is_equal_by_its_bytes_alone() {
    let values = judge_values(&module(1), &module(1));
    assert!(
        matches!(
            values,
            Values::Equal {
                other_bytes: false,
                ..
            }
        ),
        "{values:?}"
    );
    let values = judge_values(&module(1), &module(2));
    assert!(matches!(values, Values::NotCompared), "{values:?}");
    let values = judge_values(&module(1), &string(b"a"));
    assert_eq!(verdict(&values), Some(Verdict::Type));
}

#[test]
fn damage_on_the_way_is_read_again_and_an_unknown_type_is_not_compared() {
    let unknown = |content: u8| Value::Payload(payload(&[99, content], 10));
    assert!(matches!(
        judge_values(&unknown(1), &unknown(2)),
        Values::NotCompared
    ));
    let Value::Payload(intact) = set(&[b"a"]) else {
        unreachable!("it is one");
    };
    let mut damaged = intact.to_vec();
    damaged[1] ^= 0x40;
    let damaged = Value::Payload(damaged.into());
    assert_eq!(
        verdict(&judge_values(&set(&[b"a"]), &damaged)),
        Some(Verdict::Value)
    );
}

#[test]
fn types_that_are_not_asked_for_are_filtered() {
    let mut judge = Judge::new(vec![KeyType::Set], FieldTtl::Quarantine);
    assert!(!judge.wants_strings());
    let values = judge.values(&string(b"a"), &string(b"b"), 0);
    assert!(matches!(values, Values::Filtered), "{values:?}");
    let values = judge.values(&string(b"a"), &Value::Missing, 0);
    assert!(matches!(values, Values::Filtered), "{values:?}");
    let values = judge.values(&set(&[b"a"]), &set(&[b"b"]), 0);
    assert_eq!(verdict(&values), Some(Verdict::Value));
}

/// Values, then what PTTL said on both sides.
fn judged(source: &Value, target: &Value, answers: [i64; 2]) -> Judged {
    let expiries = Expiries::new(std::time::Duration::from_secs(1), [false; 2], [None; 2]);
    let now = Instant::now();
    let answers = answers.map(|ms| Answer { ms, at: now });
    judge(judge_values(source, target), answers, &expiries, now)
}

fn verdict_of(judged: &Judged) -> Option<Verdict> {
    match judged {
        Judged::Differs(difference) => Some(difference.verdict),
        _ => None,
    }
}

#[test]
fn expiries_differ_by_more_than_the_tolerance_only() {
    let check = |answers, wanted| {
        let judged = judged(&string(b"a"), &string(b"a"), answers);
        assert_eq!(verdict_of(&judged), wanted, "{answers:?}");
    };
    check([-1, -1], None);
    check([90_000, 90_900], None);
    check([90_000, 92_000], Some(Verdict::Ttl));
    check([-1, 90_000], Some(Verdict::Ttl));
    check([90_000, -1], Some(Verdict::Ttl));
}

#[test]
fn a_key_that_is_about_to_expire_is_not_missed() {
    let gone = |source: &Value, target: &Value, answers| {
        matches!(judged(source, target, answers), Judged::Gone)
    };
    assert!(gone(&string(b"a"), &Value::Missing, [500, -2]));
    assert!(gone(&string(b"a"), &Value::Missing, [-2, -2]));
    assert!(!gone(&string(b"a"), &Value::Missing, [5_000, -2]));
    assert!(!gone(&string(b"a"), &Value::Missing, [-1, -2]));
    // It went between the value's answer and the expiry's.
    assert!(gone(&string(b"a"), &string(b"a"), [-2, -2]));
    assert!(gone(&string(b"a"), &string(b"a"), [700, -2]));
    let judged = judged(&string(b"a"), &string(b"a"), [-1, -2]);
    assert_eq!(verdict_of(&judged), Some(Verdict::Missing));
}

#[test]
fn what_was_seen_is_the_same_only_if_nothing_changed() {
    let differ = |source: &[u8], target: &[u8], answers| match judged(
        &string(source),
        &string(target),
        answers,
    ) {
        Judged::Differs(difference) => difference,
        other => panic!("{other:?}"),
    };
    let first = differ(b"a", b"b", [-1, -1]);
    let again = differ(b"a", b"b", [-1, -1]);
    let source = differ(b"x", b"b", [-1, -1]);
    let target = differ(b"a", b"x", [-1, -1]);
    let expiry = differ(b"a", b"b", [90_000, -1]);
    assert_eq!(
        [first.seen(0), first.seen(1)],
        [again.seen(0), again.seen(1)]
    );
    assert_ne!(first.seen(0), source.seen(0));
    assert_eq!(first.seen(1), source.seen(1));
    assert_ne!(first.seen(1), target.seen(1));
    assert_ne!(first.seen(0), expiry.seen(0));
    // The time left is another one with each read: that alone is no change.
    let later = differ(b"a", b"b", [89_000, -1]);
    assert_eq!(expiry.seen(0), later.seen(0));
}
