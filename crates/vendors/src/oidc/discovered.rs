//! What a provider says about itself, and the line to it.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use openidconnect::core::{CoreClient, CoreClientAuthMethod, CoreProviderMetadata};
use openidconnect::{
    AsyncHttpClient, AuthType, ClientId, ClientSecret, DiscoveryError, EndpointMaybeSet, EndpointNotSet,
    EndpointSet, IssuerUrl, RedirectUrl,
};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

use super::OidcSettings;
use crate::VendorError;
use crate::http::whole::Whole;

/// Documents and keys change seldom; keys that are new are asked for when a token names one.
const GOOD_FOR: Duration = Duration::from_secs(3_600);

/// The library's client, with the endpoints that a document may name.
pub(super) type Client = CoreClient<
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;

/// A provider's document and keys.
#[derive(Debug)]
pub(super) struct Discovered {
    metadata: CoreProviderMetadata,
    at: Instant,
}

impl Discovered {
    pub(super) fn client(&self, settings: &OidcSettings, redirect: RedirectUrl) -> Client {
        let secret = settings.client_secret.clone().map(ClientSecret::new);
        let id = ClientId::new(settings.client_id.clone());
        CoreClient::from_provider_metadata(self.metadata.clone(), id, secret)
            .set_auth_type(self.authentication())
            .set_redirect_uri(redirect)
    }

    /// By header, which every provider must know, unless this one says that it wants the body.
    fn authentication(&self) -> AuthType {
        let known = self.metadata.token_endpoint_auth_methods_supported();
        let knows = |method| known.is_none_or(|known| known.contains(&method));
        if !knows(CoreClientAuthMethod::ClientSecretBasic) && knows(CoreClientAuthMethod::ClientSecretPost) {
            AuthType::RequestBody
        } else {
            AuthType::BasicAuth
        }
    }
}

/// What is known of the provider, asked for by one at a time.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<Option<Arc<Discovered>>>);

impl Known {
    pub(super) async fn get(
        &self,
        issuer: &str,
        whole: &Whole,
        deadline: Instant,
        outdated: Option<&Arc<Discovered>>,
    ) -> Result<Arc<Discovered>, VendorError> {
        let mut known = timeout_at(deadline, self.0.lock()).await.map_err(|_| VendorError::Timeout)?;
        let is_good = |known: &&Arc<Discovered>| {
            known.at.elapsed() < GOOD_FOR && outdated.is_none_or(|outdated| !Arc::ptr_eq(outdated, known))
        };
        if let Some(known) = known.as_ref().filter(is_good) {
            return Ok(Arc::clone(known));
        }
        let discovered = Arc::new(discover(issuer, whole, deadline).await?);
        *known = Some(Arc::clone(&discovered));
        Ok(discovered)
    }
}

async fn discover(issuer: &str, whole: &Whole, deadline: Instant) -> Result<Discovered, VendorError> {
    let issuer =
        IssuerUrl::new(issuer.to_owned()).map_err(|_| VendorError::malformed("the issuer is no address"))?;
    let wire = Wire { whole, operation: "discovery", deadline };
    let metadata =
        CoreProviderMetadata::discover_async(issuer, &wire).await.map_err(|error| match error {
            DiscoveryError::Request(error) => error,
            DiscoveryError::Validation(_) => {
                VendorError::malformed("the provider's document is of another issuer")
            }
            _ => VendorError::malformed("the provider's document or keys cannot be used"),
        })?;
    // A person is sent there, so it is looked at although we send nothing ourselves.
    if !whole.allows(metadata.authorization_endpoint().url()) {
        return Err(VendorError::malformed("people would sign in over a line without TLS"));
    }
    Ok(Discovered { metadata, at: Instant::now() })
}

/// The library's line to the world: ours.
pub(super) struct Wire<'a> {
    pub(super) whole: &'a Whole,
    pub(super) operation: &'static str,
    pub(super) deadline: Instant,
}

impl<'c> AsyncHttpClient<'c> for Wire<'_> {
    type Error = VendorError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Vec<u8>>, VendorError>> + Send + 'c>>;

    fn call(&'c self, request: Request<Vec<u8>>) -> Self::Future {
        Box::pin(self.whole.send(self.operation, request, self.deadline))
    }
}
