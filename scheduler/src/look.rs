//! One look at what is due.

use std::time::Duration;

use ::schedules::ScheduleError;
use chrono::{DateTime, Utc};
use db::{Connection, Pool};
use jobs::schedules::{ActionError, Ticked};
use kernel::ids::JobId;
use kernel::trace::TraceParent;
use queue::Waker;
use telemetry::span::{self, Kind};

use crate::Settings;

/// Ticks could not be decided; they are looked at again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Of the database, as such.
    #[error("the database could not be reached or refused a statement")]
    Database(#[from] sqlx::Error),
    /// Of the schedules.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// Of their jobs.
    #[error(transparent)]
    Action(#[from] ActionError),
}

/// Looks at what is due and decides it.
#[derive(Debug)]
pub struct Look {
    /// The database.
    pub pool: Pool,
    /// Whom to tell of new jobs.
    pub waker: Waker,
    /// How.
    pub settings: Settings,
}

impl Look {
    /// Stores what code declares; see `schedules::declare`.
    ///
    /// # Errors
    /// [`Error`]; repeating it does no harm.
    pub async fn declare(&self) -> Result<(), Error> {
        for declared in self.settings.declared {
            let mut tx = db::begin(&self.pool).await?;
            let now = now(&mut tx).await?;
            let definition = declared.definition();
            jobs::schedules::declare(&mut tx, self.settings.kinds, declared.name, &definition, now).await?;
            tx.commit().await?;
        }
        self.refresh().await
    }

    /// Says that code still declares them, and removes what no code declares.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn refresh(&self) -> Result<(), Error> {
        let names: Vec<String> =
            self.settings.declared.iter().map(|declared| declared.name.to_owned()).collect();
        let mut tx = db::begin(&self.pool).await?;
        let now = now(&mut tx).await?;
        ::schedules::refresh(&mut tx, &names, now).await?;
        let gone = ::schedules::expire(&mut tx, now).await?;
        tx.commit().await?;
        if !gone.is_empty() {
            tracing::info!(schedules = gone.join(", "), "schedules that no code declares are removed");
        }
        Ok(())
    }

    /// Decides everything that is due, each schedule in a transaction of its own, and answers how long to wait for more.
    ///
    /// # Errors
    /// The first [`Error`] on the way, after all schedules were looked at.
    pub async fn once(&self) -> Result<Duration, Error> {
        let mut conn = self.pool.acquire().await?;
        let now = now(&mut conn).await?;
        let due = ::schedules::due(&mut conn, now).await?;
        drop(conn);
        let mut failed = None;
        for name in &due.names {
            if let Err(error) = self.tick(name).await {
                // The others are not to suffer from it.
                failed = failed.or(Some(error));
            }
        }
        metrics::gauge!("millpond_scheduler_last_look_timestamp_seconds").set(seconds(kernel::clock::now()));
        if let Some(error) = failed {
            return Err(error);
        }
        let until_next = due.next_at.and_then(|next| (next - now).to_std().ok());
        Ok(until_next.map_or(self.settings.look_every, |next| next.min(self.settings.look_every)))
    }

    async fn tick(&self, name: &str) -> Result<(), Error> {
        let mut tx = db::begin(&self.pool).await?;
        let now = now(&mut tx).await?;
        let Settings { kinds, grace, .. } = self.settings;
        let ticked = jobs::schedules::tick(&mut tx, kinds, name, now, grace).await?;
        tx.commit().await?;
        match &ticked {
            Ticked::Nothing => {}
            Ticked::Broken { error, is_news } => {
                count(name, "broken", 1);
                if *is_news {
                    tracing::error!(schedule = name, error, "a schedule's ticks cannot be made into jobs");
                }
            }
            Ticked::Decided { decided, jobs, queue } => {
                if let Some(queue) = queue {
                    self.waker.wake(*queue);
                }
                count(name, "enqueued", jobs.len() as u64);
                count(name, "missed", decided.missed_ticks());
                if let Some(last) = decided.run.last() {
                    let lag = (now - *last).to_std().unwrap_or_default();
                    metrics::histogram!("millpond_scheduler_lag_seconds").record(lag);
                }
                for (tick, job) in decided.run.iter().zip(jobs) {
                    tell(name, *tick, *job);
                }
                if decided.missed_ticks() > 0 {
                    tracing::warn!(schedule = name, ticks = decided.missed_ticks(), "ticks were missed");
                }
            }
        }
        Ok(())
    }
}

/// The database's clock when the transaction began: the one by which jobs become ready, so that a tick with its jitter
/// and its job's time agree to the microsecond.
async fn now(conn: &mut Connection) -> Result<DateTime<Utc>, sqlx::Error> {
    sqlx::query_scalar!(r#"select now() as "now!""#).fetch_one(conn).await
}

/// Says that a tick has become a job, to the log and as the first span of the job's trace.
fn tell(schedule: &str, tick: DateTime<Utc>, job: JobId) {
    let trace = TraceParent::of(job.uuid());
    tracing::info!(
        schedule,
        tick = %tick,
        job.id = %job,
        trace.id = trace.trace_id(),
        trace.span = trace.span_id(),
        "tick"
    );
    let mut span = span::start(Kind::Producer, trace, None, "tick");
    span.note(|span| {
        span.name(format!("tick {schedule}"))
            .set("schedule", span::text(schedule.to_owned()))
            .set("schedule.tick", span::text(tick.to_rfc3339()))
            .set("job.id", span::text(job.to_string()));
    });
    span.succeed();
}

fn count(schedule: &str, outcome: &'static str, ticks: u64) {
    if ticks > 0 {
        let schedule = schedule.to_owned();
        metrics::counter!("millpond_scheduler_ticks_total", "schedule" => schedule, "outcome" => outcome)
            .increment(ticks);
    }
}

fn seconds(at: DateTime<Utc>) -> f64 {
    at.timestamp_millis() as f64 / 1_000.0
}

/// Begins the counts of these schedules at 0: of one that appears with its first event nobody sees that it grew.
pub(crate) fn begin_counts(declared: &[crate::Declared]) {
    for schedule in declared {
        for outcome in ["enqueued", "missed", "broken"] {
            metrics::counter!(
                "millpond_scheduler_ticks_total", "schedule" => schedule.name, "outcome" => outcome
            )
            .increment(0);
        }
    }
}
