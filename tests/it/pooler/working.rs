//! A real worker process behind the pooler: nothing wakes it but its own polling.

use std::time::Duration;

use chrono::TimeDelta;
use jobs::profiles::{NewEnrich, request_enrich};
use kernel::ids::JobId;
use kernel::profile_url::ProfileUrl;
use sqlx::Row;

use super::*;
use crate::support::{MillpondProcess, TestPartner, door, found, sandbox};

const POLL: Duration = Duration::from_millis(500);
/// Polls are jittered by a fifth, and a loaded machine takes its time for a statement.
const SLACK: Duration = Duration::from_millis(400);
const ONE_BY_ONE: usize = 10;
const AT_ONCE: usize = 200;

/// Stores wishes for profiles, so that nobody is woken.
async fn asked(db: &TestDb, partner: &TestPartner, names: impl Iterator<Item = String>) -> Vec<JobId> {
    let mut tx = db::begin(db.pool()).await.unwrap();
    let mut asked = Vec::new();
    for name in names {
        let profile = ProfileUrl::parse(&format!("https://www.tiktok.com/@{name}")).unwrap();
        let partner = partner.id;
        let new = NewEnrich { partner, profile, callback_url: None, trace: None };
        asked.push(request_enrich(&mut tx, &door(), new).await.unwrap());
    }
    tx.commit().await.unwrap();
    asked
}

/// How many jobs have been completed.
async fn completed(db: &TestDb, kind: &str) -> usize {
    let count = sqlx::query_scalar!(
        r#"select count(*) as "count!" from jobs_finished where kind = $1 and ended = 'completed'"#,
        kind,
    );
    usize::try_from(count.fetch_one(db.pool()).await.unwrap()).unwrap()
}

/// Waits until a job was picked up and answers how long that took, by the database's clock.
async fn pickup(db: &TestDb, job: JobId) -> TimeDelta {
    found("the job to be picked up", async || {
        let times = sqlx::query!(
            r#"select started_at as "started_at!", created_at as "created_at!" from jobs
               where id = $1 and started_at is not null
               union all
               select started_at, created_at from jobs_finished where id = $1"#,
            job.uuid(),
        );
        let times = times.fetch_optional(db.pool()).await.unwrap();
        times.map(|times| times.started_at - times.created_at)
    })
    .await
}

/// What the clients of the pooler's sessions have left there: statements, locks, listening, temporary tables, settings
/// other than those that the pooler keeps for each client.
async fn left_on_sessions(pool: &Pool) -> Vec<String> {
    let asked = (0..40).map(async |_| {
        let rows = sqlx::raw_sql(
            "select 'statement ' || name from pg_prepared_statements where name <> ''
             union all select 'lock ' || locktype from pg_locks
             where locktype = 'advisory' and pid = pg_backend_pid()
             union all select 'listening to ' || channel from pg_listening_channels() as channel
             union all select 'table ' || relname from pg_class where relpersistence = 't'
             union all select 'setting ' || name from pg_settings
             where source = 'session'
               and name not in ('application_name', 'client_encoding', 'DateStyle', 'TimeZone', 'IntervalStyle',
                                'standard_conforming_strings', 'extra_float_digits')",
        );
        let rows = rows.fetch_all(pool).await.unwrap();
        rows.into_iter().map(|row| row.get::<String, _>(0)).collect::<Vec<_>>()
    });
    join_all(asked).await.into_iter().flatten().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_process_picks_jobs_up_within_the_poll_interval_and_leaves_nothing_on_any_session() {
    let db = TestDb::new().await;
    let pooler = Pooler::in_front_of(&db).await;
    let partner = TestPartner::create(&db, "techcombank").await;
    let sandbox = sandbox().await;
    let (meter, poll_ms) = (sandbox.meter_url(), POLL.as_millis().to_string());
    let settings = [
        ("DATABASE_URL", pooler.url()),
        ("MILLPOND_DATABASE__PREPARED", "false"),
        ("MILLPOND_DATABASE__LISTEN", "false"),
        ("MILLPOND_WORKER__POLL_MS", &*poll_ms),
        ("MILLPOND_METER__URL", &*meter),
        ("MILLPOND_METER__TOKEN", "sandbox-token"),
        ("MILLPOND_LOG__FILTER", "warn"),
    ];
    let mut worker = MillpondProcess::start(&db, &["worker"], &settings);
    // The first waits for the process to start.
    let first = asked(&db, &partner, ["first".to_owned()].into_iter()).await;
    pickup(&db, first[0]).await;

    let mut pickups = Vec::new();
    for number in 0..ONE_BY_ONE {
        eventually("the worker to be idle", async || completed(&db, "profiles.enrich").await == number + 1)
            .await;
        let job = asked(&db, &partner, [format!("single.{number}")].into_iter()).await;
        // A claim's time is from its beginning: one that the machine holds up before it looks finds younger jobs.
        pickups.push(pickup(&db, job[0]).await.to_std().unwrap_or_default());
    }
    assert!(pickups.iter().all(|pickup| *pickup <= POLL + SLACK), "{pickups:?}");
    assert!(pickups.iter().any(|pickup| *pickup >= POLL / 10), "something woke the worker: {pickups:?}");

    asked(&db, &partner, (0..AT_ONCE).map(|number| format!("many.{number}"))).await;
    let all = 1 + ONE_BY_ONE + AT_ONCE;
    eventually("all to be completed", async || completed(&db, "profiles.enrich").await == all).await;
    assert_eq!(completed(&db, "profiles.fetch").await, all, "one crawl for each");

    let pool = pooler.connect(8).await;
    assert_eq!(left_on_sessions(&pool).await, Vec::<String>::new());
    worker.signal("TERM");
    assert!(worker.ended().await.success(), "it stops in good order");
}
