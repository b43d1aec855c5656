//! How fast a copy was, from the samples of the journal.
//!
//! # Invariant
//!
//! However long the copy took, a bounded number of samples is kept, and each is the mean of the time that it is of.

use super::model::Sample;
use crate::audit::entry;

/// So many samples are kept; beyond it, two and two are made one.
const SAMPLES_MAX: usize = 4096;

/// Samples so far.
#[derive(Default)]
pub struct Curve {
    samples: Vec<Sample>,
}

impl Curve {
    /// Takes the sample that a milestone at this instant has.
    pub fn push(&mut self, at_ms: u64, sample: &entry::Sample) {
        let ms = |us: u32| f64::from(us) / 1000.0;
        self.samples.push(Sample {
            at_ms,
            over_ms: sample.over_ms,
            keys_per_s: sample.keys_per_s,
            bytes_per_s: sample.bytes_per_s,
            latency_ms: sample.source_latency.map(|latency| ms(latency.p99_us)),
        });
        if self.samples.len() > SAMPLES_MAX {
            self.halve();
        }
    }

    fn halve(&mut self) {
        let mut merged: Vec<Sample> = Vec::with_capacity(SAMPLES_MAX);
        let mut alone = false;
        for sample in self.samples.drain(..) {
            match merged.last_mut() {
                // Between two runs nothing was copied.
                Some(last) if alone && follows(last, &sample) => {
                    *last = mean(last, &sample);
                    alone = false;
                }
                _ => {
                    alone = true;
                    merged.push(sample);
                }
            }
        }
        self.samples = merged;
    }

    /// All samples.
    pub fn finish(self) -> Vec<Sample> {
        self.samples
    }
}

/// Whether `next` begins where `sample` ends, or nearly.
pub fn follows(sample: &Sample, next: &Sample) -> bool {
    let gap = next.at_ms.saturating_sub(next.over_ms);
    gap <= sample.at_ms + next.over_ms / 4
}

fn mean(one: &Sample, other: &Sample) -> Sample {
    let over_ms = one.over_ms + other.over_ms;
    let weighted = |first: f64, second: f64| {
        let sum = first * one.over_ms as f64 + second * other.over_ms as f64;
        sum / (over_ms as f64).max(1.0)
    };
    Sample {
        at_ms: other.at_ms,
        over_ms,
        keys_per_s: weighted(one.keys_per_s, other.keys_per_s),
        bytes_per_s: weighted(one.bytes_per_s, other.bytes_per_s),
        latency_ms: match (one.latency_ms, other.latency_ms) {
            (Some(one), Some(other)) => Some(one.max(other)),
            (one, other) => one.or(other),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(over_ms: u64, keys_per_s: f64) -> entry::Sample {
        entry::Sample {
            run: 1,
            over_ms,
            keys_scanned: 0,
            keys_written: 0,
            payload_bytes_written: 0,
            keys_per_s,
            bytes_per_s: 0.0,
            source_latency: None,
            target_latency: None,
            fsync_us: 0,
            throttled_ms: 0,
            throttle: None,
        }
    }

    #[test]
    fn a_long_copy_keeps_a_bounded_number_of_samples_and_its_mean() {
        let mut curve = Curve::default();
        for second in 1..=20_000_u64 {
            let rate = if second % 2 == 0 { 90.0 } else { 110.0 };
            curve.push(second * 1000, &sample(1000, rate));
        }
        let samples = curve.finish();
        assert!(samples.len() <= SAMPLES_MAX + 1, "{}", samples.len());
        let keys: f64 = samples
            .iter()
            .map(|sample| sample.keys_per_s * sample.over_ms as f64 / 1000.0)
            .sum();
        assert!((keys - 2_000_000.0).abs() < 1.0, "{keys}");
        assert_eq!(samples.last().map(|last| last.at_ms), Some(20_000_000));
    }

    #[test]
    fn what_lies_between_two_runs_is_of_neither() {
        let mut curve = Curve::default();
        curve.push(1000, &sample(1000, 1.0));
        curve.push(2000, &sample(1000, 1.0));
        curve.push(9000, &sample(1000, 1.0));
        let samples = curve.finish();
        assert!(follows(&samples[0], &samples[1]));
        assert!(!follows(&samples[1], &samples[2]));
    }
}
