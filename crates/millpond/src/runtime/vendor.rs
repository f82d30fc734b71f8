//! Which vendors this process calls: real ones, or the sandbox's fakes.
//!
//! Guarantees: fakes never fill a database that somebody named, unless told to in so many words; callbacks to this very
//! machine are accepted only beside our own sandbox or by setting.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use config::{Settings, variable};
use sandbox::{Sandbox, SandboxOptions};
use vendors::{meter::MeterSettings, smtp::SmtpSettings};

use crate::error::CliError;

/// Where a sandbox listens when nothing else does, so that people find it again.
pub(crate) const SANDBOX_LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8081);
/// An address that nobody answers, for processes that never call the meter.
const NOBODY: &str = "http://127.0.0.1:9/meter";

/// The vendors of a process.
#[derive(Debug)]
pub(crate) struct Vendor {
    /// How the profile meter is reached.
    pub(crate) meter: MeterSettings,
    /// How mail is sent, if it can be.
    pub(crate) smtp: Option<SmtpSettings>,
    /// Whether callbacks may lead to this very machine.
    pub(crate) allow_loopback: bool,
    /// Our own fakes, if those are used.
    pub(crate) sandbox: Option<Sandbox>,
}

impl Vendor {
    /// What `up` uses: configured vendors, else the sandbox where that does no harm.
    pub(crate) async fn for_up(settings: &Settings, sandbox_wanted: bool) -> Result<Self, CliError> {
        match configured(settings)? {
            Some(vendor) if !sandbox_wanted => Ok(vendor),
            None if settings.database.url.is_some() && !sandbox_wanted => Err(CliError::Refused(format!(
                "no profile meter is configured, and made-up profiles must not fill a database that may be a real \
                 one: set {} and {}, or add --sandbox if this database is for trying things out",
                variable("meter.url"),
                variable("meter.token")
            ))),
            _ => {
                let vendor = Self::sandbox(settings, &[SANDBOX_LISTEN, free_port()]).await?;
                let url = vendor.sandbox_url().unwrap_or_default();
                tracing::warn!(
                    sandbox.url = %url,
                    "profiles come from the sandbox at {url} and are made up; callbacks to this machine are accepted"
                );
                Ok(vendor)
            }
        }
    }

    /// What a worker uses: configured vendors.
    pub(crate) fn for_worker(settings: &Settings) -> Result<Self, CliError> {
        configured(settings)?.ok_or_else(|| {
            CliError::Refused(format!(
                "a worker of the queue `enrich` calls the profile meter: set {} and {}. To try things out, run \
                 `millpond sandbox` and set what it says; a worker of other queues only (--queues \
                 webhooks,maintenance) needs neither",
                variable("meter.url"),
                variable("meter.token")
            ))
        })
    }

    /// For a process that calls no vendor.
    pub(crate) fn none(settings: &Settings) -> Self {
        let meter = meter(settings, NOBODY.to_owned(), "none".to_owned());
        let smtp = smtp(settings, None);
        Self { meter, smtp, allow_loopback: settings.webhooks.allow_loopback, sandbox: None }
    }

    /// The fakes, at the first of these addresses that is free.
    pub(crate) async fn sandbox(settings: &Settings, listen: &[SocketAddr]) -> Result<Self, CliError> {
        let mut refusal = None;
        for listen in listen {
            let options = SandboxOptions { listen: *listen, ..SandboxOptions::default() };
            let token = options.token.clone();
            match sandbox::start(options).await {
                Ok(sandbox) => {
                    let meter = meter(settings, sandbox.meter_url(), token);
                    let smtp = smtp(settings, Some(sandbox.smtp_url()));
                    return Ok(Self { meter, smtp, allow_loopback: true, sandbox: Some(sandbox) });
                }
                Err(error) => refusal = Some(error),
            }
        }
        let refusal = refusal.map_or_else(|| "no address was given".into(), Into::into);
        Err(CliError::Part { part: "the sandbox", source: refusal })
    }

    /// The sandbox's address, if it is ours.
    pub(crate) fn sandbox_url(&self) -> Option<String> {
        self.sandbox.as_ref().map(Sandbox::url)
    }
}

/// Any free port of this machine's own interface.
pub(crate) fn free_port() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

fn configured(settings: &Settings) -> Result<Option<Vendor>, CliError> {
    let (url, token) = match (&settings.meter.url, &settings.meter.token) {
        (None, None) => return Ok(None),
        (Some(url), Some(token)) => (url.clone(), token.expose().to_owned()),
        (Some(_), None) => return Err(half("meter.url", "meter.token")),
        (None, Some(_)) => return Err(half("meter.token", "meter.url")),
    };
    let meter = meter(settings, url, token);
    let smtp = smtp(settings, None);
    Ok(Some(Vendor { meter, smtp, allow_loopback: settings.webhooks.allow_loopback, sandbox: None }))
}

fn half(set: &str, missing: &str) -> CliError {
    CliError::Refused(format!(
        "{} is set, but {} is not: set both or neither",
        variable(set),
        variable(missing)
    ))
}

fn meter(settings: &Settings, base_url: String, token: String) -> MeterSettings {
    MeterSettings { base_url, token, timeout: Duration::from_millis(settings.meter.timeout_ms) }
}

/// The configured mail server, else this one.
fn smtp(settings: &Settings, otherwise: Option<String>) -> Option<SmtpSettings> {
    let smtp = &settings.smtp;
    let (username, password) = match smtp.url {
        Some(_) => {
            (smtp.username.clone(), smtp.password.as_ref().map(|password| password.expose().to_owned()))
        }
        None => (None, None),
    };
    let (from, timeout) = (smtp.from.clone(), Duration::from_millis(smtp.timeout_ms));
    let url = smtp.url.clone().or(otherwise)?;
    Some(SmtpSettings { url, username, password, from, timeout })
}

#[cfg(test)]
mod tests {
    use config::Sources;

    use super::*;

    fn settings(overrides: &[(&str, &str)]) -> Settings {
        let sources = overrides.iter().fold(Sources::default(), |all, (path, value)| all.with(path, *value));
        Settings::load(&sources).unwrap()
    }

    #[tokio::test]
    async fn fakes_do_not_fill_a_database_that_somebody_named() {
        let named = settings(&[("database.url", "postgres://127.0.0.1:1/nowhere")]);
        let message = Vendor::for_up(&named, false).await.unwrap_err().to_string();
        assert!(message.contains("--sandbox") && message.contains("MILLPOND_METER__TOKEN"), "{message}");
        assert!(Vendor::for_up(&named, true).await.unwrap().allow_loopback);
    }

    #[tokio::test]
    async fn mail_goes_to_the_sandbox_only_beside_its_other_fakes() {
        let sandbox = Vendor::sandbox(&settings(&[]), &[free_port()]).await.unwrap();
        assert!(sandbox.smtp.unwrap().url.starts_with("smtp+plain://127.0.0.1:"));
        let set = settings(&[("smtp.url", "smtps://mail.example"), ("smtp.password", "secret")]);
        let vendor = Vendor::sandbox(&set, &[free_port()]).await.unwrap();
        let smtp = vendor.smtp.unwrap();
        assert_eq!((smtp.url.as_str(), smtp.password.as_deref()), ("smtps://mail.example", Some("secret")));
        assert!(Vendor::none(&settings(&[])).smtp.is_none());
    }

    #[tokio::test]
    async fn configured_vendors_are_used_and_half_configured_ones_refused() {
        let real = settings(&[("meter.url", "https://meter.example"), ("meter.token", "secret")]);
        let vendor = Vendor::for_up(&real, false).await.unwrap();
        assert_eq!(vendor.meter.base_url, "https://meter.example");
        assert!(!vendor.allow_loopback && vendor.sandbox.is_none());
        for half in [("meter.url", "https://meter.example"), ("meter.token", "secret")] {
            let message = Vendor::for_worker(&settings(&[half])).unwrap_err().to_string();
            assert!(message.contains("set both or neither"), "{message}");
        }
    }
}
