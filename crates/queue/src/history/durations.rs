//! Durations of many jobs in little space: how many, their sum and largest, and a histogram that can be added up.

use std::time::Duration;

/// Buckets there are; the last is open.
const BUCKETS: usize = 32;

/// How many durations lie where: bucket 0 is less than a millisecond, bucket b from 2^(b-1) ms to less than 2^b ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Histogram([u64; BUCKETS]);

impl Histogram {
    /// From the buckets that hold something, and how much.
    pub(super) fn of(buckets: &[i16], counts: &[i64]) -> Self {
        let mut histogram = Self::default();
        for (bucket, count) in buckets.iter().zip(counts) {
            let at = usize::try_from(*bucket).unwrap_or_default().min(BUCKETS - 1);
            histogram.0[at] += u64::try_from(*count).unwrap_or_default();
        }
        histogram
    }

    /// Adds another one up.
    pub fn add(&mut self, other: &Self) {
        for (own, other) in self.0.iter_mut().zip(other.0) {
            *own += other;
        }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// Durations of many jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Durations {
    /// How many.
    pub count: u64,
    /// Together.
    pub sum: Duration,
    /// The longest.
    pub max: Duration,
    /// How they are spread.
    pub histogram: Histogram,
}

impl Durations {
    /// Adds others up.
    pub fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.sum += other.sum;
        self.max = self.max.max(other.max);
        self.histogram.add(&other.histogram);
    }

    /// The mean; `None` of nothing.
    #[must_use]
    pub fn mean(&self) -> Option<Duration> {
        (self.count > 0).then(|| Duration::from_secs_f64(self.sum.as_secs_f64() / self.count as f64))
    }

    /// The duration that a share of them does not exceed, such as 0.95; `None` of nothing. It lies in the right bucket,
    /// so it is wrong by less than a factor of two, and never above the longest.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let count = self.histogram.count();
        if count == 0 {
            return None;
        }
        let wanted = share.clamp(0.0, 1.0) * count as f64;
        let mut below = 0.0;
        for (bucket, jobs) in (0_u32..).zip(self.histogram.0) {
            let jobs = jobs as f64;
            if jobs > 0.0 && below + jobs >= wanted {
                let (low, high) = bounds_ms(bucket);
                let ms = low + (high - low) * ((wanted - below) / jobs);
                return Some(Duration::from_secs_f64(ms / 1_000.0).min(self.max));
            }
            below += jobs;
        }
        Some(self.max)
    }
}

/// From where to where a bucket reaches.
fn bounds_ms(bucket: u32) -> (f64, f64) {
    match bucket {
        0 => (0.0, 1.0),
        _ => (2_f64.powi(bucket.cast_signed() - 1), 2_f64.powi(bucket.cast_signed())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn a_quantile_lies_in_the_bucket_of_the_duration_that_it_stands_for() {
        // 90 of about 5 ms, 10 of about 300 ms.
        let durations = Durations {
            count: 100,
            sum: ms(3_450),
            max: ms(310),
            histogram: Histogram::of(&[3, 9], &[90, 10]),
        };
        let median = durations.quantile(0.5).unwrap();
        assert!((ms(4)..ms(8)).contains(&median), "{median:?}");
        let late = durations.quantile(0.95).unwrap();
        assert!((ms(256)..=ms(310)).contains(&late), "{late:?}");
        assert_eq!(durations.quantile(1.0), Some(ms(310)), "never above the longest");
        assert_eq!(durations.mean(), Some(Duration::from_micros(34_500)));
    }

    #[test]
    fn nothing_has_no_quantile_and_no_mean() {
        assert_eq!((Durations::default().quantile(0.5), Durations::default().mean()), (None, None));
    }

    #[test]
    fn histograms_add_up() {
        let mut sum = Histogram::of(&[0, 31, 99], &[1, 2, 3]);
        sum.add(&Histogram::of(&[0], &[4]));
        assert_eq!(sum, Histogram::of(&[0, 31], &[5, 5]));
        assert_eq!(sum.count(), 10);
    }
}
