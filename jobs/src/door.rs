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

/// What an action did, for the audit log.
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
        audit::record(conn, &entry).await.map(drop)
    }
}
