//! Single sign-on as settings want it. Never the sandbox's provider unless they name it: there everybody is anybody.

use std::time::Duration;

use api::SingleSignOn;
use config::{Settings, variable};
use jobs::people::Newcomers;
use vendors::oidc::{Oidc, OidcSettings};

use crate::error::CliError;

/// None when no provider is configured.
pub(crate) fn single_sign_on(settings: &Settings) -> Result<Option<SingleSignOn>, CliError> {
    let oidc = &settings.oidc;
    let Some(issuer) = oidc.issuer.clone() else { return Ok(None) };
    if oidc.client_id.is_empty() {
        let (issuer, id) = (variable("oidc.issuer"), variable("oidc.client_id"));
        return Err(CliError::Refused(format!("{issuer} is set, but {id} is not: set both or neither")));
    }
    let provider = Oidc::new(OidcSettings {
        issuer,
        client_id: oidc.client_id.clone(),
        client_secret: oidc.client_secret.as_ref().map(|secret| secret.expose().to_owned()),
        timeout: Duration::from_millis(oidc.timeout_ms),
    });
    let provider = provider.map_err(|error| CliError::part("setting up single sign-on", error))?;
    let role = oidc.default_role.as_deref().map(str::parse).transpose();
    let role = role.map_err(|error| CliError::part("setting up single sign-on", error))?;
    Ok(Some(SingleSignOn { provider, newcomers: Newcomers { role, domains: oidc.allowed_domains() } }))
}
