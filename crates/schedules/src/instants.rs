//! From a line and a zone to instants: the rule for the days on which clocks are changed.
//!
//! - A line with a `*` in its hours, or with all 24 of them (`17 * * * *`, `*/5 * * * *`, `0 */2 * * *`), follows real
//!   time: it fires at every instant at which the clock on the wall shows a time that matches. Hours that the clock
//!   skips have no such instant, hours that it repeats have two. So "every hour" is every 60 minutes, always.
//! - A line that names its hours (`30 2 * * *`, `0 9-17 * * 1-5`) fires once for each of its times of day. A time that
//!   the clock skips fires at the first instant after the gap, a time that it shows twice fires the first time. Times
//!   that fall on one instant are one tick. So "daily" is once on every day, always.
//!
//! The first is how cron treats wildcard jobs; the second how it treats the others. A line's hours decide, because
//! they are what a change of the clock takes or gives.

use chrono::{DateTime, MappedLocalTime, NaiveDateTime, Offset, TimeDelta, TimeZone, Timelike, Utc};
use chrono_tz::Tz;

use crate::Line;

/// Looks for one next instant; each passes a change of the clock or years without ticks.
const STEPS_MAX: u8 = 100;
const DAY: TimeDelta = TimeDelta::days(1);
const SECOND: TimeDelta = TimeDelta::seconds(1);

/// The first instant after `after` at which the line fires in the zone; `None` only at the end of the calendar.
#[must_use]
pub fn next_after(line: &Line, zone: Tz, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let after = after.naive_utc().with_nanosecond(0)?;
    let next = match line.follows_real_time() {
        true => next_in_real_time(line, zone, after),
        false => next_time_of_day(line, zone, after),
    };
    next.map(|next| next.and_utc())
}

/// Of a line that names hours. Times of day become instants in their order, so the next time of day is the next instant.
fn next_time_of_day(line: &Line, zone: Tz, after: NaiveDateTime) -> Option<NaiveDateTime> {
    let wall = on_the_wall(zone, after);
    let from = match zone.from_local_datetime(&wall) {
        MappedLocalTime::Ambiguous(first, second) if second.naive_utc() == after => {
            // The wall shows these times again: all up to the change have fired.
            let change = change_between(zone, first.naive_utc(), after)?;
            change.checked_add_signed(offset_at(zone, first.naive_utc()))?.checked_sub_signed(SECOND)?
        }
        _ => wall,
    };
    first_instant(zone, line.next_on_calendar(from)?)
}

/// Of a line for any hour: walks from one change of the clock to the next.
fn next_in_real_time(line: &Line, zone: Tz, after: NaiveDateTime) -> Option<NaiveDateTime> {
    // The first instant that may be answered.
    let mut from = after.checked_add_signed(SECOND)?;
    for _ in 0..STEPS_MAX {
        let offset = offset_at(zone, from);
        let wall = from.checked_add_signed(offset)?;
        let next = line.next_on_calendar(wall.checked_sub_signed(SECOND)?)?.checked_sub_signed(offset)?;
        let tomorrow = from.checked_add_signed(DAY)?;
        match change_between(zone, from, tomorrow) {
            // After a change the wall shows other times.
            Some(change) if next >= change => from = change,
            // No change can bring a far tick nearer than by the hours that the clock is changed.
            None if next > tomorrow => from = tomorrow.max(next.checked_sub_signed(DAY * 2)?),
            _ => return Some(next),
        }
    }
    None
}

/// The first instant at which the wall shows this time, or a later one where it is skipped.
pub(crate) fn first_instant(zone: Tz, wall: NaiveDateTime) -> Option<NaiveDateTime> {
    match zone.from_local_datetime(&wall) {
        MappedLocalTime::Single(instant) => Some(instant.naive_utc()),
        MappedLocalTime::Ambiguous(first, second) => Some(first.naive_utc().min(second.naive_utc())),
        MappedLocalTime::None => {
            // No zone is a day and a half from UTC, and within a gap the wall only ever moves forward.
            let reach = DAY + DAY / 2;
            let (before, after) = (wall.checked_sub_signed(reach)?, wall.checked_add_signed(reach)?);
            Some(first_where(before, after, |instant| on_the_wall(zone, instant) > wall))
        }
    }
}

/// The first instant after `from` and up to `until` with another offset than that of `from`. Changes that cancel each
/// other out within that time are not found; clocks are never changed back within a day.
fn change_between(zone: Tz, from: NaiveDateTime, until: NaiveDateTime) -> Option<NaiveDateTime> {
    let before = offset_at(zone, from);
    (offset_at(zone, until) != before)
        .then(|| first_where(from, until, |instant| offset_at(zone, instant) != before))
}

/// The first second after `before` and up to `after` from which on it holds.
fn first_where(
    before: NaiveDateTime,
    after: NaiveDateTime,
    holds: impl Fn(NaiveDateTime) -> bool,
) -> NaiveDateTime {
    let (mut before, mut after) = (before, after);
    while after - before > SECOND {
        let middle = before + TimeDelta::seconds((after - before).num_seconds() / 2);
        if holds(middle) { after = middle } else { before = middle }
    }
    after
}

pub(crate) fn on_the_wall(zone: Tz, instant: NaiveDateTime) -> NaiveDateTime {
    instant + offset_at(zone, instant)
}

pub(crate) fn offset_at(zone: Tz, instant: NaiveDateTime) -> TimeDelta {
    let offset = zone.offset_from_utc_datetime(&instant).fix();
    TimeDelta::seconds(offset.local_minus_utc().into())
}

#[cfg(test)]
mod tests;
