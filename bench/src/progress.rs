//! What people see while it runs, on standard error.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A line that says what is being measured. Silent when nobody watches.
#[derive(Debug, Clone)]
pub struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// Of so many measurements.
    pub fn new(measurements: usize) -> Self {
        let bar = ProgressBar::new(measurements.try_into().unwrap_or(u64::MAX));
        if let Ok(style) =
            ProgressStyle::with_template("{spinner} [{pos}/{len}] {elapsed_precise} {wide_msg}")
        {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bar }
    }

    /// A run of a figure begins.
    pub fn step(&self, figure: &str, run: usize, runs: usize) {
        self.say(format!("{figure}, run {run} of {runs}"));
    }

    /// Something else goes on.
    pub fn say(&self, what: impl Into<String>) {
        self.bar.set_message(what.into());
    }

    /// Leaves a line above.
    pub fn leave(&self, line: impl AsRef<str>) {
        self.bar.suspend(|| {
            use std::io::Write;
            // Progress is a courtesy; when standard error is gone, nobody misses it.
            let _ = writeln!(std::io::stderr(), "{}", line.as_ref());
        });
    }

    /// A measurement is done.
    pub fn done(&self) {
        self.bar.inc(1);
    }

    /// Takes the line away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
