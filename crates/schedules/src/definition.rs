//! What a schedule is, as data: checked as a whole, so that every wrong field is told at once.

use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Line, Missed, next_after};

/// Longest name of a schedule.
pub const NAME_CHARS_MAX: usize = 64;
/// Longest time by which jitter may shift a job.
pub const JITTER_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Most JSON that arguments may be.
pub const ARGS_BYTES_MAX: usize = 16 * 1_024;
/// Longest name of a time zone that is looked up.
const ZONE_CHARS_MAX: usize = 64;

/// A schedule: when, what, and what about ticks that nobody stored in time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Definition {
    /// Five fields (minute hour day month weekday), or six with seconds in front.
    pub cron: String,
    /// The zone that the fields are read in, by its IANA name.
    pub time_zone: String,
    /// The kind of job.
    pub kind: String,
    /// The job's arguments.
    pub args: Value,
    /// What becomes of missed ticks.
    pub missed: Missed,
    /// A job may begin up to so many milliseconds after its tick, always as many for one tick.
    pub jitter_ms: u32,
    /// Whether it ticks at all.
    pub enabled: bool,
}

/// Some fields of a definition, to be laid over another.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Change {
    /// See [`Definition`], as for all.
    pub cron: Option<String>,
    /// As there.
    pub time_zone: Option<String>,
    /// As there.
    pub kind: Option<String>,
    /// As there.
    pub args: Option<Value>,
    /// As there.
    pub missed: Option<Missed>,
    /// As there.
    pub jitter_ms: Option<u32>,
    /// As there.
    pub enabled: Option<bool>,
}

/// One field that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The field's name, as people give it.
    pub field: &'static str,
    /// What is allowed.
    pub message: String,
}

/// A definition's line and zone, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// Its line.
    pub line: Line,
    /// Its zone.
    pub zone: Tz,
}

impl Timing {
    /// Reads both; every fault of both is answered.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn read(cron: &str, time_zone: &str) -> Result<Self, Vec<Fault>> {
        let line = Line::from_str(cron).map_err(|error| {
            error.faults.into_iter().map(|message| Fault { field: "cron", message }).collect::<Vec<_>>()
        });
        let zone = read_zone(time_zone).map_err(|message| vec![Fault { field: "time zone", message }]);
        match (line, zone) {
            (Ok(line), Ok(zone)) => Ok(Self { line, zone }),
            (line, zone) => Err([line.err(), zone.err()].into_iter().flatten().flatten().collect()),
        }
    }

    /// The first tick after an instant.
    #[must_use]
    pub fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        next_after(&self.line, self.zone, after)
    }

    /// The next ticks after an instant.
    pub fn next_ticks(&self, after: DateTime<Utc>) -> impl Iterator<Item = DateTime<Utc>> {
        std::iter::successors(self.next_after(after), |tick| self.next_after(*tick))
    }

    /// In plain words.
    #[must_use]
    pub fn in_words(&self) -> String {
        crate::words::in_words(&self.line, self.zone)
    }
}

fn read_zone(name: &str) -> Result<Tz, String> {
    const EXPECTED: &str = "must be an IANA name such as Asia/Ho_Chi_Minh, Europe/Berlin or UTC";
    if name.len() > ZONE_CHARS_MAX {
        return Err(EXPECTED.to_owned());
    }
    name.parse().map_err(|_| EXPECTED.to_owned())
}

impl Definition {
    /// The definition with some fields changed.
    #[must_use]
    pub fn with(&self, change: &Change) -> Self {
        let Change { cron, time_zone, kind, args, missed, jitter_ms, enabled } = change.clone();
        Self {
            cron: cron.unwrap_or_else(|| self.cron.clone()),
            time_zone: time_zone.unwrap_or_else(|| self.time_zone.clone()),
            kind: kind.unwrap_or_else(|| self.kind.clone()),
            args: args.unwrap_or_else(|| self.args.clone()),
            missed: missed.unwrap_or(self.missed),
            jitter_ms: jitter_ms.unwrap_or(self.jitter_ms),
            enabled: enabled.unwrap_or(self.enabled),
        }
    }

    /// The fields in which `other` differs.
    #[must_use]
    pub fn changes_in(&self, other: &Self) -> Change {
        fn changed<T: PartialEq + Clone>(old: &T, new: &T) -> Option<T> {
            (old != new).then(|| new.clone())
        }
        Change {
            cron: changed(&self.cron, &other.cron),
            time_zone: changed(&self.time_zone, &other.time_zone),
            kind: changed(&self.kind, &other.kind),
            args: changed(&self.args, &other.args),
            missed: changed(&self.missed, &other.missed),
            jitter_ms: changed(&self.jitter_ms, &other.jitter_ms),
            enabled: changed(&self.enabled, &other.enabled),
        }
    }

    /// Whether another definition ticks at other instants.
    #[must_use]
    pub fn ticks_otherwise_than(&self, other: &Self) -> bool {
        self.cron != other.cron || self.time_zone != other.time_zone || self.enabled != other.enabled
    }

    /// Checks all that can be checked without knowing the kinds of jobs, and answers when it ticks.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn check(&self) -> Result<Timing, Vec<Fault>> {
        let mut faults = Vec::new();
        let timing = Timing::read(&self.cron, &self.time_zone).map_err(|found| faults.extend(found));
        let mut fault = |field, message: String| faults.push(Fault { field, message });
        if u128::from(self.jitter_ms) > JITTER_MAX.as_millis() {
            fault("jitter", format!("must be {} hours or less", JITTER_MAX.as_secs() / 3_600));
        }
        if let Missed::Backfill(ticks) = self.missed
            && !(1..=crate::BACKFILL_MAX).contains(&ticks)
        {
            fault("missed", crate::missed::UnknownMissed.to_string());
        }
        if !self.args.is_object() {
            fault("args", "must be a JSON object".to_owned());
        } else if self.args.to_string().len() > ARGS_BYTES_MAX {
            fault("args", format!("must be {} KiB or less", ARGS_BYTES_MAX / 1_024));
        }
        match timing {
            Ok(timing) if faults.is_empty() => Ok(timing),
            _ => Err(faults),
        }
    }

    /// How long after its tick the job of a tick may begin: always the same for one tick, spread evenly over ticks and
    /// schedules. `job` is the job's id, which derives from both.
    #[must_use]
    pub fn jitter_of(&self, job: uuid::Uuid) -> TimeDelta {
        let chance = job.as_u64_pair().1 & (u64::MAX >> 2);
        let jitter = chance % (u64::from(self.jitter_ms) + 1);
        TimeDelta::milliseconds(i64::try_from(jitter).unwrap_or_default())
    }
}

/// Whether a schedule may be called so.
///
/// # Errors
/// What is allowed.
pub fn check_name(name: &str) -> Result<(), Fault> {
    let is_fine = (1..=NAME_CHARS_MAX).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte))
        && name.as_bytes()[0].is_ascii_lowercase();
    let message =
        format!("must be 1 to {NAME_CHARS_MAX} of a-z, 0-9, dot, dash and underscore, a letter first");
    is_fine.then_some(()).ok_or(Fault { field: "name", message })
}
