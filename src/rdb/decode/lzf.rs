//! Uncompresses what servers compress: LZF, as liblzf writes it.
//!
//! ```text
//! 000lllll                    l + 1 literal bytes follow
//! lllooooo oooooooo           copy l + 2 bytes from o + 1 before the end of the output; l is 1 to 6
//! 111ooooo llllllll oooooooo  the same with l + 9
//! ```
//!
//! # Invariants
//!
//! - Memory is reserved once, for the announced length, and only if the compressed bytes can possibly give that many.
//! - A copy may overlap what it writes: that is how runs are compressed.

use super::error::Flaw;

/// The most that a compressed byte gives: three bytes copy 264 at most.
pub const EXPANSION_MAX: usize = 264 / 3;

/// Uncompresses `compressed` into `output`, whose content is replaced by exactly `len` bytes.
///
/// # Errors
///
/// The bytes don't give `len` bytes, or the output doesn't fit in memory. The output's content is undefined then.
pub fn decompress(mut compressed: &[u8], len: usize, output: &mut Vec<u8>) -> Result<(), Flaw> {
    output.clear();
    if len == 0 || len > compressed.len().saturating_mul(EXPANSION_MAX) {
        return Err(Flaw::Compressed);
    }
    if output.capacity() < len {
        // Not grown: growing would hold the old buffer and the new one at once.
        *output = Vec::new();
        output.try_reserve_exact(len).map_err(|_| Flaw::TooLarge)?;
    }
    while let Some((&control, rest)) = compressed.split_first() {
        compressed = match control >> 5 {
            0 => literals(control, rest, len, output),
            _ => copy(control, rest, len, output),
        }
        .ok_or(Flaw::Compressed)?;
    }
    if output.len() == len {
        Ok(())
    } else {
        Err(Flaw::Compressed)
    }
}

/// Takes literal bytes; what is behind them is left, or `None` where something is too long.
#[inline]
fn literals<'a>(control: u8, rest: &'a [u8], len: usize, output: &mut Vec<u8>) -> Option<&'a [u8]> {
    let (literals, rest) = rest.split_at_checked(usize::from(control).checked_add(1)?)?;
    if literals.len() > len.checked_sub(output.len())? {
        return None;
    }
    output.extend_from_slice(literals);
    Some(rest)
}

/// Repeats what the output has already; what is behind the reference is left, or `None` where it leads out of the output.
#[inline]
fn copy<'a>(control: u8, rest: &'a [u8], len: usize, output: &mut Vec<u8>) -> Option<&'a [u8]> {
    let (more, rest) = match control >> 5 {
        7 => rest
            .split_first()
            .map(|(&more, rest)| (usize::from(more), rest))?,
        _ => (0, rest),
    };
    let (&low, rest) = rest.split_first()?;
    let offset = usize::from(u16::from_be_bytes([control & 0b0001_1111, low]));
    let start = output.len().checked_sub(offset.checked_add(1)?)?;
    let mut left = usize::from(control >> 5)
        .checked_add(2)?
        .checked_add(more)?;
    if left > len.checked_sub(output.len())? {
        return None;
    }
    // Where the copy overlaps what it writes, every round doubles what there is to copy.
    while left > 0 {
        let available = output.len().checked_sub(start)?;
        let end = start.checked_add(left.min(available))?;
        output.extend_from_within(start..end);
        left = left.saturating_sub(available);
    }
    Some(rest)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn check(compressed: &[u8], expected: &[u8]) {
        let mut output = b"from before".to_vec();
        assert_eq!(decompress(compressed, expected.len(), &mut output), Ok(()));
        assert_eq!(output, expected);
        for wrong in [expected.len() - 1, expected.len() + 1] {
            assert_eq!(
                decompress(compressed, wrong, &mut output),
                Err(Flaw::Compressed)
            );
        }
    }

    /// Byte by byte, as the definition has it.
    fn by_definition(input: &[u8], len: usize) -> Option<Vec<u8>> {
        let mut input = input.iter().copied().map(usize::from);
        let mut output = Vec::new();
        while let Some(control) = input.next() {
            if control < 32 {
                for _ in 0..=control {
                    output.push(input.next()? as u8);
                }
            } else {
                let more = if control >> 5 == 7 { input.next()? } else { 0 };
                let offset = ((control & 31) << 8 | input.next()?) + 1;
                for _ in 0..(control >> 5) + more + 2 {
                    output.push(output[output.len().checked_sub(offset)?]);
                }
            }
        }
        (len > 0 && output.len() == len).then_some(output)
    }

    #[test]
    fn literals_copies_and_runs() {
        check(b"\x02abc", b"abc");
        check(b"\x02abc\x20\x02", b"abcabc");
        check(b"\x00a\x20\x00", b"aaaa");
        check(b"\x01ab\xe0\x00\x01", &b"ab".repeat(6)[..11]);
        // What Redis 7.0 makes of 100 times "a".
        check(b"\x01aa\xe0\x57\x00\x01aa", &[b'a'; 100]);
    }

    #[test]
    fn the_longest_run_is_the_most_that_a_byte_can_give() {
        let mut compressed = b"\x00a".to_vec();
        for _ in 0..1000 {
            compressed.extend(b"\xe0\xff\x00");
        }
        let len = 1 + 1000 * 264;
        assert!(len <= compressed.len() * EXPANSION_MAX);
        check(&compressed, &vec![b'a'; len]);
    }

    #[test]
    fn nothing_is_reserved_for_more_than_the_bytes_can_give() {
        let mut output = Vec::new();
        for len in [0, 2 * EXPANSION_MAX + 1, usize::MAX] {
            assert_eq!(
                decompress(b"\x00a", len, &mut output),
                Err(Flaw::Compressed)
            );
            assert_eq!(output.capacity(), 0);
        }
    }

    #[test]
    fn what_leads_outside_is_refused() {
        let check = |compressed: &[u8], len| {
            assert_eq!(
                decompress(compressed, len, &mut Vec::new()),
                Err(Flaw::Compressed),
                "{compressed:?}"
            );
        };
        check(b"", 1);
        check(b"\x02ab", 3);
        check(b"\x20\x00", 3);
        check(b"\x00a\x20\x01", 4);
        check(b"\x00a\x20", 4);
        check(b"\x00a\xe0\x00", 10);
        check(b"\x00a\xe0", 10);
    }

    proptest! {
        #[test]
        fn any_bytes_give_what_the_definition_says(
            // Rather short distances, so that many of them lead somewhere.
            input in vec(prop_oneof![3 => 0u8..4, 1 => any::<u8>(), 1 => 0x20u8..0x22, 1 => 0xe0u8..0xe2], 0..200),
            len in 0usize..400,
        ) {
            let mut output = Vec::new();
            // The right length is hardly ever met by chance.
            let right = (1..20_000).find(|&len| by_definition(&input, len).is_some());
            for len in [Some(len), right].into_iter().flatten() {
                let result = decompress(&input, len, &mut output);
                prop_assert_eq!(result.ok().map(|()| output.clone()), by_definition(&input, len));
            }
        }
    }
}
