//! `/api/v1/session/oidc`: browsers that come back from the sandbox's provider, and those that only say so.

use config::Sources;
use identity::Role;
use queue::Waker;
use reqwest::{Client, Method};
use sandbox::{Sandbox, SandboxOptions};
use serde_json::{Value, json};
use url::Url;

use super::super::answer::Answer;
use super::audited;
use crate::support::person::TestPerson;
use crate::support::{SandboxControls, TestApi, TestDb, client_that_stays};

const BEGIN: &str = "/api/v1/session/oidc";
const CALLBACK: &str = "/api/v1/session/oidc/callback";
const COOKIE: &str = "__Host-millpond-oidc";

struct Stage {
    db: TestDb,
    api: TestApi,
    controls: SandboxControls,
    browser: Client,
    _sandbox: Sandbox,
}

/// A sign-in on its way: what the browser holds, and the address that the provider leads back to.
struct UnderWay {
    cookie: String,
    back: Url,
}

impl Stage {
    async fn set(more: &[(&str, &str)]) -> Self {
        let sandbox = sandbox::start(SandboxOptions::default()).await.unwrap();
        let secret = SandboxOptions::default().token;
        let sources = Sources::default()
            .with("oidc.issuer", sandbox.oidc_issuer())
            .with("oidc.client_id", "millpond")
            .with("oidc.client_secret", secret);
        let sources = more.iter().fold(sources, |sources, (path, value)| sources.with(path, *value));
        let db = TestDb::new().await;
        let api = TestApi::start_with(&db, Waker::new(), sources).await;
        let controls = SandboxControls::of(&sandbox);
        Self { db, api, controls, browser: client_that_stays(), _sandbox: sandbox }
    }

    async fn get(&self, path: &str, cookie: Option<&str>) -> Answer {
        let mut request = self.browser.get(format!("{}{path}", self.api.url()));
        if let Some(cookie) = cookie {
            request = request.header("cookie", format!("{COOKIE}={cookie}"));
        }
        Answer::to(request).await
    }

    /// Begins, and says at the provider who they are.
    async fn under_way(&self, email: &str, query: &str) -> UnderWay {
        let answer = self.get(&format!("{BEGIN}{query}"), None).await;
        assert_eq!(answer.status, 303, "{}", answer.text());
        let set = answer.header("set-cookie").unwrap();
        assert!(set.contains("HttpOnly") && set.contains("Secure") && set.contains("SameSite=Lax"), "{set}");
        let cookie = set.split([';', '=']).nth(1).unwrap().to_owned();
        let mut provider = Url::parse(answer.header("location").unwrap()).unwrap();
        provider.query_pairs_mut().append_pair("login_hint", email);
        UnderWay { cookie, back: self.controls.redirect(provider.as_str()).await }
    }

    async fn come_back(&self, under_way: &UnderWay) -> Answer {
        self.get(&path_of(&under_way.back), Some(&under_way.cookie)).await
    }

    async fn sign_in(&self, email: &str) -> Answer {
        let under_way = self.under_way(email, "").await;
        self.come_back(&under_way).await
    }

    /// Who the session in an answer is.
    async fn who(&self, answer: &Answer) -> Value {
        let cookies: Vec<_> = answer.headers.get_all("set-cookie").iter().collect();
        let session = cookies.iter().find_map(|set| {
            let set = set.to_str().unwrap();
            set.starts_with("__Host-millpond=").then(|| set.split(';').next().unwrap())
        });
        let ask = self.api.request(Method::GET, "/api/v1/session").header("cookie", session.unwrap());
        Answer::to(ask).await.expect(200)["data"].clone()
    }
}

fn path_of(url: &Url) -> String {
    format!("{}?{}", url.path(), url.query().unwrap_or_default())
}

#[tokio::test]
async fn somebody_who_is_known_signs_in_and_is_known_by_the_provider_from_then_on() {
    let stage = Stage::set(&[]).await;
    let amy = TestPerson::named(&stage.db, Role::Operator, "amy@example.com").await;
    let under_way = stage.under_way("amy@example.com", "?returnTo=/queues%3Fx=1").await;
    assert!(!format!("{}{}", under_way.cookie, under_way.back).contains("amy"));
    let answer = stage.come_back(&under_way).await;
    assert_eq!((answer.status, answer.headers["location"].to_str().unwrap()), (303, "/queues?x=1"));
    let who = stage.who(&answer).await;
    assert_eq!((&who["userId"], &who["kind"]), (&json!(amy.id.to_string()), &json!("cookie")));
    assert_eq!(audited(&stage.db).await, ["users.create", "users.link", "sessions.open"]);
    // The address may change; the provider's word for them does not.
    sqlx::query("update people set email_tag = 'another'").execute(stage.db.pool()).await.unwrap();
    assert_eq!(stage.who(&stage.sign_in("amy@example.com").await).await["userId"], amy.id.to_string());
}

#[tokio::test]
async fn strangers_come_in_only_where_settings_let_them_and_with_a_verified_address() {
    let closed = Stage::set(&[]).await;
    let refused = closed.sign_in("stranger@example.com").await;
    assert_eq!(refused.refusal(403, "FORBIDDEN")["error"]["details"][0]["code"], "NO_ACCOUNT");
    assert!(audited(&closed.db).await.is_empty());

    let settings = [("oidc.default_role", "viewer"), ("oidc.allowed_domains", "example.org, Example.com")];
    let open = Stage::set(&settings).await;
    let who = open.who(&open.sign_in("stranger@example.com").await).await;
    assert_eq!((&who["role"], &who["email"]), (&json!("viewer"), &json!("stranger@example.com")));
    for stranger in ["stranger@elsewhere.example", "unverified@example.com", "s@sub.example.com"] {
        open.sign_in(stranger).await.refusal(403, "FORBIDDEN");
    }
    assert_eq!(audited(&open.db).await, ["users.link", "sessions.open"]);
}

#[tokio::test]
async fn an_address_that_is_not_verified_or_has_changed_hands_opens_nobodys_account() {
    let stage = Stage::set(&[]).await;
    TestPerson::named(&stage.db, Role::Admin, "unverified@example.com").await;
    stage.sign_in("unverified@example.com").await.refusal(403, "FORBIDDEN");
    TestPerson::named(&stage.db, Role::Admin, "amy@example.com").await;
    stage.sign_in("amy@example.com").await;
    // Somebody else has the address at the provider now.
    sqlx::query("update people set oidc_subject = 'who-had-it-before' where oidc_subject is not null")
        .execute(stage.db.pool())
        .await
        .unwrap();
    stage.sign_in("amy@example.com").await.refusal(403, "FORBIDDEN");
}

#[tokio::test]
async fn whoever_is_disabled_stays_outside() {
    let stage = Stage::set(&[("oidc.default_role", "viewer"), ("oidc.allowed_domains", "example.com")]).await;
    for email in ["known@example.com", "linked@example.com"] {
        TestPerson::named(&stage.db, Role::Viewer, email).await;
    }
    assert_eq!(stage.sign_in("linked@example.com").await.status, 303);
    sqlx::query("update people set disabled_at = now()").execute(stage.db.pool()).await.unwrap();
    for email in ["known@example.com", "linked@example.com"] {
        let refused = stage.sign_in(email).await.refusal(403, "FORBIDDEN");
        assert_eq!(refused["error"]["details"][0]["code"], "ACCOUNT_DISABLED", "{email}");
    }
}

#[tokio::test]
async fn only_the_browser_that_began_can_end() {
    let stage = Stage::set(&[]).await;
    TestPerson::named(&stage.db, Role::Admin, "amy@example.com").await;
    let (amys, other) =
        (stage.under_way("amy@example.com", "").await, stage.under_way("eve@example.com", "").await);
    // An address that somebody was lured to: no cookie, another sign-in's cookie, one that was made up.
    for cookie in [None, Some(other.cookie.as_str()), Some("bWFkZSB1cA"), Some("%%")] {
        let refused = stage.get(&path_of(&amys.back), cookie).await;
        assert_eq!(refused.refusal(400, "VALIDATION_ERROR")["error"]["details"][0]["code"], "NOT_BEGUN");
        assert!(refused.header("set-cookie").is_none());
    }
    let asked = stage.controls.calls("vendor=oidc&operation=token").await;
    assert_eq!(asked["total"], 0, "the provider is not asked for what nobody here began");
    let mut without_state = amys.back.clone();
    without_state.set_query(Some("code=x"));
    stage.get(&path_of(&without_state), Some(&amys.cookie)).await.refusal(400, "VALIDATION_ERROR");
    let twice = format!("{}&state=x", path_of(&amys.back));
    stage.get(&twice, Some(&amys.cookie)).await.refusal(400, "VALIDATION_ERROR");
    assert_eq!(stage.come_back(&amys).await.status, 303);
}

#[tokio::test]
async fn coming_back_twice_lets_nobody_in_twice() {
    let stage = Stage::set(&[]).await;
    TestPerson::named(&stage.db, Role::Viewer, "amy@example.com").await;
    let under_way = stage.under_way("amy@example.com", "").await;
    let first = stage.come_back(&under_way).await;
    let forgotten = first.headers.get_all("set-cookie").iter().any(|set| {
        let set = set.to_str().unwrap();
        set.starts_with(&format!("{COOKIE}=;")) && set.contains("Max-Age=0")
    });
    assert!(first.status == 303 && forgotten, "{:?}", first.headers);
    let again = stage.come_back(&under_way).await;
    again.refusal(401, "UNAUTHORIZED");
    assert!(again.header("set-cookie").is_none());
}

#[tokio::test]
async fn nobody_is_led_to_another_site() {
    let stage = Stage::set(&[]).await;
    for elsewhere in ["https://evil.example/", "//evil.example", "/%5Cevil.example", "/%09/evil.example", "x"]
    {
        let refused = stage.get(&format!("{BEGIN}?returnTo={elsewhere}"), None).await;
        refused.refusal(400, "VALIDATION_ERROR");
    }
    stage
        .get(&format!("{BEGIN}?redirect_uri=https://evil.example/"), None)
        .await
        .refusal(400, "VALIDATION_ERROR");
    // What came back is not asked where to go.
    TestPerson::named(&stage.db, Role::Viewer, "amy@example.com").await;
    let mut under_way = stage.under_way("amy@example.com", "").await;
    under_way.back.query_pairs_mut().append_pair("returnTo", "https://evil.example/");
    assert_eq!(stage.come_back(&under_way).await.headers["location"], "/");
}

#[tokio::test]
async fn a_provider_that_says_no_lies_or_is_gone_lets_nobody_in() {
    let stage = Stage::set(&[("oidc.timeout_ms", "500")]).await;
    TestPerson::named(&stage.db, Role::Admin, "amy@example.com").await;
    let mut under_way = stage.under_way("amy@example.com", "").await;
    let state = under_way.back.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
    under_way.back.set_query(Some(&format!("error=access_denied&state={state}")));
    stage.come_back(&under_way).await.refusal(401, "UNAUTHORIZED");
    for (fault, status, code) in [
        (json!({ "kind": "id_token", "wrong": "signature" }), 401, "UNAUTHORIZED"),
        (json!({ "kind": "id_token", "wrong": "nonce" }), 401, "UNAUTHORIZED"),
        (json!({ "kind": "status", "status": 500 }), 503, "OVERLOADED"),
        (json!({ "kind": "hang" }), 503, "OVERLOADED"),
    ] {
        let under_way = stage.under_way("amy@example.com", "").await;
        stage.controls.faults(json!([{ "vendor": "oidc", "operation": "token", "fault": fault }])).await;
        let refused = stage.come_back(&under_way).await;
        refused.refusal(status, code);
        assert!(refused.header("set-cookie").is_none());
        stage.controls.faults(json!([])).await;
    }
    assert_eq!(audited(&stage.db).await, ["users.create"]);
}

#[tokio::test]
async fn without_a_provider_there_is_no_single_sign_on() {
    let db = TestDb::new().await;
    let api = TestApi::start(&db).await;
    for path in [BEGIN, CALLBACK] {
        Answer::to(api.request(Method::GET, path)).await.refusal(404, "NOT_FOUND");
    }
}
