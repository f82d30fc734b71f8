//! Who runs a command, for the audit log: the account of the process, and an id of this run that ties together what it
//! did.

use audit::Actor;
use config::Settings;
use jobs::Door;
use kernel::sealing::Keyring;
use nix::unistd::{User, getuid};
use uuid::Uuid;

use super::Database;
use crate::error::CliError;

/// Whoever runs a command that changes something.
pub(crate) struct Asker {
    account: String,
    run_id: String,
    keyring: Keyring,
}

impl Asker {
    /// The one who runs this process. Whoever changes something must have the installation's keys, since digests in the
    /// log are made with them.
    pub(crate) async fn new(settings: &Settings, database: &Database) -> Result<Self, CliError> {
        let keyring = database.keys(settings).await?;
        Ok(Self { account: account(), run_id: Uuid::now_v7().to_string(), keyring })
    }

    /// The door through which the command acts.
    pub(crate) fn door(&self) -> Door<'_> {
        Door {
            actor: Actor::Cli(self.account.clone()),
            request_id: Some(self.run_id.clone()),
            keyring: &self.keyring,
        }
    }

    /// The installation's keys.
    pub(crate) fn keyring(&self) -> &Keyring {
        &self.keyring
    }
}

/// The account's name; one without a name stands as its number.
fn account() -> String {
    let uid = getuid();
    let known = User::from_uid(uid).ok().flatten();
    known.map_or_else(|| format!("#{uid}"), |user| user.name)
}
