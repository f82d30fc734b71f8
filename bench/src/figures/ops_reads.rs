//! What operators read, beside a drain, with a million waiting and ten million finished jobs: how long each read takes, and what
//! ten readers cost the drain.
//!
//! How long they take is asked by one reader without a pause, while a worker drains. What they cost is asked by ten, each of
//! which looks every five seconds, as a console does that shows a page.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use db::{ConnectOptions, Connection, Pool};
use kernel::ids::{JobId, TenantId};
use queue::{ArgIs, DeadFilter, JobSearch, JobState, Order, history, ops};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::{Bench, Sample, drain, growth};
use crate::fleet::FleetSettings;

/// Failed jobs among the finished ones.
const DEAD: i64 = 100_000;
/// Jobs of one drain: some ten seconds.
const JOBS: u64 = 400_000;
/// Who reads beside it, and how often each does.
const READERS: u32 = 10;
const READ_EVERY: Duration = Duration::from_secs(5);
/// How long a process counts as alive.
const LEASE: Duration = Duration::from_secs(30);

/// Drains four times `runs` times, and once more beside a reader that does not rest.
///
/// # Errors
/// As [`drain::drain`], and when a read fails.
pub async fn run(bench: &Bench<'_>, runs: usize) -> anyhow::Result<Vec<Sample>> {
    bench.empty().await?;
    drain::drain(bench, FleetSettings::slots(500), 1_000).await?;
    growth::grow(bench).await?;
    sqlx::query_file!("src/figures/dead_rows.sql", DEAD).execute(&bench.database.pool).await?;
    let mut samples = Vec::new();
    for run in 1..=runs {
        let order = if run % 2 == 0 { [true, false, false, true] } else { [false, true, true, false] };
        let (mut with_s, mut without_s) = (0.0, 0.0);
        for beside_readers in order {
            bench.progress.step("ops_reads", run, runs);
            let readers = if beside_readers { Some(Readers::start(bench).await?) } else { None };
            let drained = drain::drain(bench, FleetSettings::slots(500), JOBS).await?;
            drop(readers);
            *if beside_readers { &mut with_s } else { &mut without_s } += 1.0 / drained.jobs_per_s;
        }
        samples.push(Sample::new("ops_reads_kept", without_s / with_s));
    }
    samples.extend(latencies(bench).await?);
    bench.empty().await?;
    // The space is needed for what comes.
    bench.settle().await?;
    Ok(samples)
}

/// How long reads take beside a drain.
async fn latencies(bench: &Bench<'_>) -> anyhow::Result<Vec<Sample>> {
    let pool = connections(bench, 1).await?;
    let asked = tokio::spawn(async move {
        let mut conn = pool.acquire().await?;
        let known = Known::of(&pool).await?;
        let mut took: Vec<Vec<f64>> = vec![Vec::new(); READS.len()];
        let began = Instant::now();
        // The drain may be over by then; what is asked after it is asked of an idle server.
        while began.elapsed() < Duration::from_secs(8) {
            for (n, (_, read)) in READS.iter().enumerate() {
                let began = Instant::now();
                read_one(&mut conn, *read, &known).await?;
                took[n].push(began.elapsed().as_secs_f64() * 1e3);
            }
        }
        anyhow::Ok(took)
    });
    drain::drain(bench, FleetSettings::slots(500), JOBS).await?;
    let mut took = asked.await??;
    let mut worst: f64 = 0.0;
    let mut overview: f64 = 0.0;
    for ((name, read), took) in READS.iter().zip(&mut took) {
        took.sort_by(f64::total_cmp);
        let (half, most) = (at(took, 0.5), at(took, 0.95));
        eprintln!("    {name}: p50 {half:.1} ms, p95 {most:.1} ms, {} times", took.len());
        worst = worst.max(most);
        if *read == Read::Overview {
            overview = most;
        }
    }
    Ok(vec![Sample::new("ops_read_p95", worst), Sample::new("ops_overview_p95", overview)])
}

fn at(sorted: &[f64], quantile: f64) -> f64 {
    let place = ((sorted.len() as f64 * quantile).ceil() as usize).clamp(1, sorted.len().max(1));
    sorted.get(place - 1).copied().unwrap_or(f64::NAN)
}

/// Ten who look now and then; dropping it ends them.
struct Readers(#[allow(dead_code, reason = "dropping it aborts them")] JoinSet<anyhow::Result<()>>);

impl Readers {
    async fn start(bench: &Bench<'_>) -> anyhow::Result<Self> {
        let pool = connections(bench, READERS).await?;
        let known = Known::of(&pool).await?;
        let mut readers = JoinSet::new();
        for reader in 0..READERS {
            let (pool, known) = (pool.clone(), known.clone());
            readers.spawn(async move {
                let mut conn = pool.acquire().await?;
                sleep(READ_EVERY * reader / READERS).await;
                // Not two at the same page.
                let mut next = reader as usize * 2;
                loop {
                    let began = Instant::now();
                    read_one(&mut conn, READS[next % READS.len()].1, &known).await?;
                    next += 1;
                    sleep(READ_EVERY.saturating_sub(began.elapsed())).await;
                }
            });
        }
        Ok(Self(readers))
    }
}

async fn connections(bench: &Bench<'_>, count: u32) -> anyhow::Result<Pool> {
    let options = ConnectOptions {
        connections_max: count + 2,
        application_name: "millpond bench readers".to_owned(),
        ..ConnectOptions::from_url(&bench.database.url)?
    };
    Ok(db::connect(&options).await?)
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Read {
    Overview,
    Workers,
    Shares,
    Levels,
    History,
    Newest,
    OfKind,
    OfAbsentKind,
    OfTenant,
    OfRequest,
    WithArg,
    Scheduled,
    Dead,
    DeadAlike,
    EndedLately,
    EndedLongAgo,
    CountDead,
    CountAll,
    CountKind,
    DeadLetters,
    Detail,
}

const READS: [(&str, Read); 21] = [
    ("overview", Read::Overview),
    ("workers", Read::Workers),
    ("tenants' shares", Read::Shares),
    ("limits", Read::Levels),
    ("history of a day", Read::History),
    ("jobs, the newest", Read::Newest),
    ("jobs of a kind", Read::OfKind),
    ("jobs of a kind that there is none of", Read::OfAbsentKind),
    ("jobs of a tenant", Read::OfTenant),
    ("jobs of a request", Read::OfRequest),
    ("jobs with an argument", Read::WithArg),
    ("scheduled jobs, the oldest", Read::Scheduled),
    ("failed jobs, the newest", Read::Dead),
    ("failed jobs of a signature", Read::DeadAlike),
    ("jobs that ended in the last minute", Read::EndedLately),
    ("jobs that ended in a second, ten days ago", Read::EndedLongAgo),
    ("count of failed jobs", Read::CountDead),
    ("count of all jobs", Read::CountAll),
    ("count of a kind", Read::CountKind),
    ("dead letters", Read::DeadLetters),
    ("a job with all that is known", Read::Detail),
];

/// What there is.
#[derive(Debug, Clone)]
struct Known {
    pool: Pool,
    now: DateTime<Utc>,
    job: JobId,
    tenant: TenantId,
}

impl Known {
    async fn of(pool: &Pool) -> anyhow::Result<Self> {
        let conn = &mut pool.acquire().await?;
        let dead = JobSearch { states: vec![JobState::Failed], ..JobSearch::default() };
        let found = queue::search(conn, &dead, Order::Newest, None, 1).await?.jobs;
        let job = found.first().ok_or_else(|| anyhow::anyhow!("no job is dead"))?;
        let now = sqlx::query_scalar!(r#"select now() as "now!""#).fetch_one(conn).await?;
        Ok(Self { pool: pool.clone(), now, job: job.id, tenant: job.tenant })
    }
}

/// Searches by what they are called.
fn search_of(read: Read, known: &Known) -> Option<JobSearch> {
    let all = JobSearch::default();
    let day = Some(known.now - TimeDelta::days(1));
    Some(match read {
        Read::Newest => all,
        Read::OfKind => JobSearch { kinds: vec!["bench.past".into()], ..all },
        Read::OfAbsentKind => JobSearch { kinds: vec!["bench.absent".into()], ..all },
        Read::OfTenant => JobSearch { tenant: Some(known.tenant), ..all },
        Read::OfRequest => JobSearch { request_id: Some("req-absent".into()), ..all },
        Read::WithArg => JobSearch {
            kinds: vec!["bench.past".into()],
            created_from: day,
            arg: Some(ArgIs { path: vec!["i".into()], value: "-1".into() }),
            ..all
        },
        Read::Scheduled => JobSearch { states: vec![JobState::Scheduled], ..all },
        Read::Dead => JobSearch { states: vec![JobState::Failed], ..all },
        Read::DeadAlike => JobSearch {
            signature: Some("the vendor answered # to call #".into()),
            code: Some("VENDOR_DOWN".into()),
            ..all
        },
        Read::EndedLately => JobSearch { finished_from: Some(known.now - TimeDelta::minutes(1)), ..all },
        Read::EndedLongAgo => JobSearch {
            finished_from: Some(known.now - TimeDelta::days(10)),
            finished_before: Some(known.now - TimeDelta::days(10) + TimeDelta::seconds(1)),
            ..all
        },
        _ => return None,
    })
}

async fn read_one(conn: &mut Connection, read: Read, known: &Known) -> anyhow::Result<()> {
    if let Some(search) = search_of(read, known) {
        let order = if read == Read::Scheduled { Order::Oldest } else { Order::Newest };
        queue::search(conn, &search, order, None, 50).await?;
        return Ok(());
    }
    match read {
        Read::Overview => drop(ops::overview(conn, LEASE).await?),
        Read::Workers => drop(ops::workers(conn).await?),
        Read::Shares => drop(ops::shares(conn, known.now - TimeDelta::hours(1), known.now).await?),
        Read::Levels => drop(queue::limits::levels(&known.pool).await?),
        Read::History => {
            let filter = history::HistoryFilter {
                queue: None,
                kind: None,
                tenant: None,
                from: known.now - TimeDelta::days(1),
                to: known.now,
                step: history::Step::Minute,
            };
            drop(history::history(conn, &filter).await?);
        }
        Read::CountDead => {
            let dead = JobSearch { states: vec![JobState::Failed], ..JobSearch::default() };
            queue::count(conn, &dead).await?;
        }
        Read::CountAll => drop(queue::count(conn, &JobSearch::default()).await?),
        Read::CountKind => {
            let kind = JobSearch { kinds: vec!["bench.past".into()], ..JobSearch::default() };
            queue::count(conn, &kind).await?;
        }
        Read::DeadLetters => drop(queue::dead_letters(conn, &DeadFilter::default(), 50).await?),
        Read::Detail => drop(ops::detail(conn, &[known.tenant], known.job).await?),
        _ => {}
    }
    Ok(())
}
