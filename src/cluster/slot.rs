//! The slot of a key: CRC16 of its name, or of what stands in its first braces.
//!
//! # Invariant
//!
//! A name has the same slot on every server and in every version: that is what makes a slot a position that outlives
//! processes, hash seeds and nodes.

/// How many slots every cluster has.
pub const SLOTS: u16 = 16_384;

/// 0 to [`SLOTS`] - 1.
pub type Slot = u16;

/// CRC16 as Redis counts it (XMODEM: polynomial 0x1021, from 0, nothing reversed), byte by byte.
const TABLE: [u16; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 != 0 {
                (crc << 1) ^ 0x1021
            } else {
                crc << 1
            };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (crc << 8) ^ TABLE[usize::from((crc >> 8) as u8 ^ byte)]
    })
}

/// The slot of the key `name`.
pub fn slot_of(name: &[u8]) -> Slot {
    crc16(hashed_part(name)) % SLOTS
}

/// What stands between the first `{` and the first `}` behind it, unless that is nothing; else the whole name.
pub fn hashed_part(name: &[u8]) -> &[u8] {
    let Some(open) = name.iter().position(|&byte| byte == b'{') else {
        return name;
    };
    let tail = &name[open + 1..];
    match tail.iter().position(|&byte| byte == b'}') {
        None | Some(0) => name,
        Some(close) => &tail[..close],
    }
}

/// For each slot a name that belongs to it and that nobody uses: asked about, it tells whether a node has the slot, all
/// of it. No command of ours creates one.
#[derive(Debug)]
pub struct Probes {
    numbers: Vec<u32>,
}

impl Probes {
    /// Finds the names, in some milliseconds.
    pub fn find() -> Self {
        let mut numbers = vec![u32::MAX; usize::from(SLOTS)];
        let mut missing = numbers.len();
        for number in 0.. {
            let slot = usize::from(slot_of(probe(number).as_bytes()));
            if numbers[slot] == u32::MAX {
                numbers[slot] = number;
                missing -= 1;
                if missing == 0 {
                    break;
                }
            }
        }
        Self { numbers }
    }

    /// The name for `slot`.
    pub fn name(&self, slot: Slot) -> String {
        probe(self.numbers[usize::from(slot)])
    }
}

fn probe(number: u32) -> String {
    format!("redknot:probe:{number}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_one_of_the_cluster_specification() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(crc16(b""), 0);
    }

    #[test]
    fn slots_are_those_that_a_server_names() {
        // Answers of CLUSTER KEYSLOT.
        let check = |name: &[u8], slot: Slot| assert_eq!(slot_of(name), slot, "{name:?}");
        check(b"foo", 12_182);
        check(b"somekey", 11_058);
        check(b"foo{hash_tag}", 2_515);
        check(b"bar{hash_tag}", 2_515);
        check(b"", 0);
    }

    #[test]
    fn only_the_first_braces_count_and_only_if_they_hold_something() {
        let check = |name: &[u8], part: &[u8]| assert_eq!(hashed_part(name), part, "{name:?}");
        check(b"{user1000}.following", b"user1000");
        check(b"foo{}{bar}", b"foo{}{bar}");
        check(b"foo{{bar}}zap", b"{bar");
        check(b"foo{bar}{zap}", b"bar");
        check(b"foo}{bar", b"foo}{bar");
        check(b"}{a}", b"a");
    }

    #[test]
    fn every_slot_has_a_probe_of_its_own() {
        let probes = Probes::find();
        for slot in 0..SLOTS {
            assert_eq!(slot_of(probes.name(slot).as_bytes()), slot);
        }
    }
}
