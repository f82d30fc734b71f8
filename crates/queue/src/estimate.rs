//! How long jobs of a kind take, from those that ended lately.

use db::Pool;
use std::time::Duration;

use crate::{Error, Job};

/// Assumed when nothing of the kind has ended within a day: S0's sample of ten seconds.
const UNKNOWN: Duration = Duration::from_secs(10);

/// The median time from storing to ending of jobs of a kind that completed within a day: of a hundred late ones of the
/// sample that history keeps an index of, or where that has too few, of those that ended first within the hour.
///
/// # Errors
/// [`Error::Database`].
pub async fn usual_duration<J: Job>(pool: &Pool) -> Result<Duration, Error> {
    let sampled = sqlx::query!(
        r#"select count(*) as "jobs!",
               percentile_cont(0.5) within group (order by extract(epoch from finished_at - created_at)) as median
           from (
               select finished_at, created_at from jobs_finished
               where kind = $1 and finished_at > now() - interval '1 day' and ended = 'completed'
                 and uuid_hash(id) & 7 = 0
               order by finished_at desc
               limit 100
           ) as recent"#,
        J::KIND,
    )
    .fetch_one(pool)
    .await?;
    if sampled.jobs >= SAMPLE_MIN {
        return Ok(usual(sampled.median));
    }
    let seconds = sqlx::query_scalar!(
        "select percentile_cont(0.5) within group (order by extract(epoch from finished_at - created_at))
         from (
             select kind, ended, finished_at, created_at from jobs_finished
             where finished_at > now() - interval '1 hour'
             limit 5000
         ) as recent
         where kind = $1 and ended = 'completed'",
        J::KIND,
    )
    .fetch_one(pool)
    .await?;
    Ok(usual(seconds))
}

/// Fewer say little.
const SAMPLE_MIN: i64 = 10;

fn usual(seconds: Option<f64>) -> Duration {
    seconds.filter(|seconds| *seconds >= 0.0).map_or(UNKNOWN, Duration::from_secs_f64)
}
