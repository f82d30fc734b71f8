//! Finding jobs among many: by every field, in pages that meet each once, at a bounded price.

use std::collections::HashSet;

use chrono::{DateTime, TimeDelta, Utc};
use db::Pool;
use kernel::ids::{JobId, PartnerId};
use queue::{
    ArgIs, Cancelled, Count, Failure, Found, JobSearch, JobState, JobStatus, NewBatch, Order, SearchCursor,
    SearchFault, SortedBy,
};
use serde_json::json;

use super::kinds::{Act, Urgent};
use super::*;
use crate::support::TestDb;

async fn found(pool: &Pool, search: &JobSearch) -> Vec<JobId> {
    let mut conn = pool.acquire().await.unwrap();
    let found = queue::search(&mut conn, search, Order::Oldest, None, 100).await.unwrap();
    assert_eq!((found.next, found.partial), (None, false));
    found.jobs.into_iter().map(|job| job.id).collect()
}

async fn counted(pool: &Pool, search: &JobSearch) -> Count {
    let mut conn = pool.acquire().await.unwrap();
    queue::count(&mut conn, search).await.unwrap()
}

fn of(states: &[JobState]) -> JobSearch {
    JobSearch { states: states.to_vec(), ..JobSearch::default() }
}

/// Follows a search page by page, as its reader would.
async fn pages(pool: &Pool, search: &JobSearch, order: Order, limit: usize) -> Vec<Found> {
    let mut conn = pool.acquire().await.unwrap();
    let (mut pages, mut after): (Vec<Found>, Option<SearchCursor>) = (Vec::new(), None);
    loop {
        let page = queue::search(&mut conn, search, order, after.as_ref(), limit).await.unwrap();
        after = page.next;
        pages.push(page);
        if after.is_none() {
            return pages;
        }
        assert!(pages.len() < 1_000, "it goes on for ever");
    }
}

/// Jobs of every state, one each, in the order of [`JobState::ALL`].
async fn one_of_each(pool: &Pool) -> Vec<JobId> {
    let scheduled = stored(pool, plain().delay(LONG)).await;
    let running = running(pool, plain()).await.lease.job;
    let waiting = {
        let mut conn = pool.acquire().await.unwrap();
        let batch = NewBatch::of(vec![plain().delay(LONG)]).completion(plain());
        queue::enqueue_batch(&mut conn, batch).await.unwrap().completion.unwrap().id()
    };
    let completed = running_one(pool).await;
    end(pool, completed, done(json!(1))).await;
    let failed = running_one(pool).await;
    end(pool, failed, End::Failed(failure("GONE"))).await;
    let cancelled = stored(pool, plain()).await;
    assert!(matches!(cancel(pool, TenantId::SYSTEM, cancelled).await, Cancelled::Now { .. }));
    let parked = running_one(pool).await;
    settle(pool, parked, Settlement::Park).await;
    let ready = stored(pool, plain()).await;
    vec![scheduled, waiting, parked.job, ready, running, completed.job, failed.job, cancelled]
}

async fn running_one(pool: &Pool) -> LeaseKey {
    super::running(pool, plain().priority(-100)).await.lease
}

#[tokio::test]
async fn every_state_is_found_and_counted_on_its_own_and_together() {
    let db = TestDb::new().await;
    let jobs = one_of_each(db.pool()).await;
    for (state, job) in JobState::ALL.into_iter().zip(&jobs) {
        let search = of(&[state]);
        let ids = found(db.pool(), &search).await;
        assert!(ids.contains(job), "{state}");
        // The child of the batch is scheduled, too.
        assert_eq!(ids.len(), if state == JobState::Scheduled { 2 } else { 1 }, "{state}");
        let count = counted(db.pool(), &search).await;
        assert_eq!(count, Count { count: ids.len() as u64, is_estimated: false }, "{state}");
    }
    let all = found(db.pool(), &JobSearch::default()).await;
    assert_eq!(all.len(), 9);
    assert!(all.is_sorted());
    assert_eq!(counted(db.pool(), &JobSearch::default()).await.count, 9);
    let processing = JobSearch { statuses: vec![JobStatus::Processing], ..JobSearch::default() };
    assert_eq!(found(db.pool(), &processing).await.len(), 2, "the running one and the parked one");
    let both = found(db.pool(), &of(&[JobState::Failed, JobState::Running])).await;
    assert_eq!(both.len(), 2);
}

#[tokio::test]
async fn every_field_narrows_a_search() {
    let db = TestDb::new().await;
    let tenant = TenantId::from(PartnerId::new());
    let special = plain().tenant(tenant).key("k1").request_id(Some("req-1".into()));
    let special = stored(db.pool(), special).await;
    let urgent = stored(db.pool(), NewJob::of(&Urgent::default()).unwrap()).await;
    let plain_one = stored(db.pool(), plain()).await;
    let live = of(&[JobState::Ready]);
    let none = JobSearch::default();
    for (search, expected) in [
        (JobSearch { tenant: Some(tenant), ..none.clone() }, vec![special]),
        (JobSearch { key: Some("k1".into()), ..none.clone() }, vec![special]),
        (JobSearch { key: Some("k1".into()), ..live.clone() }, vec![special]),
        (JobSearch { request_id: Some("req-1".into()), ..none.clone() }, vec![special]),
        (JobSearch { kinds: vec!["test.urgent".into()], ..none.clone() }, vec![urgent]),
        (JobSearch { kinds: vec!["test.urgent".into()], ..live.clone() }, vec![urgent]),
        (JobSearch { ids: vec![plain_one, JobId::new()], ..none.clone() }, vec![plain_one]),
        (JobSearch { ids: vec![plain_one], tenant: Some(tenant), ..none.clone() }, vec![]),
        (JobSearch { queues: vec!["webhooks".into()], ..none.clone() }, vec![]),
        (JobSearch { queues: vec!["enrich".into()], ..live.clone() }, vec![special, urgent, plain_one]),
        (JobSearch { created_before: Some(DateTime::UNIX_EPOCH), ..none.clone() }, vec![]),
        (
            JobSearch { created_from: Some(DateTime::UNIX_EPOCH), ..none.clone() },
            vec![special, urgent, plain_one],
        ),
        (JobSearch { finished_from: Some(DateTime::UNIX_EPOCH), ..none.clone() }, vec![]),
    ] {
        assert_eq!(found(db.pool(), &search).await, expected, "{search:?}");
        assert_eq!(counted(db.pool(), &search).await.count, expected.len() as u64, "{search:?}");
    }
}

#[tokio::test]
async fn dead_jobs_are_found_by_code_and_by_what_their_messages_have_in_common() {
    let db = TestDb::new().await;
    let mut jobs = Vec::new();
    for (code, message) in [
        ("GONE", "receiver 17 answered 500"),
        ("GONE", "receiver 8 answered 503"),
        ("GONE", "receiver is off"),
        ("LATE", "receiver 1 answered 1"),
    ] {
        let lease = running_one(db.pool()).await;
        end(db.pool(), lease, End::Failed(Failure { code: code.into(), message: message.into() })).await;
        jobs.push(lease.job);
    }
    let mut conn = db.pool().acquire().await.unwrap();
    let groups = queue::dead_letters(&mut conn, &queue::DeadFilter::default(), 10).await.unwrap().groups;
    assert_eq!((groups[0].jobs, groups[0].message.as_str()), (2, "receiver # answered #"));
    let gone = JobSearch { code: Some("GONE".into()), ..JobSearch::default() };
    assert_eq!(found(db.pool(), &gone).await, jobs[..3]);
    let group = JobSearch { signature: Some(groups[0].message.clone()), ..gone };
    assert_eq!(found(db.pool(), &group).await, jobs[..2]);
    assert_eq!(counted(db.pool(), &group).await.count, 2);
    let filter = queue::DeadFilter { signature: group.signature.clone(), ..queue::DeadFilter::default() };
    assert_eq!(queue::dead_letters(&mut conn, &filter, 10).await.unwrap().counted, 3);
    assert_eq!(queue::dead_jobs(&mut conn, &filter, 10).await.unwrap().len(), 3);
}

#[tokio::test]
async fn an_argument_is_found_by_its_path_and_what_is_hidden_is_not() {
    let db = TestDb::new().await;
    let named = |name: &str| Scripted::job([Act::Done(name.into())]);
    let anna = stored(db.pool(), named("anna")).await;
    stored(db.pool(), plain()).await;
    let ended = running(db.pool(), named("berta \0").priority(-1)).await;
    end(db.pool(), ended.lease, done(json!(1))).await;
    let by = |name: &str| JobSearch {
        kinds: vec!["test.scripted".into()],
        created_from: Some(DateTime::UNIX_EPOCH),
        arg: Some(ArgIs { path: ["acts", "0", "Done"].map(String::from).to_vec(), value: name.into() }),
        ..JobSearch::default()
    };
    assert_eq!(found(db.pool(), &by("anna")).await, [anna]);
    assert_eq!(found(db.pool(), &by("nobody")).await, []);
    let alone = JobSearch { kinds: vec![], ..by("anna") };
    let mut conn = db.pool().acquire().await.unwrap();
    let refused = queue::search(&mut conn, &alone, Order::Newest, None, 1).await;
    assert!(matches!(refused, Err(queue::Error::Search(SearchFault::ArgAlone))));
    // Whatever its kind says now: a field that was to be hidden when the job was stored.
    sqlx::query!("update jobs set redact = '{acts}' where id = $1", anna.uuid())
        .execute(db.pool())
        .await
        .unwrap();
    assert_eq!(found(db.pool(), &by("anna")).await, []);
}

/// Jobs of some tenants, live and ended, in an order of their own.
async fn many(pool: &Pool, tenants: usize, each: usize) -> HashSet<JobId> {
    let mut conn = pool.acquire().await.unwrap();
    let tenants: Vec<TenantId> = (0..tenants).map(|_| TenantId::from(PartnerId::new())).collect();
    let mut jobs = Vec::new();
    for n in 0..each {
        // Some have few, some many.
        jobs.extend(
            tenants.iter().take(tenants.len() - n % tenants.len()).map(|tenant| plain().tenant(*tenant)),
        );
    }
    let ids = jobs.iter().map(NewJob::job).collect();
    queue::enqueue_many(&mut conn, jobs).await.unwrap();
    ids
}

#[tokio::test]
async fn pages_meet_every_job_once_in_order_whoever_owns_it() {
    let db = TestDb::new().await;
    let all = many(db.pool(), 7, 90).await;
    let worker = process(db.pool()).await;
    let some = queue::claim(db.pool(), worker, Queue::Enrich, 200).await.unwrap();
    let ended: Vec<Acknowledgement> = some
        .iter()
        .enumerate()
        .map(|(n, job)| {
            let how = if n % 2 == 0 { End::Failed(failure("GONE")) } else { done(json!(n)) };
            Acknowledgement { lease: job.lease, row: None, settlement: Settlement::End(how, None) }
        })
        .collect();
    for few in ended.chunks(50) {
        queue::settle(db.pool(), few).await.unwrap();
    }
    let dead = of(&[JobState::Failed]);
    let in_time = JobSearch { finished_from: Some(DateTime::UNIX_EPOCH), ..JobSearch::default() };
    for (search, expected, sorted_by) in [
        (JobSearch::default(), all.len(), SortedBy::Created),
        (of(&[JobState::Ready]), all.len() - 200, SortedBy::Created),
        (dead, 100, SortedBy::Finished),
        (in_time, 200, SortedBy::Finished),
    ] {
        for (order, limit) in [(Order::Newest, 13), (Order::Oldest, 50), (Order::Newest, 1_000)] {
            let pages = pages(db.pool(), &search, order, limit).await;
            let jobs: Vec<_> = pages.iter().flat_map(|page| &page.jobs).collect();
            let ids: HashSet<JobId> = jobs.iter().map(|job| job.id).collect();
            assert_eq!((jobs.len(), ids.len()), (expected, expected), "{search:?} {order:?}");
            let keys: Vec<(Option<DateTime<Utc>>, JobId)> = jobs
                .iter()
                .map(|job| (job.finished_at.filter(|_| sorted_by == SortedBy::Finished), job.id))
                .collect();
            let is_sorted = match order {
                Order::Newest => keys.iter().rev().is_sorted(),
                Order::Oldest => keys.is_sorted(),
            };
            assert!(is_sorted, "{search:?} {order:?}");
            assert!(pages.iter().all(|page| page.sorted_by == sorted_by && !page.partial));
            assert!(pages.iter().rev().skip(1).all(|page| page.jobs.len() == limit), "pages are full");
        }
    }
}

#[tokio::test]
async fn a_search_that_looked_at_enough_says_so_and_goes_on_behind() {
    let db = TestDb::new().await;
    let tenant = TenantId::from(PartnerId::new());
    let mut conn = db.pool().acquire().await.unwrap();
    let needle = stored(db.pool(), plain().tenant(tenant).key("needle")).await;
    // The statements that store many are slow to check: rows are made of the one there is.
    sqlx::query!(
        "insert into jobs (tenant_id, id, lane, share_id, queue, kind, attempts_max, args)
         select tenant_id, gen_random_uuid(), lane, share_id, queue, kind, attempts_max, args
         from jobs, generate_series(1, 30000)"
    )
    .execute(&mut conn)
    .await
    .unwrap();
    sqlx::query!("update jobs set id = ('ffff' || right(id::text, 32))::uuid where key is null")
        .execute(&mut conn)
        .await
        .unwrap();
    let search = JobSearch { tenant: Some(tenant), key: Some("needle".into()), ..JobSearch::default() };
    let pages = pages(db.pool(), &search, Order::Newest, 10).await;
    assert!(pages.len() > 1, "it is behind 30,000 others");
    let (last, before) = pages.split_last().unwrap();
    assert!(before.iter().all(|page| page.partial && page.jobs.is_empty() && page.looked < 30_000));
    assert_eq!((last.partial, last.jobs[0].id), (false, needle));
    let count =
        queue::count(&mut conn, &JobSearch { tenant: Some(tenant), ..JobSearch::default() }).await.unwrap();
    assert!(count.is_estimated && (20_000..45_000).contains(&count.count), "{count:?}");
}

#[tokio::test]
async fn whoever_changes_what_a_search_finds_meets_every_job_of_many_owners() {
    let db = TestDb::new().await;
    let mut conn = db.pool().acquire().await.unwrap();
    stored(db.pool(), plain().delay(LONG)).await;
    let search = of(&[JobState::Scheduled]);
    for order in [Order::Newest, Order::Oldest] {
        sqlx::query!(
            "insert into jobs (tenant_id, id, lane, share_id, state, run_at, queue, kind, attempts_max, args)
             select gen_random_uuid(), gen_random_uuid(), lane, share_id, state, run_at, queue, kind, attempts_max, args
             from jobs, generate_series(1, 600)"
        )
        .execute(&mut conn)
        .await
        .unwrap();
        // Others of the same owners: too many to be gathered at first, and few enough when some are gone.
        sqlx::query!(
            "insert into jobs (tenant_id, id, lane, share_id, state, run_at, queue, kind, attempts_max, args)
             select tenant_id, gen_random_uuid(), lane, share_id, state, run_at, queue, kind, attempts_max, args
             from jobs, generate_series(1, 3)"
        )
        .execute(&mut conn)
        .await
        .unwrap();
        let mut after = None;
        loop {
            let page = queue::search(&mut conn, &search, order, after.as_ref(), 400).await.unwrap();
            let ids: Vec<_> = page.jobs.iter().map(|job| job.id.uuid()).collect();
            sqlx::query!("delete from jobs where id = any($1)", &ids).execute(&mut conn).await.unwrap();
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let left: i64 = sqlx::query_scalar("select count(*) from jobs").fetch_one(&mut conn).await.unwrap();
        assert_eq!(left, 0, "{order:?}");
        stored(db.pool(), plain().delay(LONG)).await;
    }
}

#[tokio::test]
async fn a_range_of_ends_is_looked_through_whatever_its_length() {
    let db = TestDb::new().await;
    let lease = running_one(db.pool()).await;
    end(db.pool(), lease, done(json!(1))).await;
    let old = running_one(db.pool()).await;
    end(db.pool(), old, done(json!(2))).await;
    sqlx::query!(
        "update jobs_finished set finished_at = finished_at - interval '20 days', created_at = created_at - interval '20 days' where id = $1",
        old.job.uuid()
    )
    .execute(db.pool())
    .await
    .unwrap();
    let now = sqlx::query_scalar!(r#"select now() as "now!""#).fetch_one(db.pool()).await.unwrap();
    let within = |from: i64, before: i64| JobSearch {
        finished_from: Some(now - TimeDelta::days(from)),
        finished_before: Some(now - TimeDelta::days(before) + TimeDelta::seconds(1)),
        ..JobSearch::default()
    };
    assert_eq!(found(db.pool(), &within(1, 0)).await, [lease.job]);
    assert_eq!(found(db.pool(), &within(30, 10)).await, [old.job]);
    assert_eq!(found(db.pool(), &within(30, 0)).await, [old.job, lease.job]);
    assert_eq!(found(db.pool(), &within(10, 5)).await, []);
    let contradictory = JobSearch { states: vec![JobState::Ready], ..within(30, 0) };
    assert_eq!(found(db.pool(), &contradictory).await, []);
    assert_eq!(counted(db.pool(), &contradictory).await.count, 0);
    assert_eq!(counted(db.pool(), &within(30, 0)).await.count, 2);
}
