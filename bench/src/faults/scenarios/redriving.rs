//! Dead jobs redriven in bulk at a rate, by workers that are killed over it, the one that carries it out among them.

use std::time::Duration;

use anyhow::{Context, ensure};
use jobs::ops::Bulk;
use kernel::ids::{JobId, TenantId};
use queue::bulk::{BulkAction, BulkState, freeze};
use queue::{JobSearch, JobStatus, NewJob};
use tokio::time::{Instant, sleep};

use crate::faults::kinds::Effect;
use crate::faults::ledger::Expected;
use crate::faults::stage::{Play, Report, Stage};

/// Jobs stored at once.
const STORED_MAX: usize = 10_000;
/// The code that they are dead with.
const CODE: &str = "VENDOR_DOWN";
/// The bulk job may take so many times as long as its rate says.
const TIMES_MAX: f64 = 4.0;
/// And this much longer: each of the last kills costs a lease and a sweep.
const LONGER_MAX: Duration = Duration::from_secs(30);

/// None twice, none left: every job has its effect once, and the bulk job counts each once.
pub(super) async fn play(stage: Stage) -> anyhow::Result<Report> {
    let (dead, rate, kills) = stage.size.of((3_000, 600.0, 6), (200_000, 2_000.0, 40));
    let mut play = Play::begin(&stage).await?;
    play.ledger.leases_get_lost();
    store_dead(&play, dead).await?;
    let spec = play.spec().with_maintenance(1);
    play.start(&spec, 4).await?;
    let began = Instant::now();
    let bulk = start(&play, rate).await?;
    // Spread over the time that it takes.
    let (every, mut killed, mut met) =
        (Duration::from_secs_f64(dead as f64 / rate / (kills + 1) as f64), 0, 0);
    for kill in 0..kills {
        sleep(every).await;
        // Three in a row that got nowhere would be its end: whoever dies has carried it on before.
        let Some(state) = carried_on(&play, bulk, met).await? else { break };
        (killed, met) = (kill + 1, state.met());
        let victim = whoever_runs(&mut play, bulk).await?.unwrap_or(kill % 4);
        play.incarnation(victim).await?;
        play.workers[victim].kill_9()?;
        play.replace(victim, &spec)?;
        play.tell(kill + 1, kills, "kills", None);
    }
    let allowed = Duration::from_secs_f64(dead as f64 / rate * TIMES_MAX) + LONGER_MAX;
    let state = ended(&play, bulk, began, allowed).await?;
    let took = began.elapsed();
    ensure!(state.changed == dead as u64 && state.met() == dead as u64, "of {dead} dead jobs: {state:?}");
    ensure!(left(&play).await? == 0, "some were left");
    // The last chunk is stored a moment before its time.
    let least = Duration::from_secs_f64(dead as f64 / rate).saturating_sub(Duration::from_secs(2));
    ensure!(took >= least, "{dead} jobs in {took:?} are more than {rate} a second");
    play.note("dead jobs", dead.to_string());
    play.note("kills", killed.to_string());
    ensure!(killed >= kills / 2, "only {killed} kills before it was over");
    play.note(
        "redriven",
        format!("{:.0} a second, at a rate of {rate:.0}", dead as f64 / took.as_secs_f64()),
    );
    play.end().await
}

/// Stores jobs that have failed, as a vendor's outage leaves them, and expects them to be done once.
#[allow(clippy::disallowed_methods, reason = "fault runs have no queries that are checked ahead")]
async fn store_dead(play: &Play, dead: usize) -> anyhow::Result<()> {
    for from in (0..dead).step_by(STORED_MAX) {
        let jobs = (from..dead.min(from + STORED_MAX)).map(|_| NewJob::of(&Effect { pause_ms: 0 }));
        play.accept(jobs.collect::<Result<Vec<_>, _>>()?, Expected::Completed).await?;
    }
    let failed = sqlx::query(
        "with gone as (delete from jobs where kind = 'fault.effect' returning *)
         insert into jobs_finished (
             tenant_id, id, lane, share_id, created_at, finished_at, ended, priority, attempt, attempts_max, taken_back, queue,
             kind, args, error
         )
         select tenant_id, id, lane, share_id, created_at, now(), 'failed', priority, attempts_max, attempts_max, 0, queue, kind,
             args, jsonb_build_object('code', $1, 'message', 'the vendor answered 503')
         from gone",
    )
    .bind(CODE)
    .execute(&play.pool)
    .await?;
    ensure!(failed.rows_affected() == dead as u64, "{} jobs are dead", failed.rows_affected());
    Ok(())
}

async fn start(play: &Play, rate: f64) -> anyhow::Result<JobId> {
    let mut conn = play.pool.acquire().await?;
    let filter = JobSearch { code: Some(CODE.to_owned()), ..JobSearch::default() };
    let filter = freeze(&mut conn, BulkAction::Redrive, filter).await?;
    let matched = queue::count(&mut conn, &filter).await?.count;
    let by = "a fault run".to_owned();
    let bulk = Bulk { action: BulkAction::Redrive, filter, rate_per_s: Some(rate), matched, by };
    Ok(queue::enqueue(&mut conn, NewJob::of(&bulk)?).await?.id())
}

/// The worker that carries the bulk job out now.
#[allow(clippy::disallowed_methods, reason = "fault runs have no queries that are checked ahead")]
async fn whoever_runs(play: &mut Play, bulk: JobId) -> anyhow::Result<Option<usize>> {
    let query = "select p.pid from jobs j join worker_processes p on p.id = j.leased_by where j.id = $1";
    let pid: Option<i32> = play
        .asked(async |pool| sqlx::query_scalar(query).bind(bulk.uuid()).fetch_optional(pool).await)
        .await?;
    Ok(pid.and_then(|pid| play.workers.iter().position(|worker| worker.pid() == pid)))
}

/// Waits until more jobs were met than before; none when it is over.
async fn carried_on(play: &Play, bulk: JobId, met: u64) -> anyhow::Result<Option<BulkState>> {
    let began = Instant::now();
    loop {
        let state = queue::bulk::state(&mut play.pool.acquire().await?, bulk).await?;
        if state.is_over {
            return Ok(None);
        }
        if state.met() > met {
            return Ok(Some(state));
        }
        ensure!(began.elapsed() < LONGER_MAX, "nobody carries it on from {state:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

async fn ended(play: &Play, bulk: JobId, began: Instant, allowed: Duration) -> anyhow::Result<BulkState> {
    loop {
        let mut conn = play.pool.acquire().await?;
        let record = queue::get(&mut conn, TenantId::SYSTEM, bulk).await?.context("the bulk job is gone")?;
        let state = queue::bulk::state(&mut conn, bulk).await?;
        drop(conn);
        match record.status {
            JobStatus::Completed => return Ok(state),
            status => ensure!(!status.has_ended(), "the bulk job is {status}: {:?}", record.failure),
        }
        ensure!(began.elapsed() < allowed, "the bulk job stands still at {state:?}");
        sleep(Duration::from_millis(50)).await;
    }
}

#[allow(clippy::disallowed_methods, reason = "fault runs have no queries that are checked ahead")]
async fn left(play: &Play) -> anyhow::Result<i64> {
    let query = "select count(*) from jobs_finished where ended = 'failed' and error ->> 'code' = $1";
    play.asked(async |pool| sqlx::query_scalar(query).bind(CODE).fetch_one(pool).await).await
}
