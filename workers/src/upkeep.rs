//! A thread of its own for what keeps leases alive and the queue in order.
//!
//! Handlers share the process' runtime; one that computes without a pause must not keep a heartbeat from being
//! written, or healthy jobs would be taken back. So heartbeats and upkeep have a thread, a runtime and connections
//! that nothing else uses; and heartbeats have one to themselves, so that no upkeep is in their way either.

use std::{sync::Arc, thread};

use db::Pool;
use kernel::sealing::Keyring;
use queue::{ProcessInfo, Waker, limits::Permits};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    Error, Settings, handlers,
    incarnation::Incarnation,
    maintenance,
    orders::{self, Orders},
    running::Running,
    spending::{self, Spendings},
};

/// Connections that a worker process opens beside its services' pool: one for heartbeats, three for upkeep, of which
/// one may be busy for minutes.
pub const LEASE_CONNECTIONS: u32 = HEARTBEAT_CONNECTIONS + UPKEEP_CONNECTIONS;
const HEARTBEAT_CONNECTIONS: u32 = 1;
const UPKEEP_CONNECTIONS: u32 = 3;

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
    pub(crate) pool: Pool,
    pub(crate) info: ProcessInfo,
    /// Seals the audit log.
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) settings: Settings,
    pub(crate) kinds: Vec<&'static str>,
    pub(crate) running: Running,
    pub(crate) spendings: Spendings,
    pub(crate) permits: Permits,
    pub(crate) waker: Waker,
    /// Where is told what operators ask.
    pub(crate) orders: watch::Sender<Orders>,
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
    let Parts { pool, info, keyring, settings, kinds, running, spendings, permits, waker, orders, shutdown } =
        parts;
    let (beats, pool) = (pool.another(HEARTBEAT_CONNECTIONS), pool.another(UPKEEP_CONNECTIONS));
    match Incarnation::begin(beats.clone(), info, settings.lease, running.clone()).await {
        Ok(incarnation) => {
            let kept = incarnation.clone().keep(waker.clone(), shutdown.clone(), drained.clone());
            let reader =
                orders::Reader { pool: pool.clone(), incarnation: incarnation.clone(), orders, shutdown };
            reader.look().await;
            if began.send(Ok(incarnation.clone())).is_ok() {
                tokio::join!(
                    kept,
                    reader.watch(drained.clone()),
                    handlers::watch(running.clone(), drained.clone()),
                    handlers::write_progress(pool.clone(), running.clone(), drained.clone()),
                    spending::settle(pool.clone(), spendings, drained.clone()),
                    spending::clean(
                        pool.clone(),
                        settings.clone(),
                        permits,
                        running.clone(),
                        incarnation.clone(),
                        drained.clone(),
                    ),
                    handlers::give_back_forgotten(
                        pool.clone(),
                        settings.clone(),
                        running,
                        incarnation.clone(),
                        waker.clone(),
                        drained.clone(),
                    ),
                    maintenance::run(maintenance::Parts {
                        pool: pool.clone(),
                        keyring,
                        settings,
                        kinds,
                        incarnation,
                        waker,
                        ended: drained
                    }),
                );
            }
        }
        Err(error) => {
            let _ = began.send(Err(Error::Register(error)));
        }
    }
    tokio::join!(beats.close(), pool.close());
}
