//! From a cron line to instants: a pure rule.

use std::str::FromStr;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use cron::Schedule;

/// A cron line that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the cron line {line:?} cannot be read")]
pub struct CronError {
    line: String,
    #[source]
    source: cron::error::Error,
}

/// Ticks answered for one look at the most: a line with seconds over a long absence must not flood the queue.
const TICKS_MAX: usize = 3_600;

/// The instants of a cron line after `since` and up to `until`, the earliest first.
///
/// Five fields are minute, hour, day of month, month, day of week; a sixth in front is seconds.
///
/// # Errors
/// [`CronError`].
pub fn ticks_between(
    line: &str,
    time_zone: Tz,
    since: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Result<Vec<DateTime<Utc>>, CronError> {
    let fields = line.split_whitespace().count();
    let with_seconds = if fields == 5 { format!("0 {line}") } else { line.to_owned() };
    let schedule =
        Schedule::from_str(&with_seconds).map_err(|source| CronError { line: line.to_owned(), source })?;
    let ticks = schedule
        .after(&since.with_timezone(&time_zone))
        .map(|tick| tick.with_timezone(&Utc))
        .take_while(|tick| *tick <= until)
        .take(TICKS_MAX);
    Ok(ticks.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn ticks(line: &str, since: &str, until: &str) -> Vec<String> {
        ticks_between(line, Tz::Asia__Ho_Chi_Minh, at(since), at(until))
            .unwrap()
            .iter()
            .map(|tick| tick.to_rfc3339_opts(chrono::SecondsFormat::Secs, true))
            .collect()
    }

    #[test]
    fn five_fields_are_read_in_the_schedules_time_zone() {
        let found = ticks("0 4 * * *", "2026-11-20T20:00:00Z", "2026-11-22T00:00:00Z");
        assert_eq!(found, ["2026-11-20T21:00:00Z", "2026-11-21T21:00:00Z"]);
    }

    #[test]
    fn six_fields_begin_with_seconds() {
        let found = ticks("*/20 * * * * *", "2026-11-20T20:00:00Z", "2026-11-20T20:01:00Z");
        assert_eq!(found, ["2026-11-20T20:00:20Z", "2026-11-20T20:00:40Z", "2026-11-20T20:01:00Z"]);
    }

    #[test]
    fn the_beginning_is_left_out_and_the_end_is_included_so_that_looks_meet_without_gap_or_overlap() {
        assert_eq!(
            ticks("17 * * * *", "2026-11-20T20:17:00Z", "2026-11-20T21:17:00Z"),
            ["2026-11-20T21:17:00Z"]
        );
        assert!(ticks("17 * * * *", "2026-11-20T20:17:00Z", "2026-11-20T20:17:00Z").is_empty());
    }

    #[test]
    fn a_long_absence_is_bounded() {
        let found = ticks("* * * * * *", "2026-01-01T00:00:00Z", "2026-11-20T21:17:00Z");
        assert_eq!(found.len(), TICKS_MAX);
    }

    #[test]
    fn a_wrong_line_is_named() {
        let error =
            ticks_between("99 * * * *", Tz::UTC, at("2026-01-01T00:00:00Z"), at("2026-01-02T00:00:00Z"));
        assert!(error.is_err_and(|error| error.to_string().contains("99 * * * *")));
    }

    #[test]
    fn every_schedule_in_code_can_be_read_and_names_are_used_once() {
        let mut names: Vec<_> = crate::ALL.iter().map(|schedule| schedule.name).collect();
        for schedule in crate::ALL {
            let read = ticks_between(
                schedule.cron,
                schedule.time_zone,
                at("2026-01-01T00:00:00Z"),
                at("2026-01-02T00:00:00Z"),
            );
            assert!(read.is_ok(), "{}", schedule.name);
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), crate::ALL.len());
    }
}
