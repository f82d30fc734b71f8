//! Entries as they are written.

use std::fmt;

use db::Connection;
use kernel::{
    ids::{AuditId, PartnerId, TenantId, UserId},
    sealing::Keyring,
};
use serde_json::Value;

use crate::{AuditError, stored::Said};

/// What digests of personal values are made for, so that a digest says nothing elsewhere.
const PERSONAL: &str = "audit.personal";

/// Who changes something.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Actor {
    /// A person who signed in.
    User(UserId),
    /// A partner's system, by its API key.
    Partner(PartnerId),
    /// Whoever may run commands, by the machine's account.
    Cli(String),
    /// The program itself: the part that acts.
    System(&'static str),
}

/// The kinds of actor there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ActorKind {
    /// A person who signed in.
    User,
    /// A partner's system.
    Partner,
    /// The command line.
    Cli,
    /// The program itself.
    System,
}

impl ActorKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::User, Self::Partner, Self::Cli, Self::System];

    /// The word stored and shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Partner => "partner",
            Self::Cli => "cli",
            Self::System => "system",
        }
    }
}

impl Actor {
    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> ActorKind {
        match self {
            Self::User(_) => ActorKind::User,
            Self::Partner(_) => ActorKind::Partner,
            Self::Cli(_) => ActorKind::Cli,
            Self::System(_) => ActorKind::System,
        }
    }
}

/// Its name within its kind.
impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(id) => id.fmt(f),
            Self::Partner(id) => id.fmt(f),
            Self::Cli(account) => f.pad(account),
            Self::System(part) => f.pad(part),
        }
    }
}

/// One change.
#[derive(Debug, Clone)]
pub struct Entry<'a> {
    /// Who.
    pub actor: &'a Actor,
    /// What was done: `queues.pause`.
    pub action: &'a str,
    /// What it was done to: an id or a name.
    pub target: &'a str,
    /// Whose it is.
    pub tenant: TenantId,
    /// What was, as far as it changed.
    pub before: Option<Value>,
    /// What is.
    pub after: Option<Value>,
    /// The request that asked for it.
    pub request_id: Option<&'a str>,
}

/// Stores an entry in the caller's transaction, which is that of the change.
///
/// # Errors
/// [`AuditError::Database`].
pub async fn record(
    conn: &mut Connection,
    keyring: &Keyring,
    entry: &Entry<'_>,
) -> Result<AuditId, AuditError> {
    let id = AuditId::new();
    let actor = entry.actor.to_string();
    // The text is what is tagged and sealed, so it is made here and not by the database.
    let text = |value: &Option<Value>| value.as_ref().map(Value::to_string);
    let (before, after) = (text(&entry.before), text(&entry.after));
    let said = Said {
        id: id.uuid(),
        actor_kind: entry.actor.kind().as_str(),
        actor: &actor,
        action: entry.action,
        target: entry.target,
        tenant_id: entry.tenant.uuid(),
        before: before.as_deref(),
        after: after.as_deref(),
        request_id: entry.request_id,
    };
    sqlx::query!(
        "with entry as (
             insert into audit_log
                 (id, actor_kind, actor, action, target, tenant_id, before, after, request_id, tag)
             values ($1, $2, $3, $4, $5, $6, $7::text::json, $8::text::json, $9, $10)
             returning id
         )
         insert into audit_unsealed (id) select id from entry",
        said.id,
        said.actor_kind,
        said.actor,
        said.action,
        said.target,
        said.tenant_id,
        said.before,
        said.after,
        said.request_id,
        said.tag(keyring),
    )
    .execute(conn)
    .await?;
    Ok(id)
}

/// What stands in an entry for a personal value: equal for equal values, and of no use to whoever lacks the keys.
#[must_use]
pub fn digest(keyring: &Keyring, value: &str) -> String {
    keyring.tag(PERSONAL, value.as_bytes())
}
