//! Whose share of the workers is how large, and what they make of it.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use db::Connection;
use kernel::ids::TenantId;
use uuid::Uuid;

use crate::{Error, Queue, lane::lanes_of, plans};

/// Tenants with work that are looked for in each queue, and shown.
pub const SHARES_MAX: i32 = 1_000;

/// The shares of all who have work or had some.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Shares {
    /// By tenant: first those with the largest actual share.
    pub tenants: Vec<TenantStanding>,
    /// There are more tenants with work than were looked at.
    pub is_capped: bool,
    /// Jobs that run, of all tenants.
    pub running: i64,
}

/// What a tenant is to have of the workers, and has.
#[derive(Debug, Clone, PartialEq)]
pub struct TenantStanding {
    /// Whose share it is.
    pub tenant: TenantId,
    /// Its weight.
    pub weight: i16,
    /// Jobs of its share running at once at the most.
    pub concurrency_max: Option<i32>,
    /// Whether it has jobs that are ready or running.
    pub has_work: bool,
    /// What its weight is among those who have work, from 0 to 1; 0 when it has none.
    pub target: f64,
    /// The part of all running jobs that is its, from 0 to 1.
    pub actual: f64,
    /// Jobs of its share that run.
    pub running: i64,
    /// Jobs of its own that were done in the window.
    pub completed: u64,
    /// Jobs of its own that failed in the window.
    pub failed: u64,
    /// What its jobs spent of budgets in their present periods, and what they have reserved.
    pub spent: Vec<Spent>,
}

/// What a tenant's jobs spent of a budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spent {
    /// The budget.
    pub name: String,
    /// What attempts that are over spent in the budget's present period, in minor units.
    pub spent_minor: i64,
    /// Reserved by attempts that still run.
    pub reserved_minor: i64,
}

/// The shares of everybody who has work, whose share was ever set, or whose jobs ended from one instant until before another,
/// as far as [history](crate::history) names them.
///
/// # Errors
/// [`Error::Database`].
pub async fn shares(conn: &mut Connection, from: DateTime<Utc>, to: DateTime<Utc>) -> Result<Shares, Error> {
    plans::pin(conn).await?;
    let mut standings: BTreeMap<Uuid, TenantStanding> = BTreeMap::new();
    let is_capped = with_ready(conn, &mut standings).await?;
    let running = with_running(conn, &mut standings).await?;
    with_ends(conn, from, to, &mut standings).await?;
    with_weights(conn, &mut standings).await?;
    with_spending(conn, &mut standings).await?;
    let weights: f64 = standings.values().filter(|one| one.has_work).map(|one| f64::from(one.weight)).sum();
    for one in standings.values_mut() {
        if one.has_work && weights > 0.0 {
            one.target = f64::from(one.weight) / weights;
        }
        if running > 0 {
            one.actual = one.running as f64 / running as f64;
        }
    }
    let mut tenants: Vec<_> = standings.into_values().collect();
    tenants.sort_by(|one, other| {
        let order = (other.running, other.has_work).cmp(&(one.running, one.has_work));
        order.then(other.target.total_cmp(&one.target)).then(one.tenant.cmp(&other.tenant))
    });
    Ok(Shares { tenants, is_capped, running })
}

fn standing(standings: &mut BTreeMap<Uuid, TenantStanding>, tenant: Uuid) -> &mut TenantStanding {
    standings.entry(tenant).or_insert_with(|| TenantStanding {
        tenant: TenantId::from_uuid(tenant),
        weight: 1,
        concurrency_max: None,
        has_work: false,
        target: 0.0,
        actual: 0.0,
        running: 0,
        completed: 0,
        failed: 0,
        spent: Vec::new(),
    })
}

/// Who has ready jobs: a share's lanes stand side by side, so each is found behind the last lane of the one before.
async fn with_ready(
    conn: &mut Connection,
    standings: &mut BTreeMap<Uuid, TenantStanding>,
) -> Result<bool, Error> {
    let mut is_capped = false;
    for queue in Queue::ALL {
        let (from, to) = lanes_of(queue);
        let shares = sqlx::query_scalar!(
            r#"with recursive heads as (
                   (
                       select lane, share_id, 1 as n from jobs
                       where state = 'ready' and lane >= $1 and lane < $2
                       order by lane, priority, run_at, id
                       limit 1
                   )
                   union all
                   select next.lane, next.share_id, h.n + 1
                   from heads h
                   cross join lateral (
                       select j.lane, j.share_id from jobs j
                       where j.state = 'ready' and j.lane > job_share_end(h.lane) and j.lane < $2
                       order by j.lane, j.priority, j.run_at, j.id
                       limit 1
                   ) as next
                   where h.n < $3
               )
               select share_id as "share_id!" from heads"#,
            from,
            to,
            SHARES_MAX,
        )
        .fetch_all(&mut *conn)
        .await?;
        is_capped |= shares.len() >= SHARES_MAX as usize;
        for share in shares {
            standing(standings, share).has_work = true;
        }
    }
    Ok(is_capped)
}

async fn with_running(
    conn: &mut Connection,
    standings: &mut BTreeMap<Uuid, TenantStanding>,
) -> Result<i64, Error> {
    let rows = sqlx::query!(
        r#"select share_id, count(*) as "jobs!" from jobs where state = 'running' group by share_id"#
    )
    .fetch_all(conn)
    .await?;
    let mut all = 0;
    for row in rows {
        let one = standing(standings, row.share_id);
        (one.has_work, one.running) = (true, row.jobs);
        all += row.jobs;
    }
    Ok(all)
}

async fn with_ends(
    conn: &mut Connection,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    standings: &mut BTreeMap<Uuid, TenantStanding>,
) -> Result<(), Error> {
    // The hours that lie within the window whole; of the rest the minutes, as long as they are kept.
    let rows = sqlx::query!(
        r#"select h.tenant_id, sum(h.completed)::bigint as "completed!", sum(h.failed)::bigint as "failed!"
           from queue_history h
           cross join queue_history_progress p
           where h.at >= $1 and h.at < $2 and h.tenant_id <> 'ffffffff-ffff-ffff-ffff-ffffffffffff'
             and case when h.step_s = 3600 then h.at + interval '1 hour' <= $2
                 else h.at < date_trunc('hour', $1 + interval '59 minutes 59.999999 seconds', 'UTC')
                   or h.at >= least(date_trunc('hour', $2::timestamptz, 'UTC'), p.hours_until) end
           group by h.tenant_id
           order by 2 desc
           limit $3"#,
        from,
        to,
        i64::from(SHARES_MAX),
    )
    .fetch_all(conn)
    .await?;
    for row in rows {
        let one = standing(standings, row.tenant_id);
        (one.completed, one.failed) = (row.completed.unsigned_abs(), row.failed.unsigned_abs());
    }
    Ok(())
}

async fn with_weights(
    conn: &mut Connection,
    standings: &mut BTreeMap<Uuid, TenantStanding>,
) -> Result<(), Error> {
    let known: Vec<Uuid> = standings.keys().copied().collect();
    let rows = sqlx::query!(
        r#"select tenant_id as "tenant_id!", weight as "weight!", concurrency_max from job_tenants where tenant_id = any($1)
           union
           (select tenant_id, weight, concurrency_max from job_tenants order by tenant_id limit $2)"#,
        &known,
        i64::from(SHARES_MAX),
    )
    .fetch_all(conn)
    .await?;
    for row in rows {
        let one = standing(standings, row.tenant_id);
        (one.weight, one.concurrency_max) = (row.weight, row.concurrency_max);
    }
    Ok(())
}

async fn with_spending(
    conn: &mut Connection,
    standings: &mut BTreeMap<Uuid, TenantStanding>,
) -> Result<(), Error> {
    let rows = sqlx::query!(
        r#"select u.tenant_id as "tenant_id!", l.name, u.spent as "spent!", u.reserved as "reserved!"
           from job_limits l
           cross join lateral job_limit_window(l, now()) as w
           cross join lateral (
               select o.tenant_id, sum(o.spent)::bigint as spent, sum(o.reserved)::bigint as reserved
               from (
                   select s.tenant_id, s.spent, 0 as reserved from job_limit_spending s
                   where s.name = l.name and s.window_start >= w.began
                   union all
                   select r.tenant_id, 0, r.cost from job_limit_reservations r where r.name = l.name
               ) as o
               group by o.tenant_id
           ) as u
           where l.shape = 'budget'
           order by u.tenant_id, l.name
           limit $1"#,
        i64::from(SHARES_MAX),
    )
    .fetch_all(conn)
    .await?;
    for row in rows {
        let spent = Spent { name: row.name, spent_minor: row.spent, reserved_minor: row.reserved };
        standing(standings, row.tenant_id).spent.push(spent);
    }
    Ok(())
}
