//! Names to addresses, with forbidden ones taken out.
//!
//! The connector asks this resolver and connects to exactly what it returns, so no second look-up can lead
//! elsewhere than the one that was checked. A name with allowed and forbidden addresses is connected to at the
//! allowed ones; a name with forbidden ones only is refused.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::Name as DnsName;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::address::is_localhost;
use crate::guard::{self, Forbidden};

/// One question to one name server.
const QUERY_TIMEOUT: Duration = Duration::from_secs(3);
const QUERY_ATTEMPTS_MAX: usize = 2;
/// A receiver that moves to another machine is found within this time, whatever it published.
const CACHE_AGE_MAX: Duration = Duration::from_secs(60);

/// Why a name gave no address to connect to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResolveError {
    #[error("the name has no address")]
    NoAddress,
    #[error("the name leads to a {0} address")]
    Forbidden(Forbidden),
    #[error("the name could not be looked up")]
    Failed(#[source] NetError),
}

#[derive(Clone)]
pub(crate) struct GuardedResolver {
    inner: Arc<TokioResolver>,
    allow_loopback: bool,
}

impl GuardedResolver {
    /// A resolver with the system's settings. Without readable ones it knows the hosts file only: asking
    /// somebody else's name servers would tell them whom we write to.
    pub(crate) fn from_system(allow_loopback: bool) -> Result<Self, NetError> {
        let mut builder = TokioResolver::builder_tokio().unwrap_or_else(|error| {
            tracing::warn!(%error, "no system resolver settings; only the hosts file is used");
            TokioResolver::builder_with_config(ResolverConfig::default(), TokioRuntimeProvider::default())
        });
        let options = builder.options_mut();
        options.timeout = QUERY_TIMEOUT;
        options.attempts = QUERY_ATTEMPTS_MAX;
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.positive_max_ttl = Some(CACHE_AGE_MAX);
        options.negative_max_ttl = Some(CACHE_AGE_MAX);
        Ok(Self::new(builder.build()?, allow_loopback))
    }

    pub(crate) fn new(inner: TokioResolver, allow_loopback: bool) -> Self {
        Self { inner: Arc::new(inner), allow_loopback }
    }

    /// The addresses `host` may be reached at: at least one.
    pub(crate) async fn lookup(&self, host: &str) -> Result<Vec<IpAddr>, ResolveError> {
        let mut name = DnsName::from_utf8(host).map_err(|error| ResolveError::Failed(error.into()))?;
        // Fully qualified, so that the machine's search domains cannot turn it into a name of our own network.
        name.set_fqdn(true);
        let found = match self.inner.lookup_ip(name).await {
            Ok(found) => found,
            Err(error) if error.is_no_records_found() => return Err(ResolveError::NoAddress),
            Err(error) => return Err(ResolveError::Failed(error)),
        };
        self.allowed(host, found.iter())
    }

    fn allowed(&self, host: &str, found: impl Iterator<Item = IpAddr>) -> Result<Vec<IpAddr>, ResolveError> {
        let mut reason = None;
        let mut allowed = Vec::new();
        for ip in found {
            // `localhost` may use any port because it is this machine, so it must not be another one.
            let verdict = match guard::check(ip, self.allow_loopback) {
                Ok(()) if is_localhost(host) && guard::forbidden(ip).is_none() => Err(Forbidden::Reserved),
                verdict => verdict,
            };
            match verdict {
                Ok(()) => allowed.push(ip),
                Err(forbidden) => reason = reason.or(Some(forbidden)),
            }
        }
        match reason {
            _ if !allowed.is_empty() => Ok(allowed),
            Some(forbidden) => Err(ResolveError::Forbidden(forbidden)),
            None => Err(ResolveError::NoAddress),
        }
    }
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.clone();
        Box::pin(async move {
            let allowed = resolver.lookup(name.as_str()).await?;
            // Port 0 stands for the port of the URL.
            let addresses: Addrs = Box::new(allowed.into_iter().map(|ip| SocketAddr::new(ip, 0)));
            Ok(addresses)
        })
    }
}

/// A resolver that knows `hosts` (lines as in a hosts file) and asks nobody.
#[cfg(test)]
pub(crate) fn with_hosts(hosts: &str, allow_loopback: bool) -> GuardedResolver {
    let mut inner =
        TokioResolver::builder_with_config(ResolverConfig::default(), TokioRuntimeProvider::default())
            .build()
            .unwrap();
    let mut known = hickory_resolver::Hosts::default();
    known.read_hosts_conf(hosts.as_bytes()).unwrap();
    inner.set_hosts(Arc::new(known));
    GuardedResolver::new(inner, allow_loopback)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTS: &str = "10.0.0.1 inside.example mixed.example
        93.184.215.14 mixed.example
        127.0.0.1 rebound.example
        ::ffff:169.254.169.254 mapped.example
        fd00:ec2::254 metadata.example
        93.184.215.14 localhost";

    #[tokio::test]
    async fn names_that_lead_inside_are_refused() {
        let resolver = with_hosts(HOSTS, false);
        for (host, reason) in [
            ("inside.example", Forbidden::Private),
            ("INSIDE.example.", Forbidden::Private),
            ("rebound.example", Forbidden::Loopback),
            ("mapped.example", Forbidden::Metadata),
            ("metadata.example", Forbidden::Metadata),
        ] {
            let error = resolver.lookup(host).await.unwrap_err();
            assert!(matches!(error, ResolveError::Forbidden(found) if found == reason), "{host}: {error}");
        }
    }

    #[tokio::test]
    async fn of_a_mixed_name_only_the_public_addresses_remain() {
        let found = with_hosts(HOSTS, true).lookup("mixed.example").await.unwrap();
        assert_eq!(found, ["93.184.215.14".parse::<IpAddr>().unwrap()]);
    }

    #[tokio::test]
    async fn localhost_is_never_another_machine() {
        // The hosts file above says otherwise.
        let found = with_hosts(HOSTS, true).lookup("localhost").await.unwrap();
        assert!(found.iter().all(IpAddr::is_loopback), "{found:?}");
    }

    #[tokio::test]
    async fn loopback_is_resolved_where_it_is_allowed() {
        let found = with_hosts(HOSTS, true).lookup("rebound.example").await.unwrap();
        assert_eq!(found, ["127.0.0.1".parse::<IpAddr>().unwrap()]);
    }

    #[tokio::test]
    async fn an_unknown_name_is_an_error_of_the_look_up() {
        let error = with_hosts(HOSTS, false).lookup("unknown.example").await.unwrap_err();
        assert!(matches!(error, ResolveError::NoAddress | ResolveError::Failed(_)), "{error}");
    }
}
