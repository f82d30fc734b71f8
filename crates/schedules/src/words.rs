//! A cron line in plain words. They are made of what a line means, not of how it is written, so that `*/20` and
//! `0,20,40` read the same, and `*/7`, which is not "every seven minutes", does not read so.

use chrono_tz::Tz;

use crate::Line;
use crate::line::Field;

/// Times of day that are named one by one; more are told as minutes and hours.
const TIMES_MAX: u32 = 4;

const WEEKDAYS: [&str; 8] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const MONTHS: [&str; 13] = [
    "",
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// What the line says: "at 04:00 on Monday and Friday, Asia/Ho_Chi_Minh time".
#[must_use]
pub fn in_words(line: &Line, zone: Tz) -> String {
    let mut words = times(line);
    if let Some(days) = days(line) {
        words.push_str(" on ");
        words.push_str(&days);
    }
    if line.months.count() < 12 {
        words.push_str(" in ");
        words.push_str(&list(line.months, |month| named(&MONTHS, month)));
    }
    format!("{words}, {} time", zone.name())
}

fn times(line: &Line) -> String {
    let is_on_the_minute = line.seconds.count() == 1 && line.seconds.has(0);
    let every_hour = line.hours.count() == 24;
    let named = line.ticks_a_day();
    if named <= u64::from(TIMES_MAX) && line.seconds.count() == 1 {
        return format!("at {}", joined(&times_of_day(line, is_on_the_minute)));
    }
    let minutes = match (line.minutes.count(), every(line.minutes, 60)) {
        (60, _) => "every minute".to_owned(),
        (_, Some(step)) => format!("every {step} minutes"),
        (1, None) if every_hour => format!("every hour at minute {}", list(line.minutes, number)),
        (_, None) if every_hour => format!("every hour at minutes {}", list(line.minutes, number)),
        (1, None) => format!("at minute {}", list(line.minutes, number)),
        (_, None) => format!("at minutes {}", list(line.minutes, number)),
    };
    let hours = match (line.hours.count(), every(line.hours, 24)) {
        (24, _) => String::new(),
        (_, Some(step)) => format!(" of every {} hour", ordinal(step)),
        (1, None) => format!(" of hour {}", list(line.hours, number)),
        (_, None) => format!(" of hours {}", list(line.hours, number)),
    };
    let minute_wise = format!("{minutes}{hours}");
    match (line.seconds.count(), every(line.seconds, 60)) {
        (1, _) if is_on_the_minute => minute_wise,
        (60, _) if line.minutes.count() == 60 => format!("every second{hours}"),
        (60, _) => format!("every second, {minute_wise}"),
        (_, Some(step)) if line.minutes.count() == 60 => format!("every {step} seconds{hours}"),
        (_, Some(step)) => format!("every {step} seconds, {minute_wise}"),
        (1, None) => format!("at second {}, {minute_wise}", list(line.seconds, number)),
        (_, None) => format!("at seconds {}, {minute_wise}", list(line.seconds, number)),
    }
}

fn times_of_day(line: &Line, is_on_the_minute: bool) -> Vec<String> {
    let mut times = Vec::new();
    for hour in line.hours.values() {
        for minute in line.minutes.values() {
            for second in line.seconds.values() {
                times.push(match is_on_the_minute {
                    true => format!("{hour:02}:{minute:02}"),
                    false => format!("{hour:02}:{minute:02}:{second:02}"),
                });
            }
        }
    }
    times
}

/// On which days; `None` is every day.
fn days(line: &Line) -> Option<String> {
    let is_every_day = |field: Field, values| field.is_star || field.count() == values;
    let of_month = |days: Field| match days.count() {
        1 => format!("day {} of the month", list(days, number)),
        _ => format!("days {} of the month", list(days, number)),
    };
    let of_week = |weekdays: Field| list(weekdays, |weekday| named(&WEEKDAYS, weekday));
    match (line.days.is_star, line.weekdays.is_star) {
        (true, true) => None,
        (false, true) => (!is_every_day(line.days, 31)).then(|| of_month(line.days)),
        (true, false) => (!is_every_day(line.weekdays, 7)).then(|| of_week(line.weekdays)),
        // Either is enough.
        (false, false) if is_every_day(line.days, 31) || is_every_day(line.weekdays, 7) => None,
        (false, false) => Some(format!("{} or on {}", of_month(line.days), of_week(line.weekdays))),
    }
}

/// The step of a field that fires every so many, without a shorter one at the end of its round.
fn every(field: Field, round: u32) -> Option<u32> {
    let count = field.count();
    let step = (count > 1 && round.is_multiple_of(count)).then(|| round / count)?;
    (step > 1 && field.values().eq((0..round).step_by(step as usize))).then_some(step)
}

fn ordinal(number: u32) -> String {
    match number {
        2 => "second".to_owned(),
        3 => "third".to_owned(),
        4 => "fourth".to_owned(),
        6 => "sixth".to_owned(),
        8 => "eighth".to_owned(),
        12 => "twelfth".to_owned(),
        _ => format!("{number}th"),
    }
}

fn number(value: u32) -> String {
    value.to_string()
}

fn named(names: &[&str], value: u32) -> String {
    names.get(value as usize).copied().unwrap_or_default().to_owned()
}

/// The values of a field, three or more in a row as a range.
fn list(field: Field, name: impl Fn(u32) -> String) -> String {
    let mut parts = Vec::new();
    let mut values = field.values().peekable();
    while let Some(first) = values.next() {
        let mut last = first;
        while let Some(next) = values.next_if(|next| *next == last + 1) {
            last = next;
        }
        match last - first {
            0 => parts.push(name(first)),
            1 => parts.extend([name(first), name(last)]),
            _ => parts.push(format!("{} to {}", name(first), name(last))),
        }
    }
    joined(&parts)
}

fn joined(parts: &[String]) -> String {
    match parts {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> String {
        let words = in_words(&line.parse().unwrap(), Tz::Asia__Ho_Chi_Minh);
        words.strip_suffix(", Asia/Ho_Chi_Minh time").expect("the zone is always named").to_owned()
    }

    #[test]
    fn lines_are_told_as_people_would_tell_them() {
        for (line, told) in [
            ("* * * * *", "every minute"),
            ("* * * * * *", "every second"),
            ("17 * * * *", "every hour at minute 17"),
            ("0,30 * * * *", "every 30 minutes"),
            ("*/5 * * * *", "every 5 minutes"),
            ("*/20 * * * * *", "every 20 seconds"),
            ("0 4 * * 1,5", "at 04:00 on Monday and Friday"),
            ("30 2,14 * * *", "at 02:30 and 14:30"),
            ("15 30 2 * * *", "at 02:30:15"),
            ("0 9-17 * * mon-fri", "at minute 0 of hours 9 to 17 on Monday to Friday"),
            ("*/15 9-17 * * *", "every 15 minutes of hours 9 to 17"),
            ("0 */2 * * *", "at minute 0 of every second hour"),
            ("0 0 1 * *", "at 00:00 on day 1 of the month"),
            ("0 0 1,15 1-3,7 *", "at 00:00 on days 1 and 15 of the month in January to March and July"),
            ("0 0 13 * 5", "at 00:00 on day 13 of the month or on Friday"),
            ("0 0 * * 0-7", "at 00:00"),
            ("30 * * * * *", "at second 30, every minute"),
        ] {
            assert_eq!(words(line), told, "{line}");
        }
    }

    #[test]
    fn steps_that_do_not_go_round_are_not_told_as_every_so_many() {
        assert_eq!(words("*/25 * * * *"), "every hour at minutes 0, 25 and 50");
        assert_eq!(words("*/5,*/7 * * * *").split(' ').next_back(), Some("56"));
        assert_eq!(words("0 */9 * * *"), "at 00:00, 09:00 and 18:00");
    }

    #[test]
    fn the_zone_is_named() {
        let line = "0 4 * * *".parse().unwrap();
        assert_eq!(in_words(&line, Tz::Europe__Berlin), "at 04:00, Europe/Berlin time");
    }
}
