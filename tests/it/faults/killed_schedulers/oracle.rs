//! What must become of every tick, worked out without the scheduler's rules: by walking over all minutes of the time
//! that passes, and by the policies as they are promised.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDateTime, TimeDelta, Timelike, Utc};
use chrono_tz::Tz;
use schedules::Missed;

/// A schedule, told twice: for the program, and for this oracle.
pub struct Case {
    pub name: &'static str,
    pub cron: &'static str,
    pub zone: Tz,
    pub missed: Missed,
    /// Whether the walls show a time of the line.
    pub fires: fn(NaiveDateTime) -> bool,
    /// The line names its hours: each time of day once, skipped ones at the end of the gap. Else it follows real time.
    pub names_hours: bool,
}

/// What becomes of a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Runs,
    Missed,
}

const MINUTE: TimeDelta = TimeDelta::minutes(1);

impl Case {
    /// Its ticks after `since` and up to `until`.
    pub fn ticks(&self, since: DateTime<Utc>, until: DateTime<Utc>) -> Vec<DateTime<Utc>> {
        let wall = |at: DateTime<Utc>| at.with_timezone(&self.zone).naive_local();
        // The latest time that the walls have shown so far.
        let mut at = since - TimeDelta::days(1);
        let mut shown = wall(at);
        let mut ticks = Vec::new();
        while at < until {
            at += MINUTE;
            let now = wall(at);
            let fires = match self.names_hours {
                false => (self.fires)(now),
                true => {
                    let mut passed = false;
                    while shown < now {
                        shown += MINUTE;
                        passed |= (self.fires)(shown);
                    }
                    passed
                }
            };
            if fires && at > since {
                ticks.push(at);
            }
        }
        ticks
    }

    /// What becomes of all ticks when everything that is due is decided at each of these moments, and at no other.
    pub fn fates(&self, moments: &[DateTime<Utc>], grace: TimeDelta) -> BTreeMap<DateTime<Utc>, Fate> {
        let (first, last) = (moments[0], *moments.last().unwrap());
        let mut ticks = self.ticks(first, last).into_iter().peekable();
        let mut fates = BTreeMap::new();
        for moment in &moments[1..] {
            let mut due = Vec::new();
            while let Some(tick) = ticks.next_if(|tick| tick <= moment) {
                due.push(tick);
            }
            let late = due.iter().filter(|tick| *moment - **tick > grace).count();
            let made_up_for = match self.missed {
                Missed::Skip => 0,
                Missed::Once => 1,
                Missed::Backfill(ticks) => usize::from(ticks),
            };
            let first_that_runs = late - late.min(made_up_for);
            for (number, tick) in due.into_iter().enumerate() {
                fates.insert(tick, if number < first_that_runs { Fate::Missed } else { Fate::Runs });
            }
        }
        fates
    }
}

fn minute_is(wall: NaiveDateTime, hours: &[u32], minutes: &[u32]) -> bool {
    hours.contains(&wall.hour()) && minutes.contains(&wall.minute())
}

/// Every policy, every sort of line, in zones that change their clocks on different days and in one that never does.
pub const CASES: &[Case] = &[
    Case {
        name: "berlin-hourly",
        cron: "0 * * * *",
        zone: Tz::Europe__Berlin,
        missed: Missed::Backfill(1_000),
        fires: |wall| wall.minute() == 0,
        names_hours: false,
    },
    Case {
        name: "berlin-daily-in-the-gap",
        cron: "30 2 * * *",
        zone: Tz::Europe__Berlin,
        missed: Missed::Skip,
        fires: |wall| minute_is(wall, &[2], &[30]),
        names_hours: true,
    },
    Case {
        name: "berlin-often-at-night",
        cron: "*/20 1-3 * * *",
        zone: Tz::Europe__Berlin,
        missed: Missed::Backfill(4),
        fires: |wall| minute_is(wall, &[1, 2, 3], &[0, 20, 40]),
        names_hours: true,
    },
    Case {
        name: "new-york-quarters",
        cron: "*/15 * * * *",
        zone: Tz::America__New_York,
        missed: Missed::Once,
        fires: |wall| wall.minute().is_multiple_of(15),
        names_hours: false,
    },
    Case {
        name: "new-york-twice-a-day",
        cron: "30 1,14 * * *",
        zone: Tz::America__New_York,
        missed: Missed::Backfill(3),
        fires: |wall| minute_is(wall, &[1, 14], &[30]),
        names_hours: true,
    },
    Case {
        name: "new-york-daily-in-the-gap",
        cron: "15 2 * * *",
        zone: Tz::America__New_York,
        missed: Missed::Once,
        fires: |wall| minute_is(wall, &[2], &[15]),
        names_hours: true,
    },
    Case {
        name: "lord-howe-halves",
        cron: "10,40 * * * *",
        zone: Tz::Australia__Lord_Howe,
        missed: Missed::Skip,
        fires: |wall| [10, 40].contains(&wall.minute()),
        names_hours: false,
    },
    Case {
        name: "ho-chi-minh-daily",
        cron: "0 4 * * *",
        zone: Tz::Asia__Ho_Chi_Minh,
        missed: Missed::Once,
        fires: |wall| minute_is(wall, &[4], &[0]),
        names_hours: true,
    },
];
