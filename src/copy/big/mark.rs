//! What the target says of a value that is put together: how many pieces are there, and which.
//!
//! # Invariant
//!
//! Two marks are equal only if the same pieces came in the same order.

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// Pieces.
    pub pieces: u64,
    /// About the bytes of them.
    pub bytes: u64,
    /// Hash over the digests of all of them.
    chain: [u8; 16],
}

impl Mark {
    /// Nothing is there.
    pub const NOTHING: Self = Self {
        pieces: 0,
        bytes: 0,
        chain: [0; 16],
    };

    /// With one more piece.
    #[must_use]
    pub fn and(self, digest: &[u8; 16], bytes: u64) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.chain);
        hasher.update(digest);
        let mut chain = [0; 16];
        chain.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Self {
            pieces: self.pieces + 1,
            bytes: self.bytes + bytes,
            chain,
        }
    }

    /// As it stands on the target.
    pub fn text(&self) -> String {
        let chain = u128::from_be_bytes(self.chain);
        format!("{} {} {chain:032x}", self.pieces, self.bytes)
    }

    /// Reads back what [`Self::text`] made; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let mark = Self {
            pieces: words.next()?.parse().ok()?,
            bytes: words.next()?.parse().ok()?,
            chain: u128::from_str_radix(words.next()?, 16).ok()?.to_be_bytes(),
        };
        (mark.text() == text).then_some(mark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_comes_back_as_it_was_written_and_nothing_else_is_one() {
        let mark = Mark::NOTHING.and(&[1; 16], 700).and(&[0xff; 16], 3);
        assert_eq!((mark.pieces, mark.bytes), (2, 703));
        assert_eq!(Mark::parse(&mark.text()), Some(mark));
        for text in ["", "1", "1 2", "1 2 x", "1 2 3", "-1 2 3", "1 2 3 4"] {
            assert_eq!(Mark::parse(text), None, "{text}");
        }
    }

    #[test]
    fn other_pieces_and_another_order_make_another_mark() {
        let of = |digests: &[u8]| {
            digests
                .iter()
                .fold(Mark::NOTHING, |mark, digest| mark.and(&[*digest; 16], 1))
        };
        assert_ne!(of(&[1, 2]), of(&[2, 1]));
        assert_ne!(of(&[1, 2]), of(&[1, 3]));
        assert_eq!(of(&[1, 2]), of(&[1, 2]));
    }
}
