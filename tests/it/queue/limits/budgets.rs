//! Budgets: reserved at the claim, settled to what was spent.

use kernel::ids::PartnerId;
use queue::limits::{Period, Spending};

use super::callers::{Buyer, COST};
use super::*;
use crate::support::JobKit;

const BUDGET: &str = "test.budget";

/// A day's budget for so many jobs, and more jobs than that.
async fn stage(jobs_worth: i64, jobs: usize) -> JobKit {
    let kit = JobKit::new().await;
    let pool = kit.db.pool();
    let shape = Shape::Budget { max_minor: COST * jobs_worth, period: Period::Day };
    define(pool, &[(BUDGET, shape)]).await;
    limits::register_kinds(pool, &[(Buyer::KIND, &Buyer::POLICY)]).await.unwrap();
    for _ in 0..jobs {
        stored(pool, NewJob::of(&Buyer::default()).unwrap()).await;
    }
    kit.leaves::<Buyer>(jobs);
    kit
}

async fn claim(pool: &Pool, process: Uuid) -> Vec<Claimed> {
    queue::claim(pool, process, Queue::Enrich, 100).await.unwrap()
}

async fn spend(pool: &Pool, job: &Claimed, spent: &[i64], goes_back: bool) {
    let spent = spent.iter().map(|amount| (BUDGET.to_owned(), *amount)).collect();
    let spending = Spending { lease: job.lease, spent, goes_back };
    // A repetition changes nothing.
    for _ in 0..2 {
        limits::settle_spending(pool, std::slice::from_ref(&spending)).await.unwrap();
    }
}

#[tokio::test]
async fn only_as_many_jobs_are_claimed_as_the_budget_can_pay_for() {
    let kit = stage(2, 5).await;
    let pool = kit.db.pool();
    let process = process(pool).await;
    let claimed = claim(pool, process).await;
    assert_eq!(claimed.len(), 2);
    let before = level(pool, BUDGET, "").await;
    assert_eq!((before.used, before.reserved), (2 * COST, 2 * COST));

    spend(pool, &claimed[0], &[1, 2], false).await;
    assert_eq!(level(pool, BUDGET, "").await.used, COST + 3);
    assert!(claim(pool, process).await.is_empty(), "what is left pays for no whole job");
    spend(pool, &claimed[1], &[], true).await;
    assert_eq!(claim(pool, process).await.len(), 1, "what was not spent pays for another");
    let after = level(pool, BUDGET, "").await;
    assert_eq!((after.used, after.reserved), (COST + 3, COST));
}

#[tokio::test]
async fn lanes_that_share_a_budget_do_not_claim_it_twice() {
    let kit = stage(3, 2).await;
    let pool = kit.db.pool();
    for _ in 0..4 {
        let owner = TenantId::from_uuid(PartnerId::new().uuid());
        stored(pool, NewJob::of(&Buyer::default()).unwrap().tenant(owner)).await;
    }
    kit.leaves::<Buyer>(6);
    let mut claimed = 0;
    for _ in 0..3 {
        claimed += claim(pool, process(pool).await).await.len();
    }
    assert_eq!(claimed, 3);
    assert_eq!(level(pool, BUDGET, "").await.used, 3 * COST);
}

#[tokio::test]
async fn what_a_dead_process_had_reserved_stays_spent_and_the_retry_reserves_anew() {
    let kit = stage(2, 1).await;
    let pool = kit.db.pool();
    let dead = process(pool).await;
    assert_eq!(claim(pool, dead).await.len(), 1);
    silence(pool, dead).await;
    queue::sweep(pool, LONG).await.unwrap();
    let alive = process(pool).await;
    assert_eq!(limits::clean_reservations(pool, alive, &[], LONG).await.unwrap(), 1);
    assert_eq!(level(pool, BUDGET, "").await.used, COST);
    assert_eq!(claim(pool, alive).await.len(), 1);
    assert_eq!(level(pool, BUDGET, "").await.used, 2 * COST);
}

/// What an owner's jobs spent of the budget, and what is reserved for them.
async fn spent_by(pool: &Pool, tenant: TenantId) -> Option<(i64, i64)> {
    let now = kernel::clock::now();
    let shares = queue::ops::shares(&mut pool.acquire().await.unwrap(), now, now).await.unwrap();
    let standing = shares.tenants.into_iter().find(|one| one.tenant == tenant)?;
    standing.spent.iter().find(|one| one.name == BUDGET).map(|one| (one.spent_minor, one.reserved_minor))
}

#[tokio::test]
async fn what_each_owner_spent_is_told_until_the_period_is_over() {
    let kit = stage(9, 1).await;
    let pool = kit.db.pool();
    let owner = TenantId::from_uuid(PartnerId::new().uuid());
    for _ in 0..3 {
        stored(pool, NewJob::of(&Buyer::default()).unwrap().tenant(owner)).await;
    }
    kit.leaves::<Buyer>(4);
    let process = process(pool).await;
    let mut jobs = Vec::new();
    while jobs.len() < 4 {
        let claimed = claim(pool, process).await;
        assert!(!claimed.is_empty(), "only {} are claimed", jobs.len());
        jobs.extend(claimed);
    }
    jobs.sort_by_key(|job| job.lease.tenant != owner);
    assert_eq!(spent_by(pool, owner).await, Some((0, 3 * COST)));

    spend(pool, &jobs[0], &[3, 4], false).await;
    spend(pool, &jobs[1], &[], true).await;
    spend(pool, &jobs[3], &[], false).await;
    assert_eq!(spent_by(pool, owner).await, Some((7, COST)));
    assert_eq!(spent_by(pool, TenantId::SYSTEM).await, Some((COST, 0)), "it said nothing: what was expected");
    silence(pool, process).await;
    queue::sweep(pool, LONG).await.unwrap();
    limits::clean_reservations(pool, process, &[], LONG).await.unwrap();
    assert_eq!(spent_by(pool, owner).await, Some((7 + COST, 0)), "what died had spent what was expected");
    assert_eq!(level(pool, BUDGET, "").await.used, 7 + 2 * COST);

    kit.clock.advance(24 * HOUR).await;
    assert_eq!(spent_by(pool, owner).await, None, "a new day");
}

#[tokio::test]
async fn a_claim_whose_answer_was_lost_gives_back_what_it_reserved() {
    let kit = stage(2, 1).await;
    let pool = kit.db.pool();
    let process = process(pool).await;
    assert_eq!(claim(pool, process).await.len(), 1);
    kit.clock.advance(Duration::from_secs(60)).await;
    assert_eq!(
        limits::clean_reservations(pool, process, &[], LONG).await.unwrap(),
        0,
        "it may be on its way"
    );
    assert_eq!(limits::clean_reservations(pool, process, &[], Duration::from_secs(6)).await.unwrap(), 1);
    assert_eq!(level(pool, BUDGET, "").await.used, 0);
}

#[tokio::test]
async fn a_new_day_has_a_new_budget_and_what_is_spent_in_it_counts_there() {
    let kit = stage(2, 4).await;
    let pool = kit.db.pool();
    let process = process(pool).await;
    let permits = Permits::new(pool.clone());
    let claimed = claim(pool, process).await;
    kit.clock.advance(24 * HOUR).await;
    // Reserved yesterday, spent today.
    let asked = limits::draw(pool, &permits, process, Some(claimed[0].lease), &[(BUDGET, "")]).await.unwrap();
    drop(granted(asked));
    assert_eq!(level(pool, BUDGET, "").await.used, COST);
    assert_eq!(claim(pool, process).await.len(), 1, "the day has one job's worth left");
    spend(pool, &claimed[1], &[], true).await;
    assert_eq!(
        level(pool, BUDGET, "").await.used,
        2 * COST,
        "what comes back to yesterday is of no use today"
    );
}

#[tokio::test]
async fn workers_settle_what_handlers_say_and_give_back_what_was_not_spent() {
    let db = TestDb::new().await;
    let pool = db.pool();
    define(pool, &[(BUDGET, Shape::Budget { max_minor: 1_000, period: Period::Month })]).await;
    let spends = |spends| NewJob::of(&Buyer { spends, ..Buyer::default() }).unwrap();
    let snoozes = NewJob::of(&Buyer { snoozes: true, ..Buyer::default() }).unwrap();
    let worker = crate::support::TestWorker::start(&db, callers::KINDS);
    let silent = stored(pool, spends(None)).await;
    let cheap = stored(pool, spends(Some(1))).await;
    let snoozing = stored(pool, snoozes).await;
    eventually("two have ended and one has snoozed", async || {
        record(pool, silent).await.status.has_ended()
            && record(pool, cheap).await.status.has_ended()
            && state(pool, snoozing).await.as_deref() == Some("scheduled")
    })
    .await;
    eventually("all is settled", async || {
        let level = level(pool, BUDGET, "").await;
        (level.used, level.reserved) == (COST + 1, 0)
    })
    .await;
    worker.stop().await;
}
