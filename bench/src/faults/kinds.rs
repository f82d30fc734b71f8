//! Kinds of jobs that do what fault runs need, and leave a trace of it: a row when a handler starts, on its own, and a
//! row as the effect, in the fenced transaction.

use std::time::Duration;

use db::{Connection, Pool};
use jobs::{Context, Entry, Handler, entry, ops::Bulk};
use kernel::ids::JobId;
use queue::{Backoff, Job, JobError, Outcome, Policy, Queue};
use serde::{Deserialize, Serialize};

/// What a worker of these runs knows.
pub const KINDS: &[Entry] = &[
    entry::<Abort>(),
    entry::<Acknowledged>(),
    entry::<Block>(),
    entry::<Bulk>(),
    entry::<Effect>(),
    entry::<Fail>(),
    entry::<Never>(),
];
/// What a worker of the next version knows: one kind more.
pub const NEXT_KINDS: &[Entry] = &[
    entry::<Abort>(),
    entry::<Acknowledged>(),
    entry::<Block>(),
    entry::<Effect>(),
    entry::<Fail>(),
    entry::<Never>(),
    entry::<Newer>(),
];

/// Attempts and time enough to outlast any fault.
const POLICY: Policy = Policy {
    queue: Queue::Enrich,
    priority: 0,
    attempts_max: 100,
    timeout: Duration::from_secs(60),
    backoff: Backoff::Exponential { base: Duration::from_millis(20), max: Duration::from_millis(500) },
    ..Policy::DEFAULT
};

/// Writes its effect and ends in one transaction, after a pause.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Effect {
    /// Milliseconds between start and effect.
    pub pause_ms: u64,
}

impl Job for Effect {
    const KIND: &'static str = "fault.effect";
    const POLICY: Policy = POLICY;
}

impl Handler for Effect {
    async fn run(self, cx: Context) -> Result<Outcome, JobError> {
        started(&cx).await?;
        tokio::time::sleep(Duration::from_millis(self.pause_ms)).await;
        effect_and_done(&cx).await
    }
}

/// The same under a name that only the next version knows.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Newer {}

impl Job for Newer {
    const KIND: &'static str = "fault.newer";
    const POLICY: Policy = POLICY;
}

impl Handler for Newer {
    async fn run(self, cx: Context) -> Result<Outcome, JobError> {
        started(&cx).await?;
        effect_and_done(&cx).await
    }
}

/// Commits its effect first, unless an earlier attempt did, and is acknowledged with others afterwards.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Acknowledged {
    /// Milliseconds between start and effect.
    pub pause_ms: u64,
}

impl Job for Acknowledged {
    const KIND: &'static str = "fault.acknowledged";
    const POLICY: Policy = POLICY;
}

impl Handler for Acknowledged {
    async fn run(self, cx: Context) -> Result<Outcome, JobError> {
        started(&cx).await?;
        tokio::time::sleep(Duration::from_millis(self.pause_ms)).await;
        let mut tx = cx.begin().await?;
        if !has_effect(&mut tx, cx.job()).await? {
            write_effect(&mut tx, cx.job()).await?;
        }
        tx.commit().await?;
        Ok(Outcome::Done(None))
    }
}

/// The code of [`Fail`]'s error.
pub const FAILED: &str = "FAILED";

/// Fails for good.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Fail {}

impl Job for Fail {
    const KIND: &'static str = "fault.fail";
    const POLICY: Policy = POLICY;
}

impl Handler for Fail {
    async fn run(self, cx: Context) -> Result<Outcome, JobError> {
        started(&cx).await?;
        Err(JobError::fatal(FAILED, "as it was told"))
    }
}

/// Takes its whole process down.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Abort {}

impl Job for Abort {
    const KIND: &'static str = "fault.abort";
    const POLICY: Policy = POLICY;
}

impl Handler for Abort {
    async fn run(self, cx: Context) -> Result<Outcome, JobError> {
        started(&cx).await?;
        std::process::abort()
    }
}

/// Holds on to its thread, longer than its time allows.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Block {
    /// Milliseconds for which the thread is held.
    pub hold_ms: u64,
    /// Computes all the while instead of sleeping.
    pub busy: bool,
}

impl Job for Block {
    const KIND: &'static str = "fault.block";
    const POLICY: Policy = Policy { attempts_max: 1, timeout: Duration::from_millis(500), ..POLICY };
}

impl Handler for Block {
    async fn run(self, cx: Context) -> Result<Outcome, JobError> {
        started(&cx).await?;
        let hold = Duration::from_millis(self.hold_ms);
        if self.busy {
            let began = std::time::Instant::now();
            while began.elapsed() < hold {
                std::hint::spin_loop();
            }
        } else {
            std::thread::sleep(hold);
        }
        effect_and_done(&cx).await
    }
}

/// Never answers.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Never {}

impl Job for Never {
    const KIND: &'static str = "fault.never";
    const POLICY: Policy = Policy { attempts_max: 2, timeout: Duration::from_millis(500), ..POLICY };
}

impl Handler for Never {
    async fn run(self, cx: Context) -> Result<Outcome, JobError> {
        started(&cx).await?;
        std::future::pending().await
    }
}

async fn effect_and_done(cx: &Context) -> Result<Outcome, JobError> {
    let mut tx = cx.begin().await?;
    write_effect(&mut tx, cx.job()).await?;
    Ok(tx.done(None, None).await?)
}

/// Makes the tables in which handlers leave their traces. No constraint forbids what the checker looks for.
///
/// # Errors
/// When the database refuses.
pub async fn create_tables(pool: &Pool) -> Result<(), sqlx::Error> {
    let tables = "create table fault_starts (job uuid not null, process uuid not null, attempt int not null);
                  create table fault_effects (
                      n bigint generated always as identity primary key, job uuid not null
                  );
                  create index on fault_effects (job)";
    sqlx::raw_sql(tables).execute(pool).await?;
    Ok(())
}

#[allow(
    clippy::disallowed_methods,
    reason = "the table is made by each run, so no query can be checked ahead"
)]
async fn started(cx: &Context) -> Result<(), sqlx::Error> {
    sqlx::query("insert into fault_starts (job, process, attempt) values ($1, $2, $3)")
        .bind(cx.job().uuid())
        .bind(cx.process())
        .bind(i32::from(cx.attempt()))
        .execute(&cx.services().pool)
        .await?;
    Ok(())
}

#[allow(
    clippy::disallowed_methods,
    reason = "the table is made by each run, so no query can be checked ahead"
)]
async fn write_effect(conn: &mut Connection, job: JobId) -> Result<(), sqlx::Error> {
    sqlx::query("insert into fault_effects (job) values ($1)").bind(job.uuid()).execute(conn).await?;
    Ok(())
}

#[allow(
    clippy::disallowed_methods,
    reason = "the table is made by each run, so no query can be checked ahead"
)]
async fn has_effect(conn: &mut Connection, job: JobId) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("select exists (select from fault_effects where job = $1)")
        .bind(job.uuid())
        .fetch_one(conn)
        .await
}
