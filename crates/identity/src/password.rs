//! Passwords: argon2id, checked by a bounded number of threads.
//!
//! Parameters are those that OWASP's Password Storage Cheat Sheet names first for argon2id (19 MiB, two passes, one lane),
//! which are the library's default. Each check takes tens of milliseconds of a core and that memory, so only so many run
//! at once, and who would wait longer than a bound is told to come back.

use std::{fmt, sync::Arc, time::Duration};

use argon2::{Argon2, PasswordHasher, PasswordVerifier, password_hash::phc::PasswordHash as PhcHash};
use tokio::sync::Semaphore;

use crate::error::{FieldFault, IdentityError};

/// Shorter passwords are refused (NIST SP 800-63B asks for 8 at least, 15 where nothing else is asked for).
pub const PASSWORD_CHARS_MIN: usize = 12;
/// Longer ones too: hashing them would only cost.
pub const PASSWORD_BYTES_MAX: usize = 256;
/// Longest wait for a thread.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// What nobody's password is compared with when there is nobody: equally slow.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$bWlsbHBvbmQtbm9ib2R5$Jxkd5TcFRlMw8kZoQmLDLqKqbiZ2QpJYPJpFRQo3fYM";

/// A password as a person chose it, kept out of logs.
#[derive(Clone)]
pub struct Password(String);

impl Password {
    /// One to compare with; of any form, because rules may have been others when it was chosen.
    ///
    /// # Errors
    /// When it is too long for any password.
    pub fn presented(text: &str) -> Result<Self, FieldFault> {
        let too_long = text.len() > PASSWORD_BYTES_MAX;
        let fault = || fault(format!("must not be longer than {PASSWORD_BYTES_MAX} bytes"));
        if too_long { Err(fault()) } else { Ok(Self(text.to_owned())) }
    }

    /// A new one.
    ///
    /// # Errors
    /// Why it will not do.
    pub fn chosen(text: &str) -> Result<Self, FieldFault> {
        let presented = Self::presented(text)?;
        let chars = text.chars().count();
        if chars < PASSWORD_CHARS_MIN {
            return Err(fault(format!("must have at least {PASSWORD_CHARS_MIN} characters")));
        }
        let first = text.chars().next();
        if text.chars().all(|letter| Some(letter) == first) {
            return Err(fault("must not be one character over and over".to_owned()));
        }
        Ok(presented)
    }
}

fn fault(message: String) -> FieldFault {
    FieldFault { field: "password", message }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// A password's hash, as a PHC string.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(String);

impl PasswordHash {
    pub(crate) fn stored(text: String) -> Self {
        Self(text)
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}

/// Hashes and checks passwords; clones share the threads.
#[derive(Debug, Clone)]
pub struct Passwords {
    places: Arc<Semaphore>,
}

impl Passwords {
    /// With so many threads at once.
    #[must_use]
    pub fn new(threads_max: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(threads_max.max(1))) }
    }

    /// The hash of a new password.
    ///
    /// # Errors
    /// [`IdentityError::Busy`].
    pub async fn hash(&self, password: Password) -> Result<PasswordHash, IdentityError> {
        let hashed = self.on_a_thread(move || {
            let hash: Result<PhcHash, _> = Argon2::default().hash_password(password.0.as_bytes());
            hash.map(|hash| hash.to_string())
        });
        hashed.await?.map(PasswordHash).map_err(|_| IdentityError::Damaged("a password could not be hashed"))
    }

    /// Whether a password is that of a hash. Without a hash the answer is no, after as long.
    ///
    /// # Errors
    /// [`IdentityError::Busy`].
    pub async fn verify(
        &self,
        password: Password,
        hash: Option<PasswordHash>,
    ) -> Result<bool, IdentityError> {
        let exists = hash.is_some();
        let text = hash.map_or_else(|| NOBODY.to_owned(), |hash| hash.0);
        let fits = self.on_a_thread(move || {
            let parsed = PhcHash::new(&text);
            parsed.is_ok_and(|hash| Argon2::default().verify_password(password.0.as_bytes(), &hash).is_ok())
        });
        Ok(fits.await? && exists)
    }

    async fn on_a_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, IdentityError> {
        let place = tokio::time::timeout(WAIT_MAX, Arc::clone(&self.places).acquire_owned()).await;
        let Ok(Ok(place)) = place else { return Err(IdentityError::Busy) };
        // The place is given back when the work ends, also if nobody waits for it any more.
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(place);
            done
        });
        done.await.map_err(|_| IdentityError::Damaged("checking a password broke off"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_fits_its_own_hash_alone() {
        let passwords = Passwords::new(2);
        let chosen = Password::chosen("correct horse battery").unwrap();
        let hash = passwords.hash(chosen.clone()).await.unwrap();
        assert!(hash.as_str().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", hash.as_str());
        assert!(passwords.verify(chosen.clone(), Some(hash.clone())).await.unwrap());
        let other = Password::presented("correct horse").unwrap();
        assert!(!passwords.verify(other, Some(hash)).await.unwrap());
        assert!(!passwords.verify(chosen, None).await.unwrap());
    }

    #[test]
    fn the_hash_of_nobody_costs_what_others_cost() {
        let nobody = PhcHash::new(NOBODY).unwrap();
        assert_eq!(nobody.params.to_string(), "m=19456,t=2,p=1");
        assert!(nobody.hash.is_some() && nobody.salt.is_some());
    }

    #[test]
    fn passwords_have_bounds() {
        for (text, fits) in [
            ("short", false),
            ("aaaaaaaaaaaaaaaa", false),
            ("mười hai chữ", true),
            ("long enough!", true),
            (&"é".repeat(129), false),
        ] {
            assert_eq!(Password::chosen(text).is_ok(), fits, "{text}");
        }
    }
}
