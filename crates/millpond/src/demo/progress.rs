//! The progress bar: a bar at a terminal, now and then a line elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::tell;

/// Lines come no more often than this where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(2);
const TICK_EVERY: Duration = Duration::from_millis(120);
const STYLE: &str = "{spinner} {msg} [{bar:40}] {pos}/{len}  {elapsed}";

/// How far the demonstration is. Clones show the same.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    bar: ProgressBar,
    at_terminal: bool,
    last_line: Instant,
}

impl Progress {
    /// For so many rows, none of which was asked for yet.
    pub(crate) fn new(rows: usize) -> Self {
        let at_terminal = std::io::stderr().is_terminal();
        let target = if at_terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar =
            ProgressBar::with_draw_target(Some(rows as u64), target).with_message("asking for profiles");
        if let Ok(style) = ProgressStyle::with_template(STYLE) {
            bar.set_style(style.progress_chars("=> "));
        }
        if at_terminal {
            bar.enable_steady_tick(TICK_EVERY);
        } else {
            tell(&format!("asking for {rows} profiles …"));
        }
        Self { bar, at_terminal, last_line: Instant::now() }
    }

    /// So many more rows were asked for.
    pub(crate) fn asked(&self, rows: u64) {
        self.bar.inc(rows);
    }

    /// So many jobs were told of, of so many.
    pub(crate) fn told(&mut self, jobs: usize, all: usize) {
        self.bar.set_message("callbacks received ");
        self.bar.set_length(all as u64);
        self.bar.set_position(jobs as u64);
        if !self.at_terminal && self.last_line.elapsed() >= LINE_EVERY {
            self.last_line = Instant::now();
            tell(&format!("{jobs} of {all} callbacks received …"));
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
