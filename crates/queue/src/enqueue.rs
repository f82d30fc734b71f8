//! Storing jobs, one or thousands, inside the caller's transaction.
//!
//! Guarantee: jobs are visible when and only when the caller's transaction commits. Of jobs with one unique
//! key, one is stored; the others are told which job holds the key. A holder that rolls back frees the key.

use std::collections::HashMap;

use kernel::ids::{JobId, TenantId};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{Error, NewJob, Queue};

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
pub async fn enqueue(conn: &mut PgConnection, job: NewJob) -> Result<Enqueued, Error> {
    let id = job.id;
    let stored = enqueue_many(conn, vec![job]).await?;
    Ok(stored.into_iter().next().unwrap_or(Enqueued::Existing(id)))
}

/// Stores many jobs in one statement and answers in their order.
///
/// # Errors
/// [`Error::Database`], or [`Error::KeyContended`] when a unique key kept changing hands.
pub async fn enqueue_many(conn: &mut PgConnection, jobs: Vec<NewJob>) -> Result<Vec<Enqueued>, Error> {
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

async fn insert(conn: &mut PgConnection, jobs: &[NewJob], picked: &[usize]) -> Result<Vec<Uuid>, Error> {
    let column = |value: fn(&NewJob) -> Uuid| picked.iter().map(|at| value(&jobs[*at])).collect::<Vec<_>>();
    let text = |value: fn(&NewJob) -> &str| picked.iter().map(|at| value(&jobs[*at])).collect::<Vec<_>>();
    let tenants = column(|job| job.tenant.uuid());
    let ids = column(|job| job.id.uuid());
    let queues = text(|job| job.queue.as_str());
    let kinds = text(|job| job.kind);
    let mut priorities = Vec::with_capacity(picked.len());
    let mut attempts_max = Vec::with_capacity(picked.len());
    let mut delays_ms = Vec::with_capacity(picked.len());
    let mut args = Vec::with_capacity(picked.len());
    let mut keys = Vec::with_capacity(picked.len());
    let mut held_until = Vec::with_capacity(picked.len());
    let mut waiting_on = Vec::with_capacity(picked.len());
    let mut waiting_on_tenant = Vec::with_capacity(picked.len());
    let mut awaited = Vec::with_capacity(picked.len());
    let mut subjects = Vec::with_capacity(picked.len());
    let mut request_ids = Vec::with_capacity(picked.len());
    for at in picked {
        let job = &jobs[*at];
        priorities.push(job.priority);
        attempts_max.push(job.attempts_max);
        delays_ms.push(i64::try_from(job.delay.as_millis()).unwrap_or(i64::MAX));
        args.push(&job.args);
        keys.push(job.unique.as_ref().map(|key| key.text.as_str()));
        held_until.push(job.unique.as_ref().and_then(|key| key.held_until));
        waiting_on.push(job.waits_for.map(|(_, id)| id.uuid()));
        waiting_on_tenant.push(job.waits_for.map(|(tenant, _)| tenant.uuid()));
        awaited.push(job.awaited);
        subjects.push(job.subject);
        request_ids.push(job.request_id.as_deref());
    }
    let stored = sqlx::query_file_scalar!(
        "src/enqueue.sql",
        &tenants,
        &ids,
        &queues as &[&str],
        &kinds as &[&str],
        &priorities,
        &attempts_max,
        &delays_ms,
        &args as &[&serde_json::Value],
        &keys as &[Option<&str>],
        &held_until as &[Option<chrono::DateTime<chrono::Utc>>],
        &waiting_on as &[Option<Uuid>],
        &waiting_on_tenant as &[Option<Uuid>],
        &awaited,
        &subjects as &[Option<Uuid>],
        &request_ids as &[Option<&str>],
    )
    .fetch_all(conn)
    .await?;
    Ok(stored)
}

/// The live or still protected holder of a job's key. A key that outlived its holder and its time is removed,
/// so that the next look finds it free.
async fn holder_of_key(conn: &mut PgConnection, job: &NewJob) -> Result<Option<JobId>, Error> {
    let Some(key) = &job.unique else {
        // Without a key only the id itself can have been there: the step was done before.
        return Ok(Some(job.id));
    };
    let holder = sqlx::query!(
        r#"select k.job_id,
                  (coalesce(k.held_until > now(), false) or exists (
                      select from jobs j where j.tenant_id = k.tenant_id and j.id = k.job_id
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
