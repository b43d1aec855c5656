//! What a target takes: which versions in a payload's footer, and so which encodings.
//!
//! It is found by asking, never by the version that a server reports: forks and providers stamp and accept what they like.
//! A `RESTORE` of [`probe`] can't create a key on any server; it is refused for its footer or for its type, and that tells.
//!
//! # Invariant
//!
//! What is sent is what the target said it takes; where it takes several versions, payloads of ours have the highest.

use super::footer::{VALKEY_VERSION, crc64};

/// The versions that are asked for: all that are known, and the next few.
pub const PROBED: [u16; 19] = [
    6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 80, 81, 82, 83, 84,
];

/// No type has this number. Redis 6.0 and older answer an unknown type as newer ones do; only within a *known* type they
/// take damage, or a missing module, for a reason to exit.
const NO_TYPE: u8 = 0x3f;

/// Types of modules' values.
pub const MODULE_TYPES: [u8; 2] = [6, 7];

/// A payload that nobody can restore, in a version's footer.
pub fn probe(version: u16) -> [u8; 11] {
    let mut payload = [0; 11];
    let (checked, checksum) = payload.split_at_mut(3);
    let [low, high] = version.to_le_bytes();
    checked.copy_from_slice(&[NO_TYPE, low, high]);
    checksum.copy_from_slice(&crc64(checked).to_le_bytes());
    payload
}

/// How a payload gets to the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Byte for byte.
    AsItIs,
    /// The target knows the encoding, not the footer: with another footer.
    Restamped,
    /// Decoded, and encoded in a way that the target knows.
    Reencoded,
    /// Only to a target that has the module, and only as it is.
    Module,
}

/// How a target holds the expiry of a hash's fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldExpiry {
    /// Not at all.
    None,
    /// As Redis 7.4 does (type 24).
    Redis,
    /// As Valkey 9.0 does (type 22).
    Valkey,
}

/// What a target takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dialect {
    /// Bit n: footer version n is accepted.
    accepted: u128,
    stamp: u16,
}

impl Dialect {
    /// What the answers to the probes tell; `None`, if every version was refused.
    pub fn of_accepted(versions: impl IntoIterator<Item = u16>) -> Option<Self> {
        let mut accepted = 0_u128;
        let mut stamp = None;
        for version in versions {
            accepted |= 1_u128.checked_shl(u32::from(version)).unwrap_or(0);
            stamp = stamp.max(Some(version));
        }
        stamp.map(|stamp| Self { accepted, stamp })
    }

    /// What servers of a version take (`redis 7.0.15`), for a target that can't be asked. Of an unknown one: what
    /// practically every server takes.
    pub fn of_server(version: &str) -> Self {
        let (name, number) = version.split_once(' ').unwrap_or(("", version));
        let mut parts = number.split('.').map(|part| part.parse::<u16>().ok());
        let major = parts.next().flatten();
        let minor = parts.next().flatten().unwrap_or(0);
        let (highest, also) = match (name, major) {
            ("valkey", Some(9..)) => (11, Some(VALKEY_VERSION)),
            ("valkey", Some(_)) => (11, None),
            (_, Some(9..)) => (13, None),
            (_, Some(8)) => (if minor >= 6 { 13 } else { 12 }, None),
            (_, Some(7)) => (
                match minor {
                    0 | 1 => 10,
                    2 | 3 => 11,
                    _ => 12,
                },
                None,
            ),
            (_, Some(4)) => (8, None),
            (_, Some(3)) => (if minor >= 2 { 7 } else { 6 }, None),
            (_, Some(0..=2)) => (6, None),
            (_, Some(_) | None) => (9, None),
        };
        Self::of_accepted((6..=highest).chain(also)).expect("version 6 is among them")
    }

    /// Whether the target takes payloads with this footer.
    pub fn accepts(self, version: u16) -> bool {
        let bit = 1_u128.checked_shl(u32::from(version)).unwrap_or(0);
        self.accepted & bit != 0
    }

    /// The version of the payloads that are made for it.
    pub fn stamp(self) -> u16 {
        self.stamp
    }

    fn is_valkey_9(self) -> bool {
        self.stamp >= VALKEY_VERSION
    }

    /// The newest version whose encodings it knows, as Redis counts.
    fn level(self) -> u16 {
        // Valkey's own numbers begin where it parted from Redis.
        if self.is_valkey_9() { 11 } else { self.stamp }
    }

    /// How a payload of this type and version gets there.
    pub fn way(self, payload_type: u8, version: u16) -> Way {
        if MODULE_TYPES.contains(&payload_type) {
            return Way::Module;
        }
        let knows = match since(payload_type, version) {
            Some(Since::Redis(level)) if level > 11 => !self.is_valkey_9() && self.level() >= level,
            Some(Since::Redis(level)) => self.level() >= level,
            Some(Since::Valkey) => self.is_valkey_9(),
            // Newer than this program: whoever accepts the version is asked.
            None => self.accepts(version),
        };
        match (knows, self.accepts(version)) {
            (true, true) => Way::AsItIs,
            (true, false) => Way::Restamped,
            (false, _) => Way::Reencoded,
        }
    }

    /// Whether scores may be written as eight bytes (type 5), not as text (type 3).
    pub fn binary_scores(self) -> bool {
        self.level() >= 8
    }

    /// The newest type of streams that it knows.
    pub fn stream_type(self) -> Option<u8> {
        match self.level() {
            0..=8 => None,
            9 => Some(15),
            10 => Some(19),
            11 | 12 => Some(21),
            13 => Some(26),
            _ => Some(27),
        }
    }

    /// How it holds the expiry of a hash's fields.
    pub fn field_expiry(self) -> FieldExpiry {
        match (self.is_valkey_9(), self.level()) {
            (true, _) => FieldExpiry::Valkey,
            (false, 12..) => FieldExpiry::Redis,
            (false, _) => FieldExpiry::None,
        }
    }
}

enum Since {
    /// This version of the format, and all newer ones.
    Redis(u16),
    /// Valkey 9 alone.
    Valkey,
}

/// Who knows an encoding. `None`: unknown here.
fn since(payload_type: u8, version: u16) -> Option<Since> {
    Some(match payload_type {
        0..=4 | 9..=13 => Since::Redis(6),
        14 => Since::Redis(7),
        5 => Since::Redis(8),
        15 => Since::Redis(9),
        16..=19 => Since::Redis(10),
        20 | 21 => Since::Redis(11),
        // One number for two encodings.
        22 if version >= VALKEY_VERSION => Since::Valkey,
        22..=25 => Since::Redis(12),
        26 => Since::Redis(13),
        27 | 28 => Since::Redis(14),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::footer;
    use super::*;

    fn redis(highest: u16) -> Dialect {
        Dialect::of_accepted(6..=highest).expect("not empty")
    }

    fn valkey_9() -> Dialect {
        Dialect::of_accepted((6..=11).chain([80])).expect("not empty")
    }

    #[test]
    fn a_probe_is_sound_but_for_its_type() {
        for version in PROBED {
            let payload = probe(version);
            assert_eq!(footer::check(&payload), Ok(footer::Footer { version }));
            assert_eq!(footer::payload_type(&payload), Some(NO_TYPE));
        }
    }

    #[test]
    fn payloads_take_the_cheapest_way_that_works() {
        let check = |dialect: Dialect, payload_type: u8, version: u16, way: Way| {
            assert_eq!(
                dialect.way(payload_type, version),
                way,
                "type {payload_type} of version {version} to {dialect:?}"
            );
        };
        // Upwards.
        check(redis(10), 13, 9, Way::AsItIs);
        check(redis(12), 21, 11, Way::AsItIs);
        check(valkey_9(), 21, 11, Way::AsItIs);
        // Sideways.
        check(redis(12), 21, 80, Way::Restamped);
        check(valkey_9(), 20, 12, Way::Restamped);
        check(redis(12), 22, 80, Way::Reencoded);
        check(redis(12), 22, 12, Way::AsItIs);
        check(valkey_9(), 22, 80, Way::AsItIs);
        check(valkey_9(), 24, 12, Way::Reencoded);
        check(valkey_9(), 26, 13, Way::Reencoded);
        // Downwards.
        check(redis(10), 17, 12, Way::Restamped);
        check(redis(10), 21, 12, Way::Reencoded);
        check(redis(9), 0, 12, Way::Restamped);
        check(redis(9), 5, 80, Way::Restamped);
        check(redis(9), 16, 10, Way::Reencoded);
        check(redis(6), 5, 9, Way::Reencoded);
        check(redis(6), 14, 9, Way::Reencoded);
        // A version that neither side knows in full: what is accepted is asked.
        check(redis(16), 29, 16, Way::AsItIs);
        check(redis(12), 29, 16, Way::Reencoded);
        check(redis(12), 0xf3, 13, Way::Reencoded);
        check(redis(13), 0xf3, 13, Way::AsItIs);
        for module in MODULE_TYPES {
            check(redis(12), module, 12, Way::Module);
        }
        // A Valkey that was told to take foreign versions does not take foreign types.
        let relaxed = Dialect::of_accepted((6..=19).chain([80])).expect("not empty");
        check(relaxed, 24, 12, Way::Reencoded);
        check(relaxed, 21, 12, Way::AsItIs);
    }

    #[test]
    fn what_is_made_for_a_target_is_what_it_knows() {
        let check = |dialect: Dialect, stamp, scores, stream, expiry| {
            let known = (
                dialect.stamp(),
                dialect.binary_scores(),
                dialect.stream_type(),
                dialect.field_expiry(),
            );
            assert_eq!(known, (stamp, scores, stream, expiry), "{dialect:?}");
        };
        check(redis(6), 6, false, None, FieldExpiry::None);
        check(redis(8), 8, true, None, FieldExpiry::None);
        check(redis(9), 9, true, Some(15), FieldExpiry::None);
        check(redis(10), 10, true, Some(19), FieldExpiry::None);
        check(redis(11), 11, true, Some(21), FieldExpiry::None);
        check(redis(12), 12, true, Some(21), FieldExpiry::Redis);
        check(redis(13), 13, true, Some(26), FieldExpiry::Redis);
        check(redis(16), 16, true, Some(27), FieldExpiry::Redis);
        check(valkey_9(), 80, true, Some(21), FieldExpiry::Valkey);
    }

    #[test]
    fn a_target_that_can_not_be_asked_is_judged_by_its_version() {
        let check = |version: &str, dialect: Dialect| {
            assert_eq!(Dialect::of_server(version), dialect, "{version}");
        };
        check("redis 2.8.24", redis(6));
        check("redis 3.2.13", redis(7));
        check("redis 6.2.14", redis(9));
        check("redis 7.0.15", redis(10));
        check("redis 7.2.4", redis(11));
        check("redis 8.2.3", redis(12));
        check("valkey 8.1.8", redis(11));
        check("valkey 9.1.2", valkey_9());
        check("", redis(9));
        assert_eq!(Dialect::of_accepted([]), None);
    }
}
