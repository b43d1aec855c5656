//! The last ten bytes of a DUMP payload: a version and a checksum.
//!
//! ```text
//! type (1 byte) │ value │ version (u16, little endian) │ CRC-64 of all before it (u64, little endian)
//! ```
//!
//! Whether a target accepts a payload depends on the version; it must be read here and never inferred from the server's
//! own version, because forks and providers stamp what they like.

/// Version and checksum.
pub const FOOTER_BYTES: usize = 2 + 8;

/// Since this version Redis (8.6) writes a checksum of 0 where it has none, and accepts it.
const VERSION_WITH_OPTIONAL_CHECKSUM: u16 = 13;

/// From this version on, numbers are Valkey's (9.0 and newer), which does not accept a checksum of 0.
pub(super) const VALKEY_VERSION: u16 = 80;

/// What the end of a payload says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footer {
    /// The version of the format, as the server that made the payload stamped it.
    pub version: u16,
}

/// Why a payload can't be what a server sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FooterError {
    /// Less than a type byte and a footer.
    #[error("a payload of {len} bytes is too short to have a footer")]
    TooShort {
        /// The payload's bytes.
        len: usize,
    },
    /// The payload was damaged on its way.
    #[error("wrong checksum in a payload: it says {stored:016x}, its bytes give {computed:016x}")]
    WrongChecksum {
        /// What the footer says.
        stored: u64,
        /// What it should say.
        computed: u64,
    },
}

/// Reads a payload's footer, after making sure that the payload is intact.
///
/// # Errors
///
/// The payload is too short, or its checksum is wrong. 0 passes as "no checksum" where the version allows that.
pub fn check(payload: &[u8]) -> Result<Footer, FooterError> {
    let too_short = FooterError::TooShort { len: payload.len() };
    let (checked, checksum) = payload.split_last_chunk().ok_or(too_short)?;
    let (body, version) = checked.split_last_chunk().ok_or(too_short)?;
    if body.is_empty() {
        return Err(too_short);
    }
    let version = u16::from_le_bytes(*version);
    let stored = u64::from_le_bytes(*checksum);
    let has_none =
        stored == 0 && (VERSION_WITH_OPTIONAL_CHECKSUM..VALKEY_VERSION).contains(&version);
    if !has_none {
        let computed = crc64(checked);
        if stored != computed {
            return Err(FooterError::WrongChecksum { stored, computed });
        }
    }
    Ok(Footer { version })
}

/// The byte that says how the value is encoded; `None` where there is nothing but a footer.
///
/// `0xf3` begins a block of key metadata (Redis 8.6 and newer, with modules), behind which the type's own byte follows.
pub fn payload_type(payload: &[u8]) -> Option<u8> {
    (payload.len() > FOOTER_BYTES).then(|| payload.first().copied())?
}

/// The version in the footer; `None` where there is nothing but a footer.
pub fn version(payload: &[u8]) -> Option<u16> {
    let (body, footer) = payload.split_last_chunk::<FOOTER_BYTES>()?;
    let (version, _) = footer.split_first_chunk()?;
    (!body.is_empty()).then_some(u16::from_le_bytes(*version))
}

/// Redis' CRC-64: Jones' polynomial, reflected, from 0, not inverted at the end.
pub fn crc64(bytes: &[u8]) -> u64 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Redis, bytes)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// What DUMP of redis-server 7.0.15 answered.
    const PAYLOADS: [(&str, u8, &[u8]); 7] = [
        ("SET s hello", 0, b"\x00\x05hello\n\x00cr\xdfve4 \n"),
        ("SET n 12345", 0, b"\x00\xc190\n\x00\x9d\x94\xea'\x93\xfc\x08\xb9"),
        (
            "RPUSH l a b c",
            18,
            b"\x12\x01\x02\x10\x10\x00\x00\x00\x03\x00\x81a\x02\x81b\x02\x81c\x02\xff\n\x00\xc8\x18\xb9\x0c\x953R\x9e",
        ),
        (
            "HSET h f v g 42",
            16,
            b"\x10\x12\x12\x00\x00\x00\x04\x00\x81f\x02\x81v\x02\x81g\x02*\x01\xff\n\x00 \x15EmV\xba\xd1\x9b",
        ),
        (
            "ZADD z 1.5 m",
            17,
            b"\x11\x0f\x0f\x00\x00\x00\x02\x00\x81m\x02\x831.5\x04\xff\n\x00I\xd9\x87`x%N\x8a",
        ),
        (
            "SADD st 1 2 3",
            11,
            b"\x0b\x0e\x02\x00\x00\x00\x03\x00\x00\x00\x01\x00\x02\x00\x03\x00\n\x00\xa5\x02\\\xe2mnM\x1b",
        ),
        (
            "XADD x 1-1 f v; XGROUP CREATE x g 0",
            19,
            b"\x13\x01\x10\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01\x1d\x1d\x00\x00\x00\n\x00\
              \x01\x01\x00\x01\x01\x01\x81f\x02\x00\x01\x02\x01\x00\x01\x00\x01\x81v\x02\x04\x01\xff\x01\x01\x01\x01\
              \x01\x00\x00\x01\x01\x01g\x00\x00\x81\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\n\x00\xff\x9a\xd3KH\xb2h\
              \xce",
        ),
    ];

    /// Bit by bit, as the definition has it.
    fn crc64_by_definition(bytes: &[u8]) -> u64 {
        const POLYNOMIAL: u64 = 0xad93_d235_94c9_35a9;
        bytes.iter().fold(0, |crc, &byte| {
            (0..8).fold(crc ^ u64::from(byte), |crc, _| {
                if crc & 1 == 1 {
                    (crc >> 1) ^ POLYNOMIAL.reverse_bits()
                } else {
                    crc >> 1
                }
            })
        })
    }

    fn with_footer(body: &[u8], version: u16, checksum: Option<u64>) -> Vec<u8> {
        let mut payload = body.to_vec();
        payload.extend(version.to_le_bytes());
        let checksum = checksum.unwrap_or_else(|| crc64_by_definition(&payload));
        payload.extend(checksum.to_le_bytes());
        payload
    }

    #[test]
    fn the_checksum_is_redis_own() {
        assert_eq!(crc64(b"123456789"), 0xe9c6_d914_c4b8_d9ca);
        assert_eq!(crc64(b""), 0);
    }

    #[test]
    fn real_payloads_pass_and_none_passes_with_a_bit_turned() {
        for (made_by, kind, payload) in PAYLOADS {
            assert_eq!(check(payload), Ok(Footer { version: 10 }), "{made_by}");
            assert_eq!(payload_type(payload), Some(kind), "{made_by}");
            assert_eq!(version(payload), Some(10), "{made_by}");
            for bit in 0..payload.len() * 8 {
                let mut damaged = payload.to_vec();
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert!(
                    matches!(check(&damaged), Err(FooterError::WrongChecksum { .. })),
                    "{made_by}: bit {bit}"
                );
            }
        }
    }

    #[test]
    fn a_payload_has_a_type_and_a_footer() {
        for len in 0..=FOOTER_BYTES {
            let payload = vec![0; len];
            assert_eq!(check(&payload), Err(FooterError::TooShort { len }));
            assert_eq!(payload_type(&payload), None);
            assert_eq!(version(&payload), None);
        }
        let shortest = with_footer(b"\x00", 6, None);
        assert_eq!(check(&shortest), Ok(Footer { version: 6 }));
        assert_eq!(payload_type(&shortest), Some(0));
    }

    #[test]
    fn no_checksum_passes_only_where_the_version_allows_it() {
        let check = |version: u16, passes: bool| {
            let result = check(&with_footer(b"\x00\x01a", version, Some(0)));
            assert_eq!(result.is_ok(), passes, "version {version}: {result:?}");
        };
        check(6, false);
        check(12, false);
        check(13, true);
        check(14, true);
        check(79, true);
        check(80, false);
        check(u16::MAX, false);
    }

    #[test]
    fn damage_says_both_checksums() {
        let Err(error) = check(b"\x00\x05hellO\n\x00cr\xdfve4 \n") else {
            panic!("damage passed");
        };
        assert_eq!(
            error.to_string(),
            "wrong checksum in a payload: it says 0a20346576df7263, its bytes give e10cf9edc9d4168c"
        );
    }

    proptest! {
        /// Lengths on both sides of every block size that a vectorised checksum may switch at.
        #[test]
        fn the_checksum_is_the_defined_one_at_any_length_and_alignment(bytes in vec(any::<u8>(), 0..2000), from in 0usize..64) {
            let bytes = bytes.get(from..).unwrap_or_default();
            prop_assert_eq!(crc64(bytes), crc64_by_definition(bytes));
        }

        #[test]
        fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..64)) {
            let _ = (check(&bytes), payload_type(&bytes));
        }
    }
}
