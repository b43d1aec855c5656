//! Which strings are HyperLogLogs, and where they cache their cardinality.
//!
//! ```text
//! "HYLL" │ encoding (0 dense, 1 sparse) │ 3 bytes, unused │ cached cardinality (8 bytes) │ registers
//! ```

/// Bytes of the cached cardinality.
pub const CACHE_BYTES: usize = 8;

const MAGIC: &[u8] = b"HYLL";
const CACHE_AT: usize = 8;
const REGISTERS: usize = 16384;
const REGISTER_BITS: usize = 6;

/// What is before, in and behind the cache; `None`, if the string is no HyperLogLog.
pub fn around_cache(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    if !bytes.starts_with(MAGIC) {
        return None;
    }
    let (before, rest) = bytes.split_at_checked(CACHE_AT)?;
    let (cache, registers) = rest.split_at_checked(CACHE_BYTES)?;
    let valid = match before[MAGIC.len()] {
        0 => registers.len() == REGISTERS * REGISTER_BITS / 8,
        1 => sparse_registers(registers) == Some(REGISTERS),
        _ => false,
    };
    valid.then_some((before, cache, registers))
}

/// How many registers the runs of a sparse representation describe.
fn sparse_registers(runs: &[u8]) -> Option<usize> {
    let mut registers = 0_usize;
    let mut runs = runs.iter();
    while let Some(&run) = runs.next() {
        registers += match run >> 6 {
            // 00xxxxxx: so many zeros.
            0 => usize::from(run & 0x3f) + 1,
            // 01xxxxxx xxxxxxxx: so many zeros.
            1 => (usize::from(run & 0x3f) << 8 | usize::from(*runs.next()?)) + 1,
            // 1vvvvvxx: so many times this value.
            _ => usize::from(run & 0x03) + 1,
        };
    }
    Some(registers)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 16 zeros, a one, 16 366 zeros, a one.
    fn sparse() -> Vec<u8> {
        let mut hll = b"HYLL\x01\0\0\0\x02\0\0\0\0\0\0\0".to_vec();
        hll.extend([0x40, 0x0f, 0x80, 0x7f, 0xed, 0x80]);
        hll
    }

    #[test]
    fn only_a_sound_hyperloglog_has_a_cache() {
        let dense = [
            &b"HYLL\0\0\0\0\x01\x02\x03\x04\x05\x06\x07\x08"[..],
            &[0; 12288],
        ]
        .concat();
        let (before, cache, behind) = around_cache(&dense).expect("it is one");
        assert_eq!((before, cache.len()), (&dense[..8], CACHE_BYTES));
        assert_eq!(behind.len(), 12288);
        assert_eq!(around_cache(&dense[..dense.len() - 1]), None);
        let mut unknown = dense.clone();
        unknown[4] = 2;
        assert_eq!(around_cache(&unknown), None);
        assert_eq!(around_cache(b"HYLL"), None);
        assert_eq!(around_cache(b"HYLL in the middle of a sentence"), None);
        assert_eq!(around_cache(b""), None);
    }

    #[test]
    fn runs_of_a_sparse_one_describe_all_registers() {
        let hll = sparse();
        assert_eq!(sparse_registers(&hll[16..]), Some(16 + 1 + 16_366 + 1));
        assert!(around_cache(&hll).is_some());
        assert_eq!(around_cache(&hll[..hll.len() - 1]), None);
        assert_eq!(around_cache(&[&hll[..], &[0x40]].concat()), None);
    }
}
