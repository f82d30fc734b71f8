//! Single sign-on against the sandbox's provider, and every attack on it that we know.

use std::time::{Duration, Instant};

use sandbox::{Sandbox, SandboxOptions};
use serde_json::{Value, json};
use url::Url;
use vendors::VendorError;
use vendors::oidc::{CameBack, Claims, Oidc, OidcError, OidcSettings, Started};

use crate::support::SandboxControls;

const TOKEN: &str = "let-me-in";
const BACK: &str = "http://127.0.0.1:8080/api/v1/session/oidc/callback";
const AMY: &str = "amy.nguyen@example.com";

struct Stage {
    sandbox: Sandbox,
    controls: SandboxControls,
    oidc: Oidc,
}

impl Stage {
    async fn set() -> Self {
        Self::with_timeout(Duration::from_secs(10)).await
    }

    async fn with_timeout(timeout: Duration) -> Self {
        let options = SandboxOptions { token: TOKEN.to_owned(), ..SandboxOptions::default() };
        let sandbox = sandbox::start(options).await.unwrap();
        let oidc = client(&sandbox.oidc_issuer(), Some(TOKEN), timeout);
        Self { controls: SandboxControls::of(&sandbox), sandbox, oidc }
    }

    async fn fault(&self, operation: &str, fault: Value) {
        self.controls.faults(json!([{ "vendor": "oidc", "operation": operation, "fault": fault }])).await;
    }

    async fn begin(&self) -> Started {
        self.oidc.authorization(BACK).await.unwrap()
    }

    /// Signs somebody in at the provider, as their browser does, and answers the code they come back with.
    async fn consent(&self, started: &Started, email: &str) -> String {
        let mut url = started.url.clone();
        url.query_pairs_mut().append_pair("login_hint", email);
        let back = self.controls.redirect(url.as_str()).await;
        let brought = |wanted: &str| {
            let found = back.query_pairs().find(|(name, _)| name == wanted);
            found.map(|(_, value)| value.into_owned()).unwrap_or_else(|| panic!("no {wanted} in {back}"))
        };
        assert_eq!(brought("state"), started.state);
        brought("code")
    }

    async fn exchange(&self, started: &Started, code: &str) -> Result<Claims, OidcError> {
        let Started { nonce, pkce_verifier, .. } = started;
        self.oidc.exchange(CameBack { code, redirect_uri: BACK, nonce, pkce_verifier }).await
    }

    async fn sign_in(&self, email: &str) -> Result<Claims, OidcError> {
        let started = self.begin().await;
        let code = self.consent(&started, email).await;
        self.exchange(&started, &code).await
    }
}

fn client(issuer: &str, secret: Option<&str>, timeout: Duration) -> Oidc {
    let (issuer, client_id) = (issuer.to_owned(), "millpond".to_owned());
    Oidc::new(OidcSettings { issuer, client_id, client_secret: secret.map(str::to_owned), timeout }).unwrap()
}

#[tokio::test]
async fn who_signs_in_is_told_by_the_provider_and_is_the_same_every_time() {
    let stage = Stage::set().await;
    let amy = stage.sign_in(AMY).await.unwrap();
    assert_eq!((amy.email.as_deref(), amy.email_verified), (Some(AMY), true));
    assert_eq!(
        (amy.issuer.as_str(), amy.name.as_deref()),
        (&*stage.sandbox.oidc_issuer(), Some("amy nguyen"))
    );
    assert_eq!(stage.sign_in(AMY).await.unwrap(), amy);
    assert_ne!(stage.sign_in("bob@example.com").await.unwrap().subject, amy.subject);
    assert!(!stage.sign_in("unverified@example.com").await.unwrap().email_verified);
    let asked = stage.controls.calls("vendor=oidc&operation=discovery").await;
    assert_eq!(asked["total"], 1, "the document is kept");
}

#[tokio::test]
async fn a_sign_in_begins_with_pkce_and_a_new_state_and_nonce_each_time() {
    let stage = Stage::set().await;
    let (one, other) = (stage.begin().await, stage.begin().await);
    assert!(one.state != other.state && one.nonce != other.nonce && one.pkce_verifier != other.pkce_verifier);
    let query: Vec<(String, String)> = one.url.query_pairs().into_owned().collect();
    let has = |name: &str, value: &str| query.iter().any(|(n, v)| n == name && v == value);
    assert!(has("code_challenge_method", "S256") && has("response_type", "code"), "{query:?}");
    assert!(has("redirect_uri", BACK) && has("client_id", "millpond"), "{query:?}");
    assert!(!one.url.as_str().contains(&one.pkce_verifier), "the verifier stays with us");
    assert!(!format!("{one:?}").contains(&one.nonce));
}

#[tokio::test]
async fn no_token_with_anything_wrong_is_believed() {
    let stage = Stage::set().await;
    for wrong in [
        "signature",
        "unknown_key",
        "unsigned",
        "symmetric",
        "tampered",
        "issuer",
        "audience",
        "two_audiences",
        "authorized_party",
        "expired",
        "old",
        "nonce",
        "no_nonce",
    ] {
        stage.fault("token", json!({ "kind": "id_token", "wrong": wrong })).await;
        let judged = stage.sign_in(AMY).await;
        assert!(matches!(judged, Err(OidcError::Untrusted { .. })), "{wrong}: {judged:?}");
        assert!(!judged.unwrap_err().to_string().contains(AMY), "{wrong}");
    }
    for wrong in ["garbage", "missing"] {
        stage.fault("token", json!({ "kind": "id_token", "wrong": wrong })).await;
        let judged = stage.sign_in(AMY).await;
        assert!(
            matches!(judged, Err(OidcError::Provider(VendorError::Malformed { .. }))),
            "{wrong}: {judged:?}"
        );
    }
    stage.controls.faults(json!([])).await;
    stage.sign_in(AMY).await.unwrap();
}

#[tokio::test]
async fn a_code_is_taken_once() {
    let stage = Stage::set().await;
    let started = stage.begin().await;
    let code = stage.consent(&started, AMY).await;
    stage.exchange(&started, &code).await.unwrap();
    let again = stage.exchange(&started, &code).await;
    assert!(matches!(again, Err(OidcError::CodeRefused)), "{again:?}");
}

#[tokio::test]
async fn a_code_that_somebody_else_began_is_of_no_use() {
    let stage = Stage::set().await;
    let (victim, attacker) = (stage.begin().await, stage.begin().await);
    let stolen = stage.consent(&victim, AMY).await;
    // Injected into the attacker's own sign-in: the verifier is another.
    let judged = stage.exchange(&attacker, &stolen).await;
    assert!(matches!(judged, Err(OidcError::CodeRefused)), "{judged:?}");
    // Even with the right verifier the nonce is another.
    let code = stage.consent(&victim, AMY).await;
    let mixed = Started { nonce: attacker.nonce, ..victim };
    let judged = stage.exchange(&mixed, &code).await;
    assert!(matches!(judged, Err(OidcError::Untrusted { .. })), "{judged:?}");
}

#[tokio::test]
async fn a_code_for_another_address_and_a_made_up_one_are_refused() {
    let stage = Stage::set().await;
    let started = stage.begin().await;
    let code = stage.consent(&started, AMY).await;
    let Started { nonce, pkce_verifier, .. } = &started;
    let redirect_uri = "http://127.0.0.1:9/elsewhere";
    let judged = stage.oidc.exchange(CameBack { code: &code, redirect_uri, nonce, pkce_verifier }).await;
    assert!(matches!(judged, Err(OidcError::CodeRefused)), "{judged:?}");
    let judged = stage.exchange(&started, "made-up").await;
    assert!(matches!(judged, Err(OidcError::CodeRefused)), "{judged:?}");
}

#[tokio::test]
async fn a_wrong_secret_is_our_mistake_and_not_the_persons() {
    let stage = Stage::set().await;
    for secret in [Some("wrong"), None] {
        let other = client(&stage.sandbox.oidc_issuer(), secret, Duration::from_secs(5));
        let started = other.authorization(BACK).await.unwrap();
        let code = stage.consent(&started, AMY).await;
        let Started { nonce, pkce_verifier, .. } = &started;
        let judged = other.exchange(CameBack { code: &code, redirect_uri: BACK, nonce, pkce_verifier }).await;
        assert!(matches!(judged, Err(OidcError::Provider(VendorError::Unauthorized))), "{judged:?}");
    }
}

#[tokio::test]
async fn keys_that_the_provider_changed_are_asked_for_when_a_token_names_one() {
    let stage = Stage::set().await;
    stage.sign_in(AMY).await.unwrap();
    stage.controls.post("oidc/rotate").await;
    stage.sign_in(AMY).await.unwrap();
    stage.sign_in(AMY).await.unwrap();
    let asked = stage.controls.calls("vendor=oidc&operation=jwks").await;
    assert_eq!(asked["total"], 2, "at first, and for the new one");
}

#[tokio::test]
async fn a_provider_that_fails_hangs_or_talks_nonsense_costs_a_bounded_time() {
    let timeout = Duration::from_millis(500);
    for fault in [
        json!({ "kind": "status", "status": 500 }),
        json!({ "kind": "status", "status": 302, "location": "http://169.254.169.254/" }),
        json!({ "kind": "malformed" }),
        json!({ "kind": "truncated" }),
        json!({ "kind": "drop" }),
        json!({ "kind": "oversized" }),
        json!({ "kind": "hang" }),
        json!({ "kind": "slow_body", "ms": 60_000 }),
    ] {
        let stage = Stage::with_timeout(timeout).await;
        stage.fault("discovery", fault.clone()).await;
        let began = Instant::now();
        let started = stage.oidc.authorization(BACK).await;
        assert!(matches!(started, Err(OidcError::Provider(_))), "{fault}: {started:?}");
        stage.controls.faults(json!([])).await;
        let started = stage.begin().await;
        let code = stage.consent(&started, AMY).await;
        stage.fault("token", fault.clone()).await;
        let judged = stage.exchange(&started, &code).await;
        assert!(matches!(judged, Err(OidcError::Provider(_))), "{fault}: {judged:?}");
        assert!(began.elapsed() < timeout * 2 + Duration::from_secs(5), "{fault}");
    }
}

#[tokio::test]
async fn a_document_of_another_issuer_is_not_believed() {
    let stage = Stage::set().await;
    // The same provider under another name of this machine says what that name is.
    let other = stage.sandbox.oidc_issuer().replace("127.0.0.1", "localhost") + "/";
    let oidc = client(&other, Some(TOKEN), Duration::from_secs(5));
    let started = oidc.authorization(BACK).await;
    assert!(matches!(started, Err(OidcError::Provider(VendorError::Malformed { .. }))), "{started:?}");
}

#[tokio::test]
async fn the_provider_asks_who_it_is_and_sends_nobody_elsewhere() {
    let stage = Stage::set().await;
    let started = stage.begin().await;
    let page = stage.controls.page(started.url.as_str()).await;
    assert!(page.contains("login_hint") && page.contains(&started.state), "{page}");
    let mut elsewhere = Url::parse(&stage.sandbox.oidc_issuer().replace("/oidc", "/oidc/authorize")).unwrap();
    elsewhere.query_pairs_mut().extend_pairs([
        ("client_id", "millpond"),
        ("redirect_uri", "https://evil.example/"),
        ("response_type", "code"),
    ]);
    let refused = stage.controls.page(elsewhere.as_str()).await;
    assert!(refused.contains("invalid_request"), "{refused}");
}
