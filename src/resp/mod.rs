//! The wire of the data path: RESP2, incremental and without copies.
//!
//! [`Decoder`] turns what a server sent into flat [`Token`]s, whatever pieces it arrived in. The `encode_…` functions
//! append commands to a buffer. [`ErrorCode::of`] says what an error reply means and [`ErrorCode::retry`] what may be
//! done about it.
//!
//! # Invariants
//!
//! Nothing in here does I/O, panics on any input, or reserves memory because a server claimed a length.
#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

mod decode;
mod encode;
mod reply_error;

pub use decode::{ARRAY_ELEMENTS_MAX, BULK_BYTES_MAX, DecodeError, Decoder, LINE_BYTES_MAX, Token};
pub use encode::{
    ExpiryQuery, RestoreOptions, SetExpiry, SetOptions, encode_command, encode_dump, encode_expiry,
    encode_restore_head, encode_restore_tail, encode_scan, encode_set_head, encode_set_tail,
    encode_with_keys,
};
pub use reply_error::{ErrorCode, ReplyError, Retry};
