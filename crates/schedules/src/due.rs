//! Which ticks are due, when nobody has looked for a second or for a year. The work is bounded by the days between and
//! by what is asked for, never by the number of ticks.

use chrono::{DateTime, NaiveDate, NaiveDateTime, TimeDelta, Utc};
use chrono_tz::Tz;

use crate::Line;
use crate::instants::{first_instant, next_after, offset_at, on_the_wall};
use crate::line::day_after;

/// Ticks missed longer ago than this are not even counted.
pub const LOOK_BACK_MAX: TimeDelta = TimeDelta::days(2 * 366);

/// Ticks after one instant and up to another.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Due {
    /// The newest, the oldest of them first.
    pub newest: Vec<DateTime<Utc>>,
    /// All before those, when there are any.
    pub older: Option<Span>,
}

/// Many ticks, told by their first, last and number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first.
    pub first: DateTime<Utc>,
    /// The last.
    pub last: DateTime<Utc>,
    /// How many, these two included.
    pub ticks: u64,
}

impl Span {
    /// Both, where `later` follows.
    #[must_use]
    pub fn and(self, later: Self) -> Self {
        Self { first: self.first, last: later.last, ticks: self.ticks + later.ticks }
    }

    /// Of ticks in their order.
    #[must_use]
    pub fn of(ticks: &[DateTime<Utc>]) -> Option<Self> {
        let (first, last) = (*ticks.first()?, *ticks.last()?);
        Some(Self { first, last, ticks: u64::try_from(ticks.len()).unwrap_or(u64::MAX) })
    }
}

/// The ticks after `since` and up to `until`, the newest of them one by one.
#[must_use]
pub fn due_between(
    line: &Line,
    zone: Tz,
    since: DateTime<Utc>,
    until: DateTime<Utc>,
    newest_max: usize,
) -> Due {
    let since = since.max(until.checked_sub_signed(LOOK_BACK_MAX).unwrap_or(since));
    match walk(line, zone, since, until, newest_max) {
        Some(newest) => Due { newest, older: None },
        None => many(line, zone, since, until, newest_max),
    }
}

/// All ticks after `since` and up to `until`, unless there are more than `ticks_max`.
fn walk(
    line: &Line,
    zone: Tz,
    since: DateTime<Utc>,
    until: DateTime<Utc>,
    ticks_max: usize,
) -> Option<Vec<DateTime<Utc>>> {
    let mut ticks = Vec::new();
    let mut last = since;
    while let Some(next) = next_after(line, zone, last).filter(|next| *next <= until) {
        if ticks.len() == ticks_max {
            return None;
        }
        ticks.push(next);
        last = next;
    }
    Some(ticks)
}

/// Goes back day by day until there are enough ticks, and counts the rest by days.
fn many(line: &Line, zone: Tz, since: DateTime<Utc>, until: DateTime<Utc>, newest_max: usize) -> Due {
    // One more, so that the last of the older ones is among them.
    let wanted = u64::try_from(newest_max).unwrap_or(u64::MAX).saturating_add(1);
    let (mut newer, mut older) = (0, 0);
    let mut newer_since = since;
    let mut date = day_after(on_the_wall(zone, until.naive_utc()).date());
    while let Some(day) = date.and_then(|date| Day::of(zone, date)) {
        if newer < wanted {
            newer += day.ticks(line, zone, since, until);
            newer_since = since.max((day.start - TimeDelta::seconds(1)).and_utc());
        } else {
            older += day.ticks(line, zone, since, until);
        }
        if day.start.and_utc() <= since {
            break;
        }
        date = day.date.pred_opt();
    }
    let mut newest = walk(line, zone, newer_since, until, usize::MAX).unwrap_or_default();
    let surplus = newest.len().saturating_sub(newest_max);
    let spare: Vec<_> = newest.drain(..surplus).collect();
    let first = next_after(line, zone, since);
    let older = Span::of(&spare).zip(first).map(|(spare, first)| Span {
        first,
        last: spare.last,
        ticks: spare.ticks + older,
    });
    Due { newest, older }
}

/// A date and the instants at which walls show it.
struct Day {
    date: NaiveDate,
    start: NaiveDateTime,
    end: NaiveDateTime,
}

impl Day {
    fn of(zone: Tz, date: NaiveDate) -> Option<Self> {
        let start = |date: NaiveDate| first_instant(zone, date.and_hms_opt(0, 0, 0)?);
        Some(Self { date, start: start(date)?, end: start(day_after(date)?)? })
    }

    /// Whether the clock is changed on it or at one of its ends.
    fn is_changed(&self, zone: Tz) -> bool {
        let second = TimeDelta::seconds(1);
        let offset = offset_at(zone, self.start);
        self.end - self.start != TimeDelta::days(1)
            || offset_at(zone, self.start - second) != offset
            || offset_at(zone, self.end - second) != offset
    }

    /// How many of its ticks are after `since` and up to `until`.
    fn ticks(&self, line: &Line, zone: Tz, since: DateTime<Utc>, until: DateTime<Utc>) -> u64 {
        let second = TimeDelta::seconds(1);
        let before = (self.start - second).and_utc();
        let last = (self.end - second).and_utc();
        let is_whole = since <= before && last <= until;
        if is_whole && !self.is_changed(zone) {
            return if line.fires_on(self.date) { line.ticks_a_day() } else { 0 };
        }
        let ticks = walk(line, zone, since.max(before), until.min(last), usize::MAX);
        ticks.map_or(0, |ticks| u64::try_from(ticks.len()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests;
