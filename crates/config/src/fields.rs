//! Every field with its kind and limits, and the pure rule that checks a value against them.
//!
//! Values arrive either as text (environment, command line) or typed (TOML). Text is read by the field's kind,
//! never by its looks, so that a token made of digits stays a token.

use std::net::SocketAddr;

use figment::value::Value;
use url::Url;

use crate::secret::{MASK, mask_database_url};

/// What a field accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A whole number within limits; the unit is for messages.
    Whole { min: u64, max: u64, unit: &'static str },
    /// A share of something, from 0 to 1.
    Share,
    /// `true` or `false`.
    Flag,
    /// One of a few words.
    Choice(&'static [&'static str]),
    /// An IP address with a port.
    Address { may_be_empty: bool },
    /// A PostgreSQL address, or empty.
    Database,
    /// An http or https address without credentials in it.
    Web { may_be_empty: bool },
    /// A mail server, or empty.
    Mail,
    /// The name of a time zone.
    Zone,
    /// Other text of bounded length.
    Text { chars_max: usize, may_be_empty: bool },
    /// Text that must not be shown, or empty.
    Secret { chars_max: usize },
}

/// One settable field.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    /// `section.field`.
    pub(crate) path: &'static str,
    /// What it accepts.
    pub(crate) kind: Kind,
}

const fn whole(path: &'static str, min: u64, max: u64, unit: &'static str) -> Field {
    Field { path, kind: Kind::Whole { min, max, unit } }
}

const fn field(path: &'static str, kind: Kind) -> Field {
    Field { path, kind }
}

/// All of them, in the order of `defaults.toml`.
pub(crate) const FIELDS: &[Field] = &[
    field("database.url", Kind::Database),
    whole("database.connections_max", 2, 1_000, "connections"),
    whole("database.acquire_timeout_ms", 100, 300_000, "ms"),
    field("database.prepared", Kind::Flag),
    field("database.listen", Kind::Flag),
    field("database.programs_address", Kind::Web { may_be_empty: false }),
    field("data.dir", Kind::Text { chars_max: 4_096, may_be_empty: true }),
    field("http.listen", Kind::Address { may_be_empty: false }),
    field("http.public_url", Kind::Web { may_be_empty: true }),
    whole("http.connections_max", 1, 1_000_000, "connections"),
    whole("http.header_read_timeout_ms", 100, 300_000, "ms"),
    whole("http.write_timeout_ms", 100, 600_000, "ms"),
    field("http.tls_certificate", Kind::Text { chars_max: 4_096, may_be_empty: true }),
    field("http.tls_key", Kind::Text { chars_max: 4_096, may_be_empty: true }),
    field("http.behind_tls_proxy", Kind::Flag),
    whole("http.request_timeout_ms", 100, 600_000, "ms"),
    whole("http.body_bytes_max", 1_024, 67_108_864, "bytes"),
    whole("http.wait_s_max", 0, 25, "s"),
    whole("http.drain_timeout_s", 0, 3_600, "s"),
    whole("api.key_cache_ms", 0, 4_000, "ms"),
    field("partners.quota_time_zone", Kind::Zone),
    whole("worker.concurrency_enrich", 1, 10_000, "jobs"),
    whole("worker.concurrency_webhooks", 1, 10_000, "jobs"),
    whole("worker.concurrency_maintenance", 1, 1_000, "jobs"),
    whole("worker.poll_ms", 10, 60_000, "ms"),
    whole("worker.acknowledged_max", 1, 5_000, "jobs"),
    whole("worker.turn_connections", 1, 64, "connections"),
    whole("worker.drain_timeout_s", 0, 3_600, "s"),
    whole("queue.lease_ms", 250, 3_600_000, "ms"),
    whole("queue.sweep_ms", 50, 3_600_000, "ms"),
    whole("queue.retention_days", 30, 3_650, "days"),
    whole("queue.oldest_transaction_warn_s", 1, 86_400, "seconds"),
    field("scheduler.enabled", Kind::Flag),
    whole("scheduler.look_ms", 5, 60_000, "ms"),
    whole("scheduler.missed_after_s", 1, 86_400, "seconds"),
    // Below the time an attempt of `webhooks.deliver` has in all (25 s), so that every answer is recorded.
    whole("webhooks.timeout_ms", 100, 20_000, "ms"),
    field("webhooks.allow_loopback", Kind::Flag),
    field("meter.url", Kind::Web { may_be_empty: true }),
    field("meter.token", Kind::Secret { chars_max: 4_096 }),
    // Below the time an attempt of `profiles.fetch` has in all (40 s), so that the vendor's delay is told as one.
    whole("meter.timeout_ms", 100, 35_000, "ms"),
    whole("meter.cache_hours", 0, 8_760, "hours"),
    whole("meter.missing_cache_s", 0, 86_400, "seconds"),
    whole("meter.calls_max", 0, 1_000_000_000, "calls"),
    whole("meter.window_ms", 100, 86_400_000, "ms"),
    whole("meter.concurrency_max", 0, 100_000, "calls"),
    field("smtp.url", Kind::Mail),
    field("smtp.username", Kind::Text { chars_max: 320, may_be_empty: true }),
    field("smtp.password", Kind::Secret { chars_max: 1_024 }),
    field("smtp.from", Kind::Text { chars_max: 320, may_be_empty: false }),
    // Below the time an attempt of `email.send` has in all (40 s), so that the server's delay is told as one.
    whole("smtp.timeout_ms", 100, 35_000, "ms"),
    field("oidc.issuer", Kind::Web { may_be_empty: true }),
    field("oidc.client_id", Kind::Text { chars_max: 512, may_be_empty: true }),
    field("oidc.client_secret", Kind::Secret { chars_max: 4_096 }),
    field("oidc.default_role", Kind::Choice(&["", "viewer", "operator", "admin"])),
    field("oidc.allowed_domains", Kind::Text { chars_max: 4_096, may_be_empty: true }),
    // Below half the time of a request, which these routes have.
    whole("oidc.timeout_ms", 100, 14_000, "ms"),
    field("metrics.listen", Kind::Address { may_be_empty: true }),
    field("encryption.keys", Kind::Secret { chars_max: 16_384 }),
    field("trace.endpoint", Kind::Web { may_be_empty: true }),
    field("trace.headers", Kind::Secret { chars_max: 4_096 }),
    field("trace.sample_ratio", Kind::Share),
    field("trace.service_name", Kind::Text { chars_max: 100, may_be_empty: false }),
    field("sentry.dsn", Kind::Secret { chars_max: 1_024 }),
    field("sentry.environment", Kind::Text { chars_max: 64, may_be_empty: false }),
    field("log.format", Kind::Choice(&["json", "pretty"])),
    field("log.filter", Kind::Text { chars_max: 4_096, may_be_empty: false }),
];

/// The field of a path.
pub(crate) fn find(path: &str) -> Option<&'static Field> {
    FIELDS.iter().find(|field| field.path == path)
}

/// A value as a source gave it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Given {
    /// Text to be read by the field's kind.
    Text(String),
    /// A TOML value, which must already have the field's type.
    Typed(Value),
}

impl Given {
    /// The value as it may be shown.
    pub(crate) fn shown(&self, kind: Kind) -> String {
        const SHOWN_CHARS_MAX: usize = 200;
        let text = match self {
            Self::Text(text) => text.clone(),
            Self::Typed(value) => match value.as_str() {
                Some(text) => text.to_owned(),
                None => serde_json::to_string(value).unwrap_or_else(|_| "?".to_owned()),
            },
        };
        match kind {
            Kind::Secret { .. } => MASK.to_owned(),
            Kind::Database => format!("{:?}", mask_database_url(&text)),
            // Someone may have put a password into an address that has none.
            Kind::Web { .. } | Kind::Mail if text.contains('@') => MASK.to_owned(),
            _ => format!("{:?}", text.chars().take(SHOWN_CHARS_MAX).collect::<String>()),
        }
    }
}

impl Kind {
    /// The value in the field's type, if it is allowed.
    pub(crate) fn check(self, given: &Given) -> Option<Value> {
        match self {
            Self::Whole { min, max, .. } => {
                let number = match given {
                    Given::Text(text) => text.trim().parse().ok()?,
                    Given::Typed(value) => whole_number(value)?,
                };
                (min..=max).contains(&number).then(|| Value::from(number))
            }
            Self::Share => {
                let share = match given {
                    Given::Text(text) => text.trim().parse().ok()?,
                    Given::Typed(value) => {
                        value.to_f64().or_else(|| whole_number(value).map(|whole| whole as f64))?
                    }
                };
                (0.0..=1.0).contains(&share).then(|| Value::from(share))
            }
            Self::Flag => match given {
                Given::Text(text) => text.trim().parse::<bool>().ok().map(Value::from),
                Given::Typed(value) => value.to_bool().map(Value::from),
            },
            _ => {
                let text = match given {
                    Given::Text(text) => text.as_str(),
                    Given::Typed(value) => value.as_str()?,
                };
                self.accepts_text(text).then(|| Value::from(text))
            }
        }
    }

    /// Says what is allowed, as the end of "must be …".
    pub(crate) fn allowed(self) -> String {
        let or_empty = |may_be_empty: bool| if may_be_empty { ", or empty" } else { "" };
        match self {
            Self::Whole { min, max, unit } => format!("a whole number of {unit} from {min} to {max}"),
            Self::Share => "a number from 0 to 1, such as 0.01".to_owned(),
            Self::Flag => "true or false".to_owned(),
            Self::Choice(words) => format!("one of {}", words.join(", ")),
            Self::Address { may_be_empty } => format!(
                "an IP address and a port, such as 127.0.0.1:8080 or [::1]:8080{}",
                or_empty(may_be_empty)
            ),
            Self::Database => {
                "an address such as postgres://user:password@host:5432/name, or empty".to_owned()
            }
            Self::Web { may_be_empty } => {
                format!(
                    "an http or https address without user name or password in it{}",
                    or_empty(may_be_empty)
                )
            }
            Self::Mail => "an address such as smtps://mail.example:465, smtp://mail.example:587 or \
                           smtp+plain://127.0.0.1:25 without user name or password in it, or empty"
                .to_owned(),
            Self::Zone => "the name of a time zone such as Asia/Ho_Chi_Minh".to_owned(),
            Self::Text { chars_max, may_be_empty } => {
                format!("text of at most {chars_max} characters{}", or_empty(may_be_empty))
            }
            Self::Secret { chars_max } => format!("text of at most {chars_max} characters, or empty"),
        }
    }

    fn accepts_text(self, text: &str) -> bool {
        // What was not UTF-8 in the environment arrives with the replacement character.
        if text.contains(['\0', char::REPLACEMENT_CHARACTER]) {
            return false;
        }
        match self {
            Self::Whole { .. } | Self::Share | Self::Flag => false,
            Self::Choice(words) => words.contains(&text),
            Self::Address { may_be_empty } => match text.is_empty() {
                true => may_be_empty,
                false => text.parse::<SocketAddr>().is_ok(),
            },
            Self::Database => {
                text.is_empty()
                    || Url::parse(text).is_ok_and(|url| {
                        matches!(url.scheme(), "postgres" | "postgresql") && !url.cannot_be_a_base()
                    })
            }
            Self::Web { may_be_empty } => match text.is_empty() {
                true => may_be_empty,
                false => Url::parse(text).is_ok_and(|url| {
                    matches!(url.scheme(), "http" | "https")
                        && url.has_host()
                        && url.username().is_empty()
                        && url.password().is_none()
                }),
            },
            Self::Mail => {
                text.is_empty()
                    || Url::parse(text).is_ok_and(|url| {
                        matches!(url.scheme(), "smtps" | "smtp" | "smtp+plain")
                            && url.has_host()
                            && url.username().is_empty()
                            && url.password().is_none()
                    })
            }
            Self::Zone => text.parse::<chrono_tz::Tz>().is_ok(),
            Self::Text { chars_max, may_be_empty } => {
                (may_be_empty || !text.trim().is_empty()) && text.chars().count() <= chars_max
            }
            Self::Secret { chars_max } => text.chars().count() <= chars_max,
        }
    }
}

fn whole_number(value: &Value) -> Option<u64> {
    match value.to_u128() {
        Some(number) => u64::try_from(number).ok(),
        None => value.to_i128().and_then(|number| u64::try_from(number).ok()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Given {
        Given::Text(text.to_owned())
    }

    #[test]
    fn text_is_read_by_the_kind_and_not_by_its_looks() {
        let secret = Kind::Secret { chars_max: 100 };
        assert_eq!(secret.check(&text("12345")).unwrap().as_str(), Some("12345"));
        assert_eq!(secret.check(&text("[a, b]")).unwrap().as_str(), Some("[a, b]"));
        assert_eq!(secret.check(&text("true")).unwrap().as_str(), Some("true"));
    }

    #[test]
    fn numbers_must_be_whole_and_within_their_limits() {
        let kind = Kind::Whole { min: 10, max: 20, unit: "ms" };
        for good in ["10", "20", " 15 "] {
            assert!(kind.check(&text(good)).is_some(), "{good}");
        }
        for bad in ["9", "21", "-15", "15.0", "1e1", "", "fifteen", "99999999999999999999"] {
            assert!(kind.check(&text(bad)).is_none(), "{bad}");
        }
        assert!(kind.check(&Given::Typed(Value::from(12))).is_some());
        assert!(kind.check(&Given::Typed(Value::from("12"))).is_none());
        assert!(kind.check(&Given::Typed(Value::from(-12))).is_none());
    }

    #[test]
    fn a_share_is_a_number_from_none_to_all() {
        for good in ["0", "1", "0.01", " 1e-3 ", "1.0"] {
            assert!(Kind::Share.check(&text(good)).is_some(), "{good}");
        }
        for bad in ["", "-0.1", "1.1", "NaN", "inf", "1%", "half"] {
            assert!(Kind::Share.check(&text(bad)).is_none(), "{bad}");
        }
        assert!(Kind::Share.check(&Given::Typed(Value::from(0.5))).is_some());
        assert!(Kind::Share.check(&Given::Typed(Value::from(1))).is_some());
        assert!(Kind::Share.check(&Given::Typed(Value::from("0.5"))).is_none());
    }

    #[test]
    fn addresses_of_each_kind_are_told_apart() {
        let address = Kind::Address { may_be_empty: false };
        assert!(address.check(&text("[::]:0")).is_some());
        assert!(address.check(&text("localhost")).is_none());
        assert!(address.check(&text("")).is_none());
        assert!(Kind::Address { may_be_empty: true }.check(&text("")).is_some());
        assert!(Kind::Database.check(&text("postgres://me@%2Ftmp%2Fx/db")).is_some());
        assert!(Kind::Database.check(&text("postgres:///db?host=/tmp/x")).is_some());
        assert!(Kind::Database.check(&text("mysql://me@db/x")).is_none());
        let web = Kind::Web { may_be_empty: true };
        assert!(web.check(&text("")).is_some());
        assert!(web.check(&text("https://meter.example/v1")).is_some());
        assert!(web.check(&text("https://me:pw@meter.example")).is_none());
        assert!(web.check(&text("ftp://meter.example")).is_none());
        assert!(Kind::Mail.check(&text("")).is_some());
        assert!(Kind::Mail.check(&text("smtps://mail.example")).is_some());
        assert!(Kind::Mail.check(&text("smtp+plain://127.0.0.1:1025")).is_some());
        assert!(Kind::Mail.check(&text("smtp://me:pw@mail.example")).is_none());
        assert!(Kind::Mail.check(&text("https://mail.example")).is_none());
    }
}
