//! What the hot statements read does not depend on statistics: with fresh ones, with none, with such as were taken when the
//! tables were empty or held something else, and on a connection that planned its statements then, each reads a bounded
//! number of rows of tables that hold tens of thousands.

use kernel::ids::BatchId;
use queue::{CancelledBatch, KnownLanes, NewBatch, Shares, TurnAnswer};

use super::{
    kinds::{Impatient, Urgent},
    *,
};
use crate::support::{TestDb, rows_looked_at};

/// Rows of the largest tables.
const ROWS: i32 = 20_000;
/// Jobs claimed, ended or stored in one statement here.
const BATCH: usize = 50;
/// The most rows that one operation may look at: some for each job of its batch, for each running job and for each
/// lane.
const LOOKED_AT_MAX: i64 = 3_000;

/// When the planner looked at the tables last.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Statistics {
    Fresh,
    None,
    WhenEmpty,
    WhenAllRan,
    /// Whatever it sees now, the connection has the plans that it made for empty tables.
    PlannedWhenEmpty,
}

/// Executions after which a connection keeps a statement's plan.
const PLANNED_AFTER: usize = 6;

/// One connection, and how much it has read.
struct Reader {
    pool: Pool,
    process: Uuid,
}

impl Reader {
    async fn new(db: &TestDb) -> Self {
        Self { process: process(db.pool()).await, pool: db.connect_more(1) }
    }

    /// Does something and checks how much it read.
    async fn check<T>(&self, about: Statistics, what: &str, act: impl Future<Output = T>) -> T {
        let before = rows_looked_at(&self.pool).await;
        let answer = act.await;
        let read = rows_looked_at(&self.pool).await - before;
        assert!(read <= LOOKED_AT_MAX, "statistics {about:?}: {what} looked at {read} rows");
        answer
    }

    async fn turn(&self, queue: Queue, count_max: usize, acknowledgements: &[Acknowledgement]) -> TurnAnswer {
        let mut conn = self.pool.acquire().await.unwrap();
        let turn = queue::Turn {
            process: self.process,
            queue,
            count_max,
            shares: &Shares::default(),
            lane_after: Uuid::nil(),
            since: None,
            lanes: &KnownLanes::default(),
            acknowledgements,
        };
        queue::turn(&mut conn, &turn).await.unwrap()
    }

    /// A batch of which two children in ten run, so that cancelling ends some and asks others to stop.
    async fn batch(&self, children: usize) -> BatchId {
        let mut tx = db::begin(&self.pool).await.unwrap();
        let batch = NewBatch::of((0..children).map(|_| plain()).collect());
        let id = queue::enqueue_batch(&mut tx, batch).await.unwrap().id;
        sqlx::query!(
            "update jobs set state = 'running', leased_by = $2, leased_at = now()
             where ctid = any(array(select ctid from jobs where batch_id = $1 limit $3))",
            id.uuid(),
            self.process,
            (children / 5) as i64,
        )
        .execute(&mut *tx)
        .await
        .unwrap();
        tx.commit().await.unwrap();
        id
    }

    async fn cancels(&self, batch: BatchId) -> CancelledBatch {
        queue::cancel_batch(&self.pool, TenantId::SYSTEM, batch, "a test").await.unwrap().expect("it is open")
    }

    /// What a worker process does now and then, beside its turns.
    async fn looks_after_jobs(&self) {
        let gone = LeaseKey { tenant: TenantId::SYSTEM, job: JobId::new(), token: 1 };
        queue::heartbeat(&self.pool, self.process, false, &[gone]).await.unwrap();
        queue::forgotten(&self.pool, self.process, &[], LONG).await.unwrap();
        queue::sweep(&self.pool, LONG).await.unwrap();
        queue::expire(&self.pool).await.unwrap();
        queue::unpark(&self.pool, &["test.unknown"]).await.unwrap();
    }

    async fn enqueue(&self, jobs: Vec<NewJob>) {
        let mut conn = self.pool.acquire().await.unwrap();
        queue::enqueue_many(&mut conn, jobs).await.unwrap();
    }
}

/// Whatever grew from one job of each sort, a thousandfold: copies of it under new ids.
async fn copied(db: &TestDb, rows: i32) {
    let mut tx = promptly_counted(db.pool()).await;
    sqlx::query!(
        "insert into jobs (
             tenant_id, id, lane, share_id, queue, kind, key, state, leased_by, leased_at, run_at, attempts_max, unique_key,
             deadline_at, args
         )
         select tenant_id, gen_random_uuid(), lane, share_id, queue, kind, key, state, leased_by, leased_at,
             run_at + n * interval '1 ms', attempts_max, n::text, deadline_at, args
         from jobs cross join generate_series(1, $1) as n
         where state <> 'running'",
        rows,
    )
    .execute(&mut *tx)
    .await
    .unwrap();
    sqlx::query!(
        "insert into job_unique_keys (tenant_id, kind, key, job_id)
         select distinct on (tenant_id, kind, unique_key) tenant_id, kind, unique_key, id from jobs
         where unique_key is not null on conflict do nothing"
    )
    .execute(&mut *tx)
    .await
    .unwrap();
    tx.commit().await.unwrap();
}

async fn analyzed(db: &TestDb) {
    sqlx::query!("analyze").execute(db.pool()).await.unwrap();
}

/// A database with a backlog of every sort and statistics of a certain age, and who reads it.
async fn stage(about: Statistics) -> (TestDb, Reader) {
    let db = TestDb::new().await;
    let reader = Reader::new(&db).await;
    sqlx::query!("alter table jobs set (autovacuum_enabled = false)").execute(db.pool()).await.unwrap();
    sqlx::query!("alter table job_unique_keys set (autovacuum_enabled = false)")
        .execute(db.pool())
        .await
        .unwrap();
    if about == Statistics::WhenEmpty {
        analyzed(&db).await;
    }
    if about == Statistics::WhenAllRan {
        super::fair_share::store(db.pool(), (0..1_000).map(|_| plain())).await;
        let mut tx = promptly_counted(db.pool()).await;
        sqlx::query!("update jobs set state = 'running', leased_by = gen_random_uuid()")
            .execute(&mut *tx)
            .await
            .unwrap();
        tx.commit().await.unwrap();
        analyzed(&db).await;
        let mut tx = promptly_counted(db.pool()).await;
        sqlx::query!("delete from jobs").execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
    }
    if about == Statistics::PlannedWhenEmpty {
        for _ in 0..PLANNED_AFTER {
            reader.turn(Queue::Enrich, BATCH, &[]).await;
            reader.looks_after_jobs().await;
            reader.cancels(reader.batch(5).await).await;
        }
    }
    // One long lane in one queue, and three kinds of twenty tenants, one of them with most jobs, in another.
    let lone = Uuid::now_v7();
    sqlx::query!("insert into job_tenants values ($1, 3)", lone).execute(db.pool()).await.unwrap();
    for number in 0..20 {
        let tenant = TenantId::from_uuid(Uuid::now_v7());
        for job in [plain(), NewJob::of(&Urgent {}).unwrap(), NewJob::of(&Impatient {}).unwrap()] {
            stored(db.pool(), job.tenant(tenant)).await;
        }
        if number == 0 {
            stored(db.pool(), plain().delay(LONG).tenant(tenant)).await;
            let parked = stored(db.pool(), plain().tenant(tenant)).await;
            sqlx::query!("update jobs set state = 'parked' where id = $1", parked.uuid())
                .execute(db.pool())
                .await
                .unwrap();
            stored(db.pool(), plain().delay(LONG * 2).deadline(LONG).tenant(tenant)).await;
        }
    }
    copied(&db, ROWS / 60).await;
    super::fair_share::store(
        db.pool(),
        (0..ROWS).map(|_| NewJob::of(&kinds::Impatient {}).unwrap().tenant(TenantId::from_uuid(lone))),
    )
    .await;
    if about == Statistics::Fresh {
        analyzed(&db).await;
    }
    (db, reader)
}

async fn reads_are_bounded(about: Statistics) {
    let (db, reader) = stage(about).await;
    let done = |claim: &Claimed| Acknowledgement {
        lease: claim.lease,
        row: claim.row,
        settlement: Settlement::End(End::Completed(None), None),
    };
    let again = |claim: &Claimed| Acknowledgement {
        lease: claim.lease,
        row: None,
        settlement: Settlement::Again(Duration::ZERO),
    };
    // A dead process's jobs, for the sweep.
    let dead = Reader::new(&db).await;
    dead.turn(Queue::Enrich, 100, &[]).await;
    silence(db.pool(), dead.process).await;

    let claimed = reader.check(about, "a claim", reader.turn(Queue::Enrich, BATCH, &[])).await.claimed;
    assert_eq!(claimed.len(), BATCH);
    let ends: Vec<_> = claimed.iter().map(done).collect();
    let more = reader.check(about, "a turn", reader.turn(Queue::Enrich, BATCH, &ends)).await;
    assert_eq!((more.ended, more.claimed.len()), (BATCH, BATCH));
    let unplaced = more.claimed.iter().map(|claim| Acknowledgement { row: None, ..done(claim) });
    let ends: Vec<_> = unplaced.collect();
    let ended = reader.check(about, "ends by key", reader.turn(Queue::Enrich, 0, &ends)).await.ended;
    assert_eq!(ended, BATCH);
    let claimed = reader.turn(Queue::Enrich, BATCH, &[]).await.claimed;
    let backs: Vec<_> = claimed.iter().map(again).collect();
    reader.check(about, "putting back", reader.turn(Queue::Enrich, 0, &backs)).await;

    let many = || (0..BATCH).map(|_| plain());
    reader.check(about, "storing one", reader.enqueue(vec![plain()])).await;
    reader.check(about, "storing many", reader.enqueue(many().collect())).await;
    let unique = |prefix: &'static str| {
        many()
            .enumerate()
            .map(move |(number, job)| job.unique(format!("{prefix}{number}")))
            .collect::<Vec<_>>()
    };
    reader.check(about, "storing unique ones", reader.enqueue(unique("new"))).await;
    reader.check(about, "storing those that exist", reader.enqueue(unique("new"))).await;

    let claimed = reader.turn(Queue::Enrich, BATCH, &[]).await.claimed;
    let held: Vec<_> = claimed.iter().map(|claim| claim.lease).collect();
    let heartbeat = queue::heartbeat(&reader.pool, reader.process, false, &held);
    reader.check(about, "a heartbeat", heartbeat).await.unwrap();
    let forgotten = queue::forgotten(&reader.pool, reader.process, &held[..1], Duration::ZERO);
    reader.check(about, "looking for forgotten ones", forgotten).await.unwrap();
    let swept = reader.check(about, "a sweep", queue::sweep(&reader.pool, LONG)).await.unwrap();
    assert_eq!(swept.taken_back, 100);
    reader.check(about, "looking for expired ones", queue::expire(&reader.pool)).await.unwrap();
    let mut tx = promptly_counted(db.pool()).await;
    sqlx::query!(
        "update jobs set deadline_at = now() where id in (
             select id from jobs where deadline_at is not null and state = 'scheduled' limit 30
         )"
    )
    .execute(&mut *tx)
    .await
    .unwrap();
    tx.commit().await.unwrap();
    let (expired, _) = reader.check(about, "ending late ones", queue::expire(&reader.pool)).await.unwrap();
    assert_eq!(expired, 30);
    let batch = reader.batch(BATCH).await;
    let cancelled = reader.check(about, "cancelling a batch", reader.cancels(batch)).await;
    assert_eq!((cancelled.cancelled, cancelled.asked), (BATCH as u64 * 4 / 5, BATCH as u64 / 5));
    reader.check(about, "unparking", queue::unpark(&reader.pool, &["test.unknown"])).await.unwrap();
}

#[tokio::test]
async fn with_fresh_statistics_reads_are_bounded() {
    reads_are_bounded(Statistics::Fresh).await;
}

#[tokio::test]
async fn without_statistics_reads_are_bounded() {
    reads_are_bounded(Statistics::None).await;
}

#[tokio::test]
async fn with_statistics_of_empty_tables_reads_are_bounded() {
    reads_are_bounded(Statistics::WhenEmpty).await;
}

#[tokio::test]
async fn on_a_connection_that_planned_for_empty_tables_reads_are_bounded() {
    reads_are_bounded(Statistics::PlannedWhenEmpty).await;
}

#[tokio::test]
async fn with_statistics_of_quite_another_content_reads_are_bounded() {
    reads_are_bounded(Statistics::WhenAllRan).await;
}
