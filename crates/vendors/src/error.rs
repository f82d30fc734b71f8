//! How calls to vendors fail.

use std::time::Duration;

/// A vendor cannot be called at all, because of its settings.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The base address is not an absolute http or https address.
    #[error("the address of {vendor} is not an absolute http(s) URL: {reason}")]
    BaseUrl {
        /// Which vendor.
        vendor: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The token cannot stand in a header.
    #[error("the token of {vendor} is empty or holds characters that a header cannot carry")]
    Token {
        /// Which vendor.
        vendor: &'static str,
    },
    /// The mail server's settings make no sense.
    #[error("the settings of the mail server cannot be used: {reason}")]
    Mail {
        /// What is wrong with them.
        reason: String,
    },
    /// The HTTP client cannot be built; usually the machine has no certificate store.
    #[error("the HTTP client of {vendor} cannot be built")]
    Client {
        /// Which vendor.
        vendor: &'static str,
        /// What the client library says.
        source: reqwest::Error,
    },
}

/// A call to a vendor did not give what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum VendorError {
    /// The whole call's deadline passed.
    #[error("the vendor did not answer in time")]
    Timeout,
    /// No connection came about, or it ended before an answer.
    #[error("the connection to the vendor failed")]
    Connect {
        /// What the client library says, without the address.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The vendor wants fewer calls.
    #[error("the vendor limits the rate of calls")]
    RateLimited {
        /// How long it wants us to wait, when it says so.
        retry_after: Option<Duration>,
    },
    /// The vendor failed by itself: 5xx, and the few 4xx that mean the same.
    #[error("the vendor failed with status {status}")]
    Server {
        /// The status it answered.
        status: u16,
        /// How long it wants us to wait, when it says so.
        retry_after: Option<Duration>,
    },
    /// What came is not what the vendor's format allows: broken off, no JSON, too large, values out of bounds.
    #[error("the vendor's answer cannot be used: {detail}")]
    Malformed {
        /// Which rule it breaks. Never holds contact details or tokens.
        detail: String,
    },
    /// There is no such profile. A final answer.
    #[error("the vendor knows no such profile")]
    NotFound,
    /// The profile shows nothing without permission. A final answer.
    #[error("the profile is private")]
    Private,
    /// The request itself is not accepted, by the vendor or, before sending, by its rules.
    #[error("the vendor refused the request with status {status} ({code}): {message}")]
    Rejected {
        /// The status it answered, or would have.
        status: u16,
        /// Its code for the reason.
        code: String,
        /// Its words, shortened. For operators, never for partners.
        message: String,
    },
    /// The token is missing, wrong or expired.
    #[error("the vendor does not accept the token")]
    Unauthorized,
    /// The [gate](crate::Gate) let no try through: nothing was sent.
    #[error("no call to the vendor was permitted")]
    NotPermitted {
        /// What the gate said.
        source: crate::Refused,
    },
}

impl VendorError {
    /// Whether the same request may succeed later. True for [`VendorError::Unauthorized`] as well: an operator can
    /// mend the token, and jobs should outlive that; their attempts are bounded anyway.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Timeout
            | Self::Connect { .. }
            | Self::RateLimited { .. }
            | Self::Server { .. }
            | Self::Malformed { .. }
            | Self::Unauthorized
            | Self::NotPermitted { .. } => true,
            Self::NotFound | Self::Private | Self::Rejected { .. } => false,
        }
    }

    /// How long the vendor wants us to wait before another call, when it said so.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after } | Self::Server { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether to try again at once, inside the call: only what tends to pass within a second, and never against the
    /// vendor's wish. A timeout has used up the call's time, and a rate limit lasts longer.
    pub(crate) fn is_brief(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Malformed { .. } => true,
            Self::Server { retry_after, .. } => retry_after.is_none(),
            _ => false,
        }
    }

    /// A short name for metrics and records.
    pub fn outcome(&self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Connect { .. } => "connect",
            Self::RateLimited { .. } => "rate_limited",
            Self::Server { .. } => "server",
            Self::Malformed { .. } => "malformed",
            Self::NotFound => "not_found",
            Self::Private => "private",
            Self::Rejected { .. } => "rejected",
            Self::Unauthorized => "unauthorized",
            Self::NotPermitted { .. } => "not_permitted",
        }
    }

    pub(crate) fn malformed(detail: impl Into<String>) -> Self {
        Self::Malformed { detail: detail.into() }
    }
}
