//! Permits to choose a password: sent to who forgot theirs or was invited. One works once, for an hour, and only the
//! newest of a person works.

use std::time::Duration;

use db::Connection;
use kernel::ids::UserId;

use crate::{Secret, SecretKind, error::IdentityError};

/// How long a permit works.
pub const PERMIT_LIFE: Duration = Duration::from_secs(60 * 60);

/// A permit as it is sent.
#[derive(Debug, Clone)]
pub struct Permit {
    /// What lets its holder choose a password.
    pub secret: Secret,
}

/// Makes a permit for a person, who stays locked, in the place of earlier ones.
///
/// # Errors
/// [`IdentityError::Database`].
pub async fn issue_permit(conn: &mut Connection, person: UserId) -> Result<Permit, IdentityError> {
    let secret = Secret::generate(SecretKind::Permit);
    // Of two who ask at once, the second finds the first one's permit and takes it away.
    sqlx::query!("select from people where id = $1 for no key update", person.uuid())
        .fetch_optional(&mut *conn)
        .await?;
    sqlx::query!("delete from password_permits where person_id = $1", person.uuid())
        .execute(&mut *conn)
        .await?;
    sqlx::query!(
        "insert into password_permits (secret_hash, person_id, expires_at)
         values ($1, $2, now() + $3 * interval '1 second')",
        secret.hash(),
        person.uuid(),
        PERMIT_LIFE.as_secs_f64(),
    )
    .execute(conn)
    .await?;
    Ok(Permit { secret })
}

/// Whether a permit works at this moment.
///
/// # Errors
/// [`IdentityError::Database`].
pub async fn permit_works(conn: &mut Connection, secret: &Secret) -> Result<bool, IdentityError> {
    let works = sqlx::query_scalar!(
        r#"select exists (
               select from password_permits t join people p on p.id = t.person_id
               where t.secret_hash = $1 and p.disabled_at is null and t.expires_at > now()
           ) as "works!""#,
        secret.hash(),
    )
    .fetch_one(conn)
    .await?;
    Ok(works)
}

/// Uses a permit up and answers whose it was, with the person locked; none when it does not work, or its person may not
/// sign in.
///
/// # Errors
/// [`IdentityError::Database`].
pub async fn redeem_permit(conn: &mut Connection, secret: &Secret) -> Result<Option<UserId>, IdentityError> {
    let person = sqlx::query_scalar!(
        "select p.id from people p join password_permits t on t.person_id = p.id
         where t.secret_hash = $1 and p.disabled_at is null
         for no key update of p",
        secret.hash(),
    )
    .fetch_optional(&mut *conn)
    .await?;
    let Some(person) = person else { return Ok(None) };
    // Looked at under the lock: whoever waited for another who used it finds none.
    let used = sqlx::query!(
        "delete from password_permits where secret_hash = $1 and expires_at > now()",
        secret.hash()
    )
    .execute(conn)
    .await?;
    Ok((used.rows_affected() > 0).then(|| UserId::from_uuid(person)))
}
