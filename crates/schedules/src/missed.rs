//! What becomes of ticks that were due while no scheduler looked: a pure rule.
//!
//! A tick that is stored within the grace of its instant is on time and runs under every policy. A later one counts as
//! missed: `skip` runs none of them, `once` the newest for all, `backfill:N` the newest N, each as the tick it is.
//! What does not run is recorded as missed: the newest [`ROWS_MAX`] one by one, all before as one span.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::due::{Due, Span};

/// How late a tick may be stored and still count as on time: long enough to restart every scheduler, short enough that
/// nobody would call it another time.
pub const GRACE: Duration = Duration::from_secs(60);
/// Most ticks that `backfill` runs.
pub const BACKFILL_MAX: u16 = 1_000;
/// Missed ticks of one absence that are recorded one by one.
pub const ROWS_MAX: usize = 100;

/// What to do about missed ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Missed {
    /// Nothing: the next tick comes soon enough.
    Skip,
    /// One job stands for all of them.
    Once,
    /// The newest so many run.
    Backfill(u16),
}

/// A text that is no policy for missed ticks.
#[derive(Debug, Clone, thiserror::Error)]
#[error("expected skip, once or backfill:N with N from 1 to {BACKFILL_MAX}")]
pub struct UnknownMissed;

impl FromStr for Missed {
    type Err = UnknownMissed;

    fn from_str(text: &str) -> Result<Self, UnknownMissed> {
        match text {
            "skip" => Ok(Self::Skip),
            "once" => Ok(Self::Once),
            _ => {
                let ticks = text.strip_prefix("backfill:").or_else(|| text.strip_prefix("backfill "));
                let ticks = ticks.filter(|ticks| ticks.bytes().all(|byte| byte.is_ascii_digit()));
                let ticks = ticks.and_then(|ticks| ticks.parse().ok());
                ticks
                    .filter(|ticks| (1..=BACKFILL_MAX).contains(ticks))
                    .map(Self::Backfill)
                    .ok_or(UnknownMissed)
            }
        }
    }
}

impl fmt::Display for Missed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Skip => f.write_str("skip"),
            Self::Once => f.write_str("once"),
            Self::Backfill(ticks) => write!(f, "backfill:{ticks}"),
        }
    }
}

impl From<Missed> for String {
    fn from(missed: Missed) -> Self {
        missed.to_string()
    }
}

impl TryFrom<String> for Missed {
    type Error = UnknownMissed;

    fn try_from(text: String) -> Result<Self, UnknownMissed> {
        text.parse()
    }
}

impl Missed {
    /// How many missed ticks run.
    const fn run_max(self) -> usize {
        match self {
            Self::Skip => 0,
            Self::Once => 1,
            Self::Backfill(ticks) => ticks as usize,
        }
    }

    /// How many of the newest ticks [`decide`](Self::decide) must be given one by one.
    #[must_use]
    pub fn looked_at(self, grace: Duration) -> usize {
        let on_time = usize::try_from(grace.as_secs()).unwrap_or(usize::MAX).saturating_add(1);
        on_time.saturating_add(self.run_max()).saturating_add(ROWS_MAX)
    }

    /// What becomes of the ticks that are due `now`.
    #[must_use]
    pub fn decide(self, due: Due, now: DateTime<Utc>, grace: Duration) -> Decided {
        let Due { newest: ticks, older } = due;
        let late =
            ticks.partition_point(|tick| (now - *tick).to_std().is_ok_and(|lateness| lateness > grace));
        let missed = late.saturating_sub(self.run_max());
        let spanned = missed.saturating_sub(ROWS_MAX);
        let span = match (older, Span::of(&ticks[..spanned])) {
            (Some(older), Some(later)) => Some(older.and(later)),
            (one, other) => one.or(other),
        };
        Decided { run: ticks[missed..].to_vec(), missed: ticks[spanned..missed].to_vec(), older: span }
    }
}

/// What becomes of due ticks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Decided {
    /// A job each.
    pub run: Vec<DateTime<Utc>>,
    /// Recorded as missed, one by one.
    pub missed: Vec<DateTime<Utc>>,
    /// Recorded as missed, as one.
    pub older: Option<Span>,
}

impl Decided {
    /// How many were missed.
    #[must_use]
    pub fn missed_ticks(&self) -> u64 {
        let single = u64::try_from(self.missed.len()).unwrap_or(u64::MAX);
        single.saturating_add(self.older.map_or(0, |span| span.ticks))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).unwrap()
    }

    /// Ticks every ten seconds from 10 to 100, looked at when it is 100, with a grace of 25 seconds.
    fn decided(policy: Missed) -> (Vec<i64>, Vec<i64>) {
        let due = Due { newest: (1..=10).map(|tick| at(tick * 10)).collect(), older: None };
        let decided = policy.decide(due, at(100), Duration::from_secs(25));
        assert_eq!(decided.older, None);
        let seconds = |ticks: Vec<DateTime<Utc>>| ticks.iter().map(DateTime::timestamp).collect();
        (seconds(decided.run), seconds(decided.missed))
    }

    #[test]
    fn skip_runs_what_is_on_time_and_nothing_else() {
        assert_eq!(decided(Missed::Skip), (vec![80, 90, 100], vec![10, 20, 30, 40, 50, 60, 70]));
    }

    #[test]
    fn once_runs_the_newest_missed_tick_for_all() {
        assert_eq!(decided(Missed::Once), (vec![70, 80, 90, 100], vec![10, 20, 30, 40, 50, 60]));
    }

    #[test]
    fn backfill_runs_the_newest_so_many() {
        assert_eq!(decided(Missed::Backfill(3)), (vec![50, 60, 70, 80, 90, 100], vec![10, 20, 30, 40]));
        assert_eq!(decided(Missed::Backfill(9)).1, Vec::<i64>::new());
    }

    #[test]
    fn a_tick_is_on_time_up_to_and_including_the_grace() {
        let due = |second| Due { newest: vec![at(second)], older: None };
        let grace = Duration::from_secs(25);
        assert_eq!(Missed::Skip.decide(due(75), at(100), grace).run, [at(75)]);
        assert_eq!(Missed::Skip.decide(due(74), at(100), grace).missed, [at(74)]);
    }

    #[test]
    fn of_many_missed_ticks_the_newest_are_recorded_one_by_one_and_the_others_as_one() {
        let older = Some(Span { first: at(1), last: at(9), ticks: 9 });
        let due = Due { newest: (10..=300).map(at).collect(), older };
        let decided = Missed::Once.decide(due, at(10_000), GRACE);
        assert_eq!(decided.run, [at(300)]);
        assert_eq!(decided.missed.len(), ROWS_MAX);
        assert_eq!(decided.missed.last(), Some(&at(299)));
        assert_eq!(decided.older, Some(Span { first: at(1), last: at(199), ticks: 199 }));
        assert_eq!(decided.missed_ticks(), 299);
    }

    #[test]
    fn policies_are_read_as_they_are_written() {
        for policy in [Missed::Skip, Missed::Once, Missed::Backfill(1), Missed::Backfill(1_000)] {
            assert_eq!(policy.to_string().parse::<Missed>().unwrap(), policy);
        }
        for wrong in ["", "Skip", "backfill", "backfill:", "backfill:0", "backfill:1001", "backfill:+5"] {
            assert!(wrong.parse::<Missed>().is_err(), "{wrong}");
        }
    }
}
