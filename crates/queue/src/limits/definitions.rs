//! Which limits there are, which kinds draw on them, and how full they are.

use chrono::{DateTime, Utc};
use db::{Connection, Pool};

use super::{
    Columns, Limit, Shape,
    editing::{note_declared, note_undeclared},
};
use crate::{Error, Policy};

/// Registers the defaults that code and settings give: `limits` are there, those named in `without` are not. Every
/// process does so when it starts. What an operator [set](set_limit) stays as it is.
///
/// # Errors
/// [`Error::Database`].
pub async fn define(conn: &mut Connection, limits: &[Limit], without: &[&str]) -> Result<(), Error> {
    for limit in limits {
        write(conn, limit, false).await?;
        note_declared(conn, limit).await?;
    }
    sqlx::query!(
        "with gone as (
             delete from job_kind_limits kl using job_limits l
             where l.name = kl.name and l.name = any($1) and not l.edited
             returning kl.kind
         )
         delete from job_limits l
         where l.name = any($1) and not l.edited and (select count(*) from gone) >= 0",
        without as &[&str],
    )
    .execute(&mut *conn)
    .await?;
    note_undeclared(conn, without).await
}

/// Changes a limit, or makes one, for all workers at once; defaults no longer overwrite it.
///
/// # Errors
/// [`Error::Database`].
pub async fn set_limit(conn: &mut Connection, limit: &Limit) -> Result<(), Error> {
    write(conn, limit, true).await
}

async fn write(conn: &mut Connection, limit: &Limit, edited: bool) -> Result<(), Error> {
    let Columns { shape, max, window_ms, period } = limit.shape.columns();
    sqlx::query!(
        "insert into job_limits as l (name, shape, max, window_ms, period, edited) values ($1, $2, $3, $4, $5, $6)
         on conflict (name) do update
         set shape = excluded.shape, max = excluded.max, window_ms = excluded.window_ms,
             period = excluded.period, edited = excluded.edited
         where (excluded.edited or not l.edited)
           and (l.shape, l.max, l.window_ms, l.period, l.edited)
               is distinct from
               (excluded.shape, excluded.max, excluded.window_ms, excluded.period, excluded.edited)",
        limit.name.as_ref(),
        shape,
        max,
        window_ms,
        period,
        edited,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Registers what kinds draw on and how many jobs of one key they run at once, as their policies say, in the place of
/// what was known of these kinds. Limits that are not [defined](define) bound nothing.
///
/// # Errors
/// [`Error::Database`].
pub async fn register_kinds(pool: &Pool, kinds: &[(&str, &Policy)]) -> Result<(), Error> {
    let names: Vec<&str> = kinds.iter().map(|(kind, _)| *kind).collect();
    let (bounded, bounds): (Vec<&str>, Vec<i32>) =
        kinds.iter().filter_map(|(kind, policy)| Some((*kind, policy.key_concurrency_max?))).unzip();
    let uses: Vec<_> =
        kinds.iter().flat_map(|(kind, policy)| policy.limits.iter().map(move |one| (*kind, one))).collect();
    let (users, used): (Vec<&str>, Vec<&str>) = uses.iter().map(|(kind, one)| (*kind, one.name)).unzip();
    let (keyed, costs): (Vec<bool>, Vec<i64>) = uses.iter().map(|(_, one)| (one.keyed, one.cost)).unzip();

    let mut tx = db::begin(pool).await?;
    // Processes that start together would meet on these rows in another order each.
    sqlx::query!("select pg_advisory_xact_lock(hashtext('job kinds'))").fetch_one(&mut *tx).await?;
    sqlx::query!(
        "delete from job_kinds where kind = any($1) and kind <> all($2)",
        &names as &[&str],
        &bounded as &[&str],
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query!(
        "insert into job_kinds as k (kind, key_concurrency_max)
         select * from unnest($1::text[], $2::integer[])
         on conflict (kind) do update set key_concurrency_max = excluded.key_concurrency_max
         where k.key_concurrency_max is distinct from excluded.key_concurrency_max",
        &bounded as &[&str],
        &bounds,
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query!(
        "delete from job_kind_limits
         where kind = any($1)
           and (kind, name) not in (select * from unnest($2::text[], $3::text[]))",
        &names as &[&str],
        &users as &[&str],
        &used as &[&str],
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query!(
        "insert into job_kind_limits as k (kind, name, keyed, cost)
         select i.* from unnest($1::text[], $2::text[], $3::boolean[], $4::bigint[]) as i (kind, name, keyed, cost)
         where exists (select from job_limits l where l.name = i.name)
         on conflict (kind, name) do update set keyed = excluded.keyed, cost = excluded.cost
         where (k.keyed, k.cost) is distinct from (excluded.keyed, excluded.cost)",
        &users as &[&str],
        &used as &[&str],
        &keyed,
        &costs,
    )
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(())
}

/// Every limit.
///
/// # Errors
/// [`Error::Database`].
pub async fn limits(pool: &Pool) -> Result<Vec<Limit>, Error> {
    let rows = sqlx::query!("select name, shape, max, window_ms, period from job_limits order by name")
        .fetch_all(pool)
        .await?;
    let limits = rows.into_iter().map(|row| {
        let shape = Shape::of(&row.shape, row.max, row.window_ms, row.period.as_deref());
        Limit::new(row.name, shape)
    });
    Ok(limits.collect())
}

/// How full a limit is, for one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Level {
    /// The limit.
    pub limit: Limit,
    /// The key, empty for limits that are not keyed.
    pub key: String,
    /// Whether an operator set it.
    pub edited: bool,
    /// Permits drawn in this window, or held at once, or minor units spent and reserved in this period.
    pub used: i64,
    /// Of what a budget has used: what attempts have reserved that still run.
    pub reserved: i64,
    /// When the window or period ends.
    pub ends_at: Option<DateTime<Utc>>,
    /// The other side said stop until then.
    pub blocked_until: Option<DateTime<Utc>>,
}

/// Levels shown at the most.
const LEVELS_MAX: i64 = 1_000;

/// How full every limit is; the first thousand buckets of them.
///
/// # Errors
/// [`Error::Database`].
pub async fn levels(db: impl sqlx::PgExecutor<'_>) -> Result<Vec<Level>, Error> {
    let rows = sqlx::query!(
        r#"select l.name, l.shape, l.max, l.window_ms, l.period, l.edited, coalesce(b.key, '') as "key!",
               case when l.shape = 'concurrency' then (
                        select count(*) from job_limit_holds h
                        where h.name = l.name and h.key = b.key
                          and exists (select from worker_processes p where p.id = h.process_id)
                    )
                    when b.window_start >= w.began then b.used
                    else 0 end as "used!",
               coalesce((
                   select sum(r.cost)::bigint from job_limit_reservations r
                   where r.name = l.name and r.key = b.key and r.window_start >= w.began
               ), 0) as "reserved!",
               w.ends, case when b.blocked_until > now() then b.blocked_until end as blocked_until
           from job_limits l
           cross join lateral job_limit_window(l, now()) as w
           left join job_limit_buckets b on b.name = l.name
           order by l.name, b.key
           limit $1"#,
        LEVELS_MAX,
    )
    .fetch_all(db)
    .await?;
    let levels = rows.into_iter().map(|row| {
        let shape = Shape::of(&row.shape, row.max, row.window_ms, row.period.as_deref());
        Level {
            limit: Limit::new(row.name, shape),
            key: row.key,
            edited: row.edited,
            used: row.used,
            reserved: row.reserved,
            ends_at: row.ends,
            blocked_until: row.blocked_until,
        }
    });
    Ok(levels.collect())
}
