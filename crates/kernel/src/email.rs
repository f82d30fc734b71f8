//! E-mail addresses, in the one form in which they are compared.

use std::fmt;

/// RFC 5321, 4.5.3.1: a path has at most 256 octets, brackets included.
pub const EMAIL_BYTES_MAX: usize = 254;
const LOCAL_BYTES_MAX: usize = 64;

/// An e-mail address: trimmed and lower case. Kept out of logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Email(String);

/// The text cannot be an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be an e-mail address")]
pub struct NotAnEmail;

impl Email {
    /// Reads one. Whether anybody reads mail there, only a mail can tell.
    ///
    /// # Errors
    /// When it cannot be an address.
    pub fn parse(text: &str) -> Result<Self, NotAnEmail> {
        let text = text.trim().to_lowercase();
        let fits = text.len() <= EMAIL_BYTES_MAX
            && !text.contains(|letter: char| {
                letter.is_whitespace() || letter.is_control() || "<>()[],;:\\\"".contains(letter)
            })
            && text.rsplit_once('@').is_some_and(|(local, domain)| {
                (1..=LOCAL_BYTES_MAX).contains(&local.len()) && !local.contains('@') && is_domain(domain)
            });
        if fits { Ok(Self(text)) } else { Err(NotAnEmail) }
    }

    /// The address.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands behind the `@`.
    #[must_use]
    pub fn domain(&self) -> &str {
        self.0.rsplit_once('@').map_or("", |(_, domain)| domain)
    }
}

fn is_domain(text: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty() && label.len() <= 63 && !label.starts_with('-') && !label.ends_with('-')
    };
    text.split('.').all(is_label)
}

impl fmt::Debug for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Email(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_compared_in_one_form() {
        assert_eq!(Email::parse(" Anna@Example.COM ").unwrap().as_str(), "anna@example.com");
        assert_eq!(Email::parse("anna@example.com").unwrap().domain(), "example.com");
        for wrong in
            ["", "anna", "@example.com", "anna@", "a b@c.de", "a@b@c.de", "a@b..de", "a@-b.de", "a<b@c.de"]
        {
            assert!(Email::parse(wrong).is_err(), "{wrong}");
        }
        assert!(Email::parse(&format!("{}@example.com", "a".repeat(65))).is_err());
        assert_eq!(format!("{:?}", Email::parse("anna@example.com").unwrap()), "Email(…)");
    }
}
