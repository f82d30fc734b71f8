//! The schedules that code declares. Operators' edits of them are kept, see `schedules::declare`.

use std::time::Duration;

use chrono_tz::Tz;
use jobs::maintenance::{PruneJobs, RollUpHistory};
use jobs::partners::FollowCalendar;
use queue::Job;
use schedules::{Definition, Missed};
use serde_json::json;

/// A schedule in code. A running program ticks by the database's row of it.
#[derive(Debug, Clone, Copy)]
pub struct Declared {
    /// Its name, under which it is edited and its ticks are recorded: never change it.
    pub name: &'static str,
    /// Five fields (minute hour day month weekday), or six with seconds in front.
    pub cron: &'static str,
    /// The zone that the fields are read in.
    pub time_zone: Tz,
    /// The kind of its jobs, which must be content with no arguments.
    pub kind: &'static str,
    /// What becomes of ticks that no scheduler stored in time.
    pub missed: Missed,
    /// A job begins up to this long after its tick.
    pub jitter: Duration,
}

/// Every schedule.
pub const ALL: &[Declared] = &[
    Declared {
        name: PruneJobs::KIND,
        // Hourly: what is pruned is pruned in small pieces.
        cron: "17 * * * *",
        time_zone: Tz::Asia__Ho_Chi_Minh,
        kind: PruneJobs::KIND,
        // It rereads the state: one run does the work of all that were missed.
        missed: Missed::Once,
        jitter: Duration::ZERO,
    },
    Declared {
        name: RollUpHistory::KIND,
        // Every minute, when the one before has been over for long enough to be complete.
        cron: "15 * * * * *",
        time_zone: Tz::UTC,
        kind: RollUpHistory::KIND,
        // It catches up by itself.
        missed: Missed::Once,
        jitter: Duration::ZERO,
    },
    Declared {
        name: FollowCalendar::KIND,
        // Every minute: how subscriptions stand is read off the calendar, this only tells of it.
        cron: "45 * * * * *",
        time_zone: Tz::UTC,
        kind: FollowCalendar::KIND,
        // It takes every step that is due.
        missed: Missed::Once,
        jitter: Duration::ZERO,
    },
];

impl Declared {
    /// As data.
    #[must_use]
    pub fn definition(&self) -> Definition {
        Definition {
            cron: self.cron.to_owned(),
            time_zone: self.time_zone.name().to_owned(),
            kind: self.kind.to_owned(),
            args: json!({}),
            missed: self.missed,
            jitter_ms: self.jitter.as_millis().try_into().unwrap_or(u32::MAX),
            enabled: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_schedule_in_code_can_be_used_and_names_are_used_once() {
        let mut names: Vec<_> = ALL.iter().map(|schedule| schedule.name).collect();
        for schedule in ALL {
            let definition = schedule.definition();
            assert_eq!(schedules::check_name(schedule.name), Ok(()));
            assert!(definition.check().is_ok(), "{}: {:?}", schedule.name, definition.check());
            let job = jobs::new_job(jobs::ALL, schedule.kind, definition.args);
            assert!(job.is_ok(), "{}: {job:?}", schedule.name);
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
    }
}
