//! The API inside the test process, on a free port, with a client.

use std::sync::Arc;
use std::time::Duration;

use api::{ApiParts, ApiState, ServerLimits, SingleSignOn};
use config::{OidcSettings, Settings, Sources};
use jobs::people::Newcomers;
use queue::{Waker, Watcher};
use reqwest::{Client, ClientBuilder, Method, RequestBuilder};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use vendors::oidc::Oidc;

use super::{TestDb, TestPartner};

/// A running API; it stops when it is dropped.
pub struct TestApi {
    url: String,
    client: Client,
    waker: Waker,
    _stop: DropGuard,
}

impl TestApi {
    /// With the default settings.
    pub async fn start(db: &TestDb) -> Self {
        Self::start_with(db, Waker::new(), Sources::default()).await
    }

    /// With other settings, and a waker that a worker in the same "process" may share.
    pub async fn start_with(db: &TestDb, waker: Waker, sources: Sources) -> Self {
        let mut settings = Settings::load(&sources).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        settings.http.public_url.get_or_insert_with(|| url.clone());
        let stop = CancellationToken::new();
        let watcher = Watcher::new();
        let limits = ServerLimits::from(&settings.http);
        let pool = db.connect_more(10);
        let estimator = jobs::estimator(pool.clone());
        // Taken before the first request, as by the binary: what is counted before it is lost.
        let metrics = telemetry::metrics_handle();
        let state = ApiState::new(ApiParts {
            pool: pool.clone(),
            watcher: watcher.clone(),
            estimator: estimator.clone(),
            waker: waker.clone(),
            lease: std::time::Duration::from_millis(settings.queue.lease_ms),
            http: settings.http,
            api: settings.api,
            partners: settings.partners,
            single_sign_on: single_sign_on(&settings.oidc),
            keyring: super::keyring(),
            allow_loopback: true,
            render_metrics: Arc::new(move || metrics.render()),
            stop: stop.clone(),
        });
        let router = api::router(state).unwrap();
        tokio::spawn(stop.clone().run_until_cancelled_owned(estimator.run()));
        tokio::spawn(stop.clone().run_until_cancelled_owned(watcher.run(pool, waker.clone())));
        tokio::spawn(api::serve(listener, router, limits, stop.clone()));
        Self { url, client: client(), waker, _stop: stop.drop_guard() }
    }

    /// The address, without a slash at the end.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A request without credentials.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url))
    }

    /// A request of a partner.
    pub fn request_as(&self, partner: &TestPartner, method: Method, path: &str) -> RequestBuilder {
        partner.sign(self.request(method, path))
    }

    /// What the API wakes workers with.
    pub fn waker(&self) -> &Waker {
        &self.waker
    }
}

/// As the binary makes it.
fn single_sign_on(oidc: &OidcSettings) -> Option<SingleSignOn> {
    let provider = Oidc::new(vendors::oidc::OidcSettings {
        issuer: oidc.issuer.clone()?,
        client_id: oidc.client_id.clone(),
        client_secret: oidc.client_secret.as_ref().map(|secret| secret.expose().to_owned()),
        timeout: Duration::from_millis(oidc.timeout_ms),
    });
    let role = oidc.default_role.as_ref().map(|role| role.parse().unwrap());
    let newcomers = Newcomers { role, domains: oidc.allowed_domains() };
    Some(SingleSignOn { provider: provider.unwrap(), newcomers })
}

/// A client that talks to this machine only.
pub fn client() -> Client {
    super::logs::gather();
    builder().build().unwrap()
}

/// The same, but it goes where it is sent by nobody.
pub fn client_that_stays() -> Client {
    builder().redirect(reqwest::redirect::Policy::none()).build().unwrap()
}

fn builder() -> ClientBuilder {
    // An error means that a provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().no_proxy().tls_certs_only([]).timeout(super::WAIT_MAX * 2)
}
