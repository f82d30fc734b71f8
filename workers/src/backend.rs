//! The apalis backend: it receives claimed jobs from the pump, in batches, and hands them to the runtime. It never
//! touches the database, so `poll_*` cannot fail and one slow query cannot stall a pool.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use apalis_core::{
    backend::{Backend, BackendConfig, finalize::Ephemeral},
    task::{Task, builder::TaskBuilder, task_id::RandomId},
    worker::context::WorkerContext,
};
use queue::Claimed;
use tokio::sync::mpsc;
use tower::layer::util::Identity;

#[derive(Debug)]
pub(crate) struct PumpedBackend {
    from_pump: mpsc::UnboundedReceiver<Vec<Claimed>>,
}

impl PumpedBackend {
    pub(crate) fn new(from_pump: mpsc::UnboundedReceiver<Vec<Claimed>>) -> Self {
        Self { from_pump }
    }
}

impl Backend for PumpedBackend {
    type Task = Task<Vec<Claimed>>;
    type Error = Infallible;

    fn poll_ready(&mut self, _: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    /// Ends when the pump, which is shutting down, drops its side. apalis' worker does not end with its backend:
    /// it waits to be told.
    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        worker: &WorkerContext,
    ) -> Poll<Option<Result<Task<Vec<Claimed>>, Infallible>>> {
        self.from_pump.poll_recv(cx).map(|claimed| match claimed {
            Some(jobs) => Some(Ok(TaskBuilder::new(jobs).build())),
            None => {
                if let Err(error) = worker.stop() {
                    tracing::error!(%error, "the runtime of a pool cannot be stopped");
                }
                None
            }
        })
    }

    fn poll_close(&mut self, _: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }
}

impl BackendConfig for PumpedBackend {
    type Args = Vec<Claimed>;
    type Id = RandomId;
    type Kind = Ephemeral;
    type Config = ();
    type Layer = Identity;

    fn config(&self) -> &() {
        &()
    }

    fn middleware(&mut self, _: &mut WorkerContext) -> Identity {
        Identity::new()
    }
}
