//! Of jobs with one key, one at a time.

use std::collections::HashSet;
use std::time::Duration;

use db::Pool;
use futures::future::join_all;
use kernel::clock::now;
use kernel::ids::{JobId, PartnerId, TenantId};
use queue::{End, Enqueued, NewJob};

use super::kinds::Urgent;
use super::*;
use crate::support::{TestClock, TestDb, so_many_wait, within};

async fn enqueue(pool: &Pool, job: NewJob) -> Enqueued {
    let mut conn = pool.acquire().await.unwrap();
    queue::enqueue(&mut conn, job).await.unwrap()
}

#[tokio::test]
async fn a_duplicate_is_told_which_job_holds_the_key() {
    let db = TestDb::new().await;
    let first = enqueue(db.pool(), plain().unique("tiktok/@mrbeast")).await;
    assert!(matches!(first, Enqueued::New(_)));
    let second = enqueue(db.pool(), plain().unique("tiktok/@mrbeast")).await;
    assert_eq!(second, Enqueued::Existing(first.id()));
}

#[tokio::test]
async fn keys_of_other_tenants_and_kinds_do_not_clash() {
    let db = TestDb::new().await;
    let other = TenantId::from(PartnerId::new());
    for job in [plain(), plain().tenant(other), NewJob::of(&Urgent {}).unwrap()] {
        assert!(matches!(enqueue(db.pool(), job.unique("same")).await, Enqueued::New(_)));
    }
}

#[tokio::test]
async fn the_key_is_free_when_its_holder_has_ended_however_it_ended() {
    let db = TestDb::new().await;
    for ending in [End::Completed(None), End::Failed(failure("X")), End::Cancelled(failure("Y"))] {
        let claim = running(db.pool(), plain().unique("one")).await;
        end(db.pool(), claim.lease, ending).await;
    }
    let queued = stored(db.pool(), plain().unique("one")).await;
    cancel(db.pool(), TenantId::SYSTEM, queued).await;
    assert!(matches!(enqueue(db.pool(), plain().unique("one")).await, Enqueued::New(_)));
}

#[tokio::test]
async fn a_holder_that_rolls_back_never_costs_the_other_its_job() {
    let db = TestDb::new().await;
    let mut first = db::begin(db.pool()).await.unwrap();
    queue::enqueue(&mut first, plain().unique("one")).await.unwrap();
    let pool = db.pool().clone();
    let second = tokio::spawn(async move { enqueue(&pool, plain().unique("one")).await });
    so_many_wait(db.pool(), 1).await;
    first.rollback().await.unwrap();
    let second = within("the second request", second).await.unwrap();
    assert!(matches!(second, Enqueued::New(_)));
    assert_eq!(state(db.pool(), second.id()).await.as_deref(), Some("ready"));
}

#[tokio::test]
async fn who_waits_for_a_holder_that_commits_is_told_of_it() {
    let db = TestDb::new().await;
    let mut first = db::begin(db.pool()).await.unwrap();
    let holder = queue::enqueue(&mut first, plain().unique("one")).await.unwrap().id();
    let pool = db.pool().clone();
    let second = tokio::spawn(async move { enqueue(&pool, plain().unique("one")).await });
    so_many_wait(db.pool(), 1).await;
    first.commit().await.unwrap();
    assert_eq!(within("the second request", second).await.unwrap(), Enqueued::Existing(holder));
}

#[tokio::test]
async fn of_many_who_race_for_a_key_exactly_one_stores_a_job() {
    let db = TestDb::new().await;
    for round in 0..10 {
        let key = format!("round {round}");
        let answers = join_all((0..10).map(|_| enqueue(db.pool(), plain().unique(&*key)))).await;
        let new = answers.iter().filter(|answer| matches!(answer, Enqueued::New(_))).count();
        let ids: HashSet<JobId> = answers.iter().map(|answer| answer.id()).collect();
        assert_eq!((new, ids.len()), (1, 1), "{answers:?}");
    }
}

#[tokio::test]
async fn a_key_that_changes_hands_all_the_time_has_one_live_holder_and_loses_no_job() {
    let db = TestDb::new().await;
    let worker = process(db.pool()).await;
    let asking = (0..6).map(|_| async {
        let mut new = Vec::new();
        for _ in 0..30 {
            if let Enqueued::New(job) = enqueue(db.pool(), plain().unique("hot")).await {
                new.push(job);
            }
        }
        new
    });
    let asked = std::sync::atomic::AtomicBool::new(true);
    let working = async {
        let mut ended = Vec::new();
        loop {
            let over = !asked.load(std::sync::atomic::Ordering::Acquire);
            let jobs = queue::claim(db.pool(), worker, Queue::Enrich, 10).await.unwrap();
            assert!(jobs.len() <= 1, "two holders of one key were live");
            for job in &jobs {
                end(db.pool(), job.lease, End::Completed(None)).await;
                ended.push(job.lease.job);
            }
            if over && jobs.is_empty() {
                return ended;
            }
        }
    };
    let asking = async {
        let new = join_all(asking).await;
        asked.store(false, std::sync::atomic::Ordering::Release);
        new
    };
    let (new, mut ended) = tokio::join!(asking, working);
    let mut new: Vec<JobId> = new.into_iter().flatten().collect();
    new.sort();
    ended.sort();
    assert!(!new.is_empty());
    assert_eq!(new, ended, "every job that was stored ran, once");
}

#[tokio::test]
async fn a_key_held_until_an_instant_outlives_its_job() {
    let db = TestDb::new().await;
    let until = now() + Duration::from_secs(3_600);
    let claim = running(db.pool(), plain().unique_until("tick", until)).await;
    end(db.pool(), claim.lease, End::Completed(None)).await;
    let second = enqueue(db.pool(), plain().unique_until("tick", until)).await;
    assert_eq!(second, Enqueued::Existing(claim.lease.job));
}

#[tokio::test]
async fn a_key_whose_instant_has_passed_is_held_until_its_job_ends() {
    let db = TestDb::new().await;
    let passed = now() - Duration::from_secs(1);
    let claim = running(db.pool(), plain().unique_until("tick", passed)).await;
    let second = enqueue(db.pool(), plain().unique_until("tick", passed)).await;
    assert_eq!(second, Enqueued::Existing(claim.lease.job));
    end(db.pool(), claim.lease, End::Completed(None)).await;
    assert!(matches!(enqueue(db.pool(), plain().unique("tick")).await, Enqueued::New(_)));
}

#[tokio::test]
async fn a_key_whose_instant_passes_after_its_job_ended_is_free_without_anybodys_upkeep() {
    let db = TestDb::new().await;
    let until = now() + Duration::from_secs(3_600);
    let claim = running(db.pool(), plain().unique_until("tick", until)).await;
    end(db.pool(), claim.lease, End::Completed(None)).await;
    sqlx::query!("update job_unique_keys set held_until = now() - interval '1 second'")
        .execute(db.pool())
        .await
        .unwrap();
    assert!(matches!(enqueue(db.pool(), plain().unique("tick")).await, Enqueued::New(_)));
}

#[tokio::test]
async fn of_twins_in_one_batch_the_first_stands_for_both() {
    let db = TestDb::new().await;
    let mut conn = db.pool().acquire().await.unwrap();
    let batch = vec![plain().unique("a"), plain(), plain().unique("a"), plain().unique("b")];
    let answers = queue::enqueue_many(&mut conn, batch).await.unwrap();
    assert_eq!(answers[2], Enqueued::Existing(answers[0].id()));
    for position in [0, 1, 3] {
        assert!(matches!(answers[position], Enqueued::New(_)), "{answers:?}");
    }
}

#[tokio::test]
async fn the_holder_is_named_in_whatever_state_it_is() {
    let db = TestDb::new().await;
    let other = stored(db.pool(), plain().delay(LONG).awaited()).await;
    let held = |key: &str| plain().unique(key);
    let parked = running(db.pool(), held("parked")).await.lease;
    settle(db.pool(), parked, Settlement::Park).await;
    let failed_once = running(db.pool(), held("failed once")).await.lease;
    settle(db.pool(), failed_once, Settlement::Retry(LONG, serde_json::json!({"code": "X", "message": "x"})))
        .await;
    let runs = running(db.pool(), held("running")).await.lease;
    let holders = [
        ("parked", parked.job),
        ("failed once", failed_once.job),
        ("running", runs.job),
        ("waiting", stored(db.pool(), held("waiting").after(TenantId::SYSTEM, other)).await),
        ("scheduled", stored(db.pool(), held("scheduled").delay(LONG)).await),
        ("ready", stored(db.pool(), held("ready")).await),
    ];
    for (key, holder) in holders {
        assert_eq!(enqueue(db.pool(), held(key)).await, Enqueued::Existing(holder), "{key}");
    }
}

#[tokio::test]
async fn a_key_until_the_start_is_free_when_the_first_attempt_begins() {
    let db = TestDb::new().await;
    let job = || plain().unique_until_started("sync");
    let first = stored(db.pool(), job()).await;
    assert_eq!(enqueue(db.pool(), job()).await, Enqueued::Existing(first));
    let claim = claimed(db.pool(), process(db.pool()).await).await;
    // What it reads now may be older than the next wish.
    let second = enqueue(db.pool(), job()).await;
    assert!(matches!(second, Enqueued::New(_)));
    end(db.pool(), claim.lease, End::Completed(None)).await;
    assert_eq!(
        enqueue(db.pool(), job()).await,
        Enqueued::Existing(second.id()),
        "the first's end frees nothing"
    );
}

#[tokio::test]
async fn a_job_that_has_begun_does_not_hold_its_key_until_the_start_again_between_attempts() {
    let db = TestDb::new().await;
    let job = || plain().unique_until_started("sync");
    let claim = running(db.pool(), job()).await;
    settle(db.pool(), claim.lease, Settlement::Again(Duration::ZERO)).await;
    assert_eq!(state(db.pool(), claim.lease.job).await.as_deref(), Some("ready"));
    assert!(matches!(enqueue(db.pool(), job()).await, Enqueued::New(_)));
}

#[tokio::test]
async fn a_key_until_the_start_is_free_when_its_job_ends_without_one() {
    let db = TestDb::new().await;
    let job = || plain().unique_until_started("sync").delay(LONG);
    let first = stored(db.pool(), job()).await;
    cancel(db.pool(), TenantId::SYSTEM, first).await;
    assert!(matches!(enqueue(db.pool(), job()).await, Enqueued::New(_)));
}

#[tokio::test]
async fn a_key_for_a_period_is_free_when_the_period_is_over_and_not_before() {
    const HOUR: Duration = Duration::from_secs(3_600);
    let db = TestDb::new().await;
    let clock = TestClock::install(&db).await;
    let job = || plain().unique_for("daily", HOUR);
    let claim = running(db.pool(), job()).await;
    clock.advance(HOUR / 2).await;
    end(db.pool(), claim.lease, End::Completed(None)).await;
    assert_eq!(enqueue(db.pool(), job()).await, Enqueued::Existing(claim.lease.job), "half an hour early");
    clock.advance(HOUR / 2).await;
    let second = enqueue(db.pool(), job()).await;
    assert!(matches!(second, Enqueued::New(_)));
    clock.advance(HOUR * 2).await;
    assert_eq!(
        enqueue(db.pool(), job()).await,
        Enqueued::Existing(second.id()),
        "over, but it has not ended"
    );
}

#[tokio::test]
async fn a_holder_that_rolls_back_frees_its_period_and_its_start_too() {
    let db = TestDb::new().await;
    for job in [|| plain().unique_for("one", LONG), || plain().unique_until_started("other")] {
        let mut tx = db::begin(db.pool()).await.unwrap();
        queue::enqueue(&mut tx, job()).await.unwrap();
        tx.rollback().await.unwrap();
        let mut tx = db::begin(db.pool()).await.unwrap();
        assert!(matches!(queue::enqueue(&mut tx, job()).await.unwrap(), Enqueued::New(_)));
        tx.commit().await.unwrap();
    }
}
