//! The payload of a string, made here around its bytes.
//!
//! ```text
//! 0 │ length │ bytes │ version (u16, little endian) │ CRC-64 of all before it (u64, little endian)
//! ```
//!
//! # Invariant
//!
//! Every server that knows RESTORE takes it. A server reads numbers back out of such a string and stores them as it
//! stores its own, so nothing of the source's encoding is lost.

use bytes::{BufMut, BytesMut};
use crc_fast::{CrcAlgorithm, Digest};

use super::footer::{FOOTER_BYTES, crc64};

/// The type byte of a string.
pub const KIND: u8 = 0;

/// Redis up to 3.0 takes no other version, and newer servers of every kind take whatever is not newer than their own.
const VERSION: [u8; 2] = 6_u16.to_le_bytes();

/// The type byte, and a length of eight bytes behind the byte that announces it.
const HEAD_BYTES_MAX: usize = 1 + 1 + 8;

/// What a payload holds before and behind the value, where the value must not be moved.
pub struct Frame {
    head: Head,
    footer: [u8; FOOTER_BYTES],
}

impl Frame {
    /// For this value.
    pub fn around(value: &[u8]) -> Self {
        let head = Head::of(value.len());
        let mut digest = Digest::new(CrcAlgorithm::Crc64Redis);
        digest.update(head.as_slice());
        digest.update(value);
        digest.update(&VERSION);
        let mut footer = [0; FOOTER_BYTES];
        let (version, checksum) = footer.split_at_mut(VERSION.len());
        version.copy_from_slice(&VERSION);
        checksum.copy_from_slice(&digest.finalize().to_le_bytes());
        Self { head, footer }
    }

    /// Type and length, in front of the value.
    pub fn head(&self) -> &[u8] {
        self.head.as_slice()
    }

    /// Version and checksum, behind it.
    pub fn footer(&self) -> [u8; FOOTER_BYTES] {
        self.footer
    }
}

/// Appends the whole payload, the value copied.
pub fn append_payload(out: &mut BytesMut, value: &[u8]) {
    let begin = out.len();
    out.reserve(payload_len(value.len()));
    out.put_slice(Head::of(value.len()).as_slice());
    out.put_slice(value);
    out.put_slice(&VERSION);
    let checksum = crc64(out.get(begin..).unwrap_or_default());
    out.put_u64_le(checksum);
}

/// Bytes of the payload of a string that has `value_len` bytes.
pub fn payload_len(value_len: usize) -> usize {
    let around = Head::of(value_len).len.saturating_add(FOOTER_BYTES);
    value_len.saturating_add(around)
}

/// Type and length.
struct Head {
    bytes: [u8; HEAD_BYTES_MAX],
    len: usize,
}

impl Head {
    fn of(value_len: usize) -> Self {
        const IN_FOUR_BYTES: u8 = 0x80;
        const IN_EIGHT_BYTES: u8 = 0x81;
        let mut head = Self {
            bytes: [0; HEAD_BYTES_MAX],
            len: 0,
        };
        head.push(&[KIND]);
        // The two highest bits of the first byte say how long the length is; all of them are big endian.
        match value_len {
            0..0x40 => head.push(&[value_len as u8]),
            0x40..0x4000 => head.push(&(value_len as u16 | 0x4000).to_be_bytes()),
            0x4000..=0xffff_ffff => {
                head.push(&[IN_FOUR_BYTES]);
                head.push(&(value_len as u32).to_be_bytes());
            }
            _ => {
                head.push(&[IN_EIGHT_BYTES]);
                head.push(&(value_len as u64).to_be_bytes());
            }
        }
        head
    }

    fn push(&mut self, bytes: &[u8]) {
        for (to, from) in self.bytes.iter_mut().skip(self.len).zip(bytes) {
            *to = *from;
            self.len = self.len.saturating_add(1);
        }
    }

    fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::rdb::footer::{Footer, check, payload_type};

    fn payload(value: &[u8]) -> BytesMut {
        let mut out = BytesMut::new();
        append_payload(&mut out, value);
        out
    }

    /// As redis-server 7.0.15 answers to DUMP, but for the version and so the checksum.
    #[test]
    fn it_is_what_dump_answers_for_a_string() {
        assert_eq!(
            payload(b"hello")[..8],
            *b"\x00\x05hello\x06",
            "type, length, value, version"
        );
        let check = |len: usize, head: &[u8]| {
            let payload = payload(&vec![b'x'; len]);
            assert_eq!(payload[..head.len()], *head, "{len}");
            assert_eq!(payload.len(), head.len() + len + FOOTER_BYTES, "{len}");
        };
        check(0, b"\x00\x00");
        check(63, b"\x00\x3f");
        check(64, b"\x00\x40\x40");
        check(16_383, b"\x00\x7f\xff");
        check(16_384, b"\x00\x80\x00\x00\x40\x00");
        check(1 << 20, b"\x00\x80\x00\x10\x00\x00");
        assert_eq!(
            Head::of(1 << 32).as_slice(),
            b"\x00\x81\x00\x00\x00\x01\x00\x00\x00\x00"
        );
    }

    proptest! {
        #[test]
        fn it_passes_for_a_payload_in_one_piece_and_in_three(value in prop_oneof![vec(any::<u8>(), 0..300), vec(any::<u8>(), 16_000..17_000)]) {
            let whole = payload(&value);
            prop_assert_eq!(check(&whole), Ok(Footer { version: 6 }));
            prop_assert_eq!(payload_type(&whole), Some(KIND));
            prop_assert_eq!(whole.len(), payload_len(value.len()));
            let frame = Frame::around(&value);
            let pieces = [frame.head(), &value, &frame.footer()].concat();
            prop_assert_eq!(&whole[..], &pieces[..]);
        }
    }
}
