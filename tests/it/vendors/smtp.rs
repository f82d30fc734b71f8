//! The mail client against the sandbox's server: how lines are protected and passwords are given.

use std::time::Duration;

use sandbox::{Sandbox, SandboxOptions};
use vendors::smtp::{Letter, Smtp, SmtpSettings};
use vendors::{Origin, VendorError};

use crate::support::SandboxControls;

const TOKEN: &str = "let-me-in";
const LETTER: Letter<'_> = Letter { id: "job_1", to: "amy@example.com", subject: "Hi", text: "there" };

async fn server() -> (Sandbox, SandboxControls) {
    let options = SandboxOptions { token: TOKEN.to_owned(), ..SandboxOptions::default() };
    let sandbox = sandbox::start(options).await.unwrap();
    let controls = SandboxControls::of(&sandbox);
    (sandbox, controls)
}

async fn sent(url: &str, password: Option<&str>) -> Result<(), VendorError> {
    let settings = SmtpSettings {
        url: url.to_owned(),
        username: password.map(|_| "pond".to_owned()),
        password: password.map(str::to_owned),
        from: "pond@example.com".to_owned(),
        timeout: Duration::from_secs(5),
    };
    Smtp::new(&settings).unwrap().send(&LETTER, Origin::default()).await
}

#[tokio::test]
async fn a_password_is_given_and_a_wrong_one_may_be_mended() {
    let (sandbox, controls) = server().await;
    sent(&sandbox.smtp_url(), Some(TOKEN)).await.unwrap();
    assert_eq!(controls.mail(LETTER.to).await.len(), 1);
    let error = sent(&sandbox.smtp_url(), Some("wrong")).await.unwrap_err();
    assert!(matches!(error, VendorError::Unauthorized) && error.is_retryable(), "{error:?}");
}

#[tokio::test]
async fn a_server_without_the_protection_that_settings_want_is_told_nothing() {
    let (sandbox, controls) = server().await;
    let server = sandbox.smtp_url().replace("smtp+plain://", "");
    let error = sent(&format!("smtp://{server}"), Some(TOKEN)).await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    let error = sent(&format!("smtps://{server}"), Some(TOKEN)).await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    let calls = controls.calls("vendor=smtp").await;
    let operations: Vec<_> =
        calls["calls"].as_array().unwrap().iter().map(|call| &call["operation"]).collect();
    assert_eq!(operations, ["connect"], "{calls}");
}

#[tokio::test]
async fn nobody_there_is_no_connection() {
    let error = sent("smtp+plain://127.0.0.1:9", None).await.unwrap_err();
    assert!(matches!(error, VendorError::Connect { .. }) && error.is_retryable(), "{error:?}");
}

#[tokio::test]
async fn an_address_that_is_none_is_refused_before_anything_is_sent() {
    let (sandbox, controls) = server().await;
    let settings = SmtpSettings {
        url: sandbox.smtp_url(),
        username: None,
        password: None,
        from: "pond@example.com".to_owned(),
        timeout: Duration::from_secs(5),
    };
    let smtp = Smtp::new(&settings).unwrap();
    let error = smtp.send(&Letter { to: "nobody", ..LETTER }, Origin::default()).await.unwrap_err();
    assert!(matches!(error, VendorError::Rejected { .. }) && !error.is_retryable(), "{error:?}");
    assert_eq!(controls.calls("vendor=smtp").await["total"], 0);
}
