//! Hours of the day: `22:00-06:00`.
//!
//! # Invariant
//!
//! Every minute of the day is either within or outside, and there are both.

use std::fmt;
use std::str::FromStr;

const MINUTES_PER_HOUR: u16 = 60;
const MINUTES_PER_DAY: u16 = 24 * MINUTES_PER_HOUR;

/// From one time of day until another, which may be one of the next day. The last minute is not part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hours {
    from: TimeOfDay,
    until: TimeOfDay,
}

/// A minute of the day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeOfDay(u16);

/// Why a text names no hours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HoursError {
    /// `22-6`, `25:00-06:00`.
    #[error("not two times of day, such as 22:00-06:00")]
    Unreadable,
    /// `22:00-22:00`.
    #[error("it ends when it begins; leave it away for the whole day")]
    Empty,
}

impl Hours {
    /// Whether this time is within.
    pub fn contains(&self, time: TimeOfDay) -> bool {
        match self.from < self.until {
            true => self.from <= time && time < self.until,
            false => self.from <= time || time < self.until,
        }
    }

    /// When they begin.
    pub fn from(&self) -> TimeOfDay {
        self.from
    }
}

impl TimeOfDay {
    /// Of a clock; what no clock shows is the last minute of the day.
    pub fn new(hour: u8, minute: u8) -> Self {
        let minutes = u16::from(hour) * MINUTES_PER_HOUR + u16::from(minute);
        Self(minutes.min(MINUTES_PER_DAY - 1))
    }

    /// `22:00`; 24:00 is what ends the day, and so begins it.
    fn read(text: &str) -> Option<Self> {
        let (hour, minute) = text.trim().split_once(':')?;
        let number = |text: &str| {
            let digits = matches!(text.len(), 1..=2) && text.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| text.parse::<u16>().ok()).flatten()
        };
        let hour = number(hour)?;
        let minute = number(minute).filter(|_| minute.len() == 2)?;
        let minutes = hour * MINUTES_PER_HOUR + minute;
        (minute < MINUTES_PER_HOUR && minutes <= MINUTES_PER_DAY)
            .then_some(Self(minutes % MINUTES_PER_DAY))
    }
}

impl FromStr for Hours {
    type Err = HoursError;

    fn from_str(text: &str) -> Result<Self, HoursError> {
        let (from, until) = text.split_once('-').ok_or(HoursError::Unreadable)?;
        let read = |text| TimeOfDay::read(text).ok_or(HoursError::Unreadable);
        let (from, until) = (read(from)?, read(until)?);
        match from == until {
            true => Err(HoursError::Empty),
            false => Ok(Self { from, until }),
        }
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (hour, minute) = (self.0 / MINUTES_PER_HOUR, self.0 % MINUTES_PER_HOUR);
        write!(f, "{hour:02}:{minute:02}")
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.from, self.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(text: &str) -> Hours {
        text.parse().expect(text)
    }

    #[test]
    fn hours_may_pass_midnight() {
        let check = |text: &str, hour, minute, within| {
            let time = TimeOfDay::new(hour, minute);
            assert_eq!(hours(text).contains(time), within, "{time} in {text}");
        };
        check("22:00-06:00", 21, 59, false);
        check("22:00-06:00", 22, 0, true);
        check("22:00-06:00", 0, 0, true);
        check("22:00-06:00", 5, 59, true);
        check("22:00-06:00", 6, 0, false);
        check("9:30-17:00", 9, 29, false);
        check("9:30-17:00", 9, 30, true);
        check("9:30-17:00", 17, 0, false);
        check("18:00-24:00", 23, 59, true);
        check("18:00-24:00", 0, 0, false);
        check("00:00-12:00", 0, 0, true);
    }

    #[test]
    fn what_is_shown_can_be_read_again() {
        for text in ["22:00-06:00", "09:30-17:00", "18:00-00:00"] {
            assert_eq!(hours(text).to_string(), text);
        }
        assert_eq!(hours(" 9:05 - 24:00 ").to_string(), "09:05-00:00");
    }

    #[test]
    fn what_names_no_hours_is_refused() {
        for text in [
            "",
            "22:00",
            "22-06",
            "25:00-06:00",
            "24:01-06:00",
            "22:60-06:00",
            "22:0-06:00",
            "-1:00-06:00",
            "22:00-06:00-07:00",
            "22:00 06:00",
            "+2:00-06:00",
            "night",
        ] {
            assert_eq!(text.parse::<Hours>(), Err(HoursError::Unreadable), "{text}");
        }
        assert_eq!("22:00-22:00".parse::<Hours>(), Err(HoursError::Empty));
        assert_eq!("0:00-24:00".parse::<Hours>(), Err(HoursError::Empty));
    }
}
