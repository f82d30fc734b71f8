//! An API, workers made by hand and a mail server, over one database whose clock stands still.

use std::time::Duration;

use jobs::email::SendEmail;
use sandbox::Sandbox;
use serde_json::Value;
use vendors::smtp::{Smtp, SmtpSettings};

use super::{JobKit, SandboxControls, TestApi, sandbox};

/// Where mail is sent and read.
pub struct MailStage {
    /// Workers and database.
    pub kit: JobKit,
    /// The API.
    pub api: TestApi,
    /// The mail server's controls.
    pub controls: SandboxControls,
    _sandbox: Sandbox,
}

impl MailStage {
    /// Sets it up.
    pub async fn set() -> Self {
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
        Self { kit, api, controls: SandboxControls::of(&sandbox), _sandbox: sandbox }
    }

    /// Sends all mail that waits, and answers the subjects and texts that an address has got since it was last asked, the
    /// oldest first.
    pub async fn mail(&self, address: &str) -> Vec<(String, String)> {
        self.kit.run_all::<SendEmail>().await;
        let letters = self.controls.mail(address).await;
        self.controls.forget_mail().await;
        let text = |letter: &Value, field: &str| letter[field].as_str().unwrap().to_owned();
        letters.iter().map(|letter| (text(letter, "subject"), text(letter, "text"))).collect()
    }

    /// All events that partners were told of, the oldest first.
    pub async fn events(&self) -> Vec<(String, Value)> {
        let rows = sqlx::query!("select event_type, data from webhook_events order by id")
            .fetch_all(self.kit.db.pool())
            .await
            .unwrap();
        rows.into_iter().map(|row| (row.event_type, row.data)).collect()
    }
}
