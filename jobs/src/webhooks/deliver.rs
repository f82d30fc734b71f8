//! `webhooks.deliver`: sends one signed callback until it is taken, refused for good, or the schedule ends.
//!
//! The receiver sees at least one request, always with the delivery's id as `webhook-id` and always with the
//! same body, which is drawn from the finished job: so it can tell repeats apart from news. Only a job that an
//! operator tries again before the receiver took its end is told of by its second end.

use std::time::{Duration, Instant};

use ::webhooks::{
    self as deliveries, ATTEMPTS_MAX, Attempt, Delivery, DeliveryStatus, RETRY_AFTER_MAX, RETRY_DELAYS,
    Secret, Verdict, verdict,
};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use kernel::{ids::DeliveryId, trace::TRACEPARENT};
use outbound::{AddressRefused, OutboundError, Response};
use queue::{Backoff, INTERNAL_ERROR, Job, JobError, Outcome, Policy, Queue};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use telemetry::span::{self, Kind, Span};
use url::Url;

use crate::{Context, Handler, callback};

/// The arguments.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Deliver {
    /// The delivery.
    pub delivery: DeliveryId,
}

impl Job for Deliver {
    const KIND: &'static str = "webhooks.deliver";
    const POLICY: Policy = Policy {
        queue: Queue::Webhooks,
        priority: 0,
        attempts_max: ATTEMPTS_MAX as i16,
        // The request has 15 seconds; what comes on top is ours.
        timeout: Duration::from_secs(25),
        backoff: Backoff::Steps(&RETRY_DELAYS),
        ..Policy::DEFAULT
    };
}

impl Handler for Deliver {
    async fn run(self, cx: Context) -> Result<Outcome, JobError> {
        let (delivery, secret, body) = match self.prepare(&cx).await? {
            Prepared::Message(delivery, secret, body) => (delivery, secret, body),
            Prepared::Nothing => return Ok(Outcome::Done(None)),
            Prepared::NotYet => return Ok(Outcome::Snooze(LIVE_AGAIN_PAUSE)),
        };
        let signed = secret.sign(&delivery.id.to_string(), kernel::clock::now(), &body);
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static("millpond-webhooks/1"));
        let request_id = cx.request_id().map(|id| ("x-request-id", id));
        let trace = cx.trace().child();
        let traceparent = trace.to_string();
        let origin = request_id.into_iter().chain([(TRACEPARENT, traceparent.as_str())]);
        for (name, value) in signed.headers().into_iter().chain(origin) {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        tracing::debug!(trace.id = trace.trace_id(), trace.span = trace.span_id(), "the callback is sent");
        let mut span = span::start(Kind::Client, trace, Some(cx.trace()), "POST callback");
        let began = Instant::now();
        let answer = match Url::parse(&delivery.url) {
            Ok(url) => {
                describe_request(&mut span, &cx, self.delivery, &url);
                cx.services().outbound.post(&url, headers, body).await
            }
            Err(error) => Err(AddressRefused::Malformed(error.to_string()).into()),
        };
        let took = began.elapsed();
        describe_answer(&mut span, &answer);
        drop(span);
        metrics::counter!("millpond_webhook_attempts_total", "outcome" => outcome(&answer)).increment(1);
        metrics::histogram!("millpond_webhook_attempt_duration_seconds").record(took);
        self.conclude(&cx, &delivery, answer, took).await
    }
}

const ADDRESS_REFUSED: &str = "ADDRESS_REFUSED";
const GONE: &str = "GONE";
const NOT_DELIVERED: &str = "NOT_DELIVERED";

/// How often we look whether a job that was to be reported, and was then given another life, has ended again.
const LIVE_AGAIN_PAUSE: Duration = Duration::from_secs(30);

/// What there is to send.
enum Prepared {
    /// This body, signed with this secret, for this delivery.
    Message(Delivery, Secret, Vec<u8>),
    /// The delivery has ended.
    Nothing,
    /// An operator gave the job another life before the receiver had taken its end.
    NotYet,
}

impl Deliver {
    async fn prepare(&self, cx: &Context) -> Result<Prepared, JobError> {
        let services = cx.services();
        let mut conn = services.pool.acquire().await?;
        let delivery = deliveries::get(&mut conn, cx.tenant(), self.delivery).await.map_err(webhook_error)?;
        let Some(mut delivery) = delivery.filter(|delivery| delivery.status == DeliveryStatus::Pending)
        else {
            return Ok(Prepared::Nothing);
        };
        let Some(job) = queue::get(&mut conn, cx.tenant(), delivery.job).await? else {
            return Err(JobError::fatal(INTERNAL_ERROR, "the job that was to be reported is gone"));
        };
        if !job.status.has_ended() {
            return Ok(Prepared::NotYet);
        }
        // Known only now that the job has ended.
        delivery.subject = delivery.subject.or(job.subject);
        let secret = partners::directory::webhook_secret(&mut conn, &services.keyring, cx.tenant())
            .await
            .map_err(|error| JobError::retryable(INTERNAL_ERROR, "no signing secret").caused_by(&error))?;
        let secret = Secret::parse(&secret)
            .map_err(|error| JobError::fatal(INTERNAL_ERROR, "no usable signing secret").caused_by(&error))?;
        let body = Value::Object(callback::body(&job)).to_string().into_bytes();
        Ok(Prepared::Message(delivery, secret, body))
    }

    /// Records the attempt and decides how it goes on, in one fenced transaction.
    async fn conclude(
        &self,
        cx: &Context,
        delivery: &Delivery,
        answer: Result<Response, OutboundError>,
        took: Duration,
    ) -> Result<Outcome, JobError> {
        let (attempt, retry_after, refused_for_good) = describe(&answer, took);
        let verdict = attempt.response_status.map_or(Verdict::Retry, verdict);
        let ends = matches!(verdict, Verdict::Gone) || refused_for_good || cx.is_last_attempt();

        let mut tx = cx.begin().await?;
        if let Some(subject) = delivery.subject {
            let marked = deliveries::set_subject(&mut tx, cx.tenant(), delivery.id, subject).await;
            marked.map_err(webhook_error)?;
        }
        deliveries::record_attempt(&mut tx, cx.tenant(), delivery.id, &attempt)
            .await
            .map_err(webhook_error)?;
        if matches!(verdict, Verdict::Delivered) {
            deliveries::mark_delivered(&mut tx, cx.tenant(), delivery.id).await.map_err(webhook_error)?;
            let done = tx.done(None, delivery.subject).await?;
            metrics::counter!("millpond_webhook_deliveries_total", "end" => "delivered").increment(1);
            return Ok(done);
        }
        if ends {
            deliveries::mark_failed(&mut tx, cx.tenant(), delivery.id).await.map_err(webhook_error)?;
        }
        tx.commit().await?;
        if ends {
            metrics::counter!("millpond_webhook_deliveries_total", "end" => "failed").increment(1);
        }

        let why = match (&attempt.response_status, attempt.error) {
            (Some(status), _) => format!("the receiver answered {status}"),
            (None, Some(error)) => error,
            (None, None) => "no answer".to_owned(),
        };
        Err(match verdict {
            Verdict::Gone => JobError::fatal(GONE, why),
            _ if refused_for_good => JobError::fatal(ADDRESS_REFUSED, why),
            _ => JobError::retryable(NOT_DELIVERED, why)
                .after(retry_after.map(|wait| wait.min(RETRY_AFTER_MAX))),
        })
    }
}

/// What came of an attempt, in the words of `millpond_webhook_attempts_total`.
fn outcome(answer: &Result<Response, OutboundError>) -> &'static str {
    match answer {
        Ok(response) => match response.status {
            200..=299 => "delivered",
            400..=499 => "rejected",
            500..=599 => "server_error",
            _ => "other_status",
        },
        Err(OutboundError::Refused(_)) => "refused",
        Err(_) => "unreachable",
    }
}

/// Who is called, for the collector: never the path or the query, which may hold the partner's secrets.
fn describe_request(span: &mut Span, cx: &Context, delivery: DeliveryId, url: &Url) {
    span.note(|span| {
        span.set("http.request.method", span::text("POST"))
            .set("server.address", url.host_str().map(|host| span::text(host.to_owned())))
            .set("server.port", url.port_or_known_default().map(span::whole))
            .set("request.id", cx.request_id().map(|id| span::text(id.to_owned())))
            .set("job.id", span::text(cx.job().to_string()))
            .set("delivery.id", span::text(delivery.to_string()));
    });
}

fn describe_answer(span: &mut Span, answer: &Result<Response, OutboundError>) {
    match answer {
        Ok(response) => {
            let status = response.status;
            span.note(|span| {
                span.set("http.response.status_code", span::whole(status));
            });
            match verdict(status) {
                Verdict::Delivered => span.succeed(),
                _ => span.fail(status.to_string()),
            }
        }
        Err(error) => span.fail(error.word()),
    }
}

/// The attempt as it is recorded, what the receiver asked us to wait, and whether we will never send there.
fn describe(
    answer: &Result<Response, OutboundError>,
    duration: Duration,
) -> (Attempt, Option<Duration>, bool) {
    match answer {
        Ok(response) => {
            let attempt = Attempt {
                duration,
                response_status: Some(response.status),
                response_body: Some(response.body.clone()),
                ..Attempt::default()
            };
            (attempt, response.retry_after, false)
        }
        Err(error) => {
            let attempt = Attempt { duration, error: Some(error.to_string()), ..Attempt::default() };
            (attempt, None, matches!(error, OutboundError::Refused(_)))
        }
    }
}

fn webhook_error(error: ::webhooks::WebhookError) -> JobError {
    JobError::retryable(INTERNAL_ERROR, "the delivery could not be read or written").caused_by(&error)
}
