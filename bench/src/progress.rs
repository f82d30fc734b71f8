//! What people see while it runs, on standard error.

use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// A line that says what is being measured; where standard error is no terminal, a line for each step.
#[derive(Debug, Clone)]
pub struct Progress {
    bar: ProgressBar,
    /// When the last line was written, where lines are.
    last_line_at: Option<Arc<Mutex<Option<Instant>>>>,
}

/// The time between two lines that only count on.
const LINE_EVERY: Duration = Duration::from_secs(2);

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
        let last_line_at = (!std::io::stderr().is_terminal()).then(Arc::default);
        Self { bar, last_line_at }
    }

    /// A run of a figure begins.
    pub fn step(&self, figure: &str, run: usize, runs: usize) {
        let what = format!("{figure}, run {run} of {runs}");
        self.write_line(&what, Duration::ZERO);
        self.bar.set_message(what);
    }

    /// Something else goes on.
    pub fn say(&self, what: impl Into<String>) {
        let what = what.into();
        self.write_line(&what, LINE_EVERY);
        self.bar.set_message(what);
    }

    /// Leaves a line above.
    pub fn leave(&self, line: impl AsRef<str>) {
        self.bar.suspend(|| print(line.as_ref()));
    }

    /// A measurement is done.
    pub fn done(&self) {
        self.bar.inc(1);
    }

    /// Takes the line away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// Writes a line where no bar is seen, unless there was one just before.
    fn write_line(&self, what: &str, after: Duration) {
        let Some(last) = &self.last_line_at else { return };
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|last| last.elapsed() < after) {
            return;
        }
        *last = Some(Instant::now());
        let (done, all) = (self.bar.position(), self.bar.length().unwrap_or_default());
        print(&format!("[{done}/{all}] {} s: {what}", self.bar.elapsed().as_secs()));
    }
}

/// Progress is a courtesy; when standard error is gone, nobody misses it.
fn print(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
