//! Signing in with a password.
//!
//! Three steps: the try is counted and committed, the password is looked at outside any transaction, the session is
//! opened if the account and its password are still what was looked at. Whoever breaks off in between has used a try. Wrong, unknown, disabled and without a password are one failure,
//! after the same work.

use std::{net::IpAddr, time::Duration};

use ::identity::{
    Email, Found, Guarded, IdentityError, OpenedSession, Password, Passwords, Person, SessionKind, Tries,
    find_by_email, give_back, lock, open_session, try_sign_in,
};
use audit::{Actor, AuditError, digest};
use db::{Connection, Pool};
use kernel::{ids::TenantId, sealing::Keyring};
use serde_json::json;

use crate::{Deed, Door};

/// Why nobody was let in.
#[derive(Debug, thiserror::Error)]
pub enum SignInError {
    /// The address or the password is wrong; which of them is not told.
    #[error("the e-mail address or the password is wrong")]
    Wrong,
    /// Too many tries.
    #[error("too many failed attempts; try again later")]
    Locked {
        /// For how long at the most.
        for_at_most: Duration,
    },
    /// Accounts could not be read or written.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The audit log could not be written.
    #[error(transparent)]
    Audit(#[from] AuditError),
}

impl From<sqlx::Error> for SignInError {
    fn from(error: sqlx::Error) -> Self {
        Self::Identity(error.into())
    }
}

/// Somebody who was let in.
#[derive(Debug, Clone)]
pub struct SignedIn {
    /// Who.
    pub person: Person,
    /// Their session.
    pub session: OpenedSession,
}

/// Who wants to be let in, and where from.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// The address they give.
    pub email: Email,
    /// The password they give.
    pub password: Password,
    /// Where from.
    pub address: IpAddr,
    /// What session they want.
    pub kind: SessionKind,
    /// The request.
    pub request_id: Option<String>,
}

/// Lets a person in whose password is right, unless there were too many tries.
///
/// # Errors
/// [`SignInError`].
pub async fn sign_in(
    pool: &Pool,
    keyring: &Keyring,
    passwords: &Passwords,
    attempt: Attempt,
) -> Result<SignedIn, SignInError> {
    let (tries, found) = admit(pool, keyring, &attempt).await?;
    let found = found.filter(|found| found.person.disabled_at.is_none());
    let hash = found.as_ref().and_then(|found| found.password.clone());
    if !passwords.verify(attempt.password, hash.clone()).await? {
        return Err(SignInError::Wrong);
    }
    let Some(Found { person, .. }) = found else { return Err(SignInError::Wrong) };
    let mut tx = db::begin(pool).await?;
    give_back(&mut tx, &tries).await?;
    // Whoever changes a password ends all sessions: one opened after that with the former would outlive it.
    let still = lock(&mut tx, keyring, person.id).await?;
    if still.is_none_or(|now| now.person.disabled_at.is_some() || now.password != hash) {
        return Err(SignInError::Wrong);
    }
    let door = Door { actor: Actor::User(person.id), request_id: attempt.request_id, keyring };
    let session = open(&mut tx, &door, &person, attempt.kind, "password").await?;
    tx.commit().await?;
    Ok(SignedIn { person, session })
}

/// Counts the try, and reads the account meanwhile.
async fn admit(
    pool: &Pool,
    keyring: &Keyring,
    attempt: &Attempt,
) -> Result<(Tries, Option<Found>), SignInError> {
    let mut tx = db::begin(pool).await?;
    let (guarded, tries) = try_sign_in(&mut tx, keyring, &attempt.email, attempt.address).await?;
    match guarded {
        Guarded::Locked { for_at_most } => return Err(SignInError::Locked { for_at_most }),
        Guarded::Allowed { locks: true } => note_lock(&mut tx, keyring, attempt).await?,
        Guarded::Allowed { locks: false } => {}
    }
    let found = find_by_email(&mut tx, keyring, &attempt.email).await?;
    tx.commit().await?;
    Ok((tries, found))
}

/// Guessing leaves one entry for each lock, not one for each guess: that would let guessers fill the log.
async fn note_lock(conn: &mut Connection, keyring: &Keyring, attempt: &Attempt) -> Result<(), AuditError> {
    metrics::counter!("millpond_sign_in_locks_total").increment(1);
    let door = Door { actor: Actor::System("sign-in"), request_id: attempt.request_id.clone(), keyring };
    let after = json!({
        "account": digest(keyring, attempt.email.as_str()),
        "address": digest(keyring, &attempt.address.to_string()),
    });
    let deed = Deed { before: None, after: Some(after) };
    door.record(conn, "sessions.lock", "sign-in", TenantId::SYSTEM, deed).await
}

/// Opens a session for a person who proved who they are by `means`.
///
/// # Errors
/// [`SignInError`].
pub async fn open(
    conn: &mut Connection,
    door: &Door<'_>,
    person: &Person,
    kind: SessionKind,
    means: &str,
) -> Result<OpenedSession, SignInError> {
    let session = open_session(conn, person.id, kind).await?;
    let after = json!({ "session": session.id, "kind": kind.as_str(), "means": means });
    let deed = Deed { before: None, after: Some(after) };
    door.record(conn, "sessions.open", &person.id.to_string(), TenantId::SYSTEM, deed).await?;
    Ok(session)
}
