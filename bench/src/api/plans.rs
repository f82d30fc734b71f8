//! The worst searches, and how they are carried out.
//!
//! Every combination of filters, orders and pages is asked for over HTTP, one at a time; the slowest are asked again, and
//! of those the slowest by their median are shown. A search has a part in memory, which is told in numbers, and two
//! statements. Their plans are those of the very statements that the search prepared, so they cannot be of others.

use std::time::Duration;

use anyhow::Context;
use db::{Connection, Pool};
use pool::search::{Found, From, SearchIndex, SearchSort, SortKey, previews};
use sqlx::{AssertSqlSafe, Row as _, query_scalar, raw_sql};
use tokio::time::Instant;

use super::client::Client;
use super::process::Service;
use super::requests::Caller;
use super::search_space::Search;
use crate::progress::Progress;

/// Of the slowest, so many are asked again, each so often.
const AGAIN: usize = 60;
const TIMES: usize = 9;

/// A search that takes long.
#[derive(Debug)]
pub(super) struct Worst {
    /// The query string.
    pub(super) query: String,
    /// Over HTTP, nobody else asking: the median.
    pub(super) http_ms: f64,
    /// In memory: the median.
    pub(super) memory_ms: f64,
    /// Creators that were tested: those of at least the score asked for.
    pub(super) tested: i64,
    /// By how many columns.
    pub(super) columns: usize,
    /// Who matches.
    pub(super) matches: usize,
    /// In which order the page was found.
    pub(super) order: &'static str,
    /// Creators on the page.
    pub(super) page: usize,
    /// The plan of the statement that reads the page.
    pub(super) plan: Vec<String>,
}

/// The worst searches, and what all have in common.
#[derive(Debug)]
pub(super) struct Plans {
    pub(super) asked: usize,
    /// Over all that were asked.
    pub(super) median_ms: f64,
    pub(super) worst: Vec<Worst>,
    /// The plan of the statement by which every search catches up.
    pub(super) catching_up: Vec<String>,
}

/// Finds so many of the worst.
pub(super) async fn worst(
    service: &Service,
    pool: &Pool,
    caller: &Caller,
    count: usize,
    progress: &Progress,
) -> anyhow::Result<Plans> {
    let mut client = Client::new(service.address);
    let mut timed = Vec::new();
    let all = Search::every();
    for (at, search) in all.iter().enumerate() {
        if at % 500 == 0 {
            progress.say(format!("every combination of filters: {at} of {}", all.len()));
        }
        timed.push((ask(&mut client, caller, search).await?, search));
    }
    timed.sort_by(|left, right| right.0.total_cmp(&left.0));
    let median_ms = timed.get(timed.len() / 2).map_or(f64::NAN, |(took, _)| *took);
    let mut again = Vec::new();
    for (_, search) in timed.iter().take(AGAIN.max(count)) {
        let mut took = Vec::new();
        for _ in 0..TIMES {
            took.push(ask(&mut client, caller, search).await?);
        }
        again.push((median(took), *search));
    }
    again.sort_by(|left, right| right.0.total_cmp(&left.0));

    // One connection, so that a statement is found again where it was prepared.
    let one = pool.another(1);
    let index = SearchIndex::default();
    index.in_step(one.acquire()).await?;
    index.in_step(one.acquire()).await?;
    let mut conn = one.acquire().await?;
    let catching_up = explain_last(&mut conn, "pg_current_snapshot()::text").await?;
    let mut worst = Vec::new();
    for (http_ms, search) in again.into_iter().take(count) {
        worst.push(look(&index, &mut conn, search, http_ms).await?);
    }
    Ok(Plans { asked: all.len(), median_ms, worst, catching_up })
}

async fn look(
    index: &SearchIndex,
    conn: &mut Connection,
    search: &Search,
    http_ms: f64,
) -> anyhow::Result<Worst> {
    let find = async || {
        let began = Instant::now();
        let from = From::Offset(search.offset as usize);
        let found = index.find(search.filter.clone(), search.sort, from, search.limit as usize).await?;
        anyhow::Ok((milliseconds(began.elapsed()), found))
    };
    let (_, found): (f64, Found) = find().await?;
    let mut times = Vec::new();
    for _ in 0..TIMES {
        times.push(find().await?.0);
    }
    let memory_ms = median(times);
    let score_min = i32::from(search.filter.score_min.unwrap_or(0));
    let tested = query_scalar!(
        r#"select count(*) as "n!" from pool_influencers
           where visibility = 'PUBLIC' and deleted_at is null and score >= $1"#,
        score_min,
    )
    .fetch_one(&mut *conn)
    .await?;
    let shown = previews(conn, &found.ids).await?;
    let ids: Vec<String> = found.ids.iter().map(|id| id.uuid().to_string()).collect();
    let plan = match ids.is_empty() {
        true => vec!["nothing is read: nobody is on this page".to_owned()],
        false => explain_last(conn, &format!("'{{{}}}'", ids.join(","))).await?,
    };
    Ok(Worst {
        query: search.query(),
        http_ms,
        memory_ms,
        tested,
        columns: search.columns(),
        matches: found.total,
        order: order(search.sort),
        page: shown.len(),
        plan,
    })
}

/// The plan of the statement that this connection prepared last before this, run with this parameter.
async fn explain_last(conn: &mut Connection, parameter: &str) -> anyhow::Result<Vec<String>> {
    let name = query_scalar!(
        r#"select name as "name!" from pg_prepared_statements
           where statement ~ 'pool_influencers' and statement !~ 'pg_prepared_statements|count\(\*\)'
           order by prepare_time desc limit 1"#
    )
    .fetch_optional(&mut *conn)
    .await?;
    let name = name.context("the connection has not prepared the search's statement")?;
    let explain = format!("explain (analyze, buffers) execute \"{name}\"({parameter})");
    let rows = raw_sql(AssertSqlSafe(explain)).fetch_all(&mut *conn).await?;
    let lines: Result<Vec<String>, _> = rows.iter().map(|row| row.try_get::<String, _>(0)).collect();
    Ok(lines?.into_iter().map(shortened).collect())
}

/// Lists of ids are as long as their page.
fn shortened(line: String) -> String {
    match (line.find('{'), line.rfind('}')) {
        (Some(from), Some(to)) if to > from + 40 => format!("{}{{…{}", &line[..from], &line[to..]),
        _ => line,
    }
}

fn order(sort: SearchSort) -> &'static str {
    match sort.key {
        SortKey::Score => "by rank: the columns stand in this order",
        SortKey::Followers => "by followers: few matches are sorted, many are met in the order that is kept",
        SortKey::Engagement => {
            "by engagement: few matches are sorted, many are met in the order that is kept"
        }
        SortKey::Created => "by time: all matches are sorted",
        SortKey::Name => "by likeness of the name",
    }
}

async fn ask(client: &mut Client, caller: &Caller, search: &Search) -> anyhow::Result<f64> {
    let request = caller.search(search);
    let began = Instant::now();
    let (status, body) = client.ask(&request.bytes).await?;
    let took = milliseconds(began.elapsed());
    anyhow::ensure!(status == 200, "{}: {status} {}", search.query(), String::from_utf8_lossy(body));
    Ok(took)
}

fn milliseconds(took: Duration) -> f64 {
    took.as_secs_f64() * 1_000.0
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_of_ids_are_left_out_of_plans() {
        let line = format!("Index Cond: (id = ANY ('{{{}}}'::uuid[]))", "0193-".repeat(20));
        assert_eq!(shortened(line), "Index Cond: (id = ANY ('{…}'::uuid[]))");
        assert_eq!(shortened("Buffers: shared hit=60".to_owned()), "Buffers: shared hit=60");
    }
}
