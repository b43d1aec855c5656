//! Numbers as people read them.

use std::time::{Duration, UNIX_EPOCH};

use crate::progress::{BigKeyStatus, FunctionsStatus};

/// `12 481 903`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// `1 finding`, `12 findings`.
pub fn counted(number: u64, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        _ => format!("{} {noun}s", count(number)),
    }
}

/// `1 key that only the target has`, `12 keys that …`.
pub fn keys(number: u64, which: &str) -> String {
    format!("{} that {which}", counted(number, "key"))
}

/// `3 libraries: 2 written, 1 there already`.
pub fn functions(functions: &FunctionsStatus) -> String {
    let FunctionsStatus {
        libraries,
        written,
        kept,
    } = *functions;
    let there = libraries.saturating_sub(written).saturating_sub(kept);
    let parts: Vec<String> = [
        (written, "written"),
        (there, "there already"),
        (kept, "kept as the target has them"),
    ]
    .into_iter()
    .filter(|(number, _)| *number > 0)
    .map(|(number, what)| format!("{} {what}", count(number)))
    .collect();
    match libraries {
        0 => "the source has none".to_owned(),
        1 => format!("1 library: {}", parts.join(", ")),
        _ => format!("{} libraries: {}", count(libraries), parts.join(", ")),
    }
}

/// `5.9 GiB`.
pub fn bytes(number: f64) -> String {
    scaled(number, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB"])
}

/// `184 k`: for rates, where the last digits say nothing.
pub fn rough(number: f64) -> String {
    scaled(number, 1000.0, &["", "k", "M", "G", "T"])
        .trim_end()
        .to_owned()
}

fn scaled(number: f64, step: f64, units: &[&str]) -> String {
    let mut number = if number.is_finite() {
        number.max(0.0)
    } else {
        0.0
    };
    let mut unit = 0;
    // What rounds to a full step already belongs to the next unit.
    while number >= step - 0.5 && unit + 1 < units.len() {
        number /= step;
        unit += 1;
    }
    let digits = usize::from(unit > 0 && number < 9.95);
    format!("{number:.digits$} {}", units[unit])
}

/// `3 h 12 m`, `3 m 12 s`, `19 s`, `0.2 s`.
pub fn seconds(seconds: f64) -> String {
    let seconds = if seconds.is_finite() {
        seconds.max(0.0)
    } else {
        0.0
    };
    if seconds < 9.95 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} m {:02} s", whole / 60, whole % 60),
        3600..172_800 => format!("{} h {:02} m", whole / 3600, whole / 60 % 60),
        _ => format!("{} d {:02} h", whole / 86400, whole / 3600 % 24),
    }
}

/// `71.4 %`; never `100.0 %` before the end.
pub fn percent(percent: f64) -> String {
    let percent = if percent.is_finite() {
        percent.clamp(0.0, 100.0)
    } else {
        0.0
    };
    let percent = if percent < 100.0 {
        percent.min(99.9)
    } else {
        percent
    };
    format!("{percent:.1} %")
}

/// `big key user:1: 34.2 % of 600 MiB`, and the how many'th reading it is.
pub fn big_key(status: &BigKeyStatus) -> String {
    let again = match status.readings {
        1 => String::new(),
        readings => format!(", reading {readings}"),
    };
    format!(
        "big key {}: {} of {}{again}",
        cut(&status.key, 60),
        percent(status.percent),
        bytes(status.bytes as f64)
    )
}

/// `2026-11-22 14:02:11 UTC`.
pub fn time(unix_ms: u64) -> String {
    /// The end of the year 9999, after which there are more digits than places.
    const LAST_S: u64 = 253_402_300_799;
    let time = UNIX_EPOCH + Duration::from_secs((unix_ms / 1000).min(LAST_S));
    let text = humantime::format_rfc3339_seconds(time).to_string();
    text.replace('T', " ").replace('Z', " UTC")
}

/// `text` without what would begin a new line or speak to the terminal.
pub fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// `text`, cut to `columns` characters.
pub fn cut(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(columns.saturating_sub(1)).collect();
    cut.push('\u{2026}');
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_rounded_for_people() {
        assert_eq!(
            [0, 999, 1000, 12_481_903].map(count),
            ["0", "999", "1 000", "12 481 903"]
        );
        assert_eq!(
            [0.0, 1023.0, 1024.0, 6.3e9].map(bytes),
            ["0 B", "1023 B", "1.0 KiB", "5.9 GiB"]
        );
        assert_eq!(bytes(1_048_575.9), "1.0 MiB");
        assert_eq!(
            [0.0, 999.0, 184_321.0, 1e6].map(rough),
            ["0", "999", "184 k", "1.0 M"]
        );
        assert_eq!(
            [0.2, 19.0, 192.0, 7300.0, 1e6].map(seconds),
            ["0.2 s", "19 s", "3 m 12 s", "2 h 01 m", "11 d 13 h"]
        );
        assert_eq!(
            [0.0, 71.44, 99.99, 100.0].map(percent),
            ["0.0 %", "71.4 %", "99.9 %", "100.0 %"]
        );
        assert_eq!(time(1_795_356_131_201), "2026-11-22 14:02:11 UTC");
    }

    #[test]
    fn no_number_breaks_the_formatting() {
        for odd in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, f64::MAX] {
            for text in [bytes(odd), rough(odd), seconds(odd), percent(odd)] {
                assert!(text.len() < 400, "{text}");
            }
        }
        let _ = (count(u64::MAX), time(u64::MAX));
        assert_eq!(cut("abcdef", 4), "abc\u{2026}");
        assert_eq!(cut("abcdef", 0), "\u{2026}");
    }
}
