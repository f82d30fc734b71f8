//! What operators read, beside a drain, with a million waiting and ten million finished jobs: how long each read takes, and what
//! ten readers cost the drain.
//!
//! How long they take is asked by one reader without a pause. What they cost is asked by ten, each of which stands before a
//! page that shows the overview and one thing more, and asks for both again and again, as a console does; an overview is
//! shared by all who ask within a second, as the API has them share it. Both ask while a worker drains, and at no other time.

mod asked;

use std::sync::Arc;
use std::time::Duration;

use db::{ConnectOptions, Pool};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Bench, Sample, drain, growth};
use crate::fleet::FleetSettings;
use asked::{Known, Read};

/// Failed jobs among the finished ones.
const DEAD: i64 = 100_000;
/// Jobs of one drain: some ten seconds.
const JOBS: u64 = 400_000;
/// Who reads beside it, and how often each does.
const READERS: u32 = 10;
const READ_EVERY: Duration = Duration::from_secs(2);
const OVERVIEW_SHARED_FOR: Duration = Duration::from_secs(1);
/// How often each read is asked for its time, and in how many drains at the most.
const ASKED_MIN: usize = 20;
const ASKED_ALONE: usize = 5;
const DRAINS_MAX: usize = 12;

/// Drains four times `runs` times, and then beside a reader that does not rest.
///
/// # Errors
/// As [`drain::drain`], and when a read fails.
pub async fn run(bench: &Bench<'_>, runs: usize) -> anyhow::Result<Vec<Sample>> {
    let pool = &bench.database.pool;
    bench.empty().await?;
    drain::drain(bench, FleetSettings::slots(500), 1_000).await?;
    growth::grow(bench).await?;
    sqlx::query_file!("src/figures/dead_rows.sql", DEAD).execute(pool).await?;
    sqlx::query_file!("src/figures/told_rows.sql").execute(pool).await?;
    sqlx::raw_sql(
        "truncate queue_history_sums; \
         select queue_history_sum(step_s::smallint, '-infinity', 'infinity') from unnest(array[60, 3600]) as step_s",
    )
    .execute(pool)
    .await?;
    sqlx::query_file!("src/figures/audit_rows.sql").execute(pool).await?;
    sqlx::raw_sql("vacuum (analyze) queue_history, queue_history_sums, queue_history_buckets, audit_log")
        .execute(pool)
        .await?;
    let mut samples = latencies(bench).await?;
    for run in 1..=runs {
        samples.push(cost(bench, run, runs).await?);
    }
    bench.empty().await?;
    // The space is needed for what comes.
    bench.settle().await?;
    Ok(samples)
}

/// The drain beside ten readers, of the drain without.
async fn cost(bench: &Bench<'_>, run: usize, runs: usize) -> anyhow::Result<Sample> {
    // Forth and back, and the next time the other way round: what makes the machine faster or slower meanwhile falls on both.
    let order = if run.is_multiple_of(2) { [true, false, false, true] } else { [false, true, true, false] };
    let (mut with_s, mut without_s) = (0.0, 0.0);
    for beside_readers in order {
        bench.progress.step("ops_reads", run, runs);
        let drains = watch::Sender::new(false);
        let readers = match beside_readers {
            true => Some(Readers::start(bench, &drains).await?),
            false => None,
        };
        let drained = drain::drain_telling(bench, FleetSettings::slots(500), JOBS, &drains).await?;
        drop(drains);
        let (beside, seconds) = match readers {
            Some(readers) => (format!("beside {}", readers.end().await?), &mut with_s),
            None => ("alone".to_owned(), &mut without_s),
        };
        eprintln!("    {:.0} jobs/s {beside}", drained.jobs_per_s);
        *seconds += 1.0 / drained.jobs_per_s;
    }
    Ok(Sample::new("ops_reads_kept", without_s / with_s))
}

/// How long reads take beside drains: as many as it takes to ask each often.
async fn latencies(bench: &Bench<'_>) -> anyhow::Result<Vec<Sample>> {
    let pool = connections(bench, 2).await?;
    let known = Known::of(&pool).await?;
    let reads = known.reads();
    let mut alone = Vec::with_capacity(reads.len());
    for (_, read) in &reads {
        let mut took = Vec::with_capacity(ASKED_ALONE);
        for _ in 0..ASKED_ALONE {
            took.push(known.ask(read).await?.as_secs_f64() * 1e3);
        }
        took.sort_by(f64::total_cmp);
        alone.push(at(&took, 0.5));
    }
    let mut took: Vec<Vec<f64>> = vec![Vec::new(); reads.len()];
    let mut next = 0;
    for drained in 1..=DRAINS_MAX {
        bench.progress.step("ops_reads (each alone)", drained, DRAINS_MAX);
        let drains = watch::Sender::new(false);
        let asking = async {
            let mut is_draining = drains.subscribe();
            is_draining.wait_for(|is| *is).await?;
            while *is_draining.borrow() {
                let which = next % reads.len();
                took[which].push(known.ask(&reads[which].1).await?.as_secs_f64() * 1e3);
                next += 1;
            }
            anyhow::Ok(())
        };
        let draining = drain::drain_telling(bench, FleetSettings::slots(500), JOBS, &drains);
        tokio::try_join!(draining, asking)?;
        if next >= ASKED_MIN * reads.len() {
            break;
        }
    }
    let mut worst: f64 = 0.0;
    let mut overview: f64 = 0.0;
    for (((name, read), took), alone) in reads.iter().zip(&mut took).zip(alone) {
        took.sort_by(f64::total_cmp);
        let (half, most) = (at(took, 0.5), at(took, 0.95));
        let last = took.last().copied().unwrap_or(f64::NAN);
        let times = took.len();
        eprintln!(
            "    {name}: p50 {half:.1} ms, p95 {most:.1} ms, max {last:.1} ms, {times} times; {alone:.1} ms without a drain"
        );
        worst = worst.max(most);
        if matches!(read, Read::Overview) {
            overview = most;
        }
    }
    Ok(vec![Sample::new("ops_read_p95", worst), Sample::new("ops_overview_p95", overview)])
}

fn at(sorted: &[f64], quantile: f64) -> f64 {
    let place = ((sorted.len() as f64 * quantile).ceil() as usize).clamp(1, sorted.len().max(1));
    sorted.get(place - 1).copied().unwrap_or(f64::NAN)
}

/// Ten who look now and then, while there is a drain.
struct Readers(JoinSet<anyhow::Result<(u32, Duration)>>);

impl Readers {
    async fn start(bench: &Bench<'_>, drains: &watch::Sender<bool>) -> anyhow::Result<Self> {
        let pool = connections(bench, READERS).await?;
        let known = Known::of(&pool).await?;
        let mut readers = JoinSet::new();
        let overview = Overview::default();
        for reader in 0..READERS {
            readers.spawn(reads(known.clone(), overview.clone(), reader, drains.subscribe()));
        }
        Ok(Self(readers))
    }

    /// Waits until they have noticed that the drain is over, and says what they asked.
    async fn end(mut self) -> anyhow::Result<String> {
        let (mut reads, mut waited) = (0, Duration::ZERO);
        while let Some(reader) = self.0.join_next().await {
            let (asked, took) = reader??;
            (reads, waited) = (reads + asked, waited + took);
        }
        Ok(format!(
            "{READERS} readers, each asking for the overview and one thing more every {READ_EVERY:?}: {reads} reads, {:.0} ms each",
            waited.as_secs_f64() * 1e3 / f64::from(reads.max(1))
        ))
    }
}

/// When the overview was read last, for all of them.
#[derive(Clone, Default)]
struct Overview(Arc<Mutex<Option<Instant>>>);

impl Overview {
    /// Waits until there is one that is recent enough.
    async fn ask(&self, known: &Known) -> anyhow::Result<Duration> {
        let began = Instant::now();
        let mut read_at = self.0.lock().await;
        if read_at.is_none_or(|at| at.elapsed() >= OVERVIEW_SHARED_FOR) {
            *read_at = Some(Instant::now());
            known.ask(&Read::Overview).await?;
        }
        Ok(began.elapsed())
    }
}

/// One of them; answers how often it asked, and how long it waited for answers.
async fn reads(
    known: Known,
    overview: Overview,
    reader: u32,
    mut drains: watch::Receiver<bool>,
) -> anyhow::Result<(u32, Duration)> {
    let pages = known.reads();
    // Not two at the same page, nor all at once.
    let mut next = pages.len() * reader as usize / READERS as usize;
    let (mut asked, mut waited) = (0, Duration::ZERO);
    drains.wait_for(|is| *is).await?;
    let mut at = Instant::now() + READ_EVERY * reader / READERS;
    loop {
        tokio::select! {
            _ = drains.wait_for(|is| !*is) => return Ok((asked, waited)),
            () = tokio::time::sleep_until(at) => {}
        }
        at += READ_EVERY;
        waited += overview.ask(&known).await? + known.ask(&pages[next % pages.len()].1).await?;
        (next, asked) = (next + 1, asked + 2);
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
