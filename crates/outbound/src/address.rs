//! What can be said of an address before anything is resolved: its form, and any literal IP in it.
//!
//! Used when an address is handed in, so that its owner hears at once, and again before each request. A name
//! passes here whatever it resolves to; the resolver judges that at the moment of connecting.

use std::net::IpAddr;

use url::{Host, Url};

use crate::guard::{self, Forbidden};

/// The longest address accepted, in characters.
pub const URL_CHARS_MAX: usize = 2048;

/// Why an address is not one we send to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressRefused {
    /// Not an absolute URL.
    #[error("is not an absolute URL: {0}")]
    Malformed(String),
    /// Longer than [`URL_CHARS_MAX`].
    #[error("is longer than {URL_CHARS_MAX} characters")]
    TooLong,
    /// Another scheme than http or https.
    #[error("must begin with https:// or http://")]
    Scheme,
    /// A user name or password before the host.
    #[error("must not hold a user name or password")]
    UserInfo,
    /// No host.
    #[error("has no host")]
    NoHost,
    /// Another port than 443 and 80.
    #[error("uses port {0}; only 443 and 80 are allowed")]
    Port(u16),
    /// The host is, or resolves only to, addresses that must not be reached.
    #[error("leads to a {0} address")]
    Forbidden(Forbidden),
}

/// Checks the form of `url`, and its host if that is a literal IP address in any notation.
///
/// `allow_loopback` also lifts the limit on ports, for loopback literals and `localhost` names only.
pub fn check_url(url: &str, allow_loopback: bool) -> Result<Url, AddressRefused> {
    if url.chars().nth(URL_CHARS_MAX).is_some() {
        return Err(AddressRefused::TooLong);
    }
    let url = Url::parse(url).map_err(|error| AddressRefused::Malformed(error.to_string()))?;
    check(&url, allow_loopback)?;
    Ok(url)
}

/// The same for an address that is already parsed.
pub(crate) fn check(url: &Url, allow_loopback: bool) -> Result<(), AddressRefused> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(AddressRefused::Scheme);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(AddressRefused::UserInfo);
    }
    // The parser has turned decimal, octal, hexadecimal, short and full-width forms into one address.
    let (ip, local_name) = match url.host().ok_or(AddressRefused::NoHost)? {
        Host::Ipv4(ip) => (Some(IpAddr::V4(ip)), false),
        Host::Ipv6(ip) => (Some(IpAddr::V6(ip)), false),
        Host::Domain(name) => (None, is_localhost(name)),
    };
    let loopback = local_name || ip.is_some_and(|ip| guard::forbidden(ip) == Some(Forbidden::Loopback));
    if local_name && !allow_loopback {
        return Err(AddressRefused::Forbidden(Forbidden::Loopback));
    }
    if let Some(ip) = ip {
        guard::check(ip, allow_loopback).map_err(AddressRefused::Forbidden)?;
    }
    match url.port_or_known_default() {
        Some(443 | 80) => Ok(()),
        Some(_) if loopback && allow_loopback => Ok(()),
        port => Err(AddressRefused::Port(port.unwrap_or_default())),
    }
}

/// Names that mean this machine without any look-up (RFC 6761).
pub(crate) fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(url: &str) -> AddressRefused {
        check_url(url, false).expect_err(url)
    }

    #[test]
    fn ordinary_addresses_pass() {
        for url in [
            "https://hooks.example.com/path?query=1",
            "http://hooks.example.com",
            "https://hooks.example.com:80/",
            "http://hooks.example.com:443/",
            "https://8.8.8.8/",
            "https://[2606:4700:4700::1111]/",
            "https://bücher.example/",
            "https://localhost.example.com/",
        ] {
            assert!(check_url(url, false).is_ok(), "{url}");
        }
    }

    #[test]
    fn loopback_is_recognised_in_every_notation() {
        for url in [
            "http://127.0.0.1/",
            "http://127.1/",
            "http://127.0.1/",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://0x7f.1/",
            "http://0X7F.0.0.1/",
            "http://017700000001/",
            "http://0177.0.0.1/",
            "http://0177.0x0.0.1/",
            "http://127.0.0.1./",
            "http://%31%32%37.0.0.1/",
            "http://１２７.0.0.1/",
            "http://①②⑦.0.0.1/",
            "http://127。0。0。1/",
            "http://[::1]/",
            "http://[0:0:0:0:0:0:0:1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[::ffff:7f00:1]/",
            "http://[64:ff9b::7f00:1]/",
            "http://localhost/",
            "http://LOCALHOST./",
            "http://a.localhost/",
            "http:\\\\127.0.0.1\\",
            "  http://127.0.0.1/",
            "http:127.0.0.1",
        ] {
            assert_eq!(refused(url), AddressRefused::Forbidden(Forbidden::Loopback), "{url}");
        }
    }

    #[test]
    fn other_forbidden_literals_are_refused_at_once() {
        for (url, reason) in [
            ("http://10.0.0.1/", Forbidden::Private),
            ("http://10.1/", Forbidden::Private),
            ("http://167772161/", Forbidden::Private),
            ("http://0300.0250.1.1/", Forbidden::Private),
            ("http://169.254.169.254/latest/meta-data/", Forbidden::Metadata),
            ("http://2852039166/", Forbidden::Metadata),
            ("http://0xa9fea9fe/", Forbidden::Metadata),
            ("http://0251.0376.0251.0376/", Forbidden::Metadata),
            ("http://[fd00:ec2::254]/", Forbidden::Metadata),
            ("http://[::ffff:169.254.169.254]/", Forbidden::Metadata),
            ("http://0/", Forbidden::Unspecified),
            ("http://[::]/", Forbidden::Unspecified),
            ("http://[::127.0.0.1]/", Forbidden::Translated),
            ("http://[2002:7f00:1::]/", Forbidden::Translated),
            ("http://[fe80::1]/", Forbidden::LinkLocal),
        ] {
            assert_eq!(refused(url), AddressRefused::Forbidden(reason), "{url}");
        }
    }

    #[test]
    fn malformed_addresses_are_refused_with_a_reason() {
        assert!(matches!(refused(""), AddressRefused::Malformed(_)));
        assert!(matches!(refused("hooks.example.com"), AddressRefused::Malformed(_)));
        assert!(matches!(refused("http://256.256.256.256/"), AddressRefused::Malformed(_)));
        assert!(matches!(refused("http://[fe80::1%25eth0]/"), AddressRefused::Malformed(_)));
        assert!(matches!(refused("https:///"), AddressRefused::Malformed(_)));
        assert_eq!(refused("ftp://example.com/"), AddressRefused::Scheme);
        assert_eq!(refused("file:///etc/passwd"), AddressRefused::Scheme);
        assert_eq!(refused("gopher://127.0.0.1:6379/_INFO"), AddressRefused::Scheme);
        assert_eq!(refused("https://user@example.com/"), AddressRefused::UserInfo);
        assert_eq!(refused("https://user:secret@example.com/"), AddressRefused::UserInfo);
        assert_eq!(refused("https://example.com:8443/"), AddressRefused::Port(8443));
        assert_eq!(refused("http://example.com:22/"), AddressRefused::Port(22));
        let long = format!("https://example.com/{}", "x".repeat(URL_CHARS_MAX));
        assert_eq!(refused(&long), AddressRefused::TooLong);
    }

    #[test]
    fn allowing_loopback_opens_its_ports_and_nothing_else() {
        for url in ["http://127.0.0.1:3999/", "http://[::1]:3999/", "http://localhost:3999/", "http://127.1/"]
        {
            assert!(check_url(url, true).is_ok(), "{url}");
        }
        assert_eq!(check_url("http://example.com:3999/", true), Err(AddressRefused::Port(3999)));
        let private = check_url("http://10.0.0.1:3999/", true);
        assert_eq!(private, Err(AddressRefused::Forbidden(Forbidden::Private)));
    }
}
