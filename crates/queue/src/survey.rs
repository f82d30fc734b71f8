//! What operators watch of the queues, at a price that does not grow with them.
//!
//! Counts stop at [`DEPTH_MAX`]; ages are read from the heads of [`HEADS_MAX`] lanes a look, the next look going on where
//! this one stopped; no statement takes longer than [`STATEMENT_MS_MAX`]. While somebody keeps an old transaction
//! open, indexes keep what is gone and each look walks past it: whoever surveys should rest in proportion.

use std::{collections::HashMap, time::Duration};

use chrono::{DateTime, Utc};
use db::{Connection, Pool};
use uuid::Uuid;

use crate::{
    DEPTH_MAX, Depth, Error, Queue, depths::depths_in, lane::lanes_of, maintenance::interval, plans,
    retention::WEEKS_AHEAD,
};

/// Heads of lanes (by priority) that one look reads of a queue.
const HEADS_MAX: i32 = 500;
/// The longest statement; one that takes longer fails the survey.
const STATEMENT_MS_MAX: u32 = 2_000;
/// Buckets of limits that are looked at.
const BUCKETS_MAX: i64 = 1_000;

/// What was seen.
#[derive(Debug, Clone, PartialEq)]
pub struct Survey {
    /// Each queue.
    pub queues: Vec<QueueSurvey>,
    /// Failed jobs in history, up to [`DEPTH_MAX`].
    pub dead_letters: i64,
    /// Weeks from this one on, without a gap, whose partition of history exists.
    pub weeks_ahead: i32,
    /// Finished jobs that lie in the overflow of history, up to [`DEPTH_MAX`].
    pub overflow_rows: i64,
    /// Limits that have buckets, with how much longer the other side's word blocks one of them.
    pub blocked: Vec<(String, Duration)>,
}

/// What was seen of a queue.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QueueSurvey {
    /// How much stands there.
    pub depth: Depth,
    /// How long the job has been ready that has been longest.
    pub oldest_ready: Option<Duration>,
    /// Whether all of it is paused.
    pub is_paused: bool,
    /// Kinds that are paused.
    pub paused_kinds: i64,
    /// Processes that work it and have shown a sign of life within a lease.
    pub processes: i64,
}

/// What one survey leaves to the next.
#[derive(Debug, Default)]
pub struct Surveyor {
    rounds: HashMap<Queue, Round>,
}

/// A round through the lanes of a queue, in as many looks as it takes.
#[derive(Debug, Default)]
struct Round {
    /// The last lane and priority looked at; none at the beginning of a round.
    after: Option<(Uuid, i16)>,
    oldest: Option<DateTime<Utc>>,
    /// What the round before came to.
    before: Option<DateTime<Utc>>,
}

impl Round {
    /// What a look found, and where to go on; none: the round is over. Answers the oldest there is, as far as known.
    fn looked(
        &mut self,
        oldest: Option<DateTime<Utc>>,
        goes_on: Option<(Uuid, i16)>,
    ) -> Option<DateTime<Utc>> {
        self.oldest = earlier(self.oldest, oldest);
        self.after = goes_on;
        if goes_on.is_some() {
            return earlier(self.oldest, self.before);
        }
        self.before = self.oldest.take();
        self.before
    }
}

fn earlier(one: Option<DateTime<Utc>>, other: Option<DateTime<Utc>>) -> Option<DateTime<Utc>> {
    one.into_iter().chain(other).min()
}

impl Surveyor {
    /// Looks at everything once. `lease`: how long a process counts as alive after its last sign of life.
    ///
    /// # Errors
    /// [`Error::Database`], also when a statement took too long.
    pub async fn survey(&mut self, pool: &Pool, lease: Duration) -> Result<Survey, Error> {
        let mut tx = db::begin(pool).await?;
        plans::pin(&mut tx).await?;
        sqlx::query!("select set_config('statement_timeout', $1, true)", STATEMENT_MS_MAX.to_string())
            .fetch_one(&mut *tx)
            .await?;
        let mut queues = Vec::new();
        for depth in depths_in(&mut tx).await? {
            let round = self.rounds.entry(depth.queue).or_default();
            let oldest_ready = oldest_ready(&mut tx, depth.queue, round).await?;
            queues.push(QueueSurvey { depth, oldest_ready, is_paused: false, paused_kinds: 0, processes: 0 });
        }
        staff(&mut tx, lease, &mut queues).await?;
        let history = sqlx::query!(
            r#"select
                   (select count(*) from (select from jobs_finished where ended = 'failed' limit $1) as d)
                       as "dead_letters!",
                   (select count(*) from (select from jobs_finished_overflow limit $1) as o) as "overflow_rows!",
                   (select coalesce(min(n) filter (where to_regclass('jobs_finished_' || to_char(
                        date_trunc('week', now() + n * interval '7 days', 'UTC') at time zone 'UTC', 'IYYY"w"IW'
                    )) is null), $2 + 1)
                    from generate_series(0, $2) as n) as "weeks_ahead!""#,
            DEPTH_MAX,
            WEEKS_AHEAD,
        )
        .fetch_one(&mut *tx)
        .await?;
        let blocked = blocked(&mut tx).await?;
        tx.rollback().await?;
        Ok(Survey {
            queues,
            dead_letters: history.dead_letters,
            weeks_ahead: history.weeks_ahead,
            overflow_rows: history.overflow_rows,
            blocked,
        })
    }
}

/// The age of the oldest ready job, from the heads of lanes: within a lane and a priority the first is the oldest.
async fn oldest_ready(
    conn: &mut Connection,
    queue: Queue,
    round: &mut Round,
) -> Result<Option<Duration>, Error> {
    let (from, to) = lanes_of(queue);
    let (lane, priority) = round.after.unwrap_or((from, i16::MIN));
    let heads = sqlx::query!(
        r#"with recursive heads (lane, priority, run_at, n) as (
               (
                   select lane, priority, run_at, 1 from jobs
                   where state = 'ready' and (lane, priority) > ($1, $2) and lane < $3
                   order by lane, priority, run_at, id
                   limit 1
               )
               union all
               select next.lane, next.priority, next.run_at, h.n + 1
               from heads h
               cross join lateral (
                   select j.lane, j.priority, j.run_at from jobs j
                   where j.state = 'ready' and (j.lane, j.priority) > (h.lane, h.priority) and j.lane < $3
                   order by j.lane, j.priority, j.run_at, j.id
                   limit 1
               ) as next
               where h.n < $4
           )
           select min(run_at) as oldest, now() as "now!",
               (array_agg(lane order by n desc))[1] as last_lane,
               (array_agg(priority order by n desc))[1] as last_priority,
               count(*) >= $4 as "goes_on!"
           from heads"#,
        lane,
        priority,
        to,
        HEADS_MAX,
    )
    .fetch_one(conn)
    .await?;
    let goes_on = heads.last_lane.zip(heads.last_priority).filter(|_| heads.goes_on);
    let oldest = round.looked(heads.oldest, goes_on);
    Ok(oldest.map(|oldest| (heads.now - oldest).to_std().unwrap_or_default()))
}

/// Who works the queues, and what is paused.
async fn staff(conn: &mut Connection, lease: Duration, queues: &mut [QueueSurvey]) -> Result<(), Error> {
    let processes = sqlx::query!(
        r#"select queue as "queue!", count(*) as "n!" from worker_processes, unnest(queues) as queue
           where heartbeat_at > now() - $1::interval group by queue"#,
        interval(lease),
    )
    .fetch_all(&mut *conn)
    .await?;
    let pauses = sqlx::query!(
        r#"select queue, bool_or(kind = '') as "all!", count(*) filter (where kind <> '') as "kinds!"
           from job_pauses group by queue"#
    )
    .fetch_all(conn)
    .await?;
    for seen in queues {
        let name = seen.depth.queue.as_str();
        seen.processes = processes.iter().find(|row| row.queue == name).map_or(0, |row| row.n);
        let pause = pauses.iter().find(|row| row.queue == name);
        (seen.is_paused, seen.paused_kinds) = pause.map_or((false, 0), |row| (row.all, row.kinds));
    }
    Ok(())
}

async fn blocked(conn: &mut Connection) -> Result<Vec<(String, Duration)>, Error> {
    let rows = sqlx::query!(
        r#"select name, max(case when blocked_until > now() then extract(epoch from blocked_until - now()) else 0 end)
               ::float8 as "seconds!"
           from (select name, blocked_until from job_limit_buckets limit $1) as few
           group by name"#,
        BUCKETS_MAX,
    )
    .fetch_all(conn)
    .await?;
    let blocked =
        rows.into_iter().map(|row| (row.name, Duration::try_from_secs_f64(row.seconds).unwrap_or_default()));
    Ok(blocked.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp(seconds, 0)
    }

    #[test]
    fn while_a_round_lasts_what_the_last_one_found_still_counts() {
        let (mut round, here) = (Round::default(), Some((Uuid::nil(), 0)));
        assert_eq!(round.looked(at(50), here), at(50));
        assert_eq!(round.looked(at(40), None), at(40));
        assert_eq!(round.looked(at(60), here), at(40), "it may still be there");
        assert_eq!(round.looked(at(70), None), at(60), "it was not met again");
        assert_eq!(round.looked(None, None), None);
    }
}
