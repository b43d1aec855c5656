//! The primitives of the format, written: lengths, strings, numbers.

use crate::rdb::footer::crc64;
use crate::rdb::visit::StreamId;

/// A payload that is being written, up to a limit.
pub struct Writer {
    bytes: Vec<u8>,
    bytes_max: usize,
    /// More was written than the limit allows; what there is means nothing then.
    overflowed: bool,
}

/// The place of a length that is not known yet.
#[derive(Clone, Copy)]
pub struct Place(usize);

impl Writer {
    /// A payload of this type, of at most `bytes_max` bytes.
    pub fn new(payload_type: u8, bytes_max: u64) -> Self {
        Self {
            bytes: vec![payload_type],
            bytes_max: usize::try_from(bytes_max).unwrap_or(usize::MAX),
            overflowed: false,
        }
    }

    /// Whether the payload has become larger than it may be.
    pub fn overflowed(&self) -> bool {
        self.overflowed
    }

    /// Says that the payload can't be written for its size.
    pub fn overflow(&mut self) {
        self.overflowed = true;
    }

    /// Gives it another type, as it turns out.
    pub fn set_type(&mut self, payload_type: u8) {
        if let Some(first) = self.bytes.first_mut() {
            *first = payload_type;
        }
    }

    /// Appends bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        if self.bytes.len().saturating_add(bytes.len()) > self.bytes_max {
            self.overflowed = true;
            return;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Appends a length.
    pub fn length(&mut self, length: u64) {
        let [.., six, seven] = length.to_be_bytes();
        match length {
            0..64 => self.raw(&[seven]),
            64..16384 => self.raw(&[0x40 | six, seven]),
            _ => match u32::try_from(length) {
                Ok(length) => {
                    self.raw(&[0x80]);
                    self.raw(&length.to_be_bytes());
                }
                Err(_) => {
                    self.raw(&[0x81]);
                    self.raw(&length.to_be_bytes());
                }
            },
        }
    }

    /// Appends room for a length that is told by [`Self::set`] later.
    pub fn place(&mut self) -> Place {
        self.raw(&[0x80]);
        let place = Place(self.bytes.len());
        self.raw(&[0; 4]);
        place
    }

    /// Tells a length. More than 32 bits hold is more than any payload has room for.
    pub fn set(&mut self, place: Place, length: u64) {
        let (Ok(length), Some(room)) = (
            u32::try_from(length),
            self.bytes
                .get_mut(place.0..)
                .and_then(|rest| rest.first_chunk_mut::<4>()),
        ) else {
            self.overflowed = true;
            return;
        };
        *room = length.to_be_bytes();
    }

    /// Appends a string.
    pub fn string(&mut self, bytes: &[u8]) {
        self.length(bytes.len() as u64);
        self.raw(bytes);
    }

    /// Appends a stream's id as two lengths.
    pub fn id(&mut self, id: StreamId) {
        self.length(id.ms);
        self.length(id.seq);
    }

    /// Appends a stream's id as sixteen bytes.
    pub fn raw_id(&mut self, id: StreamId) {
        self.raw(&id_bytes(id));
    }

    /// The payload, with its footer.
    pub fn finish(mut self, version: u16) -> Vec<u8> {
        append_footer(&mut self.bytes, version);
        self.bytes
    }
}

/// A stream's id as nodes have it.
pub fn id_bytes(id: StreamId) -> [u8; 16] {
    (u128::from(id.ms) << 64 | u128::from(id.seq)).to_be_bytes()
}

/// Appends version and checksum to a type and a value.
pub fn append_footer(bytes: &mut Vec<u8>, version: u16) {
    bytes.extend_from_slice(&version.to_le_bytes());
    let checksum = crc64(bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rdb::footer;

    fn written(write: impl FnOnce(&mut Writer)) -> Vec<u8> {
        let mut writer = Writer::new(0, 1 << 20);
        write(&mut writer);
        assert!(!writer.overflowed());
        let payload = writer.finish(9);
        footer::check(&payload).expect("a right footer");
        payload[1..payload.len() - 10].to_vec()
    }

    #[test]
    fn lengths_take_the_shortest_form() {
        let check = |length: u64, bytes: &[u8]| {
            assert_eq!(written(|writer| writer.length(length)), bytes, "{length}");
        };
        check(0, b"\0");
        check(63, b"\x3f");
        check(64, b"\x40\x40");
        check(16383, b"\x7f\xff");
        check(16384, b"\x80\0\0\x40\0");
        check(u64::from(u32::MAX), b"\x80\xff\xff\xff\xff");
        check(1 << 32, b"\x81\0\0\0\x01\0\0\0\0");
        check(u64::MAX, b"\x81\xff\xff\xff\xff\xff\xff\xff\xff");
    }

    #[test]
    fn a_length_can_be_told_later() {
        let bytes = written(|writer| {
            let place = writer.place();
            writer.string(b"a");
            writer.set(place, 258);
        });
        assert_eq!(bytes, b"\x80\0\0\x01\x02\x01a");
    }

    #[test]
    fn what_is_too_large_is_not_kept() {
        let mut writer = Writer::new(0, 5);
        writer.string(b"abc");
        assert!(!writer.overflowed());
        writer.string(b"d");
        assert!(writer.overflowed());
        assert!(writer.finish(9).len() <= 5 + 10);
    }

    #[test]
    fn ids_are_big_endian() {
        let id = StreamId { ms: 1, seq: 2 };
        assert_eq!(
            id_bytes(id),
            [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2]
        );
    }
}
