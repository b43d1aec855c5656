//! Two bytes of length, and compressed bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use redknot::rdb::decode::{LZF_EXPANSION_MAX, lzf_decompress};

fuzz_target!(|data: &[u8]| {
    let Some((len, compressed)) = data.split_first_chunk() else {
        return;
    };
    let len = usize::from(u16::from_le_bytes(*len));
    let mut output = Vec::new();
    let result = lzf_decompress(compressed, len, &mut output);
    assert!(output.capacity() <= compressed.len() * LZF_EXPANSION_MAX);
    if result.is_ok() {
        assert_eq!(output.len(), len);
        let mut again = b"what was there before".to_vec();
        assert!(lzf_decompress(compressed, len, &mut again).is_ok());
        assert_eq!(again, output);
    }
    // At most one length is right.
    let mut other = Vec::new();
    let shorter = lzf_decompress(compressed, len.saturating_sub(1), &mut other);
    assert!(result.is_err() || shorter.is_err());
});
