//! Hashing of framed parts: what is small in one go, since to set up a hasher would cost more than to hash.

/// Beyond this a hasher takes the parts as they come, so that memory stays bounded.
const BUFFER_BYTES: usize = 16 * 1024;

/// BLAKE3 keys: each kind of thing is hashed under its own, so that no two kinds can be mistaken for each other.
pub mod domain {
    /// A key of BLAKE3's keyed mode.
    pub type Domain = &'static [u8; 32];

    pub const STRING: Domain = b"redknot digest 1: string        ";
    pub const LIST: Domain = b"redknot digest 1: list          ";
    pub const SET: Domain = b"redknot digest 1: set           ";
    pub const SET_MEMBER: Domain = b"redknot digest 1: set member    ";
    pub const ZSET: Domain = b"redknot digest 1: zset          ";
    pub const ZSET_MEMBER: Domain = b"redknot digest 1: zset member   ";
    pub const HASH: Domain = b"redknot digest 1: hash          ";
    pub const FIELD: Domain = b"redknot digest 1: hash field    ";
    pub const EXPIRING_FIELD: Domain = b"redknot digest 1: field, expires";
    pub const STREAM: Domain = b"redknot digest 1: stream        ";
    pub const GROUP: Domain = b"redknot digest 1: stream group  ";
    pub const PRODUCER: Domain = b"redknot digest 1: producer      ";
    pub const ARRAY: Domain = b"redknot digest 1: array         ";
    pub const VECTOR_SET: Domain = b"redknot digest 1: vector set    ";
    pub const VECTOR: Domain = b"redknot digest 1: vector        ";
    pub const KEY: Domain = b"redknot digest 1: key           ";
    pub const KEYSPACE: Domain = b"redknot digest 1: keyspace      ";
    pub const BYTES: Domain = b"redknot digest 1: bytes         ";
}

use domain::Domain;

/// The hash of `bytes` in this domain.
pub fn hash(domain: Domain, bytes: &[u8]) -> [u8; 32] {
    blake3::keyed_hash(domain, bytes).into()
}

/// A hash as a number that can be summed: its first half.
pub fn summand(hash: [u8; 32]) -> u128 {
    let (half, _) = hash
        .split_first_chunk()
        .expect("a half of 32 bytes is 16 bytes");
    u128::from_le_bytes(*half)
}

/// Parts that are hashed together, as if they were one run of bytes. Reusable: [`Self::finish`] leaves it empty.
pub struct Frame {
    domain: Domain,
    buffer: Vec<u8>,
    hasher: Option<Box<blake3::Hasher>>,
}

impl Frame {
    /// An empty one. Nothing is reserved until something is put in.
    pub fn new(domain: Domain) -> Self {
        Self {
            domain,
            buffer: Vec::new(),
            hasher: None,
        }
    }

    /// Empties it, for something of another domain.
    pub fn restart(&mut self, domain: Domain) {
        self.domain = domain;
        self.buffer.clear();
        self.hasher = None;
    }

    /// Appends bytes whose length is told by something else.
    pub fn put(&mut self, bytes: &[u8]) {
        if self.buffer.len() + bytes.len() <= BUFFER_BYTES {
            self.buffer.extend_from_slice(bytes);
            return;
        }
        let hasher = self
            .hasher
            .get_or_insert_with(|| Box::new(blake3::Hasher::new_keyed(self.domain)));
        hasher.update(&self.buffer);
        self.buffer.clear();
        if bytes.len() <= BUFFER_BYTES {
            self.buffer.extend_from_slice(bytes);
        } else {
            hasher.update(bytes);
        }
    }

    /// Appends a number.
    pub fn put_u64(&mut self, number: u64) {
        self.put(&number.to_le_bytes());
    }

    /// Appends bytes behind their length, so that borders count.
    pub fn put_framed(&mut self, bytes: &[u8]) {
        self.put_u64(bytes.len() as u64);
        self.put(bytes);
    }

    /// The hash of everything since the last.
    pub fn finish(&mut self) -> [u8; 32] {
        let hash = match self.hasher.take() {
            None => hash(self.domain, &self.buffer),
            Some(mut hasher) => hasher.update(&self.buffer).finalize().into(),
        };
        self.buffer.clear();
        hash
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Where the buffer overflows must not show.
        #[test]
        fn parts_are_hashed_as_if_they_were_one(sizes in prop::collection::vec(0..3 * BUFFER_BYTES / 2, 0..6)) {
            let mut frame = Frame::new(domain::LIST);
            let mut whole = Vec::new();
            for (index, size) in sizes.iter().enumerate() {
                let part = vec![index as u8; *size];
                frame.put(&part);
                whole.extend(part);
            }
            prop_assert_eq!(frame.finish(), hash(domain::LIST, &whole));
            prop_assert_eq!(frame.finish(), hash(domain::LIST, b""));
        }
    }
}
