//! `email.send`: what the mailbox holds afterwards, whatever happened on the way.

use std::time::Duration;

use jobs::email::{Mail, SendEmail, send};
use kernel::ids::{JobId, TenantId};
use queue::{JobRecord, JobStatus, Queue, Redriven};
use sandbox::Sandbox;
use serde_json::{Value, json};
use vendors::smtp::{Smtp, SmtpSettings};

use crate::support::{JobKit, SandboxControls, keyring, sandbox};

const AMY: &str = "amy@example.com";
const HOUR: Duration = Duration::from_secs(3_600);

struct Stage {
    kit: JobKit,
    controls: SandboxControls,
    _sandbox: Sandbox,
}

impl Stage {
    async fn set() -> Self {
        Self::with_timeout(Duration::from_secs(10)).await
    }

    async fn with_timeout(timeout: Duration) -> Self {
        let sandbox = sandbox().await;
        let kit = JobKit::of(jobs::ALL, |services| {
            services.smtp = Some(smtp(&sandbox.smtp_url(), timeout));
        })
        .await;
        Self { kit, controls: SandboxControls::of(&sandbox), _sandbox: sandbox }
    }

    async fn fault(&self, operation: &str, fault: Value) {
        self.controls.faults(json!([{ "vendor": "smtp", "operation": operation, "fault": fault }])).await;
    }

    async fn letters(&self) -> Vec<Value> {
        self.controls.mail(AMY).await
    }
}

fn smtp(url: &str, timeout: Duration) -> Smtp {
    let settings = SmtpSettings {
        url: url.to_owned(),
        username: None,
        password: None,
        from: "Millpond <pond@example.com>".to_owned(),
        timeout,
    };
    Smtp::new(&settings).unwrap()
}

fn mail() -> Mail {
    Mail {
        about: "password-reset",
        to: AMY.to_owned(),
        subject: "Đặt lại mật khẩu".to_owned(),
        text: "Chào Amy,\n.\n..two dots\nhttps://pond.example/reset?token=abc\n".to_owned(),
        of_use_for: HOUR,
        tenant: TenantId::SYSTEM,
        request_id: Some("req-42".to_owned()),
        trace: None,
    }
}

async fn store(kit: &JobKit) -> JobId {
    let mut tx = db::begin(kit.db.pool()).await.unwrap();
    let job = send(&mut tx, &keyring(), mail()).await.unwrap();
    tx.commit().await.unwrap();
    job
}

fn last_error(job: &JobRecord) -> &str {
    &job.errors.last().expect("it failed").code
}

#[tokio::test]
async fn a_mail_arrives_as_it_was_written_and_lies_nowhere_in_clear() {
    let stage = Stage::set().await;
    let job = store(&stage.kit).await;
    let stored = sqlx::query_scalar!(r#"select args::text as "args!" from jobs"#);
    let stored = stored.fetch_one(stage.kit.db.pool()).await.unwrap();
    assert!(
        stored.contains("password-reset") && !stored.contains("amy") && !stored.contains("token"),
        "{stored}"
    );

    let done = stage.kit.run_one::<SendEmail>().await;
    assert_eq!((done.status, done.attempts), (JobStatus::Completed, 1), "{done:?}");
    let letters = stage.letters().await;
    assert_eq!(letters.len(), 1, "{letters:?}");
    let letter = &letters[0];
    assert_eq!((&letter["subject"], &letter["arrivals"]), (&json!("Đặt lại mật khẩu"), &json!(1)));
    assert_eq!(letter["text"].as_str().unwrap().trim_end().replace("\r\n", "\n"), mail().text.trim_end());
    assert_eq!((&letter["from"], &letter["to"]), (&json!("pond@example.com"), &json!([AMY])));
    assert_eq!(letter["messageId"], json!(format!("<{job}@example.com>")));
    assert_eq!(done.args["to"], "[redacted]");
}

#[tokio::test]
async fn a_mail_whose_sender_died_after_the_servers_yes_comes_again_under_one_message_id() {
    let stage = Stage::set().await;
    store(&stage.kit).await;
    let done = stage.kit.run_twice::<SendEmail>().await;
    assert_eq!(done.status, JobStatus::Completed, "{done:?}");
    let letters = stage.letters().await;
    assert_eq!((letters.len(), &letters[0]["arrivals"]), (1, &json!(2)));
}

#[tokio::test]
async fn a_server_that_takes_the_mail_and_does_not_say_so_is_given_it_again() {
    let stage = Stage::set().await;
    for fault in ["drop", "truncated", "malformed"] {
        stage.controls.forget_mail().await;
        stage.fault("message", json!({ "kind": fault })).await;
        store(&stage.kit).await;
        let failed = stage.kit.run_one::<SendEmail>().await;
        assert_eq!(
            (failed.status, last_error(&failed)),
            (JobStatus::Processing, "MAIL_UNAVAILABLE"),
            "{fault}"
        );
        stage.controls.faults(json!([])).await;
        assert_eq!(stage.kit.run_one::<SendEmail>().await.status, JobStatus::Completed);
        let letters = stage.letters().await;
        assert_eq!((letters.len(), &letters[0]["arrivals"]), (1, &json!(2)), "{fault}");
    }
}

#[tokio::test]
async fn a_server_that_is_busy_is_tried_again_at_every_moment_of_the_exchange() {
    let stage = Stage::set().await;
    for (operation, status) in [("connect", 421), ("recipient", 450), ("message", 451), ("message", 421)] {
        stage.controls.forget_mail().await;
        stage.fault(operation, json!({ "kind": "status", "status": status })).await;
        store(&stage.kit).await;
        let failed = stage.kit.run_one::<SendEmail>().await;
        assert_eq!(
            (failed.status, last_error(&failed)),
            (JobStatus::Processing, "MAIL_UNAVAILABLE"),
            "{status}"
        );
        assert!(stage.letters().await.is_empty());
        stage.controls.faults(json!([])).await;
        assert_eq!(stage.kit.run_one::<SendEmail>().await.status, JobStatus::Completed);
        assert_eq!(stage.letters().await.len(), 1);
    }
}

#[tokio::test]
async fn a_mail_that_is_refused_for_good_ends_at_once_and_quotes_nobody() {
    let stage = Stage::set().await;
    for (operation, status) in [("recipient", 550), ("message", 554)] {
        stage.fault(operation, json!({ "kind": "status", "status": status })).await;
        store(&stage.kit).await;
        let failed = stage.kit.run_one::<SendEmail>().await;
        assert_eq!((failed.status, failed.attempts), (JobStatus::Failed, 1), "{status}");
        assert_eq!(last_error(&failed), "MAIL_REFUSED");
        assert!(!format!("{failed:?}").contains("amy@"), "{failed:?}");
    }
    assert!(stage.letters().await.is_empty());
}

#[tokio::test]
async fn a_server_that_says_nothing_or_nonsense_costs_an_attempt_and_no_more() {
    let stage = Stage::with_timeout(Duration::from_millis(300)).await;
    let hang = json!({ "kind": "hang" });
    let garbage = json!({ "kind": "malformed" });
    let endless = json!({ "kind": "oversized", "bytes": 50_000_000 });
    for (operation, fault) in
        [("connect", &hang), ("message", &hang), ("connect", &garbage), ("connect", &endless)]
    {
        stage.fault(operation, fault.clone()).await;
        store(&stage.kit).await;
        let failed = stage.kit.run_one::<SendEmail>().await;
        assert_eq!((failed.status, failed.attempts), (JobStatus::Processing, 1), "{operation} {fault}");
        assert_eq!(last_error(&failed), "MAIL_UNAVAILABLE");
        stage.controls.faults(json!([])).await;
        assert_eq!(stage.kit.run_one::<SendEmail>().await.status, JobStatus::Completed);
    }
}

#[tokio::test]
async fn without_a_mail_server_the_job_says_what_to_set_and_waits_for_it() {
    let kit = JobKit::new().await;
    store(&kit).await;
    let failed = kit.run_one::<SendEmail>().await;
    assert_eq!((failed.status, last_error(&failed)), (JobStatus::Processing, "MAIL_NOT_CONFIGURED"));
    assert!(failed.errors[0].message.contains("MILLPOND_SMTP__URL"), "{failed:?}");
    kit.leaves::<SendEmail>(1);
}

#[tokio::test]
async fn a_mail_that_is_of_no_use_any_more_is_not_sent() {
    let stage = Stage::set().await;
    store(&stage.kit).await;
    stage.kit.clock.advance(HOUR + Duration::from_secs(1)).await;
    let expired = stage.kit.run_one::<SendEmail>().await;
    assert_eq!((expired.status, last_error(&expired)), (JobStatus::Failed, "DEADLINE_EXCEEDED"));
    assert!(stage.letters().await.is_empty());
}

#[tokio::test]
async fn a_mail_that_is_tried_again_by_hand_is_sent_while_it_is_of_use_and_never_after() {
    let stage = Stage::set().await;
    let pool = stage.kit.db.pool();
    for (passed, status, letters) in [(HOUR / 2, JobStatus::Completed, 1), (HOUR, JobStatus::Failed, 1)] {
        stage.fault("message", json!({ "kind": "status", "status": 554 })).await;
        let job = store(&stage.kit).await;
        assert_eq!(stage.kit.run_one::<SendEmail>().await.status, JobStatus::Failed);
        stage.controls.faults(json!([])).await;
        stage.kit.clock.advance(passed).await;
        let mut tx = db::begin(pool).await.unwrap();
        let redriven = queue::redrive(&mut tx, TenantId::SYSTEM, job).await.unwrap();
        assert_eq!(redriven, Redriven::Ready(Some(Queue::Maintenance)));
        tx.commit().await.unwrap();
        let ended = stage.kit.run_one::<SendEmail>().await;
        assert_eq!((ended.id, ended.status), (job, status), "after {passed:?}: {ended:?}");
        assert_eq!(stage.letters().await.len(), letters);
        if status == JobStatus::Failed {
            assert_eq!((last_error(&ended), ended.attempts), ("DEADLINE_EXCEEDED", 1), "for good");
        }
    }
}

#[tokio::test]
async fn a_mail_of_a_transaction_that_is_rolled_back_is_never_sent() {
    let stage = Stage::set().await;
    let mut tx = db::begin(stage.kit.db.pool()).await.unwrap();
    send(&mut tx, &keyring(), mail()).await.unwrap();
    drop(tx);
    stage.kit.assert_not_enqueued::<SendEmail>().await;
}
