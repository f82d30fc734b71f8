//! `/api/v1/session`: signing in and out.

mod guessing;
mod single_sign_on;

use identity::{Password, Passwords, PersonChange, Role};
use jobs::people;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use super::answer::Answer;
use crate::support::person::{PASSWORD, TestPerson, operator_door};
use crate::support::{TestApi, TestDb, keyring, so_many_wait};

const SESSION: &str = "/api/v1/session";

/// Signs in, and answers what is said.
fn sign_in(api: &TestApi, body: &Value) -> RequestBuilder {
    api.request(Method::POST, SESSION).json(body)
}

async fn stage() -> (TestDb, TestApi, TestPerson) {
    let db = TestDb::new().await;
    let api = TestApi::start(&db).await;
    let person = TestPerson::create(&db, Role::Operator).await;
    (db, api, person)
}

/// Actions in the audit log, the oldest first.
pub async fn audited(db: &TestDb) -> Vec<String> {
    sqlx::query_scalar("select action from audit_log order by id").fetch_all(db.pool()).await.unwrap()
}

#[tokio::test]
async fn a_browser_signs_in_and_out_and_a_copied_cookie_is_worth_nothing_then() {
    let (db, api, person) = stage().await;
    let answer =
        Answer::to(sign_in(&api, &json!({"email": " Operator@Example.com", "password": PASSWORD}))).await;
    let data = answer.expect(200)["data"].clone();
    assert_eq!(data["role"], "operator");
    assert_eq!(data["userId"], person.id.to_string());
    assert!(data["token"].is_null());
    let cookie = answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let ask = |method| api.request(method, SESSION).header("cookie", &cookie);

    assert_eq!(Answer::to(ask(Method::GET)).await.expect(200)["data"]["email"], "operator@example.com");
    let signed_out = Answer::to(ask(Method::DELETE).header("sec-fetch-site", "same-origin")).await;
    signed_out.expect(200);
    assert!(signed_out.header("set-cookie").unwrap().contains("Max-Age=0"));
    Answer::to(ask(Method::GET)).await.refusal(401, "UNAUTHORIZED");
    assert_eq!(audited(&db).await, ["users.create", "sessions.open", "sessions.end"]);
}

#[tokio::test]
async fn a_program_gets_a_token_that_ends_when_it_signs_out() {
    let (_db, api, _) = stage().await;
    let body = json!({"email": "operator@example.com", "password": PASSWORD, "kind": "token"});
    let answer = Answer::to(sign_in(&api, &body)).await;
    assert!(answer.header("set-cookie").is_none());
    let token = answer.expect(200)["data"]["token"].as_str().unwrap().to_owned();
    let ask = |method| api.request(method, SESSION).bearer_auth(&token);
    Answer::to(ask(Method::GET)).await.expect(200);
    Answer::to(ask(Method::DELETE)).await.expect(200);
    Answer::to(ask(Method::GET)).await.refusal(401, "UNAUTHORIZED");
}

#[tokio::test]
async fn wrong_unknown_and_disabled_are_one_answer() {
    let (db, api, _) = stage().await;
    let gone = TestPerson::named(&db, Role::Viewer, "gone@example.com").await;
    sqlx::query("update people set disabled_at = now() where id = $1")
        .bind(gone.id.uuid())
        .execute(db.pool())
        .await
        .unwrap();
    let mut bodies = Vec::new();
    for (email, password) in [
        ("operator@example.com", "wrong horse battery"),
        ("nobody@example.com", PASSWORD),
        ("gone@example.com", PASSWORD),
    ] {
        let answer = Answer::to(sign_in(&api, &json!({"email": email, "password": password}))).await;
        let mut body = answer.refusal(401, "UNAUTHORIZED");
        body["requestId"] = Value::Null;
        assert!(answer.header("set-cookie").is_none());
        bodies.push(body);
    }
    assert!(bodies.windows(2).all(|pair| pair[0] == pair[1]), "{bodies:?}");
    Answer::to(gone.sign(api.request(Method::GET, SESSION))).await.refusal(401, "UNAUTHORIZED");
}

#[tokio::test]
async fn all_faults_of_a_body_are_told_at_once() {
    let (_db, api, _) = stage().await;
    let faults = Answer::to(sign_in(&api, &json!({"email": "no", "kind": "x", "more": 1}))).await.faults();
    let fields: Vec<&str> = faults.iter().map(|(field, _)| field.as_str()).collect();
    assert_eq!(fields, ["email", "password", "kind", "more"]);
}

#[tokio::test]
async fn another_site_changes_nothing_with_a_visitors_cookie() {
    let (_db, api, person) = stage().await;
    let cookie = format!("{}={}", api::extract::person::COOKIE, person.cookie);
    for (header, value) in
        [("sec-fetch-site", "cross-site"), ("origin", "https://evil.example"), ("accept", "*/*")]
    {
        let ask = api.request(Method::DELETE, SESSION).header("cookie", &cookie).header(header, value);
        let refused = Answer::to(ask).await.refusal(403, "FORBIDDEN");
        assert_eq!(refused["error"]["details"][0]["code"], "CROSS_SITE");
    }
    let body = json!({"email": person.email, "password": PASSWORD});
    let forced = sign_in(&api, &body).header("origin", "https://evil.example");
    Answer::to(forced).await.refusal(403, "FORBIDDEN");
    let origin = api.url().to_owned();
    let own = api.request(Method::DELETE, SESSION).header("cookie", &cookie).header("origin", origin);
    Answer::to(own).await.expect(200);
}

#[tokio::test]
async fn another_password_ends_every_other_session() {
    let (db, api, person) = stage().await;
    let path = format!("{SESSION}/password");
    let change = |current: &str, password: &str| {
        person.sign(api.request(Method::PUT, &path)).json(&json!({"current": current, "password": password}))
    };
    assert_eq!(Answer::to(change("wrong", "short")).await.faults()[0].0, "password");
    assert_eq!(
        Answer::to(change("not the present one", "staple battery horse")).await.faults()[0].0,
        "current"
    );
    let changed = Answer::to(change(PASSWORD, "staple battery horse")).await.expect(200);
    assert_eq!(changed["data"]["sessionsEnded"], 1);
    Answer::to(person.browse(api.request(Method::GET, SESSION))).await.refusal(401, "UNAUTHORIZED");
    Answer::to(person.sign(api.request(Method::GET, SESSION))).await.expect(200);
    Answer::to(sign_in(&api, &json!({"email": person.email, "password": PASSWORD})))
        .await
        .refusal(401, "UNAUTHORIZED");
    assert_eq!(audited(&db).await, ["users.create", "users.change_password"]);
}

#[tokio::test]
async fn a_former_password_is_worth_nothing_also_to_who_was_signing_in_with_it_when_it_changed() {
    let (db, api, person) = stage().await;
    let hash = Passwords::new(1).hash(Password::chosen("staple battery horse").unwrap()).await.unwrap();
    let keyring = keyring();
    let mut tx = db::begin(db.pool()).await.unwrap();
    let change = PersonChange { password: Some(hash), ..PersonChange::default() };
    people::change(&mut tx, &operator_door(&keyring), person.id, change).await.unwrap();
    let body = json!({"email": person.email, "password": PASSWORD});
    let signing_in = Answer::to(sign_in(&api, &body));
    let changing = async {
        // The password was found right, and who is changing it is waited for.
        so_many_wait(db.pool(), 1).await;
        tx.commit().await.unwrap();
    };
    let (refused, ()) = tokio::join!(signing_in, changing);
    refused.refusal(401, "UNAUTHORIZED");
    let sessions: i64 =
        sqlx::query_scalar("select count(*) from sessions").fetch_one(db.pool()).await.unwrap();
    assert_eq!(sessions, 0);
}

#[tokio::test]
async fn sessions_end_by_age_and_by_not_being_used() {
    let (db, api, person) = stage().await;
    let ask = || person.sign(api.request(Method::GET, SESSION));
    Answer::to(ask()).await.expect(200);
    for change in ["seen_at = now() - interval '61 minutes'", "expires_at = now(), seen_at = now()"] {
        let statement = format!("update sessions set {change} where kind = 'token'");
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(db.pool()).await.unwrap();
        Answer::to(ask()).await.refusal(401, "UNAUTHORIZED");
    }
}

#[tokio::test]
async fn a_person_sees_their_sessions_and_ends_one() {
    let (_db, api, person) = stage().await;
    let path = format!("{SESSION}/all");
    let listed = Answer::to(person.sign(api.request(Method::GET, &path))).await.expect(200);
    let sessions = listed["data"].as_array().unwrap().clone();
    assert_eq!(sessions.len(), 2);
    let other = sessions.iter().find(|session| session["isCurrent"] == false).unwrap();
    assert_eq!(other["kind"], "cookie");
    let end =
        || person.sign(api.request(Method::DELETE, &format!("{path}/{}", other["id"].as_str().unwrap())));
    Answer::to(end()).await.expect(200);
    Answer::to(end()).await.refusal(404, "NOT_FOUND");
    Answer::to(person.browse(api.request(Method::GET, SESSION))).await.refusal(401, "UNAUTHORIZED");
    let csv = Answer::to(person.sign(api.request(Method::GET, &format!("{path}?format=csv")))).await;
    assert!(csv.text().starts_with("id,kind,isCurrent,createdAt,seenAt,expiresAt\r\nses_"), "{}", csv.text());
}
