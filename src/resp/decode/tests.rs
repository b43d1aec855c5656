//! Whatever pieces a reply arrives in, the same tokens come out; whatever else arrives, an error does.

use bytes::{BufMut, Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// Decodes `pieces`, each of which arrives after everything before it has been decoded as far as it goes.
///
/// Checks on the way that `bytes_wanted` is a lower bound, that no byte is searched twice and that nothing is reserved.
fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<Token>, DecodeError> {
    let mut decoder = Decoder::new();
    let mut input = BytesMut::new();
    let mut tokens = Vec::new();
    let mut total = 0;
    let mut wanted = 0;
    for piece in pieces {
        input.extend_from_slice(piece);
        total += piece.len();
        let mut taken = false;
        loop {
            let capacity = input.capacity();
            let token = decoder.next(&mut input);
            assert!(
                input.capacity() <= capacity,
                "the decoder reserved memory for {piece:?}"
            );
            assert!(
                decoder.bytes_searched <= total,
                "searched {} bytes of {total}",
                decoder.bytes_searched
            );
            let Some(token) = token? else { break };
            assert!(
                taken || piece.len() >= wanted,
                "{wanted} bytes were wanted, {} sufficed",
                piece.len()
            );
            taken = true;
            tokens.push(token);
        }
        assert!(decoder.bytes_wanted() >= 1);
        wanted = decoder.bytes_wanted();
    }
    Ok(tokens)
}

fn encode(tokens: &[Token]) -> Vec<u8> {
    let mut out = Vec::new();
    for token in tokens {
        match token {
            Token::Simple(text) => out.put_slice(&[b"+", &text[..], b"\r\n"].concat()),
            Token::Error(text) => out.put_slice(&[b"-", &text[..], b"\r\n"].concat()),
            Token::Integer(number) => out.put_slice(format!(":{number}\r\n").as_bytes()),
            Token::Bulk(bytes) => {
                out.put_slice(format!("${}\r\n", bytes.len()).as_bytes());
                out.put_slice(bytes);
                out.put_slice(b"\r\n");
            }
            Token::Skipped(bytes) => panic!("{bytes} bytes that nobody has any more"),
            Token::Null => out.put_slice(b"$-1\r\n"),
            Token::Array(len) => out.put_slice(format!("*{len}\r\n").as_bytes()),
        }
    }
    out
}

fn simple(text: &'static str) -> Token {
    Token::Simple(Bytes::from_static(text.as_bytes()))
}

fn bulk(bytes: &'static [u8]) -> Token {
    Token::Bulk(Bytes::from_static(bytes))
}

#[test]
fn replies_become_flat_tokens() {
    let check = |input: &[u8], expected: &[Token]| {
        assert_eq!(decode([input]).as_deref(), Ok(expected), "{input:?}");
    };
    check(b"", &[]);
    check(b"+OK\r\n", &[simple("OK")]);
    check(b"+\r\n", &[simple("")]);
    check(b"+PONG\r\n+OK\r\n", &[simple("PONG"), simple("OK")]);
    check(
        b"-ERR no\r\n",
        &[Token::Error(Bytes::from_static(b"ERR no"))],
    );
    check(b":0\r\n", &[Token::Integer(0)]);
    check(b":-1\r\n", &[Token::Integer(-1)]);
    check(b":+7\r\n", &[Token::Integer(7)]);
    check(b":9223372036854775807\r\n", &[Token::Integer(i64::MAX)]);
    check(b":-9223372036854775808\r\n", &[Token::Integer(i64::MIN)]);
    check(b"$0\r\n\r\n", &[bulk(b"")]);
    check(b"$4\r\n\r\n\r\n\r\n", &[bulk(b"\r\n\r\n")]);
    check(b"$-1\r\n", &[Token::Null]);
    check(b"*-1\r\n", &[Token::Null]);
    check(b"*0\r\n", &[Token::Array(0)]);
    check(
        b"*2\r\n$2\r\n17\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n:5\r\n",
        &[
            Token::Array(2),
            bulk(b"17"),
            Token::Array(2),
            bulk(b"a"),
            bulk(b"b"),
            Token::Integer(5),
        ],
    );
}

/// A line is read in one way near the end of the input and in another before it.
#[test]
fn numbers_are_the_same_with_and_without_input_behind_them() {
    let behind = [b"+".as_slice(), &[b'x'; 40], b"\r\n"].concat();
    for text in [
        "",
        "-",
        "+",
        "--1",
        "0",
        "-0",
        "007",
        "1",
        "+1",
        "-1",
        "12a",
        "1\r",
        "123456789012345678",
        "1234567890123456789",
        "-123456789012345678",
        "-1234567890123456789",
        "9223372036854775807",
        "9223372036854775808",
        "-9223372036854775808",
        "-9223372036854775809",
        "99999999999999999999999",
    ] {
        for kind in [":", "$", "*"] {
            let line = format!("{kind}{text}\r\n").into_bytes();
            let first = |input: &[u8]| Decoder::new().next(&mut BytesMut::from(input));
            let followed = [&line[..], &behind].concat();
            let alone = first(&line);
            // A string takes what is behind it for itself, or waits for more.
            if kind == "$" && !matches!(alone, Err(_) | Ok(Some(Token::Null))) {
                continue;
            }
            assert_eq!(first(&followed), alone, "{}", line.escape_ascii());
        }
    }
    for len in [1, 40, 1000] {
        let input = [format!("${len}\r\n").as_bytes(), &vec![b'y'; len], b"\r\n"].concat();
        assert_eq!(
            decode([&input[..]]),
            Ok(vec![Token::Bulk(vec![b'y'; len].into())])
        );
    }
}

#[test]
fn what_is_not_resp_is_refused_and_stays_refused() {
    let check = |input: &[u8], expected: DecodeError, said: &str| {
        assert_eq!(expected.to_string(), said);
        let mut decoder = Decoder::new();
        let mut buffer = BytesMut::from(input);
        assert_eq!(decoder.next(&mut buffer), Err(expected), "{input:?}");
        buffer.extend_from_slice(b"\r\n+OK\r\n");
        assert!(
            decoder.next(&mut buffer).is_err(),
            "{input:?} was forgotten"
        );
    };
    check(
        b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n",
        DecodeError::UnknownType(Bytes::from_static(
            b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/pla",
        )),
        "not a Redis reply: \"HTTP/1.1 400 Bad Request\\r\\nContent-Type: text/pla\"",
    );
    check(
        b"\x15\x03\x01\x00\x02\x02",
        DecodeError::UnknownType(Bytes::from_static(b"\x15\x03\x01\x00\x02\x02")),
        "not a Redis reply: \"\\x15\\x03\\x01\\x00\\x02\\x02\"",
    );
    let crlf = "a reply's line or string does not end with CRLF";
    check(b":1\n", DecodeError::MissingCrlf, crlf);
    check(b"+\n", DecodeError::MissingCrlf, crlf);
    check(b"$2\r\nabc\r\n", DecodeError::MissingCrlf, crlf);
    check(b"$2\r\nab\n\r", DecodeError::MissingCrlf, crlf);
    let bad = |text: &'static str| DecodeError::BadNumber(Bytes::from_static(text.as_bytes()));
    check(b":\r\n", bad(""), "not a number in a reply: \"\"");
    check(b":-\r\n", bad("-"), "not a number in a reply: \"-\"");
    check(b":1.5\r\n", bad("1.5"), "not a number in a reply: \"1.5\"");
    check(b"$ 1\r\n", bad(" 1"), "not a number in a reply: \" 1\"");
    check(
        b":9223372036854775808\r\n",
        bad("9223372036854775808"),
        "not a number in a reply: \"9223372036854775808\"",
    );
    check(
        b"$-2\r\n",
        DecodeError::NegativeLength(-2),
        "a reply announces a negative length: -2",
    );
    check(
        b"*-2\r\n",
        DecodeError::NegativeLength(-2),
        "a reply announces a negative length: -2",
    );
    check(
        b"$4294967297\r\n",
        DecodeError::BulkTooLong((4 << 30) + 1),
        "a reply announces a string of 4294967297 bytes, more than 4294967296",
    );
    check(
        b"*4294967296\r\n",
        DecodeError::ArrayTooLong(4 << 30),
        "a reply announces an array of 4294967296 elements, more than 4294967295",
    );
    check(
        b":00000000000000000000000000000000",
        DecodeError::LineTooLong(32),
        "a reply's line does not end within 32 bytes",
    );
    check(
        &[b"-".as_slice(), &[b'x'; LINE_BYTES_MAX]].concat(),
        DecodeError::LineTooLong(LINE_BYTES_MAX),
        "a reply's line does not end within 65536 bytes",
    );
}

#[test]
fn the_biggest_string_is_waited_for_without_reserving_it() {
    let mut decoder = Decoder::new();
    let mut input = BytesMut::from(&b"$4294967296\r\nabc"[..]);
    assert_eq!(decoder.next(&mut input), Ok(None));
    assert_eq!(decoder.bytes_wanted() as u64, BULK_BYTES_MAX + 2 - 3);
    assert!(input.capacity() < 1024);
}

#[test]
fn a_long_line_is_searched_once_though_it_comes_byte_by_byte() {
    let line = [b"-".as_slice(), &[b'x'; 60_000], b"\r\n"].concat();
    let text = Bytes::copy_from_slice(&line[1..60_001]);
    assert_eq!(decode(line.chunks(1)), Ok(vec![Token::Error(text)]));
}

#[test]
fn a_string_is_a_slice_of_the_input() {
    let mut input = BytesMut::from(&b"$5\r\nhello\r\n:1\r\n"[..]);
    let at = input[4..].as_ptr();
    let Ok(Some(Token::Bulk(bytes))) = Decoder::new().next(&mut input) else {
        panic!("no string");
    };
    assert_eq!(bytes.as_ptr(), at);
    assert_eq!(&input[..], b":1\r\n");
}

/// Every way to cut a stream of every kind of token once and twice.
#[test]
fn no_cut_changes_what_is_decoded() {
    let tokens = [
        simple("OK"),
        Token::Array(2),
        bulk(b"\r\n$-1"),
        Token::Null,
        Token::Integer(-42),
        Token::Error(Bytes::from_static(b"BUSYKEY a")),
        bulk(b""),
        bulk(b"0123456789ab"),
        simple("O"),
    ];
    let bytes = encode(&tokens);
    for first in 0..=bytes.len() {
        for second in first..=bytes.len() {
            let pieces = [&bytes[..first], &bytes[first..second], &bytes[second..]];
            assert_eq!(
                decode(pieces).as_deref(),
                Ok(&tokens[..]),
                "cut at {first} and {second}"
            );
        }
    }
}

fn any_token() -> impl Strategy<Value = Token> {
    let line = || {
        vec(
            any::<u8>().prop_filter("ends a line", |byte| !b"\r\n".contains(byte)),
            0..40,
        )
        .prop_map(Bytes::from)
    };
    prop_oneof![
        Just(simple("OK")),
        line().prop_map(Token::Simple),
        line().prop_map(Token::Error),
        any::<i64>().prop_map(Token::Integer),
        vec(any::<u8>(), 0..60).prop_map(|bytes| Token::Bulk(bytes.into())),
        Just(Token::Null),
        (0usize..2000).prop_map(Token::Array),
    ]
}

const PIECES: &[&[u8]] = &[
    b"+OK\r\n",
    b"$",
    b"*",
    b":",
    b"-",
    b"\r",
    b"\n",
    b"\r\n",
    b"-1",
    b"0",
    b"3",
    b"12",
    b"99999999999",
    b"abc",
];

/// Bytes that are almost replies.
fn almost_replies() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => prop::sample::select(PIECES).prop_map(<[u8]>::to_vec),
        1 => vec(any::<u8>(), 0..4),
    ];
    vec(piece, 0..30).prop_map(|pieces| pieces.concat())
}

/// `bytes` in pieces whose lengths are taken from `lengths` again and again.
fn cut<'a>(bytes: &'a [u8], lengths: &[usize]) -> Vec<&'a [u8]> {
    let mut rest = bytes;
    let mut pieces = Vec::new();
    for &len in lengths.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, after) = rest.split_at(len.min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

proptest! {
    #[test]
    fn decoding_undoes_encoding_in_any_pieces(tokens in vec(any_token(), 0..20), lengths in vec(1usize..30, 1..12)) {
        let bytes = encode(&tokens);
        prop_assert_eq!(decode(cut(&bytes, &lengths)), Ok(tokens));
    }

    /// Not the preview of an error, which shows what had arrived, but everything else.
    #[test]
    fn damage_is_judged_the_same_in_any_pieces(bytes in almost_replies(), lengths in vec(1usize..9, 1..12)) {
        let kind = |result: Result<Vec<Token>, DecodeError>| result.map_err(|error| std::mem::discriminant(&error));
        prop_assert_eq!(kind(decode(cut(&bytes, &lengths))), kind(decode([&bytes[..]])));
    }

    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..200), lengths in vec(1usize..30, 1..12)) {
        let _ = decode(cut(&bytes, &lengths));
    }
}

/// Whatever pieces the input comes in, a long string is counted, never gathered, and what follows it is read as always.
#[test]
fn a_string_above_the_limit_is_counted_and_not_kept() {
    const LENGTH: usize = 1000;
    let mut stream = format!("*3\r\n$3\r\nabc\r\n${LENGTH}\r\n").into_bytes();
    stream.extend(std::iter::repeat_n(b'\r', LENGTH));
    stream.extend_from_slice(b"\r\n$3\r\nxyz\r\n");
    for step in [1, 2, 3, 7, 100, 1001, 1002, 1003, stream.len()] {
        let mut decoder = Decoder::new();
        decoder.skip_above(Some(LENGTH - 1));
        let (mut input, mut tokens, mut most) = (BytesMut::new(), Vec::new(), 0);
        for chunk in stream.chunks(step) {
            input.extend_from_slice(chunk);
            while let Some(token) = decoder.next(&mut input).expect("well-formed") {
                tokens.push(token);
            }
            most = most.max(input.len());
        }
        let wanted = [
            Token::Array(3),
            bulk(b"abc"),
            Token::Skipped(LENGTH as u64),
            bulk(b"xyz"),
        ];
        assert_eq!(tokens, wanted, "in steps of {step}");
        assert!(most < 40, "{most} bytes were kept, in steps of {step}");
    }
}

#[test]
fn a_string_that_is_not_kept_must_end_as_any_other() {
    let mut decoder = Decoder::new();
    decoder.skip_above(Some(2));
    let mut input = BytesMut::from(&b"$3\r\nabcXY"[..]);
    assert_eq!(decoder.next(&mut input), Err(DecodeError::MissingCrlf));
}
