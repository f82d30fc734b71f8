//! One request, followed by its id alone: what the API logged, its jobs, their attempts, the calls to the vendor, the
//! callback, and the spans at the collector; and that all of them name each other alike.

use std::collections::{BTreeMap, BTreeSet};

use kernel::trace::TraceParent;
use reqwest::Method;
use serde_json::{Value, json};

use super::stage::{Stage, accepted, profile};
use crate::support::{Collector, MillpondProcess, ReceivedSpan, found};

const ID: &str = "follow-me/4711";

/// The lines of a process's log that name the request, themselves or by a span around them.
fn lines_of(process: &MillpondProcess) -> Vec<Value> {
    let log = process.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line.trim()).ok());
    lines.filter(|line| field(line, "request.id").as_deref() == Some(ID)).collect()
}

/// A field of a line: its own, else that of the innermost span around it.
fn field(line: &Value, name: &str) -> Option<String> {
    let spans = line["spans"].as_array().map(Vec::as_slice).unwrap_or_default();
    let found = std::iter::once(line).chain(spans.iter().rev()).find_map(|place| place.get(name))?;
    Some(found.as_str().map_or_else(|| found.to_string(), str::to_owned))
}

fn lines_saying<'a>(lines: &'a [Value], message: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["message"] == message).collect()
}

/// The request's spans, once every one of them is there that its tree needs.
async fn whole_tree(collector: &Collector) -> BTreeMap<String, ReceivedSpan> {
    found("the request's spans", async || {
        let spans = collector
            .spans()
            .into_iter()
            .filter(|span| span.attributes.get("request.id").is_some_and(|id| id == ID));
        let spans: BTreeMap<String, ReceivedSpan> = spans.map(|span| (span.id.clone(), span)).collect();
        let is_there = |name: &str| spans.values().any(|span| span.name == name);
        let is_whole = ["POST /api/v1/profiles/enrich", "run profiles.enrich", "run webhooks.deliver"]
            .into_iter()
            .all(is_there)
            && spans.values().any(|span| span.name == "run profiles.fetch" && !span.is_error)
            && spans
                .values()
                .all(|span| span.parent.as_ref().is_none_or(|parent| spans.contains_key(parent)));
        is_whole.then_some(spans)
    })
    .await
}

#[tokio::test]
async fn one_request_is_followed_by_its_id_alone_from_the_call_to_the_callback() {
    let stage = Stage::new().await;
    let collector = Collector::start().await;
    // The first try fails and is repeated at once, the second is refused and fails the attempt.
    stage
        .faults(json!([
            { "vendor": "meter", "firstOfHandle": 1, "fault": { "kind": "status", "status": 503 } },
            { "vendor": "meter", "firstOfHandle": 2, "fault": { "kind": "status", "status": 429, "retryAfter": "1" } },
        ]))
        .await;
    let meter = stage.sandbox.meter_url();
    let mut settings = vec![
        ("MILLPOND_METER__URL", meter.as_str()),
        ("MILLPOND_METER__TOKEN", "sandbox-token"),
        ("MILLPOND_WEBHOOKS__ALLOW_LOOPBACK", "true"),
        ("MILLPOND_LOG__FILTER", "info,vendors=debug,jobs=debug"),
        ("MILLPOND_LOG__FORMAT", "json"),
    ];
    settings.extend(collector.variables());
    let mut api = MillpondProcess::start(&stage.db, &["api"], &settings);
    let worker = MillpondProcess::start(&stage.db, &["worker"], &settings);
    let url = api.ready_url().await;
    let request = api.request(Method::POST, &format!("{url}/api/v1/profiles/enrich"));
    let wish = json!({ "url": profile("amy.codes"), "callbackUrl": stage.sandbox.inbox_url("followed") });
    accepted(stage.partner.sign(request).header("X-Request-Id", ID).json(&wish)).await;
    let callback = stage.callback("followed").await;

    let spans = whole_tree(&collector).await;
    let named = |name: &str| spans.values().filter(|span| span.name == name).cloned().collect::<Vec<_>>();
    let one = |name: &str| -> ReceivedSpan {
        let spans = named(name);
        assert_eq!(spans.len(), 1, "{name}: {spans:?}");
        spans.into_iter().next().unwrap()
    };
    let show = || spans.values().map(|span| format!("{span:?}\n")).collect::<String>();

    // The tree: request → enrich → fetch, twice → tries; request → deliver → callback.
    let request = one("POST /api/v1/profiles/enrich");
    let (enrich, deliver) = (one("run profiles.enrich"), one("run webhooks.deliver"));
    let fetches = named("run profiles.fetch");
    let tries = named("POST meter.enrich");
    let told = one("POST callback");
    assert_eq!(spans.len(), 4 + fetches.len() + tries.len(), "{}", show());
    assert!(spans.values().all(|span| span.trace == request.trace), "{}", show());
    let parent = |span: &ReceivedSpan| span.parent.clone();
    assert_eq!(parent(&request), None, "nobody else began the trace");
    assert_eq!([parent(&enrich), parent(&deliver)], [Some(request.id.clone()), Some(request.id.clone())]);
    assert!(
        fetches.len() >= 2 && fetches.iter().all(|fetch| parent(fetch) == Some(enrich.id.clone())),
        "{}",
        show()
    );
    assert!(tries.len() >= 3, "{}", show());
    assert!(
        tries.iter().all(|try_| fetches.iter().any(|fetch| parent(try_) == Some(fetch.id.clone()))),
        "{}",
        show()
    );
    assert_eq!(parent(&told), Some(deliver.id.clone()));

    // What went wrong is told as wrong, and only that.
    let failed: Vec<_> = fetches.iter().filter(|fetch| fetch.is_error).collect();
    assert_eq!(failed.len(), fetches.len() - 1, "{}", show());
    assert!(failed.iter().all(|fetch| fetch.attributes.contains_key("error.type")));
    let statuses: BTreeSet<_> =
        tries.iter().map(|span| span.attributes["http.response.status_code"].as_str()).collect();
    assert_eq!(statuses, BTreeSet::from(["200", "429", "503"]));
    assert!(
        tries.iter().all(|span| span.is_error == (span.attributes["http.response.status_code"] != "200"))
    );
    assert!(
        tries
            .iter()
            .any(|span| span.attributes.get("http.request.resend_count").is_some_and(|count| count == "1"))
    );
    assert!(![&request, &enrich, &deliver, &told].iter().any(|span| span.is_error), "{}", show());
    assert!(spans.values().all(|span| span.began_ns <= span.ended_ns));
    assert_eq!(request.attributes["http.response.status_code"], "202");
    assert_eq!(request.attributes["partner.id"], stage.partner.id.to_string());

    // The database knows the same jobs, under the request's id, and each attempt's span names its job.
    let jobs = sqlx::query!(
        r#"select id as "id!", kind as "kind!", traceparent as "traceparent!" from jobs where request_id = $1
           union all select id, kind, traceparent from jobs_finished where request_id = $1 order by 2"#,
        ID
    );
    let jobs = jobs.fetch_all(stage.db.pool()).await.unwrap();
    assert_eq!(
        jobs.iter().map(|job| job.kind.as_str()).collect::<Vec<_>>(),
        ["profiles.enrich", "profiles.fetch", "webhooks.deliver"]
    );
    for job in &jobs {
        let id = kernel::ids::JobId::from_uuid(job.id).to_string();
        let attempts = named(&format!("run {}", job.kind));
        assert!(attempts.iter().all(|attempt| attempt.attributes["job.id"] == id));
        let asked = TraceParent::parse(&job.traceparent).unwrap();
        assert!(asked.is_sampled() && attempts.iter().all(|attempt| attempt.parent == Some(asked.span_id())));
        let numbers: BTreeSet<_> =
            attempts.iter().map(|attempt| attempt.attributes["job.attempt"].clone()).collect();
        assert_eq!(numbers.len(), attempts.len());
    }

    // The vendor and the partner saw the same ids.
    let calls = stage.vendor_headers("amy.codes").await;
    assert_eq!(calls.len(), tries.len());
    assert!(calls.iter().all(|call| call["x-request-id"] == ID));
    let seen: BTreeSet<_> =
        calls.iter().map(|call| TraceParent::parse(&call["traceparent"]).unwrap().span_id()).collect();
    assert_eq!(seen, tries.iter().map(|span| span.id.clone()).collect());
    assert_eq!(callback.headers["x-request-id"], ID);
    let seen = TraceParent::parse(&callback.headers["traceparent"]).unwrap();
    assert_eq!((seen.trace_id(), seen.span_id()), (told.trace.clone(), told.id.clone()));

    // And so do the logs.
    let (api_lines, worker_lines) = (lines_of(&api), lines_of(&worker));
    let answered = lines_saying(&api_lines, "answered");
    assert_eq!(answered.len(), 1);
    assert_eq!(field(answered[0], "trace.span"), Some(request.id.clone()));
    for (message, logged_of) in
        [("the vendor is called", &tries), ("the callback is sent", &vec![told.clone()])]
    {
        let logged: BTreeSet<_> = lines_saying(&worker_lines, message)
            .iter()
            .filter_map(|line| field(line, "trace.span"))
            .collect();
        assert_eq!(logged, logged_of.iter().map(|span| span.id.clone()).collect(), "{message}");
    }
    let failures = lines_saying(&worker_lines, "attempt failed");
    let logged: BTreeSet<_> = failures.iter().filter_map(|line| field(line, "trace.span")).collect();
    assert_eq!(logged, failed.iter().map(|span| span.id.clone()).collect());
    let traces = api_lines.iter().chain(&worker_lines).filter_map(|line| field(line, "trace.id"));
    assert_eq!(traces.collect::<BTreeSet<_>>(), BTreeSet::from([request.trace.clone()]));

    // The collector was told who we are, in its own words, and nothing that it has no business with.
    assert!(spans.values().all(|span| span.resource["service.name"] == "millpond"));
    let instances: BTreeSet<_> = spans.values().map(|span| &span.resource["service.instance.id"]).collect();
    assert_eq!(instances.len(), 2, "one for each process");
    assert!(collector.headers().iter().all(|headers| headers["authorization"] == "Bearer collectors-token"));
    let said = format!("{:?}", collector.spans());
    for unsaid in ["amy.codes", "followed", "collectors-token", "sandbox-token", &stage.partner.key, "@"] {
        assert!(!said.contains(unsaid), "{unsaid} is in {said}");
    }
}

#[tokio::test]
async fn spans_that_are_not_sent_yet_are_sent_when_the_process_is_told_to_end() {
    let stage = Stage::new().await;
    let collector = Collector::start().await;
    let mut api = MillpondProcess::start(&stage.db, &["api"], &collector.variables());
    let url = api.ready_url().await;
    let request = api.request(Method::GET, &format!("{url}/api/v1/jobs"));
    let answer = stage.partner.sign(request).header("X-Request-Id", ID).send().await.unwrap();
    assert!(answer.status().is_success());
    api.signal("TERM");
    assert!(api.ended().await.success());
    let spans = collector.spans();
    assert!(
        spans.iter().any(|span| span.attributes.get("request.id").is_some_and(|id| id == ID)),
        "{spans:?}"
    );
}
