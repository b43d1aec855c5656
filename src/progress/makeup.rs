//! What the keys of a migration are like: types, sizes, times to live.
//!
//! # Invariants
//!
//! - Every key that is counted as written is counted once in [`Makeup::sizes`] and once in [`Makeup::lives`]: each sums up
//!   to `keys_written`.
//! - Counting a key is an increment. What is written down is only what is not zero.

use serde::{Deserialize, Serialize};

use crate::rdb::decode::kind_of_type;
use crate::rdb::visit::Kind;

/// Classes of sizes: class *n* has the payloads of less than 2ⁿ bytes that no class below it has. A payload has at most
/// 512 MiB; a server that allows more puts them into the last class.
pub const SIZE_CLASSES: usize = 31;

/// What a key holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyKind {
    /// One string.
    String,
    /// A list.
    List,
    /// A set.
    Set,
    /// A sorted set.
    Zset,
    /// A hash.
    Hash,
    /// A stream.
    Stream,
    /// An array (Redis 8.8).
    Array,
    /// A vector set (Redis 8.0).
    VectorSet,
    /// What only a module can interpret.
    Module,
    /// Nobody has looked: it was on the target already and equal, or this redknot does not know the encoding.
    Unknown,
}

impl KeyKind {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 10] = [
        Self::String,
        Self::List,
        Self::Set,
        Self::Zset,
        Self::Hash,
        Self::Stream,
        Self::Array,
        Self::VectorSet,
        Self::Module,
        Self::Unknown,
    ];

    /// What a payload holds that begins with this byte.
    pub fn of_payload_type(type_byte: Option<u8>) -> Self {
        match type_byte.and_then(kind_of_type) {
            Some(Kind::String) => Self::String,
            Some(Kind::List) => Self::List,
            Some(Kind::Set) => Self::Set,
            Some(Kind::Zset) => Self::Zset,
            Some(Kind::Hash) => Self::Hash,
            Some(Kind::Stream) => Self::Stream,
            Some(Kind::Array) => Self::Array,
            Some(Kind::VectorSet) => Self::VectorSet,
            Some(Kind::Module) => Self::Module,
            None => Self::Unknown,
        }
    }

    /// As people read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::List => "list",
            Self::Set => "set",
            Self::Zset => "zset",
            Self::Hash => "hash",
            Self::Stream => "stream",
            Self::Array => "array",
            Self::VectorSet => "vector set",
            Self::Module => "module",
            Self::Unknown => "not looked at",
        }
    }
}

/// For how long a key lives on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Life {
    /// Less than a second.
    Second,
    /// Less than a minute.
    Minute,
    /// Less than ten minutes.
    TenMinutes,
    /// Less than an hour.
    Hour,
    /// Less than six hours.
    SixHours,
    /// Less than a day.
    Day,
    /// Less than a week.
    Week,
    /// Less than thirty days.
    Month,
    /// Less than a year.
    Year,
    /// A year or more.
    Longer,
    /// It does not expire.
    Forever,
    /// Nobody has looked.
    Unknown,
}

impl Life {
    /// All of them, in their order.
    pub const ALL: [Self; 12] = [
        Self::Second,
        Self::Minute,
        Self::TenMinutes,
        Self::Hour,
        Self::SixHours,
        Self::Day,
        Self::Week,
        Self::Month,
        Self::Year,
        Self::Longer,
        Self::Forever,
        Self::Unknown,
    ];

    /// The class of so many milliseconds.
    pub fn of_ms(left: i64) -> Self {
        const S: i64 = 1000;
        const H: i64 = 3600 * S;
        match left {
            ..S => Self::Second,
            S..60_000 => Self::Minute,
            60_000..600_000 => Self::TenMinutes,
            600_000..H => Self::Hour,
            H..21_600_000 => Self::SixHours,
            21_600_000..86_400_000 => Self::Day,
            86_400_000..604_800_000 => Self::Week,
            604_800_000..2_592_000_000 => Self::Month,
            2_592_000_000..31_536_000_000 => Self::Year,
            31_536_000_000.. => Self::Longer,
        }
    }

    /// As people read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Second => "under 1 s",
            Self::Minute => "under 1 min",
            Self::TenMinutes => "under 10 min",
            Self::Hour => "under 1 h",
            Self::SixHours => "under 6 h",
            Self::Day => "under 1 day",
            Self::Week => "under 7 days",
            Self::Month => "under 30 days",
            Self::Year => "under 1 year",
            Self::Longer => "1 year or more",
            Self::Forever => "never expire",
            Self::Unknown => "not looked at",
        }
    }
}

/// A key that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrived {
    /// Bytes of its payload that the target acknowledged.
    pub payload_bytes: u64,
    /// What it holds.
    pub kind: KeyKind,
    /// For how long it lives on, when it was sent.
    pub life: Life,
}

impl Arrived {
    /// A key that the target was found to have already.
    pub const UNSEEN: Self = Self {
        payload_bytes: 0,
        kind: KeyKind::Unknown,
        life: Life::Unknown,
    };
}

/// What the keys that were written are like.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub struct Makeup {
    sizes: [[u64; SIZE_CLASSES]; KeyKind::ALL.len()],
    lives: [u64; Life::ALL.len()],
}

/// How many keys of a kind are in a class of sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SizeCount(pub KeyKind, pub u8, pub u64);

/// How many keys live on for that long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LifeCount(pub Life, pub u64);

/// As it is written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Written {
    sizes: Vec<SizeCount>,
    lives: Vec<LifeCount>,
}

impl Default for Makeup {
    fn default() -> Self {
        Self {
            sizes: [[0; SIZE_CLASSES]; KeyKind::ALL.len()],
            lives: [0; Life::ALL.len()],
        }
    }
}

impl std::fmt::Debug for Makeup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Written::from(self.clone()).fmt(f)
    }
}

impl From<Makeup> for Written {
    fn from(makeup: Makeup) -> Self {
        Self {
            sizes: makeup.sizes().collect(),
            lives: makeup.lives().collect(),
        }
    }
}

impl From<Written> for Makeup {
    fn from(written: Written) -> Self {
        let mut makeup = Self::default();
        for SizeCount(kind, class, keys) in written.sizes {
            makeup.sizes[kind as usize][usize::from(class).min(SIZE_CLASSES - 1)] += keys;
        }
        for LifeCount(life, keys) in written.lives {
            makeup.lives[life as usize] += keys;
        }
        makeup
    }
}

impl Makeup {
    /// So many keys that are alike.
    pub fn of(arrived: Arrived, keys: u64) -> Self {
        let mut makeup = Self::default();
        makeup.add_keys(arrived, keys);
        makeup
    }

    /// Counts a key.
    pub fn count(&mut self, arrived: Arrived) {
        self.add_keys(arrived, 1);
    }

    fn add_keys(&mut self, arrived: Arrived, keys: u64) {
        self.sizes[arrived.kind as usize][size_class(arrived.payload_bytes)] += keys;
        self.lives[arrived.life as usize] += keys;
    }

    /// Adds `other`, class by class.
    pub fn add(&mut self, other: &Self) {
        let to = self.sizes.iter_mut().flatten().chain(&mut self.lives);
        for (sum, more) in to.zip(other.sizes.iter().flatten().chain(&other.lives)) {
            *sum += more;
        }
    }

    /// Whether it is about `keys_written` keys.
    pub fn is_of(&self, keys_written: u64) -> bool {
        let sized: u64 = self.sizes.iter().flatten().sum();
        let lived: u64 = self.lives.iter().sum();
        sized == keys_written && lived == keys_written
    }

    /// The classes that are not empty, by kind and then by size.
    pub fn sizes(&self) -> impl Iterator<Item = SizeCount> + '_ {
        let of_kind = |kind: KeyKind| {
            (0..)
                .zip(&self.sizes[kind as usize])
                .map(move |(class, keys)| SizeCount(kind, class, *keys))
        };
        let all = KeyKind::ALL.into_iter().flat_map(of_kind);
        all.filter(|SizeCount(_, _, keys)| *keys > 0)
    }

    /// The classes that are not empty, in their order.
    pub fn lives(&self) -> impl Iterator<Item = LifeCount> + '_ {
        lives_of(&self.lives)
    }
}

fn lives_of(counts: &[u64; Life::ALL.len()]) -> impl Iterator<Item = LifeCount> + '_ {
    Life::ALL
        .into_iter()
        .zip(counts)
        .filter(|(_, keys)| **keys > 0)
        .map(|(life, keys)| LifeCount(life, *keys))
}

fn size_class(bytes: u64) -> usize {
    ((u64::BITS - bytes.leading_zeros()) as usize).min(SIZE_CLASSES - 1)
}

/// How far two instants of expiry lie apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Drift {
    /// They are the same, or neither side's key expires.
    None,
    /// 1 ms.
    Millisecond,
    /// Up to 10 ms.
    TenMilliseconds,
    /// Up to 100 ms.
    HundredMilliseconds,
    /// Up to a second.
    Second,
    /// More, or only one side's key expires.
    More,
}

impl Drift {
    /// All of them, in their order.
    pub const ALL: [Self; 6] = [
        Self::None,
        Self::Millisecond,
        Self::TenMilliseconds,
        Self::HundredMilliseconds,
        Self::Second,
        Self::More,
    ];

    /// The class of so many milliseconds.
    pub fn of_ms(apart: u64) -> Self {
        match apart {
            0 => Self::None,
            1 => Self::Millisecond,
            2..=10 => Self::TenMilliseconds,
            11..=100 => Self::HundredMilliseconds,
            101..=1000 => Self::Second,
            1001.. => Self::More,
        }
    }

    /// As people read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Millisecond => "1 ms",
            Self::TenMilliseconds => "up to 10 ms",
            Self::HundredMilliseconds => "up to 100 ms",
            Self::Second => "up to 1 s",
            Self::More => "more",
        }
    }
}

/// A key that both sides have, whose expiries were both read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BothLive {
    /// For how long it lives on, on the source and on the target.
    pub sides: [Life; 2],
    /// How far the instants lie apart.
    pub drift: Drift,
}

/// For how long the keys that both sides have live on, on either side.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComparedLives {
    source: [u64; Life::ALL.len()],
    target: [u64; Life::ALL.len()],
    drift: [u64; Drift::ALL.len()],
}

impl ComparedLives {
    /// Counts a key.
    pub fn count(&mut self, both: BothLive) {
        self.source[both.sides[0] as usize] += 1;
        self.target[both.sides[1] as usize] += 1;
        self.drift[both.drift as usize] += 1;
    }

    /// Adds `other`, class by class.
    pub fn add(&mut self, other: &Self) {
        let to = self.source.iter_mut().chain(&mut self.target);
        let to = to.chain(&mut self.drift);
        let from = other.source.iter().chain(&other.target);
        for (sum, more) in to.zip(from.chain(&other.drift)) {
            *sum += more;
        }
    }

    /// Number of keys.
    pub fn keys(&self) -> u64 {
        self.source.iter().sum()
    }

    /// The classes of the source (0) or the target (1) that are not empty.
    pub fn lives(&self, side: usize) -> impl Iterator<Item = LifeCount> + '_ {
        lives_of(if side == 0 {
            &self.source
        } else {
            &self.target
        })
    }

    /// How many keys there are of each drift, in its order.
    pub fn drifts(&self) -> impl Iterator<Item = (Drift, u64)> + '_ {
        Drift::ALL.into_iter().zip(self.drift)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
mod tests {
    use super::*;

    fn arrived(kind: KeyKind, payload_bytes: u64, life: Life) -> Arrived {
        Arrived {
            payload_bytes,
            kind,
            life,
        }
    }

    #[test]
    fn a_class_of_sizes_ends_below_a_power_of_two() {
        let check = |bytes: u64, class: usize| assert_eq!(size_class(bytes), class, "{bytes}");
        check(0, 0);
        check(1, 1);
        check(2, 2);
        check(3, 2);
        check(4, 3);
        check(1023, 10);
        check(1024, 11);
        check(512 * 1024 * 1024, 30);
        check(u64::MAX, SIZE_CLASSES - 1);
    }

    #[test]
    fn every_key_is_in_one_class_of_each_and_comes_back_from_both_encodings() {
        let mut makeup = Makeup::default();
        assert!(makeup.is_of(0));
        for (at, kind) in (0..).zip(KeyKind::ALL) {
            makeup.count(arrived(kind, 1 << at, Life::ALL[at]));
        }
        makeup.count(Arrived::UNSEEN);
        assert!(makeup.is_of(11) && !makeup.is_of(10));
        assert_eq!(makeup.sizes().count(), 11);
        let json = serde_json::to_string(&makeup).unwrap();
        assert!(json.contains(r#"["string",1,1]"#), "{json}");
        assert_eq!(serde_json::from_str::<Makeup>(&json).unwrap(), makeup);
        let mut twice = makeup.clone();
        twice.add(&makeup);
        assert!(twice.is_of(22));
    }

    #[test]
    fn lives_are_sorted_into_their_classes_at_the_borders() {
        let check = |ms: i64, life: Life| assert_eq!(Life::of_ms(ms), life, "{ms}");
        check(i64::MIN, Life::Second);
        check(999, Life::Second);
        check(1000, Life::Minute);
        check(59_999, Life::Minute);
        check(3_600_000, Life::SixHours);
        check(86_399_999, Life::Day);
        check(86_400_000, Life::Week);
        check(i64::MAX, Life::Longer);
        assert!(Life::ALL.is_sorted() && Drift::ALL.is_sorted() && KeyKind::ALL.is_sorted());
    }
}
