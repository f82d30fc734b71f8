//! What is wrong with the settings, all at once.

use std::fmt;

use crate::load::Origin;

/// One thing wrong with one setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The environment variable that sets the field, e.g. `MILLPOND_HTTP__LISTEN`.
    pub variable: String,
    /// The offending value as it may be shown; nothing when the name itself is the fault.
    pub value: Option<String>,
    /// Where the value came from.
    pub origin: Origin,
    /// What is allowed, or what to do instead.
    pub allowed: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.variable)?;
        if let Some(value) = &self.value {
            write!(out, " = {value}")?;
        }
        write!(out, " ({}): {}", self.origin, self.allowed)
    }
}

/// The settings cannot be used; every fault found is listed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct SettingsError {
    /// The faults, in the order the sources are read.
    pub faults: Vec<Fault>,
}

impl fmt::Display for SettingsError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.faults.len() {
            1 => write!(out, "one setting is wrong:")?,
            count => write!(out, "{count} settings are wrong:")?,
        }
        for fault in &self.faults {
            write!(out, "\n  {fault}")?;
        }
        Ok(())
    }
}
