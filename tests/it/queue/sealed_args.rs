//! Arguments that are not to lie about in clear.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use jobs::{Context, Entry, Handler, entry};
use kernel::ids::PartnerId;
use queue::{Error, INTERNAL_ERROR, Job, JobError, JobStatus, Marked, NewJob, Outcome, Policy, Queue};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::*;
use crate::support::{JobKit, TestDb, keyring};

const PHONE: &str = "+84 90 555 01 23";
const EMAIL: &str = "amy@example.com";

/// A handler with something to hide in its arguments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Private {
    creator: String,
    /// Sealed.
    phone: Option<String>,
    /// Sealed.
    address: Value,
    /// In clear, and shown to nobody.
    email: String,
    #[serde(default)]
    fails: bool,
}

const KINDS: &[Entry] = &[entry::<Private>()];

impl Job for Private {
    const KIND: &'static str = "test.private";
    const POLICY: Policy = Policy { queue: Queue::Enrich, attempts_max: 2, ..Policy::DEFAULT };
    const MARKED: Marked = Marked { encrypted: &["phone", "address"], redacted: &["email"] };
}

/// What handlers were given.
static GIVEN: LazyLock<Mutex<HashMap<JobId, Private>>> = LazyLock::new(Mutex::default);

fn given(job: JobId) -> Option<Private> {
    GIVEN.lock().unwrap().get(&job).cloned()
}

impl Handler for Private {
    async fn run(self, cx: Context) -> Result<Outcome, JobError> {
        let fails = self.fails;
        GIVEN.lock().unwrap().insert(cx.job(), self);
        if fails { Err(JobError::retryable("BUSY", "later")) } else { Ok(Outcome::Done(None)) }
    }
}

fn private() -> Private {
    Private {
        creator: "amy".to_owned(),
        phone: Some(PHONE.to_owned()),
        address: json!({"street": "12 Secret Lane", "lines": [1, 2]}),
        email: EMAIL.to_owned(),
        fails: false,
    }
}

fn sealed(args: &Private) -> NewJob {
    NewJob::of(args).unwrap().seal(&keyring())
}

/// Every column of every row of a table, as text.
async fn text_of(pool: &Pool, table: &str) -> String {
    let rows = sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
        "select coalesce(string_agg(t::text, '|'), '') from {table} t"
    )));
    sqlx::Row::get(&rows.fetch_one(pool).await.unwrap(), 0)
}

fn assert_no_secret(what: &str, text: &str) {
    for secret in [PHONE, "Secret Lane"] {
        assert!(!text.contains(secret), "{what} holds {secret}: {text}");
    }
}

#[tokio::test]
async fn sealed_fields_are_in_clear_for_the_handler_alone() {
    let kit = JobKit::of(KINDS, |_| {}).await;
    let job = kit.enqueue(sealed(&private())).await;
    let live = text_of(kit.db.pool(), "jobs").await;
    assert_no_secret("a live row", &live);
    assert!(live.contains("amy"), "what is not marked stays readable");
    let shown = record(kit.db.pool(), job).await;
    let hidden = json!("[redacted]");
    assert_eq!(
        (&shown.args["phone"], &shown.args["address"], &shown.args["email"]),
        (&hidden, &hidden, &hidden)
    );
    assert_eq!(shown.args["creator"], "amy");

    let done = kit.run_one::<Private>().await;
    assert_eq!(done.status, JobStatus::Completed, "{done:?}");
    assert_eq!(given(job), Some(private()));
    let history = text_of(kit.db.pool(), "jobs_finished").await;
    assert_no_secret("history", &history);
    assert!(
        !history.contains(EMAIL) && !history.contains("$sealed"),
        "blotted out when completed: {history}"
    );
    assert_eq!(done.args["creator"], "amy");
}

#[tokio::test]
async fn a_job_that_fails_keeps_what_another_life_needs_and_still_shows_nothing() {
    let kit = JobKit::of(KINDS, |_| {}).await;
    let job = kit.enqueue(sealed(&Private { fails: true, ..private() })).await;
    kit.run_one::<Private>().await;
    assert_no_secret("a row between attempts", &text_of(kit.db.pool(), "jobs").await);
    let failed = kit.run_one::<Private>().await;
    assert_eq!((failed.status, failed.errors.len()), (JobStatus::Failed, 2));
    assert_no_secret("history of a failure", &text_of(kit.db.pool(), "jobs_finished").await);
    let listed = {
        let mut conn = kit.db.pool().acquire().await.unwrap();
        queue::list(&mut conn, &queue::ListFilter::default(), 10).await.unwrap()
    };
    let shown = format!("{failed:?} {listed:?}");
    assert_no_secret("what is shown", &shown);
    assert!(!shown.contains(EMAIL), "{shown}");

    let mut tx = db::begin(kit.db.pool()).await.unwrap();
    let redriven = queue::redrive(&mut tx, TenantId::SYSTEM, job).await.unwrap();
    assert!(matches!(redriven, queue::Redriven::Ready(_)), "{redriven:?}");
    tx.commit().await.unwrap();
    GIVEN.lock().unwrap().remove(&job);
    kit.run_one::<Private>().await;
    assert_eq!(given(job), Some(Private { fails: true, ..private() }), "sealed under the same job");
    kit.leaves::<Private>(1);
}

#[tokio::test]
async fn a_job_whose_fields_were_not_sealed_is_refused() {
    let db = TestDb::new().await;
    let mut conn = db.pool().acquire().await.unwrap();
    let unsealed = || NewJob::of(&private()).unwrap();
    let one = queue::enqueue(&mut conn, unsealed()).await;
    assert!(matches!(one, Err(Error::NotSealed { kind: "test.private" })), "{one:?}");
    let many = queue::enqueue_many(&mut conn, vec![sealed(&private()), unsealed()]).await;
    assert!(matches!(many, Err(Error::NotSealed { .. })), "{many:?}");
    assert_eq!(text_of(db.pool(), "jobs").await, "");
}

#[tokio::test]
async fn sealed_arguments_that_were_moved_to_another_job_or_owner_are_not_opened() {
    let kit = JobKit::of(KINDS, |_| {}).await;
    let from = kit.enqueue(sealed(&private())).await;
    let others = sealed(&Private { phone: Some("+1 555 0100".to_owned()), ..private() });
    let to = kit.enqueue(others).await;
    // The owner is part of what a value is bound to, too: here it was sealed for another.
    let wrong_owner = sealed(&private()).tenant(TenantId::from(PartnerId::new()));
    let (wrong, owner) = (wrong_owner.job(), kit.enqueue(wrong_owner).await);
    assert_eq!(wrong, owner);
    sqlx::query!(
        "update jobs set args = (select args from jobs where id = $1) where id = $2",
        from.uuid(),
        to.uuid()
    )
    .execute(kit.db.pool())
    .await
    .unwrap();
    for record in kit.drain().await {
        let moved = record.id != from;
        assert_eq!(record.status, if moved { JobStatus::Failed } else { JobStatus::Completed }, "{record:?}");
        assert_eq!(given(record.id).is_none(), moved);
        if moved {
            assert_eq!(record.failure.unwrap().code, INTERNAL_ERROR);
        }
    }
}

/// The same kind as an older release had it.
#[derive(Debug, Serialize, Deserialize)]
struct OlderPrivate {
    creator: String,
    phone: u64,
    email: String,
}

impl Job for OlderPrivate {
    const KIND: &'static str = Private::KIND;
    const POLICY: Policy = Private::POLICY;
    const MARKED: Marked = Private::MARKED;
}

#[tokio::test]
async fn arguments_that_the_handler_cannot_read_are_not_quoted_in_its_error() {
    let kit = JobKit::of(KINDS, |_| {}).await;
    let older = OlderPrivate { creator: "amy".to_owned(), phone: 84_905_550_123, email: EMAIL.to_owned() };
    kit.enqueue(NewJob::of(&older).unwrap().seal(&keyring())).await;
    let failed = kit.run_one::<Private>().await;
    assert_eq!((failed.status, failed.errors[0].code.as_str()), (JobStatus::Failed, INTERNAL_ERROR));
    let kept = text_of(kit.db.pool(), "jobs_finished").await;
    assert!(!kept.contains("84905550123"), "{kept}");
}

#[tokio::test]
async fn what_was_sealed_with_an_older_key_is_opened_after_the_keys_were_rotated() {
    let kit = JobKit::of(KINDS, |services| services.keyring = Arc::new(keyring().rotated())).await;
    let job = kit.enqueue(sealed(&private())).await;
    assert_eq!(kit.run_one::<Private>().await.status, JobStatus::Completed);
    assert_eq!(given(job), Some(private()));
}

#[tokio::test]
async fn what_is_null_is_not_sealed_and_many_are_sealed_each_for_itself() {
    let kit = JobKit::of(KINDS, |_| {}).await;
    let alike: Vec<NewJob> = (0..3).map(|_| sealed(&Private { phone: None, ..private() })).collect();
    let mut conn = kit.db.pool().acquire().await.unwrap();
    let ids = queue::enqueue_many(&mut conn, alike).await.unwrap();
    drop(conn);
    assert_no_secret("rows", &text_of(kit.db.pool(), "jobs").await);
    kit.assert_enqueued::<Private>(|args| args.phone.is_none() && args.address == private().address).await;
    kit.drain().await;
    assert!(ids.iter().all(|id| given(id.id()) == Some(Private { phone: None, ..private() })));
}

#[tokio::test]
async fn a_character_that_jsonb_cannot_hold_does_not_keep_a_private_job_from_completing() {
    let kit = JobKit::of(KINDS, |_| {}).await;
    let job = kit.enqueue(sealed(&Private { creator: "a\0b".to_owned(), ..private() })).await;
    assert_eq!(kit.run_one::<Private>().await.status, JobStatus::Completed);
    assert_eq!(given(job).unwrap().creator, "a\0b");
    assert_eq!(record(kit.db.pool(), job).await.args["creator"], "a\u{fffd}b");
}
