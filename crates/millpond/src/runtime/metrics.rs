//! The process' metrics, and the small listener that shows them where no API does: workers and schedulers alone.
//!
//! Whoever reaches it may read it: it shows numbers, names of queues, kinds and tables, and nothing of anybody's data.
//! So it is off until somebody names an address, which should be one of this machine or of a network that is trusted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use api::ServerLimits;
use axum::Router;
use axum::http::header;
use axum::routing::get;
use db::Pool;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::error::CliError;

const LIMITS: ServerLimits = ServerLimits {
    connections_max: 64,
    header_read_timeout: Duration::from_secs(10),
    write_timeout: Duration::from_secs(30),
    drain_timeout: Duration::from_secs(1),
};

/// Answers the metrics as text, with the state of the process' pool at that moment.
pub(crate) type Render = Arc<dyn Fn() -> String + Send + Sync>;

/// The metrics of this process.
pub(crate) fn render(pool: Pool) -> Render {
    let handle = telemetry::metrics_handle();
    Arc::new(move || {
        pool.show();
        handle.render()
    })
}

/// Takes the address.
pub(crate) async fn listen(listen: SocketAddr) -> Result<TcpListener, CliError> {
    let refused = |error: std::io::Error| {
        let told = format!("cannot listen on {listen} (MILLPOND_METRICS__LISTEN): {error}");
        CliError::part("showing metrics", told)
    };
    let listener = TcpListener::bind(listen).await.map_err(refused)?;
    if let Ok(address) = listener.local_addr() {
        tracing::info!(url = %format!("http://{address}/metrics"), "metrics are shown");
    }
    Ok(listener)
}

/// Shows `/metrics`, and at `/health/live` that the process answers at all.
pub(crate) async fn serve(
    listener: TcpListener,
    render: Render,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let metrics = move || {
        let text = render();
        async move { ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text) }
    };
    let live = async || r#"{"success":true,"data":{"status":"live"}}"#;
    let router = Router::new().route("/metrics", get(metrics)).route("/health/live", get(live));
    api::serve(listener, router, LIMITS, stop).await
}
