//! What requests may say: unknown, wrong and oversized input is refused with all its faults at once.

use config::Sources;
use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::answer::{Answer, steady};
use super::stage::{ENRICH, Stage, profile};
use crate::support::within;

const SEVEN_MB: usize = 7_000_000;

/// Sends bytes as they are and reads the answer to its end.
async fn raw(stage: &Stage, head: &str, body: &[u8]) -> String {
    let address = stage.api.url().strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let credentials = format!("x-partner-id: {}\r\nx-api-key: {}", stage.partner.code, stage.partner.key);
    let head = format!(
        "POST {ENRICH} HTTP/1.1\r\nhost: api\r\nconnection: close\r\n{credentials}\r\n{head}\r\n\r\n"
    );
    let exchange = async {
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    within("an answer", exchange).await
}

fn assert_refused(answer: &str, status: u16, code: &str) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    assert!(answer.contains(&format!("{{\"success\":false,\"error\":{{\"code\":\"{code}\"")), "{answer}");
}

// S0-168
#[tokio::test]
async fn an_unknown_field_is_refused() {
    let stage = Stage::new().await;
    let body = json!({ "url": profile("amy.codes"), "callback": "https://partner.com/hook" });
    let refused = Answer::to(stage.enrich(&body)).await;
    insta::assert_json_snapshot!("unknown_field", steady(refused.refusal(400, "VALIDATION_ERROR")));
}

#[tokio::test]
async fn a_compressed_body_is_understood_a_bomb_is_not_unpacked_and_other_encodings_are_refused_by_name() {
    let stage = Stage::new().await;
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        std::io::Write::write_all(&mut encoder, bytes).unwrap();
        encoder.finish().unwrap()
    };
    let send = async |encoding: &str, body: &[u8]| {
        let json = "content-type: application/json";
        let head = format!("{json}\r\ncontent-encoding: {encoding}\r\ncontent-length: {}", body.len());
        raw(&stage, &head, body).await
    };
    let wish = json!({ "url": profile("amy.codes") }).to_string();
    let accepted = send("gzip", &gzip(wish.as_bytes())).await;
    assert!(accepted.starts_with("HTTP/1.1 202 "), "{accepted}");
    let bomb = gzip(&vec![b' '; 50_000_000]);
    assert_refused(&send("gzip", &bomb).await, 413, "PAYLOAD_TOO_LARGE");
    assert_refused(&send("gzip", wish.as_bytes()).await, 400, "VALIDATION_ERROR");
    let refused = send("br", wish.as_bytes()).await;
    assert_refused(&refused, 415, "UNSUPPORTED_MEDIA_TYPE");
    assert!(refused.contains("accept-encoding: gzip"), "{refused}");
}

// S0-168, S0-349
#[tokio::test]
async fn all_faults_of_a_body_are_told_at_once() {
    let stage = Stage::new().await;
    let body = json!({ "url": "https://example.com/amy", "callbackUrl": "http://10.0.0.1/hook", "urls": [] });
    let refused = Answer::to(stage.enrich(&body)).await;
    insta::assert_json_snapshot!("all_faults", steady(refused.refusal(400, "VALIDATION_ERROR")));
}

#[tokio::test]
async fn what_is_no_profile_is_refused_with_the_reason() {
    let stage = Stage::new().await;
    for url in [
        "",
        "amy",
        "https://example.com/@amy",
        "ftp://tiktok.com/@amy",
        "https://youtu.be/dQw4w9WgXcQ",
        "https://www.tiktok.com/@amy/video/7106594312292453675",
        "https://www.instagram.com/p/CxYz123/",
        "https://www.youtube.com/watch?v=dQw4w9WgXcQ",
        "https://www.tiktok.com.evil.com/@amy",
    ] {
        let refused = Answer::to(stage.enrich(&json!({ "url": url }))).await;
        assert_eq!(refused.faults(), [("url".to_owned(), "INVALID".to_owned())], "{url:?}");
    }
    for (url, code) in [(json!(7), "WRONG_TYPE"), (json!(null), "WRONG_TYPE"), (json!(["a"]), "WRONG_TYPE")] {
        let refused = Answer::to(stage.enrich(&json!({ "url": url }))).await;
        assert_eq!(refused.faults(), [("url".to_owned(), code.to_owned())], "{url}");
    }
    assert_eq!(
        Answer::to(stage.enrich(&json!({}))).await.faults(),
        [("url".to_owned(), "REQUIRED".to_owned())]
    );
}

#[tokio::test]
async fn a_callback_url_must_lead_to_a_public_web_address() {
    let stage = Stage::new().await;
    for callback in [
        "",
        "partner.com/hook",
        "/hook",
        "ftp://partner.com/hook",
        "https://partner.com:8443/hook",
        "https://user:secret@partner.com/hook",
        "http://10.0.0.1/hook",
        "http://192.168.1.1/hook",
        "http://169.254.169.254/latest/meta-data",
        "http://[::ffff:10.0.0.1]/hook",
        "http://0x0a000001/hook",
        "http://[fe80::1]/hook",
    ] {
        let body = json!({ "url": profile("amy.codes"), "callbackUrl": callback });
        let refused = Answer::to(stage.enrich(&body)).await;
        assert_eq!(refused.faults(), [("callbackUrl".to_owned(), "INVALID".to_owned())], "{callback:?}");
    }
}

#[tokio::test]
async fn a_body_that_is_not_a_json_object_is_refused() {
    let stage = Stage::new().await;
    let send = |body: &'static [u8]| {
        stage.ask(Method::POST, ENRICH).header("content-type", "application/json").body(body)
    };
    for (body, code) in [
        (&b""[..], "MALFORMED"),
        (b"{\"url\":", "MALFORMED"),
        (b"{} {}", "MALFORMED"),
        (b"{\"url\":\"\xff\"}", "MALFORMED"),
        (b"{\"url\":\"a\",\"url\":\"b\"}", "MALFORMED"),
        (b"[]", "WRONG_TYPE"),
        (b"\"text\"", "WRONG_TYPE"),
    ] {
        assert_eq!(Answer::to(send(body)).await.faults(), [("body".to_owned(), code.to_owned())], "{body:?}");
    }
    insta::assert_json_snapshot!("malformed", steady(Answer::to(send(b"{\"url\":")).await.json()));
}

#[tokio::test]
async fn a_body_of_another_media_type_is_refused() {
    let stage = Stage::new().await;
    let body = json!({ "url": profile("amy.codes") }).to_string();
    for media_type in ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin1"]
    {
        let request = stage.ask(Method::POST, ENRICH).header("content-type", media_type).body(body.clone());
        Answer::to(request).await.refusal(415, "UNSUPPORTED_MEDIA_TYPE");
    }
    let untyped = Answer::to(stage.ask(Method::POST, ENRICH).body(body.clone())).await;
    insta::assert_json_snapshot!("media_type", steady(untyped.refusal(415, "UNSUPPORTED_MEDIA_TYPE")));
    let utf8 = stage.ask(Method::POST, ENRICH).header("content-type", "Application/JSON; charset=UTF-8");
    Answer::to(utf8.body(body)).await.expect(202);
}

#[tokio::test]
async fn seven_megabytes_are_too_much_when_announced() {
    let stage = Stage::new().await;
    let body = json!({ "url": "x".repeat(SEVEN_MB) });
    let refused = Answer::to(stage.enrich(&body)).await;
    insta::assert_json_snapshot!("too_large", steady(refused.refusal(413, "PAYLOAD_TOO_LARGE")));
}

#[tokio::test]
async fn seven_megabytes_are_too_much_when_they_come_in_chunks() {
    let stage = Stage::new().await;
    let chunk = [b"10000\r\n".as_slice(), &[b'x'; 0x10000], b"\r\n"].concat();
    let chunks = chunk.repeat(SEVEN_MB / 0x10000 + 1);
    let body = [chunks.as_slice(), b"0\r\n\r\n"].concat();
    let answer = raw(&stage, "content-type: application/json\r\ntransfer-encoding: chunked", &body).await;
    assert_refused(&answer, 413, "PAYLOAD_TOO_LARGE");
}

#[tokio::test]
async fn a_client_that_asks_before_sending_too_much_need_not_send_it() {
    let stage = Stage::new().await;
    let head =
        format!("content-type: application/json\r\nexpect: 100-continue\r\ncontent-length: {SEVEN_MB}");
    assert_refused(&raw(&stage, &head, b"").await, 413, "PAYLOAD_TOO_LARGE");
}

#[tokio::test]
async fn a_body_at_the_limit_is_read() {
    let stage = Stage::new().await;
    let limit = 262_144;
    let padding = " ".repeat(limit - json!({ "url": profile("amy.codes") }).to_string().len());
    let fitting = format!("{}{padding}", json!({ "url": profile("amy.codes") }));
    let send =
        |body: String| stage.ask(Method::POST, ENRICH).header("content-type", "application/json").body(body);
    Answer::to(send(format!("{fitting} "))).await.refusal(413, "PAYLOAD_TOO_LARGE");
    Answer::to(send(fitting)).await.expect(202);
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_given_up() {
    let sources = Sources::default().with("http.request_timeout_ms", "2000").with("http.wait_s_max", "0");
    let stage = Stage::with(sources).await;
    let head = "content-type: application/json\r\ncontent-length: 100";
    assert_refused(&raw(&stage, head, b"{\"url\":").await, 408, "REQUEST_TIMEOUT");
}

#[tokio::test]
async fn an_endpoint_without_a_body_takes_none() {
    let stage = Stage::new().await;
    let job = stage.enriched("amy.codes").await;
    let path = format!("/api/v1/jobs/{job}/cancel");
    let refused = Answer::to(stage.ask(Method::POST, &path).json(&json!({ "force": true }))).await;
    assert_eq!(refused.faults(), [("force".to_owned(), "UNKNOWN".to_owned())]);
    Answer::to(stage.ask(Method::POST, &path).json(&json!({}))).await.expect(200);
}

#[tokio::test]
async fn unknown_repeated_and_wrong_parameters_are_told_at_once() {
    let stage = Stage::new().await;
    let refused = stage.get("/api/v1/jobs?limit=0&staus=failed&status=done&kind=a&kind=b").await;
    insta::assert_json_snapshot!("parameters", steady(refused.refusal(400, "VALIDATION_ERROR")));
}
