//! Codes and access tokens that were given out.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const KEPT_MAX: usize = 10_000;
const CODE_TTL: Duration = Duration::from_secs(60);
const EMAIL_BYTES_MAX: usize = 254;

/// Somebody who signs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Person {
    pub(super) email: String,
}

impl Person {
    pub(super) fn of(email: &str) -> Option<Self> {
        let (name, domain) = email.split_once('@')?;
        let fits = !name.is_empty() && !domain.is_empty() && email.len() <= EMAIL_BYTES_MAX;
        fits.then(|| Self { email: email.to_ascii_lowercase() })
    }

    /// What never changes about them.
    pub(super) fn subject(&self) -> String {
        let digest = Sha256::digest(self.email.as_bytes());
        digest.iter().take(12).fold("sandbox-".to_owned(), |text, byte| text + &format!("{byte:02x}"))
    }

    pub(super) fn claims(&self) -> Value {
        let name = self.email.split('@').next().unwrap_or_default();
        json!({
            "sub": self.subject(),
            "email": self.email,
            "email_verified": !self.email.starts_with("unverified"),
            "name": name.replace(['.', '_'], " "),
        })
    }
}

/// What a code was given out for.
#[derive(Clone, Debug)]
pub(super) struct Grant {
    pub(super) person: Person,
    pub(super) redirect_uri: String,
    pub(super) nonce: Option<String>,
    /// PKCE's, by S256.
    pub(super) challenge: String,
}

/// All that was given out; the oldest make room.
#[derive(Debug, Default)]
pub(super) struct Grants(Mutex<Given>);

#[derive(Debug, Default)]
struct Given {
    codes: VecDeque<(String, Instant, Grant)>,
    tokens: VecDeque<(String, Person)>,
}

impl Grants {
    fn given(&self) -> MutexGuard<'_, Given> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn make_code(&self, grant: Grant) -> String {
        let code = unguessable();
        let mut given = self.given();
        if given.codes.len() == KEPT_MAX {
            given.codes.pop_front();
        }
        given.codes.push_back((code.clone(), Instant::now(), grant));
        code
    }

    /// What a code was for. Whatever comes of it, the code is gone.
    pub(super) fn redeem(&self, code: &str, redirect_uri: &str, verifier: &str) -> Option<Grant> {
        let mut given = self.given();
        let position = given.codes.iter().position(|(known, _, _)| known == code)?;
        let (_, made, grant) = given.codes.remove(position)?;
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()));
        let is_good =
            made.elapsed() < CODE_TTL && grant.redirect_uri == redirect_uri && grant.challenge == challenge;
        is_good.then_some(grant)
    }

    pub(super) fn make_token(&self, person: Person) -> String {
        let token = unguessable();
        let mut given = self.given();
        if given.tokens.len() == KEPT_MAX {
            given.tokens.pop_front();
        }
        given.tokens.push_back((token.clone(), person));
        token
    }

    pub(super) fn person(&self, token: &str) -> Option<Person> {
        self.given().tokens.iter().find(|(known, _)| known == token).map(|(_, person)| person.clone())
    }
}

fn unguessable() -> String {
    let mut bytes = [0; 32];
    // Without randomness nothing of a provider can be faked; empty codes would be found at once.
    let _ = SystemRandom::new().fill(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_good_once_and_for_what_it_was_made_for() {
        let grants = Grants::default();
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(b"verifier"));
        let make = || {
            grants.make_code(Grant {
                person: Person::of("Amy@example.com").unwrap(),
                redirect_uri: "http://localhost/".to_owned(),
                nonce: None,
                challenge: challenge.clone(),
            })
        };
        let code = make();
        assert_eq!(
            grants.redeem(&code, "http://localhost/", "verifier").unwrap().person.email,
            "amy@example.com"
        );
        assert!(grants.redeem(&code, "http://localhost/", "verifier").is_none(), "used");
        assert!(grants.redeem(&make(), "http://localhost/x", "verifier").is_none(), "another address");
        assert!(grants.redeem(&make(), "http://localhost/", "other").is_none(), "another challenge");
        assert!(grants.redeem("", "http://localhost/", "verifier").is_none());
    }

    #[test]
    fn what_is_no_address_is_nobody() {
        for wrong in ["", "amy", "@example.com", "amy@"] {
            assert_eq!(Person::of(wrong), None, "{wrong}");
        }
    }
}
