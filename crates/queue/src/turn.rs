//! A turn of a pool of workers: what its jobs came to goes in, the next jobs come out, in one statement and one
//! commit.
//!
//! Every change is fenced by (job, token). What is refused was lost to another worker, and is answered so that the
//! caller can say so; it is no error. A turn that fails may be repeated: what was written is refused the second
//! time. Jobs that a turn claimed although its answer was lost are found by [`forgotten`](crate::forgotten).

use std::time::Duration;

use chrono::{DateTime, Utc};
use db::Connection;
use kernel::{
    ids::{JobId, TenantId},
    trace::TraceParent,
};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    Acknowledgement, Error, Queue, RowId, Settlement, Shares,
    end::{Ending, Endings},
    lane::{KnownLanes, lanes_of},
    read::trace_of,
};

/// A job that this process holds the lease on.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// What every write about the job must name.
    pub lease: LeaseKey,
    /// Where its row stands.
    pub row: Option<RowId>,
    /// The process that holds it.
    pub process: Uuid,
    /// The kind, perhaps one that this binary does not know.
    pub kind: String,
    /// This attempt's number; 1 is the first.
    pub attempt: i16,
    /// The attempts the job was given when it was stored.
    pub attempts_max: i16,
    /// The arguments, as JSON text.
    pub args: String,
    /// The id of the request that asked for it.
    pub request_id: Option<String>,
    /// The W3C trace context of the request that asked for it.
    pub traceparent: Option<String>,
    /// Somebody cancelled it while an earlier attempt ran: end it instead of running it.
    pub cancel_requested: bool,
    /// Whose share of the workers it uses.
    pub share: TenantId,
    /// That share's weight.
    pub weight: i16,
    /// Where it stood among the ready jobs of its queue.
    pub lane: Uuid,
    /// Its priority.
    pub priority: i16,
    /// How long until its deadline; zero when that has passed.
    pub deadline: Option<Duration>,
    /// How long it could have run already when it was claimed, by the database's clock.
    pub waited: Duration,
}

impl Claimed {
    /// This attempt's span: in the trace of whoever asked for the job, else in one that follows from the job, so that
    /// all attempts at it are in one. It follows from the claim, so that everybody who writes about the attempt names
    /// it alike.
    #[must_use]
    pub fn trace(&self) -> TraceParent {
        let LeaseKey { job, token, .. } = self.lease;
        trace_of(job, self.traceparent.as_deref()).child_of(job.uuid(), token.unsigned_abs())
    }

    /// The span of whoever stored the job, if that was in a trace.
    #[must_use]
    pub fn asked_by(&self) -> Option<TraceParent> {
        self.traceparent.as_deref().and_then(TraceParent::parse)
    }
}

/// One claim of one job. The token is the fencing token: it grows with every claim, so that a worker that
/// lost its lease can change nothing, however late it wakes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeaseKey {
    /// The job's tenant.
    pub tenant: TenantId,
    /// The job.
    pub job: JobId,
    /// The fencing token.
    pub token: i32,
}

/// What a turn does.
#[derive(Debug)]
pub struct Turn<'a> {
    /// The process that claims.
    pub process: Uuid,
    /// The queue it works.
    pub queue: Queue,
    /// How many jobs to claim at the most; none if 0.
    pub count_max: usize,
    /// Whose turn it is.
    pub shares: &'a Shares,
    /// Where the last turn stopped looking for lanes: [`TurnAnswer::lane_after`].
    pub lane_after: Uuid,
    /// Jobs that were to run before are not looked for: [`TurnAnswer::since`] of a moment ago. `None`: all are.
    pub since: Option<DateTime<Utc>>,
    /// Where jobs were before, if that is to be used: see [`KnownLanes`].
    pub lanes: &'a KnownLanes,
    /// What jobs came to.
    pub acknowledgements: &'a [Acknowledgement],
}

/// What a turn did.
#[derive(Debug, Default)]
pub struct TurnAnswer {
    /// Jobs that are ours now.
    pub claimed: Vec<Claimed>,
    /// Jobs whose lease had been lost; nothing was changed for them.
    pub refused: Vec<JobId>,
    /// Queues in which jobs became ready, to be woken.
    pub released: Vec<Queue>,
    /// How many jobs ended.
    pub ended: usize,
    /// How long until the next scheduled job of the queue is due.
    pub due: Option<Duration>,
    /// There may be more jobs although fewer than wanted were claimed: look again soon.
    pub again: bool,
    /// Jobs are held back by limits, and by nothing that the end of another job changes.
    pub only_limits: bool,
    /// Where to go on looking for lanes.
    pub lane_after: Uuid,
    /// All ready jobs were looked at, and of those that were to run before this instant none is left.
    /// Others may become ready that were to run before (stored by a transaction that lasts, say), so it holds for a
    /// moment.
    pub since: Option<DateTime<Utc>>,
}

/// Acknowledges, then claims.
///
/// # Errors
/// [`Error::Database`].
pub async fn turn(conn: &mut Connection, turn: &Turn<'_>) -> Result<TurnAnswer, Error> {
    let mut endings = Vec::new();
    let mut rests = Rests::default();
    for acknowledgement in turn.acknowledgements {
        match &acknowledgement.settlement {
            Settlement::End(end, entry) => {
                endings.push(Ending {
                    row: acknowledgement.row,
                    entry: entry.as_ref(),
                    ..Ending::by(acknowledgement.lease, end)
                });
            }
            rest => rests.push(acknowledgement.lease, rest),
        }
    }
    let endings = Endings::of(&endings);
    if turn.count_max == 0 && rests.ids.is_empty() {
        return acknowledge(conn, turn, &endings).await;
    }
    let (from, to) = lanes_of(turn.queue);
    let (shares, passes) = turn.shares.ahead();
    let (known_lanes, known_priorities) = turn.lanes.columns();
    let rows = sqlx::query_file!(
        "src/turn.sql",
        turn.process,
        turn.queue.as_str(),
        from,
        to,
        turn.lane_after.max(from),
        turn.since,
        i32::try_from(turn.count_max).unwrap_or(i32::MAX),
        &shares,
        &passes,
        &endings.tenants,
        &endings.ids,
        &endings.rows as &[Option<RowId>],
        &endings.tokens as &[Option<i32>],
        &endings.ends as &[&str],
        &endings.results as &[Option<String>],
        &endings.failures as &[Option<Value>],
        &endings.entries as &[Option<&Value>],
        &endings.subjects as &[Option<Uuid>],
        &rests.tenants,
        &rests.ids,
        &rests.tokens,
        &rests.parks,
        &rests.delays_ms,
        &rests.used,
        &rests.entries as &[Option<&Value>],
        &known_lanes,
        &known_priorities,
    )
    .fetch_all(conn)
    .await?;

    let mut answer = TurnAnswer { lane_after: turn.lane_after, ..TurnAnswer::default() };
    // The first row answers for the turn, and says what time it is.
    let now = rows.first().and_then(|row| row.run_at);
    answer.claimed.reserve(rows.len());
    for row in rows {
        let (Some(tenant), Some(id)) = (row.tenant_id, row.id) else {
            answer.refused = row.refused.unwrap_or_default().into_iter().map(JobId::from_uuid).collect();
            answer.ended = usize::try_from(row.ended.unwrap_or_default()).unwrap_or_default();
            answer.released = queues(&row.released.unwrap_or_default());
            answer.due = row.due_ms.map(|ms| Duration::from_millis(u64::try_from(ms).unwrap_or_default()));
            answer.again = row.again.unwrap_or_default();
            answer.only_limits = row.only_limits.unwrap_or_default();
            answer.since = row.since;
            answer.lane_after = row.lane.unwrap_or(turn.lane_after);
            continue;
        };
        answer.claimed.push(Claimed {
            lease: LeaseKey {
                tenant: TenantId::from_uuid(tenant),
                job: JobId::from_uuid(id),
                token: row.lease_token.unwrap_or_default(),
            },
            row: row.tid,
            process: turn.process,
            kind: row.kind.unwrap_or_default(),
            attempt: row.attempt.unwrap_or_default(),
            attempts_max: row.attempts_max.unwrap_or_default(),
            args: row.args.unwrap_or_default(),
            request_id: row.request_id,
            traceparent: row.traceparent,
            cancel_requested: row.cancel_requested.unwrap_or_default(),
            share: TenantId::from_uuid(row.share_id.unwrap_or(tenant)),
            weight: row.weight.unwrap_or(1),
            lane: row.lane.unwrap_or_default(),
            priority: row.priority.unwrap_or_default(),
            deadline: row.deadline_ms.map(|ms| Duration::from_millis(u64::try_from(ms).unwrap_or_default())),
            waited: now.zip(row.run_at).map_or(Duration::ZERO, |(now, run_at)| waited(now, run_at)),
        });
    }
    Ok(answer)
}

fn waited(now: DateTime<Utc>, run_at: DateTime<Utc>) -> Duration {
    (now - run_at).to_std().unwrap_or_default()
}

/// A turn that only ends jobs.
async fn acknowledge(
    conn: &mut Connection,
    turn: &Turn<'_>,
    endings: &Endings<'_>,
) -> Result<TurnAnswer, Error> {
    let row = sqlx::query!(
        r#"select refused as "refused!", ended as "ended!", released as "released!"
           from job_acknowledge(
               $1::uuid[], $2::uuid[], $3::text[]::tid[], $4::integer[], $5::text[], $6::text[], $7::jsonb[],
               $8::jsonb[], $9::uuid[]
           )"#,
        &endings.tenants,
        &endings.ids,
        &endings.rows as &[Option<RowId>],
        &endings.tokens as &[Option<i32>],
        &endings.ends as &[&str],
        &endings.results as &[Option<String>],
        &endings.failures as &[Option<Value>],
        &endings.entries as &[Option<&Value>],
        &endings.subjects as &[Option<Uuid>],
    )
    .fetch_one(conn)
    .await?;
    Ok(TurnAnswer {
        refused: row.refused.into_iter().map(JobId::from_uuid).collect(),
        released: queues(&row.released),
        ended: usize::try_from(row.ended).unwrap_or_default(),
        lane_after: turn.lane_after,
        ..TurnAnswer::default()
    })
}

/// The longest delay that is stored, ten years: what somebody asked for beyond it is more than a clock can count.
pub(crate) const DELAY_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);

/// The queues of these names that this binary knows.
pub(crate) fn queues(names: &[String]) -> Vec<Queue> {
    let mut queues: Vec<Queue> = names.iter().filter_map(|name| name.parse().ok()).collect();
    queues.sort_unstable();
    queues.dedup();
    queues
}

/// Jobs that did not end, turned on their side, as the statement takes them.
#[derive(Default)]
struct Rests<'a> {
    tenants: Vec<Uuid>,
    ids: Vec<Uuid>,
    tokens: Vec<i32>,
    parks: Vec<bool>,
    delays_ms: Vec<i64>,
    used: Vec<i16>,
    entries: Vec<Option<&'a Value>>,
}

impl<'a> Rests<'a> {
    fn push(&mut self, lease: LeaseKey, settlement: &'a Settlement) {
        let (parks, delay, attempts_used, entry) = match settlement {
            Settlement::Retry(delay, entry) => (false, *delay, 1, Some(entry)),
            Settlement::Again(delay) => (false, *delay, 0, None),
            Settlement::Park | Settlement::End(..) => (true, Duration::ZERO, 0, None),
        };
        self.tenants.push(lease.tenant.uuid());
        self.ids.push(lease.job.uuid());
        self.tokens.push(lease.token);
        self.parks.push(parks);
        self.delays_ms.push(i64::try_from(delay.min(DELAY_MAX).as_millis()).unwrap_or(i64::MAX));
        self.used.push(attempts_used);
        self.entries.push(entry);
    }
}
