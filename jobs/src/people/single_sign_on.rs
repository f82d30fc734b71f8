//! Signing in by the word of an OpenID provider.
//!
//! Issuer and subject are who somebody is; an address is so only the first time, when the provider has verified it, and for
//! an account that nobody else vouches for. So an address that changes hands at the provider opens nobody else's account.

use ::identity::{
    Email, IdentityError, NewPerson, Person, Role, SessionKind, find_by_email, find_by_oidc, link_oidc,
};
use audit::{Actor, AuditError, digest};
use db::{Connection, Pool};
use kernel::{ids::TenantId, sealing::Keyring};
use serde_json::json;
use vendors::oidc::Claims;

use super::sign_in::{SignInError, SignedIn, open};
use crate::{Deed, Door};

/// What becomes of people whom nobody here knows yet.
#[derive(Debug, Clone, Default)]
pub struct Newcomers {
    /// The role they get; none: they are not let in.
    pub role: Option<Role>,
    /// The mail domains they must come from, in lower case.
    pub domains: Vec<String>,
}

/// Why nobody was let in, although the provider says who it is.
#[derive(Debug, thiserror::Error)]
pub enum SingleSignOnError {
    /// Nobody here knows them.
    #[error("this person has no account here")]
    Unknown,
    /// Their account is disabled.
    #[error("this person may not sign in")]
    Disabled,
    /// Accounts or the log could not be read or written.
    #[error(transparent)]
    SignIn(#[from] SignInError),
}

impl From<IdentityError> for SingleSignOnError {
    fn from(error: IdentityError) -> Self {
        Self::SignIn(error.into())
    }
}

impl From<AuditError> for SingleSignOnError {
    fn from(error: AuditError) -> Self {
        Self::SignIn(error.into())
    }
}

impl From<sqlx::Error> for SingleSignOnError {
    fn from(error: sqlx::Error) -> Self {
        Self::SignIn(error.into())
    }
}

/// Lets somebody in for whom the provider vouches, with a session for a browser.
///
/// # Errors
/// [`SingleSignOnError`].
pub async fn sign_in_by(
    pool: &Pool,
    keyring: &Keyring,
    newcomers: &Newcomers,
    claims: &Claims,
    request_id: Option<String>,
) -> Result<SignedIn, SingleSignOnError> {
    let mut tx = db::begin(pool).await?;
    let door = Door { actor: Actor::System("single-sign-on"), request_id, keyring };
    let person = match find_by_oidc(&mut tx, keyring, &claims.issuer, &claims.subject).await? {
        Some(person) => person,
        None => first_time(&mut tx, &door, newcomers, claims).await?,
    };
    if person.disabled_at.is_some() {
        return Err(SingleSignOnError::Disabled);
    }
    let door = Door { actor: Actor::User(person.id), ..door };
    let session = open(&mut tx, &door, &person, SessionKind::Cookie, "single-sign-on").await?;
    tx.commit().await?;
    Ok(SignedIn { person, session })
}

/// The account of somebody whom the provider names for the first time: the one with their address, or a new one.
async fn first_time(
    conn: &mut Connection,
    door: &Door<'_>,
    newcomers: &Newcomers,
    claims: &Claims,
) -> Result<Person, SingleSignOnError> {
    let verified = claims.email.as_deref().filter(|_| claims.email_verified);
    let email = verified.and_then(|email| Email::parse(email).ok()).ok_or(SingleSignOnError::Unknown)?;
    let known = find_by_email(conn, door.keyring, &email).await?.map(|found| found.person);
    let (person, is_new) = match known {
        Some(person) if person.disabled_at.is_some() => return Err(SingleSignOnError::Disabled),
        // Whoever has the address now is not who had it when it was linked.
        Some(person) if person.has_oidc => return Err(SingleSignOnError::Unknown),
        Some(person) => (person, false),
        None => (newcomer(conn, door.keyring, newcomers, email).await?, true),
    };
    match link_oidc(conn, person.id, &claims.issuer, &claims.subject).await {
        // Somebody signed in with the same account at the same moment.
        Err(IdentityError::NotFound) => return Err(SingleSignOnError::Unknown),
        linked => linked?,
    }
    let after = json!({
        "email": digest(door.keyring, person.email.as_str()),
        "role": person.role.as_str(),
        "issuer": claims.issuer,
        "subject": digest(door.keyring, &claims.subject),
        "isNew": is_new,
    });
    let deed = Deed { before: None, after: Some(after) };
    door.record(conn, "users.link", &person.id.to_string(), TenantId::SYSTEM, deed).await?;
    Ok(person)
}

async fn newcomer(
    conn: &mut Connection,
    keyring: &Keyring,
    newcomers: &Newcomers,
    email: Email,
) -> Result<Person, SingleSignOnError> {
    let role = newcomers.role.filter(|_| newcomers.domains.iter().any(|domain| domain == email.domain()));
    let role = role.ok_or(SingleSignOnError::Unknown)?;
    Ok(::identity::create(conn, keyring, NewPerson { email, role, password: None }).await?)
}
