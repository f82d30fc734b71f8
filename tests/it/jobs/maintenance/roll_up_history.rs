//! `maintenance.roll_up_history`: every minute, and after any absence; twice is as good as once.

use std::time::Duration;

use jobs::maintenance::RollUpHistory;
use queue::history::{HistoryFilter, Step};
use queue::{JobStatus, NewJob};

use crate::support::JobKit;

/// Runs the kind once more and answers how many minutes and jobs it rolled up.
async fn rolled_up(kit: &JobKit) -> (u64, u64) {
    kit.enqueue(NewJob::of(&RollUpHistory {}).unwrap()).await;
    let job = kit.run_one::<RollUpHistory>().await;
    assert_eq!(job.status, JobStatus::Completed, "{job:?}");
    let result = job.result.unwrap();
    (result["minutes"].as_u64().unwrap(), result["jobs"].as_u64().unwrap())
}

/// How many jobs of the kind are in the minutes of history.
async fn counted(kit: &JobKit) -> u64 {
    let mut conn = kit.db.pool().acquire().await.unwrap();
    let now = kit.clock.now().await;
    let filter = HistoryFilter {
        queue: None,
        kind: Some("maintenance.roll_up_history".to_owned()),
        tenant: None,
        from: now - Step::Minute.kept(),
        to: now,
        step: Step::Minute,
    };
    let history = queue::history::history(&mut conn, &filter).await.unwrap();
    history.points.iter().map(queue::history::Point::ended).sum()
}

#[tokio::test]
async fn it_goes_on_where_it_ended_and_counts_itself() {
    let kit = JobKit::new().await;
    let (minutes, jobs) = rolled_up(&kit).await;
    assert!(
        (46 * 60..=48 * 60).contains(&minutes),
        "a new installation knows that nothing happened: {minutes}"
    );
    assert_eq!((jobs, counted(&kit).await), (0, 0));
    kit.clock.advance(Duration::from_secs(60)).await;
    assert_eq!(rolled_up(&kit).await.0, 1);
    kit.clock.advance(Duration::from_secs(3_600)).await;
    assert_eq!(rolled_up(&kit).await.0, 60, "missed runs are caught up with");
    assert_eq!(counted(&kit).await, 2);
}

#[tokio::test]
async fn a_run_whose_end_was_lost_is_repeated_without_a_second_effect() {
    let kit = JobKit::new().await;
    rolled_up(&kit).await;
    kit.clock.advance(Duration::from_secs(180)).await;
    kit.enqueue(NewJob::of(&RollUpHistory {}).unwrap()).await;
    let job = kit.run_twice::<RollUpHistory>().await;
    assert_eq!(job.status, JobStatus::Completed);
    assert_eq!(job.result.unwrap()["minutes"], 0, "the first run did it all");
    assert_eq!(counted(&kit).await, 1);
}
