//! Workers inside the test process, each on a runtime of its own, so that one can crash.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jobs::Entry;
use queue::{ProcessInfo, Queue, Waker};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use workers::{MaintenanceSettings, Settings, TurnSettings};

use super::test_db::pool_of;
use super::{TestDb, services, within};

/// A process that works all queues, four jobs of each at once.
pub fn process_info(kinds: &'static [Entry]) -> ProcessInfo {
    ProcessInfo {
        host: "test".to_owned(),
        pid: 1,
        slots: Queue::ALL.into_iter().map(|queue| (queue, 4)).collect(),
        kinds: kinds.iter().map(|entry| entry.kind).collect(),
    }
}

/// How a test's worker runs.
#[derive(Clone)]
pub struct WorkerOptions {
    /// As in production, only quicker.
    pub settings: Settings,
    /// The kinds it knows.
    pub kinds: &'static [Entry],
    /// The sandbox's meter, if jobs call it.
    pub meter_url: Option<String>,
    /// Threads that run handlers.
    pub threads: usize,
    /// Shared with an API in the same "process", if there is one.
    pub waker: Waker,
}

impl WorkerOptions {
    /// Four slots in every queue, a lease of half a second, a sweep every 100 ms.
    pub fn new(kinds: &'static [Entry]) -> Self {
        let settings = Settings {
            slots: Queue::ALL.into_iter().map(|queue| (queue, 4)).collect::<BTreeMap<_, _>>(),
            lease: Duration::from_millis(500),
            sweep: Duration::from_millis(100),
            poll: Duration::from_millis(20),
            turns: TurnSettings::default(),
            drain_timeout: Duration::from_secs(5),
            maintenance: MaintenanceSettings::default(),
        };
        Self { settings, kinds, meter_url: None, threads: 1, waker: Waker::new() }
    }

    /// Starts it on a database.
    pub fn start(self, db: &TestDb) -> TestWorker {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(self.threads)
            .thread_name("test-worker")
            .enable_all()
            .build()
            .expect("a runtime for the worker");
        let shutdown = CancellationToken::new();
        let (ended, end) = oneshot::channel();
        // Its own connections, as a process has: those of the test belong to the test's runtime.
        let target = db.options().clone().application_name("test-worker");
        let stop = shutdown.clone();
        runtime.spawn(async move {
            let Self { settings, kinds, meter_url, waker, .. } = self;
            let services = Arc::new(services(pool_of(&target, 8), meter_url.as_deref()));
            let result = workers::run(settings, kinds, services, waker, stop).await;
            let _ = ended.send(result);
        });
        TestWorker { runtime: Some(runtime), shutdown, end: Some(end) }
    }
}

/// A running worker; it crashes when it is dropped.
pub struct TestWorker {
    runtime: Option<Runtime>,
    shutdown: CancellationToken,
    end: Option<oneshot::Receiver<Result<(), workers::Error>>>,
}

impl TestWorker {
    /// A worker with the usual options.
    pub fn start(db: &TestDb, kinds: &'static [Entry]) -> Self {
        WorkerOptions::new(kinds).start(db)
    }

    /// Asks it to stop, as SIGTERM does; [`stopped`](Self::stopped) waits for it.
    pub fn ask_to_stop(&self) {
        self.shutdown.cancel();
    }

    /// Waits until it has drained and ended.
    pub async fn stopped(mut self) {
        let end = self.end.take().expect("it ends once");
        within("the worker to drain and stop", end).await.expect("it tells its end").expect("it ran");
    }

    /// Stops it and waits until it has drained.
    pub async fn stop(self) {
        self.ask_to_stop();
        self.stopped().await;
    }

    /// Ends it at once, without a word to anybody, as SIGKILL does.
    pub fn crash(self) {}
}

impl Drop for TestWorker {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
