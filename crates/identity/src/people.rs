//! Accounts of people.

use chrono::{DateTime, Utc};
use db::Connection;
use kernel::{
    Email,
    ids::UserId,
    sealing::{Keyring, SealContext},
};
use uuid::Uuid;

use crate::{PasswordHash, Role, error::IdentityError};

const PURPOSE: &str = "identity.email";

/// A person who may sign in.
#[derive(Debug, Clone)]
pub struct Person {
    /// Their id.
    pub id: UserId,
    /// Their address.
    pub email: Email,
    /// What they may do.
    pub role: Role,
    /// Whether they have chosen a password.
    pub has_password: bool,
    /// Whether single sign-on vouches for them.
    pub has_oidc: bool,
    /// Since when.
    pub created_at: DateTime<Utc>,
    /// Since when they may not sign in.
    pub disabled_at: Option<DateTime<Utc>>,
    /// When they signed in last.
    pub signed_in_at: Option<DateTime<Utc>>,
}

/// A person with what their password is compared with.
#[derive(Debug, Clone)]
pub struct Found {
    /// Who.
    pub person: Person,
    /// Their password's hash.
    pub password: Option<PasswordHash>,
}

/// A person to be let in.
#[derive(Debug, Clone)]
pub struct NewPerson {
    /// Their address.
    pub email: Email,
    /// What they may do.
    pub role: Role,
    /// Their password, if they have one from the start.
    pub password: Option<PasswordHash>,
}

/// Makes an account.
///
/// # Errors
/// [`IdentityError::EmailTaken`] leaves the transaction usable.
pub async fn create(
    conn: &mut Connection,
    keyring: &Keyring,
    new: NewPerson,
) -> Result<Person, IdentityError> {
    let id = UserId::new();
    let email = keyring.seal(new.email.as_str().as_bytes(), &sealed_in(id.uuid()));
    let created_at = sqlx::query_scalar!(
        "insert into people (id, email_tag, email, role, password_hash)
         select $1, $2, $3, $4, $5
         where not exists (select from people where email_tag = any($6))
         on conflict on constraint people_email_key do nothing
         returning created_at",
        id.uuid(),
        keyring.tag(PURPOSE, new.email.as_str().as_bytes()),
        email,
        new.role.as_str(),
        new.password.as_ref().map(PasswordHash::as_str),
        // Made before a rotation of keys, an address has another digest.
        &keyring.tags(PURPOSE, new.email.as_str().as_bytes()),
    )
    .fetch_optional(conn)
    .await?
    .ok_or(IdentityError::EmailTaken)?;
    Ok(Person {
        id,
        email: new.email,
        role: new.role,
        has_password: new.password.is_some(),
        has_oidc: false,
        created_at,
        disabled_at: None,
        signed_in_at: None,
    })
}

struct Row {
    id: Uuid,
    email: Vec<u8>,
    role: String,
    password_hash: Option<String>,
    has_oidc: bool,
    created_at: DateTime<Utc>,
    disabled_at: Option<DateTime<Utc>>,
    signed_in_at: Option<DateTime<Utc>>,
}

impl Row {
    fn open(self, keyring: &Keyring) -> Result<Found, IdentityError> {
        let email = keyring.open(&self.email, &sealed_in(self.id))?;
        let email = String::from_utf8(email).map_err(|_| IdentityError::Damaged("an address is not text"))?;
        let role = self.role.parse().map_err(|_| IdentityError::Damaged("unknown role"))?;
        let person = Person {
            id: UserId::from_uuid(self.id),
            email: Email::parse(&email).map_err(|_| IdentityError::Damaged("an address is none"))?,
            role,
            has_password: self.password_hash.is_some(),
            has_oidc: self.has_oidc,
            created_at: self.created_at,
            disabled_at: self.disabled_at,
            signed_in_at: self.signed_in_at,
        };
        Ok(Found { person, password: self.password_hash.map(PasswordHash::stored) })
    }
}

/// One person.
///
/// # Errors
/// [`IdentityError`].
pub async fn find(
    conn: &mut Connection,
    keyring: &Keyring,
    id: UserId,
) -> Result<Option<Found>, IdentityError> {
    let row = sqlx::query_as!(
        Row,
        r#"select id, email, role, password_hash, oidc_issuer is not null as "has_oidc!", created_at, disabled_at,
               signed_in_at
           from people where id = $1"#,
        id.uuid()
    )
    .fetch_optional(conn)
    .await?;
    row.map(|row| row.open(keyring)).transpose()
}

/// One person, locked for a change in the caller's transaction.
///
/// # Errors
/// [`IdentityError`].
pub async fn lock(
    conn: &mut Connection,
    keyring: &Keyring,
    id: UserId,
) -> Result<Option<Found>, IdentityError> {
    let row = sqlx::query_as!(
        Row,
        r#"select id, email, role, password_hash, oidc_issuer is not null as "has_oidc!", created_at, disabled_at,
               signed_in_at
           from people where id = $1 for no key update"#,
        id.uuid()
    )
    .fetch_optional(conn)
    .await?;
    row.map(|row| row.open(keyring)).transpose()
}

/// The person with an address.
///
/// # Errors
/// [`IdentityError`].
pub async fn find_by_email(
    conn: &mut Connection,
    keyring: &Keyring,
    email: &Email,
) -> Result<Option<Found>, IdentityError> {
    let row = sqlx::query_as!(
        Row,
        r#"select id, email, role, password_hash, oidc_issuer is not null as "has_oidc!", created_at, disabled_at,
               signed_in_at
           from people where email_tag = any($1) limit 1"#,
        &keyring.tags(PURPOSE, email.as_str().as_bytes()),
    )
    .fetch_optional(conn)
    .await?;
    row.map(|row| row.open(keyring)).transpose()
}

/// The person for whom a provider of single sign-on vouches under this subject.
///
/// # Errors
/// [`IdentityError`].
pub async fn find_by_oidc(
    conn: &mut Connection,
    keyring: &Keyring,
    issuer: &str,
    subject: &str,
) -> Result<Option<Person>, IdentityError> {
    let row = sqlx::query_as!(
        Row,
        r#"select id, email, role, password_hash, oidc_issuer is not null as "has_oidc!", created_at, disabled_at,
               signed_in_at
           from people where oidc_issuer = $1 and oidc_subject = $2"#,
        issuer,
        subject,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| row.open(keyring)).transpose()?.map(|found| found.person))
}

/// People in the order in which they were made, at most `rows_max`, after the one `after`.
///
/// # Errors
/// [`IdentityError`].
pub async fn list(
    conn: &mut Connection,
    keyring: &Keyring,
    after: Option<UserId>,
    role: Option<Role>,
    rows_max: i64,
) -> Result<Vec<Person>, IdentityError> {
    let rows = sqlx::query_as!(
        Row,
        r#"select id, email, role, password_hash, oidc_issuer is not null as "has_oidc!", created_at, disabled_at,
               signed_in_at
           from people
           where ($1::uuid is null or id > $1) and ($2::text is null or role = $2)
           order by id
           limit $3"#,
        after.map(UserId::uuid),
        role.map(Role::as_str),
        rows_max,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(|row| Ok(row.open(keyring)?.person)).collect()
}

/// What is to be different about a person; empty fields stay.
#[derive(Debug, Clone, Default)]
pub struct PersonChange {
    /// Another role.
    pub role: Option<Role>,
    /// Whether they may sign in.
    pub enabled: Option<bool>,
    /// Another password.
    pub password: Option<PasswordHash>,
}

/// A person before and after a change.
#[derive(Debug, Clone)]
pub struct ChangedPerson {
    /// As they were.
    pub before: Person,
    /// As they are.
    pub after: Person,
}

/// Changes a person, who stays locked. End their sessions in the same transaction when they may sign in no more or have
/// another password.
///
/// # Errors
/// [`IdentityError::LastAdmin`], [`IdentityError::NotFound`].
pub async fn change(
    conn: &mut Connection,
    keyring: &Keyring,
    id: UserId,
    change: &PersonChange,
) -> Result<ChangedPerson, IdentityError> {
    if change.enabled == Some(false) || change.role.is_some_and(|role| role != Role::Admin) {
        leave_an_admin(conn, id).await?;
    }
    let before = lock(conn, keyring, id).await?.ok_or(IdentityError::NotFound)?.person;
    sqlx::query!(
        "update people
         set role = coalesce($2, role), password_hash = coalesce($3, password_hash),
             disabled_at = case when $4 then null when not $4 then coalesce(disabled_at, now()) else disabled_at end
         where id = $1",
        id.uuid(),
        change.role.map(Role::as_str),
        change.password.as_ref().map(PasswordHash::as_str),
        change.enabled,
    )
    .execute(&mut *conn)
    .await?;
    let after = find(conn, keyring, id).await?.ok_or(IdentityError::NotFound)?.person;
    Ok(ChangedPerson { before, after })
}

/// Stores another password. End the person's sessions in the same transaction.
///
/// # Errors
/// [`IdentityError::NotFound`].
pub async fn set_password(
    conn: &mut Connection,
    id: UserId,
    password: &PasswordHash,
) -> Result<(), IdentityError> {
    let changed =
        sqlx::query!("update people set password_hash = $2 where id = $1", id.uuid(), password.as_str())
            .execute(conn)
            .await?;
    found(changed.rows_affected())
}

/// Remembers who vouches for a person.
///
/// # Errors
/// [`IdentityError::NotFound`] also when somebody else vouches for them, or the subject is another person's.
pub async fn link_oidc(
    conn: &mut Connection,
    id: UserId,
    issuer: &str,
    subject: &str,
) -> Result<(), IdentityError> {
    let changed = sqlx::query!(
        "update people p set oidc_issuer = $2, oidc_subject = $3
         where id = $1 and oidc_issuer is null
           and not exists (select from people o where o.oidc_issuer = $2 and o.oidc_subject = $3)",
        id.uuid(),
        issuer,
        subject
    )
    .execute(conn)
    .await?;
    found(changed.rows_affected())
}

/// Fails when this person is the only admin who may sign in. Locks the person and all admins, in the order of their ids:
/// so the answer holds to the end of the transaction, and two who remove each other wait and do not deadlock.
async fn leave_an_admin(conn: &mut Connection, id: UserId) -> Result<(), IdentityError> {
    let locked = sqlx::query!(
        r#"select id, role = 'admin' and disabled_at is null as "is_admin!"
           from people
           where id = $1 or role = 'admin' and disabled_at is null
           order by id
           for no key update"#,
        id.uuid()
    )
    .fetch_all(conn)
    .await?;
    let mut admins = locked.iter().filter(|row| row.is_admin).map(|row| row.id);
    if admins.next() == Some(id.uuid()) && admins.next().is_none() {
        return Err(IdentityError::LastAdmin);
    }
    Ok(())
}

fn found(rows: u64) -> Result<(), IdentityError> {
    if rows == 0 { Err(IdentityError::NotFound) } else { Ok(()) }
}

fn sealed_in(row: Uuid) -> SealContext {
    SealContext { table: "people", column: "email", owner: Uuid::nil(), row }
}
