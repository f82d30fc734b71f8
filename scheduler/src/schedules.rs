//! The schedules, in code.

use chrono_tz::Tz;
use jobs::maintenance::PruneJobs;
use queue::{Error, Job, NewJob, Queue};

/// A cron line and what it stores.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    /// Its name, part of every tick's unique key: never change it.
    pub name: &'static str,
    /// Five fields (minute hour day month weekday), or six with seconds in front.
    pub cron: &'static str,
    /// The zone that the fields are read in.
    pub time_zone: Tz,
    /// The queue to wake.
    pub queue: Queue,
    /// Makes the job of one tick.
    pub job: fn() -> Result<NewJob, Error>,
}

/// Every schedule.
pub const ALL: &[Schedule] = &[Schedule {
    name: PruneJobs::KIND,
    // Hourly: what is pruned is pruned in small pieces.
    cron: "17 * * * *",
    time_zone: Tz::Asia__Ho_Chi_Minh,
    queue: PruneJobs::POLICY.queue,
    job: || NewJob::of(&PruneJobs::default()),
}];
