//! Any bytes as a payload, encoded anew for every kind of target: the value stays the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use redknot::digest::{Comparison, DigestRules, StreamLevel, of_payload};
use redknot::rdb::dialect::{Dialect, Way};
use redknot::rdb::encode::{Reencoded, Rules, reencode};
use redknot::rdb::footer;

const BYTES_MAX: u64 = 1 << 20;

/// What has expired by then is not compared: targets differ in which past they can hold.
const NOW_MS: i64 = 1000;

fn dialects() -> Vec<Dialect> {
    let redis = (6..=14).filter_map(|highest| Dialect::of_accepted(6..=highest));
    let valkey = Dialect::of_accepted((6..=11).chain([80]));
    redis.chain(valkey).collect()
}

fn check(payload: &[u8], dialect: Dialect) {
    let rules = Rules {
        dialect,
        drop_field_expiry: None,
        bytes_max: BYTES_MAX,
    };
    let Ok(Reencoded::Payload(other)) = reencode(payload, &rules) else {
        return;
    };
    assert!(other.len() as u64 <= BYTES_MAX);
    let version = footer::check(&other).expect("a right footer").version;
    assert_eq!(version, dialect.stamp());
    assert_eq!(dialect.way(other[0], version), Way::AsItIs);
    let stream_level = StreamLevel::of_type(payload[0]).min(StreamLevel::of_type(other[0]));
    let rules = DigestRules {
        field_expiries: true,
        now_ms: NOW_MS,
        stream_level,
    };
    let before = of_payload(payload, rules).expect("it was decoded before");
    let after = of_payload(&other, rules).expect("what is encoded can be decoded");
    assert_eq!(before.compare(&after), Comparison::Equal);
}

fuzz_target!(|data: &[u8]| {
    for dialect in dialects() {
        check(data, dialect);
        // Without the footer of the recorded payload that this may come from, in both meanings of type 22.
        let body = data
            .get(..data.len().saturating_sub(10))
            .unwrap_or_default();
        for version in [9, 80] {
            let mut payload = body.to_vec();
            payload.extend_from_slice(&u16::to_le_bytes(version));
            payload.extend_from_slice(&footer::crc64(&payload).to_le_bytes());
            check(&payload, dialect);
        }
    }
});
