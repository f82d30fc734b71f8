//! What an ID token must be to be believed.

use chrono::TimeDelta;
use openidconnect::core::{CoreIdToken, CoreIdTokenClaims, CoreJwsSigningAlgorithm};
use openidconnect::{
    AccessToken, AccessTokenHash, ClaimsVerificationError, EndUserEmail, EndUserName, LocalizedClaim, Nonce,
    SignatureVerificationError,
};

use super::Claims;
use super::discovered::Client;

/// A token was made for this sign-in, so just now. Clocks may differ by as much.
const AGE_MINUTES_MAX: i64 = 10;
/// OpenID Connect Core, 2.
const SUBJECT_BYTES_MAX: usize = 255;
const EMAIL_BYTES_MAX: usize = 254;
const NAME_CHARACTERS_MAX: usize = 200;

/// Signatures that only the provider can make. Those by a secret that is shared are not among them, nor is none at all.
const ALGORITHMS: [CoreJwsSigningAlgorithm; 9] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha384,
    CoreJwsSigningAlgorithm::RsaSsaPssSha512,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EcdsaP384Sha384,
    CoreJwsSigningAlgorithm::EdDsa,
];

/// A token that came for a sign-in, to be judged.
pub(super) struct Trusted<'a> {
    pub(super) id_token: &'a CoreIdToken,
    pub(super) access_token: &'a AccessToken,
    pub(super) nonce: &'a str,
}

/// Why a token is not believed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Doubt {
    /// Perhaps the provider has newer keys than we know.
    #[error("it is signed by a key that the provider does not show")]
    UnknownKey,
    #[error("{0}")]
    Claims(ClaimsVerificationError),
    #[error("{0}")]
    Broken(&'static str),
}

/// Who the token is about, if it holds.
pub(super) fn trusted(client: &Client, token: &Trusted<'_>) -> Result<Claims, Doubt> {
    let verifier = client
        .id_token_verifier()
        .set_allowed_algs(ALGORITHMS)
        .set_time_fn(kernel::clock::now)
        .set_issue_time_verifier_fn(|issued| is_recent(kernel::clock::now() - issued));
    let nonce = Nonce::new(token.nonce.to_owned());
    let claims = token.id_token.claims(&verifier, &nonce).map_err(|error| match error {
        ClaimsVerificationError::SignatureVerification(SignatureVerificationError::NoMatchingKey) => {
            Doubt::UnknownKey
        }
        error => Doubt::Claims(error),
    })?;
    is_for(claims, client.client_id().as_str())?;
    if let Some(expected) = claims.access_token_hash() {
        let hash = || {
            let (algorithm, key) =
                (token.id_token.signing_alg().ok()?, token.id_token.signing_key(&verifier).ok()?);
            AccessTokenHash::from_token(token.access_token, algorithm, key).ok()
        };
        if hash().as_ref() != Some(expected) {
            return Err(Doubt::Broken("it belongs to another access token"));
        }
    }
    read(claims)
}

fn is_recent(age: TimeDelta) -> Result<(), String> {
    let is_recent = age.abs() <= TimeDelta::minutes(AGE_MINUTES_MAX);
    is_recent.then_some(()).ok_or_else(|| "it was not made just now".to_owned())
}

/// The library leaves the authorized party to its users (OpenID Connect Core, 3.1.3.7, 4 and 5).
fn is_for(claims: &CoreIdTokenClaims, client_id: &str) -> Result<(), Doubt> {
    match claims.authorized_party() {
        Some(party) if party.as_str() != client_id => {
            Err(Doubt::Broken("it was given out for another party"))
        }
        None if claims.audiences().len() > 1 => Err(Doubt::Broken("it has two audiences and no party")),
        _ => Ok(()),
    }
}

fn read(claims: &CoreIdTokenClaims) -> Result<Claims, Doubt> {
    let subject = claims.subject().as_str();
    if subject.is_empty() || subject.len() > SUBJECT_BYTES_MAX || subject.contains('\0') {
        return Err(Doubt::Broken("its subject is none"));
    }
    let email = claims.email().and_then(fitting_email);
    Ok(Claims {
        issuer: claims.issuer().as_str().to_owned(),
        subject: subject.to_owned(),
        email_verified: email.is_some() && claims.email_verified() == Some(true),
        email,
        name: name(claims.name()),
    })
}

pub(super) fn fitting_email(email: &EndUserEmail) -> Option<String> {
    let email = email.as_str().trim();
    let fits = email.len() <= EMAIL_BYTES_MAX && email.contains('@') && !email.contains(char::is_control);
    fits.then(|| email.to_owned())
}

pub(super) fn name(names: Option<&LocalizedClaim<EndUserName>>) -> Option<String> {
    let (_, name) = names?.iter().next()?;
    let name: String =
        name.as_str().chars().filter(|letter| !letter.is_control()).take(NAME_CHARACTERS_MAX).collect();
    (!name.trim().is_empty()).then(|| name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_of_now() {
        for (seconds, is_good) in [(0, true), (-599, true), (600, true), (601, false), (-601, false)] {
            assert_eq!(is_recent(TimeDelta::seconds(seconds)).is_ok(), is_good, "{seconds}");
        }
    }

    #[test]
    fn an_address_with_a_line_break_is_none() {
        let email = |text: &str| fitting_email(&EndUserEmail::new(text.to_owned()));
        assert_eq!(email(" amy@example.com "), Some("amy@example.com".to_owned()));
        for wrong in ["amy", "amy@example.com\nBcc: eve@example.com", &format!("{}@x", "a".repeat(254))] {
            assert_eq!(email(wrong), None, "{wrong}");
        }
    }
}
