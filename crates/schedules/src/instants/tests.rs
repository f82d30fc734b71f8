//! Against an oracle that knows nothing of calendars: it walks over real time, second by second or minute by minute,
//! reads the wall, and applies the rule as it is written.

use std::collections::BTreeSet;

use chrono::{Datelike, NaiveDate};
use proptest::prelude::*;

use super::*;
use crate::line::tests_any_line;

/// Zones, each with a date near a change of its clock: by an hour at two or three in the morning, by half an hour, at
/// midnight, on the southern half, by other than an hour once, by a whole day, and never.
const CHANGES: &[(Tz, &[&str])] = &[
    (Tz::Europe__Berlin, &["2026-03-29", "2026-10-25", "2027-03-28"]),
    (Tz::America__New_York, &["2026-03-08", "2026-11-01"]),
    (Tz::Australia__Lord_Howe, &["2026-04-05", "2026-10-04"]),
    (Tz::America__Santiago, &["2026-04-04", "2026-09-05"]),
    (Tz::Africa__Cairo, &["2026-04-24", "2026-10-29"]),
    (Tz::Asia__Beirut, &["2026-03-29", "2026-10-24"]),
    (Tz::Europe__Lisbon, &["2026-03-29", "2026-10-25"]),
    (Tz::Pacific__Apia, &["2011-12-29", "2012-04-01"]),
    (Tz::Asia__Ho_Chi_Minh, &["2026-03-29"]),
    (Tz::UTC, &["2026-10-25"]),
];

fn instant(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn matches(line: &Line, wall: NaiveDateTime) -> bool {
    line.fires_on(wall.date())
        && line.hours.has(wall.hour())
        && line.minutes.has(wall.minute())
        && line.seconds.has(wall.second())
}

/// The ticks after `from` and up to `until`, found by looking at every instant and every time on the wall.
fn oracle(line: &Line, zone: Tz, from: NaiveDateTime, until: NaiveDateTime) -> BTreeSet<NaiveDateTime> {
    let step = if line.seconds.count() == 1 && line.seconds.has(0) { 60 } else { 1 };
    let instants =
        |from: NaiveDateTime, until: NaiveDateTime| every(from, step).take_while(move |at| *at <= until);
    if line.follows_real_time() {
        return instants(from, until).skip(1).filter(|at| matches(line, on_the_wall(zone, *at))).collect();
    }
    // When the wall showed each time first; and what it never showed is due when it first showed something later.
    let (early, late) = (from - DAY * 3, until + DAY * 3);
    let mut ticks = BTreeSet::new();
    let mut shown = on_the_wall(zone, early);
    for at in instants(early, late).skip(1) {
        let wall = on_the_wall(zone, at);
        for wall in every(shown, step).skip(1).take_while(|passed| *passed <= wall) {
            if matches(line, wall) && from < at && at <= until {
                ticks.insert(at);
            }
        }
        shown = shown.max(wall);
    }
    ticks
}

fn every(from: NaiveDateTime, step: i64) -> impl Iterator<Item = NaiveDateTime> {
    std::iter::successors(Some(from), move |at| Some(*at + TimeDelta::seconds(step)))
}

fn found(line: &Line, zone: Tz, from: NaiveDateTime, until: NaiveDateTime) -> BTreeSet<NaiveDateTime> {
    let mut last = from.and_utc();
    let mut ticks = BTreeSet::new();
    while let Some(next) = next_after(line, zone, last).filter(|next| next.naive_utc() <= until) {
        assert!(next > last, "time goes on");
        ticks.insert(next.naive_utc());
        last = next;
    }
    ticks
}

/// From the noon before to the noon after a change, roughly.
fn around(date: &str) -> (NaiveDateTime, NaiveDateTime) {
    let date: NaiveDate = date.parse().unwrap();
    let midnight = date.and_hms_opt(0, 0, 0).unwrap();
    (midnight - DAY, midnight + DAY * 2)
}

#[test]
fn common_lines_agree_with_the_oracle_in_every_zone() {
    let lines = [
        "* * * * *",
        "0 * * * *",
        "17 * * * *",
        "*/15 * * * *",
        "0 */2 * * *",
        "0 */3 * * *",
        "30 0-23 * * *",
        "0 0 * * *",
        "30 0 * * *",
        "0 1 * * *",
        "30 1 * * *",
        "0 2 * * *",
        "30 2 * * *",
        "0 3 * * *",
        "*/10 2 * * *",
        "* 1-3 * * *",
        "30 2,14 * * *",
        "0 0-5 * * 0",
        "0 23,0,1 * * *",
        "15,45 * * * 0",
        "0 2 29 3 *",
        "0 0 1 1 *",
    ];
    for (zone, dates) in CHANGES {
        for (from, until) in dates.iter().map(|date| around(date)) {
            for line in lines {
                let line: Line = line.parse().unwrap();
                let (found, expected) = (found(&line, *zone, from, until), oracle(&line, *zone, from, until));
                assert_eq!(found, expected, "{line} in {zone} from {from}");
            }
        }
    }
}

#[test]
fn every_second_of_a_change_has_its_ticks() {
    for (zone, from) in [
        (Tz::Europe__Berlin, "2026-10-25T00:30:00"),
        (Tz::America__New_York, "2026-03-08T06:30:00"),
        (Tz::Australia__Lord_Howe, "2026-04-04T14:30:00"),
    ] {
        let from: NaiveDateTime = from.parse().unwrap();
        let until = from + TimeDelta::hours(2);
        for line in ["* * * * * *", "*/7 * * * * *", "*/10 * 1-3 * * *", "5,6 59,0 1-3 * * *"] {
            let line: Line = line.parse().unwrap();
            assert_eq!(found(&line, zone, from, until), oracle(&line, zone, from, until), "{line} in {zone}");
        }
    }
}

#[test]
fn a_daily_time_that_is_skipped_runs_at_the_end_of_the_gap_and_one_that_is_repeated_runs_first() {
    let next = |line: &str, zone, after: &str| {
        next_after(&line.parse().unwrap(), zone, instant(after)).unwrap().to_rfc3339()
    };
    // 02:30 does not exist in Berlin on 2026-03-29: 02:00 is 03:00.
    assert_eq!(next("30 2 * * *", Tz::Europe__Berlin, "2026-03-28T12:00:00Z"), "2026-03-29T01:00:00+00:00");
    assert_eq!(next("30 2 * * *", Tz::Europe__Berlin, "2026-03-29T01:00:00Z"), "2026-03-30T00:30:00+00:00");
    // 02:30 is there twice on 2026-10-25: at 00:30 and 01:30 UTC.
    assert_eq!(next("30 2 * * *", Tz::Europe__Berlin, "2026-10-24T12:00:00Z"), "2026-10-25T00:30:00+00:00");
    assert_eq!(next("30 2 * * *", Tz::Europe__Berlin, "2026-10-25T00:30:00Z"), "2026-10-26T01:30:00+00:00");
    // Asked in the middle of the second time.
    assert_eq!(next("30 2 * * *", Tz::Europe__Berlin, "2026-10-25T01:10:00Z"), "2026-10-26T01:30:00+00:00");
    // Midnight does not exist in Cairo on 2026-04-24.
    assert_eq!(next("0 0 * * *", Tz::Africa__Cairo, "2026-04-23T12:00:00Z"), "2026-04-23T22:00:00+00:00");
}

#[test]
fn hourly_is_every_sixty_minutes_whatever_the_clock_does() {
    let line: Line = "5 * * * *".parse().unwrap();
    for (zone, dates) in CHANGES.iter().filter(|(zone, _)| *zone != Tz::Australia__Lord_Howe) {
        for (from, until) in dates.iter().map(|date| around(date)) {
            let ticks: Vec<_> = found(&line, *zone, from, until).into_iter().collect();
            assert_eq!(ticks.len(), 72, "{zone}");
            assert!(ticks.windows(2).all(|pair| pair[1] - pair[0] == TimeDelta::hours(1)), "{zone}");
        }
    }
}

#[test]
fn a_daily_line_has_one_tick_on_each_day_of_a_decade() {
    for (zone, _) in CHANGES {
        for line in ["0 0 * * *", "30 0 * * *", "30 1 * * *", "30 2 * * *", "59 23 * * *"] {
            let line: Line = line.parse().unwrap();
            let mut at = instant("2020-06-15T12:00:00Z");
            let mut dates = BTreeSet::new();
            let mut ticks = 0;
            while let Some(next) = next_after(&line, *zone, at).filter(|next| next.year() < 2031) {
                dates.insert(on_the_wall(*zone, next.naive_utc()).date());
                ticks += 1;
                at = next;
            }
            assert_eq!(dates.len(), ticks, "{line} in {zone}");
            let days = (*dates.last().unwrap() - *dates.first().unwrap()).num_days() + 1;
            assert_eq!(i64::try_from(ticks).unwrap(), days, "{line} in {zone}");
        }
    }
}

#[test]
fn a_fraction_of_a_second_changes_nothing() {
    let line: Line = "* * * * * *".parse().unwrap();
    let next = next_after(&line, Tz::UTC, instant("2026-11-22T08:00:00.999Z"));
    assert_eq!(next, Some(instant("2026-11-22T08:00:01Z")));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn any_line_agrees_with_the_oracle_around_any_change(
        line in tests_any_line(),
        zone in 0..CHANGES.len(),
        date in 0_usize..3,
        offset in 0_i64..2_880,
    ) {
        let Ok(line) = line.parse::<Line>() else { return Ok(()) };
        let (zone, dates) = CHANGES[zone];
        let (from, _) = around(dates[date % dates.len()]);
        let from = from + TimeDelta::minutes(offset);
        // Lines with seconds are walked second by second.
        let until = from + if line.seconds.count() == 1 && line.seconds.has(0) { DAY } else { TimeDelta::hours(3) };
        prop_assert_eq!(
            found(&line, zone, from, until), oracle(&line, zone, from, until), "{} in {} from {}", line, zone, from
        );
    }
}
