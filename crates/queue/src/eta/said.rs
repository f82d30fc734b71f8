//! What was said of when jobs end, kept until it can be checked: a sample, written aside.

use std::{num::NonZeroU32, time::Duration};

use chrono::{DateTime, Utc};
use db::Pool;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use kernel::ids::{JobId, TenantId};
use tokio::sync::{Mutex, mpsc};
use uuid::Uuid;

use super::Stage;
use crate::Error;

/// One estimate.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) tenant: TenantId,
    pub(super) job: JobId,
    pub(super) kind: String,
    pub(super) stage: Stage,
    pub(super) said_at: DateTime<Utc>,
    /// As the model gave it, before it was calibrated.
    pub(super) likely_s: f64,
    pub(super) earliest_s: f64,
    pub(super) latest_s: f64,
}

/// Noted by a process in a second; the rest is not checked.
const NOTED_PER_S: NonZeroU32 = NonZeroU32::new(50).unwrap();
/// Noted at once, when nothing was for a while.
const NOTED_BURST: NonZeroU32 = NonZeroU32::new(200).unwrap();
/// Waiting to be written.
const NOTED_MAX: usize = 1_000;
/// Kept in the database until their jobs have ended, of all processes.
const KEPT_MAX: i64 = 5_000;
const WRITE_EVERY: Duration = Duration::from_millis(250);

/// What was said in this process and is not written yet.
#[derive(Debug)]
pub(super) struct Sayings {
    pace: DefaultDirectRateLimiter,
    note: mpsc::Sender<Said>,
    noted: Mutex<mpsc::Receiver<Said>>,
}

impl Default for Sayings {
    fn default() -> Self {
        let (note, noted) = mpsc::channel(NOTED_MAX);
        let quota = Quota::per_second(NOTED_PER_S).allow_burst(NOTED_BURST);
        Self { pace: RateLimiter::direct(quota), note, noted: Mutex::new(noted) }
    }
}

impl Sayings {
    pub(super) fn note(&self, said: Said) {
        // Nothing is lost but a lesson: nobody writes, or there is more than enough.
        if self.pace.check().is_ok() {
            let _ = self.note.try_send(said);
        }
    }

    pub(super) async fn write(&self, pool: &Pool) {
        let mut noted = self.noted.lock().await;
        let mut said = Vec::new();
        while noted.recv_many(&mut said, NOTED_MAX).await > 0 {
            if let Err(error) = insert(pool, &said).await {
                tracing::debug!(%error, "estimates were not noted");
            }
            said.clear();
            tokio::time::sleep(WRITE_EVERY).await;
        }
    }
}

async fn insert(pool: &Pool, said: &[Said]) -> Result<(), Error> {
    let column = |read: fn(&Said) -> Uuid| said.iter().map(read).collect::<Vec<_>>();
    let seconds = |read: fn(&Said) -> f64| said.iter().map(read).collect::<Vec<_>>();
    let kinds: Vec<&str> = said.iter().map(|one| one.kind.as_str()).collect();
    let stages: Vec<i16> = said.iter().map(|one| one.stage.number()).collect();
    let said_at: Vec<DateTime<Utc>> = said.iter().map(|one| one.said_at).collect();
    sqlx::query!(
        "insert into job_estimates (tenant_id, job_id, kind, stage, said_at, earliest_s, likely_s, latest_s)
         select * from unnest(
             $1::uuid[], $2::uuid[], $3::text[], $4::smallint[], $5::timestamptz[], $6::float8[], $7::float8[], $8::float8[]
         )
         where (select count(*) from job_estimates) < $9
         on conflict do nothing",
        &column(|one| one.tenant.uuid()),
        &column(|one| one.job.uuid()),
        &kinds as &[&str],
        &stages,
        &said_at,
        &seconds(|one| one.earliest_s),
        &seconds(|one| one.likely_s),
        &seconds(|one| one.latest_s),
        KEPT_MAX,
    )
    .execute(pool)
    .await?;
    Ok(())
}
