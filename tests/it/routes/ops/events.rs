//! Live events.

use super::*;
use crate::support::within;

/// Reads until the text of the stream holds a needle.
async fn until_told(stream: &mut reqwest::Response, heard: &mut String, needle: &str) {
    let read = async {
        while !heard.contains(needle) {
            let chunk = stream.chunk().await.unwrap().expect("the stream goes on");
            heard.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    };
    within(needle, read).await;
}

#[tokio::test]
async fn who_may_sign_in_is_told_to_admins_alone() {
    let stage = OpsStage::new().await;
    let listen = |person: &TestPerson| person.sign(stage.api.request(Method::GET, "/api/v1/ops/events"));
    let mut of_admin = listen(&stage.admin).send().await.unwrap();
    let mut of_viewer = listen(&stage.viewer).send().await.unwrap();
    let (mut admin, mut viewer) = (String::new(), String::new());
    until_told(&mut of_viewer, &mut viewer, "event: overview").await;
    let new = json!({"email": "dora@example.com", "role": "viewer", "password": "a password of hers"});
    stage.post("users", new).await.expect(201);
    stage.post("queues/webhooks/pause", json!({})).await.expect(200);
    until_told(&mut of_admin, &mut admin, "users.create").await;
    until_told(&mut of_viewer, &mut viewer, "queues.pause").await;
    assert!(!viewer.contains("users."), "{viewer}");
}

#[tokio::test]
async fn one_session_does_not_take_the_places_of_others() {
    let stage = OpsStage::new().await;
    let listen = |person: &TestPerson| person.sign(stage.api.request(Method::GET, "/api/v1/ops/events"));
    let mut streams = Vec::new();
    for _ in 0..5 {
        let stream = listen(&stage.viewer).send().await.unwrap();
        assert_eq!(stream.status().as_u16(), 200);
        streams.push(stream);
    }
    Answer::to(listen(&stage.viewer)).await.refusal(503, "OVERLOADED");
    assert_eq!(listen(&stage.operator).send().await.unwrap().status().as_u16(), 200);
    // Who leaves makes room.
    streams.pop();
    let comes_in = async || listen(&stage.viewer).send().await.unwrap().status().as_u16() == 200;
    crate::support::eventually("there is room again", comes_in).await;
}

#[tokio::test]
async fn who_listens_hears_of_changes_until_the_session_ends() {
    let stage = OpsStage::new().await;
    let listen = || stage.viewer.sign(stage.api.request(Method::GET, "/api/v1/ops/events"));
    let mut stream = listen().send().await.unwrap();
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    let mut heard = String::new();
    until_told(&mut stream, &mut heard, "event: overview").await;
    stage.post("queues/webhooks/pause", json!({})).await.expect(200);
    until_told(&mut stream, &mut heard, "queues.pause").await;
    until_told(&mut stream, &mut heard, &format!("\"pausedBy\":\"{}\"", stage.admin.id)).await;
    // A second one is told at once where everything stands.
    let mut second = listen().send().await.unwrap();
    until_told(&mut second, &mut String::new(), "event: overview").await;

    let sign_out = stage.viewer.sign(stage.api.request(Method::DELETE, "/api/v1/session"));
    Answer::to(sign_out).await.expect(200);
    let ended = async { while stream.chunk().await.unwrap().is_some() {} };
    within("the end of the stream", ended).await;
}
