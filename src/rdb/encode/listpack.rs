//! Listpacks, written.
//!
//! ```text
//! bytes in all (u32) │ elements (u16) │ element … │ 0xff        element: encoding │ data │ size of both, to walk backwards
//! ```

/// Bytes of the header.
const HEADER_BYTES: usize = 6;
const END: u8 = 0xff;

/// Appends an integer; returns the elements added, which is 1.
pub fn integer(out: &mut Vec<u8>, number: i64) -> u64 {
    let [a, b, c, d, ..] = number.to_le_bytes();
    match number {
        0..=127 => element(out, &[a], &[]),
        -4096..=4095 => element(out, &[0xc0 | (b & 0x1f), a], &[]),
        -0x8000..=0x7fff => element(out, &[0xf1, a, b], &[]),
        -0x80_0000..=0x7f_ffff => element(out, &[0xf2, a, b, c], &[]),
        -0x8000_0000..=0x7fff_ffff => element(out, &[0xf3, a, b, c, d], &[]),
        _ => element(out, &[0xf4], &number.to_le_bytes()),
    }
}

/// Appends a string; returns the elements added, which is 1.
pub fn string(out: &mut Vec<u8>, bytes: &[u8]) -> u64 {
    let length = bytes.len() as u64;
    let [a, b, c, d, ..] = length.to_le_bytes();
    match length {
        0..=63 => element(out, &[0x80 | a], bytes),
        64..=4095 => element(out, &[0xe0 | b, a], bytes),
        _ => element(out, &[0xf0, a, b, c, d], bytes),
    }
}

fn element(out: &mut Vec<u8>, encoding: &[u8], data: &[u8]) -> u64 {
    out.extend_from_slice(encoding);
    out.extend_from_slice(data);
    back_length(
        out,
        (encoding.len() as u64).saturating_add(data.len() as u64),
    );
    1
}

/// Seven bits a byte, the highest first; all but the first have their top bit set, so that it can be read from behind.
fn back_length(out: &mut Vec<u8>, length: u64) {
    // Redis' own bounds, each one below what the bits could hold.
    let bytes: u32 = match length {
        0..=127 => 1,
        128..=16_382 => 2,
        16_383..=2_097_150 => 3,
        2_097_151..=268_435_454 => 4,
        _ => 5,
    };
    for index in (0..bytes).rev() {
        let bits = (length >> index.saturating_mul(7)) as u8 & 0x7f;
        let mark = if index == bytes.saturating_sub(1) {
            0
        } else {
            0x80
        };
        out.push(bits | mark);
    }
}

/// The header of a listpack with so many elements in so many bytes, and its end. `None`: it would be too large.
pub fn frame(elements: u64, bytes: usize) -> Option<([u8; HEADER_BYTES], u8)> {
    // More than 16 bits hold: to be counted by walking.
    let elements = u16::try_from(elements).unwrap_or(u16::MAX);
    let total = bytes.checked_add(HEADER_BYTES)?.checked_add(1)?;
    let [a, b, c, d] = u32::try_from(total).ok()?.to_le_bytes();
    let [e, f] = elements.to_le_bytes();
    Some(([a, b, c, d, e, f], END))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_integer(number: i64, bytes: &[u8]) {
        let mut out = Vec::new();
        assert_eq!(integer(&mut out, number), 1);
        assert_eq!(out, bytes, "{number}");
    }

    #[test]
    fn integers_take_the_shortest_form() {
        check_integer(0, b"\0\x01");
        check_integer(127, b"\x7f\x01");
        check_integer(128, b"\xc0\x80\x02");
        check_integer(-1, b"\xdf\xff\x02");
        check_integer(4095, b"\xcf\xff\x02");
        check_integer(-4096, b"\xd0\0\x02");
        check_integer(4096, b"\xf1\0\x10\x03");
        check_integer(-4097, b"\xf1\xff\xef\x03");
        check_integer(32768, b"\xf2\0\x80\0\x04");
        check_integer(8_388_608, b"\xf3\0\0\x80\0\x05");
        check_integer(i64::MIN, b"\xf4\0\0\0\0\0\0\0\x80\x09");
    }

    #[test]
    fn strings_have_their_length_on_both_ends() {
        let check = |length: usize, head: &[u8], back: &[u8]| {
            let mut out = Vec::new();
            string(&mut out, &vec![b'x'; length]);
            assert_eq!(&out[..head.len()], head, "{length}");
            assert_eq!(&out[head.len() + length..], back, "{length}");
        };
        check(0, b"\x80", b"\x01");
        check(63, b"\xbf", b"\x40");
        check(64, b"\xe0\x40", b"\x42");
        check(125, b"\xe0\x7d", b"\x7f");
        check(126, b"\xe0\x7e", b"\x01\x80");
        check(4095, b"\xef\xff", b"\x20\x81");
        check(4096, b"\xf0\0\x10\0\0", b"\x20\x85");
        check(16_377, b"\xf0\xf9\x3f\0\0", b"\x7f\xfe");
        check(16_378, b"\xf0\xfa\x3f\0\0", b"\0\xff\xff");
    }

    #[test]
    fn the_frame_counts_itself() {
        assert_eq!(frame(3, 10), Some(([17, 0, 0, 0, 3, 0], 0xff)));
        assert_eq!(frame(70_000, 0), Some(([7, 0, 0, 0, 0xff, 0xff], 0xff)));
        assert_eq!(frame(1, u32::MAX as usize), None);
    }
}
