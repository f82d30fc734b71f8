use std::time::Instant;

use proptest::prelude::*;

use super::*;
use crate::line::tests_any_line;

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// All of them, one by one.
fn all(line: &Line, zone: Tz, since: DateTime<Utc>, until: DateTime<Utc>) -> Vec<DateTime<Utc>> {
    walk(line, zone, since, until, usize::MAX).unwrap()
}

fn split(ticks: Vec<DateTime<Utc>>, newest_max: usize) -> Due {
    let surplus = ticks.len().saturating_sub(newest_max);
    Due { older: Span::of(&ticks[..surplus]), newest: ticks[surplus..].to_vec() }
}

#[test]
fn the_beginning_is_left_out_and_the_end_is_included_so_that_looks_meet_without_gap_or_overlap() {
    let line: Line = "17 * * * *".parse().unwrap();
    let due = |since, until| due_between(&line, Tz::UTC, at(since), at(until), 10).newest;
    assert_eq!(due("2026-11-20T20:17:00Z", "2026-11-20T21:17:00Z"), [at("2026-11-20T21:17:00Z")]);
    assert!(due("2026-11-20T20:17:00Z", "2026-11-20T20:17:00Z").is_empty());
    assert!(due("2026-11-20T21:17:00Z", "2026-11-20T20:17:00Z").is_empty());
}

#[test]
fn a_year_of_seconds_is_counted_exactly_and_at_once() {
    let line: Line = "* * * * * *".parse().unwrap();
    for zone in [Tz::UTC, Tz::Europe__Berlin, Tz::Australia__Lord_Howe] {
        let (since, until) = (at("2025-11-20T20:17:00.5Z"), at("2026-11-20T21:17:00Z"));
        let began = Instant::now();
        let due = due_between(&line, zone, since, until, 1_000);
        assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
        assert_eq!(due.newest.len(), 1_000);
        assert_eq!(due.newest.last(), Some(&until));
        let older = due.older.unwrap();
        assert_eq!(older.first, at("2025-11-20T20:17:01Z"));
        assert_eq!(older.last, due.newest[0] - TimeDelta::seconds(1));
        assert_eq!(older.ticks + 1_000, u64::try_from((until - older.first).num_seconds()).unwrap() + 1);
    }
}

#[test]
fn nobody_looks_back_further_than_two_years() {
    let line: Line = "0 0 * * *".parse().unwrap();
    let until = at("2026-11-20T00:00:00Z");
    let due = due_between(&line, Tz::UTC, at("1990-01-01T00:00:00Z"), until, 5);
    assert_eq!(due.older.unwrap().ticks + 5, 2 * 366);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]
    #[test]
    fn counting_by_days_is_counting_one_by_one(
        line in tests_any_line(),
        zone in proptest::sample::select(vec![
            Tz::Europe__Berlin, Tz::America__New_York, Tz::Australia__Lord_Howe, Tz::Africa__Cairo, Tz::UTC,
            Tz::America__Santiago,
        ]),
        day in 20_500_i64..21_200,
        second in 0_i64..86_400,
        hours in 1_i64..200,
        newest_max in 1_usize..50,
    ) {
        let Ok(line) = line.parse::<Line>() else { return Ok(()) };
        let since = DateTime::from_timestamp(day * 86_400 + second, 0).unwrap();
        let until = since + TimeDelta::hours(hours);
        let ticks = all(&line, zone, since, until);
        prop_assume!(ticks.len() < 20_000);
        let expected = split(ticks.clone(), newest_max);
        if ticks.len() > newest_max {
            prop_assert_eq!(many(&line, zone, since, until, newest_max), expected.clone());
        }
        prop_assert_eq!(due_between(&line, zone, since, until, newest_max), expected);
    }
}
