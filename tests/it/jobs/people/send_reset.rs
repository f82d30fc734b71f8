//! `people.send_reset`, and what comes of its mail: a password chosen once, by who reads the mail.

use std::time::Duration;

use identity::Role;
use jobs::email::SendEmail;
use jobs::people::SendReset;
use queue::JobStatus;
use reqwest::Method;
use sandbox::Sandbox;
use serde_json::{Value, json};
use vendors::smtp::{Smtp, SmtpSettings};

use crate::routes::answer::Answer;
use crate::support::person::{PASSWORD, TestPerson};
use crate::support::{JobKit, SandboxControls, TestApi, sandbox};

const RESET: &str = "/api/v1/session/password-reset";

struct Stage {
    kit: JobKit,
    api: TestApi,
    controls: SandboxControls,
    amy: TestPerson,
    _sandbox: Sandbox,
}

impl Stage {
    async fn set() -> Self {
        let sandbox = sandbox().await;
        let settings = SmtpSettings {
            url: sandbox.smtp_url(),
            username: None,
            password: None,
            from: "Millpond <pond@example.com>".to_owned(),
            timeout: Duration::from_secs(10),
        };
        let kit = JobKit::of(jobs::ALL, |services| services.smtp = Some(Smtp::new(&settings).unwrap())).await;
        let api = TestApi::start(&kit.db).await;
        let amy = TestPerson::named(&kit.db, Role::Operator, "amy@example.com").await;
        Self { kit, api, controls: SandboxControls::of(&sandbox), amy, _sandbox: sandbox }
    }

    async fn ask(&self, email: &str) -> Value {
        let request = self.api.request(Method::POST, RESET).json(&json!({ "email": email }));
        let mut body = Answer::to(request).await.expect(202);
        body["requestId"] = Value::Null;
        body
    }

    async fn choose(&self, code: &str, password: &str) -> Answer {
        let body = json!({ "code": code, "password": password });
        Answer::to(self.api.request(Method::POST, &format!("{RESET}/confirm")).json(&body)).await
    }

    async fn sign_in(&self, password: &str) -> u16 {
        let body = json!({ "email": self.amy.email, "password": password });
        Answer::to(self.api.request(Method::POST, "/api/v1/session").json(&body)).await.status
    }

    /// The code of the one mail that Amy got.
    async fn code(&self) -> String {
        let letters = self.controls.mail(&self.amy.email).await;
        assert_eq!(letters.len(), 1, "{letters:?}");
        let text = letters[0]["text"].as_str().unwrap().to_owned();
        let code = text.split_whitespace().find(|word| word.starts_with("mpr_"));
        code.unwrap_or_else(|| panic!("no code in {text}")).to_owned()
    }
}

#[tokio::test]
async fn who_reads_the_mail_chooses_a_password_once_and_is_signed_out_everywhere() {
    let stage = Stage::set().await;
    stage.ask(" Amy@Example.com ").await;
    assert_eq!(stage.kit.run_one::<SendReset>().await.status, JobStatus::Completed);
    assert_eq!(stage.kit.run_one::<SendEmail>().await.status, JobStatus::Completed);
    let code = stage.code().await;
    assert_eq!(stage.choose(&code, "short").await.faults()[0].0, "password");
    stage.choose(&code, "a new password of hers").await.expect(200);
    assert_eq!(stage.choose(&code, "another password of hers").await.faults()[0].0, "code");
    let old = stage.amy.sign(stage.api.request(Method::GET, "/api/v1/session"));
    Answer::to(old).await.refusal(401, "UNAUTHORIZED");
    assert_eq!((stage.sign_in(PASSWORD).await, stage.sign_in("a new password of hers").await), (401, 200));
    let log: Vec<(String, String)> =
        sqlx::query_as("select action, actor from audit_log where action like 'users.%' order by id")
            .fetch_all(stage.kit.db.pool())
            .await
            .unwrap();
    let amy = stage.amy.id.to_string();
    assert_eq!(log[1], ("users.ask_password_reset".to_owned(), "password-reset".to_owned()));
    let (permitted, reset) = (&log[2], &log[3]);
    assert_eq!(permitted, &("users.permit_password".to_owned(), "password-reset".to_owned()));
    assert_eq!(reset, &("users.reset_password".to_owned(), amy));
}

#[tokio::test]
async fn an_address_without_an_account_gets_the_same_answer_and_no_mail() {
    let stage = Stage::set().await;
    assert_eq!(stage.ask("nobody@example.com").await, stage.ask("amy@example.com").await);
    assert_eq!(stage.kit.run_all::<SendReset>().await.len(), 2);
    assert_eq!(stage.kit.enqueued::<SendEmail>().await.len(), 1);
    assert!(stage.controls.mail("nobody@example.com").await.is_empty());
    stage.kit.leaves::<SendEmail>(1);
}

#[tokio::test]
async fn running_twice_sends_one_mail() {
    let stage = Stage::set().await;
    stage.ask("amy@example.com").await;
    assert_eq!(stage.kit.run_twice::<SendReset>().await.status, JobStatus::Completed);
    stage.kit.run_one::<SendEmail>().await;
    let code = stage.code().await;
    stage.choose(&code, "a new password of hers").await.expect(200);
}

#[tokio::test]
async fn more_than_three_wishes_are_answered_alike_and_send_nothing() {
    let stage = Stage::set().await;
    let first = stage.ask("amy@example.com").await;
    for _ in 0..5 {
        assert_eq!(stage.ask("amy@example.com").await, first);
    }
    assert_eq!(stage.kit.run_all::<SendReset>().await.len(), 3);
    // Only the newest code works, so however many mails there are, one of them does.
    assert_eq!(stage.kit.run_all::<SendEmail>().await.len(), 3);
}

#[tokio::test]
async fn a_code_works_for_an_hour_and_a_made_up_one_never() {
    let stage = Stage::set().await;
    stage.ask("amy@example.com").await;
    stage.kit.run_one::<SendReset>().await;
    stage.kit.run_one::<SendEmail>().await;
    let code = stage.code().await;
    let made_up = format!("mpr_{}", "a".repeat(43));
    for wrong in ["", "mpr_", made_up.as_str()] {
        assert_eq!(stage.choose(wrong, "a new password of hers").await.faults()[0].0, "code", "{wrong}");
    }
    sqlx::query("update password_permits set expires_at = expires_at - interval '1 hour'")
        .execute(stage.kit.db.pool())
        .await
        .unwrap();
    assert_eq!(stage.choose(&code, "a new password of hers").await.faults()[0].0, "code");
    assert_eq!(stage.sign_in(PASSWORD).await, 200);
}
