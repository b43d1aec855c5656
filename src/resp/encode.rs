//! Appends commands to a buffer.
//!
//! The commands that are sent once a key have functions of their own: constant beginnings, numbers without a detour
//! through a `String`, and no allocation once the buffer has grown to its working size.

use bytes::{BufMut, BytesMut};

/// Room for the header of a bulk string: `$`, 20 digits, and the CRLFs around the bytes.
const BULK_FRAME_BYTES: usize = 1 + 20 + 2 + 2;

/// What RESTORE is to do beside restoring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestoreOptions {
    /// Replace a key that is there. Without it the target answers BUSYKEY.
    pub replace: bool,
    /// The expiry is a moment in Unix milliseconds, not a time from now.
    pub absttl: bool,
}

/// What SET is to do beside setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetOptions {
    /// Keep a key that is there; the target answers nil then.
    pub only_if_absent: bool,
    /// When the key expires.
    pub expiry: SetExpiry,
}

/// When a key that is set expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetExpiry {
    /// Never.
    Never,
    /// After this many milliseconds; not 0.
    In(u64),
    /// At this moment in Unix milliseconds (Redis 6.2 and newer).
    At(u64),
}

/// How the source is asked for a key's expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpiryQuery {
    /// PTTL: milliseconds from the moment of the answer; -1 none, -2 no such key.
    PTtl,
    /// PEXPIRETIME (Redis 7.0 and newer): Unix milliseconds; -1 none, -2 no such key.
    PExpireTime,
}

/// Appends any command. `args` begins with its name.
pub fn encode_command(out: &mut BytesMut, args: &[&[u8]]) {
    out.put_u8(b'*');
    put_number(out, args.len() as u64);
    out.put_slice(b"\r\n");
    for arg in args {
        put_bulk(out, arg);
    }
}

/// Appends RESTORE up to its payload, whose `payload_len` bytes must follow, and then [`encode_restore_tail`] with the
/// same options.
///
/// `ttl_ms` is 0 for a key that never expires, also with `absttl`.
pub fn encode_restore_head(
    out: &mut BytesMut,
    key: &[u8],
    ttl_ms: u64,
    payload_len: usize,
    options: RestoreOptions,
) {
    out.put_slice(match (options.replace, options.absttl) {
        (false, false) => b"*4\r\n$7\r\nRESTORE\r\n",
        (true, true) => b"*6\r\n$7\r\nRESTORE\r\n",
        (true, false) | (false, true) => b"*5\r\n$7\r\nRESTORE\r\n",
    });
    put_bulk(out, key);
    let mut digits = itoa::Buffer::new();
    put_bulk(out, digits.format(ttl_ms).as_bytes());
    put_bulk_head(out, payload_len);
}

/// Appends what follows RESTORE's payload.
pub fn encode_restore_tail(out: &mut BytesMut, options: RestoreOptions) {
    out.put_slice(match (options.replace, options.absttl) {
        (false, false) => b"\r\n",
        (true, false) => b"\r\n$7\r\nREPLACE\r\n",
        (false, true) => b"\r\n$6\r\nABSTTL\r\n",
        (true, true) => b"\r\n$7\r\nREPLACE\r\n$6\r\nABSTTL\r\n",
    });
}

/// Appends SET up to its value, whose `value_len` bytes must follow, and then [`encode_set_tail`] with the same options.
pub fn encode_set_head(out: &mut BytesMut, key: &[u8], value_len: usize, options: SetOptions) {
    let expires = options.expiry != SetExpiry::Never;
    out.put_slice(match (options.only_if_absent, expires) {
        (false, false) => b"*3\r\n$3\r\nSET\r\n",
        (true, false) => b"*4\r\n$3\r\nSET\r\n",
        (false, true) => b"*5\r\n$3\r\nSET\r\n",
        (true, true) => b"*6\r\n$3\r\nSET\r\n",
    });
    put_bulk(out, key);
    put_bulk_head(out, value_len);
}

/// Appends what follows SET's value.
pub fn encode_set_tail(out: &mut BytesMut, options: SetOptions) {
    out.put_slice(match options.only_if_absent {
        false => b"\r\n",
        true => b"\r\n$2\r\nNX\r\n",
    });
    let (unit, ms) = match options.expiry {
        SetExpiry::Never => return,
        SetExpiry::In(ms) => (&b"$2\r\nPX\r\n"[..], ms),
        SetExpiry::At(ms) => (&b"$4\r\nPXAT\r\n"[..], ms),
    };
    out.put_slice(unit);
    put_bulk(out, itoa::Buffer::new().format(ms).as_bytes());
}

/// Appends DUMP.
pub fn encode_dump(out: &mut BytesMut, key: &[u8]) {
    out.put_slice(b"*2\r\n$4\r\nDUMP\r\n");
    put_bulk(out, key);
}

/// Appends a command such as MGET, whose arguments are nothing but keys.
pub fn encode_with_keys(
    out: &mut BytesMut,
    command: &[u8],
    keys: impl ExactSizeIterator<Item: AsRef<[u8]>>,
) {
    out.put_u8(b'*');
    put_number(out, (keys.len() as u64).saturating_add(1));
    out.put_slice(b"\r\n");
    put_bulk(out, command);
    for key in keys {
        put_bulk(out, key.as_ref());
    }
}

/// Appends the question for a key's expiry.
pub fn encode_expiry(out: &mut BytesMut, ask: ExpiryQuery, key: &[u8]) {
    out.put_slice(match ask {
        ExpiryQuery::PTtl => b"*2\r\n$4\r\nPTTL\r\n",
        ExpiryQuery::PExpireTime => b"*2\r\n$11\r\nPEXPIRETIME\r\n",
    });
    put_bulk(out, key);
}

/// Appends `SCAN cursor COUNT count`, narrowed to keys that match a glob or have a type where they are given.
pub fn encode_scan(
    out: &mut BytesMut,
    cursor: u64,
    count: u32,
    match_glob: Option<&[u8]>,
    key_type: Option<&str>,
) {
    let mut cursor_digits = itoa::Buffer::new();
    let mut count_digits = itoa::Buffer::new();
    let mut args: Vec<&[u8]> = vec![
        b"SCAN",
        cursor_digits.format(cursor).as_bytes(),
        b"COUNT",
        count_digits.format(count).as_bytes(),
    ];
    if let Some(glob) = match_glob {
        args.extend([&b"MATCH"[..], glob]);
    }
    if let Some(key_type) = key_type {
        args.extend([&b"TYPE"[..], key_type.as_bytes()]);
    }
    encode_command(out, &args);
}

fn put_number(out: &mut BytesMut, number: u64) {
    out.put_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn put_bulk_head(out: &mut BytesMut, len: usize) {
    out.put_u8(b'$');
    put_number(out, len as u64);
    out.put_slice(b"\r\n");
}

fn put_bulk(out: &mut BytesMut, bytes: &[u8]) {
    out.reserve(bytes.len().saturating_add(BULK_FRAME_BYTES));
    put_bulk_head(out, bytes.len());
    out.put_slice(bytes);
    out.put_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::resp::{Decoder, Token};

    fn check(encode: impl FnOnce(&mut BytesMut), expected: &str) {
        let mut out = BytesMut::new();
        encode(&mut out);
        assert_eq!(String::from_utf8_lossy(&out), expected);
    }

    #[test]
    fn commands_are_arrays_of_strings() {
        check(
            |out| encode_command(out, &[b"PING"]),
            "*1\r\n$4\r\nPING\r\n",
        );
        check(
            |out| encode_command(out, &[b"SET", b"", b"0123456789"]),
            "*3\r\n$3\r\nSET\r\n$0\r\n\r\n$10\r\n0123456789\r\n",
        );
        check(
            |out| encode_dump(out, b"user:1"),
            "*2\r\n$4\r\nDUMP\r\n$6\r\nuser:1\r\n",
        );
        check(
            |out| encode_with_keys(out, b"MGET", [&b"user:1"[..], b""].into_iter()),
            "*3\r\n$4\r\nMGET\r\n$6\r\nuser:1\r\n$0\r\n\r\n",
        );
        check(
            |out| encode_expiry(out, ExpiryQuery::PTtl, b"k"),
            "*2\r\n$4\r\nPTTL\r\n$1\r\nk\r\n",
        );
        check(
            |out| encode_expiry(out, ExpiryQuery::PExpireTime, b"k"),
            "*2\r\n$11\r\nPEXPIRETIME\r\n$1\r\nk\r\n",
        );
    }

    #[test]
    fn scan_says_only_what_was_asked_for() {
        check(
            |out| encode_scan(out, 0, 500, None, None),
            "*4\r\n$4\r\nSCAN\r\n$1\r\n0\r\n$5\r\nCOUNT\r\n$3\r\n500\r\n",
        );
        check(
            |out| encode_scan(out, u64::MAX, 10, Some(b"user:*"), Some("hash")),
            "*8\r\n$4\r\nSCAN\r\n$20\r\n18446744073709551615\r\n$5\r\nCOUNT\r\n$2\r\n10\r\n\
             $5\r\nMATCH\r\n$6\r\nuser:*\r\n$4\r\nTYPE\r\n$4\r\nhash\r\n",
        );
    }

    #[test]
    fn restore_announces_as_many_arguments_as_it_has() {
        for (replace, absttl, expected) in [
            (
                false,
                false,
                "*4\r\n$7\r\nRESTORE\r\n$1\r\nk\r\n$1\r\n0\r\n$3\r\nabc\r\n",
            ),
            (
                true,
                false,
                "*5\r\n$7\r\nRESTORE\r\n$1\r\nk\r\n$1\r\n0\r\n$3\r\nabc\r\n$7\r\nREPLACE\r\n",
            ),
            (
                false,
                true,
                "*5\r\n$7\r\nRESTORE\r\n$1\r\nk\r\n$1\r\n0\r\n$3\r\nabc\r\n$6\r\nABSTTL\r\n",
            ),
            (
                true,
                true,
                "*6\r\n$7\r\nRESTORE\r\n$1\r\nk\r\n$1\r\n0\r\n$3\r\nabc\r\n$7\r\nREPLACE\r\n$6\r\nABSTTL\r\n",
            ),
        ] {
            let options = RestoreOptions { replace, absttl };
            check(
                |out| {
                    encode_restore_head(out, b"k", 0, 3, options);
                    out.put_slice(b"abc");
                    encode_restore_tail(out, options);
                },
                expected,
            );
        }
    }

    #[test]
    fn set_has_the_options_it_is_given() {
        let set = |only_if_absent, expiry| SetOptions {
            only_if_absent,
            expiry,
        };
        for (options, wanted) in [
            (
                set(false, SetExpiry::Never),
                "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$3\r\nabc\r\n",
            ),
            (
                set(true, SetExpiry::Never),
                "*4\r\n$3\r\nSET\r\n$1\r\nk\r\n$3\r\nabc\r\n$2\r\nNX\r\n",
            ),
            (
                set(false, SetExpiry::In(70)),
                "*5\r\n$3\r\nSET\r\n$1\r\nk\r\n$3\r\nabc\r\n$2\r\nPX\r\n$2\r\n70\r\n",
            ),
            (
                set(true, SetExpiry::At(1_700_000_000_000)),
                "*6\r\n$3\r\nSET\r\n$1\r\nk\r\n$3\r\nabc\r\n$2\r\nNX\r\n$4\r\nPXAT\r\n$13\r\n1700000000000\r\n",
            ),
        ] {
            check(
                |out| {
                    encode_set_head(out, b"k", 3, options);
                    out.put_slice(b"abc");
                    encode_set_tail(out, options);
                },
                wanted,
            );
        }
    }

    proptest! {
        /// A command has the shape of a reply, so our own decoder can read it back.
        #[test]
        fn restore_carries_any_key_and_payload(
            key in vec(any::<u8>(), 0..300),
            payload in vec(any::<u8>(), 0..300),
            ttl_ms in any::<u64>(),
            replace in any::<bool>(),
            absttl in any::<bool>(),
        ) {
            let options = RestoreOptions { replace, absttl };
            let mut out = BytesMut::new();
            encode_restore_head(&mut out, &key, ttl_ms, payload.len(), options);
            out.put_slice(&payload);
            encode_restore_tail(&mut out, options);

            let mut args = vec![b"RESTORE".to_vec(), key, ttl_ms.to_string().into_bytes(), payload];
            args.extend(replace.then(|| b"REPLACE".to_vec()));
            args.extend(absttl.then(|| b"ABSTTL".to_vec()));
            let mut decoder = Decoder::new();
            prop_assert_eq!(decoder.next(&mut out), Ok(Some(Token::Array(args.len()))));
            for arg in args {
                prop_assert_eq!(decoder.next(&mut out), Ok(Some(Token::Bulk(arg.into()))));
            }
            prop_assert!(out.is_empty());
        }
    }
}
