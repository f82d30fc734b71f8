//! How estimates came true: what later ones are calibrated by, and what operators may judge them by.

use chrono::{DateTime, Utc};
use db::Pool;

use super::Stage;
use crate::{Error, plans};

/// What one look came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Judged {
    /// Jobs that ended within what was said.
    pub within: i64,
    /// Before it.
    pub early: i64,
    /// After it.
    pub late: i64,
}

/// How estimates of a kind came true, since they are counted.
#[derive(Debug, Clone, PartialEq)]
pub struct Calibration {
    /// The kind.
    pub kind: String,
    /// How its jobs stood.
    pub stage: Stage,
    /// How many of which.
    pub judged: Judged,
    /// Of the last ones, up to [`RECENT_MAX`]: the part that ended within what was said.
    pub recent_within: f64,
    /// Of these: the median of actual / predicted before calibration; 1 is a perfect model.
    pub recent_ratio: f64,
    /// When the last one ended.
    pub last_at: Option<DateTime<Utc>>,
}

/// Estimates looked at in one go.
const JUDGED_MAX: i64 = 1_000;
/// Ends kept of each kind and stage.
pub const RECENT_MAX: i64 = 100;
/// An estimate whose job has not ended by then is forgotten.
const FORGOTTEN_AFTER_DAYS: i32 = 2;

/// Checks what was said of jobs that have ended since. May run any time, in any number.
///
/// # Errors
/// [`Error::Database`]; what is left is checked the next time.
pub async fn judge_estimates(pool: &Pool) -> Result<Judged, Error> {
    let mut tx = db::begin(pool).await?;
    plans::pin(&mut tx).await?;
    let judged = sqlx::query!(
        r#"with due as (
               select ctid from job_estimates e
               where not exists (select from jobs j where j.tenant_id = e.tenant_id and j.id = e.job_id)
               order by said_at
               limit $1
               for update skip locked
           ),
           over as (
               delete from job_estimates where ctid = any(array(select ctid from due)) returning *
           ),
           judged as (
               select o.kind, o.stage, o.said_at, o.likely_s, f.finished_at, s.actual_s,
                   case when s.actual_s < o.earliest_s then -1 when s.actual_s > o.latest_s then 1 else 0 end as missed
               from over o
               join jobs_finished f on f.tenant_id = o.tenant_id and f.id = o.job_id and f.ended <> 'cancelled'
               cross join lateral (
                   select greatest(extract(epoch from f.finished_at - o.said_at), 0)::float8 as actual_s
               ) as s
           ),
           kept as (
               insert into job_estimate_ends (kind, stage, ended_at, said_at, likely_s, actual_s, missed)
               select kind, stage, finished_at, said_at, likely_s, actual_s, missed from judged
           ),
           counted as (
               insert into job_estimate_counts as c (kind, stage, within, early, late)
               select kind, stage, count(*) filter (where missed = 0), count(*) filter (where missed < 0),
                   count(*) filter (where missed > 0)
               from judged
               group by kind, stage
               order by kind, stage
               on conflict (kind, stage) do update
               set within = c.within + excluded.within, early = c.early + excluded.early, late = c.late + excluded.late
           )
           select count(*) filter (where missed = 0) as "within!", count(*) filter (where missed < 0) as "early!",
               count(*) filter (where missed > 0) as "late!"
           from judged"#,
        JUDGED_MAX,
    )
    .fetch_one(&mut *tx)
    .await?;
    sqlx::query!(
        "delete from job_estimate_ends e
         using job_estimate_counts c
         cross join lateral (
             select o.ended_at, o.id from job_estimate_ends o
             where o.kind = c.kind and o.stage = c.stage
             order by o.ended_at desc, o.id desc
             offset $1 limit 1
         ) as oldest
         where e.kind = c.kind and e.stage = c.stage and (e.ended_at, e.id) <= (oldest.ended_at, oldest.id)",
        RECENT_MAX,
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query!(
        "delete from job_estimates where said_at < now() - $1 * interval '1 day'",
        f64::from(FORGOTTEN_AFTER_DAYS),
    )
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(Judged { within: judged.within, early: judged.early, late: judged.late })
}

/// How estimates came true, by kind and stage.
///
/// # Errors
/// [`Error::Database`].
pub async fn calibrations(pool: &Pool) -> Result<Vec<Calibration>, Error> {
    let rows = sqlx::query!(
        r#"select c.kind, c.stage, c.within, c.early, c.late, recent.within as "recent_within!",
               recent.ratio as "recent_ratio!", recent.last_at
           from job_estimate_counts c
           cross join lateral (
               select coalesce(avg((e.missed = 0)::integer), 0)::float8 as within, max(e.ended_at) as last_at,
                   coalesce(percentile_cont(0.5) within group (order by e.actual_s / e.likely_s), 0)::float8 as ratio
               from job_estimate_ends e
               where e.kind = c.kind and e.stage = c.stage
           ) as recent
           order by c.kind, c.stage"#
    )
    .fetch_all(pool)
    .await?;
    let calibrations = rows.into_iter().filter_map(|row| {
        Some(Calibration {
            kind: row.kind,
            stage: Stage::of_number(row.stage)?,
            judged: Judged { within: row.within, early: row.early, late: row.late },
            recent_within: row.recent_within,
            recent_ratio: row.recent_ratio,
            last_at: row.last_at,
        })
    });
    Ok(calibrations.collect())
}
