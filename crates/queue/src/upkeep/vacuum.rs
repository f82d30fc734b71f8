//! Removing dead rows, before those who look for jobs have to step over them.
//!
//! A plain `vacuum` lets everybody read and write. It skips a table that somebody else is cleaning or altering, rather
//! than wait. It reads all of the table's indexes, so its bound grows with the table; and while an old
//! transaction keeps what is dead, it is tried ever more seldom.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use db::Pool;

use super::alone::run_alone;
use crate::Error;

/// The tables whose rows come and go, with the dead rows that each may hold whatever its size.
pub const TABLES: &[(&str, i64)] = &[
    ("jobs", 10_000),
    ("job_batches", 1_000),
    ("job_leaders", 1_000),
    ("job_limit_buckets", 1_000),
    ("job_limit_holds", 5_000),
    ("job_unique_keys", 10_000),
    ("worker_processes", 1_000),
];

/// What a table weighs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableState {
    /// Its name; `jobs_finished` stands for all of its partitions, and for those no rows are counted.
    pub table: String,
    /// Rows that there are, by the server's running count.
    pub live_rows: i64,
    /// Rows that are gone and still lie there.
    pub dead_rows: i64,
    /// Bytes of the table without its indexes.
    pub table_bytes: i64,
    /// Bytes of its indexes.
    pub index_bytes: i64,
}

/// The state of [`TABLES`] and of history.
///
/// # Errors
/// [`Error::Database`].
pub async fn table_states(pool: &Pool) -> Result<Vec<TableState>, Error> {
    let tables: Vec<&str> = TABLES.iter().map(|(table, _)| *table).collect();
    let states = sqlx::query_as!(
        TableState,
        r#"select relname::text as "table!", n_live_tup as "live_rows!", n_dead_tup as "dead_rows!",
               pg_table_size(relid) as "table_bytes!", pg_indexes_size(relid) as "index_bytes!"
           from pg_stat_user_tables
           where relid = any (select to_regclass(name) from unnest($1::text[]) as name)
           union all
           select 'jobs_finished', 0, 0, coalesce(sum(pg_table_size(relid)), 0)::bigint,
               coalesce(sum(pg_indexes_size(relid)), 0)::bigint
           from pg_partition_tree('jobs_finished') where isleaf"#,
        &tables as &[&str],
    )
    .fetch_all(pool)
    .await?;
    Ok(states)
}

/// When a table is cleaned.
#[derive(Debug, Clone, PartialEq)]
pub struct VacuumBounds {
    /// Dead rows allowed whatever the table's size; none: as [`TABLES`] says.
    pub dead_rows: Option<i64>,
    /// Dead rows allowed beyond that, for each live row.
    pub dead_per_live: f64,
    /// The least time between the end of one cleaning of a table and the next.
    pub pause_min: Duration,
    /// How often the end of a table that has become empty is given back to the file system. It takes a lock that
    /// excludes all others, though only when nobody waits for it.
    pub truncate_every: Duration,
}

impl Default for VacuumBounds {
    fn default() -> Self {
        Self {
            dead_rows: None,
            dead_per_live: 0.02,
            pause_min: Duration::from_secs(2),
            truncate_every: Duration::from_secs(60),
        }
    }
}

impl VacuumBounds {
    /// Dead rows from which a table is cleaned.
    #[must_use]
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "a bound need not be exact"
    )]
    pub fn dead_rows_max(&self, state: &TableState) -> i64 {
        let of_table =
            TABLES.iter().find(|(table, _)| *table == state.table).map_or(i64::MAX, |(_, rows)| *rows);
        let fixed = self.dead_rows.unwrap_or(of_table);
        fixed.saturating_add((state.live_rows as f64 * self.dead_per_live) as i64)
    }
}

/// What the leader remembers of its cleanings, by table. Forgotten, a table is cleaned a little too soon.
#[derive(Debug, Default)]
pub struct Vacuums(HashMap<String, Last>);

#[derive(Debug, Clone, Copy)]
struct Last {
    ended: Instant,
    took: Duration,
    /// Cleanings in a row that left more dead rows than the bound: something keeps them.
    fruitless: u32,
    truncated: Instant,
}

/// An old transaction ends some time, and its rows should then go soon.
const PAUSE_MAX: Duration = Duration::from_secs(16);
/// A cleaning rests for so many times as long as it took.
const REST: u32 = 4;

impl Vacuums {
    /// Whether a table may be cleaned again.
    fn is_rested(&self, table: &str, bounds: &VacuumBounds, now: Instant) -> bool {
        self.0.get(table).is_none_or(|last| {
            let kept = (bounds.pause_min * 2_u32.pow(last.fruitless.min(8))).min(PAUSE_MAX);
            now.duration_since(last.ended) >= kept.max(last.took * REST).max(bounds.pause_min)
        })
    }
}

/// A table that was cleaned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vacuumed {
    /// Which.
    pub table: String,
    /// Dead rows before.
    pub dead_rows_before: i64,
    /// Dead rows after: those that an old transaction keeps, and those that died meanwhile.
    pub dead_rows_after: i64,
}

/// The longest cleaning; what it did until then stays done.
const VACUUM_TIME_MAX: Duration = Duration::from_secs(600);

/// Cleans tables that hold more dead rows than the bounds allow.
///
/// # Errors
/// [`Error::Database`] and [`Error::Unanswered`]; the next call tries again.
pub async fn vacuum(
    pool: &Pool,
    bounds: &VacuumBounds,
    vacuums: &mut Vacuums,
    states: &[TableState],
) -> Result<Vec<Vacuumed>, Error> {
    let mut vacuumed = Vec::new();
    for state in states {
        let began = Instant::now();
        let bound = bounds.dead_rows_max(state);
        if state.dead_rows <= bound || !vacuums.is_rested(&state.table, bounds, began) {
            continue;
        }
        let last = vacuums.0.get(&state.table).copied();
        let truncate = last.is_none_or(|last| began.duration_since(last.truncated) >= bounds.truncate_every);
        // Names and flags of our own, so nothing needs to be quoted.
        let table = &state.table;
        let statement =
            format!("vacuum (skip_locked, index_cleanup on, truncate {truncate}, parallel 0) {table}");
        let ran = run_alone(pool, &statement, VACUUM_TIME_MAX).await;
        let after = dead_rows(pool, table).await.unwrap_or(state.dead_rows);
        let fruitless = if after > bound { last.map_or(0, |last| last.fruitless) + 1 } else { 0 };
        let ended = Instant::now();
        let truncated = last.filter(|_| !truncate).map_or(ended, |last| last.truncated);
        let last = Last { ended, took: ended.duration_since(began), fruitless, truncated };
        vacuums.0.insert(table.clone(), last);
        ran?;
        let table = table.clone();
        vacuumed.push(Vacuumed { table, dead_rows_before: state.dead_rows, dead_rows_after: after });
    }
    Ok(vacuumed)
}

async fn dead_rows(pool: &Pool, table: &str) -> Result<i64, Error> {
    let rows = sqlx::query_scalar!(
        r#"select coalesce(pg_stat_get_dead_tuples(to_regclass($1)), 0) as "n!""#,
        table,
    )
    .fetch_one(pool)
    .await?;
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(dead_rows: i64, live_rows: i64) -> TableState {
        TableState { table: "jobs".into(), live_rows, dead_rows, table_bytes: 0, index_bytes: 0 }
    }

    #[test]
    fn the_bound_grows_with_the_table() {
        let bounds = VacuumBounds::default();
        assert_eq!(bounds.dead_rows_max(&state(0, 0)), 10_000);
        assert_eq!(bounds.dead_rows_max(&state(0, 10_000_000)), 210_000);
        let unknown = TableState { table: "others".into(), ..state(0, 1_000) };
        assert_eq!(bounds.dead_rows_max(&unknown), i64::MAX);
    }

    #[test]
    fn a_cleaning_rests_in_proportion_and_longer_while_it_is_in_vain() {
        let (bounds, now) = (VacuumBounds::default(), Instant::now());
        let rested = |took: u64, fruitless: u32, since: u64| {
            let took = Duration::from_secs(took);
            let last = Last { ended: now, took, fruitless, truncated: now };
            let vacuums = Vacuums(HashMap::from([("jobs".to_owned(), last)]));
            vacuums.is_rested("jobs", &bounds, now + Duration::from_secs(since))
        };
        assert!(Vacuums::default().is_rested("jobs", &bounds, now));
        assert!(!rested(0, 0, 1) && rested(0, 0, 2));
        assert!(!rested(5, 0, 19) && rested(5, 0, 20));
        assert!(!rested(0, 2, 7) && rested(0, 2, 8));
        assert!(!rested(0, 100, 15) && rested(0, 100, 16));
    }
}
