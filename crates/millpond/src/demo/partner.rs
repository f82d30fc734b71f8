//! The partner: made the way operators make one, and then a stranger that knows nothing but HTTP.

use std::time::Duration;

use audit::Actor;
use jobs::Door;
use jobs::partners::{self as actions, PartnerActionError};
use partners::rotation::KeyTerms;
use partners::{NewPartner, PartnerError, SubscriptionTier, directory};
use reqwest::{Client, Method, RequestBuilder};

use crate::error::CliError;
use crate::runtime::House;

const CODE: &str = "demo";
const NAME: &str = "Demonstration";
/// Far more than any list needs.
const RATE_LIMIT_PER_MINUTE: u32 = 100_000;
/// Longest wait for one answer; the API holds none longer than 25 seconds.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// What a partner is given once.
#[derive(Debug, Clone)]
pub(crate) struct Credentials {
    /// For `X-Partner-ID`.
    pub(crate) code: String,
    /// For `X-API-Key`.
    pub(crate) api_key: String,
    /// For verifying callbacks.
    pub(crate) webhook_secret: String,
}

/// Makes the partner; on a kept data folder, where it is there already, gives it a new key.
pub(crate) async fn obtain(house: &House) -> Result<Credentials, CliError> {
    let new = NewPartner {
        rate_limit_per_minute: RATE_LIMIT_PER_MINUTE,
        ..NewPartner::of(CODE, NAME, SubscriptionTier::Premium)
    };
    let door = Door { actor: Actor::System("the demonstration"), request_id: None, keyring: &house.keyring };
    let mut tx = db::begin(&house.database.pool).await?;
    let (api_key, webhook_secret) = match actions::create(&mut tx, &door, new).await {
        Ok(created) => (created.key.api_key, created.webhook_secret),
        Err(PartnerActionError::Partner(PartnerError::CodeTaken { holder, .. })) => {
            actions::set_active(&mut tx, &door, holder, true).await?;
            let key =
                actions::rotate_key(&mut tx, &door, holder, Duration::ZERO, KeyTerms::default()).await?;
            (key.api_key, directory::webhook_secret(&mut tx, &house.keyring, holder.into()).await?)
        }
        Err(error) => return Err(error.into()),
    };
    tx.commit().await?;
    Ok(Credentials { code: CODE.to_owned(), api_key: api_key.expose().to_owned(), webhook_secret })
}

/// The partner's own system.
#[derive(Debug, Clone)]
pub(crate) struct Partner {
    client: Client,
    url: String,
    credentials: Credentials,
}

impl Partner {
    /// A partner that knows where the API is.
    // It is no part of the installation but its customer, so neither of our two HTTP stacks is the right one.
    #[allow(clippy::disallowed_methods)]
    pub(crate) fn new(url: &str, credentials: &Credentials) -> Result<Self, CliError> {
        let client = Client::builder()
            .no_proxy()
            .timeout(ANSWER_MAX)
            // No certificates are needed, and a bare machine may have none to load.
            .tls_certs_only([])
            .build()
            .map_err(|error| CliError::part("the partner's HTTP client", error))?;
        Ok(Self { client, url: url.to_owned(), credentials: credentials.clone() })
    }

    /// A request to the API, with credentials.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client
            .request(method, format!("{}{path}", self.url))
            .header("X-Partner-ID", &self.credentials.code)
            .header("X-API-Key", &self.credentials.api_key)
    }

    /// A request to some other address, without.
    pub(crate) fn request_elsewhere(&self, method: Method, url: &str) -> RequestBuilder {
        self.client.request(method, url)
    }
}
