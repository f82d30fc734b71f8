//! Workers that die without a word.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::json;
use uuid::Uuid;

use super::fleet::{Fleet, profile};
use crate::support::{MillpondProcess, found, pooled};

/// A job runs again at most the sum of these two after its worker died.
const LEASE: Duration = Duration::from_secs(1);
const SWEEP: Duration = Duration::from_millis(500);
const JOBS: usize = 2_000;
const KILLS: usize = 10;
/// What a loaded machine may add between the moment that a sweep is due and its statement.
const SLACK: Duration = Duration::from_millis(700);
/// The same behind a pooler, where the sweep waits for a session beside all other clients.
const POOLED_SLACK: Duration = Duration::from_millis(1_500);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_killed_ten_times_lose_no_job_and_tell_nothing_under_two_ids() {
    let (lease_ms, sweep_ms) = (LEASE.as_millis().to_string(), SWEEP.as_millis().to_string());
    let settings = [("MILLPOND_QUEUE__LEASE_MS", &*lease_ms), ("MILLPOND_QUEUE__SWEEP_MS", &*sweep_ms)];
    let fleet = Fleet::start(&settings).await;
    // Slow enough that every kill meets running jobs.
    let slow = json!([{ "vendor": "meter", "fault": { "kind": "latency", "ms": 50, "jitterMs": 150 } }]);
    fleet.faults(slow).await;
    let accepted = fleet.enrich((0..JOBS).map(|number| profile(number % 400))).await;
    let mut workers = [fleet.process(&["worker"]), fleet.process(&["worker"])];
    let mut deaths: Vec<(Uuid, DateTime<Utc>)> = Vec::new();

    for kill in 0..KILLS {
        let victim = &mut workers[kill % 2];
        let process = found("the worker to hold leases", async || leases_of(&fleet, victim).await).await;
        victim.kill_9();
        deaths.push((process, kernel::clock::now()));
        *victim = fleet.process(&["worker"]);
    }

    let told = fleet.all_told(&accepted, Duration::from_secs(90)).await;
    let completed = told.values().filter(|told| told.body()["status"] == "completed").count();
    assert_eq!(completed, JOBS, "a job failed though its vendor was well");
    let slack = if pooled() { POOLED_SLACK } else { SLACK };
    let late = taken_back_later_than(&fleet, &deaths, LEASE + SWEEP + slack).await;
    assert!(late.is_empty(), "taken back later than lease + sweep: {late:?}");
}

/// The worker's incarnation once it runs jobs, or at once when no work is left for it to be met in.
async fn leases_of(fleet: &Fleet, worker: &MillpondProcess) -> Option<Uuid> {
    let pid = i32::try_from(worker.pid()).unwrap();
    sqlx::query_scalar!(
        r#"select p.id from worker_processes p
           where p.pid = $1
             and (exists (select from jobs where leased_by = p.id and state = 'running')
                  or not exists (select from jobs))"#,
        pid,
    )
    .fetch_optional(fleet.db.pool())
    .await
    .unwrap()
}

/// How much later than allowed jobs of dead workers were taken back, by their histories of errors.
async fn taken_back_later_than(
    fleet: &Fleet,
    deaths: &[(Uuid, DateTime<Utc>)],
    bound: Duration,
) -> Vec<chrono::TimeDelta> {
    let mut late = Vec::new();
    let mut taken_back = 0;
    for (process, died_at) in deaths {
        let times = sqlx::query_scalar!(
            r#"select (entry ->> 'at')::timestamptz as "at!"
               from jobs_finished f, jsonb_array_elements(f.errors) as entry
               where entry ->> 'code' = 'WORKER_LOST' and entry ->> 'worker' = $1"#,
            process.to_string(),
        )
        .fetch_all(fleet.db.pool())
        .await
        .unwrap();
        taken_back += times.len();
        late.extend(
            times
                .into_iter()
                .map(|at| at - *died_at)
                .filter(|delay| delay.to_std().is_ok_and(|delay| delay > bound)),
        );
    }
    assert!(taken_back > 0, "no kill met a running job: the test shows nothing");
    late
}
