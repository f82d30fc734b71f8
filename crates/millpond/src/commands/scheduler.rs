//! `millpond scheduler`: cron lines to jobs; any number of them, each tick exactly once.

use super::serve;
use crate::cli::Globals;
use crate::error::CliError;
use crate::runtime::{Database, House, Roles, Schema, Signals, Vendor, keys, settings};
use kernel::sealing::Keyring;
use std::sync::Arc;

/// Schedules until told to stop. It opens nothing sealed, so it needs no keys; keys that it was given must fit.
pub(crate) async fn run(globals: &Globals) -> Result<(), CliError> {
    let settings = settings::for_process(globals, None)?;
    let mut signals = Signals::listen()?;
    let starting = async {
        let given = keys::from_setting(&settings)?;
        let database = Box::pin(Database::open(&settings, Schema::Require, false)).await?;
        let fits = match &given {
            Some(given) => database.check_keys(given).await,
            None => Ok(()),
        };
        let (database, ()) = database.unless_failed(fits).await?;
        let keyring = Arc::new(given.unwrap_or_else(Keyring::generate));
        let roles = Roles { schedules: true, ..Roles::default() };
        let house = House::start(&settings, database, keyring, Vendor::none(&settings), roles).await?;
        tracing::info!(schedules = scheduler::ALL.len(), "scheduling");
        Ok(house)
    };
    serve::until_told(&mut signals, starting).await
}
