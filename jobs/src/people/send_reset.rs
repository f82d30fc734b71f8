//! `people.send_reset`: a mail with a permit to choose a password, if there is an account to choose it for.
//!
//! Whoever asks is answered before anybody knows whether the account exists: asking stores this job, whatever the address,
//! and what it finds is told by mail alone.

use std::time::Duration;

use ::identity::{Email, PERMIT_LIFE, find_by_email, issue_permit};
use audit::Actor;
use kernel::ids::TenantId;
use queue::{Backoff, INTERNAL_ERROR, Job, JobError, Marked, Outcome, Policy, Queue};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    Context, Deed, Door, Handler,
    email::{Mail, send},
};

/// The arguments.
#[derive(Clone, Serialize, Deserialize)]
pub struct SendReset {
    /// The address that was given.
    pub email: String,
    /// Where people reach the API, without a slash at the end.
    pub public_url: String,
}

impl Job for SendReset {
    const KIND: &'static str = "people.send_reset";
    const POLICY: Policy = Policy {
        queue: Queue::Maintenance,
        // Somebody waits for it.
        priority: -10,
        attempts_max: 10,
        timeout: Duration::from_secs(30),
        backoff: Backoff::Exponential { base: Duration::from_secs(1), max: Duration::from_secs(60) },
        ..Policy::DEFAULT
    };
    const MARKED: Marked = Marked { encrypted: &["email"], redacted: &[] };
}

impl Handler for SendReset {
    async fn run(self, cx: Context) -> Result<Outcome, JobError> {
        let keyring = &cx.services().keyring;
        let failed = |error: &(dyn std::error::Error + 'static)| failure().caused_by(error);
        let email = Email::parse(&self.email).map_err(|_| JobError::fatal(INTERNAL_ERROR, "no address"))?;
        let mut tx = cx.begin().await?;
        let found = find_by_email(&mut tx, keyring, &email).await.map_err(|error| failed(&error))?;
        let Some(person) = found.map(|found| found.person).filter(|person| person.disabled_at.is_none())
        else {
            return Ok(tx.done(None, None).await?);
        };
        let permit = issue_permit(&mut tx, person.id).await.map_err(|error| failed(&error))?;
        let door = Door {
            actor: Actor::System("password-reset"),
            request_id: cx.request_id().map(str::to_owned),
            keyring,
        };
        let deed = Deed { before: None, after: Some(json!({ "minutes": PERMIT_LIFE.as_secs() / 60 })) };
        let target = person.id.to_string();
        door.record(&mut tx, "users.permit_password", &target, TenantId::SYSTEM, deed)
            .await
            .map_err(|error| failed(&error))?;
        let mail = letter(&self.public_url, person.email.as_str(), permit.secret.expose(), &cx);
        send(&mut tx, keyring, mail).await?;
        Ok(tx.done(None, Some(person.id.uuid())).await?)
    }
}

fn failure() -> JobError {
    JobError::retryable(INTERNAL_ERROR, "the permit was not made")
}

fn letter(public_url: &str, to: &str, permit: &str, cx: &Context) -> Mail {
    let minutes = PERMIT_LIFE.as_secs() / 60;
    Mail {
        about: "password-reset",
        to: to.to_owned(),
        subject: "Choose your Millpond password".to_owned(),
        text: format!(
            "Somebody, probably you, asked to choose the password of your account at {public_url}.\n\n\
             Your code, which works once and for {minutes} minutes:\n\n    {permit}\n\n\
             Give it with the new password to POST {public_url}/api/v1/session/password-reset/confirm. \
             Choosing a password signs you out everywhere.\n\n\
             If it was not you, do nothing: without the code nobody can.\n"
        ),
        of_use_for: PERMIT_LIFE,
        tenant: TenantId::SYSTEM,
        request_id: cx.request_id().map(str::to_owned),
        trace: Some(cx.trace()),
    }
}
