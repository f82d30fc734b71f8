//! Cron lines: five fields (minute, hour, day of month, month, day of week), or six with seconds in front.
//!
//! Guarantees: reading a line takes microseconds whatever it holds, and answers every fault of every field at once; a
//! line that was read fires within [`YEARS_MAX`] of any instant, and finding its next time takes no longer than looking
//! at the days between. Both by construction: a field is a set of at most 60 bits, and nothing else is kept of it.
//!
//! As in crontab(5): Sunday is 0 and 7, a line whose day of month and day of week are both restricted (not `*`) fires
//! when either matches, and names are three letters in any case. What other dialects add (`L`, `W`, `#`, `?`, `@daily`,
//! years) is refused, and the refusal says what to write.

use std::fmt;
use std::str::FromStr;

use chrono::{Datelike, Days, NaiveDate, NaiveDateTime, NaiveTime, Timelike};

/// Longest line that is looked at.
pub const LINE_CHARS_MAX: usize = 200;
/// No line that fires at all is silent for longer: from 29 February to the next over a year like 2100.
pub const YEARS_MAX: u32 = 8;

/// A cron line that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    text: String,
    pub(crate) seconds: Field,
    pub(crate) minutes: Field,
    pub(crate) hours: Field,
    pub(crate) days: Field,
    pub(crate) months: Field,
    pub(crate) weekdays: Field,
}

/// The values at which a field fires, as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Field {
    bits: u64,
    /// It was written as a bare `*`.
    pub(crate) is_star: bool,
    /// A part of it was written with a `*`: it means "whenever", not "at these".
    pub(crate) has_star: bool,
}

/// A line that cannot be used, with everything that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .faults.join("; "))]
pub struct LineError {
    /// What is wrong, and what to write instead; each names its field.
    pub faults: Vec<String>,
}

/// What a field may hold.
struct Shape {
    name: &'static str,
    min: u8,
    max: u8,
    names: &'static [&'static str],
}

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

const SECOND: Shape = Shape { name: "second", min: 0, max: 59, names: &[] };
const MINUTE: Shape = Shape { name: "minute", min: 0, max: 59, names: &[] };
const HOUR: Shape = Shape { name: "hour", min: 0, max: 23, names: &[] };
const DAY: Shape = Shape { name: "day of month", min: 1, max: 31, names: &[] };
const MONTH: Shape = Shape { name: "month", min: 1, max: 12, names: &MONTHS };
/// 7 is Sunday too, so that `5-7` and `fri-sun` are what they say.
const WEEKDAY: Shape = Shape { name: "day of week", min: 0, max: 7, names: &WEEKDAYS };

impl FromStr for Line {
    type Err = LineError;

    fn from_str(text: &str) -> Result<Self, LineError> {
        let fields = split(text)?;
        let mut faults = Vec::new();
        let (seconds, five) = match fields.as_slice() {
            [second, five @ ..] if five.len() == 5 => (*second, five),
            five => ("0", five),
        };
        let mut read = |shape: &Shape, text: &str| match shape.read(text) {
            Ok(field) => field,
            Err(fault) => {
                faults.push(format!("{}: {fault}", shape.name));
                Field::EMPTY
            }
        };
        let line = Self {
            text: fields.join(" "),
            seconds: read(&SECOND, seconds),
            minutes: read(&MINUTE, five[0]),
            hours: read(&HOUR, five[1]),
            days: read(&DAY, five[2]),
            months: read(&MONTH, five[3]),
            weekdays: read(&WEEKDAY, five[4]).sunday_is_seven_too(),
        };
        if faults.is_empty() && !line.ever_fires() {
            faults.push("it never fires: none of its months has such a day".to_owned());
        }
        if faults.is_empty() { Ok(line) } else { Err(LineError { faults }) }
    }
}

/// The fields of a line that may be one.
fn split(text: &str) -> Result<Vec<&str>, LineError> {
    let refused = |fault: String| Err(LineError { faults: vec![fault] });
    // Bytes, so that a huge text is not walked through.
    if text.len() > LINE_CHARS_MAX {
        return refused(format!("it is longer than {LINE_CHARS_MAX} characters"));
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ' || byte == b'\t') {
        return refused("it holds something other than ASCII letters, digits, signs and blanks".to_owned());
    }
    if text.trim_start().starts_with('@') {
        return refused(
            "nicknames are not taken: write `0 0 * * *` for @daily, `0 * * * *` for @hourly".to_owned(),
        );
    }
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    match fields.len() {
        5 | 6 => Ok(fields),
        count => refused(format!(
            "it has {count} fields; there are five (minute, hour, day of month, month, day of week), or six with \
             seconds in front"
        )),
    }
}

impl Shape {
    fn read(&self, text: &str) -> Result<Field, String> {
        let mut field = Field { bits: 0, is_star: text == "*", has_star: false };
        for part in text.split(',') {
            let (bits, has_star) = self.part(part)?;
            field.bits |= bits;
            field.has_star |= has_star;
        }
        Ok(field)
    }

    /// One part of a list: `*`, `*/n`, `a`, `a-b` or `a-b/n`.
    fn part(&self, part: &str) -> Result<(u64, bool), String> {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(step)),
            None => (part, None),
        };
        let (first, last, has_star) = match range.split_once('-') {
            None if range == "*" => (self.min, self.last_of_star(), true),
            None => {
                let value = self.value(range)?;
                if step.is_some() {
                    return Err(format!("a step needs a range: write {range}-{}/… for {part:?}", self.max));
                }
                (value, value, false)
            }
            Some((first, last)) => (self.value(first)?, self.last(last)?, false),
        };
        if last < first {
            return Err(format!("{range:?} runs backwards: write it as two ranges with a comma"));
        }
        let step = match step {
            None => 1,
            Some(step) => self.step(step, last - first)?,
        };
        let bits = (first..=last).step_by(usize::from(step)).fold(0, |bits, value| bits | 1 << value);
        Ok((bits, has_star))
    }

    fn last_of_star(&self) -> u8 {
        // Sunday is one day, though it has two numbers.
        if self.max == WEEKDAY.max { 6 } else { self.max }
    }

    fn value(&self, text: &str) -> Result<u8, String> {
        let named = || {
            let at = self.names.iter().position(|name| name.eq_ignore_ascii_case(text))?;
            u8::try_from(at).ok().map(|at| at + self.first_named())
        };
        // Two digits at the most, so that nothing overflows and nothing long is read.
        let is_number = matches!(text.len(), 1..=2) && text.bytes().all(|byte| byte.is_ascii_digit());
        let value = if is_number { text.parse().ok() } else { named() };
        value.filter(|value| (self.min..=self.max).contains(value)).ok_or_else(|| self.expected(text))
    }

    /// The end of a range, where Sunday comes after Saturday.
    fn last(&self, text: &str) -> Result<u8, String> {
        match self.max == WEEKDAY.max && text.eq_ignore_ascii_case("sun") {
            true => Ok(WEEKDAY.max),
            false => self.value(text),
        }
    }

    fn first_named(&self) -> u8 {
        self.min
    }

    /// A step that leaves more than the first value.
    fn step(&self, text: &str, span: u8) -> Result<u8, String> {
        let is_number = matches!(text.len(), 1..=2) && text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse::<u8>() {
            Ok(step) if is_number && step >= 1 && (step <= span || step == 1) => Ok(step),
            _ => Err(format!("the step {:?} must be a number from 1 to {}", shortened(text), span.max(1))),
        }
    }

    fn expected(&self, text: &str) -> String {
        let mut words = format!("{:?} is none of {} to {}", shortened(text), self.min, self.max);
        if let [first, .., last] = self.names {
            words.push_str(&format!(" or {first} to {last}"));
        }
        words
    }
}

/// Enough of a text to be recognised in a message.
fn shortened(text: &str) -> &str {
    // The line is ASCII.
    text.get(..12).unwrap_or(text)
}

impl Field {
    const EMPTY: Self = Self { bits: 0, is_star: false, has_star: false };

    pub(crate) fn has(self, value: u32) -> bool {
        value < 64 && self.bits >> value & 1 == 1
    }

    /// The first value at or after `from`.
    fn next(self, from: u32) -> Option<u32> {
        let left = if from < 64 { self.bits >> from } else { 0 };
        (left != 0).then(|| from + left.trailing_zeros())
    }

    /// How many values there are.
    pub(crate) fn count(self) -> u32 {
        self.bits.count_ones()
    }

    /// The values in their order.
    pub(crate) fn values(self) -> impl Iterator<Item = u32> {
        (0..64).filter(move |value| self.has(*value))
    }

    fn sunday_is_seven_too(mut self) -> Self {
        self.bits = self.bits & 0b111_1111 | self.bits >> 7 & 1;
        self
    }
}

impl Line {
    /// The line as it was given, with single blanks.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether its hours are "whenever" rather than named ones. It then follows real time through changes of the
    /// clock; else its times of day are kept. See [`next_after`](crate::next_after).
    #[must_use]
    pub fn follows_real_time(&self) -> bool {
        self.hours.has_star || self.hours.count() == 24
    }

    /// Ticks in a day on which it fires and the clock is not changed.
    pub(crate) fn ticks_a_day(&self) -> u64 {
        u64::from(self.hours.count()) * u64::from(self.minutes.count()) * u64::from(self.seconds.count())
    }

    pub(crate) fn fires_on(&self, date: NaiveDate) -> bool {
        if !self.months.has(date.month()) {
            return false;
        }
        let day = self.days.has(date.day());
        let weekday = self.weekdays.has(date.weekday().num_days_from_sunday());
        match (self.days.is_star, self.weekdays.is_star) {
            (false, false) => day || weekday,
            _ => day && weekday,
        }
    }

    fn ever_fires(&self) -> bool {
        // Every month has every day of the week.
        if !self.weekdays.is_star && (self.days.is_star || self.weekdays.count() > 0) {
            return true;
        }
        const LONGEST: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let first = self.days.next(0).unwrap_or(u32::MAX);
        (1..=12).zip(LONGEST).any(|(month, days)| self.months.has(month) && first <= days)
    }

    /// The first time on the calendar after `after` at which the line fires, where no clock is ever changed.
    pub(crate) fn next_on_calendar(&self, after: NaiveDateTime) -> Option<NaiveDateTime> {
        let from = after.with_nanosecond(0)?.checked_add_signed(chrono::TimeDelta::seconds(1))?;
        let mut date = from.date();
        if self.fires_on(date)
            && let Some(time) = self.next_in_day(from.time())
        {
            return Some(date.and_time(time));
        }
        let last = NaiveDate::from_ymd_opt(from.year().checked_add_unsigned(YEARS_MAX)?, 12, 31)?;
        let time = self.next_in_day(NaiveTime::MIN)?;
        while date < last {
            date = if self.months.has(date.month()) { date.succ_opt()? } else { first_of_next_month(date)? };
            if self.fires_on(date) {
                return Some(date.and_time(time));
            }
        }
        None
    }

    /// The first of its times of day at or after `from`.
    fn next_in_day(&self, from: NaiveTime) -> Option<NaiveTime> {
        let (hour, minute, second) = (from.hour(), from.minute(), from.second());
        let first_minute = self.minutes.next(0)?;
        let first_second = self.seconds.next(0)?;
        if self.hours.has(hour) {
            if self.minutes.has(minute)
                && let Some(second) = self.seconds.next(second)
            {
                return NaiveTime::from_hms_opt(hour, minute, second);
            }
            if let Some(minute) = self.minutes.next(minute + 1) {
                return NaiveTime::from_hms_opt(hour, minute, first_second);
            }
        }
        NaiveTime::from_hms_opt(self.hours.next(hour + 1)?, first_minute, first_second)
    }
}

fn first_of_next_month(date: NaiveDate) -> Option<NaiveDate> {
    date.with_day(1)?.checked_add_months(chrono::Months::new(1))
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The day after, for whoever walks over days.
pub(crate) fn day_after(date: NaiveDate) -> Option<NaiveDate> {
    date.checked_add_days(Days::new(1))
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::any_line as tests_any_line;
