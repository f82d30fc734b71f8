//! The list of what is kept up: what each does, how often, and how long it may take.

use std::time::{Duration, Instant};

use audit::AuditError;
use queue::{Error, IndexBounds, Surveyor, VacuumBounds, Vacuums, eta::Judged};

use super::{Parts, survey::Shown, watch::Watch};
use crate::Settings;

/// One of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reconciler {
    work: Work,
    pub(super) every: Duration,
}

#[derive(Debug, Clone, Copy)]
enum Work {
    /// Jobs of dead processes are made ready.
    TakeBack,
    /// Jobs past their deadline end.
    Expire,
    /// Parked jobs of kinds that this process knows are made ready.
    Unpark,
    /// Batches whose cancelling was interrupted are cancelled to the end.
    ResumeCancels,
    /// Batches whose counters or end went wrong are put right.
    RecountBatches,
    /// Entries of the audit log become links of its chain.
    SealAudit,
    /// The coming weeks get their partitions.
    MakePartitions,
    /// What is older than the retention goes.
    Prune,
    /// New pages of history are found by the time of what ended there.
    SummarizeHistory,
    /// Dead rows are removed.
    Vacuum,
    /// Indexes that stayed large are rebuilt.
    Reindex,
    /// The oldest transaction is shown, and reported when it is too old.
    WatchTransactions,
    /// What waits to be sealed is shown.
    WatchAudit,
    /// What was said of when jobs end is checked.
    JudgeEstimates,
    /// What tables weigh is shown.
    WatchTables,
    /// What stands in the queues is shown, who works them, and what else operators watch.
    Survey,
}

/// What a lane remembers from one time to the next. Nothing depends on it.
#[derive(Debug, Default)]
pub(super) struct Memory {
    vacuums: Vacuums,
    watch: Watch,
    surveyor: Surveyor,
    shown: Shown,
}

impl Memory {
    /// Another process leads: what this one showed is no longer kept.
    pub(super) fn forget(&mut self) {
        self.watch.forget();
        self.shown.forget();
    }
}

const fn every(work: Work, seconds: u64) -> Reconciler {
    Reconciler { work, every: Duration::from_secs(seconds) }
}

impl Reconciler {
    /// What each process does. When jobs are taken back is promised whoever dies, also one leader after another,
    /// and looking is a read of a few rows; and a leader of an older version does not know the kinds of a newer one.
    pub(super) fn of_each_process(settings: &Settings) -> Vec<Self> {
        [Work::TakeBack, Work::Unpark].map(|work| Self { work, every: settings.sweep }).to_vec()
    }

    /// What the leader does in time.
    pub(super) fn in_time() -> Vec<Self> {
        // Entries are sealed within a second of their commit.
        let seal = Self { work: Work::SealAudit, every: Duration::from_millis(500) };
        vec![seal, every(Work::Expire, 1), every(Work::ResumeCancels, 5), every(Work::RecountBatches, 30)]
    }

    /// What may take its time.
    pub(super) fn at_leisure() -> Vec<Self> {
        vec![
            // First, and often: it is one cheap look, and a missing week should not last.
            every(Work::MakePartitions, 60),
            every(Work::JudgeEstimates, 2),
            every(Work::SummarizeHistory, 2),
            every(Work::Vacuum, 2),
            every(Work::Prune, 600),
            every(Work::Reindex, 60),
        ]
    }

    /// What is shown, so often that an alert on it is soon enough, whatever else takes its time.
    pub(super) fn in_sight() -> Vec<Self> {
        [Work::WatchTransactions, Work::WatchTables, Work::WatchAudit, Work::Survey]
            .map(|work| every(work, 5))
            .to_vec()
    }

    /// How many times as long as it took it rests at the least: what walks past everything that an old transaction keeps
    /// takes the longer the more that is.
    pub(super) const fn rest(self) -> u32 {
        match self.work {
            Work::Survey => 20,
            _ => 0,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self.work {
            Work::TakeBack => "take back",
            Work::Expire => "expire",
            Work::Unpark => "unpark",
            Work::ResumeCancels => "resume cancels",
            Work::RecountBatches => "recount batches",
            Work::SealAudit => "seal audit",
            Work::WatchAudit => "watch audit",
            Work::MakePartitions => "make partitions",
            Work::Prune => "prune",
            Work::SummarizeHistory => "summarize history",
            Work::Vacuum => "vacuum",
            Work::Reindex => "reindex",
            Work::WatchTransactions => "watch transactions",
            Work::JudgeEstimates => "judge estimates",
            Work::WatchTables => "watch tables",
            Work::Survey => "survey",
        }
    }

    /// The longest run. What is cut off is done by the next.
    pub(super) const fn time_max(self) -> Duration {
        Duration::from_secs(match self.work {
            Work::TakeBack | Work::Expire | Work::Unpark | Work::ResumeCancels | Work::RecountBatches => 30,
            Work::SealAudit => 30,
            Work::WatchTransactions | Work::WatchTables | Work::WatchAudit | Work::JudgeEstimates => 10,
            // Its statements have a shorter one each.
            Work::Survey => 30,
            Work::MakePartitions | Work::Prune | Work::SummarizeHistory => 120,
            // Their statements have bounds of their own, and are called off on the server.
            Work::Vacuum | Work::Reindex => 3_600,
        })
    }

    pub(super) async fn reconcile(self, parts: &Parts, memory: &mut Memory) -> Result<(), Error> {
        let Parts { pool, settings, kinds, waker, .. } = parts;
        match self.work {
            Work::TakeBack => take_back(parts).await?,
            Work::Expire => {
                let (expired, released) = queue::expire(pool).await?;
                if expired > 0 {
                    metrics::counter!("millpond_jobs_expired_total").increment(expired as u64);
                    waker.job_ended();
                }
                waker.wake_all(released);
            }
            Work::Unpark => {
                let unparked = queue::unpark(pool, kinds).await?;
                if unparked > 0 {
                    tracing::info!(unparked, "parked jobs of known kinds are ready again");
                    waker.wake_all(settings.slots.keys().copied());
                }
            }
            Work::ResumeCancels => {
                let resumed = queue::resume_cancels(pool).await?;
                if resumed.cancelled + resumed.asked > 0 {
                    waker.cancel();
                    waker.job_ended();
                }
                waker.wake_all(resumed.released);
            }
            Work::RecountBatches => recount_batches(parts).await?,
            Work::SealAudit => drop(jobs::audit_log::seal(pool, &parts.keyring).await.map_err(unaudited)?),
            Work::WatchAudit => {
                let mut conn = pool.acquire().await?;
                memory.shown.audit(audit::unsealed(&mut conn).await.map_err(unaudited)?);
            }
            Work::MakePartitions => {
                let made = queue::make_partitions(pool).await?;
                if made > 0 {
                    tracing::info!(made, "partitions of history made");
                }
            }
            Work::Prune => prune(parts).await?,
            Work::SummarizeHistory => queue::history::summarize_new_pages(pool).await?,
            Work::Vacuum => {
                let (states, bounds) = (queue::table_states(pool).await?, VacuumBounds::default());
                for done in queue::vacuum(pool, &bounds, &mut memory.vacuums, &states).await? {
                    metrics::counter!("millpond_vacuums_total", "table" => done.table.clone()).increment(1);
                    let (before, after) = (done.dead_rows_before, done.dead_rows_after);
                    tracing::debug!(table = done.table, before, after, "dead rows removed");
                }
            }
            Work::Reindex => {
                let done = queue::reindex(pool, &IndexBounds::default()).await?;
                if let Some((index, bytes_before)) = done.rebuilt {
                    metrics::counter!("millpond_reindexes_total", "index" => index.clone()).increment(1);
                    tracing::info!(index, bytes_before, "rebuilt an index that had grown");
                }
                if !done.leftovers.is_empty() {
                    tracing::info!(indexes = ?done.leftovers, "removed what interrupted rebuilding left");
                }
            }
            Work::JudgeEstimates => {
                if queue::eta::judge_estimates(pool).await? != Judged::default() {
                    memory.watch.estimates(&queue::eta::calibrations(pool).await?);
                }
            }
            Work::WatchTransactions => {
                let oldest = queue::oldest_transaction(pool).await?;
                memory.watch.transactions(oldest.as_ref(), settings.maintenance.oldest_transaction_warn);
                memory.shown.server(&queue::server_state(pool).await?);
            }
            Work::WatchTables => {
                memory.watch.tables(&queue::table_states(pool).await?, &VacuumBounds::default());
            }
            Work::Survey => survey(parts, memory).await?,
        }
        Ok(())
    }
}

fn unaudited(AuditError::Database(error): AuditError) -> Error {
    Error::Database(error)
}

async fn take_back(parts: &Parts) -> Result<(), Error> {
    let swept = queue::sweep(&parts.pool, parts.settings.lease).await?;
    if swept.taken_back + swept.given_up > 0 {
        tracing::warn!(
            processes = swept.processes_lost,
            taken_back = swept.taken_back,
            given_up = swept.given_up,
            "took jobs back from dead workers"
        );
        metrics::counter!("millpond_jobs_taken_back_total").increment(swept.taken_back);
        metrics::counter!("millpond_jobs_given_up_total").increment(swept.given_up);
        parts.waker.job_ended();
    }
    parts.waker.wake_all(swept.released);
    Ok(())
}

async fn survey(parts: &Parts, memory: &mut Memory) -> Result<(), Error> {
    let began = Instant::now();
    let seen = memory.surveyor.survey(&parts.pool, parts.settings.lease).await;
    match &seen {
        Ok(survey) => memory.shown.survey(survey, began.elapsed()),
        Err(_) => memory.shown.forget(),
    }
    seen.map(|_| ())
}

async fn recount_batches(parts: &Parts) -> Result<(), Error> {
    let recounted = queue::recount_batches(&parts.pool).await?;
    if recounted.repaired > 0 {
        tracing::error!(repaired = recounted.repaired, "counters of batches were wrong and are put right");
        metrics::counter!("millpond_batches_repaired_total").increment(recounted.repaired);
    }
    parts.waker.wake_all(recounted.released);
    Ok(())
}

async fn prune(parts: &Parts) -> Result<(), Error> {
    let retention = parts.settings.maintenance.retention;
    let pruned = queue::prune(&parts.pool, retention).await?;
    let batches = queue::prune_batches(&parts.pool, retention).await?;
    queue::bulk::prune(&parts.pool, retention).await?;
    if pruned != queue::Pruned::default() || batches > 0 {
        tracing::info!(
            partitions_created = pruned.partitions_created,
            partitions_dropped = pruned.partitions_dropped,
            partitions_held = pruned.partitions_held,
            unique_keys = pruned.keys_removed,
            batches,
            "history pruned"
        );
    }
    Ok(())
}
