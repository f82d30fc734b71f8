//! The span of an attempt, from the arrival of its claim to its answer.

use kernel::ids::{PartnerId, TenantId};
use kernel::trace::TraceParent;
use queue::{Claimed, INTERNAL_ERROR, Outcome};
use telemetry::span::{self, Kind, Span};

use crate::report::Verdict;

/// What the failure is called of an attempt that lost its lease.
const LEASE_LOST: &str = "LEASE_LOST";

/// Begins it as `trace`, the attempt's own: under the span of whoever stored the job. Costs nothing where the trace is not recorded.
pub(crate) fn begin(job: &Claimed, trace: TraceParent) -> Span {
    let mut span =
        span::start(Kind::Consumer, trace, trace.is_sampled().then(|| job.asked_by()).flatten(), "job");
    span.note(|span| {
        let (id, kind) = (job.lease.job.to_string(), job.kind.clone());
        span.name(format!("run {kind}"))
            .set("messaging.system", span::text("millpond"))
            .set("messaging.operation.name", span::text("run"))
            .set("messaging.operation.type", span::text("process"))
            .set("messaging.destination.name", span::text(kind.clone()))
            .set("messaging.message.id", span::text(id.clone()))
            .set("job.id", span::text(id))
            .set("job.kind", span::text(kind))
            .set("job.attempt", span::whole(job.attempt))
            .set("partner.id", partner(job.lease.tenant).map(|partner| span::text(partner.to_string())))
            .set("request.id", job.request_id.clone().map(span::text));
    });
    span
}

/// Whoever is not ourselves is a partner.
fn partner(tenant: TenantId) -> Option<PartnerId> {
    (tenant != TenantId::SYSTEM).then(|| PartnerId::from_uuid(tenant.uuid()))
}

/// Says how it ended.
pub(crate) fn end(span: &mut Span, verdict: &Verdict) {
    span.note(|span| {
        // Whether what failed is tried again is decided later.
        let failed = matches!(verdict, Verdict::Answered(Err(_)) | Verdict::Crashed(_));
        span.set("job.outcome", span::text(if failed { "failed" } else { verdict.word() }));
    });
    match verdict {
        Verdict::Answered(Err(error) | Ok(Outcome::Cancel(error))) => span.fail(error.code().to_owned()),
        Verdict::Crashed(_) => span.fail(INTERNAL_ERROR),
        Verdict::Abandoned => span.fail(LEASE_LOST),
        Verdict::Answered(Ok(_)) | Verdict::GivenBack | Verdict::UnknownKind => span.succeed(),
    }
}
