//! Every role as a process of its own on an ordinary PostgreSQL.

use std::time::Duration;

use super::fleet::{Fleet, profile};
use crate::support::{MillpondProcess, found};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_two_workers_and_two_schedulers_work_together_and_stop_in_good_order() {
    let mut fleet = Fleet::start(&[]).await;
    let mut others = [
        fleet.process(&["worker"]),
        fleet.process(&["worker", "--queues", "webhooks,maintenance"]),
        fleet.process(&["scheduler"]),
        fleet.process(&["scheduler"]),
    ];
    let accepted = fleet.enrich((0..40).map(profile)).await;

    fleet.all_told(&accepted, Duration::from_secs(30)).await;
    // Both schedulers look at every tick; each is one job, whoever of them stores it.
    let often = ["schedules", "set", "often", "--cron", "* * * * * *", "--kind", "maintenance.prune_jobs"];
    MillpondProcess::output(&fleet.db, &often);
    let (ticks, jobs) = found("three ticks to be carried out", async || {
        let row = sqlx::query!(
            r#"select count(*) as "ticks!", count(distinct t.job_id) as "jobs!"
               from schedule_ticks t
               join jobs_finished f on f.id = t.job_id and f.ended = 'completed'
               where t.schedule = 'often' and t.outcome = 'enqueued'"#
        );
        let row = row.fetch_one(fleet.db.pool()).await.unwrap();
        Some((row.ticks, row.jobs)).filter(|(ticks, _)| *ticks >= 3)
    })
    .await;
    assert_eq!(ticks, jobs);

    for process in others.iter_mut().chain([&mut fleet.api]) {
        process.signal("TERM");
        let status = process.ended().await;
        assert!(status.success(), "{status}: {}", process.log());
    }
}
