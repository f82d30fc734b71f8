//! The figures that are published, and what each is measured by.

pub mod backlog;
pub mod drain;
pub mod enqueue;
pub mod growth;
mod list;
pub mod ops_reads;
pub mod pickup;
pub mod snapshot;
pub mod telemetry;

use std::time::Duration;

use anyhow::Context;
use queue::Waker;
use sqlx::{query_scalar, raw_sql};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

use crate::fleet::Fleet;
use crate::machine;
use crate::progress::Progress;
use crate::server::{Database, TestServer};

pub use list::FIGURES;

/// What PostgreSQL calls a deadlock.
const DEADLOCK: &str = "40P01";
/// How often a statement that met one is repeated.
const SETTLE_TRIES: u32 = 10;
/// How soon the server notices that a killed worker is gone.
const ALONE_WITHIN: Duration = Duration::from_secs(10);

/// A figure: what it is called, and what it should be.
#[derive(Debug, Clone, Copy)]
pub struct Figure {
    /// Its name on the command line and in JSON.
    pub name: &'static str,
    /// What it says, for people.
    pub title: &'static str,
    /// What it is counted in.
    pub unit: Unit,
    /// What must be reached.
    pub goal: Goal,
    /// What it is measured by.
    pub by: Measurement,
    /// What it is compared with.
    pub beside: Beside,
}

/// Figures of others that one of ours is compared with. Of several, the best counts.
#[derive(Debug, Clone, Copy)]
pub struct Beside {
    /// What peers are asked for, and how their figures' names begin.
    pub peers: Option<(&'static str, &'static str)>,
    /// The same of the physical floor.
    pub floor: Option<(&'static str, &'static str)>,
}

/// What a figure is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Jobs in a second.
    JobsPerSecond,
    /// Milliseconds.
    Milliseconds,
    /// Percent of one core.
    PercentOfCore,
    /// Bytes.
    Bytes,
    /// Mebibytes.
    Mebibytes,
    /// Rows.
    Rows,
    /// Of another figure.
    Ratio,
}

/// What must be reached.
#[derive(Debug, Clone, Copy)]
pub enum Goal {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
    /// So many times what the best peer of the same run reaches.
    TimesBestPeer(f64),
    /// This or less, and at the most so many times another figure of the same run.
    AtMostAndTimes(f64, f64, &'static str),
    /// It is only published.
    None,
}

/// What measures one figure or several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measurement {
    /// See [`enqueue`].
    Enqueue(enqueue::Clients),
    /// See [`drain`].
    Drain(drain::Shape),
    /// See [`pickup`].
    Pickup(pickup::Beside),
    /// See [`growth`].
    Growth,
    /// See [`backlog`]: of so many jobs.
    Backlog(u64),
    /// See [`snapshot`].
    Snapshot,
    /// See [`telemetry`].
    Telemetry,
    /// See [`ops_reads`].
    OpsReads,
}

/// One value of a figure.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// The figure's name.
    pub figure: &'static str,
    /// In the figure's unit.
    pub value: f64,
    /// Processor time used meanwhile.
    pub cores: Option<Cores>,
}

/// Processor time, in seconds, or in cores when it was divided by the time it took.
#[derive(Debug, Clone, Copy)]
pub struct Cores {
    /// Of the worker processes, or of whoever stores jobs.
    pub client: f64,
    /// Of all processes of the server, when its data folder is known.
    pub server: Option<f64>,
}

/// What every measurement is given.
#[derive(Debug)]
pub struct Bench<'a> {
    /// The server.
    pub server: &'a TestServer,
    /// The measured database.
    pub database: Database,
    /// Wakes workers as the API does: from outside the commit path, carried by a task.
    pub waker: Waker,
    /// Tells people how far it is.
    pub progress: Progress,
    relay: JoinHandle<()>,
}

impl<'a> Bench<'a> {
    /// Makes the database that is measured.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn open(server: &'a TestServer, progress: Progress) -> anyhow::Result<Self> {
        let database = server.fresh_database("millpond_bench").await?;
        let waker = Waker::new();
        let relay = tokio::spawn(waker.clone().relay(database.pool.clone()));
        Ok(Self { server, database, waker, progress, relay })
    }

    /// Removes all jobs, finished ones too.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn empty(&self) -> anyhow::Result<()> {
        self.alone().await?;
        raw_sql("truncate jobs, jobs_finished, job_unique_keys, job_pauses")
            .execute(&self.database.pool)
            .await?;
        Ok(())
    }

    /// Waits until the server has noticed that the workers are gone which were killed: they would hold some of the tables and
    /// want others.
    async fn alone(&self) -> anyhow::Result<()> {
        let since = Instant::now();
        loop {
            let busy = query_scalar!(
                r#"select count(*) as "n!" from pg_stat_activity
                   where datname = current_database() and backend_type = 'client backend' and state = 'active'
                     and pid <> pg_backend_pid()"#
            )
            .fetch_one(&self.database.pool)
            .await?;
            if busy == 0 {
                return Ok(());
            }
            anyhow::ensure!(since.elapsed() < ALONE_WITHIN, "{busy} sessions are still at work");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Lets the server finish what the preparation left it to do.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn settle(&self) -> anyhow::Result<()> {
        for statement in ["vacuum (analyze) jobs", "vacuum (analyze) jobs_finished", "checkpoint"] {
            // A worker's upkeep may rebuild an index meanwhile: the two wait for each other, and the server ends one of them.
            let mut tries = 1..=SETTLE_TRIES;
            while let Err(error) = raw_sql(statement).execute(&self.database.pool).await {
                let is_deadlock =
                    error.as_database_error().and_then(|error| error.code()).as_deref() == Some(DEADLOCK);
                if !is_deadlock || tries.next().is_none() {
                    return Err(error.into());
                }
            }
        }
        Ok(())
    }

    /// Processor time so far, in seconds.
    ///
    /// # Errors
    /// When the server's processes cannot be read.
    pub fn cpu(&self, fleet: &Fleet) -> anyhow::Result<Cores> {
        self.cpu_with(fleet.cpu_s())
    }

    /// The same beside processor time of other clients than a fleet.
    ///
    /// # Errors
    /// When the server's processes cannot be read.
    pub fn cpu_with(&self, client: f64) -> anyhow::Result<Cores> {
        let server = self.server.data_dir().map(machine::server_cpu_s).transpose();
        Ok(Cores { client, server: server.context("reading the server's processor time")? })
    }

    /// Ends what runs beside the measurements.
    pub async fn close(self) {
        self.relay.abort();
        self.database.pool.close().await;
    }
}

impl Measurement {
    /// Measures `runs` times, and gives as many samples of each of its figures.
    ///
    /// # Errors
    /// When something fails or is not as it must be: then there is no figure.
    pub async fn run(self, bench: &Bench<'_>, runs: usize) -> anyhow::Result<Vec<Sample>> {
        match self {
            Self::Enqueue(clients) => enqueue::run(bench, clients, runs).await,
            Self::Drain(shape) => drain::run(bench, shape, runs).await,
            Self::Pickup(beside) => pickup::run(bench, beside, runs).await,
            Self::Growth => growth::run(bench, runs).await,
            Self::Backlog(backlog) => backlog::run(bench, backlog, runs).await,
            Self::Snapshot => snapshot::run(bench, runs).await,
            Self::Telemetry => telemetry::run(bench, runs).await,
            Self::OpsReads => ops_reads::run(bench, runs).await,
        }
    }
}

impl Sample {
    /// A value without processor time.
    pub const fn new(figure: &'static str, value: f64) -> Self {
        Self { figure, value, cores: None }
    }

    /// The same with processor time.
    #[must_use]
    pub const fn with(mut self, cores: Cores) -> Self {
        self.cores = Some(cores);
        self
    }
}

impl Cores {
    /// Cores used since `before`, which is so many seconds ago.
    #[must_use]
    pub fn since(self, before: Self, seconds: f64) -> Self {
        let server = self.server.zip(before.server).map(|(now, then)| (now - then) / seconds);
        Self { client: (self.client - before.client) / seconds, server }
    }
}
