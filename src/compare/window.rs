//! How many keys both sides may be asked for at once, and whether strings are read by MGET.
//!
//! A server builds all its answers in its own memory and serves nobody else while it works through a pipeline. Small
//! values want hundreds of questions on their way, large ones few.

use std::time::Duration;

use crate::pace::Share;

/// Bytes of values that a side is asked for at once.
const OUTSTANDING_BYTES: f64 = 512.0 * 1024.0;
/// Most keys outstanding, however small: the servers must not run dry while our process waits for a processor.
const KEYS_MAX: f64 = 2048.0;
/// Fewest keys outstanding while they are of ordinary size: below it the round trip is felt.
const KEYS_MIN: f64 = 16.0;
/// Below this many bytes the fewest keys hold; above it even they would fill the servers' memory.
const OUTSTANDING_BYTES_MAX: f64 = 8.0 * 1024.0 * 1024.0;
/// Keys outstanding before any size is known.
const KEYS_FIRST: f64 = 32.0;
/// Share of strings from which on it pays to ask by MGET first: a nil costs a tenth of a DUMP.
const STRINGS_MIN: f64 = 0.2;
/// Keys after which MGET is tried again where strings were few.
const KEYS_UNTIL_RETRIAL: u32 = 4096;
/// Weight of the newest observation in the averages.
const WEIGHT: f64 = 1.0 / 32.0;

/// Adapts to sizes, to the share of strings, and to what a probe PING feels.
pub struct Window {
    /// MGET may be used.
    strings: bool,
    /// Share of keys that were strings on both sides.
    string_share: Option<f64>,
    string_bytes: Option<f64>,
    payload_bytes: Option<f64>,
    keys_since_trial: u32,
    /// Of the size's window.
    share: Share,
}

impl Window {
    /// Nothing is known yet. `strings`: MGET may be used.
    pub fn new(strings: bool) -> Self {
        Self {
            strings,
            string_share: None,
            string_bytes: None,
            payload_bytes: None,
            keys_since_trial: 0,
            share: Share::default(),
        }
    }

    /// MGET asked for a key: whether both sides have a string, and the longer one's length.
    pub fn observe_string(&mut self, is_string: bool, bytes: usize) {
        average(&mut self.string_share, f64::from(u8::from(is_string)));
        if is_string {
            average(&mut self.string_bytes, bytes as f64);
        }
    }

    /// DUMP returned so many bytes on the side that had more.
    pub fn observe_payload(&mut self, bytes: usize) {
        average(&mut self.payload_bytes, bytes as f64);
        self.keys_since_trial = self.keys_since_trial.saturating_add(1);
    }

    /// A probe PING took this long.
    pub fn observe_latency(&mut self, latency: Duration) {
        self.share.observe_latency(latency);
    }

    /// A guard leaves this share of the window, above 0 and at most 1.
    pub fn guard(&mut self, share: f64) {
        self.share.guard(share);
    }

    /// How the window compares to the smallest one, which holds instead where a guard leaves less.
    pub fn times_smallest(&self) -> f64 {
        let (by_size, least) = self.by_size();
        by_size / least
    }

    /// A server does not take MGET.
    pub fn strings_refused(&mut self) {
        self.strings = false;
    }

    /// Whether the next unread keys are asked for by MGET.
    pub fn reads_strings(&mut self) -> bool {
        if !self.strings {
            return false;
        }
        if self.string_share.is_none_or(|share| share >= STRINGS_MIN) {
            return true;
        }
        let trial = self.keys_since_trial >= KEYS_UNTIL_RETRIAL;
        if trial {
            self.keys_since_trial = 0;
        }
        trial
    }

    /// How many keys one MGET may have.
    pub fn strings_at_once(&self) -> usize {
        match self.string_bytes {
            // A quarter, so that there are several on their way.
            Some(bytes) => (OUTSTANDING_BYTES / 4.0 / (bytes + 1.0)).max(1.0) as usize,
            None => KEYS_FIRST as usize,
        }
    }

    /// Bytes that a value is expected to have on a side.
    pub fn value_bytes(&self) -> Option<f64> {
        let string_share = match self.strings {
            true => self.string_share.unwrap_or(0.0),
            false => 0.0,
        };
        match (self.string_bytes, self.payload_bytes) {
            (None, None) => None,
            (Some(string), None) => Some(string),
            (None, Some(payload)) => Some(payload),
            (Some(string), Some(payload)) => {
                Some(string_share * string + (1.0 - string_share) * payload)
            }
        }
    }

    /// How many keys may be outstanding; at least 1.
    pub fn keys(&self) -> usize {
        let (by_size, least) = self.by_size();
        self.share.of(by_size).max(least) as usize
    }

    /// The window that the size of values allows, and the smallest one.
    fn by_size(&self) -> (f64, f64) {
        let Some(expected) = self.value_bytes() else {
            return (KEYS_FIRST, KEYS_MIN);
        };
        let expected = expected + 1.0;
        let least = (OUTSTANDING_BYTES_MAX / expected).clamp(1.0, KEYS_MIN);
        ((OUTSTANDING_BYTES / expected).clamp(least, KEYS_MAX), least)
    }
}

fn average(average: &mut Option<f64>, value: f64) {
    *average = Some(match *average {
        Some(average) => average + (value - average) * WEIGHT,
        None => value,
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_values_get_hundreds_and_large_ones_few() {
        let after = |bytes: usize| {
            let mut window = Window::new(false);
            window.observe_payload(bytes);
            window.keys()
        };
        assert_eq!(Window::new(true).keys(), 32);
        assert_eq!(after(100), 2048);
        assert!((16..=64).contains(&after(10 * 1024)));
        assert_eq!(after(64 << 20), 1);
        let mut strings = Window::new(true);
        strings.observe_string(true, 64 << 20);
        assert_eq!((strings.keys(), strings.strings_at_once()), (1, 1));
    }

    #[test]
    fn a_slow_probe_narrows_it_and_quick_ones_widen_it_again() {
        let mut window = Window::new(false);
        window.observe_payload(100);
        for _ in 0..100 {
            window.observe_latency(Duration::from_millis(50));
        }
        assert_eq!(window.keys(), 32);
        for _ in 0..100 {
            window.observe_latency(Duration::from_millis(1));
        }
        assert_eq!(window.keys(), 2048);
    }

    #[test]
    fn strings_are_asked_for_as_such_while_there_are_enough_of_them() {
        let mut window = Window::new(true);
        assert!(window.reads_strings());
        for _ in 0..200 {
            window.observe_string(false, 0);
        }
        assert!(!window.reads_strings());
        for _ in 0..KEYS_UNTIL_RETRIAL {
            window.observe_payload(10);
        }
        assert!(window.reads_strings(), "tried again");
        assert!(!window.reads_strings());
        for _ in 0..200 {
            window.observe_string(true, 10);
        }
        assert!(window.reads_strings());
        window.strings_refused();
        assert!(!window.reads_strings());
        assert!(!Window::new(false).reads_strings());
    }
}
