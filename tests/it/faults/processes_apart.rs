//! Every role as a process of its own on an ordinary PostgreSQL.

use std::time::Duration;

use super::fleet::{Fleet, profile};

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
    // The last hour has one tick of the hourly schedule, whoever of the two stores it.
    let ticks = crate::support::found("the tick to be carried out", async || {
        let ticks = sqlx::query_scalar!(
            r#"select count(*) as "ticks!" from jobs_finished
               where kind = 'maintenance.prune_jobs' and ended = 'completed'"#
        );
        Some(ticks.fetch_one(fleet.db.pool()).await.unwrap()).filter(|ticks| *ticks > 0)
    })
    .await;
    assert_eq!(ticks, 1);

    for process in others.iter_mut().chain([&mut fleet.api]) {
        process.signal("TERM");
        let status = process.ended().await;
        assert!(status.success(), "{status}: {}", process.log());
    }
}
