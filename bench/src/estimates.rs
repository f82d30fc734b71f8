//! `bench -- estimates`: whether jobs end when they were said to, under a mixed load.
//!
//! Three tenants of unequal weight store jobs of five kinds, in a trickle and in bursts that take seconds to work off. Each
//! job is told its range when it is stored, and some are asked for again while they live, as partners poll. At the end every
//! range is held against when its job did end.

mod kinds;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use anyhow::ensure;
use chrono::{DateTime, Utc};
use config::{Settings, Sources};
use db::Pool;
use kernel::ids::{JobId, TenantId};
use queue::{
    Eta, Job, NewJob, Queue, TenantShare, Waker,
    eta::Estimator,
    limits::{Limit, Shape, define},
};
use rand::RngExt;
use serde_json::json;
use tokio::time::{Instant, interval};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    estimates::kinds::{ALL, Asked, Flaky, Quick, Slow, VENDOR},
    server::{ServerArgs, TestServer},
};

/// How estimates are tried.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// How long jobs are stored, in seconds.
    #[arg(long, default_value_t = 60)]
    pub seconds: u64,
    /// One JSON document instead of the table.
    #[arg(long)]
    pub json: bool,
    /// Where.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// Jobs at once.
const SLOTS: usize = 16;
/// Calls to the vendor in each window.
const CALLS_MAX: i64 = 50;
const WINDOW: Duration = Duration::from_secs(2);
/// Jobs are stored and asked for this often: so many each time, and in a burst so many.
const TICK: Duration = Duration::from_millis(100);
const TRICKLE: std::ops::Range<usize> = 0..4;
const BURST: std::ops::Range<usize> = 60..160;
const BURST_EVERY: Duration = Duration::from_secs(4);
const POLLED_PER_TICK: usize = 3;
/// All jobs have ended this long after the last was stored.
const ENDED_WITHIN: Duration = Duration::from_secs(120);
/// Weights of the tenants.
const WEIGHTS: [i16; 3] = [1, 3, 1];
/// The part of the jobs that must end within their range.
const WITHIN_MIN: f64 = 0.8;

/// Runs it and prints the table.
///
/// # Errors
/// When fewer than four of five jobs ended within their range, after the table; or when it could not be tried.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let server = TestServer::open(&args.server).await?;
    let tried = async {
        let database = server.fresh_database("millpond_bench_estimates").await?;
        attempt(&database.pool, Duration::from_secs(args.seconds)).await
    };
    let tried = tried.await;
    let closed = server.close().await;
    let report = tried?;
    closed?;
    report.print(args.json)?;
    ensure!(
        report.stored.within() >= WITHIN_MIN,
        "fewer than {:.0} % of the jobs ended within their range",
        WITHIN_MIN * 100.0
    );
    Ok(())
}

/// What was said of a job's end.
struct Promise {
    job: JobId,
    kind: &'static str,
    /// When it was stored, and not later.
    is_first: bool,
    eta: Eta,
}

/// How many ended within what was said.
#[derive(Debug, Clone, Default)]
pub struct Coverage {
    within: usize,
    early: usize,
    late: usize,
    /// The ranges' widths in terms of how long there was to go.
    widths: Vec<f64>,
}

impl Coverage {
    /// The part that ended within its range.
    #[must_use]
    pub fn within(&self) -> f64 {
        self.within as f64 / self.all().max(1) as f64
    }

    /// How many there were.
    #[must_use]
    pub fn all(&self) -> usize {
        self.within + self.early + self.late
    }

    fn add(&mut self, eta: &Eta, ended: DateTime<Utc>) {
        let count = match ended {
            ended if ended < eta.earliest => &mut self.early,
            ended if ended > eta.latest => &mut self.late,
            _ => &mut self.within,
        };
        *count += 1;
        let seconds = |from: DateTime<Utc>, to: DateTime<Utc>| (to - from).as_seconds_f64();
        self.widths.push(seconds(eta.earliest, eta.latest) / seconds(eta.seen_at, ended).max(0.001));
    }

    /// Half of the ranges are narrower.
    fn usual_width(&self) -> f64 {
        let mut widths = self.widths.clone();
        widths.sort_by(f64::total_cmp);
        widths.get(widths.len() / 2).copied().unwrap_or_default()
    }
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Report {
    /// What was said when jobs were stored.
    pub stored: Coverage,
    /// What was said of them later.
    pub polled: Coverage,
    /// What was said when they were stored, by kind.
    pub by_kind: BTreeMap<&'static str, Coverage>,
    /// Jobs that had no range.
    pub silent: usize,
}

/// Works a mixed load off for so long on a database of its own, and holds what was said against what happened.
///
/// # Errors
/// When the database cannot be reached, or jobs do not end.
pub async fn attempt(pool: &Pool, run: Duration) -> anyhow::Result<Report> {
    define(
        &mut pool.acquire().await?,
        &[Limit::new(VENDOR, Shape::Rate { max: CALLS_MAX, window: WINDOW })],
        &[],
    )
    .await?;
    let mut tenants = Vec::new();
    for weight in WEIGHTS {
        let tenant = TenantId::from_uuid(Uuid::now_v7());
        let share = TenantShare { weight, concurrency_max: None };
        queue::set_tenant(&mut pool.acquire().await?, tenant, share).await?;
        tenants.push(tenant);
    }
    let waker = Waker::new();
    let stop = CancellationToken::new();
    let settings = Settings::load(&Sources::default())?;
    let services = Arc::new(crate::worker::services(&settings, pool.clone())?);
    let working = workers::run(worker_settings(), ALL, services, waker.clone(), stop.clone());
    let working = tokio::spawn(Box::pin(working));
    let estimator = Estimator::new(pool.clone(), ALL.iter().map(|entry| (entry.kind, entry.policy)));
    let noting = tokio::spawn(stop.clone().run_until_cancelled_owned(estimator.clone().run()));
    let loaded = Load { pool, waker: &waker, estimator: &estimator, tenants }.work(run).await;
    stop.cancel();
    working.await??;
    noting.await?;
    loaded
}

fn worker_settings() -> workers::Settings {
    workers::Settings {
        slots: BTreeMap::from([(Queue::Enrich, SLOTS)]),
        lease: Duration::from_secs(30),
        sweep: Duration::from_secs(1),
        poll: Duration::from_millis(500),
        turns: workers::TurnSettings::default(),
        drain_timeout: Duration::from_secs(1),
        maintenance: workers::MaintenanceSettings::default(),
    }
}

struct Load<'a> {
    pool: &'a Pool,
    waker: &'a Waker,
    estimator: &'a Estimator,
    tenants: Vec<TenantId>,
}

impl Load<'_> {
    async fn work(&self, run: Duration) -> anyhow::Result<Report> {
        let (began, mut last_burst) = (Instant::now(), Instant::now());
        let mut report = Report::default();
        let mut promises: Vec<Promise> = Vec::new();
        let mut stored: Vec<(TenantId, JobId, &'static str)> = Vec::new();
        let mut ticks = interval(TICK);
        while began.elapsed() < run {
            ticks.tick().await;
            let mut wanted = rand::rng().random_range(TRICKLE);
            let mut only = None;
            if last_burst.elapsed() >= BURST_EVERY {
                last_burst = Instant::now();
                wanted += rand::rng().random_range(BURST);
                only = Some(rand::rng().random_range(0..self.tenants.len()));
            }
            for _ in 0..wanted {
                let tenant = self.tenants[only.unwrap_or(rand::rng().random_range(0..self.tenants.len()))];
                let (job, kind) = self.store(tenant).await?;
                stored.push((tenant, job, kind));
                match self.estimator.of_new(kind, tenant, job).await? {
                    Some(eta) => promises.push(Promise { job, kind, is_first: true, eta }),
                    None => report.silent += 1,
                }
            }
            // The newest are those that live.
            let newest = stored.len().saturating_sub(BURST.end)..stored.len();
            for _ in 0..POLLED_PER_TICK.min(newest.len()) {
                let (tenant, job, kind) = stored[rand::rng().random_range(newest.clone())];
                if let Some(eta) = self.estimator.of_live(tenant, job).await? {
                    promises.push(Promise { job, kind, is_first: false, eta });
                }
            }
        }
        self.all_ended().await?;
        self.hold_against(&promises, &mut report).await?;
        Ok(report)
    }

    async fn store(&self, tenant: TenantId) -> anyhow::Result<(JobId, &'static str)> {
        let (new, kind) = match rand::rng().random_range(0..10) {
            0..4 => (NewJob::of(&Quick {})?, Quick::KIND),
            4..6 => (NewJob::of(&Slow {})?, Slow::KIND),
            6..8 => (NewJob::of(&Flaky {})?, Flaky::KIND),
            _ => (NewJob::of(&Asked { profile: rand::rng().random_range(0..10_000) })?, Asked::KIND),
        };
        let mut conn = self.pool.acquire().await?;
        let job = queue::enqueue(&mut conn, new.tenant(tenant)).await?.id();
        self.waker.wake(Queue::Enrich);
        Ok((job, kind))
    }

    async fn all_ended(&self) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            let left =
                sqlx::query_scalar!(r#"select count(*) as "n!" from jobs"#).fetch_one(self.pool).await?;
            if left == 0 {
                return Ok(());
            }
            ensure!(began.elapsed() < ENDED_WITHIN, "{left} jobs do not end");
            tokio::time::sleep(TICK).await;
        }
    }

    async fn hold_against(&self, promises: &[Promise], report: &mut Report) -> anyhow::Result<()> {
        let rows = sqlx::query!("select id, finished_at from jobs_finished").fetch_all(self.pool).await?;
        let ends: BTreeMap<Uuid, DateTime<Utc>> =
            rows.into_iter().map(|row| (row.id, row.finished_at)).collect();
        for promise in promises {
            let Some(ended) = ends.get(&promise.job.uuid()) else { continue };
            if promise.is_first {
                report.stored.add(&promise.eta, *ended);
                report.by_kind.entry(promise.kind).or_default().add(&promise.eta, *ended);
            } else {
                report.polled.add(&promise.eta, *ended);
            }
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
        table.set_header(["told", "jobs", "within", "early", "late", "usual width / time to go"]);
        let kinds = self.by_kind.iter().map(|(kind, coverage)| (*kind, coverage));
        let rows = [("when stored", &self.stored), ("when polled", &self.polled)];
        for (name, coverage) in rows.into_iter().chain(kinds) {
            table.add_row([
                name.to_owned(),
                coverage.all().to_string(),
                format!("{:.1} %", coverage.within() * 100.0),
                coverage.early.to_string(),
                coverage.late.to_string(),
                format!("{:.2}", coverage.usual_width()),
            ]);
        }
        writeln!(f, "{table}")?;
        write!(f, "{} jobs had no range", self.silent)
    }
}

impl Report {
    fn print(&self, as_json: bool) -> anyhow::Result<()> {
        use std::io::Write;
        let json = |coverage: &Coverage| {
            json!({
                "jobs": coverage.all(), "within": coverage.within(), "early": coverage.early, "late": coverage.late,
                "usualWidth": coverage.usual_width(),
            })
        };
        let mut out = std::io::stdout().lock();
        if as_json {
            let kinds: BTreeMap<_, _> =
                self.by_kind.iter().map(|(kind, coverage)| (*kind, json(coverage))).collect();
            let body = json!({
                "stored": json(&self.stored), "polled": json(&self.polled), "kinds": kinds, "silent": self.silent,
            });
            writeln!(out, "{body:#}")?;
        } else {
            writeln!(out, "{self}")?;
        }
        Ok(())
    }
}
