//! The apalis backend: it receives claimed jobs from the pump and hands them to the runtime. It never touches
//! the database, so `poll_*` cannot fail and one slow query cannot stall a pool.

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

use crate::acknowledge::{AcknowledgeLayer, Report};

#[derive(Debug)]
pub(crate) struct PumpedBackend {
    from_pump: mpsc::Receiver<Claimed>,
    to_pump: mpsc::UnboundedSender<Report>,
}

impl PumpedBackend {
    pub(crate) fn new(from_pump: mpsc::Receiver<Claimed>, to_pump: mpsc::UnboundedSender<Report>) -> Self {
        Self { from_pump, to_pump }
    }
}

impl Backend for PumpedBackend {
    type Task = Task<Claimed>;
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
    ) -> Poll<Option<Result<Task<Claimed>, Infallible>>> {
        self.from_pump.poll_recv(cx).map(|claimed| match claimed {
            Some(job) => Some(Ok(TaskBuilder::new(job).build())),
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
    type Args = Claimed;
    type Id = RandomId;
    type Kind = Ephemeral;
    type Config = ();
    type Layer = AcknowledgeLayer;

    fn config(&self) -> &() {
        &()
    }

    fn middleware(&mut self, _: &mut WorkerContext) -> AcknowledgeLayer {
        AcknowledgeLayer::new(self.to_pump.clone())
    }
}
