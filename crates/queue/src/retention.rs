//! History by weeks: partitions made ahead, and dropped when they are older than anybody was promised.
//!
//! Jobs end all the time and readers may take long, so what is done to the tables of history gives way to both:
//!
//! - Dropping a partition locks its parent against everybody for an instant, and while it *waits* for that lock,
//!   everybody queues behind it. So it first looks whether a transaction stands in the way that has been there for
//!   a while, and leaves the partition for another time if so; and else it waits for [`LOCK_WAIT_MS_MAX`] at the most.
//!   (`detach … concurrently` waits for none, but refuses tables that have a default partition, and ours is what
//!   lets jobs end when a week is missing.)
//! - Attaching a week locks the overflow and looks through it for rows of that week. A small overflow is moved and
//!   looked through in milliseconds. A large one is looked through beforehand, under a lock that lets everybody
//!   read and write; and the week in which it grew large stays in it, where it is read and pruned like any other.

use std::time::Duration;

use chrono::{DateTime, Utc};
use db::{Pool, Transaction};
use sqlx::AssertSqlSafe;

use crate::{Error, maintenance::interval};

/// Weeks that have their partition before they begin.
pub(crate) const WEEKS_AHEAD: i32 = 4;
/// How long jobs that end may have to wait behind us, each time that we try.
const LOCK_WAIT_MS_MAX: u32 = 100;
/// Tries for one partition, with pauses between them, before it is left for another time.
const TRIES_MAX: u32 = 5;
const PAUSE: Duration = Duration::from_millis(150);
/// Rows of the overflow that are moved and looked through while it is locked.
const OVERFLOW_ROWS_MAX: i64 = 10_000;
/// Rows removed in one transaction.
const BATCH_ROWS_MAX: i64 = 10_000;

/// What pruning did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Weekly partitions of history created ahead of need.
    pub partitions_created: u32,
    /// Weekly partitions dropped.
    pub partitions_dropped: u32,
    /// Weekly partitions that should be dropped, and will be when nobody reads history.
    pub partitions_held: u32,
    /// Unique keys that outlived their holder and their time.
    pub keys_removed: u64,
}

/// Creates the partitions of the coming weeks, drops those older than `retention`, and removes unique keys whose time
/// is over.
///
/// # Errors
/// [`Error::Database`]; the next call does the rest.
pub async fn prune(pool: &Pool, retention: Duration) -> Result<Pruned, Error> {
    let partitions_created = make_partitions(pool).await?;
    let PartitionsDropped { dropped, held } = drop_partitions(pool, retention).await?;
    let keys_removed = remove_keys(pool).await?;
    Ok(Pruned { partitions_created, partitions_dropped: dropped, partitions_held: held, keys_removed })
}

/// Makes the partitions of this week and of the next [`WEEKS_AHEAD`] that are missing, and moves what the
/// overflow caught for them. Answers how many it made.
///
/// # Errors
/// [`Error::Database`], also when readers of the overflow stay in the way; the next call does the rest.
pub async fn make_partitions(pool: &Pool) -> Result<u32, Error> {
    let missing = missing_weeks(pool).await?;
    if missing.is_empty() {
        return Ok(0);
    }
    let overflowing = sqlx::query_scalar!(
        r#"select count(*) as "n!" from (select from jobs_finished_overflow limit $1) as few"#,
        OVERFLOW_ROWS_MAX + 1,
    )
    .fetch_one(pool)
    .await?;
    let mut made = 0;
    for week in missing {
        let large = overflowing > OVERFLOW_ROWS_MAX;
        if large && week.has_begun {
            continue;
        }
        if large {
            set_apart(pool, &week).await?;
        }
        made += u32::from(make(pool, &week).await?);
        if large {
            altered(pool, "drop constraint if exists jobs_finished_overflow_apart").await?;
        }
    }
    Ok(made)
}

/// A week that has no partition.
struct Week {
    starts_at: DateTime<Utc>,
    ends_at: DateTime<Utc>,
    has_begun: bool,
}

async fn missing_weeks(pool: &Pool) -> Result<Vec<Week>, Error> {
    let missing = sqlx::query_as!(
        Week,
        r#"select w.starts_at as "starts_at!", w.starts_at + interval '7 days' as "ends_at!",
               w.starts_at <= now() as "has_begun!"
           from generate_series(0, $1) as n,
               lateral (select date_trunc('week', now() + n * interval '7 days', 'UTC') as starts_at) as w
           where to_regclass(
               'jobs_finished_' || to_char(w.starts_at at time zone 'UTC', 'IYYY"w"IW')
           ) is null
           order by n"#,
        WEEKS_AHEAD,
    )
    .fetch_all(pool)
    .await?;
    Ok(missing)
}

/// Makes and attaches one partition; `false` when another process was quicker.
async fn make(pool: &Pool, week: &Week) -> Result<bool, Error> {
    let mut tries = 0;
    loop {
        tries += 1;
        let mut tx = partitions_locked(pool).await?;
        let made =
            sqlx::query_scalar!(r#"select create_jobs_finished_partition($1) as "made!""#, week.starts_at)
                .fetch_one(&mut *tx)
                .await;
        match made {
            Ok(made) => {
                tx.commit().await?;
                return Ok(made);
            }
            Err(error) if tries < TRIES_MAX && is_lock_timeout(&error) => {
                tx.rollback().await?;
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Lets the overflow promise that it holds nothing of a week, so that attaching the week need not look.
///
/// The promise is for a week that has not begun and is taken back right after, so it refuses no row. If this process
/// dies in between, the next leader takes it back with the next week that it makes: long before that week.
async fn set_apart(pool: &Pool, week: &Week) -> Result<(), Error> {
    let (from, until) = (week.starts_at.to_rfc3339(), week.ends_at.to_rfc3339());
    let promise = format!(
        "drop constraint if exists jobs_finished_overflow_apart,
         add constraint jobs_finished_overflow_apart
             check (finished_at is not null and (finished_at < '{from}' or finished_at >= '{until}')) not valid"
    );
    altered(pool, &promise).await?;
    // Looks through all rows; readers and writers go on meanwhile.
    altered(pool, "validate constraint jobs_finished_overflow_apart").await
}

async fn altered(pool: &Pool, change: &str) -> Result<(), Error> {
    let statement = format!("alter table jobs_finished_overflow {change}");
    let mut tries = 0;
    loop {
        tries += 1;
        let mut tx = partitions_locked(pool).await?;
        match sqlx::raw_sql(AssertSqlSafe(statement.clone())).execute(&mut *tx).await {
            Ok(_) => return Ok(tx.commit().await?),
            Err(error) if tries < TRIES_MAX && is_lock_timeout(&error) => {
                tx.rollback().await?;
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// What became of partitions older than the retention.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PartitionsDropped {
    /// They are gone.
    pub dropped: u32,
    /// Somebody reads history and has for a while: they go another time.
    pub held: u32,
}

/// Drops the partitions that ended before `retention`, and removes what the overflow holds of that time.
///
/// # Errors
/// [`Error::Database`]; the next call does the rest.
pub async fn drop_partitions(pool: &Pool, retention: Duration) -> Result<PartitionsDropped, Error> {
    let retention = interval(retention);
    let old = sqlx::query_scalar!(
        r#"select c.relname::text as "name!"
           from pg_inherits i
           join pg_class c on c.oid = i.inhrelid
           where i.inhparent = 'jobs_finished'::regclass and c.relname ~ '^jobs_finished_[0-9]{4}w[0-9]{2}$'
             and to_date(right(c.relname, 7), 'IYYY"w"IW') + 7 <= ((now() - $1::interval) at time zone 'UTC')::date
           order by 1"#,
        retention,
    )
    .fetch_all(pool)
    .await?;
    let mut done = PartitionsDropped::default();
    for partition in old {
        match drop_partition(pool, &partition).await? {
            Dropped::Yes => done.dropped += 1,
            Dropped::Held => done.held += 1,
            Dropped::ByAnother => {}
        }
    }
    loop {
        let removed = sqlx::query!(
            "delete from jobs_finished_overflow
             where ctid = any (array(
                 select ctid from jobs_finished_overflow where finished_at < now() - $1::interval limit $2
             ))",
            retention,
            BATCH_ROWS_MAX,
        )
        .execute(pool)
        .await?;
        if removed.rows_affected() < BATCH_ROWS_MAX.unsigned_abs() {
            return Ok(done);
        }
    }
}

enum Dropped {
    Yes,
    Held,
    ByAnother,
}

async fn drop_partition(pool: &Pool, partition: &str) -> Result<Dropped, Error> {
    for _ in 0..TRIES_MAX {
        let mut tx = partitions_locked(pool).await?;
        let seen = sqlx::query!(
            r#"select to_regclass($1) is not null as "there!",
                   exists (
                       select from pg_locks l
                       join pg_stat_activity a on a.pid = l.pid
                       where l.relation in ('jobs_finished'::regclass, 'jobs_finished_overflow'::regclass, to_regclass($1))
                         and l.database = (select oid from pg_database where datname = current_database())
                         and l.granted and a.xact_start < now() - interval '500 ms'
                         and l.pid <> pg_backend_pid()
                   ) as "held!""#,
            partition,
        )
        .fetch_one(&mut *tx)
        .await?;
        if !seen.there {
            return Ok(Dropped::ByAnother);
        }
        if seen.held {
            return Ok(Dropped::Held);
        }
        match sqlx::raw_sql(AssertSqlSafe(format!("drop table {partition}"))).execute(&mut *tx).await {
            Ok(_) => {
                tx.commit().await?;
                return Ok(Dropped::Yes);
            }
            Err(error) if is_lock_timeout(&error) => {
                tx.rollback().await?;
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Dropped::Held)
}

/// A transaction in which this process alone changes partitions, and waits for no table for long.
async fn partitions_locked(pool: &Pool) -> Result<Transaction, Error> {
    let mut tx = db::begin(pool).await?;
    sqlx::query!("select set_config('lock_timeout', '5s', true)").fetch_one(&mut *tx).await?;
    sqlx::query!("select pg_advisory_xact_lock(hashtext('jobs_finished partitions'))")
        .fetch_one(&mut *tx)
        .await?;
    sqlx::query!("select set_config('lock_timeout', $1, true)", format!("{LOCK_WAIT_MS_MAX}ms"))
        .fetch_one(&mut *tx)
        .await?;
    Ok(tx)
}

fn is_lock_timeout(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|error| error.code()).is_some_and(|code| code == "55P03")
}

/// Removes unique keys that outlived their holder and their time, and answers how many.
///
/// # Errors
/// [`Error::Database`]; the next call does the rest.
pub async fn remove_keys(pool: &Pool) -> Result<u64, Error> {
    let mut removed = 0;
    loop {
        let batch = sqlx::query!(
            "delete from job_unique_keys
             where ctid = any (array(
                 select k.ctid from job_unique_keys k
                 where k.held_until <= now()
                   and not exists (select from jobs j where j.tenant_id = k.tenant_id and j.id = k.job_id)
                 limit $1
                 for update skip locked
             ))",
            BATCH_ROWS_MAX,
        )
        .execute(pool)
        .await?
        .rows_affected();
        removed += batch;
        if batch < BATCH_ROWS_MAX.unsigned_abs() {
            return Ok(removed);
        }
    }
}
