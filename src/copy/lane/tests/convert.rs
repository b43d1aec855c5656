//! What becomes of payloads that the target does not take as they are.

use super::*;
use crate::plan::FieldTtl;
use crate::rdb::dialect::Dialect;
use crate::rdb::footer;

fn redis(highest: u16) -> Takes {
    Takes {
        dialect: Dialect::of_accepted(6..=highest).expect("not empty"),
        modules: vec![],
    }
}

fn takes(takes: Takes) -> Rules {
    Rules { takes, ..rules() }
}

fn with_footer(body: &[u8], version: u16) -> Bytes {
    let mut bytes = body.to_vec();
    bytes.extend(version.to_le_bytes());
    let checksum = footer::crc64(&bytes);
    bytes.extend(checksum.to_le_bytes());
    bytes.into()
}

/// `HSET h f v g 42`, by redis-server 7.0.15: a listpack.
fn listpack_hash() -> Bytes {
    let body = b"\x10\x12\x12\x00\x00\x00\x04\x00\x81f\x02\x81v\x02\x81g\x02*\x01\xff";
    with_footer(body, 10)
}

/// The same in the encoding that every server reads.
fn plain_hash(version: u16) -> Bytes {
    with_footer(b"\x04\x80\0\0\0\x02\x01f\x01v\x01g\x0242", version)
}

/// A hash with one field, which expires at this instant: as Redis 7.4 dumps it.
fn expiring_hash(expires_ms: i64) -> Bytes {
    let body = [
        b"\x18",
        &expires_ms.to_le_bytes()[..],
        b"\x01\x01\x01f\x01v",
    ]
    .concat();
    with_footer(&body, 12)
}

fn module_value() -> Bytes {
    with_footer(b"\x07\x81\xbd\xe7\x2d\xa2\xbb\x1e\xb4\x01\x00", 10)
}

/// A source with nothing but these values.
fn holding(values: &[Bytes]) -> Source {
    let mut source = Source::new(0);
    source.keys = values
        .iter()
        .enumerate()
        .map(|(index, value)| (format!("key:{index}").into_bytes(), Some(value.clone()), -1))
        .collect();
    source
}

/// Copies these values under these rules: the batches, and what the target holds then.
fn copied(rules: Rules, values: &[Bytes]) -> (Vec<FinishedBatch>, Target) {
    let mut source = holding(values);
    let mut target = Target::default();
    let mut lane = Lane::new(rules, 1, Position::Start, 0, 1, 0);
    let batches = finish(&mut lane, &mut source, &mut target);
    (batches, target)
}

fn reason(batches: &[FinishedBatch]) -> &str {
    &batches[0].quarantined[0].1.reason
}

#[test]
fn what_the_target_takes_arrives_byte_for_byte() {
    let (batches, target) = copied(takes(redis(10)), &[listpack_hash()]);
    assert_eq!(target.keys[&b"key:0"[..]].0, listpack_hash());
    assert_eq!(total(&batches).keys_reencoded, 0);
}

#[test]
fn an_encoding_that_the_target_does_not_know_is_exchanged() {
    let (batches, target) = copied(takes(redis(9)), &[listpack_hash()]);
    assert_eq!(target.keys[&b"key:0"[..]].0, plain_hash(9));
    let counters = total(&batches);
    assert_eq!((counters.keys_written, counters.keys_reencoded), (1, 1));
}

#[test]
fn a_footer_that_the_target_does_not_know_is_exchanged() {
    let (batches, target) = copied(takes(redis(9)), &[plain_hash(12)]);
    assert_eq!(target.keys[&b"key:0"[..]].0, plain_hash(9));
    let counters = total(&batches);
    assert_eq!((counters.keys_written, counters.keys_reencoded), (1, 0));
}

#[test]
fn a_modules_value_goes_only_to_a_target_that_has_shown_the_module() {
    let (batches, target) = copied(takes(redis(10)), &[module_value()]);
    assert_eq!((target.writes, total(&batches).keys_quarantined), (0, 1));
    assert!(
        reason(&batches).contains("(vectorset)"),
        "{}",
        reason(&batches)
    );
    let unknown = with_footer(b"\x06\x02", 9);
    let with_module = |highest| Takes {
        modules: vec!["vectorset".to_owned()],
        ..redis(highest)
    };
    let (batches, target) = copied(takes(with_module(10)), &[unknown]);
    assert_eq!((target.writes, total(&batches).keys_quarantined), (0, 1));
    let (_, target) = copied(takes(with_module(10)), &[module_value()]);
    assert_eq!(target.keys[&b"key:0"[..]].0, module_value());
    let (_, target) = copied(takes(with_module(9)), &[module_value()]);
    let sent = &target.keys[&b"key:0"[..]].0;
    assert_eq!(footer::check(sent).expect("sound").version, 9);
}

#[test]
fn fields_that_expire_are_quarantined_or_lose_their_expiry_as_the_plan_says() {
    let future = i64::MAX / 4;
    let (batches, target) = copied(takes(redis(10)), &[expiring_hash(future)]);
    assert_eq!((target.writes, total(&batches).keys_quarantined), (0, 1));
    assert!(
        reason(&batches).contains("--field-ttl drop"),
        "{}",
        reason(&batches)
    );
    let drop = Rules {
        field_ttl: FieldTtl::Drop,
        ..takes(redis(10))
    };
    let (_, target) = copied(drop.clone(), &[expiring_hash(future)]);
    assert_eq!(
        target.keys[&b"key:0"[..]].0,
        with_footer(b"\x04\x80\0\0\0\x01\x01f\x01v", 10)
    );
    let (batches, target) = copied(drop.clone(), &[expiring_hash(1)]);
    assert_eq!((target.writes, total(&batches).keys_vanished), (0, 1));
    // By the source's clock, where it is known.
    let slow = Rules {
        source_clock: Some(Clock {
            read_at: Instant::now(),
            unix_ms: 0,
            uncertainty_ms: 1,
        }),
        ..drop
    };
    let (_, target) = copied(slow, &[expiring_hash(3_600_000)]);
    assert_eq!(target.writes, 1);
}

#[test]
fn a_refused_payload_is_re_encoded_once() {
    for second_answer in [None, Some("ERR Bad data format")] {
        let mut source = holding(&[listpack_hash()]);
        let mut target = Target::default();
        let mut lane = Lane::new(takes(redis(10)), 1, Position::Start, 0, 1, 0);
        let now = Instant::now();
        read_all(&mut lane, &mut source, now);
        write(&mut lane, &mut target, now);
        target.answers[0] = error("ERR DUMP payload version or checksum are wrong");
        while let Some(token) = target.answers.pop_front() {
            lane.target_token(0, token).expect("no trouble");
        }
        assert!(lane.take_finished().is_none(), "the key is not given up");
        read_all(&mut lane, &mut source, now);
        write(&mut lane, &mut target, now);
        assert_eq!(target.keys[&b"key:0"[..]].0, plain_hash(10));
        if let Some(line) = second_answer {
            target.answers[0] = error(line);
        }
        let batches = finish(&mut lane, &mut source, &mut target);
        let counters = total(&batches);
        assert_eq!(target.writes, 2);
        let refused = u64::from(second_answer.is_some());
        assert_eq!(counters.keys_quarantined, refused);
        assert_eq!(counters.keys_reencoded, 1 - refused);
        if let Some(line) = second_answer {
            assert_eq!(batches[0].quarantined[0].1.error.as_deref(), Some(line));
        }
    }
}

/// A target that accepts footers and not what is behind them must not stop the run: re-encoded, all keys arrive.
#[test]
fn refusals_that_re_encoding_helps_against_do_not_stop_the_run() {
    let mut source = holding(&vec![listpack_hash(); 300]);
    let mut target = Target::default();
    let mut lane = Lane::new(takes(redis(10)), 1, Position::Start, 0, 1, 0);
    let mut batches = Vec::new();
    for _ in 0..1000 {
        let now = Instant::now();
        ask(&mut lane, &mut source, now);
        let mut out = BytesMut::new();
        assert!(lane.write(0, &mut out, now).is_none(), "values are small");
        for command in commands(&mut out) {
            let answer = match command[3][0] {
                16 => error("ERR Bad data format"),
                _ => Token::Simple(Bytes::from_static(b"OK")),
            };
            target.writes += 1;
            target.answers.push_back(answer);
        }
        while let Some(token) = target.answers.pop_front() {
            lane.target_token(0, token).expect("the run goes on");
        }
        while let Some(batch) = lane.take_finished() {
            lane.durable(1);
            batches.push(batch);
        }
        if lane.is_complete() {
            break;
        }
    }
    assert_eq!(total(&batches).keys_reencoded, 300);
    assert_eq!(target.writes, 600);
}

#[test]
fn what_waits_for_a_target_is_converted_anew_for_another() {
    let mut source = holding(&[listpack_hash()]);
    let mut target = Target::default();
    let mut lane = Lane::new(takes(redis(10)), 1, Position::Start, 0, 1, 0);
    read_all(&mut lane, &mut source, Instant::now());
    assert!(lane.ready_bytes() > 0, "a payload waits");
    lane.set_takes(Some(redis(9)));
    assert_eq!(lane.ready_bytes(), 0);
    finish(&mut lane, &mut source, &mut target);
    assert_eq!(target.writes, 1);
    assert_eq!(target.keys[&b"key:0"[..]].0, plain_hash(9));
    // The same server again: nothing is read anew.
    lane.set_takes(Some(redis(9)));
    lane.set_takes(None);
    assert_eq!(lane.rules.takes, redis(9));
}
