//! Whether an address is this machine's own.

use url::{Host, Url};

/// Whether the URL's host is this machine by its notation; names other than `localhost` are not looked up.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_known_in_every_notation_and_nothing_else_is() {
        for own in [
            "http://localhost:1/",
            "https://127.0.0.1",
            "http://127.9.8.7/",
            "http://[::1]:80/",
            "http://0x7f.1/",
        ] {
            assert!(is_loopback(&Url::parse(own).unwrap()), "{own}");
        }
        for other in ["http://localhost.example/", "http://10.0.0.1/", "http://[::2]/", "file:///etc/hosts"] {
            assert!(!is_loopback(&Url::parse(other).unwrap()), "{other}");
        }
    }
}
