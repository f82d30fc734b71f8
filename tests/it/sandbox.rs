//! The sandbox as its callers see it: the partner's receiver, the controls, and what faults look like on the wire.

mod mail;

use std::time::{Duration, Instant};

use reqwest::{Client, Method, Response, StatusCode};
use sandbox::{Sandbox, SandboxOptions};
use serde_json::{Value, json};

struct Stage {
    sandbox: Sandbox,
    client: Client,
}

impl Stage {
    async fn set() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .no_proxy()
            .tls_certs_only([])
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        Self { sandbox: sandbox::start(SandboxOptions::default()).await.unwrap(), client }
    }

    async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Response {
        let mut request = self.client.request(method, format!("{}{path}", self.sandbox.url()));
        if let Some(body) = body {
            request = request.json(&body);
        }
        request.send().await.unwrap()
    }

    async fn get(&self, path: &str) -> Value {
        self.send(Method::GET, path, None).await.json().await.unwrap()
    }

    async fn faults(&self, rules: Value) {
        let answer = self.send(Method::PUT, "/_sandbox/faults", Some(json!({"rules": rules}))).await;
        assert_eq!(answer.status(), StatusCode::OK);
    }

    async fn call_back(&self, inbox: &str) -> reqwest::Result<Response> {
        let request = self.client.post(self.sandbox.inbox_url(inbox)).header("webhook-id", "msg_1");
        request.body(r#"{"jobId":  "job_1"}"#).send().await
    }
}

#[tokio::test]
async fn callbacks_are_kept_by_inbox_with_their_headers_and_exact_bytes() {
    let stage = Stage::set().await;
    assert_eq!(stage.call_back("acme").await.unwrap().status(), StatusCode::OK);
    stage.call_back("other").await.unwrap();
    stage.client.post(stage.sandbox.inbox_url("acme")).body(vec![0xff, 0x00]).send().await.unwrap();

    let listing = stage.get("/_sandbox/callbacks/acme").await;
    assert_eq!(listing["count"], 2);
    let [first, second] = listing["callbacks"].as_array().unwrap().as_slice() else { panic!("{listing}") };
    assert_eq!(first["body"], "{\"jobId\":  \"job_1\"}");
    assert_eq!((&first["headers"]["webhook-id"], &first["answered"]), (&json!("msg_1"), &json!("200")));
    assert_eq!((&second["body"], &second["bodyBase64"]), (&Value::Null, &json!("/wA=")));

    let later = stage.get(&format!("/_sandbox/callbacks/acme?after={}", first["sequence"])).await;
    assert_eq!(later["callbacks"].as_array().unwrap().len(), 1);
    let inboxes = stage.get("/_sandbox/callbacks").await;
    assert_eq!(inboxes["inboxes"], json!([{"inbox": "acme", "count": 2}, {"inbox": "other", "count": 1}]));

    stage.send(Method::DELETE, "/_sandbox/callbacks/acme", None).await;
    assert_eq!(stage.get("/_sandbox/callbacks/acme").await["count"], 0);
    assert_eq!(stage.get("/_sandbox/callbacks/other").await["count"], 1);
}

#[tokio::test]
async fn a_receiver_answers_as_told_and_records_all_the_same() {
    let stage = Stage::set().await;
    stage
        .faults(json!([
            {"handle": "busy", "first": 1, "fault": {"kind": "status", "status": 503, "retryAfter": "9"}},
            {"handle": "gone", "fault": {"kind": "status", "status": 410}},
            {"handle": "moved", "fault": {"kind": "status", "status": 302, "location": "http://169.254.169.254/"}}]))
        .await;
    let busy = stage.call_back("busy").await.unwrap();
    assert_eq!((busy.status().as_u16(), &busy.headers()["retry-after"]), (503, &"9".parse().unwrap()));
    assert_eq!(stage.call_back("busy").await.unwrap().status(), StatusCode::OK);
    assert_eq!(stage.call_back("gone").await.unwrap().status(), StatusCode::GONE);
    let moved = stage.call_back("moved").await.unwrap();
    assert_eq!(moved.headers()["location"], "http://169.254.169.254/");

    let listing = stage.get("/_sandbox/callbacks/busy").await;
    assert_eq!(
        (&listing["callbacks"][0]["answered"], &listing["callbacks"][1]["answered"]),
        (&json!("503"), &json!("200"))
    );
    let faults = stage.get("/_sandbox/faults").await;
    assert_eq!(faults["rules"][0]["happened"], 1);
    stage.send(Method::DELETE, "/_sandbox/faults", None).await;
    assert_eq!(stage.call_back("gone").await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn a_dropped_connection_gives_no_answer_and_a_truncated_one_half_of_it() {
    let stage = Stage::set().await;
    stage
        .faults(json!([{"handle": "drop", "fault": {"kind": "drop"}}, {"fault": {"kind": "truncated"}}]))
        .await;
    assert!(stage.call_back("drop").await.unwrap_err().is_request());

    let mut cut = stage.call_back("cut").await.unwrap();
    let announced = cut.content_length().unwrap();
    let half = cut.chunk().await.unwrap().unwrap();
    assert_eq!(half.len() as u64, announced / 2);
    assert!(cut.chunk().await.is_err());

    let calls = stage.get("/_sandbox/calls?vendor=partner").await;
    assert_eq!(calls["calls"][0]["statuses"], json!({"truncated": 1}));
    assert_eq!(calls["calls"][1]["statuses"], json!({"drop": 1}));
}

#[tokio::test]
async fn huge_and_slow_bodies_begin_like_any_other() {
    let stage = Stage::set().await;
    stage
        .faults(json!([
            {"handle": "huge", "fault": {"kind": "oversized", "bytes": 300_000}},
            {"fault": {"kind": "slow_body", "ms": 300}}]))
        .await;
    let huge = stage.call_back("huge").await.unwrap();
    assert_eq!((huge.status(), huge.content_length()), (StatusCode::OK, None));
    assert_eq!(huge.bytes().await.unwrap().len(), 300_000);

    let began = Instant::now();
    let slow = stage.call_back("slow").await.unwrap();
    assert_eq!(slow.json::<Value>().await.unwrap(), json!({"received": true}));
    assert!(began.elapsed() >= Duration::from_millis(250));
}

#[tokio::test]
async fn a_caller_that_leaves_a_hanging_call_is_counted_as_such() {
    let stage = Stage::set().await;
    stage.faults(json!([{"fault": {"kind": "hang"}}])).await;
    let call =
        stage.client.post(stage.sandbox.inbox_url("acme")).timeout(Duration::from_millis(100)).send().await;
    assert!(call.unwrap_err().is_timeout());
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let calls = stage.get("/_sandbox/calls").await;
        if calls["vendors"][0]["inFlight"] == 0 {
            assert_eq!(calls["calls"][0]["statuses"], json!({"abandoned": 1}));
            break;
        }
        assert!(Instant::now() < deadline, "{calls}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn counts_can_be_filtered_and_forgotten() {
    let stage = Stage::set().await;
    for inbox in ["acme", "acme", "other"] {
        stage.call_back(inbox).await.unwrap();
    }
    assert_eq!(stage.get("/_sandbox/calls").await["total"], 3);
    assert_eq!(stage.get("/_sandbox/calls?operation=callback&handle=acme").await["total"], 2);
    assert_eq!(stage.get("/_sandbox/calls?vendor=meter").await["total"], 0);
    stage.send(Method::DELETE, "/_sandbox/calls", None).await;
    assert_eq!(stage.get("/_sandbox/calls").await["total"], 0);
}

#[tokio::test]
async fn the_meter_refuses_what_its_format_does_not_allow() {
    let stage = Stage::set().await;
    let meter = |path: &str, body: &str, key: Option<&str>| {
        let mut request =
            stage.client.post(format!("{}{path}", stage.sandbox.meter_url())).body(body.to_owned());
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        request.bearer_auth("sandbox-token").send()
    };
    for (body, key, status, code) in [
        (r#"{"url": "https://example.com/amy"}"#, Some("k"), 422, "unsupported_url"),
        (r#"{"url": "https://www.tiktok.com/@amy", "x": 1}"#, Some("k"), 400, "invalid_request"),
        (r#"{"url": "https://www.tiktok.com/@amy"}"#, None, 400, "idempotency_key_required"),
        ("{", Some("k"), 400, "invalid_request"),
    ] {
        let answer = meter("/v1/profiles/enrich", body, key).await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{body}");
        let request_id = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
        let error = answer.json::<Value>().await.unwrap()["error"].clone();
        assert_eq!((&error["code"], &error["requestId"]), (&json!(code), &json!(request_id)));
    }
    let huge = format!(r#"{{"url": "{}"}}"#, "x".repeat(2 << 20));
    assert_eq!(meter("/v1/profiles/enrich", &huge, Some("k")).await.unwrap().status().as_u16(), 413);

    let body = r#"{"url": "https://www.tiktok.com/@amy"}"#;
    let first = meter("/v1/profiles/enrich", body, Some("k")).await.unwrap();
    assert_eq!(first.headers()["ratelimit-limit"], "1000000");
    assert!(!first.headers().contains_key("idempotency-replayed"));
    let again = meter("/v1/profiles/enrich", body, Some("k")).await.unwrap();
    assert_eq!(again.headers()["idempotency-replayed"], "true");
}

#[tokio::test]
async fn what_does_not_exist_is_answered_in_json_and_the_front_page_says_what_does() {
    let stage = Stage::set().await;
    for (method, path, status) in [
        (Method::GET, "/nowhere", 404),
        (Method::GET, "/meter/v2/profiles", 404),
        (Method::GET, "/meter/v1/profiles/enrich", 405),
        (Method::PUT, "/_sandbox/calls", 405),
    ] {
        let answer = stage.send(method, path, None).await;
        assert_eq!(answer.status().as_u16(), status, "{path}");
        assert!(answer.json::<Value>().await.unwrap()["error"]["code"].is_string(), "{path}");
    }
    let page = stage.send(Method::GET, "/", None).await.text().await.unwrap();
    assert!(page.contains("/_sandbox/faults") && page.contains("/partner/callbacks/"));
    assert_eq!(stage.get("/health").await["status"], "ok");
    for misspelt in ["/_sandbox/calls?hanlde=amy", "/_sandbox/callbacks/acme?after=soon"] {
        assert_eq!(stage.get(misspelt).await["error"]["code"], "invalid_request", "{misspelt}");
    }
    let refused = stage.send(Method::PUT, "/_sandbox/faults", Some(json!({"rules": [{"share": 2}]}))).await;
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_sandbox_stops_although_calls_hang_and_its_port_is_free_again() {
    let Stage { sandbox, client } = Stage::set().await;
    let (url, addr) = (sandbox.url(), sandbox.addr());
    let rules = json!({"rules": [{"fault": {"kind": "hang"}}]});
    client.put(format!("{url}/_sandbox/faults")).json(&rules).send().await.unwrap();
    let hanging = tokio::spawn(client.post(sandbox.inbox_url("acme")).send());
    loop {
        let calls: Value =
            client.get(format!("{url}/_sandbox/calls")).send().await.unwrap().json().await.unwrap();
        if calls["total"] == 1 {
            break;
        }
        assert!(!hanging.is_finished());
    }
    sandbox.shutdown().await;
    assert!(hanging.await.unwrap().is_err());
    let again = sandbox::start(SandboxOptions { listen: addr, ..SandboxOptions::default() }).await.unwrap();
    assert_eq!(again.addr(), addr);
    let second =
        sandbox::start(SandboxOptions { listen: addr, ..SandboxOptions::default() }).await.unwrap_err();
    assert!(second.to_string().contains(&addr.to_string()));
}
