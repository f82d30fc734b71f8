//! Storing jobs, one or thousands, inside the caller's transaction.
//!
//! Guarantee: jobs are visible when and only when the caller's transaction commits. Of jobs with one unique
//! key, one is stored; the others are told which job holds the key. A holder that rolls back frees the key.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use db::Connection;
use kernel::ids::{JobId, TenantId};
use uuid::Uuid;

use crate::{Error, NewJob, Queue, new_job::Held};

/// What became of a job that was to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enqueued {
    /// It was stored.
    New(JobId),
    /// Another job holds its unique key.
    Existing(JobId),
}

impl Enqueued {
    /// The job that stands for the request, stored now or before.
    #[must_use]
    pub const fn id(self) -> JobId {
        match self {
            Self::New(id) | Self::Existing(id) => id,
        }
    }
}

/// Stores one job. On a connection outside a transaction this is a single autocommitted statement.
///
/// # Errors
/// See [`enqueue_many`].
pub async fn enqueue(conn: &mut Connection, job: NewJob) -> Result<Enqueued, Error> {
    if !job.is_plain() {
        let id = job.id;
        let stored = enqueue_many(conn, vec![job]).await?;
        return Ok(stored.into_iter().next().unwrap_or(Enqueued::Existing(id)));
    }
    job.check()?;
    let redact = job.redact();
    sqlx::query_file!(
        "src/enqueue_one.sql",
        job.tenant.uuid(),
        job.id.uuid(),
        job.lane(),
        job.share().uuid(),
        job.queue.as_str(),
        job.kind,
        job.key,
        job.delay_ms(),
        job.priority,
        job.deadline_ms(),
        job.attempts_max,
        job.awaited,
        job.batch,
        job.subject,
        job.request_id,
        job.traceparent,
        redact.as_deref() as Option<&[&str]>,
        job.args.to_string(),
    )
    .execute(conn)
    .await?;
    Ok(Enqueued::New(job.id))
}

/// Stores many jobs in one statement and answers in their order.
///
/// # Errors
/// [`Error::Database`], or [`Error::KeyContended`] when a unique key kept changing hands.
pub async fn enqueue_many(conn: &mut Connection, jobs: Vec<NewJob>) -> Result<Vec<Enqueued>, Error> {
    for job in &jobs {
        job.check()?;
    }
    if let [first, ..] = jobs.as_slice()
        && jobs.iter().all(|job| job.is_plain() && job.is_like(first))
    {
        insert_alike(conn, first, &jobs).await?;
        return Ok(jobs.iter().map(|job| Enqueued::New(job.id)).collect());
    }
    let mut answers: Vec<Option<Enqueued>> = vec![None; jobs.len()];
    // Two of one batch with one key: the first stands for both.
    let mut first_of_key: HashMap<(TenantId, &'static str, String), usize> = HashMap::new();
    let mut twins: Vec<(usize, usize)> = Vec::new();
    let mut open: Vec<usize> = Vec::new();
    for (position, job) in jobs.iter().enumerate() {
        match &job.unique {
            Some(key) => match first_of_key.entry((job.tenant, job.kind, key.text.clone())) {
                std::collections::hash_map::Entry::Occupied(first) => twins.push((position, *first.get())),
                std::collections::hash_map::Entry::Vacant(entry) => {
                    entry.insert(position);
                    open.push(position);
                }
            },
            None => open.push(position),
        }
    }

    for _ in 0..KEY_LOOKS_MAX {
        let stored = insert(conn, &jobs, &open).await?;
        let mut contended = Vec::new();
        for position in open {
            let job = &jobs[position];
            if stored.contains(&job.id.uuid()) {
                answers[position] = Some(Enqueued::New(job.id));
            } else if let Some(holder) = holder_of_key(conn, job).await? {
                answers[position] = Some(Enqueued::Existing(holder));
            } else {
                contended.push(position);
            }
        }
        open = contended;
        if open.is_empty() {
            break;
        }
    }
    if let Some(position) = open.first() {
        let job = &jobs[*position];
        let key = job.unique.as_ref().map(|key| key.text.clone()).unwrap_or_default();
        return Err(Error::KeyContended { kind: job.kind.into(), key });
    }
    for (twin, first) in twins {
        answers[twin] = answers[first].map(|answer| Enqueued::Existing(answer.id()));
    }
    Ok(answers.into_iter().flatten().collect())
}

/// How often a key may be found neither free nor held before we give up: each look means that its holder
/// ended or rolled back between two statements.
const KEY_LOOKS_MAX: u8 = 20;

/// Stores jobs that are alike: their common columns are sent once.
async fn insert_alike(conn: &mut Connection, first: &NewJob, jobs: &[NewJob]) -> Result<(), Error> {
    let ids: Vec<Uuid> = jobs.iter().map(|job| job.id.uuid()).collect();
    let args: Vec<String> = jobs.iter().map(|job| job.args.to_string()).collect();
    let redact = first.redact();
    sqlx::query_file!(
        "src/enqueue_alike.sql",
        first.tenant.uuid(),
        first.lane(),
        first.share().uuid(),
        first.queue.as_str(),
        first.kind,
        first.key,
        first.delay_ms(),
        first.priority,
        first.deadline_ms(),
        first.attempts_max,
        first.awaited,
        first.batch,
        first.subject,
        first.request_id,
        first.traceparent,
        redact.as_deref() as Option<&[&str]>,
        &ids,
        &args,
    )
    .execute(conn)
    .await?;
    Ok(())
}

async fn insert(conn: &mut Connection, jobs: &[NewJob], picked: &[usize]) -> Result<HashSet<Uuid>, Error> {
    let columns = Columns::of(picked.iter().map(|at| &jobs[*at]));
    let stored = sqlx::query_file_scalar!(
        "src/enqueue.sql",
        &columns.tenants,
        &columns.ids,
        &columns.lanes,
        &columns.shares,
        &columns.queues as &[&str],
        &columns.kinds as &[&str],
        &columns.keys as &[Option<&str>],
        &columns.priorities,
        &columns.attempts_max,
        &columns.delays_ms,
        &columns.deadlines_ms as &[Option<i64>],
        &columns.args,
        &columns.unique_keys as &[Option<&str>],
        &columns.held_until as &[Option<DateTime<Utc>>],
        &columns.held_ms as &[Option<i64>],
        &columns.until_started,
        &columns.waiting_on as &[Option<Uuid>],
        &columns.waiting_on_tenant as &[Option<Uuid>],
        &columns.awaited,
        &columns.batches as &[Option<Uuid>],
        &columns.subjects as &[Option<Uuid>],
        &columns.request_ids as &[Option<&str>],
        &columns.traceparents as &[Option<&str>],
        &columns.redact as &[Option<serde_json::Value>],
    )
    .fetch_all(conn)
    .await?;
    Ok(stored.into_iter().collect())
}

/// Jobs turned on their side, as the general statement takes them.
#[derive(Default)]
struct Columns<'a> {
    tenants: Vec<Uuid>,
    ids: Vec<Uuid>,
    lanes: Vec<Uuid>,
    shares: Vec<Uuid>,
    queues: Vec<&'a str>,
    kinds: Vec<&'a str>,
    keys: Vec<Option<&'a str>>,
    priorities: Vec<i16>,
    attempts_max: Vec<i16>,
    delays_ms: Vec<i64>,
    deadlines_ms: Vec<Option<i64>>,
    args: Vec<String>,
    unique_keys: Vec<Option<&'a str>>,
    held_until: Vec<Option<DateTime<Utc>>>,
    held_ms: Vec<Option<i64>>,
    until_started: Vec<bool>,
    waiting_on: Vec<Option<Uuid>>,
    waiting_on_tenant: Vec<Option<Uuid>>,
    awaited: Vec<bool>,
    batches: Vec<Option<Uuid>>,
    subjects: Vec<Option<Uuid>>,
    request_ids: Vec<Option<&'a str>>,
    traceparents: Vec<Option<&'a str>>,
    redact: Vec<Option<serde_json::Value>>,
}

impl<'a> Columns<'a> {
    fn of(jobs: impl Iterator<Item = &'a NewJob>) -> Self {
        let mut columns = Self::default();
        for job in jobs {
            columns.push(job);
        }
        columns
    }

    fn push(&mut self, job: &'a NewJob) {
        let held = job.unique.as_ref().map(|key| key.held);
        self.tenants.push(job.tenant.uuid());
        self.ids.push(job.id.uuid());
        self.lanes.push(job.lane());
        self.shares.push(job.share().uuid());
        self.queues.push(job.queue.as_str());
        self.kinds.push(job.kind);
        self.keys.push(job.key.as_deref());
        self.priorities.push(job.priority);
        self.attempts_max.push(job.attempts_max);
        self.delays_ms.push(job.delay_ms());
        self.deadlines_ms.push(job.deadline_ms());
        self.args.push(job.args.to_string());
        self.unique_keys.push(job.unique.as_ref().map(|key| key.text.as_str()));
        self.held_until.push(match held {
            Some(Held::Until(instant)) => Some(instant),
            _ => None,
        });
        self.held_ms.push(match held {
            Some(Held::For(period)) => Some(i64::try_from(period.as_millis()).unwrap_or(i64::MAX)),
            _ => None,
        });
        self.until_started.push(held == Some(Held::UntilStarted));
        self.waiting_on.push(job.waits_for.map(|(_, id)| id));
        self.waiting_on_tenant.push(job.waits_for.map(|(tenant, _)| tenant.uuid()));
        self.awaited.push(job.awaited);
        self.batches.push(job.batch);
        self.subjects.push(job.subject);
        self.request_ids.push(job.request_id.as_deref());
        self.traceparents.push(job.traceparent.as_deref());
        self.redact.push(job.redact().map(Into::into));
    }
}

/// The live or still protected holder of a job's key. A key that outlived its holder and its time is removed,
/// so that the next look finds it free.
async fn holder_of_key(conn: &mut Connection, job: &NewJob) -> Result<Option<JobId>, Error> {
    let Some(key) = &job.unique else {
        // Without a key only the id itself can have been there: the step was done before.
        return Ok(Some(job.id));
    };
    let holder = sqlx::query!(
        r#"select k.job_id,
                  (coalesce(k.held_until > now(), false) or exists (
                      select from jobs j
                      where j.tenant_id = k.tenant_id and j.id = k.job_id
                        and not (k.until_started and j.started_at is not null)
                  )) as "held!"
           from job_unique_keys k
           where k.tenant_id = $1 and k.kind = $2 and k.key = $3"#,
        job.tenant.uuid(),
        job.kind,
        key.text,
    )
    .fetch_optional(&mut *conn)
    .await?;
    match holder {
        Some(holder) if holder.held => Ok(Some(JobId::from_uuid(holder.job_id))),
        Some(holder) => {
            sqlx::query!(
                "delete from job_unique_keys
                 where tenant_id = $1 and kind = $2 and key = $3 and job_id = $4",
                job.tenant.uuid(),
                job.kind,
                key.text,
                holder.job_id,
            )
            .execute(conn)
            .await?;
            Ok(None)
        }
        None => Ok(None),
    }
}

/// The queues that the given jobs go to, each once: what to wake after the commit.
#[must_use]
pub fn queues_of(jobs: &[NewJob]) -> Vec<Queue> {
    let mut queues: Vec<Queue> =
        jobs.iter().filter(|job| job.waits_for.is_none()).map(|job| job.queue).collect();
    queues.sort_unstable();
    queues.dedup();
    queues
}
