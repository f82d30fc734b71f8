//! The settings as values. What each means, with its unit, stands in `defaults.toml`; its limits in `fields.rs`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::load::Origin;
use crate::secret::{DatabaseUrl, Secret};

/// Everything that can be set. Made by [`Settings::load`](crate::Settings::load).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The connection to PostgreSQL.
    pub database: DatabaseSettings,
    /// The data folder.
    pub data: DataSettings,
    /// The HTTP server.
    pub http: HttpSettings,
    /// The API behind it.
    pub api: ApiSettings,
    /// Partners.
    pub partners: PartnerSettings,
    /// The workers of one process.
    pub worker: WorkerSettings,
    /// The queue engine; the same in every process.
    pub queue: QueueSettings,
    /// The scheduler.
    pub scheduler: SchedulerSettings,
    /// Webhook deliveries.
    pub webhooks: WebhookSettings,
    /// The profile meter, the vendor of profiles.
    pub meter: MeterSettings,
    /// The mail server.
    pub smtp: SmtpSettings,
    /// Single sign-on.
    pub oidc: OidcSettings,
    /// Showing metrics.
    pub metrics: MetricsSettings,
    /// Encryption of what is stored sealed.
    pub encryption: EncryptionSettings,
    /// Traces.
    pub trace: TraceSettings,
    /// Error reports.
    pub sentry: SentrySettings,
    /// Logging.
    pub log: LogSettings,
    #[serde(skip)]
    pub(crate) origins: BTreeMap<String, Origin>,
}

impl Settings {
    /// The effective values as JSON, secrets masked.
    pub fn masked(&self) -> serde_json::Value {
        // Only maps with text keys and plain values are inside, so this cannot fail; Null would show it if it did.
        serde_json::to_value(self).unwrap_or_default()
    }

    /// Where each field (`http.listen`) got its value from.
    pub fn origins(&self) -> &BTreeMap<String, Origin> {
        &self.origins
    }
}

/// The connection to PostgreSQL.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseSettings {
    /// The server to use; none: a private one is started in the data folder.
    #[serde(deserialize_with = "empty_is_none")]
    pub url: Option<DatabaseUrl>,
    /// Most connections one process opens.
    pub connections_max: u32,
    /// Longest wait for a free connection.
    pub acquire_timeout_ms: u64,
    /// Whether prepared statements are kept.
    pub prepared: bool,
    /// Whether LISTEN/NOTIFY is used.
    pub listen: bool,
    /// Where PostgreSQL's programs are obtained from.
    pub programs_address: String,
}

/// The data folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSettings {
    /// The folder; empty when nobody named one.
    #[serde(serialize_with = "folder_as_text")]
    pub dir: PathBuf,
}

/// The HTTP server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpSettings {
    /// Where it listens.
    pub listen: SocketAddr,
    /// How people reach it; none: at the address it listens on.
    #[serde(deserialize_with = "empty_is_none")]
    pub public_url: Option<String>,
    /// Connections served at once.
    pub connections_max: usize,
    /// A request head must have arrived by then.
    pub header_read_timeout_ms: u64,
    /// A client must take something of its answer within this time.
    pub write_timeout_ms: u64,
    /// The file of the certificates; none: no TLS.
    #[serde(deserialize_with = "empty_is_none")]
    pub tls_certificate: Option<PathBuf>,
    /// The file of the certificate's key.
    #[serde(deserialize_with = "empty_is_none")]
    pub tls_key: Option<PathBuf>,
    /// Whether a proxy in front ends TLS.
    pub behind_tls_proxy: bool,
    /// Longest handling of one request.
    pub request_timeout_ms: u64,
    /// Largest request body.
    pub body_bytes_max: usize,
    /// Longest time an answer is held open.
    pub wait_s_max: u64,
    /// Longest time requests may take to end on shutdown.
    pub drain_timeout_s: u64,
}

/// The API behind the HTTP server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiSettings {
    /// How long a partner's credentials may be remembered.
    pub key_cache_ms: u64,
}

/// Partners.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartnerSettings {
    /// Where months of quota begin.
    pub quota_time_zone: chrono_tz::Tz,
}

/// The workers of one process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerSettings {
    /// Jobs of the queue `enrich` at once.
    pub concurrency_enrich: usize,
    /// Jobs of the queue `webhooks` at once.
    pub concurrency_webhooks: usize,
    /// Jobs of the queue `maintenance` at once.
    pub concurrency_maintenance: usize,
    /// Longest idle wait before looking for work, before jitter.
    pub poll_ms: u64,
    /// Jobs acknowledged in one statement at the most.
    pub acknowledged_max: usize,
    /// Statements under way at once, by queue.
    pub turn_connections: usize,
    /// Longest time running jobs may take to end on shutdown.
    pub drain_timeout_s: u64,
}

/// The queue engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueueSettings {
    /// Silence after which a worker process loses its jobs.
    pub lease_ms: u64,
    /// How often lost jobs are looked for.
    pub sweep_ms: u64,
    /// How long finished jobs stay readable.
    pub retention_days: u32,
    /// Age from which an open transaction is reported, in seconds.
    pub oldest_transaction_warn_s: u64,
}

impl QueueSettings {
    /// How often a process shows a sign of life: five times a lease, so that four may be lost.
    pub fn heartbeat_ms(&self) -> u64 {
        (self.lease_ms / 5).max(1)
    }
}

/// The scheduler.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SchedulerSettings {
    /// Whether `up` runs it.
    pub enabled: bool,
    /// Longest time between two looks at what is due.
    pub look_ms: u64,
    /// How late a tick may be stored and still not count as missed.
    pub missed_after_s: u64,
}

/// Webhook deliveries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookSettings {
    /// Longest duration of one attempt.
    pub timeout_ms: u64,
    /// Whether callbacks to this very machine are accepted.
    pub allow_loopback: bool,
}

/// The profile meter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeterSettings {
    /// Its address; none: no vendor is configured.
    #[serde(deserialize_with = "empty_is_none")]
    pub url: Option<String>,
    /// The bearer token it is called with.
    #[serde(deserialize_with = "empty_is_none")]
    pub token: Option<Secret>,
    /// Longest duration of one call.
    pub timeout_ms: u64,
    /// How long a crawled profile counts as fresh.
    pub cache_hours: u32,
    /// A profile that was not found within this time is not asked for again, in seconds.
    pub missing_cache_s: u32,
    /// Calls in one window, all workers together; 0: no limit.
    pub calls_max: u32,
    /// That window.
    pub window_ms: u64,
    /// Calls under way at once, all workers together; 0: no limit.
    pub concurrency_max: u32,
}

/// The mail server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SmtpSettings {
    /// Its address, which says how the line is protected; none: no mail can be sent.
    #[serde(deserialize_with = "empty_is_none")]
    pub url: Option<String>,
    /// The account there.
    #[serde(deserialize_with = "empty_is_none")]
    pub username: Option<String>,
    /// Its password.
    #[serde(deserialize_with = "empty_is_none")]
    pub password: Option<Secret>,
    /// Whom mail is from.
    pub from: String,
    /// Longest time to hand over one letter.
    pub timeout_ms: u64,
}

/// Single sign-on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OidcSettings {
    /// The provider; none: people sign in with passwords alone.
    #[serde(deserialize_with = "empty_is_none")]
    pub issuer: Option<String>,
    /// Who we are there.
    pub client_id: String,
    /// Our secret there.
    #[serde(deserialize_with = "empty_is_none")]
    pub client_secret: Option<Secret>,
    /// The role of people whom we do not know yet; none: they may not sign in.
    #[serde(deserialize_with = "empty_is_none")]
    pub default_role: Option<String>,
    /// The mail domains of such people, separated by commas.
    pub allowed_domains: String,
    /// Longest time to ask the provider for one sign-in.
    pub timeout_ms: u64,
}

impl OidcSettings {
    /// The domains, in lower case.
    pub fn allowed_domains(&self) -> Vec<String> {
        let domains = self.allowed_domains.split(',').map(|domain| domain.trim().to_ascii_lowercase());
        domains.filter(|domain| !domain.is_empty()).collect()
    }
}

/// Showing metrics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricsSettings {
    /// Where they are shown beside the API, if anywhere.
    #[serde(deserialize_with = "empty_is_none")]
    pub listen: Option<SocketAddr>,
}

/// Encryption of what is stored sealed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncryptionSettings {
    /// The keys, as the keyring reads them; none: the key file in the data folder.
    #[serde(deserialize_with = "empty_is_none")]
    pub keys: Option<Secret>,
}

/// Traces.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceSettings {
    /// The collector; none: no trace is recorded.
    #[serde(deserialize_with = "empty_is_none")]
    pub endpoint: Option<String>,
    /// What it wants to see with every request.
    #[serde(deserialize_with = "empty_is_none")]
    pub headers: Option<Secret>,
    /// The share of traces that are recorded.
    pub sample_ratio: f64,
    /// What this installation is called there.
    pub service_name: String,
}

/// Error reports.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SentrySettings {
    /// Their receiver; none: errors are told in the log alone.
    #[serde(deserialize_with = "empty_is_none")]
    pub dsn: Option<Secret>,
    /// What this installation is called there.
    pub environment: String,
}

/// Logging.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogSettings {
    /// How lines look.
    pub format: LogFormat,
    /// What is logged, in the language of tracing's filters.
    pub filter: String,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// Text for people.
    Pretty,
}

/// TOML has no null, so an empty text stands for "not set".
fn empty_is_none<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    use serde::de::IntoDeserializer;
    let text = String::deserialize(deserializer)?;
    match text.is_empty() {
        true => Ok(None),
        false => T::deserialize(text.into_deserializer()).map(Some),
    }
}

fn folder_as_text<S: Serializer>(folder: &std::path::Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&folder.to_string_lossy())
}
