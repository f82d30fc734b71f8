//! The exporter: a bounded queue of ended spans, and a thread with a runtime of its own that sends them in batches.
//!
//! Guarantees: whoever ends a span never waits. The queue holds [`QUEUED_MAX`] spans; what comes on top is dropped and
//! counted in `millpond_trace_spans_dropped_total`. A collector that hangs, is gone or answers nonsense costs this thread's
//! time and the spans, nothing else: each batch has [`super::sending::BATCH_TIMEOUT`] with all tries. At the end of
//! the process what is left is sent within [`FINISH_MAX`], and given up after that.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver as Answer, channel as answer};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{Instant, sleep};

use super::TraceSettings;
use super::encoding::Origin;
use super::sending::Collector;
use crate::TelemetryError;
use crate::span::Record;

/// Spans that wait to be sent; about a kilobyte each.
const QUEUED_MAX: usize = 4_096;
/// Spans sent at once.
const BATCH_MAX: usize = 512;
/// How long a batch is gathered.
const GATHER: Duration = Duration::from_secs(1);
/// How often more of it is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long the end of the process is held up for spans that are not sent yet.
const FINISH_MAX: Duration = Duration::from_secs(2);

static WANTED: AtomicBool = AtomicBool::new(false);
static EXPORTER: OnceLock<Exporter> = OnceLock::new();

/// Whether spans of recorded traces go anywhere.
pub(crate) fn are_wanted() -> bool {
    WANTED.load(Ordering::Relaxed)
}

/// A span has ended.
pub(crate) fn offer(span: Record) {
    if let Some(exporter) = EXPORTER.get() {
        exporter.offer(span);
    }
}

/// Sends spans from now on. Once a process.
pub(crate) fn start(settings: &TraceSettings) -> Result<(), TelemetryError> {
    let exporter = Exporter::start(settings)?;
    EXPORTER.set(exporter).map_err(|_| TelemetryError::AlreadyStarted)?;
    kernel::trace::sample(settings.sample_ratio);
    WANTED.store(true, Ordering::Relaxed);
    Ok(())
}

/// Sends what is left, within [`FINISH_MAX`].
pub(crate) fn finish() {
    WANTED.store(false, Ordering::Relaxed);
    if let Some(exporter) = EXPORTER.get() {
        exporter.finish(FINISH_MAX);
    }
}

/// A thread that sends spans, seen from outside.
pub(super) struct Exporter {
    queue: Sender<Record>,
    stop: Arc<Notify>,
    ended: Mutex<Answer<()>>,
}

impl Exporter {
    pub(super) fn start(settings: &TraceSettings) -> Result<Self, TelemetryError> {
        let origin = Origin::new(&settings.service_name);
        tracing::info!(
            endpoint = settings.endpoint,
            sample_ratio = settings.sample_ratio,
            service.instance.id = %origin.instance,
            "traces are sent"
        );
        let sender = Batches { collector: Collector::new(settings)?, origin, is_failing: false };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(TelemetryError::Thread)?;
        let (queue, spans) = channel(QUEUED_MAX);
        let (tell_ended, ended) = answer();
        let stop = Arc::new(Notify::new());
        let stopped = stop.clone();
        let work = move || {
            runtime.block_on(sender.run(spans, &stopped));
            // Not received: nobody waited for it.
            let _ = tell_ended.send(());
        };
        let thread = std::thread::Builder::new().name("trace-export".to_owned()).spawn(work);
        thread.map_err(TelemetryError::Thread)?;
        Ok(Self { queue, stop, ended: Mutex::new(ended) })
    }

    pub(super) fn offer(&self, span: Record) {
        if self.queue.try_send(span).is_err() {
            metrics::counter!("millpond_trace_spans_dropped_total").increment(1);
        }
    }

    /// Has what is left sent, and waits for that so long. What comes later is dropped.
    pub(super) fn finish(&self, wait_max: Duration) {
        self.stop.notify_one();
        // Ended in time, out of time, or ended before: there is nothing more to do in any case.
        let _ = self.ended.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(wait_max);
    }
}

/// What the thread does.
struct Batches {
    collector: Collector,
    origin: Origin,
    is_failing: bool,
}

impl Batches {
    async fn run(mut self, mut spans: Receiver<Record>, stop: &Notify) {
        let mut batch = Vec::new();
        while gather(&mut spans, &mut batch, stop).await {
            self.send(&mut batch).await;
        }
        spans.close();
        while spans.recv_many(&mut batch, BATCH_MAX).await > 0 {
            self.send(&mut batch).await;
        }
        self.send(&mut batch).await;
    }

    async fn send(&mut self, batch: &mut Vec<Record>) {
        if batch.is_empty() {
            return;
        }
        let count = batch.len() as u64;
        let body = self.origin.encode(batch.drain(..));
        let rejected = match self.collector.send(body).await {
            Ok(rejected) => rejected.min(count),
            Err(error) => {
                // Once for each time that it begins: as many lines as batches would drown the rest.
                if !std::mem::replace(&mut self.is_failing, true) {
                    tracing::warn!(%error, "spans are lost: the collector does not take them");
                }
                exported("failed", count);
                return;
            }
        };
        if std::mem::take(&mut self.is_failing) {
            tracing::info!("the collector takes spans again");
        }
        exported("ok", count - rejected);
        exported("rejected", rejected);
    }
}

fn exported(outcome: &'static str, count: u64) {
    if count > 0 {
        metrics::counter!("millpond_trace_spans_exported_total", "outcome" => outcome).increment(count);
    }
}

/// Waits for spans, and from the first one on for more; false when it is time to end.
///
/// Those that follow the first are looked for now and then: a thread that is woken by each of them takes the processor
/// from whoever ended it, which costs more than the span.
async fn gather(spans: &mut Receiver<Record>, batch: &mut Vec<Record>, stop: &Notify) -> bool {
    let first = tokio::select! {
        received = spans.recv_many(batch, BATCH_MAX) => received,
        () = stop.notified() => 0,
    };
    let until = Instant::now() + GATHER;
    while first > 0 && batch.len() < BATCH_MAX && Instant::now() < until {
        tokio::select! {
            () = sleep(LOOK_EVERY) => {}
            () = stop.notified() => return false,
        }
        while batch.len() < BATCH_MAX {
            match spans.try_recv() {
                Ok(span) => batch.push(span),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }
    first > 0
}
