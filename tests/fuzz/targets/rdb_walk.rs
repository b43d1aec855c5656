//! Any bytes as a payload, and any bytes as what stands in front of a footer.
#![no_main]

use libfuzzer_sys::fuzz_target;
use redknot::rdb::decode::{DecodeError, Decoder};
use redknot::rdb::footer;
use redknot_fuzz::contract::Contract;

/// Walks a payload twice: with new memory, and with memory that a decoder kept.
fn walk(payload: &[u8], decoder: &mut Decoder) {
    let mut told = Contract::default();
    let first = decoder.walk(payload, &mut told);
    if let Ok(walked) = first {
        told.end();
        assert!(walked.trailing_bytes < payload.len());
    }
    let mut again = Contract::default();
    assert_eq!(decoder.walk(payload, &mut again), first);
    assert_eq!(again.elements, told.elements);
}

fuzz_target!(|data: &[u8]| {
    let mut decoder = Decoder::new();
    walk(data, &mut decoder);
    let _ = footer::check(data);
    // Without the footer of the recorded payload that this may come from.
    let body = data.get(..data.len().saturating_sub(10)).unwrap_or_default();
    for version in [9, 80] {
        let mut payload = body.to_vec();
        payload.extend_from_slice(&u16::to_le_bytes(version));
        payload.extend_from_slice(&footer::crc64(&payload).to_le_bytes());
        if body.is_empty() {
            let too_short = DecodeError::TooShort { len: payload.len() };
            assert_eq!(decoder.walk(&payload, &mut Contract::default()), Err(too_short));
            continue;
        }
        assert_eq!(footer::check(&payload).map(|footer| footer.version), Ok(version));
        walk(&payload, &mut decoder);
    }
});
