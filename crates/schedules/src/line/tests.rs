use std::time::Instant;

use chrono::Utc;
use croner::parser::{CronParser, Seconds, Year};
use proptest::prelude::*;

use super::*;

fn refusal(line: &str) -> String {
    line.parse::<Line>().expect_err(line).to_string()
}

fn calendar(text: &str) -> NaiveDateTime {
    text.parse().unwrap()
}

fn next(line: &str, after: &str) -> String {
    let next = line.parse::<Line>().unwrap().next_on_calendar(calendar(after));
    next.map(|next| next.to_string()).unwrap_or_default()
}

#[test]
fn five_fields_and_six_with_seconds_in_front() {
    assert_eq!(next("0 4 * * *", "2026-11-20T20:00:00"), "2026-11-21 04:00:00");
    assert_eq!(next("*/20 * * * * *", "2026-11-20T20:00:00"), "2026-11-20 20:00:20");
    assert_eq!(next("*/20 * * * * *", "2026-11-20T23:59:40"), "2026-11-21 00:00:00");
}

#[test]
fn sunday_is_both_0_and_7_and_monday_is_1() {
    // 2026-11-22 is a Sunday.
    for (weekday, day) in [("0", 22), ("7", 22), ("sun", 22), ("1", 23), ("MON", 23), ("5", 27), ("sat", 28)]
    {
        let found = next(&format!("0 0 * * {weekday}"), "2026-11-21T12:00:00");
        assert_eq!(found, format!("2026-11-{day} 00:00:00"), "{weekday}");
    }
    for all in ["5-7", "fri-sun", "0,5,6"] {
        let line: Line = format!("0 0 * * {all}").parse().unwrap();
        assert_eq!(line.weekdays.values().collect::<Vec<_>>(), [0, 5, 6], "{all}");
    }
}

#[test]
fn day_of_month_and_day_of_week_are_either_or_when_both_are_restricted() {
    assert_eq!(next("0 0 13 * 5", "2026-11-10T00:00:00"), "2026-11-13 00:00:00");
    assert_eq!(next("0 0 13 * 5", "2026-11-13T00:00:00"), "2026-11-20 00:00:00");
    assert_eq!(next("0 0 15 * 5", "2026-11-13T00:00:00"), "2026-11-15 00:00:00");
    assert_eq!(next("0 0 15 * *", "2026-11-15T00:00:00"), "2026-12-15 00:00:00");
    assert_eq!(next("0 0 * * 5", "2026-11-13T00:00:00"), "2026-11-20 00:00:00");
}

#[test]
fn leap_days_are_found_over_a_century_without_one() {
    assert_eq!(next("0 0 29 2 *", "2026-11-22T00:00:00"), "2028-02-29 00:00:00");
    assert_eq!(next("0 0 29 2 *", "2096-02-29T00:00:00"), "2104-02-29 00:00:00");
}

#[test]
fn every_fault_is_told_at_once_and_says_what_to_write() {
    let told = refusal("99 24 0 13 8");
    for part in ["minute: \"99\" is none of 0 to 59", "hour:", "day of month:", "month:", "day of week:"] {
        assert!(told.contains(part), "{told}");
    }
    assert!(refusal("@daily").contains("0 0 * * *"));
    assert!(refusal("0/15 * * * *").contains("0-59/"));
    assert!(refusal("22-2 * * * *").contains("two ranges"));
    assert!(refusal("* * * *").contains("4 fields"));
    assert!(refusal("0 0 0 1 1 * 2026").contains("7 fields"));
    assert!(refusal("*/70 * * * *").contains("from 1 to 59"));
}

#[test]
fn lines_that_never_fire_are_refused() {
    for line in ["0 0 30 2 *", "0 0 31 4,6,9,11 *", "0 0 31 2,4,6,9,11 *", "* * 30-31 feb *"] {
        assert!(refusal(line).contains("never fires"), "{line}");
    }
    assert!("0 0 30 2 1".parse::<Line>().is_ok(), "the Mondays of February");
}

/// What people type to see what happens, and worse.
fn hostile() -> Vec<String> {
    let mut lines: Vec<String> = [
        "",
        " ",
        "*",
        ",,, * * * *",
        ", , , , ,",
        "- - - - -",
        "/ / / / /",
        "*/0 * * * *",
        "*/-1 * * * *",
        "-1 * * * *",
        "1- * * * *",
        "1--2 * * * *",
        "1-2-3 * * * *",
        "*/5/5 * * * *",
        "** * * * *",
        "*5 * * * *",
        "0x10 * * * *",
        "1e1 * * * *",
        "+5 * * * *",
        "٣ * * * *",
        "99999999999999999999 * * * *",
        "4294967296 * * * *",
        "00000005 * * * *",
        "0-59/99999999999999999999 * * * *",
        "*/60 * * * *",
        "0 0 L * *",
        "0 0 15W * *",
        "0 0 * * 1#2",
        "0 0 ? * 1",
        "0 0 * JANUARY *",
        "0 0 * * MONDAY",
        "0 0 * * L",
        "0 0 30 2 *",
        "* * * * * * *",
        "@reboot",
        "@every 1s",
        "* * * * *\n* * * * *",
        "* * * * *\0",
        "*\u{a0}* * * *",
        "\u{202e}* * * * *",
        "'; drop table schedules; --",
        "$(reboot) * * * *",
    ]
    .map(str::to_owned)
    .to_vec();
    lines.push("1,".repeat(100_000) + "1 * * * *");
    lines.push("* ".repeat(1_000_000));
    lines.push(format!("{} * * * *", "0-59/1,".repeat(20)));
    lines.push("9".repeat(10_000_000));
    lines
}

#[test]
fn hostile_lines_are_refused_with_a_short_reason() {
    for line in hostile() {
        let told = refusal(&line);
        assert!(!told.is_empty() && told.len() < 1_000, "{told}");
    }
}

#[test]
fn reading_a_line_and_finding_its_next_time_is_cheap_whatever_it_holds() {
    // The dearest that are accepted: the rarest, and the longest.
    let dear = ["59 59 23 29 2 *", "0 0 29 feb *", &format!("{}59 * * * *", "0-59/1,".repeat(20))];
    let lines: Vec<String> = hostile().into_iter().chain(dear.map(str::to_owned)).collect();
    const ROUNDS: u32 = 20;
    let began = Instant::now();
    for _ in 0..ROUNDS {
        for line in &lines {
            if let Ok(line) = line.parse::<Line>() {
                assert!(line.next_on_calendar(calendar("2096-02-29T23:59:59")).is_some());
            }
        }
    }
    let each = began.elapsed() / (ROUNDS * u32::try_from(lines.len()).unwrap());
    // A thousandth of this is usual; the rest is for a build without optimisation on a busy machine.
    assert!(each.as_millis() < 5, "{each:?} a line");
}

/// Fields as people write them, within their bounds.
fn field(min: u8, max: u8) -> impl Strategy<Value = String> {
    let range = (min..max).prop_flat_map(move |first| (Just(first), first + 1..=max));
    let part = prop_oneof![
        4 => (min..=max).prop_map(|value| value.to_string()),
        2 => range.clone().prop_map(|(first, last)| format!("{first}-{last}")),
        1 => range.prop_flat_map(|(first, last)| (Just((first, last)), 1..=last - first))
            .prop_map(|((first, last), step)| format!("{first}-{last}/{step}")),
        1 => (1..=(max - min) / 2).prop_map(|step| format!("*/{step}")),
    ];
    prop_oneof![
        3 => Just("*".to_owned()),
        5 => proptest::collection::vec(part, 1..4).prop_map(|parts| parts.join(",")),
    ]
}

pub(crate) fn any_line() -> impl Strategy<Value = String> {
    let five = (field(0, 59), field(0, 23), field(1, 31), field(1, 12), field(0, 6))
        .prop_map(|(minute, hour, day, month, weekday)| format!("{minute} {hour} {day} {month} {weekday}"));
    (proptest::option::weighted(0.2, field(0, 59)), five).prop_map(|(second, five)| match second {
        Some(second) => format!("{second} {five}"),
        None => five,
    })
}

proptest! {
    #[test]
    fn another_library_finds_the_same_next_times(line in any_line(), minute in 0_i64..40_000_000) {
        let Ok(ours) = line.parse::<Line>() else {
            // All of these are well-formed, so it can only be that they never fire.
            prop_assert!(refusal(&line).contains("never fires"), "{}", refusal(&line));
            return Ok(());
        };
        let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
        let theirs = parser.parse(&line).unwrap();
        let mut at = chrono::DateTime::from_timestamp(minute * 60, 0).unwrap();
        for _ in 0..5 {
            let found = ours.next_on_calendar(at.naive_utc()).unwrap();
            let expected: chrono::DateTime<Utc> = theirs.find_next_occurrence(&at, false).unwrap();
            prop_assert_eq!(found, expected.naive_utc(), "{} after {}", line, at);
            at = expected;
        }
    }

    #[test]
    fn no_text_makes_reading_panic(line in ".{0,60}") {
        let _ = line.parse::<Line>();
    }

    #[test]
    fn no_text_of_the_right_letters_makes_reading_or_finding_panic(line in "[0-9*,/ a-z-]{5,40}") {
        if let Ok(line) = line.parse::<Line>() {
            prop_assert!(line.next_on_calendar(calendar("2026-11-22T08:00:00")).is_some());
        }
    }
}
