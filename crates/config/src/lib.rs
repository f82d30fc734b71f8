//! Millpond's settings: one commented file of defaults, overridable by file, environment and command line.
//!
//! Guarantees: a [`Settings`] value is complete and within its limits. Loading reports every fault at once,
//! each with the variable, the value (masked when secret) and what is allowed, and refuses names it does not
//! know: a misspelt setting never passes silently. Secrets show as `***` in `Debug` and when serialised.
//!
//! To add a setting: its line in `defaults.toml`, its field in `settings.rs`, its limits in `fields.rs`. A test
//! keeps the three together.

mod fault;
mod fields;
mod load;
mod secret;
mod settings;

pub use fault::{Fault, SettingsError};
pub use load::{Origin, Sources};
pub use secret::{DatabaseUrl, Secret};
pub use settings::{
    ApiSettings, DataSettings, DatabaseSettings, EncryptionSettings, HttpSettings, LogFormat, LogSettings,
    MeterSettings, MetricsSettings, OidcSettings, PartnerSettings, QueueSettings, SchedulerSettings,
    Settings, SmtpSettings, WebhookSettings, WorkerSettings,
};

/// The commented defaults, as shipped.
pub const DEFAULTS: &str = include_str!("../defaults.toml");

/// The environment variable of a field: `http.listen` → `MILLPOND_HTTP__LISTEN`.
pub fn variable(path: &str) -> String {
    format!("{}{}", load::PREFIX, path.to_ascii_uppercase().replace('.', "__"))
}
