//! A part of the keys, chosen by their names: the same ones on both sides, in every run, and in each direction.
//!
//! # Invariant
//!
//! Whether a key is in depends on its name and the seed alone.

use crate::state::record::SampleRecord;

/// Which part was asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sample {
    /// `5%`: so many hundredths of the keys, above 0 and at most 100.
    Percent(f64),
    /// `100k`: about so many keys. How large a part that is, DBSIZE says.
    Keys(u64),
    /// `3/8`: the third of eight equal parts that together are all keys.
    Part {
        /// From 1.
        number: u64,
        /// How many there are.
        of: u64,
    },
}

/// Why a text is no sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SampleError {
    /// Neither of the three forms.
    #[error("not a sample, such as 5%, 100k or 3/8")]
    Unreadable,
    /// `0%`, `120%`.
    #[error("out of range: above 0% and up to 100% is allowed")]
    Percent,
    /// `0`.
    #[error("out of range: a sample of no keys proves nothing")]
    NoKeys,
    /// `9/8`, `0/8`, `1/0`.
    #[error("out of range: of n parts, 1 to n can be asked for")]
    Part,
}

impl std::str::FromStr for Sample {
    type Err = SampleError;

    fn from_str(text: &str) -> Result<Self, SampleError> {
        let text = text.trim();
        if let Some(percent) = text.strip_suffix('%') {
            let percent: f64 = percent
                .trim()
                .parse()
                .map_err(|_| SampleError::Unreadable)?;
            return match percent > 0.0 && percent <= 100.0 {
                true => Ok(Self::Percent(percent)),
                false => Err(SampleError::Percent),
            };
        }
        if let Some((number, of)) = text.split_once('/') {
            let (number, of) = (whole(number, 1)?, whole(of, 1)?);
            return match (1..=of).contains(&number) {
                true => Ok(Self::Part { number, of }),
                false => Err(SampleError::Part),
            };
        }
        let (digits, factor) = match text.as_bytes().last() {
            Some(b'k' | b'K') => (&text[..text.len() - 1], 1_000),
            Some(b'm' | b'M') => (&text[..text.len() - 1], 1_000_000),
            _ => (text, 1),
        };
        match whole(digits, factor)? {
            0 => Err(SampleError::NoKeys),
            keys => Ok(Self::Keys(keys)),
        }
    }
}

fn whole(digits: &str, factor: u64) -> Result<u64, SampleError> {
    let number: u64 = digits.trim().parse().map_err(|_| SampleError::Unreadable)?;
    number.checked_mul(factor).ok_or(SampleError::Unreadable)
}

impl std::fmt::Display for Sample {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Percent(percent) => write!(f, "{percent}%"),
            Self::Keys(keys) => write!(f, "{keys}"),
            Self::Part { number, of } => write!(f, "{number}/{of}"),
        }
    }
}

impl Sample {
    /// The range of hashes that are in. `keyspace` is how many keys there are, where it can be known: without it a number
    /// of keys is no share, and all keys are in.
    pub fn resolve(self, seed: u64, keyspace: Option<u64>) -> SampleRecord {
        let share = |share: f64| match share < 1.0 {
            // `as` saturates; 2^64 is exact as a float.
            true => ((share * 2_f64.powi(64)) as u64).saturating_sub(1),
            false => u64::MAX,
        };
        let (first, last) = match self {
            Self::Percent(percent) => (0, share(percent / 100.0)),
            Self::Keys(keys) => match keyspace {
                Some(keyspace) if keyspace > 0 => (0, share(keys as f64 / keyspace as f64)),
                _ => (0, u64::MAX),
            },
            Self::Part { number, of } => {
                let (number, of) = (u128::from(number), u128::from(of));
                let end = |part: u128| (part << 64) / of;
                (end(number - 1) as u64, (end(number) - 1) as u64)
            }
        };
        SampleRecord {
            asked: self.to_string(),
            seed,
            first,
            last,
        }
    }
}

/// Whether `key` is in the sample.
pub fn contains(sample: &SampleRecord, key: &[u8]) -> bool {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&sample.seed.to_le_bytes());
    hasher.update(key);
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    (sample.first..=sample.last).contains(&u64::from_le_bytes(first))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(sample: &str, seed: u64, keyspace: Option<u64>) -> usize {
        let sample: Sample = sample.parse().expect(sample);
        let record = sample.resolve(seed, keyspace);
        let keys = (0..10_000).map(|n| format!("key:{n}"));
        keys.filter(|key| contains(&record, key.as_bytes())).count()
    }

    #[test]
    fn a_sample_is_about_as_large_as_asked_for() {
        let check = |sample: &str, keyspace, wanted: usize| {
            let count = count(sample, 7, keyspace);
            let off = count.abs_diff(wanted);
            assert!(off * 10 <= wanted, "{sample}: {count} of about {wanted}");
        };
        check("5%", None, 500);
        check("0.5 %", None, 50);
        check("100%", None, 10_000);
        check("2k", Some(10_000), 2_000);
        check("100k", Some(10_000), 10_000);
        check("2k", None, 10_000);
        check("3/8", None, 1_250);
        check("1/1", None, 10_000);
    }

    #[test]
    fn the_parts_together_are_all_keys_once() {
        for of in [2, 3, 7, 64] {
            let records: Vec<SampleRecord> = (1..=of)
                .map(|number| Sample::Part { number, of }.resolve(1, None))
                .collect();
            for n in 0..1_000 {
                let key = format!("key:{n}");
                let within = records
                    .iter()
                    .filter(|record| contains(record, key.as_bytes()));
                assert_eq!(within.count(), 1, "{key} in parts of {of}");
            }
        }
    }

    #[test]
    fn another_seed_chooses_other_keys() {
        let of = |seed| Sample::Percent(50.0).resolve(seed, None);
        let keys = (0..100).map(|n| format!("key:{n}"));
        let differ =
            keys.filter(|key| contains(&of(1), key.as_bytes()) != contains(&of(2), key.as_bytes()));
        assert!(differ.count() > 20);
    }

    #[test]
    fn what_is_no_sample_is_refused() {
        let check = |text: &str, error| {
            assert_eq!(text.parse::<Sample>(), Err(error), "{text}");
        };
        for text in ["", "%", "k", "a", "-5", "5 bananas", "1/", "/2", "1e3"] {
            check(text, SampleError::Unreadable);
        }
        check("0%", SampleError::Percent);
        check("100.1%", SampleError::Percent);
        check("NaN%", SampleError::Percent);
        check("0", SampleError::NoKeys);
        check("0/8", SampleError::Part);
        check("9/8", SampleError::Part);
        check("1/0", SampleError::Part);
    }
}
