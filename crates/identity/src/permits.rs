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

/// Makes a permit for a person, in the place of earlier ones.
///
/// # Errors
/// [`IdentityError::Database`].
pub async fn issue_permit(conn: &mut Connection, person: UserId) -> Result<Permit, IdentityError> {
    let secret = Secret::generate(SecretKind::Permit);
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

/// Uses a permit up and answers whose it was; none when it does not work, or its person may not sign in.
///
/// # Errors
/// [`IdentityError::Database`].
pub async fn redeem_permit(conn: &mut Connection, secret: &Secret) -> Result<Option<UserId>, IdentityError> {
    let person = sqlx::query_scalar!(
        "delete from password_permits t using people p
         where t.secret_hash = $1 and p.id = t.person_id and p.disabled_at is null and t.expires_at > now()
         returning t.person_id",
        secret.hash(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(person.map(UserId::from_uuid))
}
