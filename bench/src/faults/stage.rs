//! What a scenario is given, and what it does its work with.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use db::{ConnectOptions, Pool};
use kernel::ids::JobId;
use nix::sys::signal::Signal;
use queue::NewJob;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::kinds;
use super::ledger::{Expected, Findings, Ledger};
use super::load::{self, Load};
use super::process::{Launcher, WorkerProcess};
use super::worker::WorkerSpec;

/// How much a scenario does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// Seconds, beside other tests.
    Suite,
    /// As much as the promise says, alone.
    Long,
}

impl Size {
    /// The first in the suite, the second in a long run.
    #[must_use]
    pub fn of<T>(self, suite: T, long: T) -> T {
        match self {
            Self::Suite => suite,
            Self::Long => long,
        }
    }
}

/// By when the full rate is back after a fault.
pub const FULL_RATE_WITHIN: Duration = Duration::from_secs(10);

/// Where a scenario plays.
#[derive(Debug, Clone)]
pub struct Stage {
    /// An empty database with our schema, of which the scenario may do anything.
    pub url: String,
    /// How workers are started.
    pub launcher: Launcher,
    /// How much is done.
    pub size: Size,
    /// Whether workers may use prepared statements and listen; not behind a pooler in transaction mode.
    pub sessions: bool,
    /// Tell on standard error how far it is.
    pub tells: bool,
}

/// What came of a scenario.
#[derive(Debug)]
pub struct Report {
    /// What the checker found.
    pub findings: Findings,
    /// Figures, by what they are.
    pub notes: Vec<(&'static str, String)>,
}

/// The longest wait for all jobs to end once no fault is made any more.
const DRAIN_MAX: Duration = Duration::from_secs(60);
/// How long a question is repeated whose answer is lost.
const ASK_MAX: Duration = Duration::from_secs(10);
/// The longest wait for a worker to register.
const REGISTER_MAX: Duration = Duration::from_secs(30);

/// A scenario that is being played: its workers, its jobs, its figures.
#[derive(Debug)]
pub struct Play {
    /// The scenario's own connections, past any proxy.
    pub pool: Pool,
    /// What was accepted.
    pub ledger: Ledger,
    /// The workers that should be running.
    pub workers: Vec<WorkerProcess>,
    stage: Stage,
    logs: TempDir,
    notes: Vec<(&'static str, String)>,
    told_at: Instant,
}

impl Play {
    /// Makes the tables; no worker runs yet.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub async fn begin(stage: &Stage) -> anyhow::Result<Self> {
        let options = ConnectOptions {
            connections_max: 4,
            application_name: "millpond faults".to_owned(),
            acquire_timeout: Duration::from_secs(2),
            prepared: stage.sessions,
            ..ConnectOptions::from_url(&stage.url)?
        };
        let pool = db::connect(&options).await?;
        kinds::create_tables(&pool).await.context("making the tables of traces")?;
        Ok(Self {
            pool,
            ledger: Ledger::default(),
            workers: Vec::new(),
            stage: stage.clone(),
            logs: tempfile::Builder::new().prefix("millpond-faults-").tempdir()?,
            notes: Vec::new(),
            told_at: Instant::now(),
        })
    }

    /// How workers of this stage usually are.
    #[must_use]
    pub fn spec(&self) -> WorkerSpec {
        let sessions = self.stage.sessions;
        WorkerSpec { prepared: sessions, listen: sessions, ..WorkerSpec::new(&self.stage.url) }
    }

    /// The same with a lease that no busy machine lets run out, for where none is meant to.
    #[must_use]
    pub fn calm_spec(&self) -> WorkerSpec {
        WorkerSpec { lease_ms: 10_000, ..self.spec() }
    }

    /// Starts workers and waits until they have registered.
    ///
    /// # Errors
    /// When one does not.
    pub async fn start(&mut self, spec: &WorkerSpec, count: usize) -> anyhow::Result<()> {
        for _ in 0..count {
            let worker = WorkerProcess::start(&self.stage.launcher, spec, self.logs.path())?;
            self.workers.push(worker);
        }
        for position in self.workers.len() - count..self.workers.len() {
            self.incarnation(position).await?;
        }
        Ok(())
    }

    /// Replaces a worker that has ended or is to.
    ///
    /// # Errors
    /// When the new one cannot be started.
    pub fn replace(&mut self, position: usize, spec: &WorkerSpec) -> anyhow::Result<()> {
        self.workers[position] = WorkerProcess::start(&self.stage.launcher, spec, self.logs.path())?;
        Ok(())
    }

    /// Where logs of workers are.
    #[must_use]
    pub fn logs(&self) -> &Path {
        self.logs.path()
    }

    /// The id under which a worker holds its leases now; waits until it has one.
    ///
    /// # Errors
    /// When it registers none, or ends.
    pub async fn incarnation(&mut self, position: usize) -> anyhow::Result<Uuid> {
        let began = Instant::now();
        loop {
            let pid = self.workers[position].pid();
            if let Some(id) = self.incarnation_of(pid).await? {
                return Ok(id);
            }
            let worker = &mut self.workers[position];
            if let Some(status) = worker.ended()? {
                bail!("a worker ended by itself ({status}); it said:\n{}", worker.last_words());
            }
            if began.elapsed() > REGISTER_MAX {
                bail!("a worker did not register; it said:\n{}", worker.last_words());
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    #[allow(clippy::disallowed_methods, reason = "fault runs have no queries that are checked ahead")]
    async fn incarnation_of(&self, pid: i32) -> anyhow::Result<Option<Uuid>> {
        let query = "select id from worker_processes where pid = $1 order by id desc limit 1";
        self.asked(async |pool| sqlx::query_scalar(query).bind(pid).fetch_optional(pool).await).await
    }

    /// Whether an incarnation is still believed to be alive.
    ///
    /// # Errors
    /// When the database cannot be asked.
    #[allow(clippy::disallowed_methods, reason = "fault runs have no queries that are checked ahead")]
    pub async fn is_registered(&self, incarnation: Uuid) -> anyhow::Result<bool> {
        let query = "select exists (select from worker_processes where id = $1)";
        self.asked(async |pool| sqlx::query_scalar(query).bind(incarnation).fetch_one(pool).await).await
    }

    /// Whether a job has ended.
    ///
    /// # Errors
    /// When the database cannot be asked.
    #[allow(clippy::disallowed_methods, reason = "fault runs have no queries that are checked ahead")]
    pub async fn has_ended(&self, job: JobId) -> anyhow::Result<bool> {
        let query = "select exists (select from jobs_finished where id = $1)";
        self.asked(async |pool| sqlx::query_scalar(query).bind(job.uuid()).fetch_one(pool).await).await
    }

    /// How many jobs have not ended.
    ///
    /// # Errors
    /// When the database cannot be asked.
    #[allow(clippy::disallowed_methods, reason = "fault runs have no queries that are checked ahead")]
    pub async fn depth(&self) -> anyhow::Result<i64> {
        let query = "select count(*) from jobs where kind like 'fault.%'";
        self.asked(async |pool| sqlx::query_scalar(query).fetch_one(pool).await).await
    }

    /// How many jobs are parked.
    ///
    /// # Errors
    /// When the database cannot be asked.
    #[allow(clippy::disallowed_methods, reason = "fault runs have no queries that are checked ahead")]
    pub async fn parked(&self) -> anyhow::Result<i64> {
        let query = "select count(*) from jobs where state = 'parked'";
        self.asked(async |pool| sqlx::query_scalar(query).fetch_one(pool).await).await
    }

    /// Asks the database, and asks again when the connection is cut.
    ///
    /// # Errors
    /// When it does not answer at all.
    pub async fn asked<T>(&self, ask: impl AsyncFn(&Pool) -> Result<T, sqlx::Error>) -> anyhow::Result<T> {
        let began = Instant::now();
        loop {
            match ask(&self.pool).await {
                Ok(answer) => return Ok(answer),
                Err(error) if began.elapsed() > ASK_MAX => return Err(error).context("asking"),
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Stores jobs that are to end in a certain way.
    ///
    /// # Errors
    /// When that is not confirmed.
    pub async fn accept(&self, jobs: Vec<NewJob>, expected: Expected) -> anyhow::Result<()> {
        load::accept(&self.pool, &self.ledger, jobs, expected).await
    }

    /// Begins a load, and waits until it is carried in full.
    ///
    /// # Errors
    /// When the workers do not carry it.
    pub async fn load(&self, rate: u32, pause_ms: u64) -> anyhow::Result<Load> {
        let load = Load::begin(&self.pool, &self.ledger, rate, pause_ms);
        load.full_rate(FULL_RATE_WITHIN).await.context("the load is not carried before any fault")?;
        Ok(load)
    }

    /// Keeps a figure for the report.
    pub fn note(&mut self, what: &'static str, figure: impl Into<String>) {
        self.notes.push((what, figure.into()));
    }

    /// Says how far it is, if somebody wants to know, every two seconds at the most.
    pub fn tell(&mut self, done: usize, of: usize, what: &str, load: Option<&Load>) {
        const TELL_EVERY: Duration = Duration::from_secs(2);
        if !self.stage.tells || (self.told_at.elapsed() < TELL_EVERY && done < of) {
            return;
        }
        self.told_at = Instant::now();
        let rate =
            load.and_then(Load::rate_now).map(|rate| format!(", {rate:.0} jobs/s")).unwrap_or_default();
        eprintln!("    {done}/{of} {what}, {} jobs accepted{rate}", self.ledger.accepted());
    }

    /// Waits until no job is left, or no longer than a bound.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn drained(&self) -> anyhow::Result<Duration> {
        let began = Instant::now();
        while self.depth().await? > 0 && began.elapsed() < DRAIN_MAX {
            sleep(Duration::from_millis(20)).await;
        }
        Ok(began.elapsed())
    }

    /// Fails when a worker has ended by itself.
    ///
    /// # Errors
    /// With its last words.
    pub fn all_alive(&mut self) -> anyhow::Result<()> {
        for worker in &mut self.workers {
            if let Some(status) = worker.ended()? {
                bail!("a worker ended by itself ({status}); it said:\n{}", worker.last_words());
            }
        }
        Ok(())
    }

    /// Waits for what is left, stops the workers as SIGTERM does, and checks.
    ///
    /// # Errors
    /// When a worker has ended by itself, or does not end well.
    pub async fn end(mut self) -> anyhow::Result<Report> {
        let drained = self.drained().await?;
        self.note("drained after", format!("{:.1} s", drained.as_secs_f64()));
        self.all_alive()?;
        self.stop_all().await?;
        let findings = self.ledger.check(&self.pool).await?;
        if !findings.is_good() && self.stage.tells {
            eprintln!("    logs of the workers: {}", self.logs.path().display());
            self.logs.disable_cleanup(true);
        }
        self.pool.close().await;
        Ok(Report { findings, notes: self.notes })
    }

    /// SIGTERM to all, and waits for good ends.
    ///
    /// # Errors
    /// When one ends badly or not at all.
    pub async fn stop_all(&mut self) -> anyhow::Result<()> {
        for worker in &self.workers {
            worker.signal(Signal::SIGTERM)?;
        }
        let began = Instant::now();
        for worker in &mut self.workers {
            loop {
                match worker.ended()? {
                    Some(status) if status.success() => break,
                    Some(status) => bail!("a worker ended badly ({status}):\n{}", worker.last_words()),
                    None if began.elapsed() > DRAIN_MAX => {
                        bail!("a worker did not end:\n{}", worker.last_words());
                    }
                    None => sleep(Duration::from_millis(20)).await,
                }
            }
        }
        Ok(())
    }
}
