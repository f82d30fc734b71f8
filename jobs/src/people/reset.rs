//! Choosing a password that was forgotten, or never chosen.

use std::net::IpAddr;

use ::identity::{Email, PasswordHash, Secret, end_sessions, redeem_permit, set_password, try_reset};
use audit::{Actor, digest};
use db::{Connection, Pool};
use kernel::{ids::TenantId, sealing::Keyring};
use queue::{NewJob, enqueue};
use serde_json::json;

use super::{PeopleError, SendReset};
use crate::{Deed, Door};

/// Asks for a mail with a permit. Whether there is such an account is found out by the job that this stores, so nobody can
/// tell by the answer or its time. Asked for too often, nothing is stored and the answer is the same.
///
/// # Errors
/// [`PeopleError`].
pub async fn ask_reset(
    pool: &Pool,
    keyring: &Keyring,
    email: &Email,
    address: IpAddr,
    public_url: &str,
    request_id: Option<String>,
) -> Result<bool, PeopleError> {
    let mut tx = db::begin(pool).await?;
    let allowed = try_reset(&mut tx, keyring, email, address).await?;
    if allowed {
        let reset = SendReset { email: email.as_str().to_owned(), public_url: public_url.to_owned() };
        let job = NewJob::of(&reset)?.request_id(request_id.clone()).seal(keyring);
        let job = enqueue(&mut tx, job).await?.id();
        let door = Door { actor: Actor::System("password-reset"), request_id, keyring };
        let after = json!({
            "email": digest(keyring, email.as_str()),
            "address": digest(keyring, &address.to_string()),
        });
        let deed = Deed { before: None, after: Some(after) };
        let target = job.to_string();
        door.record(&mut tx, "users.ask_password_reset", &target, TenantId::SYSTEM, deed).await?;
    }
    tx.commit().await?;
    Ok(allowed)
}

/// Chooses a password with a permit, and signs its person out everywhere. Answers whether the permit worked.
///
/// # Errors
/// [`PeopleError`].
pub async fn reset_password(
    conn: &mut Connection,
    keyring: &Keyring,
    permit: &Secret,
    password: &PasswordHash,
    request_id: Option<String>,
) -> Result<bool, PeopleError> {
    let Some(person) = redeem_permit(conn, permit).await? else { return Ok(false) };
    set_password(conn, person, password).await?;
    let sessions_ended = end_sessions(conn, person, None).await?;
    let door = Door { actor: Actor::User(person), request_id, keyring };
    let deed = Deed { before: None, after: Some(json!({ "sessionsEnded": sessions_ended })) };
    door.record(conn, "users.reset_password", &person.to_string(), TenantId::SYSTEM, deed).await?;
    Ok(true)
}
