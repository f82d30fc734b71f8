//! `millpond users …`: the first admin, and everybody after.

use std::io::Write;
use std::process::{Command, Stdio};

use reqwest::Method;
use serde_json::{Value, json};

use crate::routes::answer::Answer;
use crate::support::{BINARY, TestApi, TestDb, keyring};

/// A command with something on its standard input: what it says and its exit code.
fn run(db: &TestDb, arguments: &[&str], stdin: &str) -> (Value, Option<i32>) {
    let mut command = Command::new(BINARY);
    command.args(["users", "--json"]).args(arguments).envs(db.variables());
    command.env("MILLPOND_ENCRYPTION__KEYS", keyring().to_text());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // One that does not read it may be gone by now.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    let output = child.wait_with_output().unwrap();
    let said = if output.status.success() { &output.stdout } else { &output.stderr };
    (serde_json::from_slice(said).unwrap_or_default(), output.status.code())
}

async fn sign_in(api: &TestApi, password: &str) -> u16 {
    let body = json!({ "email": "anna@example.com", "password": password });
    Answer::to(api.request(Method::POST, "/api/v1/session").json(&body)).await.status
}

#[tokio::test]
async fn the_first_admin_is_made_on_the_command_line_and_signs_in() {
    let db = TestDb::new().await;
    let api = TestApi::start(&db).await;
    let (made, _) = run(&db, &["create", "Anna@example.com", "--role", "admin"], "");
    assert_eq!((&made["email"], &made["role"]), (&json!("anna@example.com"), &json!("admin")));
    let password = made["password"].as_str().unwrap();
    assert_eq!(sign_in(&api, password).await, 200);

    let (taken, code) = run(&db, &["create", "anna@example.com", "--role", "viewer"], "");
    assert_eq!((&taken["error"]["code"], code), (&json!("CONFLICT"), Some(1)));
    let (last, code) = run(&db, &["set-role", "anna@example.com", "viewer"], "");
    assert_eq!((&last["error"]["code"], code), (&json!("CONFLICT"), Some(1)));

    let (changed, _) =
        run(&db, &["set-password", "anna@example.com", "--password-stdin"], "chosen at a desk\n");
    assert_eq!(changed["sessionsEnded"], 1);
    assert_eq!((sign_in(&api, password).await, sign_in(&api, "chosen at a desk").await), (401, 200));
    let (short, code) = run(&db, &["set-password", "anna@example.com", "--password-stdin"], "short");
    assert_eq!((&short["error"]["code"], code), (&json!("VALIDATION_ERROR"), Some(2)));
    let (made_up, _) = run(&db, &["set-password", "anna@example.com"], "");
    assert_eq!(sign_in(&api, made_up["password"].as_str().unwrap()).await, 200);
}

#[tokio::test]
async fn somebody_is_shut_out_and_let_in_again() {
    let db = TestDb::new().await;
    let api = TestApi::start(&db).await;
    run(&db, &["create", "boss@example.com", "--role", "admin", "--no-password"], "");
    let (anna, _) =
        run(&db, &["create", "anna@example.com", "--role", "viewer", "--password-stdin"], "chosen at a desk");
    assert!(anna["password"].is_null());
    assert_eq!(sign_in(&api, "chosen at a desk").await, 200);
    let id = anna["id"].as_str().unwrap();
    assert_eq!(run(&db, &["disable", id], "").0["sessionsEnded"], 1);
    assert_eq!(sign_in(&api, "chosen at a desk").await, 401);
    run(&db, &["enable", "anna@example.com"], "");
    assert_eq!(sign_in(&api, "chosen at a desk").await, 200);
    let (nobody, _) = run(&db, &["disable", "nobody@example.com"], "");
    assert_eq!(nobody["error"]["code"], "NOT_FOUND");
    let listed = run(&db, &["list"], "").0;
    assert_eq!(listed.as_array().unwrap().len(), 2);
    let actors: Vec<String> =
        sqlx::query_scalar("select distinct actor_kind from audit_log where action like 'users.%'")
            .fetch_all(db.pool())
            .await
            .unwrap();
    assert_eq!(actors, ["cli"]);
}
