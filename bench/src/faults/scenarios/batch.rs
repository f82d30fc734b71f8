//! A batch to which everything happens: children that fail, workers that are killed, and a cancel half-way by somebody
//! who dies over it.

use std::time::Duration;

use anyhow::{Context, ensure};
use kernel::ids::{BatchId, TenantId};
use queue::{BatchRecord, Enqueued, NewBatch, NewJob};
use tokio::time::{Instant, sleep, timeout};

use crate::faults::kinds::{Effect, FAILED, Fail};
use crate::faults::ledger::Expected;
use crate::faults::stage::{Play, Report, Stage};

/// One child in so many fails.
const FAILS_EVERY: usize = 33;
/// Ended children, in tenths of all, at which a worker is killed.
const KILLS_AT: [usize; 2] = [2, 4];
/// And at which the batch is cancelled.
const CANCEL_AT: usize = 5;
/// Whoever cancels lives no longer than this; upkeep does the rest.
const CANCELLING_MAX: Duration = Duration::from_millis(20);
/// The longest wait for the next thing to happen.
const WAIT_MAX: Duration = Duration::from_secs(90);

/// Counters must be exact, and the completion job run once.
pub(super) async fn play(stage: Stage) -> anyhow::Result<Report> {
    let children = stage.size.of(1_000, 10_000);
    let mut play = Play::begin(&stage).await?;
    play.ledger.leases_get_lost();
    let spec = play.spec();
    play.start(&spec, 3).await?;
    let batch = store(&play, children).await?;
    for (kill, tenths) in KILLS_AT.into_iter().enumerate() {
        wait_for(&play, batch, |record| ended(record) * 10 >= children * tenths).await?;
        play.incarnation(kill).await?;
        play.workers[kill].kill_9()?;
        play.replace(kill, &spec)?;
        play.tell(kill + 1, KILLS_AT.len(), "kills", None);
    }
    wait_for(&play, batch, |record| ended(record) * 10 >= children * CANCEL_AT).await?;
    let pool = play.pool.clone();
    let cancelling = queue::cancel_batch(&pool, TenantId::SYSTEM, batch, "a fault run");
    let interrupted = timeout(CANCELLING_MAX, cancelling).await.is_err();
    // It may have died before its first word: then nothing was asked for, and somebody asks again.
    let called_off = wait_for(&play, batch, |_| true).await?.cancelled_by.is_some();
    if called_off {
        // What the upkeep of some process does with its next look.
        queue::resume_cancels(&pool).await?;
    } else {
        queue::cancel_batch(&pool, TenantId::SYSTEM, batch, "a fault run").await?;
    }
    let record = wait_for(&play, batch, |record| record.finished_at.is_some()).await?;
    check(&play, &record, children).await?;
    play.note("children", children.to_string());
    play.note("completed, failed, cancelled", figures(&record));
    play.note("cancelling was interrupted", interrupted.to_string());
    play.end().await
}

/// Stores the batch and enters its jobs.
async fn store(play: &Play, children: usize) -> anyhow::Result<BatchId> {
    let good = Expected::OrCancelled(&Expected::Completed);
    let bad = Expected::OrCancelled(&Expected::Failed(FAILED));
    let child = |n: usize| match n % FAILS_EVERY {
        0 => NewJob::of(&Fail {}),
        _ => NewJob::of(&Effect { pause_ms: 5 }),
    };
    let jobs = (0..children).map(child).collect::<Result<Vec<_>, _>>()?;
    let batch = NewBatch::of(jobs).completion(NewJob::of(&Effect::default())?);
    let mut tx = db::begin(&play.pool).await?;
    let stored = queue::enqueue_batch(&mut tx, batch).await?;
    tx.commit().await?;
    for (n, child) in stored.children.iter().enumerate() {
        play.ledger.accept(child.id(), if n % FAILS_EVERY == 0 { bad } else { good });
    }
    let completion = stored.completion.map(Enqueued::id).context("a completion job")?;
    play.ledger.accept(completion, Expected::Completed);
    Ok(stored.id)
}

async fn wait_for(
    play: &Play,
    batch: BatchId,
    holds: impl Fn(&BatchRecord) -> bool,
) -> anyhow::Result<BatchRecord> {
    let began = Instant::now();
    loop {
        let mut conn = play.pool.acquire().await?;
        let record = queue::batch(&mut conn, TenantId::SYSTEM, batch).await?.context("the batch is gone")?;
        drop(conn);
        if holds(&record) {
            return Ok(record);
        }
        ensure!(began.elapsed() < WAIT_MAX, "the batch stands still at {record:?}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Compares the counters with the rows.
#[allow(clippy::disallowed_methods, reason = "fault runs have no queries that are checked ahead")]
async fn check(play: &Play, record: &BatchRecord, children: usize) -> anyhow::Result<()> {
    let counted: (i64, i64, i64) = sqlx::query_as(
        "select count(*) filter (where ended = 'completed'), count(*) filter (where ended = 'failed'),
                count(*) filter (where ended = 'cancelled')
         from jobs_finished where batch_id = $1",
    )
    .bind(record.id.uuid())
    .fetch_one(&play.pool)
    .await?;
    let counters = (record.completed.into(), record.failed.into(), record.cancelled.into());
    ensure!(counters == counted, "the counters say {counters:?}, the rows {counted:?}");
    ensure!(ended(record) == children && record.pending == 0, "{record:?} of {children} children");
    ensure!(record.failed > 0 && record.cancelled > 0, "too little happened to {record:?}");
    let repaired = queue::recount_batches(&play.pool).await?.repaired;
    ensure!(repaired == 0, "the counters had to be repaired");
    Ok(())
}

fn ended(record: &BatchRecord) -> usize {
    usize::try_from(record.total - record.pending).unwrap_or_default()
}

fn figures(record: &BatchRecord) -> String {
    format!("{}, {}, {}", record.completed, record.failed, record.cancelled)
}
