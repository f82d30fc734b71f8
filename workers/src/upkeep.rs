//! A thread of its own for what keeps leases alive and takes back those of the dead.
//!
//! Handlers share the process' runtime; one that computes without a pause must not keep a heartbeat from being
//! written, or healthy jobs would be taken back. So heartbeats and sweeps have a thread, a runtime and two
//! connections that nothing else uses.

use std::thread;

use queue::{ProcessInfo, Waker};
use sqlx::PgPool;
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{Error, Settings, incarnation::Incarnation, running::Running, sweep};

/// Connections that a worker process opens beside its services' pool: one for heartbeats, one for sweeps.
pub const LEASE_CONNECTIONS: u32 = 2;

/// The running thread. Dropping it ends the thread at once, as the end of the process would.
pub(crate) struct Upkeep {
    /// This process as an owner of leases.
    pub(crate) incarnation: Incarnation,
    drained: CancellationToken,
    ended: oneshot::Receiver<()>,
    _abandoned: DropGuard,
}

/// What the thread needs to begin.
pub(crate) struct Parts {
    /// Where and how to connect; its own connections are not used.
    pub(crate) pool: PgPool,
    pub(crate) info: ProcessInfo,
    pub(crate) settings: Settings,
    pub(crate) kinds: Vec<&'static str>,
    pub(crate) running: Running,
    pub(crate) waker: Waker,
    pub(crate) shutdown: CancellationToken,
}

impl Upkeep {
    /// Registers the process and keeps it registered.
    pub(crate) async fn start(parts: Parts) -> Result<Self, Error> {
        let (began, beginning) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let (drained, abandoned) = (CancellationToken::new(), CancellationToken::new());
        let guard = abandoned.clone().drop_guard();
        let until = drained.clone();
        let keep = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            match runtime {
                Ok(runtime) => {
                    runtime.block_on(abandoned.run_until_cancelled(keep(parts, until, began)));
                }
                Err(error) => {
                    let _ = began.send(Err(Error::Thread(error)));
                }
            }
            // Not received: nobody waits for the end any more.
            let _ = end.send(());
        };
        thread::Builder::new().name("leases".into()).spawn(keep).map_err(Error::Thread)?;
        let incarnation = beginning.await.unwrap_or(Err(Error::Register(queue::Error::LeaseLost)))?;
        Ok(Self { incarnation, drained, ended, _abandoned: guard })
    }

    /// Signs off, when the process holds no more leases.
    pub(crate) async fn finish(self) {
        self.drained.cancel();
        // An error means that the thread is gone already.
        let _ = self.ended.await;
    }
}

async fn keep(parts: Parts, drained: CancellationToken, began: oneshot::Sender<Result<Incarnation, Error>>) {
    let Parts { pool, info, settings, kinds, running, waker, shutdown } = parts;
    let options = pool.options().clone().max_connections(LEASE_CONNECTIONS).min_connections(0);
    let pool = options.connect_lazy_with(pool.connect_options().as_ref().clone());
    match Incarnation::begin(pool.clone(), info, settings.lease, running).await {
        Ok(incarnation) => {
            let kept = incarnation.clone().keep(shutdown, drained.clone());
            if began.send(Ok(incarnation)).is_ok() {
                tokio::join!(kept, sweep::run(pool.clone(), settings, kinds, waker, drained));
            }
        }
        Err(error) => {
            let _ = began.send(Err(Error::Register(error)));
        }
    }
    pool.close().await;
}
