//! Signing in with a password.
//!
//! Three steps: the try is counted and committed, the password is looked at outside any transaction, the session is
//! opened if the account and its password are still what was looked at. Whoever breaks off in between has used a try; one
//! that we break off, because there is too much to do or the database fails, is taken back. Wrong, unknown, disabled and
//! without a password are one failure, after the same work.

use std::{net::IpAddr, time::Duration};

use ::identity::{
    Email, Found, Guarded, IdentityError, OpenedSession, Password, Passwords, Person, SessionKind, Tries,
    find_by_email, give_back, lock, open_session, take_back, try_sign_in,
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
    let admitted = admit(pool, keyring, &attempt).await?;
    let signed_in = let_in(pool, keyring, passwords, &attempt, &admitted).await;
    match &signed_in {
        // A lock begins with its try, but a right password lifts it: so it is told of now.
        Err(SignInError::Wrong) if admitted.locks => note_lock(pool, keyring, &attempt).await?,
        Ok(_) | Err(SignInError::Wrong) => {}
        Err(_) => try_to_take_back(pool, &admitted.tries).await,
    }
    signed_in
}

/// A try that was counted, and whose it is.
struct Admitted {
    tries: Tries,
    /// A lock began with it.
    locks: bool,
    /// The account, if there is one that may be signed in to.
    found: Option<Found>,
}

/// Counts the try, and reads the account meanwhile.
async fn admit(pool: &Pool, keyring: &Keyring, attempt: &Attempt) -> Result<Admitted, SignInError> {
    let mut tx = db::begin(pool).await?;
    let (guarded, tries) = try_sign_in(&mut tx, keyring, &attempt.email, attempt.address).await?;
    let locks = match guarded {
        Guarded::Locked { for_at_most } => return Err(SignInError::Locked { for_at_most }),
        Guarded::Allowed { locks } => locks,
    };
    let found = find_by_email(&mut tx, keyring, &attempt.email).await?;
    tx.commit().await?;
    let found = found.filter(|found| found.person.disabled_at.is_none());
    Ok(Admitted { tries, locks, found })
}

/// Looks at the password, and opens the session.
async fn let_in(
    pool: &Pool,
    keyring: &Keyring,
    passwords: &Passwords,
    attempt: &Attempt,
    admitted: &Admitted,
) -> Result<SignedIn, SignInError> {
    let hash = admitted.found.as_ref().and_then(|found| found.password.clone());
    if !passwords.verify(attempt.password.clone(), hash.clone()).await? {
        return Err(SignInError::Wrong);
    }
    let Some(Found { person, .. }) = &admitted.found else { return Err(SignInError::Wrong) };
    let mut tx = db::begin(pool).await?;
    give_back(&mut tx, &admitted.tries).await?;
    // Whoever changes a password ends all sessions: one opened after that with the former would outlive it.
    let still = lock(&mut tx, keyring, person.id).await?;
    if still.is_none_or(|now| now.person.disabled_at.is_some() || now.password != hash) {
        return Err(SignInError::Wrong);
    }
    let door = Door { actor: Actor::User(person.id), request_id: attempt.request_id.clone(), keyring };
    let session = open(&mut tx, &door, person, attempt.kind, "password").await?;
    tx.commit().await?;
    Ok(SignedIn { person: person.clone(), session })
}

/// Guessing leaves one entry for each lock, not one for each guess: that would let guessers fill the log.
async fn note_lock(pool: &Pool, keyring: &Keyring, attempt: &Attempt) -> Result<(), SignInError> {
    metrics::counter!("millpond_sign_in_locks_total").increment(1);
    let door = Door { actor: Actor::System("sign-in"), request_id: attempt.request_id.clone(), keyring };
    let after = json!({
        "account": digest(keyring, attempt.email.as_str()),
        "address": digest(keyring, &attempt.address.to_string()),
    });
    let deed = Deed { before: None, after: Some(after) };
    let mut tx = db::begin(pool).await?;
    door.record(&mut tx, "sessions.lock", "sign-in", TenantId::SYSTEM, deed).await?;
    Ok(tx.commit().await?)
}

/// A try whose password was not looked at, or whose session was not opened, does not count. When that cannot be stored it
/// does: what went wrong is told already.
pub(super) async fn try_to_take_back(pool: &Pool, tries: &Tries) {
    let taken_back = async {
        let mut tx = db::begin(pool).await?;
        take_back(&mut tx, tries).await?;
        Ok::<_, IdentityError>(tx.commit().await?)
    };
    if let Err(error) = taken_back.await {
        tracing::warn!(%error, "a try of a password counts although nothing came of it");
    }
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
    let after = json!({
        "session": session.id,
        "kind": kind.as_str(),
        "means": means,
        "sessionsEnded": session.ended,
    });
    let deed = Deed { before: None, after: Some(after) };
    door.record(conn, "sessions.open", &person.id.to_string(), TenantId::SYSTEM, deed).await?;
    Ok(session)
}
