//! Rebuilding indexes of `jobs` that stayed large when the jobs were gone. Pages of an index are used again but never
//! given back, and those between the first job and the next have to be walked.
//!
//! `reindex … concurrently` keeps nobody from reading and writing, but it waits for every transaction that is under
//! way, and nobody can clean the table meanwhile. So it is not begun while an old one is open, and it is given up
//! after a time. What it then leaves behind is removed by a later call.

use std::time::Duration;

use db::Pool;

use super::{alone::run_alone, oldest_transaction};
use crate::Error;

/// When an index is rebuilt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexBounds {
    /// Smaller indexes are left alone.
    pub bytes_min: i64,
    /// How many times larger than its rows warrant an index may be.
    pub times_max: i64,
}

impl Default for IndexBounds {
    fn default() -> Self {
        Self { bytes_min: 16 * 1024 * 1024, times_max: 8 }
    }
}

/// Bytes that a row of `jobs` takes in an index at the most: four columns of 16 bytes, and a third of the page free.
const ROW_BYTES: i64 = 100;
/// No rebuilding while a transaction is older.
const TRANSACTION_AGE_MAX: Duration = Duration::from_secs(5);
/// The longest rebuilding.
const REINDEX_TIME_MAX: Duration = Duration::from_secs(300);

/// What was done about indexes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reindexed {
    /// The index that was rebuilt, and how many bytes it had.
    pub rebuilt: Option<(String, i64)>,
    /// Invalid indexes that an interrupted rebuilding left, and that are gone.
    pub leftovers: Vec<String>,
}

/// Removes what interrupted rebuilding left, and rebuilds the one index that needs it most, if one does.
///
/// # Errors
/// [`Error::Database`] and [`Error::Unanswered`]; the next call tries again.
pub async fn reindex(pool: &Pool, bounds: &IndexBounds) -> Result<Reindexed, Error> {
    let mut done = Reindexed::default();
    let indexes = sqlx::query!(
        r#"select quote_ident(c.relname) as "name!", pg_relation_size(c.oid) as "bytes!", i.indisvalid as "is_valid!",
               c.relname ~ '_cc(new|old)[0-9]*$' as "is_leftover!",
               -- Each count may lag behind, or be lost with a crash. The largest errs on the side of leaving it.
               greatest(c.reltuples, t.reltuples, pg_stat_get_live_tuples(t.oid), 0)::bigint as "rows!"
           from pg_index i
           join pg_class c on c.oid = i.indexrelid
           join pg_class t on t.oid = i.indrelid
           where t.oid = 'jobs'::regclass
             and not exists (select from pg_stat_progress_create_index p where p.relid = t.oid)
           order by 2 desc"#,
    )
    .fetch_all(pool)
    .await?;
    for index in indexes.iter().filter(|index| index.is_leftover && !index.is_valid) {
        let statement = format!("drop index concurrently if exists {}", index.name);
        run_alone(pool, &statement, REINDEX_TIME_MAX).await?;
        done.leftovers.push(index.name.clone());
    }
    let swollen = indexes.iter().find(|index| {
        index.is_valid
            && index.bytes >= bounds.bytes_min
            && index.bytes > index.rows.saturating_mul(ROW_BYTES).saturating_mul(bounds.times_max)
    });
    let Some(index) = swollen else { return Ok(done) };
    if oldest_transaction(pool).await?.is_some_and(|oldest| oldest.age > TRANSACTION_AGE_MAX) {
        return Ok(done);
    }
    run_alone(pool, &format!("reindex index concurrently {}", index.name), REINDEX_TIME_MAX).await?;
    done.rebuilt = Some((index.name.clone(), index.bytes));
    Ok(done)
}
