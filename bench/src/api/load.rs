//! The two loads. Open: requests are due at a constant rate, whatever became of those before, and latency counts from the
//! moment a request was due (no coordinated omission: a server that stalls is charged for all who would have come
//! meanwhile). Closed: so many connections, each as fast as it is answered; that is capacity.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::client::Client;
use super::requests::{Operation, Prepared};
use crate::figures::pickup::quantile_ms;

/// Different faults that are shown.
const FAULTS_MAX: usize = 5;

/// How long answers took, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Latency {
    pub(crate) count: usize,
    pub(crate) p50_ms: f64,
    pub(crate) p95_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
}

/// What became of an open loop.
#[derive(Debug)]
pub(crate) struct OpenLoop {
    pub(crate) all: Latency,
    pub(crate) by_operation: Vec<(Operation, Latency)>,
    /// Answers a second, from the first request's time to the last answer.
    pub(crate) per_s: f64,
    /// How late the driver itself was with requests for which a connection was free.
    pub(crate) lateness: Latency,
    /// Requests for which no connection was free when they were due; their wait counts as the server's.
    pub(crate) queued: usize,
    /// Answers by status.
    pub(crate) statuses: BTreeMap<u16, usize>,
    pub(crate) errors: Errors,
    pub(crate) seconds: f64,
}

/// What became of a closed loop.
#[derive(Debug)]
pub(crate) struct ClosedLoop {
    pub(crate) per_s: f64,
    pub(crate) latency: Latency,
    pub(crate) errors: Errors,
    pub(crate) seconds: f64,
}

/// Answers that were not what they should be, and requests without an answer.
#[derive(Debug, Default)]
pub(crate) struct Errors {
    pub(crate) count: usize,
    /// Some of them.
    pub(crate) shown: Vec<String>,
}

struct Sample {
    operation: Operation,
    latency_us: u64,
    /// Of a request that had a connection in time.
    late_us: Option<u64>,
    answer: Result<u16, String>,
}

impl Latency {
    pub(crate) fn of(mut values_us: Vec<u64>) -> Self {
        let mut quantile = |share| quantile_ms(&mut values_us, share);
        let [p50_ms, p95_ms, p99_ms, max_ms] = [0.5, 0.95, 0.99, 1.0].map(&mut quantile);
        Self { count: values_us.len(), p50_ms, p95_ms, p99_ms, max_ms }
    }
}

impl Errors {
    fn note(&mut self, sample: &Sample) {
        let what = match &sample.answer {
            Ok(status) if *status == sample.operation.expected() => return,
            Ok(status) => format!("{}: status {status}", sample.operation.name()),
            Err(error) => format!("{}: {error}", sample.operation.name()),
        };
        self.count += 1;
        if self.shown.len() < FAULTS_MAX && !self.shown.contains(&what) {
            self.shown.push(what);
        }
    }
}

/// Sends the requests at a constant rate over so many connections.
pub(crate) async fn open_loop(
    address: SocketAddr,
    requests: Arc<Vec<Prepared>>,
    rate: u32,
    connections: usize,
) -> anyhow::Result<OpenLoop> {
    let next = Arc::new(AtomicUsize::new(0));
    // All connections are there before the first request is due.
    let began = Instant::now() + Duration::from_millis(200);
    let mut lanes = JoinSet::new();
    for _ in 0..connections.max(1) {
        let (requests, next) = (Arc::clone(&requests), Arc::clone(&next));
        lanes.spawn(async move {
            let (mut client, mut samples) = (Client::new(address), Vec::new());
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(request) = requests.get(at) else { return samples };
                let due = began + Duration::from_secs_f64(at as f64 / f64::from(rate));
                let is_in_time = Instant::now() <= due;
                sleep_until(due).await;
                let late_us = is_in_time.then(|| micros(due));
                let answer = client.ask(&request.bytes).await.map(|(status, _)| status);
                samples.push(Sample {
                    operation: request.operation,
                    latency_us: micros(due),
                    late_us,
                    answer: answer.map_err(|error| error.to_string()),
                });
            }
        });
    }
    let samples: Vec<Sample> = lanes.join_all().await.into_iter().flatten().collect();
    Ok(opened(&samples, began.elapsed().as_secs_f64()))
}

fn opened(samples: &[Sample], seconds: f64) -> OpenLoop {
    let (mut errors, mut statuses) = (Errors::default(), BTreeMap::new());
    for sample in samples {
        errors.note(sample);
        if let Ok(status) = sample.answer {
            *statuses.entry(status).or_default() += 1;
        }
    }
    let latency = |of: Option<Operation>| {
        let meant = samples.iter().filter(|sample| of.is_none_or(|of| of == sample.operation));
        Latency::of(meant.map(|sample| sample.latency_us).collect())
    };
    OpenLoop {
        all: latency(None),
        by_operation: Operation::ALL.map(|one| (one, latency(Some(one)))).into(),
        per_s: samples.iter().filter(|sample| sample.answer.is_ok()).count() as f64 / seconds,
        lateness: Latency::of(samples.iter().filter_map(|sample| sample.late_us).collect()),
        queued: samples.iter().filter(|sample| sample.late_us.is_none()).count(),
        statuses,
        errors,
        seconds,
    }
}

/// Sends the requests, over and over, for so long, each connection as fast as it is answered.
pub(crate) async fn closed_loop(
    address: SocketAddr,
    requests: Arc<Vec<Prepared>>,
    connections: usize,
    duration: Duration,
) -> ClosedLoop {
    let next = Arc::new(AtomicUsize::new(0));
    let began = Instant::now();
    let mut lanes = JoinSet::new();
    for _ in 0..connections.max(1) {
        let (requests, next) = (Arc::clone(&requests), Arc::clone(&next));
        lanes.spawn(async move {
            let (mut client, mut samples) = (Client::new(address), Vec::new());
            while began.elapsed() < duration {
                let request = &requests[next.fetch_add(1, Ordering::Relaxed) % requests.len()];
                let asked = Instant::now();
                let answer = client.ask(&request.bytes).await.map(|(status, _)| status);
                let (operation, latency_us) = (request.operation, micros(asked));
                let answer = answer.map_err(|error| error.to_string());
                samples.push(Sample { operation, latency_us, late_us: None, answer });
            }
            samples
        });
    }
    let samples: Vec<Sample> = lanes.join_all().await.into_iter().flatten().collect();
    let seconds = began.elapsed().as_secs_f64();
    let mut errors = Errors::default();
    for sample in &samples {
        errors.note(sample);
    }
    ClosedLoop {
        per_s: (samples.len() - errors.count) as f64 / seconds,
        latency: Latency::of(samples.iter().map(|sample| sample.latency_us).collect()),
        errors,
        seconds,
    }
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers each request of one connection after a while.
    async fn slow_server(pause: Duration) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = [0; 1_024];
            while stream.read(&mut bytes).await.unwrap_or(0) > 0 {
                tokio::time::sleep(pause).await;
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            }
        });
        address
    }

    #[tokio::test]
    async fn a_stall_is_charged_to_all_who_were_due_meanwhile() {
        let address = slow_server(Duration::from_millis(20)).await;
        let request = Prepared { operation: Operation::Search, bytes: b"GET / HTTP/1.1\r\n\r\n".to_vec() };
        let requests = Arc::new(vec![request; 10]);
        let opened = open_loop(address, requests, 1_000, 1).await.unwrap();
        assert_eq!((opened.all.count, opened.errors.count, opened.queued), (10, 0, 9));
        // The last was due after 9 ms and answered after at least 200.
        assert!(opened.all.max_ms >= 190.0, "{opened:?}");
    }
}
