//! The hidden subcommand `api-server`: the API as `millpond api` serves it, with its default settings: router, limits,
//! log, metrics, connections. Says `ready port=N` on standard output and ends with its standard input.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ::api::{ApiParts, ApiState, ServerLimits};
use anyhow::{Context, anyhow};
use config::{Settings, Sources};
use db::{ConnectOptions, Pool};
use kernel::sealing::Keyring;
use queue::{Waker, Watcher};
use telemetry::Format;
use tokio::net::TcpListener;

use super::process::{Service, say_ready, stopped_with_input};
use super::this_program;

/// The variable that has the keys; command lines can be read by others.
const KEYS: &str = "BENCH_KEYS";

/// How the measured API process is started.
#[derive(Debug, Clone, clap::Args)]
pub struct ServerArgs {
    /// The database's address.
    #[arg(long)]
    pub database: String,
}

/// Starts such a process.
///
/// # Errors
/// When it does not serve.
pub(crate) async fn start(url: &str, keyring: &Keyring, folder: &Path) -> anyhow::Result<Service> {
    let mut command = this_program()?;
    command.args(["api-server", "--database", url]).env(KEYS, keyring.to_text());
    Service::start("API", &mut command, folder).await
}

/// Serves until standard input ends.
///
/// # Errors
/// When the database cannot be reached.
pub async fn run(args: ServerArgs) -> anyhow::Result<()> {
    let settings = Settings::load(&Sources::default())?;
    telemetry::start(&telemetry::Settings::logs(Format::Json, &settings.log.filter))?;
    let keys = std::env::var(KEYS).with_context(|| format!("{KEYS} is not set"))?;
    let keyring = Arc::new(Keyring::parse(&keys)?);
    let pool = connect(&settings, &args.database).await?;
    db::check_keys(&pool, &keyring).await?;
    let stop = stopped_with_input()?;
    let (waker, watcher) = (Waker::new(), Watcher::new());
    let estimator = jobs::estimator(pool.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.context("taking a port")?;
    let port = listener.local_addr()?.port();
    let metrics = telemetry::metrics_handle();
    let shown = pool.clone();
    let state = ApiState::new(ApiParts {
        pool: pool.clone(),
        watcher: watcher.clone(),
        estimator: estimator.clone(),
        waker: waker.clone(),
        keyring,
        lease: Duration::from_millis(settings.queue.lease_ms),
        http: settings.http.clone(),
        api: settings.api.clone(),
        partners: settings.partners.clone(),
        single_sign_on: None,
        allow_loopback: false,
        render_metrics: Arc::new(move || {
            shown.show();
            metrics.render()
        }),
        stop: stop.clone(),
    });
    let router = ::api::router(state).map_err(|error| anyhow!("the API: {error}"))?;
    let beside = [
        tokio::spawn(watcher.run(pool.clone(), waker.clone())),
        tokio::spawn(async move {
            estimator.run().await;
        }),
        tokio::spawn(async move {
            waker.relay(pool).await;
        }),
    ];
    say_ready(port);
    ::api::serve(listener, router, ServerLimits::from(&settings.http), stop).await?;
    for task in beside {
        task.abort();
    }
    Ok(())
}

/// As a process that serves does.
pub(super) async fn connect(settings: &Settings, database: &str) -> anyhow::Result<Pool> {
    let options = ConnectOptions {
        connections_max: settings.database.connections_max,
        acquire_timeout: Duration::from_millis(settings.database.acquire_timeout_ms),
        prepared: settings.database.prepared,
        answer_timeout: Some(db::ANSWER_TIMEOUT),
        ..ConnectOptions::from_url(database)?
    };
    Ok(db::connect(&options).await?)
}
