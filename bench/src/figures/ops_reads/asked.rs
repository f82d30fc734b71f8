//! What operators read: all that the API's routes for them ask of the queue.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use db::{Connection, Pool};
use kernel::ids::{BatchId, JobId, TenantId};
use queue::bulk::BulkAction;
use queue::{ArgIs, DeadFilter, Estimator, JobSearch, JobState, JobStatus, Order, history, ops};
use tokio::time::Instant;

/// How long a process counts as alive.
const LEASE: Duration = Duration::from_secs(30);
/// One that takes longer is not answered.
const READ_MAX: Duration = Duration::from_secs(10);
/// Jobs on a page.
const PAGE: usize = 50;

/// What is asked.
#[derive(Debug, Clone)]
pub(super) enum Read {
    Overview,
    Workers,
    Shares,
    Levels,
    Pauses,
    History(history::Step, TimeDelta),
    Search(JobSearch, Order),
    /// The page behind the first.
    SecondPage(JobSearch),
    Count(JobSearch),
    DeadGroups(DeadFilter),
    Preview(BulkAction, JobSearch),
    Detail(TenantId, JobId),
    Explanation(TenantId, JobId),
    Audit(audit::Filter),
}

/// What there is.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pool: Pool,
    estimator: Estimator,
    now: DateTime<Utc>,
    /// A dead job, and one that waits.
    dead: (TenantId, JobId),
    live: (TenantId, JobId),
}

impl Known {
    pub(super) async fn of(pool: &Pool) -> anyhow::Result<Self> {
        let conn = &mut pool.acquire().await?;
        let now = sqlx::query_scalar!(r#"select now() as "now!""#).fetch_one(&mut *conn).await?;
        let mut one_of = async |state| {
            let search = JobSearch { states: vec![state], ..JobSearch::default() };
            let found = queue::search(conn, &search, Order::Newest, None, 1).await?;
            let job = found.jobs.into_iter().next();
            job.map(|job| (job.tenant, job.id)).ok_or_else(|| anyhow::anyhow!("no job is {state}"))
        };
        let (dead, live) = (one_of(JobState::Failed).await?, one_of(JobState::Scheduled).await?);
        let estimator = Estimator::new(pool.clone(), []);
        Ok(Self { pool: pool.clone(), estimator, now, dead, live })
    }

    /// Everything that is asked, by what it is called.
    pub(super) fn reads(&self) -> Vec<(&'static str, Read)> {
        let mut reads = self.by_state();
        reads.extend(self.by_field());
        reads.extend(self.by_time());
        reads.extend(self.counts());
        reads.extend(self.others());
        reads
    }

    fn by_state(&self) -> Vec<(&'static str, Read)> {
        let all = JobSearch::default;
        let of = |states: &[JobState]| JobSearch { states: states.to_vec(), ..all() };
        let status = |status| JobSearch { statuses: vec![status], ..all() };
        let dead = of(&[JobState::Failed]);
        let dead_of_no_kind = JobSearch { kinds: vec!["no".into()], ..dead.clone() };
        let dead_of_tenant = JobSearch { tenant: Some(self.dead.0), ..dead.clone() };
        let of_no_code = JobSearch { code: Some("NO".into()), ..all() };
        vec![
            ("jobs, the newest", newest(all())),
            ("jobs, the oldest", oldest(all())),
            ("jobs, the second page", Read::SecondPage(all())),
            ("ready jobs", newest(of(&[JobState::Ready]))),
            ("running jobs", newest(of(&[JobState::Running]))),
            ("waiting and parked jobs", newest(of(&[JobState::Waiting, JobState::Parked]))),
            ("scheduled jobs, the oldest", oldest(of(&[JobState::Scheduled]))),
            ("completed jobs", newest(of(&[JobState::Completed]))),
            ("cancelled jobs", newest(of(&[JobState::Cancelled]))),
            ("queued jobs, as owners say", newest(status(JobStatus::Queued))),
            ("processing jobs, as owners say", newest(status(JobStatus::Processing))),
            ("failed jobs, the newest", newest(dead.clone())),
            ("failed jobs, the oldest", oldest(dead.clone())),
            ("failed jobs, the second page", Read::SecondPage(dead)),
            ("failed jobs of a kind that has none", newest(dead_of_no_kind)),
            ("failed jobs of a tenant", newest(dead_of_tenant)),
            ("jobs of an error code that none has", newest(of_no_code)),
            ("failed jobs of a signature", newest(alike())),
        ]
    }

    fn by_field(&self) -> Vec<(&'static str, Read)> {
        let all = JobSearch::default;
        let kind = |kind: &str| JobSearch { kinds: vec![kind.to_owned()], ..all() };
        let queue = |queue: &str| JobSearch { queues: vec![queue.to_owned()], ..all() };
        let tenant = Some(self.dead.0);
        let of_no_key = JobSearch { key: Some("no".into()), ..all() };
        let of_no_request = JobSearch { request_id: Some("no".into()), ..all() };
        vec![
            ("jobs of a kind", newest(kind("bench.past"))),
            ("jobs of a kind that there is none of", newest(kind("bench.absent"))),
            ("the same, the oldest first", oldest(kind("bench.absent"))),
            ("jobs of a queue", newest(queue("enrich"))),
            ("jobs of a queue that has none", newest(queue("email"))),
            ("jobs of a tenant", newest(JobSearch { tenant, ..all() })),
            ("a tenant's jobs of a kind that it has none of", newest(JobSearch { tenant, ..kind("no") })),
            ("jobs of a key that none has", newest(of_no_key)),
            ("jobs of a request that asked for none", newest(of_no_request)),
            ("jobs of a batch that has none", newest(JobSearch { batch: Some(BatchId::new()), ..all() })),
            ("jobs by their ids", newest(JobSearch { ids: vec![self.dead.1, self.live.1], ..all() })),
        ]
    }

    fn by_time(&self) -> Vec<(&'static str, Read)> {
        let (now, all) = (self.now, JobSearch::default);
        let then = now - TimeDelta::days(10);
        let with_arg = JobSearch {
            kinds: vec!["bench.past".into()],
            created_from: Some(now - TimeDelta::days(1)),
            arg: Some(ArgIs { path: vec!["i".into()], value: "-1".into() }),
            ..all()
        };
        let (created_from, created_before) = (Some(then), Some(then + TimeDelta::hours(1)));
        let (finished_from, finished_before) = (Some(then), Some(then + TimeDelta::seconds(1)));
        let ended_lately = JobSearch { finished_from: Some(now - TimeDelta::minutes(1)), ..all() };
        vec![
            ("jobs with an argument", newest(with_arg)),
            (
                "jobs stored within an hour, ten days ago",
                newest(JobSearch { created_from, created_before, ..all() }),
            ),
            ("jobs that ended in the last minute", newest(ended_lately)),
            (
                "jobs that ended in a second, ten days ago",
                newest(JobSearch { finished_from, finished_before, ..all() }),
            ),
        ]
    }

    fn counts(&self) -> Vec<(&'static str, Read)> {
        let all = JobSearch::default;
        let dead = JobSearch { states: vec![JobState::Failed], ..all() };
        let kind = JobSearch { kinds: vec!["bench.past".into()], ..all() };
        let lately = JobSearch { created_from: Some(self.now - TimeDelta::days(1)), ..kind.clone() };
        let preview = |action, search| Read::Preview(action, search);
        vec![
            ("count of all jobs", Read::Count(all())),
            ("count of failed jobs", Read::Count(dead.clone())),
            ("count of a signature", Read::Count(alike())),
            ("count of a kind", Read::Count(kind.clone())),
            ("count of a kind, stored within a day", Read::Count(lately)),
            ("count of a tenant's jobs", Read::Count(JobSearch { tenant: Some(self.dead.0), ..all() })),
            ("preview of redriving all failed jobs", preview(BulkAction::Redrive, dead)),
            ("preview of redriving a signature", preview(BulkAction::Redrive, alike())),
            ("preview of cancelling a kind", preview(BulkAction::Cancel, kind)),
        ]
    }

    fn others(&self) -> Vec<(&'static str, Read)> {
        let queues = audit::Filter { action: Some("queues.".into()), ..audit::Filter::default() };
        let nobody = audit::Filter { actor: Some("nobody".into()), ..audit::Filter::default() };
        let of_signature = DeadFilter { signature: alike().signature, ..DeadFilter::default() };
        vec![
            ("overview", Read::Overview),
            ("workers", Read::Workers),
            ("pauses", Read::Pauses),
            ("tenants' shares", Read::Shares),
            ("limits", Read::Levels),
            ("history of a day by the minute", Read::History(history::Step::Minute, TimeDelta::days(1))),
            ("history of four weeks by the hour", Read::History(history::Step::Hour, TimeDelta::days(28))),
            ("dead letters", Read::DeadGroups(DeadFilter::default())),
            ("dead letters of a signature", Read::DeadGroups(of_signature)),
            ("a dead job with all that is known", Read::Detail(self.dead.0, self.dead.1)),
            ("a live job with all that is known", Read::Detail(self.live.0, self.live.1)),
            ("why a live job does not run", Read::Explanation(self.live.0, self.live.1)),
            ("audit log", Read::Audit(audit::Filter::default())),
            ("audit log of an action", Read::Audit(queues)),
            ("audit log of somebody who did nothing", Read::Audit(nobody)),
        ]
    }

    /// Asks, as a route does: in a transaction of its own, which only reads. Answers how long that took.
    pub(super) async fn ask(&self, read: &Read) -> anyhow::Result<Duration> {
        let mut began = Instant::now();
        let mut conn = db::begin_reading(&self.pool, READ_MAX).await?;
        if let Read::SecondPage(search) = read {
            let first = queue::search(&mut conn, search, Order::Newest, None, PAGE).await?;
            began = Instant::now();
            queue::search(&mut conn, search, Order::Newest, first.next.as_ref(), PAGE).await?;
        } else {
            self.ask_in(&mut conn, read).await?;
        }
        drop(conn);
        Ok(began.elapsed())
    }

    async fn ask_in(&self, conn: &mut Connection, read: &Read) -> anyhow::Result<()> {
        match read {
            Read::Overview => drop(ops::overview(conn, LEASE).await?),
            Read::Workers => drop(ops::workers(conn).await?),
            Read::Shares => drop(ops::shares(conn, self.now - TimeDelta::hours(1), self.now).await?),
            Read::Levels => drop(queue::limits::levels(&self.pool).await?),
            Read::Pauses => drop(queue::pauses(&self.pool).await?),
            Read::History(step, length) => {
                let (from, to) = (self.now - *length, self.now);
                let filter =
                    history::HistoryFilter { queue: None, kind: None, tenant: None, from, to, step: *step };
                drop(history::history(conn, &filter).await?);
            }
            Read::Search(search, order) => drop(queue::search(conn, search, *order, None, PAGE).await?),
            Read::Count(search) => drop(queue::count(conn, search).await?),
            Read::DeadGroups(filter) => drop(queue::dead_letters(conn, filter, PAGE).await?),
            Read::Preview(action, search) => {
                drop(jobs::ops::preview_bulk(conn, *action, search.clone()).await?);
            }
            Read::Detail(tenant, job) => drop(ops::detail(conn, &[*tenant], *job).await?),
            Read::Explanation(tenant, job) => drop(self.estimator.explain(*tenant, *job).await?),
            Read::Audit(filter) => drop(audit::list(conn, filter, audit::Order::Newest, None, PAGE).await?),
            // Asked behind its first page, by the caller.
            Read::SecondPage(_) => {}
        }
        Ok(())
    }
}

fn newest(search: JobSearch) -> Read {
    Read::Search(search, Order::Newest)
}

fn oldest(search: JobSearch) -> Read {
    Read::Search(search, Order::Oldest)
}

/// Failed jobs of one signature, as the dead ones have it.
fn alike() -> JobSearch {
    JobSearch {
        signature: Some("the vendor answered # to call #".into()),
        code: Some("VENDOR_DOWN".into()),
        ..JobSearch::default()
    }
}
