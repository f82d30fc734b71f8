//! `millpond api`, and what all processes that go on have in common: they start, say so, and end when told to.

use std::net::SocketAddr;
use std::sync::Arc;

use api::{Listener, Tls};
use clap::Args;
use config::Settings;
use tokio::net::TcpListener;

use crate::cli::Globals;
use crate::error::CliError;
use crate::output::Output;
use crate::runtime::{Database, House, Roles, Schema, Signals, Vendor, keys, settings};
use workers::LEASE_CONNECTIONS;

/// Arguments of `api`.
#[derive(Debug, Args)]
#[command(after_help = "\
Prints `ready url=http://HOST:PORT` when it serves. With a database address, the schema must be there
(`millpond migrate`) and the keys must be given (MILLPOND_ENCRYPTION__KEYS).

Examples:
  millpond api --listen 127.0.0.1:9000
  MILLPOND_HTTP__TLS_CERTIFICATE=chain.pem MILLPOND_HTTP__TLS_KEY=key.pem millpond api --listen 0.0.0.0:443
  MILLPOND_HTTP__BEHIND_TLS_PROXY=true millpond api --listen 0.0.0.0:8080     when a proxy in front ends TLS 1.3")]
pub(crate) struct ApiArgs {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<SocketAddr>,
}

/// Serves the API until told to stop.
pub(crate) async fn run(globals: &Globals, arguments: ApiArgs) -> Result<(), CliError> {
    let settings = settings::for_process(globals, arguments.listen)?;
    let mut signals = Signals::listen()?;
    let starting = async {
        let (listener, url) = listen(&settings).await?;
        let roles = Roles { api: Some(listener), ..Roles::default() };
        let house = start(&settings, Schema::Require, Vendor::none(&settings), roles).await?;
        Output::new(globals.json).ready(&url, None);
        Ok(house)
    };
    until_told(&mut signals, starting).await
}

/// Takes the address before anything else is started, so that a mistake in it is told at once.
pub(crate) async fn listen(settings: &Settings) -> Result<(Listener, String), CliError> {
    let http = &settings.http;
    let listen = http.listen;
    let tls = match (&http.tls_certificate, &http.tls_key) {
        (Some(certificate), Some(key)) => {
            Some(Tls::load(certificate, key).map_err(|error| CliError::part("TLS", error))?)
        }
        _ if listen.ip().is_loopback() || http.behind_tls_proxy => None,
        _ => return Err(CliError::InClear { listen }),
    };
    let refused = |source| CliError::Listen { listen, source };
    let listener = Listener::new(TcpListener::bind(listen).await.map_err(refused)?, tls);
    let url = listener.url().map_err(refused)?;
    Ok((listener, url))
}

/// Opens the database, proves the keys, and starts the roles.
pub(crate) async fn start(
    settings: &Settings,
    schema: Schema,
    vendor: Vendor,
    roles: Roles,
) -> Result<House, CliError> {
    let settings = &leaving_room_for_leases(settings, !roles.queues.is_empty());
    if settings.database.url.is_some() {
        // Without the keys there is no need to bother the database.
        keys::load(settings)?;
    }
    let database = Box::pin(Database::open(settings, schema, false)).await?;
    let keyring = database.keys(settings).await;
    let (database, keyring) = database.unless_failed(keyring).await?;
    House::start(settings, database, Arc::new(keyring), vendor, roles).await
}

/// Runs what `starting` gives until a signal or a failure, and stops it in good order.
pub(crate) async fn until_told(
    signals: &mut Signals,
    starting: impl Future<Output = Result<House, CliError>>,
) -> Result<(), CliError> {
    let house = tokio::select! {
        house = Box::pin(starting) => house?,
        () = signals.asked() => return Ok(()),
    };
    let failure = tokio::select! {
        () = signals.asked() => None,
        () = house.asked_to_stop() => None,
        failure = house.failure() => Some(failure),
    };
    match &failure {
        None => tracing::info!("told to stop; stopping in good order"),
        Some(failure) => tracing::error!(%failure, "stopping because of a failure"),
    }
    let stopped = signals.or_impatience(house.stop()).await;
    failure.map_or(stopped, Err)
}

fn leaving_room_for_leases(settings: &Settings, works: bool) -> Settings {
    let mut settings = settings.clone();
    if works {
        let all = settings.database.connections_max;
        settings.database.connections_max = all.saturating_sub(LEASE_CONNECTIONS).max(2);
    }
    settings
}
