//! Sessions: who is signed in.
//!
//! A session's secret is opaque and looked up at every request, so that a session that was ended works nowhere from the
//! next request on; a token that carries its own claims would work until it expires.

use std::time::Duration;

use chrono::{DateTime, Utc};
use db::Connection;
use kernel::ids::{SessionId, UserId};
use uuid::Uuid;

use crate::{Role, Secret, SecretKind, error::IdentityError};

/// Sessions one person may have; another ends one that ended by itself, or else the one that was unused the longest.
const SESSIONS_MAX: i64 = 20;

/// How a session's secret travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionKind {
    /// In a cookie, by a browser: at most a week, and 12 hours unused.
    Cookie,
    /// As bearer token, by a program: at most 12 hours, and one unused.
    Token,
}

impl SessionKind {
    /// The word stored and shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cookie => "cookie",
            Self::Token => "token",
        }
    }

    /// How long it lasts at the most.
    #[must_use]
    pub const fn life(self) -> Duration {
        match self {
            Self::Cookie => Duration::from_secs(7 * 24 * 3_600),
            Self::Token => Duration::from_secs(12 * 3_600),
        }
    }

    /// How long it lasts unused.
    #[must_use]
    pub const fn idle(self) -> Duration {
        match self {
            Self::Cookie => Duration::from_secs(12 * 3_600),
            Self::Token => Duration::from_secs(3_600),
        }
    }

    const fn secret(self) -> SecretKind {
        match self {
            Self::Cookie => SecretKind::Cookie,
            Self::Token => SecretKind::Token,
        }
    }
}

/// A session just opened. The only time its secret can be seen.
#[derive(Debug, Clone)]
pub struct OpenedSession {
    /// Its id.
    pub id: SessionId,
    /// What lets its holder in.
    pub secret: Secret,
    /// Its end at the latest.
    pub expires_at: DateTime<Utc>,
    /// Sessions of the person that still worked and ended to make room for it.
    pub ended: u64,
}

/// Who holds a session that works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// Whose.
    pub person: UserId,
    /// What they may do.
    pub role: Role,
    /// How it travels.
    pub kind: SessionKind,
    /// Its end at the latest.
    pub expires_at: DateTime<Utc>,
}

/// A session as its person sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRecord {
    /// Its id.
    pub id: SessionId,
    /// `cookie` or `token`.
    pub kind: String,
    /// Since when.
    pub created_at: DateTime<Utc>,
    /// When it was used last, to the minute.
    pub seen_at: DateTime<Utc>,
    /// Its end at the latest.
    pub expires_at: DateTime<Utc>,
}

/// Opens a session for a person who proved who they are; they stay locked.
///
/// # Errors
/// [`IdentityError::NotFound`] when they may not sign in.
pub async fn open_session(
    conn: &mut Connection,
    person: UserId,
    kind: SessionKind,
) -> Result<OpenedSession, IdentityError> {
    let signed_in = sqlx::query!(
        "update people set signed_in_at = now() where id = $1 and disabled_at is null",
        person.uuid()
    )
    .execute(&mut *conn)
    .await?;
    if signed_in.rows_affected() == 0 {
        return Err(IdentityError::NotFound);
    }
    let removed = sqlx::query_scalar!(
        r#"delete from sessions where id in (
               select id from sessions
               where person_id = $1
               order by expires_at > now() and seen_at > now() - idle_ms * interval '1 millisecond' desc, seen_at desc
               offset $2
           )
           returning expires_at > now() and seen_at > now() - idle_ms * interval '1 millisecond' as "worked!""#,
        person.uuid(),
        SESSIONS_MAX - 1,
    )
    .fetch_all(&mut *conn)
    .await?;
    let ended = removed.into_iter().filter(|worked| *worked).count() as u64;
    let id = SessionId::new();
    let secret = Secret::generate(kind.secret());
    let expires_at = sqlx::query_scalar!(
        "insert into sessions (id, person_id, secret_hash, kind, expires_at, idle_ms)
         values ($1, $2, $3, $4, now() + $5 * interval '1 second', $6)
         returning expires_at",
        id.uuid(),
        person.uuid(),
        secret.hash(),
        kind.as_str(),
        kind.life().as_secs_f64(),
        i64::try_from(kind.idle().as_millis()).unwrap_or(i64::MAX),
    )
    .fetch_one(conn)
    .await?;
    Ok(OpenedSession { id, secret, expires_at, ended })
}

/// Who presents a secret, if its session works; notes once a minute that it was used.
///
/// # Errors
/// [`IdentityError`].
pub async fn authenticate(
    conn: &mut Connection,
    kind: SessionKind,
    presented: &str,
) -> Result<Option<Session>, IdentityError> {
    let Some(secret) = Secret::parse(kind.secret(), presented) else { return Ok(None) };
    let row = sqlx::query!(
        r#"select s.id, s.person_id, p.role, s.expires_at, s.seen_at < now() - interval '1 minute' as "is_stale!"
           from sessions s join people p on p.id = s.person_id
           where s.secret_hash = $1 and s.kind = $2 and p.disabled_at is null and s.expires_at > now()
             and s.seen_at > now() - s.idle_ms * interval '1 millisecond'"#,
        secret.hash(),
        kind.as_str(),
    )
    .fetch_optional(&mut *conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    if row.is_stale {
        sqlx::query!(
            "update sessions set seen_at = now() where id = $1 and seen_at < now() - interval '1 minute'",
            row.id
        )
        .execute(conn)
        .await?;
    }
    Ok(Some(Session {
        id: SessionId::from_uuid(row.id),
        person: UserId::from_uuid(row.person_id),
        role: row.role.parse().map_err(|_| IdentityError::Damaged("unknown role"))?,
        kind,
        expires_at: row.expires_at,
    }))
}

/// Whether a session still works, for those who hold a connection open with it.
///
/// # Errors
/// [`IdentityError::Database`].
pub async fn session_works(conn: &mut Connection, session: SessionId) -> Result<bool, IdentityError> {
    let works = sqlx::query_scalar!(
        r#"select exists (
               select from sessions s join people p on p.id = s.person_id
               where s.id = $1 and p.disabled_at is null and s.expires_at > now()
           ) as "works!""#,
        session.uuid(),
    )
    .fetch_one(conn)
    .await?;
    Ok(works)
}

/// Ends a session of a person. Answers whether there was one.
///
/// # Errors
/// [`IdentityError::Database`].
pub async fn end_session(
    conn: &mut Connection,
    person: UserId,
    session: SessionId,
) -> Result<bool, IdentityError> {
    let ended =
        sqlx::query!("delete from sessions where id = $1 and person_id = $2", session.uuid(), person.uuid())
            .execute(conn)
            .await?;
    Ok(ended.rows_affected() > 0)
}

/// Ends all sessions of a person, but for one perhaps, and takes their permits. Answers how many sessions there were.
///
/// # Errors
/// [`IdentityError::Database`].
pub async fn end_sessions(
    conn: &mut Connection,
    person: UserId,
    but: Option<SessionId>,
) -> Result<u64, IdentityError> {
    sqlx::query!("delete from password_permits where person_id = $1", person.uuid())
        .execute(&mut *conn)
        .await?;
    let ended = sqlx::query!(
        "delete from sessions where person_id = $1 and ($2::uuid is null or id <> $2)",
        person.uuid(),
        but.map(SessionId::uuid),
    )
    .execute(conn)
    .await?;
    Ok(ended.rows_affected())
}

/// A person's sessions that work, the last used first.
///
/// # Errors
/// [`IdentityError::Database`].
pub async fn sessions_of(conn: &mut Connection, person: UserId) -> Result<Vec<SessionRecord>, IdentityError> {
    struct Row {
        id: Uuid,
        kind: String,
        created_at: DateTime<Utc>,
        seen_at: DateTime<Utc>,
        expires_at: DateTime<Utc>,
    }
    let rows = sqlx::query_as!(
        Row,
        "select id, kind, created_at, seen_at, expires_at from sessions
         where person_id = $1 and expires_at > now() and seen_at > now() - idle_ms * interval '1 millisecond'
         order by seen_at desc, id",
        person.uuid(),
    )
    .fetch_all(conn)
    .await?;
    let record = |row: Row| SessionRecord {
        id: SessionId::from_uuid(row.id),
        kind: row.kind,
        created_at: row.created_at,
        seen_at: row.seen_at,
        expires_at: row.expires_at,
    };
    Ok(rows.into_iter().map(record).collect())
}

/// Removes sessions and permits that ended by themselves. Those that are being ended just now are left to who ends them.
///
/// # Errors
/// [`IdentityError::Database`].
pub async fn prune(conn: &mut Connection) -> Result<(), IdentityError> {
    sqlx::query!(
        "delete from password_permits where secret_hash in (
             select secret_hash from password_permits where expires_at <= now() for update skip locked
         )"
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "delete from sessions where id in (
             select id from sessions
             where expires_at <= now() or seen_at <= now() - idle_ms * interval '1 millisecond'
             for update skip locked
         )"
    )
    .execute(conn)
    .await?;
    Ok(())
}
