//! Who asks for an action, through which door: what every action needs to leave its entry in the audit log.

use audit::{Actor, AuditError, Entry};
use db::Connection;
use kernel::{ids::TenantId, sealing::Keyring};
use serde_json::Value;

/// The asker of an action.
#[derive(Debug, Clone)]
pub struct Door<'a> {
    /// Who asks.
    pub actor: Actor,
    /// The request that asks, where there is one.
    pub request_id: Option<String>,
    /// Makes digests of personal values, and seals.
    pub keyring: &'a Keyring,
}

/// What an action did, for the audit log. An action that was carried out leaves one entry, also when things were already
/// as asked for: what is before and after then says so.
#[derive(Debug, Clone, Default)]
pub struct Deed {
    /// What was.
    pub before: Option<Value>,
    /// What is.
    pub after: Option<Value>,
}

impl Door<'_> {
    /// Who asks, in the words of a job's or schedule's history.
    #[must_use]
    pub fn by(&self) -> String {
        self.actor.to_string()
    }

    /// Who asks, in words that anybody may read: a partner sees why its job was cancelled, not who of ours did it.
    #[must_use]
    pub fn by_in_public(&self) -> String {
        match &self.actor {
            Actor::User(_) | Actor::Cli(_) => "an operator".to_owned(),
            Actor::Partner(_) => "the partner".to_owned(),
            Actor::System(part) => (*part).to_owned(),
        }
    }

    /// Stores the entry of an action in its transaction.
    ///
    /// # Errors
    /// [`AuditError`]: the transaction cannot be committed.
    pub async fn record(
        &self,
        conn: &mut Connection,
        action: &str,
        target: &str,
        tenant: TenantId,
        deed: Deed,
    ) -> Result<(), AuditError> {
        let entry = Entry {
            actor: &self.actor,
            action,
            target,
            tenant,
            before: deed.before,
            after: deed.after,
            request_id: self.request_id.as_deref(),
        };
        audit::record(conn, self.keyring, &entry).await.map(drop)
    }
}
