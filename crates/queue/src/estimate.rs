//! How long jobs of a kind take, from those that ended lately.

use std::time::Duration;

use sqlx::PgPool;

use crate::{Error, Job};

/// Assumed when nothing of the kind has ended within a day: S0's sample of ten seconds.
const UNKNOWN: Duration = Duration::from_secs(10);

/// The median time from storing to ending of the last hundred jobs of a kind that completed within a day.
///
/// # Errors
/// [`Error::Database`].
pub async fn usual_duration<J: Job>(pool: &PgPool) -> Result<Duration, Error> {
    let seconds = sqlx::query_scalar!(
        "select percentile_cont(0.5) within group (order by extract(epoch from finished_at - created_at))
         from (
             select finished_at, created_at from jobs_finished
             where kind = $1 and finished_at > now() - interval '1 day' and ended = 'completed'
             order by finished_at desc
             limit 100
         ) as recent",
        J::KIND,
    )
    .fetch_one(pool)
    .await?;
    Ok(seconds.filter(|seconds| *seconds >= 0.0).map_or(UNKNOWN, Duration::from_secs_f64))
}
