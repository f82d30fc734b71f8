//! What attempts reserved of budgets, settled to what they spent; and the reconcilers for what nobody ends.

use std::time::Duration;

use db::Pool;
use kernel::ids::{JobId, TenantId};
use uuid::Uuid;

use super::Permits;
use crate::{Error, LeaseKey};

/// What an attempt that is over spent of what its claim reserved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spending {
    /// The claim.
    pub lease: LeaseKey,
    /// By budget: what it spent, in minor units. The same budget may stand here more than once.
    pub spent: Vec<(String, i64)>,
    /// Reservations in budgets that are not named: back to the budget, or spent as estimated.
    pub goes_back: bool,
}

/// Settles reservations. An attempt that has none, or whose were settled before, changes nothing.
///
/// # Errors
/// [`Error::Database`]; settling the same again is safe.
pub async fn settle_spending(pool: &Pool, spendings: &[Spending]) -> Result<(), Error> {
    let tenants: Vec<Uuid> = spendings.iter().map(|one| one.lease.tenant.uuid()).collect();
    let jobs: Vec<Uuid> = spendings.iter().map(|one| one.lease.job.uuid()).collect();
    let tokens: Vec<i32> = spendings.iter().map(|one| one.lease.token).collect();
    let goes_back: Vec<bool> = spendings.iter().map(|one| one.goes_back).collect();
    let spent = || spendings.iter().flat_map(|one| one.spent.iter().map(move |spent| (one.lease, spent)));
    let spent_jobs: Vec<Uuid> = spent().map(|(lease, _)| lease.job.uuid()).collect();
    let spent_tokens: Vec<i32> = spent().map(|(lease, _)| lease.token).collect();
    let names: Vec<&str> = spent().map(|(_, (name, _))| name.as_str()).collect();
    let amounts: Vec<i64> = spent().map(|(_, (_, amount))| *amount).collect();
    sqlx::query!(
        "select job_settle_reservations($1, $2, $3, $4, $5, $6, $7, $8)",
        &tenants,
        &jobs,
        &tokens,
        &goes_back,
        &spent_jobs,
        &spent_tokens,
        &names as &[&str],
        &amounts,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Removes slots of processes that are gone, and those of `process` that it does not know: a draw whose answer was
/// lost, or a slot that could not be given back. Answers how many.
///
/// # Errors
/// [`Error::Database`].
pub async fn clean_holds(pool: &Pool, process: Uuid, permits: &Permits) -> Result<u64, Error> {
    // A slot is known here before it is asked for: one that is older than this and not known after it is nobody's.
    let taken_before = sqlx::query_scalar!(r#"select clock_timestamp() as "now!""#).fetch_one(pool).await?;
    let held = permits.held();
    let cleaned = sqlx::query!(
        "delete from job_limit_holds h
         where not exists (select from worker_processes p where p.id = h.process_id)
            or (h.process_id = $1 and h.id <> all($2) and h.held_at < $3)",
        process,
        &held,
        taken_before,
    )
    .execute(pool)
    .await?;
    Ok(cleaned.rows_affected())
}

/// Forgets reservations of processes that are gone, which stay spent, and gives back those of `process` older than
/// `age_min` of attempts that it does not know: claims whose answer was lost. Answers how many there were. `known` are
/// the attempts that it runs or has still to settle.
///
/// # Errors
/// [`Error::Database`].
pub async fn clean_reservations(
    pool: &Pool,
    process: Uuid,
    known: &[LeaseKey],
    age_min: Duration,
) -> Result<u64, Error> {
    let gone = sqlx::query_scalar!(
        r#"with gone as (
               delete from job_limit_reservations r
               where not exists (select from worker_processes p where p.id = r.process_id)
               returning r.name, r.tenant_id, r.window_start, r.cost
           ),
           spent as (
               select array_agg(g.name) as names, array_agg(g.tenant_id) as tenants,
                   array_agg(g.window_start) as windows, array_agg(g.cost) as costs
               from gone g
               join job_limits l on l.name = g.name and l.shape = 'budget'
           ),
           noted as materialized (
               select job_note_spending(names, tenants, windows, costs) from spent where names is not null
           )
           select (select count(*) from gone) + 0 * (select count(*) from noted) as "gone!""#
    )
    .fetch_one(pool)
    .await?
    .unsigned_abs();
    let jobs: Vec<Uuid> = known.iter().map(|lease| lease.job.uuid()).collect();
    let tokens: Vec<i32> = known.iter().map(|lease| lease.token).collect();
    let unknown = sqlx::query!(
        "select distinct tenant_id, job_id, lease_token from job_limit_reservations
         where process_id = $1 and reserved_at < now() - $2 * interval '1 millisecond'
           and (job_id, lease_token) not in (select * from unnest($3::uuid[], $4::integer[]))
         limit 1000",
        process,
        age_min.as_millis() as f64,
        &jobs,
        &tokens,
    )
    .fetch_all(pool)
    .await?;
    let spendings: Vec<Spending> = unknown
        .into_iter()
        .map(|row| Spending {
            lease: LeaseKey {
                tenant: TenantId::from_uuid(row.tenant_id),
                job: JobId::from_uuid(row.job_id),
                token: row.lease_token,
            },
            spent: Vec::new(),
            goes_back: true,
        })
        .collect();
    if !spendings.is_empty() {
        settle_spending(pool, &spendings).await?;
    }
    Ok(gone + spendings.len() as u64)
}
