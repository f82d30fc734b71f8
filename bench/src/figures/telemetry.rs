//! What telemetry costs: a drain with all of it on, beside one with none, by turns.
//!
//! All of it: metrics recorded and rendered every second, as if they were scraped; the log as it is by default; traces
//! sampled at 1 % and sent to a collector on this machine that takes everything. None: nothing is recorded, logged or sent.

use axum::{Router, body::Bytes, http::StatusCode, routing::post};
use tokio::{net::TcpListener, task::AbortHandle};

use super::{Bench, Sample, drain};
use crate::fleet::{FleetSettings, Telemetry};

/// Jobs of one drain: some ten seconds, so that a stall of the disk is not the whole of it.
const JOBS: u64 = 400_000;

/// Drains four times `runs` times from an empty start.
///
/// # Errors
/// As [`drain::drain`]; and when no span arrived.
pub async fn run(bench: &Bench<'_>, runs: usize) -> anyhow::Result<Vec<Sample>> {
    let collector = Collector::start().await?;
    let mut samples = Vec::new();
    for run in 1..=runs {
        bench.progress.step("drain_telemetry", run, runs);
        // Forth and back, and the next time the other way round: what makes the machine faster or slower meanwhile falls on
        // both.
        let on = Telemetry::All { collector: collector.port };
        let order = match run % 2 {
            0 => [on, Telemetry::None, Telemetry::None, on],
            _ => [Telemetry::None, on, on, Telemetry::None],
        };
        let (mut with_s, mut without_s) = (0.0, 0.0);
        for telemetry in order {
            bench.empty().await?;
            let fleet = FleetSettings { telemetry, ..FleetSettings::slots(500) };
            let drained = drain::drain(bench, fleet, JOBS).await?;
            let (name, seconds) = match telemetry {
                Telemetry::All { .. } => ("drain_telemetry", &mut with_s),
                _ => ("drain_silent", &mut without_s),
            };
            *seconds += 1.0 / drained.jobs_per_s;
            samples.push(Sample::new(name, drained.jobs_per_s).with(drained.cores));
        }
        samples.push(Sample::new("telemetry_kept", without_s / with_s));
    }
    anyhow::ensure!(collector.received() > 0, "no span arrived at the collector");
    Ok(samples)
}

/// Takes whatever is sent to it, and counts it.
struct Collector {
    port: u16,
    received: std::sync::Arc<std::sync::atomic::AtomicU64>,
    serving: AbortHandle,
}

impl Collector {
    async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let received = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
        let count = received.clone();
        let take = move |body: Bytes| async move {
            count.fetch_add(body.len() as u64, std::sync::atomic::Ordering::Relaxed);
            StatusCode::OK
        };
        let router = Router::new().route("/v1/traces", post(take));
        let serving = tokio::spawn(async move { axum::serve(listener, router).await }).abort_handle();
        Ok(Self { port, received, serving })
    }

    fn received(&self) -> u64 {
        self.received.load(std::sync::atomic::Ordering::Relaxed)
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
