//! Faithful fakes of the systems Millpond talks to, over real HTTP and SMTP, for first runs, tests and benchmarks: the
//! profile meter, a partner's webhook receiver, a mail server, and an OpenID provider.
//!
//! Guarantees: what the fakes say depends on the request and the day only, never on chance, so that a test can be
//! repeated. Faults happen only on demand, and a rule with a share gives the same sequence for each handle every time.
//! Whatever is counted or recorded is bounded, so a sandbox may run for weeks.
//!
//! On failure: starting fails only when the address cannot be listened on. Every mistake of a caller is answered with
//! a JSON body saying what was expected. All state is in memory and is lost with the process, on purpose.

mod about;
mod calls;
mod creator;
mod exchange;
mod fault_bodies;
mod faults;
mod fingerprint;
mod json;
mod mailbox;
mod meter;
mod oidc;
mod partner;
mod profiles;
mod quota;
mod recent;
mod replays;
mod serve;
mod smtp;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::routing::{any, get};
use tokio::net::TcpListener;

/// Where a sandbox listens and which token its vendors accept.
#[derive(Clone, Debug)]
pub struct SandboxOptions {
    /// The address to listen on; port 0 takes a free one. The default is a free port of the loopback interface: the
    /// fakes have no authentication for their controls and are not meant for a network.
    pub listen: SocketAddr,
    /// The address that the mail server listens on, in the same way.
    pub smtp_listen: SocketAddr,
    /// The bearer token that the fake vendors accept. Anything else is answered with 401.
    pub token: String,
}

impl Default for SandboxOptions {
    fn default() -> Self {
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self { listen: free, smtp_listen: free, token: "sandbox-token".to_owned() }
    }
}

/// Why a sandbox could not start.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The address is in use, or not one of this machine.
    #[error("the sandbox cannot listen on {listen}")]
    Listen {
        /// The address that was asked for.
        listen: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}

/// A running sandbox. It stops when it is shut down or dropped.
#[derive(Debug)]
pub struct Sandbox {
    addr: SocketAddr,
    smtp_addr: SocketAddr,
    server: serve::Server,
    mail_server: smtp::MailServer,
}

impl Sandbox {
    /// The address it listens on, with the port that was really taken.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The address of the sandbox itself, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The base address of the fake profile meter, as the setting `meter.url` takes it.
    pub fn meter_url(&self) -> String {
        format!("{}/meter", self.url())
    }

    /// The address of a partner's inbox, as a `callbackUrl` takes it.
    pub fn inbox_url(&self, inbox: &str) -> String {
        format!("{}/partner/callbacks/{inbox}", self.url())
    }

    /// The address of the mail server, as the setting `smtp.url` takes it.
    pub fn smtp_url(&self) -> String {
        format!("smtp+plain://{}", self.smtp_addr)
    }

    /// The OpenID provider, as the setting `oidc.issuer` takes it.
    pub fn oidc_issuer(&self) -> String {
        format!("{}/oidc", self.url())
    }

    /// Stops listening and lets calls in progress end, for at most two seconds: calls that hang on demand would never
    /// end by themselves.
    pub async fn shutdown(self) {
        self.mail_server.shutdown().await;
        self.server.shutdown().await;
    }
}

/// Starts a sandbox.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn start(options: SandboxOptions) -> Result<Sandbox, SandboxError> {
    let (listener, addr) = listen(options.listen).await?;
    let (mail_listener, smtp_addr) = listen(options.smtp_listen).await?;
    let shared = Arc::new(Shared::new(&options));
    let mail_server = smtp::MailServer::spawn(mail_listener, Arc::clone(&shared));
    let server = serve::Server::spawn(listener, routes(shared));
    Ok(Sandbox { addr, smtp_addr, server, mail_server })
}

async fn listen(listen: SocketAddr) -> Result<(TcpListener, SocketAddr), SandboxError> {
    let refused = |source| SandboxError::Listen { listen, source };
    let listener = TcpListener::bind(listen).await.map_err(refused)?;
    let addr = listener.local_addr().map_err(refused)?;
    Ok((listener, addr))
}

/// Everything the sandbox answers over HTTP, for serving it some other way. Dropped connections work only under [`start`],
/// because they need the connection itself; elsewhere they are an answer with status 500.
pub fn router(options: &SandboxOptions) -> Router {
    routes(Arc::new(Shared::new(options)))
}

fn routes(state: Arc<Shared>) -> Router {
    Router::new()
        .route("/", get(about::index))
        .route("/health", get(about::health))
        .merge(meter::routes())
        .merge(partner::routes())
        .merge(mailbox::routes())
        .merge(oidc::routes())
        .merge(calls::routes())
        .merge(faults::routes())
        .merge(quota::routes())
        .fallback(any(about::unknown_route))
        .method_not_allowed_fallback(about::method_not_allowed)
        .with_state(state)
}

/// What all parts of one sandbox share.
pub(crate) struct Shared {
    token: String,
    calls: Arc<calls::Calls>,
    faults: faults::Faults,
    inboxes: partner::Inboxes,
    mailbox: mailbox::Mailbox,
    oidc: oidc::Provider,
    replays: replays::Replays,
    quota: quota::Quota,
}

impl Shared {
    fn new(options: &SandboxOptions) -> Self {
        Self {
            token: options.token.clone(),
            calls: Arc::default(),
            faults: faults::Faults::default(),
            inboxes: partner::Inboxes::default(),
            mailbox: mailbox::Mailbox::default(),
            oidc: oidc::Provider::default(),
            replays: replays::Replays::default(),
            quota: quota::Quota::default(),
        }
    }
}
