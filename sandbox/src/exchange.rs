//! One call of a fake, from its counting to its answer, with the fault that meets it.

use std::future::{Future, pending};
use std::time::Duration;

use axum::http::HeaderMap;
use axum::response::Response;

use crate::calls::Call;
use crate::faults::{Fault, Plan};
use crate::oidc::WrongIdToken;
use crate::{Shared, fault_bodies};

/// A call that was counted and whose fault is decided.
#[derive(Debug)]
pub(crate) struct Exchange {
    call: Call,
    plan: Plan,
}

impl Exchange {
    /// Counts the call and decides what it meets.
    pub(crate) fn begin(
        shared: &Shared,
        vendor: &'static str,
        operation: &'static str,
        handle: Option<&str>,
        request_id: Option<&str>,
        headers: &HeaderMap,
    ) -> Self {
        let call = shared.calls.begin(vendor, operation, handle, request_id, headers);
        let plan = shared.faults.plan(&call);
        Self { call, plan }
    }

    /// What the call will be answered with, when a fault decides that.
    pub(crate) fn fault_label(&self) -> Option<String> {
        self.plan.fault.as_ref().map(Fault::label)
    }

    /// What shall be wrong with the ID token that the call is answered with.
    pub(crate) fn wrong_id_token(&self) -> Option<WrongIdToken> {
        match self.plan.fault {
            Some(Fault::IdToken { wrong }) => Some(wrong),
            _ => None,
        }
    }

    /// Does the work unless the fault forbids it, and answers as the fault wants.
    pub(crate) async fn carry_out(self, work: impl Future<Output = Response>) -> Response {
        if !self.plan.latency.is_zero() {
            tokio::time::sleep(self.plan.latency).await;
        }
        let response = match &self.plan.fault {
            None | Some(Fault::Latency { .. } | Fault::IdToken { .. }) => work.await,
            Some(Fault::Hang {}) => pending().await,
            Some(Fault::Status { status, retry_after, location }) => {
                fault_bodies::with_status(*status, retry_after.as_deref(), location.as_deref())
            }
            Some(Fault::Truncated {}) => fault_bodies::truncated(work.await).await,
            Some(Fault::Malformed {}) => fault_bodies::malformed(work.await).await,
            Some(Fault::SlowBody { ms }) => fault_bodies::slow(work.await, Duration::from_millis(*ms)).await,
            Some(Fault::Drop {}) => {
                drop(work.await);
                fault_bodies::dropped()
            }
            Some(Fault::Oversized { bytes }) => {
                drop(work.await);
                fault_bodies::oversized(*bytes)
            }
        };
        let outcome = self.fault_label().unwrap_or_else(|| response.status().as_str().to_owned());
        self.call.end(outcome);
        response
    }
}
