//! Worker processes as operators see and steer them.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};
use db::Connection;
use uuid::Uuid;

use crate::Error;

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
            let asked = row.asked.as_deref().and_then(Asks::of).zip(row.asked_at);
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
                asked: asked.map(|(what, at)| Asked { what, by: row.asked_by.unwrap_or_default(), at }),
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
    let asked = |what: Option<String>, by: Option<String>, at: Option<DateTime<Utc>>| {
        let what = what.as_deref().and_then(Asks::of)?;
        Some(Asked { what, by: by.unwrap_or_default(), at: at? })
    };
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
