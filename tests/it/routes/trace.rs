//! `traceparent` and `X-Request-Id` along with the work: from the call to the jobs, the vendor and the callback.

use std::collections::{BTreeMap, HashSet};

use kernel::trace::TraceParent;
use reqwest::Method;
use reqwest::header::HeaderValue;
use serde_json::{Value, json};

use super::answer::Answer;
use super::stage::{Stage, accepted, profile};
use crate::support::{MillpondProcess, eventually};

const ID: &str = "order-4711/attempt:2";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// A job's kind, its request's id and its place in a trace, live or finished.
struct Stored {
    kind: String,
    request_id: Option<String>,
    trace: TraceParent,
}

async fn stored(stage: &Stage) -> Vec<Stored> {
    let rows = sqlx::query!(
        r#"select kind as "kind!", request_id, traceparent as "traceparent!" from jobs
           union all select kind, request_id, traceparent from jobs_finished order by 1"#
    );
    let rows = rows.fetch_all(stage.db.pool()).await.unwrap().into_iter();
    let read = |text: &str| TraceParent::parse(text).unwrap_or_else(|| panic!("{text:?}"));
    rows.map(|row| Stored { trace: read(&row.traceparent), kind: row.kind, request_id: row.request_id })
        .collect()
}

fn wish(stage: &Stage, handle: &str, inbox: &str) -> Value {
    json!({ "url": profile(handle), "callbackUrl": stage.sandbox.inbox_url(inbox) })
}

/// The span in the headers of a call.
fn span_in(headers: &BTreeMap<String, String>) -> TraceParent {
    TraceParent::parse(&headers["traceparent"]).expect("what we send is what we would take")
}

#[tokio::test]
async fn one_trace_and_one_request_id_go_from_the_call_to_the_jobs_the_vendor_and_the_callback() {
    let (stage, _worker) = Stage::working().await;
    let request = stage.enrich(&wish(&stage, "amy.codes", "told"));
    let answer = Answer::to(request.header("X-Request-Id", ID).header("traceparent", GIVEN)).await;
    answer.expect(202);
    assert_eq!(answer.header("x-request-id"), Some(ID));
    assert_eq!((answer.header("traceparent"), answer.header("traceresponse")), (None, None));
    let callback = stage.callback("told").await;
    eventually("the delivery to end", async || {
        let live = sqlx::query_scalar!(r#"select count(*) as "live!" from jobs"#);
        live.fetch_one(stage.db.pool()).await.unwrap() == 0
    })
    .await;

    let jobs = stored(&stage).await;
    let kinds: Vec<_> = jobs.iter().map(|job| job.kind.as_str()).collect();
    assert_eq!(kinds, ["profiles.enrich", "profiles.fetch", "webhooks.deliver"]);
    assert!(jobs.iter().all(|job| job.request_id.as_deref() == Some(ID)));
    // A worker that lost its lease on a busy machine is no fault here: its calls are in the trace like any other.
    let calls = stage.vendor_headers("amy.codes").await;
    assert!(calls.iter().all(|call| call["x-request-id"] == ID), "{calls:?}");
    assert_eq!(callback.headers["x-request-id"], ID);

    let mut spans: Vec<TraceParent> = jobs.iter().map(|job| job.trace).collect();
    // Both that the request stored are its children; the fetch is one of the attempt that asked for it.
    assert_eq!(spans.remove(2), spans[0]);
    spans.extend(calls.iter().map(span_in));
    spans.extend([span_in(&callback.headers), TraceParent::parse(GIVEN).unwrap()]);
    assert!(spans.iter().all(|span| span.trace_id() == TRACE), "{spans:?}");
    let different: HashSet<_> = spans.iter().collect();
    assert_eq!(different.len(), spans.len(), "each call is a span of its own: {spans:?}");
}

#[tokio::test]
async fn every_try_of_a_call_is_a_span_of_its_own() {
    let stage = Stage::new().await;
    let fault = json!({ "kind": "status", "status": 503 });
    stage.faults(json!([{ "vendor": "meter", "firstOfHandle": 2, "fault": fault }])).await;
    let _worker = stage.start_worker();
    accepted(stage.enrich(&wish(&stage, "amy.codes", "told")).header("traceparent", GIVEN)).await;
    stage.callback("told").await;
    let spans: HashSet<_> = stage.vendor_headers("amy.codes").await.iter().map(span_in).collect();
    assert_eq!(spans.len(), 3, "{spans:?}");
    assert!(spans.iter().all(|span| span.trace_id() == TRACE), "{spans:?}");
}

#[tokio::test]
async fn a_crawl_for_many_keeps_the_trace_of_the_first_and_each_callback_that_of_its_own_request() {
    let stage = Stage::new().await;
    let mut traces = Vec::new();
    for number in 0..3 {
        let given = TraceParent::begin();
        let request = stage.enrich(&wish(&stage, "amy.codes", &format!("told-{number}")));
        let request = request.header("X-Request-Id", format!("request-{number}"));
        accepted(request.header("traceparent", given.to_string())).await;
        traces.push(given.trace_id());
    }
    let _worker = stage.start_worker();
    for (number, trace) in traces.iter().enumerate() {
        let callback = stage.callback(&format!("told-{number}")).await;
        assert_eq!(span_in(&callback.headers).trace_id(), *trace);
        assert_eq!(callback.headers["x-request-id"], format!("request-{number}"));
    }
    let calls = stage.vendor_headers("amy.codes").await;
    assert_eq!(calls.len(), 1);
    let first =
        traces.iter().position(|trace| *trace == span_in(&calls[0]).trace_id()).expect("a trace of theirs");
    assert_eq!(
        calls[0]["x-request-id"],
        format!("request-{first}"),
        "trace and request are the same asker's"
    );
    let fetch = stored(&stage).await.into_iter().find(|job| job.kind == "profiles.fetch").unwrap();
    assert_eq!(fetch.trace.trace_id(), traces[first]);
}

#[tokio::test]
async fn what_a_caller_says_of_recording_goes_no_further() {
    // Nothing is recorded in this process, and the caller wants everything.
    let (stage, _worker) = Stage::working().await;
    accepted(stage.enrich(&wish(&stage, "amy.codes", "told")).header("traceparent", GIVEN)).await;
    let callback = stage.callback("told").await;
    let calls = stage.vendor_headers("amy.codes").await;
    let sent = calls.iter().map(span_in).chain([span_in(&callback.headers)]);
    let mut spans: Vec<_> = stored(&stage).await.into_iter().map(|job| job.trace).chain(sent).collect();
    assert!(spans.len() >= 4 && spans.iter().all(|span| span.trace_id() == TRACE), "{spans:?}");
    spans.retain(|span| span.is_sampled());
    assert!(spans.is_empty(), "{spans:?}");
}

/// Values that somebody might send to do harm, or by mistake.
fn hostile() -> Vec<Vec<u8>> {
    let texts = [
        "",
        "00",
        "garbage",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00F067AA0BA902B7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01,00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
        "00 4bf92f3577b34da6a3ce929d0e0e4736 00f067aa0ba902b7 01",
        "'; drop table jobs; --",
        "${jndi:ldap://example.com/a}",
        "<script>alert(1)</script>",
        "../../../../../../../../../../etc/passwd/../../../../../../..",
        "%30%30-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736\t00f067aa0ba902b7-01",
    ];
    let mut values: Vec<Vec<u8>> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    values.push(vec![0xff; 55]);
    values.push("00-4bf92f3577b34da6a3ce929d0e0e473é-00f067aa0ba902b7-1".as_bytes().to_vec());
    values.push(format!("cc{}-{}", &GIVEN[2..], "x".repeat(6_000)).into_bytes());
    values
}

#[tokio::test]
async fn a_header_that_cannot_be_read_begins_a_new_trace_and_nothing_of_it_is_kept() {
    let stage = Stage::new().await;
    let values = hostile();
    for value in &values {
        let value = HeaderValue::from_bytes(value).unwrap();
        accepted(stage.enrich(&json!({ "url": profile("amy.codes") })).header("traceparent", value)).await;
    }
    let twice = stage.enrich(&json!({ "url": profile("amy.codes") }));
    accepted(twice.header("traceparent", GIVEN).header("traceparent", GIVEN)).await;
    accepted(stage.enrich(&json!({ "url": profile("amy.codes") }))).await;

    let traces: HashSet<_> = stored(&stage).await.iter().map(|job| job.trace.trace_id()).collect();
    assert_eq!(traces.len(), values.len() + 2, "no two are alike");
    assert!(!traces.contains(TRACE));
}

#[tokio::test]
async fn a_later_version_of_the_header_is_taken_up_and_goes_on_as_ours() {
    let stage = Stage::new().await;
    let later = format!("cc{}-whatever-comes", &GIVEN[2..]);
    accepted(stage.enrich(&json!({ "url": profile("amy.codes") })).header("traceparent", later)).await;
    assert_eq!(stored(&stage).await[0].trace.trace_id(), TRACE);
}

#[tokio::test]
async fn the_command_line_and_the_logs_of_every_process_name_request_and_trace() {
    let stage = Stage::new().await;
    let meter = stage.sandbox.meter_url();
    let settings = [
        ("MILLPOND_METER__URL", meter.as_str()),
        ("MILLPOND_METER__TOKEN", "sandbox-token"),
        ("MILLPOND_LOG__FILTER", "info,vendors=debug"),
        ("MILLPOND_LOG__FORMAT", "json"),
    ];
    let mut api = MillpondProcess::start(&stage.db, &["api"], &settings);
    let worker = MillpondProcess::start(&stage.db, &["worker"], &settings);
    let url = api.ready_url().await;
    let request = api.request(Method::POST, &format!("{url}/api/v1/profiles/enrich"));
    let request = stage.partner.sign(request).json(&json!({ "url": profile("missing.person") }));
    let job = accepted(request.header("X-Request-Id", ID).header("traceparent", GIVEN)).await;
    assert_eq!(stage.ended(&job).await["status"], "failed");

    let answered = logged(&api, |line| line["message"] == "answered").await;
    assert_eq!(named(&answered["spans"][0]), json!([ID, TRACE]));
    let called = logged(&worker, |line| line["message"] == "the vendor is called").await;
    assert_eq!(named(&called["spans"][0]), json!([ID, TRACE]));
    assert_eq!(called["spans"][0]["job.kind"], "profiles.fetch");
    assert_eq!(called["spans"][0]["job.attempt"], 1);
    assert!(called["spans"][0]["job.id"].as_str().unwrap().starts_with("job_"));
    let failed = logged(&worker, |line| line["message"] == "attempt failed").await;
    assert_eq!(named(&failed), json!([ID, TRACE]));

    let shown = MillpondProcess::output(&stage.db, &["jobs", "show", &job, "--json"]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((&shown["requestId"], &shown["traceId"]), (&json!(ID), &json!(TRACE)));
    let outline = MillpondProcess::output(&stage.db, &["jobs", "show", &job]);
    assert!(outline.contains(&format!("requestId: {ID}\n")), "{outline}");
    assert!(outline.contains(&format!("traceId: {TRACE}\n")), "{outline}");
}

fn named(line: &Value) -> Value {
    json!([line["request.id"], line["trace.id"]])
}

/// The first line of a process's log that is wanted, once it is there.
async fn logged(process: &MillpondProcess, wanted: impl Fn(&Value) -> bool) -> Value {
    crate::support::found("a line in the log", async || {
        let log = process.log();
        let mut lines = log.lines().filter_map(|line| serde_json::from_str(line.trim()).ok());
        lines.find(|line| wanted(line))
    })
    .await
}
