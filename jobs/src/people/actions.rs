//! Letting people in, changing what they may, and ending their sessions.

use std::time::Duration;

use ::identity::{
    ChangedPerson, Guarded, IdentityError, LOCK, NewPerson, Password, PasswordHash, Passwords, Person,
    PersonChange, Role, Session, Tries, end_sessions, find, give_back, lock, set_password, try_password,
};
use audit::{AuditError, digest};
use db::{Connection, Pool};
use kernel::ids::{SessionId, TenantId, UserId};
use serde_json::{Value, json};

use super::sign_in::try_to_take_back;
use crate::{Deed, Door};

/// Why nothing was done. The caller's transaction can only be rolled back, unless an address was taken.
#[derive(Debug, thiserror::Error)]
pub enum PeopleError {
    /// Of the accounts themselves.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The audit log could not be written.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The present password is another.
    #[error("the present password is wrong")]
    WrongPassword,
    /// The present password was tried too often.
    #[error("too many wrong passwords; try again later")]
    Locked {
        /// For how long at the most.
        for_at_most: Duration,
    },
    /// A job was not stored.
    #[error(transparent)]
    Queue(#[from] queue::Error),
    /// No such session of this person.
    #[error("no such session")]
    NoSession,
}

impl From<sqlx::Error> for PeopleError {
    fn from(error: sqlx::Error) -> Self {
        Self::Identity(error.into())
    }
}

/// Makes an account.
///
/// # Errors
/// [`PeopleError`].
pub async fn create(conn: &mut Connection, door: &Door<'_>, new: NewPerson) -> Result<Person, PeopleError> {
    let person = ::identity::create(conn, door.keyring, new).await?;
    let after = json!({
        "email": digest(door.keyring, person.email.as_str()),
        "role": person.role.as_str(),
        "hasPassword": person.has_password,
    });
    record(conn, door, "users.create", person.id, None, Some(after)).await?;
    Ok(person)
}

/// Everybody, in the order in which they were made.
///
/// # Errors
/// [`PeopleError`].
pub async fn list(
    conn: &mut Connection,
    door: &Door<'_>,
    after: Option<UserId>,
    role: Option<Role>,
    rows_max: i64,
) -> Result<Vec<Person>, PeopleError> {
    Ok(::identity::list(conn, door.keyring, after, role, rows_max).await?)
}

/// A person after a change.
#[derive(Debug, Clone)]
pub struct Changed {
    /// Who.
    pub person: Person,
    /// Sessions that ended with it.
    pub sessions_ended: u64,
}

/// Changes a person. Whoever is disabled or gets a password from somebody else is signed out everywhere.
///
/// # Errors
/// [`PeopleError`].
pub async fn change(
    conn: &mut Connection,
    door: &Door<'_>,
    id: UserId,
    change: PersonChange,
) -> Result<Changed, PeopleError> {
    let ChangedPerson { before, after: person } = ::identity::change(conn, door.keyring, id, &change).await?;
    let signs_out = change.enabled == Some(false) || change.password.is_some();
    let sessions_ended = if signs_out { end_sessions(conn, id, None).await? } else { 0 };
    let mut after = standing(&person);
    after["passwordChanged"] = change.password.is_some().into();
    after["sessionsEnded"] = sessions_ended.into();
    record(conn, door, "users.change", id, Some(standing(&before)), Some(after)).await?;
    Ok(Changed { person, sessions_ended })
}

fn standing(person: &Person) -> Value {
    json!({ "role": person.role.as_str(), "enabled": person.disabled_at.is_none() })
}

/// Changes a person's own password, which ends their other sessions. Tries of the present one are counted as when they
/// sign in, before it is looked at, outside any transaction; it must still be the present one inside.
///
/// # Errors
/// [`PeopleError::WrongPassword`], [`PeopleError::Locked`].
pub async fn change_password(
    pool: &Pool,
    door: &Door<'_>,
    passwords: &Passwords,
    session: &Session,
    present: Password,
    chosen: Password,
) -> Result<u64, PeopleError> {
    let mut tx = db::begin(pool).await?;
    let (guarded, tries) = try_password(&mut tx, door.keyring, session.person).await?;
    let locks = match guarded {
        Guarded::Locked { for_at_most } => return Err(PeopleError::Locked { for_at_most }),
        Guarded::Allowed { locks } => locks,
    };
    let found = find(&mut tx, door.keyring, session.person).await?.ok_or(IdentityError::NotFound)?;
    tx.commit().await?;
    let changed = async {
        if !passwords.verify(present, found.password.clone()).await? {
            return Err(PeopleError::WrongPassword);
        }
        let hash = passwords.hash(chosen).await?;
        replace_password(pool, door, session, &tries, found.password, &hash).await
    };
    let changed = changed.await;
    match &changed {
        Err(PeopleError::WrongPassword) if locks => note_lock(pool, door, session.person).await?,
        Ok(_) | Err(PeopleError::WrongPassword) => {}
        Err(_) => try_to_take_back(pool, &tries).await,
    }
    changed
}

/// Stores the next password if the present one is still that which was looked at.
async fn replace_password(
    pool: &Pool,
    door: &Door<'_>,
    session: &Session,
    tries: &Tries,
    verified: Option<PasswordHash>,
    hash: &PasswordHash,
) -> Result<u64, PeopleError> {
    let mut tx = db::begin(pool).await?;
    give_back(&mut tx, tries).await?;
    if lock(&mut tx, door.keyring, session.person).await?.is_none_or(|now| now.password != verified) {
        return Err(PeopleError::WrongPassword);
    }
    set_password(&mut tx, session.person, hash).await?;
    let ended = end_sessions(&mut tx, session.person, Some(session.id)).await?;
    let after = json!({ "sessionsEnded": ended });
    record(&mut tx, door, "users.change_password", session.person, None, Some(after)).await?;
    tx.commit().await?;
    Ok(ended)
}

/// As for signing in, guessing leaves one entry for each lock.
async fn note_lock(pool: &Pool, door: &Door<'_>, person: UserId) -> Result<(), PeopleError> {
    let mut tx = db::begin(pool).await?;
    let after = json!({ "lockedForS": LOCK.as_secs() });
    record(&mut tx, door, "users.lock_password", person, None, Some(after)).await?;
    Ok(tx.commit().await?)
}

/// Ends the session that asks.
///
/// # Errors
/// [`PeopleError::NoSession`] when it has ended meanwhile.
pub async fn sign_out(conn: &mut Connection, door: &Door<'_>, session: &Session) -> Result<(), PeopleError> {
    end_session(conn, door, session.person, session.id).await
}

/// Ends one session of a person.
///
/// # Errors
/// [`PeopleError::NoSession`].
pub async fn end_session(
    conn: &mut Connection,
    door: &Door<'_>,
    person: UserId,
    session: SessionId,
) -> Result<(), PeopleError> {
    if !::identity::end_session(conn, person, session).await? {
        return Err(PeopleError::NoSession);
    }
    record(conn, door, "sessions.end", person, Some(json!({ "session": session })), None).await
}

async fn record(
    conn: &mut Connection,
    door: &Door<'_>,
    action: &str,
    person: UserId,
    before: Option<Value>,
    after: Option<Value>,
) -> Result<(), PeopleError> {
    let deed = Deed { before, after };
    Ok(door.record(conn, action, &person.to_string(), TenantId::SYSTEM, deed).await?)
}
