//! What FUNCTION DUMP answers: the code of each library, one after the other, and a footer.
//!
//! ```text
//! (245 │ code (a string))* │ version (u16, little endian) │ CRC-64 of all before it (u64, little endian)
//! ```

use super::error::DecodeError;
use super::reader::{Reader, Text};
use crate::rdb::footer::FOOTER_BYTES;

/// Announces the code of a library, since Redis 7.0.
pub const LIBRARY: u8 = 245;

/// The code of all libraries. Of none, where there is nothing but a footer.
///
/// # Errors
///
/// [`DecodeError`]; the checksum is not looked at.
pub fn libraries(payload: &[u8]) -> Result<Vec<Vec<u8>>, DecodeError> {
    let too_short = DecodeError::TooShort { len: payload.len() };
    let (body, footer) = payload
        .split_last_chunk::<FOOTER_BYTES>()
        .ok_or(too_short)?;
    let [low, high, ..] = *footer;
    let mut reader = Reader::new(body);
    let mut text = Text::default();
    let mut libraries = Vec::new();
    while reader.len() > 0 {
        match reader.byte()? {
            LIBRARY => libraries.push(reader.string(&mut text)?.to_vec()),
            type_byte => {
                return Err(DecodeError::UnknownType {
                    type_byte,
                    version: u16::from_le_bytes([low, high]),
                });
            }
        }
    }
    Ok(libraries)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rdb::encode::library;
    use crate::rdb::footer;

    #[test]
    fn what_was_encoded_is_read_again() {
        for code in [b"".as_slice(), b"#!lua name=x\n", &[b'-'; 70_000]] {
            let payload = library(code);
            assert!(footer::check(&payload).is_ok());
            assert_eq!(libraries(&payload), Ok(vec![code.to_vec()]));
        }
        assert_eq!(libraries(&[0; FOOTER_BYTES]), Ok(vec![]));
    }

    #[test]
    fn several_follow_each_other_and_what_is_none_is_refused() {
        let two = [b"\xf5\x01a\xf5\x02bc".as_slice(), &[0; FOOTER_BYTES]].concat();
        assert_eq!(libraries(&two), Ok(vec![b"a".to_vec(), b"bc".to_vec()]));
        let other = [b"\xf6\x01a".as_slice(), &[10, 0, 0, 0, 0, 0, 0, 0, 0, 0]].concat();
        let unknown = DecodeError::UnknownType {
            type_byte: 246,
            version: 10,
        };
        assert_eq!(libraries(&other), Err(unknown));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = libraries(&bytes);
        }
    }
}
