//! Histograms of fixed size: each sample is added to its bucket where it is taken.
//!
//! The exporter's own keep every sample until somebody renders or folds them in: at fifty thousand jobs a second that is
//! some 12 MB for each histogram every five seconds, and the folding on top. Here a sample costs two additions to shared
//! memory, and nothing grows.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use metrics::{HistogramFn, Key, Label};

use crate::catalogue;

/// Upper bounds of the buckets, in seconds: from a fast statement to the longest backlog that anybody bears.
const SECONDS: [f64; 18] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1_800.0,
    7_200.0,
];

/// All histograms of the process, by name and labels.
#[derive(Debug, Default)]
pub(crate) struct Histograms(RwLock<HashMap<Key, Arc<Buckets>>>);

/// One series: how many samples fell into each bucket, the last being for all that are larger, and their sum.
#[derive(Debug, Default)]
pub(crate) struct Buckets {
    counts: [AtomicU64; SECONDS.len() + 1],
    /// The bits of a float.
    sum: AtomicU64,
}

impl HistogramFn for Buckets {
    fn record(&self, value: f64) {
        self.record_many(value, 1);
    }

    fn record_many(&self, value: f64, count: usize) {
        if !value.is_finite() {
            return;
        }
        let bucket = SECONDS.partition_point(|bound| *bound < value);
        self.counts[bucket].fetch_add(count as u64, Relaxed);
        let added = value * count as f64;
        // It always answers something, so it does not fail.
        let _ =
            self.sum.fetch_update(Relaxed, Relaxed, |bits| Some((f64::from_bits(bits) + added).to_bits()));
    }
}

impl Histograms {
    /// The series of this name and these labels; made when it is first asked for.
    pub(crate) fn series(&self, key: &Key) -> Arc<Buckets> {
        if let Some(known) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(key) {
            return known.clone();
        }
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.entry(key.clone()).or_default().clone()
    }

    /// All of them in Prometheus' text format.
    pub(crate) fn render(&self, text: &mut String) {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut by_name: BTreeMap<&str, Vec<(String, &Buckets)>> = BTreeMap::new();
        for (key, buckets) in all.iter() {
            by_name.entry(key.name()).or_default().push((labels(key.labels()), buckets));
        }
        for (name, mut series) in by_name {
            series.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
            if let Some(metric) = catalogue::find(name) {
                let _ = writeln!(text, "# HELP {name} {}", metric.help);
            }
            let _ = writeln!(text, "# TYPE {name} histogram");
            for (labels, buckets) in series {
                buckets.render(name, &labels, text);
            }
            text.push('\n');
        }
    }
}

impl Buckets {
    fn render(&self, name: &str, labels: &str, text: &mut String) {
        let comma = if labels.is_empty() { "" } else { "," };
        let mut sum_of_counts = 0;
        let bounds = SECONDS.iter().map(ToString::to_string).chain(["+Inf".to_owned()]);
        for (bound, count) in bounds.zip(&self.counts) {
            sum_of_counts += count.load(Relaxed);
            let _ = writeln!(text, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {sum_of_counts}");
        }
        let braced = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        let _ = writeln!(text, "{name}_sum{braced} {}", f64::from_bits(self.sum.load(Relaxed)));
        let _ = writeln!(text, "{name}_count{braced} {sum_of_counts}");
    }
}

/// Labels as they stand between the braces.
fn labels<'a>(labels: impl Iterator<Item = &'a Label>) -> String {
    let one = |label: &Label| {
        let value = label.value().replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
        format!("{}=\"{value}\"", label.key())
    };
    labels.map(one).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(histograms: &Histograms) -> String {
        let mut text = String::new();
        histograms.render(&mut text);
        text
    }

    #[test]
    fn a_sample_counts_in_every_bucket_that_is_large_enough() {
        let histograms = Histograms::default();
        let key = Key::from_parts("millpond_job_run_seconds", vec![Label::new("kind", "a\"b")]);
        let series = histograms.series(&key);
        for value in [0.025, 0.02, 1e9, f64::NAN, -1.0] {
            series.record(value);
        }
        histograms.series(&key).record_many(0.5, 1_000);
        let text = rendered(&histograms);
        for line in [
            "# TYPE millpond_job_run_seconds histogram",
            r#"millpond_job_run_seconds_bucket{kind="a\"b",le="0.001"} 1"#,
            r#"millpond_job_run_seconds_bucket{kind="a\"b",le="0.01"} 1"#,
            r#"millpond_job_run_seconds_bucket{kind="a\"b",le="0.025"} 3"#,
            r#"millpond_job_run_seconds_bucket{kind="a\"b",le="0.5"} 1003"#,
            r#"millpond_job_run_seconds_bucket{kind="a\"b",le="7200"} 1003"#,
            r#"millpond_job_run_seconds_bucket{kind="a\"b",le="+Inf"} 1004"#,
            r#"millpond_job_run_seconds_sum{kind="a\"b"} 1000000499.045"#,
            r#"millpond_job_run_seconds_count{kind="a\"b"} 1004"#,
        ] {
            assert!(text.lines().any(|other| other == line), "{line}\n{text}");
        }
    }

    #[test]
    fn a_series_without_labels_has_no_braces_but_those_of_its_buckets() {
        let histograms = Histograms::default();
        histograms.series(&Key::from_static_name("a_seconds")).record(3.0);
        let text = rendered(&histograms);
        assert!(text.contains("a_seconds_bucket{le=\"5\"} 1\n"), "{text}");
        assert!(text.contains("a_seconds_sum 3\n") && text.contains("a_seconds_count 1\n"), "{text}");
    }
}
