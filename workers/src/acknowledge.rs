//! The outermost layer: whatever became of a job, also a panic, is reported to the pump exactly once.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use apalis_core::{error::BoxDynError, task::Task};
use queue::{Claimed, LeaseKey};
use tokio::sync::mpsc;
use tower::{Layer, Service};

use crate::execute::Verdict;

/// What the pump is told about a job that left its slot.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) lease: LeaseKey,
    pub(crate) kind: String,
    pub(crate) attempt: i16,
    pub(crate) attempts_max: i16,
    pub(crate) verdict: Verdict,
}

#[derive(Debug, Clone)]
pub(crate) struct AcknowledgeLayer {
    to_pump: mpsc::UnboundedSender<Report>,
}

impl AcknowledgeLayer {
    pub(crate) fn new(to_pump: mpsc::UnboundedSender<Report>) -> Self {
        Self { to_pump }
    }
}

impl<S> Layer<S> for AcknowledgeLayer {
    type Service = Acknowledge<S>;

    fn layer(&self, inner: S) -> Acknowledge<S> {
        Acknowledge { inner, to_pump: self.to_pump.clone() }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Acknowledge<S> {
    inner: S,
    to_pump: mpsc::UnboundedSender<Report>,
}

impl<S> Service<Task<Claimed>> for Acknowledge<S>
where
    S: Service<Task<Claimed>, Response = Verdict>,
    S::Error: Into<BoxDynError>,
    S::Future: Send + 'static,
{
    type Response = ();
    type Error = BoxDynError;
    type Future = Pin<Box<dyn Future<Output = Result<(), BoxDynError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxDynError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, task: Task<Claimed>) -> Self::Future {
        let Claimed { lease, attempt, attempts_max, .. } = task.args;
        let kind = task.args.kind.clone();
        let to_pump = self.to_pump.clone();
        let running = self.inner.call(task);
        Box::pin(async move {
            let verdict = running.await.unwrap_or_else(|error| Verdict::Crashed(error.into().to_string()));
            // The pump outlives the runtime; if it is gone, the process is, and the lease runs out.
            let _ = to_pump.send(Report { lease, kind, attempt, attempts_max, verdict });
            Ok(())
        })
    }
}
