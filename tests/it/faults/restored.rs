//! The manual's way back from a backup, as docs/OPERATIONS.md tells it: a dump taken while jobs run, restored into another
//! database, where workers go on.

use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;

use super::fleet::{Fleet, profile};
use crate::support::{TestDb, eventually, pointless_behind_a_pooler};

const JOBS: usize = 60;

/// One of PostgreSQL's programs, to its good end.
fn run(program: &str, arguments: &[&str]) {
    let mut command = Command::new(program);
    let output =
        command.args(arguments).stdin(Stdio::null()).output().expect("PostgreSQL's programs are there");
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

// S0-165, S0-341
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restore_every_job_of_the_backup_ends_and_receivers_can_tell_what_they_know_already() {
    if pointless_behind_a_pooler("restoring", "dumps and restores go past it") {
        return;
    }
    let variables = [
        ("MILLPOND_QUEUE__LEASE_MS", "1000"),
        ("MILLPOND_QUEUE__SWEEP_MS", "300"),
        // So that they take a while, a few at a time.
        ("MILLPOND_WORKER__CONCURRENCY_ENRICH", "4"),
    ];
    let mut fleet = Fleet::start(&variables).await;
    fleet
        .faults(json!([{ "vendor": "meter", "fault": { "kind": "latency", "ms": 300, "jitterMs": 300 } }]))
        .await;
    let worker = fleet.process(&["worker"]);
    let accepted = fleet.enrich((0..JOBS).map(profile)).await;
    // Some have ended and some run, or the dump would show little.
    eventually("some to have ended", async || fleet.told().await.len() > 5).await;

    let folder = tempfile::tempdir().unwrap();
    let dump = folder.path().join("pond.dump");
    let dump = dump.to_str().expect("UTF-8");
    run("pg_dump", &["--format=custom", "--file", dump, fleet.db.url()]);
    let told_at_the_dump = fleet.told().await.len();

    // They go on for a while, so that some end a first time whose end is not in the backup; then all of it is gone.
    eventually("more to have ended", async || fleet.told().await.len() > told_at_the_dump + 3).await;
    drop(worker);
    fleet.api.signal("KILL");

    let restored = TestDb::new().await;
    sqlx::raw_sql("drop schema public cascade; create schema public").execute(restored.pool()).await.unwrap();
    run("pg_restore", &["--no-owner", "--exit-on-error", "--dbname", restored.url(), dump]);
    let told_before = fleet.told().await;
    fleet.db = restored;

    let _worker = fleet.process(&["worker"]);
    let ended = || async {
        let jobs = sqlx::query!(
            r#"select (select count(*) from jobs) as "live!",
                   (select count(*) from jobs_finished where kind = 'profiles.enrich' and ended = 'completed') as "done!""#
        );
        let jobs = jobs.fetch_one(fleet.db.pool()).await.unwrap();
        (jobs.live, jobs.done)
    };
    let until = std::time::Instant::now() + Duration::from_secs(40);
    while ended().await != (0, JOBS as i64) {
        assert!(std::time::Instant::now() < until, "(live, done): {:?}", ended().await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let told = fleet.told().await;
    assert!(accepted.iter().all(|job| told.contains_key(job)), "{} of {JOBS} were told of", told.len());
    for (job, told) in &told {
        assert_eq!(told.webhook_ids.len(), 1, "{job} was told under {:?}", told.webhook_ids);
    }
    assert!(told_before.len() > told_at_the_dump, "some ended twice, and were told of under one id");
}
