//! Why a payload has no value.

/// Why a payload can't be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Nothing but a footer, or less.
    #[error("a payload of {len} bytes is too short to hold a value")]
    TooShort {
        /// The payload's bytes.
        len: usize,
    },
    /// A type that this decoder has not learnt, as newer servers will have. Nothing is known of the payload.
    #[error("values of type {type_byte} are unknown here (payload version {version})")]
    UnknownType {
        /// The type.
        type_byte: u8,
        /// The version in the footer.
        version: u16,
    },
    /// The bytes are not what a server writes for their type.
    #[error("damaged value: {0}")]
    Damaged(#[from] Flaw),
}

/// What is wrong with a damaged value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// Something begins that doesn't end.
    #[error("it ends in the middle")]
    Truncated,
    /// Servers delete a collection with its last element.
    #[error("a collection without elements")]
    Empty,
    /// A length that no server writes.
    #[error("not a length")]
    Length,
    /// A string with an unknown encoding.
    #[error("not a string")]
    String,
    /// A number of elements that is no multiple of what belongs together.
    #[error("an incomplete pair")]
    Incomplete,
    /// The compressed bytes give more or fewer than announced, or refer to what was before them.
    #[error("compressed bytes that can't be uncompressed")]
    Compressed,
    /// More than fits in this machine's memory.
    #[error("compressed bytes that announce more than memory holds")]
    TooLarge,
    /// Not a listpack.
    #[error("a listpack that is none")]
    Listpack,
    /// Not a ziplist.
    #[error("a ziplist that is none")]
    Ziplist,
    /// Not an intset.
    #[error("an intset that is none")]
    Intset,
    /// Not a zipmap.
    #[error("a zipmap that is none")]
    Zipmap,
    /// A list's node that is neither plain nor packed.
    #[error("a list's node of an unknown kind")]
    ListNode,
    /// Not a number, or NaN.
    #[error("a score that is not a number")]
    Score,
    /// An expiry that is not an instant.
    #[error("a field's expiry that is not an instant")]
    Expiry,
    /// A stream's node whose entries are not what it announces.
    #[error("a stream's node that is none")]
    StreamNode,
    /// Entries or pending entries that are not ascending.
    #[error("a stream's ids in the wrong order")]
    StreamOrder,
    /// A consumer's pending entry that its group has not, or that another consumer has.
    #[error("a consumer's pending entry that is not its own")]
    Pending,
    /// A module's value that is no sequence of tokens.
    #[error("a module's value that is none")]
    Module,
    /// A vector set that is not laid out as one.
    #[error("a vector set that is none")]
    VectorSet,
    /// An array that is not laid out as one.
    #[error("an array that is none")]
    Array,
}
