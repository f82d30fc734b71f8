//! What operators are shown of the queues, and what it costs to look.

use queue::{Scope, Survey, Surveyor};

use super::*;
use crate::support::{TestDb, rows_looked_at};

async fn survey(db: &TestDb) -> Survey {
    Surveyor::default().survey(db.pool(), LONG).await.unwrap()
}

fn of(survey: &Survey, queue: Queue) -> queue::QueueSurvey {
    *survey.queues.iter().find(|seen| seen.depth.queue == queue).expect("every queue is there")
}

#[tokio::test]
async fn a_survey_tells_what_stands_in_each_queue_for_how_long_and_who_works_it() {
    let db = TestDb::new().await;
    let empty = of(&survey(&db).await, Queue::Enrich);
    assert_eq!((empty.depth.ready, empty.oldest_ready, empty.processes), (0, None, 0));

    let first = running(db.pool(), plain()).await;
    let awaited = stored(db.pool(), plain()).await;
    stored(db.pool(), plain().priority(5)).await;
    stored(db.pool(), plain().delay(LONG)).await;
    for (job, state) in
        [(stored(db.pool(), plain()).await, "waiting"), (stored(db.pool(), plain()).await, "parked")]
    {
        sqlx::query!("update jobs set state = ($2::text)::job_state where id = $1", job.uuid(), state)
            .execute(db.pool())
            .await
            .unwrap();
    }
    sqlx::query!("update jobs set run_at = now() - interval '90 s' where priority = 5")
        .execute(db.pool())
        .await
        .unwrap();
    let scope = |kind: Option<&str>| Scope { queue: Queue::Enrich, kind: kind.map(ToOwned::to_owned) };
    let mut conn = db.pool().acquire().await.unwrap();
    queue::pause(&mut conn, &scope(None), "a test").await.unwrap();
    queue::pause(&mut conn, &scope(Some("test.scripted")), "a test").await.unwrap();
    let dead = process(db.pool()).await;
    silence(db.pool(), dead).await;

    let seen = survey(&db).await;
    let enrich = of(&seen, Queue::Enrich);
    let depth = enrich.depth;
    let counts = (depth.ready, depth.scheduled, depth.running, depth.waiting, depth.parked);
    assert_eq!(counts, (2, 1, 1, 1, 1));
    let age = enrich.oldest_ready.expect("there are ready jobs").as_secs();
    assert!((90..120).contains(&age), "the less urgent one is older: {age} s");
    assert!(enrich.is_paused && enrich.paused_kinds == 1);
    assert_eq!(enrich.processes, 1, "the one that claimed lives, the other does not");
    assert_eq!(of(&seen, Queue::Webhooks).depth.waiting, 0);
    assert_eq!((seen.dead_letters, seen.overflow_rows, seen.weeks_ahead), (0, 0, 5));

    end(db.pool(), first.lease, End::Failed(failure("BROKEN"))).await;
    assert_eq!(survey(&db).await.dead_letters, 1);
    assert!(state(db.pool(), awaited).await.is_some());
}

#[tokio::test]
async fn a_missing_week_is_seen_before_it_begins() {
    let db = TestDb::new().await;
    sqlx::raw_sql(
        "do $$ begin execute 'drop table jobs_finished_'
             || to_char((now() + 2 * interval '7 days') at time zone 'UTC', 'IYYY\"w\"IW'); end $$",
    )
    .execute(db.pool())
    .await
    .unwrap();
    assert_eq!(survey(&db).await.weeks_ahead, 2);
}

/// A survey counts up to this of ready and of scheduled jobs, of waiting ones, of dead ones.
const COUNTED_MAX: i64 = 4 * queue::DEPTH_MAX;

#[tokio::test]
async fn what_a_survey_reads_is_bounded_and_the_oldest_job_of_many_lanes_is_found_in_a_few_looks() {
    let db = TestDb::new().await;
    let pool = db.connect_more(1);
    stored(db.pool(), plain()).await;
    // Sixty thousand ready jobs in a thousand lanes, thirty thousand of each other sort, and last the oldest.
    let rows = sqlx::query!(
        "insert into jobs (tenant_id, id, lane, share_id, queue, kind, state, run_at, attempts_max, waiting_on, args)
         select tenant_id, gen_random_uuid(),
             (left(lane::text, 2) || right(lpad(to_hex(n % 2000 + 1), 30, '0'), 30))::uuid, share_id, queue, kind,
             (array['ready', 'ready', 'scheduled', 'waiting'])[1 + n % 4]::job_state,
             case when n % 4 = 2 then now() + interval '1 hour' else now() - interval '10 s' end,
             attempts_max, case when n % 4 = 3 then gen_random_uuid() end, args
         from jobs cross join generate_series(1, 120000) as n"
    );
    rows.execute(db.pool()).await.unwrap();
    sqlx::query!(
        "insert into jobs (tenant_id, id, lane, share_id, queue, kind, state, run_at, attempts_max, args)
         select tenant_id, gen_random_uuid(), (left(lane::text, 2) || repeat('f', 30))::uuid, share_id, queue, kind,
             'ready', now() - interval '1 hour', attempts_max, args
         from jobs limit 1"
    )
    .execute(db.pool())
    .await
    .unwrap();

    let mut surveyor = Surveyor::default();
    let mut ages = Vec::new();
    for _ in 0..5 {
        let before = rows_looked_at(&pool).await;
        let seen = surveyor.survey(&pool, LONG).await.unwrap();
        let read = rows_looked_at(&pool).await - before;
        assert!(read <= COUNTED_MAX, "a survey looked at {read} rows");
        let enrich = of(&seen, Queue::Enrich);
        assert_eq!(enrich.depth.ready, queue::DEPTH_MAX);
        ages.push(enrich.oldest_ready.unwrap().as_secs());
    }
    assert!(ages[0] < 3_600 && ages.last().is_some_and(|age| *age >= 3_600), "{ages:?}");
}
