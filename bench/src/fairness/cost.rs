//! What it costs one tenant that the claim knows tenants at all: drains by `job_turn`, and by a claim that is made here
//! and knows one lane, by turns.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::bail;
use kernel::ids::TenantId;
use queue::{NewJob, Waker};
use sqlx::AssertSqlSafe;
use tokio::time::{Instant, sleep};

use super::pools::{Pools, fill};
use crate::kinds::{EXECUTED, Noop};
use crate::progress::Progress;
use crate::server::{Database, TestServer};

const JOBS: u64 = 200_000;
const SLOTS: usize = 500;
const DRAIN_MAX: Duration = Duration::from_secs(300);

/// Jobs drained in a second, medians.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cost {
    /// By the claim as it is.
    pub fair_per_s: f64,
    /// By one that knows no tenants.
    pub plain_per_s: f64,
}

/// Measures both so many times, by turns, so that both meet the same server.
///
/// # Errors
/// When a drain does not end.
pub(super) async fn measure(server: &TestServer, progress: &Progress, runs: usize) -> anyhow::Result<Cost> {
    let (mut fair, mut plain) = (Vec::new(), Vec::new());
    for run in 1..=runs {
        // Whoever comes first has the emptier caches.
        for is_fair in if run % 2 == 0 { [true, false] } else { [false, true] } {
            progress.say(format!(
                "what knowing tenants costs a claim: {}, run {run} of {runs}",
                if is_fair { "as it is" } else { "one lane" }
            ));
            let rate = drain(server, is_fair).await?;
            if is_fair { fair.push(rate) } else { plain.push(rate) }
        }
    }
    Ok(Cost { fair_per_s: median(fair), plain_per_s: median(plain) })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Drains and tells how fast, between a twentieth and nineteen twentieths of the way.
async fn drain(server: &TestServer, is_fair: bool) -> anyhow::Result<f64> {
    let database = server.fresh_database("bench_fairness").await?;
    let pool = &database.pool;
    fill(pool, JOBS, |i| Ok(NewJob::of(&Noop { i })?.tenant(TenantId::SYSTEM))).await?;
    sqlx::query!("analyze jobs").execute(pool).await?;
    if !is_fair {
        know_no_tenants(&database).await?;
    }
    let before = EXECUTED.load(Ordering::Relaxed);
    let waker = Waker::new();
    let pools = Pools::start(&database, 1, SLOTS, &waker).await?;
    let began = Instant::now();
    let mut passed = [None; 2];
    while passed[1].is_none() {
        let executed = EXECUTED.load(Ordering::Relaxed) - before;
        for (mark, passed) in [JOBS / 20, JOBS - JOBS / 20].into_iter().zip(&mut passed) {
            if executed >= mark && passed.is_none() {
                *passed = Some((executed, Instant::now()));
            }
        }
        if began.elapsed() > DRAIN_MAX {
            bail!("not drained after {DRAIN_MAX:?}");
        }
        sleep(Duration::from_millis(1)).await;
    }
    pools.stop().await?;
    database.pool.close().await;
    let [Some((first, from)), Some((last, to))] = passed else { bail!("the drain was not seen") };
    #[allow(clippy::cast_precision_loss, reason = "counts far below 2^53")]
    Ok((last - first) as f64 / (to - from).as_secs_f64())
}

/// In the benchmark's database alone: a `job_turn` that claims from the one lane there is, without a look at tenants,
/// pauses, caps or limits.
async fn know_no_tenants(database: &Database) -> anyhow::Result<()> {
    let parts = sqlx::query!(
        r#"select pg_get_function_arguments(p.oid) as "arguments!", pg_get_function_result(p.oid) as "result!",
               array_to_string(p.proconfig, E'\n') as "settings!",
               (select lane from jobs limit 1) as "lane!"
           from pg_proc p where p.oid = 'job_turn'::regproc"#
    )
    .fetch_one(&database.pool)
    .await?;
    let settings = parts.settings.lines().filter_map(|setting| setting.split_once('='));
    let settings: Vec<String> = settings.map(|(name, value)| format!("set {name} = '{value}'")).collect();
    let body = include_str!("one_lane.sql").replace("{lane}", &parts.lane.to_string());
    let statement = format!(
        "create or replace function job_turn({}) returns {} language plpgsql {} as $body${body}$body$",
        parts.arguments,
        parts.result,
        settings.join(" "),
    );
    // A definition takes no parameters; all of it is ours.
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(database.pool.inner()).await?;
    Ok(())
}
