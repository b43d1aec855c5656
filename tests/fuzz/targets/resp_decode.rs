//! Any bytes as replies, whole and in pieces: the same tokens, or the same error.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use redknot::resp::{DecodeError, Decoder, Token};

/// All tokens of `pieces`, and the error that ended them.
fn decode<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Token>, Option<DecodeError>) {
    let mut decoder = Decoder::new();
    let mut input = BytesMut::new();
    let mut tokens = Vec::new();
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            match decoder.next(&mut input) {
                Ok(Some(token)) => tokens.push(token),
                Ok(None) => {
                    assert!(decoder.bytes_wanted() > 0);
                    break;
                }
                Err(error) => return (tokens, Some(error)),
            }
        }
    }
    (tokens, None)
}

fuzz_target!(|data: &[u8]| {
    let Some((&piece, replies)) = data.split_first() else {
        return;
    };
    let whole = decode(std::iter::once(replies));
    let pieces = decode(replies.chunks(usize::from(piece) + 1));
    assert_eq!(whole.0, pieces.0);
    // What an error shows of the input depends on how much of it has arrived.
    assert_eq!(whole.1.is_some(), pieces.1.is_some());
});
