//! Waiting for jobs to end, for long-polling requests: one query covers everybody who waits in this process.
//!
//! A job has ended when it is no longer among the live ones, so the query is one primary-key probe per awaited
//! job, however much history there is. Signals make answers prompt; the timer alone is enough.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use db::Pool;
use kernel::ids::{JobId, TenantId};
use tokio::sync::{Notify, oneshot};
use uuid::Uuid;

use crate::{Error, Waker};

/// How often awaited jobs are looked at when no signal comes.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The shortest time between two looks, however many signals come.
const LOOK_PAUSE_MIN: Duration = Duration::from_millis(5);

/// Watches jobs for those who wait for them; clones share one watch.
#[derive(Debug, Clone, Default)]
pub struct Watcher(Arc<Watch>);

/// Tenant and job.
type JobKey = (Uuid, Uuid);

#[derive(Debug, Default)]
struct Watch {
    awaited: Mutex<HashMap<JobKey, Vec<oneshot::Sender<()>>>>,
    arrived: Notify,
}

impl Watcher {
    /// A watch that starts looking when [`run`](Self::run) runs.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits until a job that was live has ended, or until the time is over, and answers whether it ended.
    pub async fn until_ended(&self, tenant: TenantId, job: JobId, wait: Duration) -> bool {
        let (ended, told) = oneshot::channel();
        {
            let mut awaited = self.0.awaited.lock().unwrap_or_else(PoisonError::into_inner);
            awaited.entry((tenant.uuid(), job.uuid())).or_default().push(ended);
        }
        self.0.arrived.notify_one();
        matches!(tokio::time::timeout(wait, told).await, Ok(Ok(())))
    }

    /// Looks at awaited jobs until it is dropped. Run it in a task of its own, once per process.
    pub async fn run(self, pool: Pool, waker: Waker) {
        loop {
            let (tenants, jobs) = self.awaited();
            if jobs.is_empty() {
                self.0.arrived.notified().await;
                continue;
            }
            match ended_among(&pool, &tenants, &jobs).await {
                Ok(ended) => self.tell(&ended),
                Err(error) => tracing::warn!(%error, "could not look at awaited jobs; looking again"),
            }
            tokio::time::sleep(LOOK_PAUSE_MIN).await;
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = waker.some_job_ended() => {}
                () = self.0.arrived.notified() => {}
            }
        }
    }

    /// What is awaited now; requests that went away are forgotten.
    fn awaited(&self) -> (Vec<Uuid>, Vec<Uuid>) {
        let mut awaited = self.0.awaited.lock().unwrap_or_else(PoisonError::into_inner);
        awaited.retain(|_, waiting| {
            waiting.retain(|one| !one.is_closed());
            !waiting.is_empty()
        });
        awaited.keys().copied().unzip()
    }

    fn tell(&self, ended: &[JobKey]) {
        let mut awaited = self.0.awaited.lock().unwrap_or_else(PoisonError::into_inner);
        for key in ended {
            for waiting in awaited.remove(key).unwrap_or_default() {
                // A request that went away in between needs no answer.
                let _ = waiting.send(());
            }
        }
    }
}

async fn ended_among(pool: &Pool, tenants: &[Uuid], jobs: &[Uuid]) -> Result<Vec<JobKey>, Error> {
    let rows = sqlx::query!(
        r#"select i.tenant_id as "tenant_id!", i.id as "id!"
           from unnest($1::uuid[], $2::uuid[]) as i (tenant_id, id)
           where not exists (select from jobs j where j.tenant_id = i.tenant_id and j.id = i.id)"#,
        tenants,
        jobs,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|row| (row.tenant_id, row.id)).collect())
}
