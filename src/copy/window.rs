//! How many keys may be asked of the source at once.
//!
//! Deep pipelines are fast for small keys and harmful for large ones: the server executes what has arrived in one go,
//! keeps all answers in its own memory, and serves nobody else meanwhile. Measured with 11 KiB values: 16 to 64
//! outstanding DUMPs are the fastest, 256 are slower and triple the latency of other clients. Small keys want hundreds.

use std::time::Duration;

use crate::pace::Share;

/// Payload bytes that the source is asked for at once.
const OUTSTANDING_BYTES: u64 = 512 * 1024;
/// Most keys outstanding, however small, at a source that is near. Fewer, and it would run dry while our process waits for a
/// processor. More spare nothing, and may cost it something: what SCAN has just fetched from memory is gone from its
/// processor's cache by the time the value is asked for. See `benches/README.md`.
const KEYS_NEAR: u64 = 512;
/// Most keys outstanding at a source that is far away.
const KEYS_MAX: u64 = 2048;
/// Twice what a source reads at most in a millisecond. Pipelines are refilled at half a window, and what is left of it should
/// last until the new questions have arrived.
const KEYS_PER_MS: u64 = 800;
/// Fewest keys outstanding while they are of ordinary size: below it the round trip is felt.
const KEYS_MIN: u64 = 16;
/// Below this many bytes the fewest keys hold; above it even they would fill the source's memory.
const OUTSTANDING_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Keys outstanding before any size is known.
const KEYS_FIRST: u64 = 32;

const _: () = assert!(KEYS_MIN <= KEYS_FIRST && KEYS_FIRST <= KEYS_NEAR && KEYS_NEAR <= KEYS_MAX);
const _: () = assert!(OUTSTANDING_BYTES <= OUTSTANDING_BYTES_MAX);

/// Adapts to payload sizes and to what a probe PING feels.
#[derive(Default)]
pub struct Window {
    /// Moving average of payload sizes; `None` before the first.
    payload_bytes: Option<f64>,
    /// Of the size's window.
    share: Share,
    /// The quickest probe: about how long the path takes.
    quickest: Option<Duration>,
}

impl Window {
    /// A payload of this size was read.
    pub fn observe_payload(&mut self, bytes: usize) {
        let bytes = bytes as f64;
        self.payload_bytes = Some(match self.payload_bytes {
            Some(average) => average + (bytes - average) / 32.0,
            None => bytes,
        });
    }

    /// A key that was not read yet has about so many bytes: that counts until a payload comes.
    pub fn expect_payload(&mut self, bytes: u64) {
        self.payload_bytes.get_or_insert(bytes as f64);
    }

    /// A probe PING took this long.
    pub fn observe_latency(&mut self, latency: Duration) {
        self.quickest = Some(self.quickest.unwrap_or(latency).min(latency));
        self.share.observe_latency(latency);
    }

    /// A guard leaves this share of the window, above 0 and at most 1.
    pub fn guard(&mut self, share: f64) {
        self.share.guard(share);
    }

    /// How the window compares to the smallest one, which holds instead where a guard leaves less. What the window's own
    /// probes take back does not count: it comes again within a second, and the guard's rate does not.
    pub fn times_smallest(&self) -> f64 {
        let (by_size, least) = self.by_size();
        by_size as f64 / least as f64
    }

    /// Median of the last probes.
    pub fn latency(&self) -> Option<Duration> {
        self.share.latency()
    }

    /// Size that the next payload is expected to have, bytes.
    pub fn payload_bytes(&self) -> u64 {
        self.payload_bytes
            .map_or(1024, |average| average as u64 + 1)
    }

    /// How many keys may be outstanding; at least 1.
    pub fn keys(&self) -> usize {
        let (by_size, least) = self.by_size();
        (self.share.of(by_size as f64) as u64).max(least) as usize
    }

    /// The window that the size of payloads allows, and the smallest one.
    fn by_size(&self) -> (u64, u64) {
        let Some(average) = self.payload_bytes else {
            return (KEYS_FIRST, KEYS_MIN);
        };
        let average = average as u64 + 1;
        let least = (OUTSTANDING_BYTES_MAX / average).clamp(1, KEYS_MIN);
        let by_size = (OUTSTANDING_BYTES / average).clamp(least, self.by_distance());
        (by_size, least)
    }

    /// Most keys that the length of the path asks for.
    fn by_distance(&self) -> u64 {
        let path_us = self.quickest.unwrap_or_default().as_micros() as u64;
        (path_us.saturating_mul(KEYS_PER_MS) / 1000).clamp(KEYS_NEAR, KEYS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(payload: usize, count: usize) -> Window {
        let mut window = Window::default();
        for _ in 0..count {
            window.observe_payload(payload);
        }
        window
    }

    #[test]
    fn small_keys_get_hundreds_and_large_ones_few() {
        assert_eq!(Window::default().keys(), 32);
        assert_eq!(after(100, 1).keys(), 512);
        let of_10_kib = after(10 * 1024, 1).keys();
        assert!((16..=64).contains(&of_10_kib), "{of_10_kib}");
        assert_eq!(after(100 * 1024, 1).keys(), 16);
        assert_eq!(after(64 << 20, 1).keys(), 1);
    }

    #[test]
    fn a_source_that_is_far_away_is_asked_for_more_at_once() {
        let mut window = after(100, 1);
        window.observe_latency(Duration::from_millis(5));
        assert_eq!(window.keys(), 2048);
        window.observe_latency(Duration::from_millis(1));
        assert_eq!(window.keys(), 800);
        // A path does not grow longer.
        window.observe_latency(Duration::from_millis(5));
        assert_eq!(window.keys(), 800);
    }

    #[test]
    fn a_slow_probe_narrows_it_and_quick_ones_widen_it_again() {
        let mut window = after(100, 1);
        window.observe_latency(Duration::ZERO);
        window.observe_latency(Duration::from_millis(50));
        window.observe_latency(Duration::from_millis(50));
        let narrowed = window.keys();
        assert!(narrowed < 512);
        for _ in 0..100 {
            window.observe_latency(Duration::from_millis(50));
        }
        assert_eq!(window.keys(), 16);
        for _ in 0..100 {
            window.observe_latency(Duration::from_millis(1));
        }
        assert_eq!(window.keys(), 512);
    }

    #[test]
    fn one_outlier_does_not_narrow_it() {
        let mut window = after(100, 1);
        for _ in 0..4 {
            window.observe_latency(Duration::ZERO);
        }
        window.observe_latency(Duration::from_secs(1));
        assert_eq!(window.keys(), 512);
    }
}
