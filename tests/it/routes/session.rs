//! `/api/v1/session`: signing in and out.

mod guessing;
mod single_sign_on;

use identity::{ACCOUNT_FAILURES_MAX, Password, Passwords, PersonChange, Role, SessionKind};
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

/// Ends every lock, as time does.
async fn locks_end(db: &TestDb) {
    sqlx::query("update sign_in_guards set locked_until = now() where locked_until > now()")
        .execute(db.pool())
        .await
        .unwrap();
}

#[tokio::test]
async fn who_guesses_the_present_password_with_a_stolen_session_is_locked_as_who_signs_in_is() {
    let (db, api, person) = stage().await;
    let path = format!("{SESSION}/password");
    let change = |current: &str| {
        let body = json!({"current": current, "password": "staple battery horse"});
        Answer::to(person.sign(api.request(Method::PUT, &path)).json(&body))
    };
    for attempt in 0..ACCOUNT_FAILURES_MAX {
        let refused = change(&format!("guess number {attempt}")).await;
        assert_eq!(refused.faults()[0].0, "current");
    }
    for current in ["one more guess", PASSWORD] {
        let locked = change(current).await;
        locked.refusal(429, "RATE_LIMITED");
        assert!(locked.header("retry-after").is_some());
    }
    assert_eq!(audited(&db).await, ["users.create", "users.lock_password"]);
    let body = json!({"email": person.email, "password": PASSWORD});
    Answer::to(sign_in(&api, &body)).await.expect(200);

    locks_end(&db).await;
    change("one more guess").await.faults();
    change(PASSWORD).await.expect(200);
    let counted: i64 = sqlx::query_scalar("select count(*) from sign_in_guards where failures > 0")
        .fetch_one(db.pool())
        .await
        .unwrap();
    assert_eq!(counted, 0, "a right password clears its counter, as one that signs in does");
}

#[tokio::test]
async fn a_lock_that_a_right_password_lifts_leaves_no_entry() {
    let (db, api, person) = stage().await;
    let attempt = async |password: &str| {
        Answer::to(sign_in(&api, &json!({"email": person.email, "password": password}))).await.status
    };
    for _ in 1..ACCOUNT_FAILURES_MAX {
        assert_eq!(attempt("wrong horse battery").await, 401);
    }
    assert_eq!(attempt(PASSWORD).await, 200, "the try that would have locked");
    assert_eq!(audited(&db).await, ["users.create", "sessions.open"]);
    for _ in 0..ACCOUNT_FAILURES_MAX {
        assert_eq!(attempt("wrong horse battery").await, 401);
    }
    assert_eq!(attempt(PASSWORD).await, 429);
    assert_eq!(audited(&db).await, ["users.create", "sessions.open", "sessions.lock"]);
}

#[tokio::test]
async fn tries_that_we_break_off_ourselves_lock_nobody_out() {
    let (db, api, person) = stage().await;
    let body = json!({"email": person.email, "password": PASSWORD});
    let refuse = "alter table audit_log add constraint nobody_gets_in check (action <> 'sessions.open')";
    sqlx::raw_sql(refuse).execute(db.pool()).await.unwrap();
    for _ in 0..=ACCOUNT_FAILURES_MAX {
        Answer::to(sign_in(&api, &body)).await.refusal(500, "INTERNAL_ERROR");
    }
    let wrong = json!({"email": person.email, "password": "wrong horse battery"});
    for _ in 1..ACCOUNT_FAILURES_MAX {
        Answer::to(sign_in(&api, &wrong)).await.refusal(401, "UNAUTHORIZED");
    }
    // It would be the last before a lock, and takes back itself alone.
    Answer::to(sign_in(&api, &body)).await.refusal(500, "INTERNAL_ERROR");
    let failures: Vec<i32> =
        sqlx::query_scalar("select failures from sign_in_guards where locked_until < now()")
            .fetch_all(db.pool())
            .await
            .unwrap();
    assert_eq!(failures, [ACCOUNT_FAILURES_MAX - 1; 2], "of the account and of the address");
    let familiar: i64 =
        sqlx::query_scalar("select count(*) from sign_in_familiar").fetch_one(db.pool()).await.unwrap();
    assert_eq!(familiar, 0);
    sqlx::raw_sql("alter table audit_log drop constraint nobody_gets_in").execute(db.pool()).await.unwrap();
    Answer::to(sign_in(&api, &body)).await.expect(200);
}

#[tokio::test]
async fn a_session_too_many_ends_one_that_ended_by_itself_before_one_that_works_and_says_so() {
    let (db, api, person) = stage().await;
    // The cookie was unused longer and still works, the token has ended.
    let unused = "update sessions set seen_at = now() - case kind when 'cookie' then interval '2 hours' else interval '90 minutes' end";
    sqlx::raw_sql(unused).execute(db.pool()).await.unwrap();
    let keyring = keyring();
    let door = operator_door(&keyring);
    let mut tx = db::begin(db.pool()).await.unwrap();
    let who = identity::find(&mut tx, &keyring, person.id).await.unwrap().unwrap().person;
    for _ in 2..20 {
        identity::open_session(&mut tx, person.id, SessionKind::Token).await.unwrap();
    }
    people::open(&mut tx, &door, &who, SessionKind::Token, "a test").await.unwrap();
    tx.commit().await.unwrap();
    Answer::to(person.browse(api.request(Method::GET, SESSION))).await.expect(200);
    Answer::to(person.sign(api.request(Method::GET, SESSION))).await.refusal(401, "UNAUTHORIZED");

    let mut tx = db::begin(db.pool()).await.unwrap();
    let opened = people::open(&mut tx, &door, &who, SessionKind::Token, "a test").await.unwrap();
    assert_eq!(opened.ended, 1);
    tx.commit().await.unwrap();
    let ended: Vec<String> = sqlx::query_scalar(
        "select after->>'sessionsEnded' from audit_log where action = 'sessions.open' order by id",
    )
    .fetch_all(db.pool())
    .await
    .unwrap();
    assert_eq!(ended, ["0", "1"]);
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
