//! Single sign-on by any OpenID provider (OpenID Connect Core 1.0): the authorization code flow with PKCE, state and nonce.
//! The sandbox has a provider.
//!
//! Guarantees: [`Claims`] come from an ID token whose signature, issuer, audience, authorized party, times and nonce were
//! checked; only asymmetric signatures are believed. A call ends within [`OidcSettings::timeout`]; the provider's
//! document and keys are kept for an hour, and asked for again when a token names a key that is not among them. No answer makes
//! us send the secret, or a person, over a line without TLS.
//!
//! On failure: [`OidcError`] tells apart a provider that cannot be reached, a code that it does not take, and a token that
//! must not be believed. Nothing is tried again: a code is good once, and a person can begin anew.

mod checks;
mod discovered;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use openidconnect::core::{CoreAuthenticationFlow, CoreErrorResponseType, CoreUserInfoClaims};
use openidconnect::{
    AuthorizationCode, CsrfToken, EmptyAdditionalClaims, Nonce, OAuth2TokenResponse, PkceCodeChallenge,
    PkceCodeVerifier, RedirectUrl, RequestTokenError, Scope, SubjectIdentifier, TokenResponse,
};
use tokio::time::Instant;
use url::Url;

use crate::http::whole::Whole;
use crate::{SetupError, VendorError};
use checks::{Trusted, trusted};
use discovered::{Client, Discovered, Known, Wire};

const VENDOR: &str = "oidc";

/// How the provider is reached.
#[derive(Clone)]
pub struct OidcSettings {
    /// Its issuer, under which its document lies.
    pub issuer: String,
    /// Who we are there.
    pub client_id: String,
    /// Our secret there; none for a client that has none.
    pub client_secret: Option<String>,
    /// The time that one call of ours may take, with all requests that it needs.
    pub timeout: Duration,
}

impl fmt::Debug for OidcSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OidcSettings")
            .field("issuer", &self.issuer)
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}

/// Why nobody was signed in.
#[derive(Debug, thiserror::Error)]
pub enum OidcError {
    /// The provider cannot be reached, or what it says makes no sense.
    #[error("the provider of single sign-on gave no usable answer")]
    Provider(#[from] VendorError),
    /// The provider does not take the code: it was used, is too old, or was made for somebody else.
    #[error("the provider of single sign-on does not accept the code")]
    CodeRefused,
    /// What came is not to be believed.
    #[error("the provider's token is not to be believed: {why}")]
    Untrusted {
        /// Which check it fails.
        why: String,
    },
}

/// A sign-in that was begun. What is secret in it stays with the browser that began it, sealed.
#[derive(Clone)]
pub struct Started {
    /// Where the person goes now.
    pub url: Url,
    /// What they must bring back.
    pub state: String,
    /// What their ID token must hold.
    pub nonce: String,
    /// What proves that the code is ours.
    pub pkce_verifier: String,
}

impl fmt::Debug for Started {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Started").field("host", &self.url.host_str()).finish_non_exhaustive()
    }
}

/// What somebody came back with, and what was kept of their start. The state is compared by whoever kept it.
#[derive(Clone, Copy)]
pub struct CameBack<'a> {
    /// The provider's code.
    pub code: &'a str,
    /// The address they were to come back to, as at the start.
    pub redirect_uri: &'a str,
    /// Of [`Started`].
    pub nonce: &'a str,
    /// Of [`Started`].
    pub pkce_verifier: &'a str,
}

/// Who signed in, by the provider's word. Issuer and subject together are theirs for ever; the rest may change.
#[derive(Clone, PartialEq, Eq)]
pub struct Claims {
    /// Who says so.
    pub issuer: String,
    /// Whom it means.
    pub subject: String,
    /// Their address.
    pub email: Option<String>,
    /// Whether the provider knows that the address is theirs.
    pub email_verified: bool,
    /// Their name.
    pub name: Option<String>,
}

impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claims").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

/// A client of one provider. Cheap to clone; clones share what is known of it.
#[derive(Clone, Debug)]
pub struct Oidc {
    settings: Arc<OidcSettings>,
    whole: Whole,
    known: Arc<Known>,
}

impl Oidc {
    /// Prepares the client. Makes no connection: a provider that is down keeps nobody from starting.
    ///
    /// # Errors
    /// When the issuer is no address, or one without TLS that is not this machine.
    pub fn new(settings: OidcSettings) -> Result<Self, SetupError> {
        let whole = Whole::new(VENDOR, &settings.issuer)?;
        Ok(Self { settings: Arc::new(settings), whole, known: Arc::default() })
    }

    /// Begins a sign-in that comes back to `redirect_uri`.
    ///
    /// # Errors
    /// [`OidcError::Provider`].
    pub async fn authorization(&self, redirect_uri: &str) -> Result<Started, OidcError> {
        let discovered = self.discovered(self.deadline(), None).await?;
        let client = self.client(&discovered, redirect_uri)?;
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let (url, state, nonce) = client
            .authorize_url(
                CoreAuthenticationFlow::AuthorizationCode,
                CsrfToken::new_random,
                Nonce::new_random,
            )
            .add_scope(Scope::new("email".to_owned()))
            .add_scope(Scope::new("profile".to_owned()))
            .set_pkce_challenge(challenge)
            .url();
        Ok(Started {
            url,
            state: state.into_secret(),
            nonce: nonce.secret().clone(),
            pkce_verifier: verifier.into_secret(),
        })
    }

    /// Exchanges a code for who signed in.
    ///
    /// # Errors
    /// [`OidcError`]; never later than the timeout.
    pub async fn exchange(&self, came_back: CameBack<'_>) -> Result<Claims, OidcError> {
        let deadline = self.deadline();
        let discovered = self.discovered(deadline, None).await?;
        let client = self.client(&discovered, came_back.redirect_uri)?;
        let wire = Wire { whole: &self.whole, operation: "token", deadline };
        let request = client
            .exchange_code(AuthorizationCode::new(came_back.code.to_owned()))
            .map_err(|_| VendorError::malformed("the provider names no token endpoint"))?
            .set_pkce_verifier(PkceCodeVerifier::new(came_back.pkce_verifier.to_owned()));
        let answer = request.request_async(&wire).await.map_err(token_error)?;
        let id_token = answer.id_token().ok_or_else(|| VendorError::malformed("there is no ID token"))?;
        let token = Trusted { id_token, access_token: answer.access_token(), nonce: came_back.nonce };
        let claims = match trusted(&client, &token) {
            Err(checks::Doubt::UnknownKey) => {
                let newer = self.discovered(deadline, Some(&discovered)).await?;
                trusted(&self.client(&newer, came_back.redirect_uri)?, &token)
            }
            judged => judged,
        };
        let claims = claims.map_err(|doubt| OidcError::Untrusted { why: doubt.to_string() })?;
        match claims.email {
            Some(_) => Ok(claims),
            None => self.with_user_info(&client, answer.access_token().clone(), claims, deadline).await,
        }
    }

    /// Some providers say the address only there.
    async fn with_user_info(
        &self,
        client: &Client,
        token: openidconnect::AccessToken,
        claims: Claims,
        deadline: Instant,
    ) -> Result<Claims, OidcError> {
        let subject = SubjectIdentifier::new(claims.subject.clone());
        let Ok(request) = client.user_info(token, Some(subject)) else { return Ok(claims) };
        let wire = Wire { whole: &self.whole, operation: "userinfo", deadline };
        let told: CoreUserInfoClaims = request
            .request_async::<EmptyAdditionalClaims, _, _>(&wire)
            .await
            .map_err(|error| match error {
                openidconnect::UserInfoError::Request(error) => error,
                _ => VendorError::malformed("the user info cannot be used"),
            })?;
        let email = told.email().and_then(checks::fitting_email);
        let email_verified = email.is_some() && told.email_verified() == Some(true);
        let name = claims.name.clone().or_else(|| checks::name(told.name()));
        Ok(Claims { email, email_verified, name, ..claims })
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.settings.timeout
    }

    /// What is known of the provider; anew when that is old, or is what `outdated` names.
    async fn discovered(
        &self,
        deadline: Instant,
        outdated: Option<&Arc<Discovered>>,
    ) -> Result<Arc<Discovered>, OidcError> {
        Ok(self.known.get(&self.settings.issuer, &self.whole, deadline, outdated).await?)
    }

    fn client(&self, discovered: &Discovered, redirect_uri: &str) -> Result<Client, OidcError> {
        let redirect = RedirectUrl::new(redirect_uri.to_owned())
            .map_err(|_| VendorError::malformed("the address to come back to is none"))?;
        Ok(discovered.client(&self.settings, redirect))
    }
}

/// What the token endpoint's refusal means.
fn token_error(
    error: RequestTokenError<VendorError, openidconnect::StandardErrorResponse<CoreErrorResponseType>>,
) -> OidcError {
    match error {
        RequestTokenError::ServerResponse(told) if *told.error() == CoreErrorResponseType::InvalidGrant => {
            OidcError::CodeRefused
        }
        RequestTokenError::ServerResponse(told) if *told.error() == CoreErrorResponseType::InvalidClient => {
            OidcError::Provider(VendorError::Unauthorized)
        }
        RequestTokenError::Request(error) => OidcError::Provider(error),
        // The library's words may hold the body, and that a token.
        _ => OidcError::Provider(VendorError::malformed("the token endpoint's answer cannot be used")),
    }
}
