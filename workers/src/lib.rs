//! Running jobs: one pool of slots per queue on the apalis runtime, over our own store.
//!
//! What holds: a process claims only into free slots and only while its heartbeat holds; when the heartbeat is
//! lost its handlers are stopped before anybody else may take their jobs; at shutdown claims stop first, running
//! handlers get [`Settings::drain_timeout`], what is left is given back without using up an attempt. Handlers
//! run in tasks of their own, so one that blocks or panics harms only itself.
//!
//! One pump task per pool does all of its database work ([`pump`]); the apalis backend only receives from the
//! pump's channel ([`backend`]), handlers' tasks only report to it ([`execute`]).

mod attempt_span;
mod backend;
mod execute;
mod flight;
mod handlers;
mod incarnation;
mod maintenance;
mod meters;
mod orders;
mod pump;
mod report;
mod running;
mod spending;
mod upkeep;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use apalis::prelude::WorkerBuilder;
use jobs::{Entry, Services};
use queue::{ProcessInfo, Queue, Waker};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

pub use maintenance::MaintenanceSettings;
pub use pump::{LOOK_AT_ALL_EVERY, TurnSettings};
pub use upkeep::LEASE_CONNECTIONS;

use crate::{
    backend::PumpedBackend, execute::Execute, flight::Connections, meters::Meters, orders::Orders,
    pump::Pump, running::Running, spending::Spendings, upkeep::Upkeep,
};

/// How a worker process runs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Jobs at a time, by queue; queues that are not named are not worked.
    pub slots: BTreeMap<Queue, usize>,
    /// How long a lease outlives the last heartbeat.
    pub lease: Duration,
    /// How often leases of dead processes are looked for.
    pub sweep: Duration,
    /// How often a queue is looked at when no signal comes; the wait is jittered by a fifth.
    pub poll: Duration,
    /// How turns to the database are cut.
    pub turns: TurnSettings,
    /// How long running handlers may go on after shutdown was asked for.
    pub drain_timeout: Duration,
    /// What the queue keeps, and of what it warns.
    pub maintenance: MaintenanceSettings,
}

/// The worker could not begin.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The process could not be registered.
    #[error("the worker could not register itself")]
    Register(#[source] queue::Error),
    /// No thread could be started for heartbeats.
    #[error("no thread for heartbeats")]
    Thread(#[source] std::io::Error),
}

/// Runs worker pools until `shutdown` is cancelled and everything is drained. An operator who asks this process to stop
/// cancels it, too: whoever runs other things beside ends them then.
///
/// # Errors
/// [`Error::Register`] when the database cannot be reached at the start. Later faults of the database are
/// waited out.
pub async fn run(
    settings: Settings,
    kinds: &'static [Entry],
    services: Arc<Services>,
    waker: Waker,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let info = ProcessInfo {
        host: host(),
        pid: std::process::id(),
        slots: settings.slots.clone(),
        kinds: kinds.iter().map(|entry| entry.kind).collect(),
    };
    let spendings = Spendings::of(kinds);
    let running = Running::new(spendings.clone());
    let orders = watch::Sender::new(Orders::default());
    let upkeep = Upkeep::start(upkeep::Parts {
        pool: services.pool.clone(),
        keyring: services.keyring.clone(),
        info,
        settings: settings.clone(),
        kinds: kinds.iter().map(|entry| entry.kind).collect(),
        running: running.clone(),
        spendings: spendings.clone(),
        permits: services.limits.permits().clone(),
        waker: waker.clone(),
        orders: orders.clone(),
        shutdown: shutdown.clone(),
    })
    .await?;
    let policies: Vec<_> = kinds.iter().map(|entry| (entry.kind, &entry.policy)).collect();
    queue::limits::register_kinds(&services.pool, &policies).await.map_err(Error::Register)?;

    let mut pools = JoinSet::new();
    for (queue, slots) in settings.slots.clone() {
        let (to_runtime, from_pump) = mpsc::unbounded_channel();
        let (to_pump, from_runtime) = mpsc::unbounded_channel();
        let execute = Execute::new(kinds, services.clone(), waker.clone(), running.clone());
        let worker = WorkerBuilder::new(queue.as_str()).backend(PumpedBackend::new(from_pump)).build(execute);
        let pump = Pump {
            queue,
            slots,
            turns: settings.turns,
            connections: Connections::new(services.pool.clone(), settings.turns.connections),
            waker: waker.clone(),
            incarnation: upkeep.incarnation.clone(),
            running: running.clone(),
            orders: orders.subscribe(),
            kinds,
            meters: Meters::new(queue, slots, kinds),
            poll: settings.poll,
            drain_timeout: settings.drain_timeout,
            to_runtime: Some(to_runtime),
            to_pump,
            from_runtime,
            shutdown: shutdown.clone(),
        };
        pools.spawn(pump.run());
        pools.spawn(async move {
            if let Err(error) = worker.run().await {
                tracing::error!(%queue, %error, "the runtime of a pool ended");
            }
        });
    }
    while let Some(ended) = pools.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a pool's task panicked");
        }
    }
    // While the process is still registered: what it leaves behind counts as spent.
    spendings.settle(&services.pool).await;
    upkeep.finish().await;
    Ok(())
}

/// The machine's name, for people who look at processes; nothing depends on it.
fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
