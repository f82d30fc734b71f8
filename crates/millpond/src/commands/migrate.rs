//! `millpond migrate`: brings the database's schema to this build's.

use serde_json::json;

use crate::cli::Globals;
use crate::error::CliError;
use crate::output::Output;
use crate::runtime::{Database, Schema, settings};

/// Migrates. Doing it again changes nothing; several at once take turns.
pub(crate) async fn run(globals: &Globals) -> Result<(), CliError> {
    let settings = settings::for_command(globals)?;
    let database = Box::pin(Database::open(&settings, Schema::Migrate, false)).await?;
    let version = db::MIGRATOR.iter().map(|migration| migration.version).max();
    database.close().await?;
    let result = json!({"migrated": true, "version": version});
    Output::new(globals.json)
        .show(&result, || format!("the schema is at version {}", version.unwrap_or_default()))
}
