//! Worker processes as operators see and steer them.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};
use db::{Connection, Pool};
use uuid::Uuid;

use crate::{Error, ProcessInfo, Queue, register};

/// What can be asked of a worker process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asks {
    /// To claim nothing more and go on with what it runs.
    Quiet,
    /// To claim again.
    Resume,
    /// To drain and end, as when it is terminated.
    Stop,
}

/// What was asked of a worker process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// [`Asks::Quiet`] or [`Asks::Stop`].
    pub what: Asks,
    /// By whom.
    pub by: String,
    /// When.
    pub at: DateTime<Utc>,
}

/// One start of a worker process.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerRecord {
    /// Its incarnation: every start has its own.
    pub id: Uuid,
    /// The machine's name.
    pub host: String,
    /// The process id on that machine.
    pub pid: i32,
    /// The queues it works, with how many jobs of each at once; `None` is an older version, which does not say.
    pub queues: BTreeMap<String, Option<i32>>,
    /// Its version.
    pub version: String,
    /// When it started.
    pub started_at: DateTime<Utc>,
    /// How long ago its last sign of life was.
    pub heartbeat_age: Duration,
    /// It is ending: it claims nothing more.
    pub draining: bool,
    /// Jobs that it runs, by queue.
    pub in_flight: BTreeMap<String, i64>,
    /// What was asked of it.
    pub asked: Option<Asked>,
}

impl Asks {
    /// The word on the wire and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Quiet => "quiet",
            Self::Resume => "resume",
            Self::Stop => "stop",
        }
    }

    /// What a stored word asks.
    pub(crate) fn of(word: &str) -> Option<Self> {
        match word {
            "quiet" => Some(Self::Quiet),
            "stop" => Some(Self::Stop),
            _ => None,
        }
    }
}

/// Processes shown at the most.
const WORKERS_MAX: i64 = 1_000;

/// The worker processes that are registered, the oldest first; at most 1,000.
///
/// # Errors
/// [`Error::Database`].
pub async fn workers(conn: &mut Connection) -> Result<Vec<WorkerRecord>, Error> {
    let rows = sqlx::query!(
        r#"select id, host, pid, queues, slots, version, started_at, draining, asked, asked_by, asked_at,
               greatest(extract(epoch from clock_timestamp() - heartbeat_at), 0)::float8 as "age_s!"
           from worker_processes
           order by started_at, id
           limit $1"#,
        WORKERS_MAX,
    )
    .fetch_all(&mut *conn)
    .await?;
    let running = sqlx::query!(
        r#"select leased_by as "process!", queue, count(*) as "jobs!" from jobs
           where state = 'running' and leased_by is not null
           group by leased_by, queue"#
    )
    .fetch_all(conn)
    .await?;
    let mut workers: Vec<WorkerRecord> = rows
        .into_iter()
        .map(|row| {
            let slots = row.slots.unwrap_or_default();
            let queues = row.queues.into_iter().enumerate().map(|(n, queue)| (queue, slots.get(n).copied()));
            WorkerRecord {
                id: row.id,
                host: row.host,
                pid: row.pid,
                queues: queues.collect(),
                version: row.version,
                started_at: row.started_at,
                heartbeat_age: Duration::try_from_secs_f64(row.age_s).unwrap_or_default(),
                draining: row.draining,
                in_flight: BTreeMap::new(),
                asked: asked(row.asked, row.asked_by, row.asked_at),
            }
        })
        .collect();
    for row in running {
        if let Some(worker) = workers.iter_mut().find(|worker| worker.id == row.process) {
            worker.in_flight.insert(row.queue, row.jobs);
        }
    }
    Ok(workers)
}

/// Asks something of a worker process, which sees it within about a second. Answers what it was and what it is now; `None`
/// when no such process is registered. One that was told to stop stays so.
///
/// # Errors
/// [`Error::Database`].
pub async fn ask_worker(
    conn: &mut Connection,
    process: Uuid,
    asks: Asks,
    by: &str,
) -> Result<Option<(Option<Asked>, Option<Asked>)>, Error> {
    let row = sqlx::query!(
        r#"with was as (
               select id, asked, asked_by, asked_at from worker_processes where id = $1 for update
           )
           update worker_processes p
           set asked = $2, asked_by = case when $2::text is not null then $3 end,
               asked_at = case when $2::text is not null then now() end
           from was
           where p.id = was.id and was.asked is distinct from 'stop'
           returning was.asked as "was_asked?", was.asked_by as "was_by?", was.asked_at as "was_at?", p.asked, p.asked_by, p.asked_at"#,
        process,
        (asks != Asks::Resume).then(|| asks.as_str()),
        by,
    )
    .fetch_optional(&mut *conn)
    .await?;
    if let Some(row) = row {
        let before = asked(row.was_asked, row.was_by, row.was_at);
        return Ok(Some((before, asked(row.asked, row.asked_by, row.asked_at))));
    }
    let stopping =
        sqlx::query!("select asked, asked_by, asked_at from worker_processes where id = $1", process)
            .fetch_optional(conn)
            .await?;
    Ok(stopping.map(|row| {
        let stays = asked(row.asked, row.asked_by, row.asked_at);
        (stays.clone(), stays)
    }))
}

/// What a worker process is to respect.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WorkerOrders {
    /// What was asked of it.
    pub asked: Option<Asked>,
    /// Jobs at once, by queue; see [`set_queue_concurrency`](crate::set_queue_concurrency).
    pub bounds: Vec<(Queue, usize)>,
}

/// What operators ask of a worker process now; `None` when it is not registered.
///
/// # Errors
/// [`Error::Database`].
pub async fn orders(pool: &Pool, process: Uuid) -> Result<Option<WorkerOrders>, Error> {
    let row = sqlx::query!(
        r#"select asked, asked_by, asked_at,
               array(select queue from job_queue_bounds order by queue) as "queues!",
               array(select concurrency_max from job_queue_bounds order by queue) as "bounds!"
           from worker_processes where id = $1"#,
        process,
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.map(|row| {
        let bounds = row.queues.iter().zip(row.bounds);
        WorkerOrders {
            asked: asked(row.asked, row.asked_by, row.asked_at),
            // Queues of another version are none of this one's.
            bounds: bounds
                .filter_map(|(queue, bound)| Some((queue.parse().ok()?, usize::try_from(bound).ok()?)))
                .collect(),
        }
    }))
}

/// Registers a process that was declared dead as a new incarnation, of which is asked what was asked of the one before.
///
/// # Errors
/// [`Error::Database`].
pub async fn register_again(pool: &Pool, info: &ProcessInfo, asked: Option<&Asked>) -> Result<Uuid, Error> {
    let id = register(pool, info).await?;
    if let Some(asked) = asked {
        sqlx::query!(
            "update worker_processes set asked = $2, asked_by = $3, asked_at = $4 where id = $1",
            id,
            asked.what.as_str(),
            asked.by,
            asked.at,
        )
        .execute(pool)
        .await?;
    }
    Ok(id)
}

/// What the columns say.
fn asked(what: Option<String>, by: Option<String>, at: Option<DateTime<Utc>>) -> Option<Asked> {
    Some(Asked { what: Asks::of(what.as_deref()?)?, by: by.unwrap_or_default(), at: at? })
}
