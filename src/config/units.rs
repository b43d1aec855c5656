//! Amounts with their units: `64MiB`, `5s`.
//!
//! # Invariant
//!
//! A number without a unit is refused: `--max-memory 5` and `--timeout 1` mean something else to everybody.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Why a text is no amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// `5`.
    #[error("a unit is missing: did you mean {0}?")]
    Missing(String),
    /// `5 bananas`, `x`, `-5s`.
    #[error("not {0}")]
    Unreadable(&'static str),
    /// Outside of what is allowed.
    #[error("out of range: {0} to {1} is allowed")]
    Range(String, String),
}

/// A whole number.
///
/// # Errors
///
/// [`UnitError`] if it is none, or not within `allowed`.
pub fn whole(text: &str, allowed: &RangeInclusive<u32>) -> Result<u32, UnitError> {
    let text = text.trim();
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match (text.parse(), digits) {
        (Ok(number), _) => within(number, allowed),
        // Too large for a u32, and so for any range.
        (Err(_), true) => within(u32::MAX, allowed),
        (Err(_), false) => Err(UnitError::Unreadable("a whole number")),
    }
}

/// A whole number of any size.
///
/// # Errors
///
/// [`UnitError`] if it is none.
pub fn count(text: &str) -> Result<u64, UnitError> {
    let unreadable = |_| UnitError::Unreadable("a whole number");
    text.trim().parse().map_err(unreadable)
}

/// A number of bytes: `65536B`, `64KiB`, `1.5GiB`, `10MB`. `K`, `M` and `G` alone are binary, as in redis.conf's `kb`, `mb`, `gb`.
///
/// # Errors
///
/// [`UnitError`] if the unit is missing or unknown, or the amount is not within `allowed`.
pub fn bytes(text: &str, allowed: &RangeInclusive<u64>) -> Result<u64, UnitError> {
    const EXPECTED: &str = "an amount of memory, such as 64MiB or 1.5GiB";
    let unreadable = || UnitError::Unreadable(EXPECTED);
    let text = text.trim();
    let digits = text
        .bytes()
        .take_while(|byte| byte.is_ascii_digit() || *byte == b'.')
        .count();
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().map_err(|_| unreadable())?;
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" => return Err(UnitError::Missing(format!("{text}MiB"))),
        "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return Err(unreadable()),
    };
    // Above 2^53 a float skips numbers; no amount of memory is that large. `as` saturates.
    within(
        Bytes((number * factor as f64).round() as u64),
        &(Bytes(*allowed.start())..=Bytes(*allowed.end())),
    )
    .map(|bytes| bytes.0)
}

/// Keys a second: `1000/s`.
///
/// # Errors
///
/// [`UnitError`] if it is no whole number, if `/s` is missing, or if it is not within `allowed`.
pub fn keys_per_s(text: &str, allowed: &RangeInclusive<u64>) -> Result<u64, UnitError> {
    let text = text.trim();
    let (number, given) = per_second(text);
    let number = number.strip_suffix("keys").unwrap_or(number).trim_end();
    let number =
        count(number).map_err(|_| UnitError::Unreadable("keys a second, such as 1000/s"))?;
    match given {
        true => within(number, allowed),
        false => Err(UnitError::Missing(format!("{number}/s"))),
    }
}

/// Bytes a second: `50MiB/s`.
///
/// # Errors
///
/// As [`bytes`]; and if `/s` is missing.
pub fn bytes_per_s(text: &str, allowed: &RangeInclusive<u64>) -> Result<u64, UnitError> {
    let (amount, given) = per_second(text.trim());
    let read = match bytes(amount, allowed) {
        Err(UnitError::Missing(amount)) => Err(UnitError::Missing(format!("{amount}/s"))),
        Err(UnitError::Unreadable(_)) => {
            Err(UnitError::Unreadable("bytes a second, such as 50MiB/s"))
        }
        other => other,
    }?;
    match given {
        true => Ok(read),
        false => Err(UnitError::Missing(format!("{amount}/s"))),
    }
}

/// What stands before `/s`, and whether that is there.
fn per_second(text: &str) -> (&str, bool) {
    match text.strip_suffix("/s") {
        Some(amount) => (amount.trim_end(), true),
        None => (text, false),
    }
}

/// A time: `500ms`, `5s`, `10m`, `1h 30m`.
///
/// # Errors
///
/// [`UnitError`] if the unit is missing or unknown, or the time is not within `allowed`.
pub fn duration(text: &str, allowed: &RangeInclusive<Duration>) -> Result<Duration, UnitError> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) && text != "0" {
        return Err(UnitError::Missing(format!("{text}s")));
    }
    let duration = humantime::parse_duration(text)
        .map_err(|_| UnitError::Unreadable("a time, such as 500ms, 5s or 10m"))?;
    within(
        Time(duration),
        &(Time(*allowed.start())..=Time(*allowed.end())),
    )
    .map(|time| time.0)
}

fn within<T: PartialOrd + fmt::Display>(
    value: T,
    allowed: &RangeInclusive<T>,
) -> Result<T, UnitError> {
    match allowed.contains(&value) {
        true => Ok(value),
        false => Err(UnitError::Range(
            allowed.start().to_string(),
            allowed.end().to_string(),
        )),
    }
}

/// Shown as [`bytes`] reads it: `32MiB`.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [
            (1 << 40, "TiB"),
            (1 << 30, "GiB"),
            (1 << 20, "MiB"),
            (1 << 10, "KiB"),
        ];
        match units
            .into_iter()
            .find(|(factor, _)| self.0 >= *factor && self.0.is_multiple_of(*factor))
        {
            Some((factor, unit)) => write!(f, "{}{unit}", self.0 / factor),
            None => write!(f, "{}B", self.0),
        }
    }
}

/// Shown as [`duration`] reads it: `10m`.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Time(pub Duration);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", humantime::format_duration(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::limits;

    #[test]
    fn an_amount_of_memory_needs_a_unit() {
        let read = |text| bytes(text, &(1..=u64::MAX));
        let check = |text, expected: u64| assert_eq!(read(text), Ok(expected), "{text}");
        check("64MiB", 64 << 20);
        check("64 mib", 64 << 20);
        check("1.5GiB", 3 << 29);
        check("10MB", 10_000_000);
        check("1k", 1024);
        check("7B", 7);
        assert_eq!(read("5"), Err(UnitError::Missing("5MiB".into())));
        for text in [
            "",
            "MiB",
            "-5MiB",
            "1.2.3MiB",
            "5 bananas",
            "NaN",
            "inf",
            "5MiBs",
        ] {
            assert!(
                matches!(read(text), Err(UnitError::Unreadable(_))),
                "{text}"
            );
        }
        let refused = bytes("1KiB", &limits::IN_FLIGHT_BYTES).expect_err("too little");
        assert_eq!(
            refused.to_string(),
            "out of range: 1MiB to 64GiB is allowed"
        );
    }

    #[test]
    fn a_number_is_whole_and_in_range() {
        let read = |text| whole(text, &limits::BATCH_KEYS);
        assert_eq!(read("500"), Ok(500));
        assert_eq!(read("1e9"), Err(UnitError::Unreadable("a whole number")));
        for text in ["0", "100001", "99999999999999999999"] {
            let range = UnitError::Range("1".into(), "100000".into());
            assert_eq!(read(text), Err(range), "{text}");
        }
        for text in ["", "-1", "1.5", "x"] {
            assert!(
                matches!(read(text), Err(UnitError::Unreadable(_))),
                "{text}"
            );
        }
    }

    #[test]
    fn a_time_needs_a_unit() {
        let read = |text| duration(text, &limits::GRACE);
        let check = |text, expected| assert_eq!(read(text), Ok(expected), "{text}");
        check("500ms", Duration::from_millis(500));
        check("5s", Duration::from_secs(5));
        check("1m 30s", Duration::from_secs(90));
        check("0", Duration::ZERO);
        check("0s", Duration::ZERO);
        assert_eq!(read("1"), Err(UnitError::Missing("1s".into())));
        for text in ["", "s", "-5s", "soon", "5 5"] {
            assert!(
                matches!(read(text), Err(UnitError::Unreadable(_))),
                "{text}"
            );
        }
        let refused = duration("1ms", &limits::TIMEOUT).expect_err("too short");
        assert_eq!(refused.to_string(), "out of range: 100ms to 1h is allowed");
    }

    #[test]
    fn a_rate_is_per_second() {
        let read = |text| keys_per_s(text, &limits::KEYS_PER_S);
        for text in ["1000/s", " 1000 /s ", "1000 keys/s"] {
            assert_eq!(read(text), Ok(1000), "{text}");
        }
        assert_eq!(read("1000"), Err(UnitError::Missing("1000/s".into())));
        assert!(matches!(read("0/s"), Err(UnitError::Range(..))));
        for text in ["", "/s", "-1/s", "1.5/s", "1000/m", "many"] {
            assert!(
                matches!(read(text), Err(UnitError::Unreadable(_))),
                "{text}"
            );
        }
        let read = |text| bytes_per_s(text, &limits::BYTES_PER_S);
        assert_eq!(read("50MiB/s"), Ok(50 << 20));
        assert_eq!(read("1.5 MB/s"), Ok(1_500_000));
        assert_eq!(read("50MiB"), Err(UnitError::Missing("50MiB/s".into())));
        assert_eq!(read("50/s"), Err(UnitError::Missing("50MiB/s".into())));
        assert_eq!(read("50"), Err(UnitError::Missing("50MiB/s".into())));
        assert!(matches!(read("1B/s"), Err(UnitError::Range(..))));
        for text in ["", "/s", "MiB/s", "5MiB/m", "fast"] {
            assert!(
                matches!(read(text), Err(UnitError::Unreadable(_))),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_shown_can_be_read_again() {
        for amount in [1, 1023, 1 << 10, 3 << 19, 32 << 20, 64 << 30] {
            assert_eq!(
                bytes(&Bytes(amount).to_string(), &(1..=u64::MAX)),
                Ok(amount)
            );
        }
    }
}
