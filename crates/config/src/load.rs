//! Loading: defaults < file < environment < command line, every fault reported at once.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use figment::providers::{Format, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};

use crate::fault::{Fault, SettingsError};
use crate::fields::{FIELDS, Given, Kind, find};
use crate::settings::Settings;
use crate::{DEFAULTS, variable};

/// What the name of every variable begins with.
pub(crate) const PREFIX: &str = "MILLPOND_";
/// The variable that names the settings file.
const FILE_VARIABLE: &str = "MILLPOND_CONFIG";
/// The conventional name for the database's address.
const DATABASE_VARIABLE: &str = "DATABASE_URL";
/// A settings file larger than this is not one.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(into = "String")]
pub enum Origin {
    /// The built-in `defaults.toml`.
    Defaults,
    /// The settings file.
    File(PathBuf),
    /// The environment.
    Environment,
    /// The command line.
    CommandLine,
}

impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Defaults => out.write_str("defaults"),
            Self::File(path) => write!(out, "file {}", path.display()),
            Self::Environment => out.write_str("environment"),
            Self::CommandLine => out.write_str("command line"),
        }
    }
}

impl From<Origin> for String {
    fn from(origin: Origin) -> Self {
        origin.to_string()
    }
}

/// What settings are made from, beside the defaults. The default value of this type is "nothing but the defaults".
#[derive(Clone, Default)]
pub struct Sources {
    /// Environment variables; those that are not Millpond's are ignored.
    pub environment: Vec<(String, String)>,
    /// Fields set on the command line: `("http.listen", "0.0.0.0:80")`. The last of several wins.
    pub overrides: Vec<(String, String)>,
}

impl Sources {
    /// The environment of this process, without overrides.
    pub fn from_process() -> Self {
        let environment = std::env::vars_os()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
            .collect();
        Self { environment, overrides: Vec::new() }
    }

    /// The same with one field set as by the command line.
    pub fn with(mut self, path: &str, value: impl Into<String>) -> Self {
        self.overrides.push((path.to_owned(), value.into()));
        self
    }

    fn variable(&self, name: &str) -> Option<&str> {
        self.environment.iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, v)| v.as_str())
    }
}

impl Settings {
    /// Merges the sources over the defaults. On failure nothing is half-loaded: every fault of every source is
    /// in the error.
    pub fn load(sources: &Sources) -> Result<Self, SettingsError> {
        let mut faults = Vec::new();
        let mut figment = Figment::new();
        for layer in layers(sources, &mut faults) {
            figment = figment.merge(Checked::from(layer, &mut faults));
        }
        if !faults.is_empty() {
            return Err(SettingsError { faults });
        }
        let mut settings: Settings = figment.extract().map_err(mismatch)?;
        settings.origins = origins(&figment, sources);
        let faults = disagreements(&settings);
        if faults.is_empty() { Ok(settings) } else { Err(SettingsError { faults }) }
    }
}

/// One source's values by field path, not yet checked.
struct Layer {
    origin: Origin,
    values: Vec<(String, Given)>,
}

fn layers(sources: &Sources, faults: &mut Vec<Fault>) -> Vec<Layer> {
    let mut layers = Vec::new();
    match flatten(DEFAULTS) {
        Ok(values) => layers.push(Layer { origin: Origin::Defaults, values }),
        Err(reason) => faults.push(unreadable("defaults.toml", Origin::Defaults, reason)),
    }
    if let Some(path) = sources.variable(FILE_VARIABLE).map(PathBuf::from) {
        match read_file(&path).and_then(|text| flatten(&text)) {
            Ok(values) => layers.push(Layer { origin: Origin::File(path), values }),
            Err(reason) => {
                faults.push(unreadable(&path.display().to_string(), Origin::Environment, reason));
            }
        }
    }
    layers.push(Layer { origin: Origin::Environment, values: environment(sources, faults) });
    let overrides = sources.overrides.iter().map(|(path, value)| (path.clone(), Given::Text(value.clone())));
    layers.push(Layer { origin: Origin::CommandLine, values: overrides.collect() });
    layers
}

fn unreadable(file: &str, origin: Origin, reason: String) -> Fault {
    Fault {
        variable: FILE_VARIABLE.to_owned(),
        value: Some(file.to_owned()),
        origin,
        allowed: format!("must name a readable TOML file: {reason}"),
    }
}

fn read_file(path: &Path) -> Result<String, String> {
    let bytes = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(format!("{bytes} bytes are more than the {FILE_BYTES_MAX} allowed"));
    }
    std::fs::read_to_string(path).map_err(|error| error.to_string())
}

/// The fields of a TOML text: `[http] listen = …` becomes `http.listen`.
fn flatten(text: &str) -> Result<Vec<(String, Given)>, String> {
    // TOML's messages quote the line, which may hold a secret: only say where it is.
    let data = Toml::string(text).data().map_err(|error| {
        let message = error.to_string();
        message.lines().next().unwrap_or("not TOML").to_owned()
    })?;
    let mut values = Vec::new();
    for (section, value) in data.into_values().flatten() {
        match value {
            Value::Dict(_, fields) => {
                values.extend(
                    fields
                        .into_iter()
                        .map(|(name, value)| (format!("{section}.{name}"), Given::Typed(value))),
                );
            }
            other => values.push((section, Given::Typed(other))),
        }
    }
    Ok(values)
}

fn environment(sources: &Sources, faults: &mut Vec<Fault>) -> Vec<(String, Given)> {
    let mut values = Vec::new();
    if let Some(url) = sources.variable(DATABASE_VARIABLE) {
        values.push(("database.url".to_owned(), Given::Text(url.to_owned())));
    }
    for (name, value) in &sources.environment {
        if !name.starts_with(PREFIX) || name == FILE_VARIABLE {
            continue;
        }
        match FIELDS.iter().find(|field| variable(field.path) == *name) {
            Some(field) => values.push((field.path.to_owned(), Given::Text(value.clone()))),
            None => faults.push(unknown(name.clone(), Origin::Environment)),
        }
    }
    values
}

fn unknown(name: String, origin: Origin) -> Fault {
    let known = FIELDS.iter().map(|field| variable(field.path)).chain([FILE_VARIABLE.to_owned()]);
    let closest = known.map(|known| (distance(&name, &known), known)).min();
    let allowed = match closest {
        Some((distance, known)) if distance * 3 <= name.chars().count() => {
            format!("no such setting; did you mean {known}?")
        }
        _ => "no such setting; `millpond config` lists them all".to_owned(),
    };
    Fault { variable: name, value: None, origin, allowed }
}

/// How many characters differ (Levenshtein), letter case aside.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.to_ascii_uppercase().chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, l) in left.to_ascii_uppercase().chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, r) in right.iter().enumerate() {
            let substituted = diagonal + usize::from(l != *r);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

/// A layer whose values have passed their checks; what did not has become a fault.
struct Checked {
    origin: Origin,
    sections: Dict,
}

impl Checked {
    fn from(layer: Layer, faults: &mut Vec<Fault>) -> Self {
        let mut sections = BTreeMap::<String, Dict>::new();
        for (path, given) in layer.values {
            let Some(field) = find(&path) else {
                faults.push(unknown(variable(&path), layer.origin.clone()));
                continue;
            };
            match (field.kind.check(&given), path.split_once('.')) {
                (Some(value), Some((section, name))) => {
                    sections.entry(section.to_owned()).or_default().insert(name.to_owned(), value);
                }
                _ => faults.push(Fault {
                    variable: variable(&path),
                    value: Some(given.shown(field.kind)),
                    origin: layer.origin.clone(),
                    allowed: format!("must be {}", field.kind.allowed()),
                }),
            }
        }
        let sections = sections.into_iter().map(|(name, fields)| (name, Value::from(fields))).collect();
        Self { origin: layer.origin, sections }
    }
}

impl Provider for Checked {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.origin.to_string())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Map::from([(Profile::Default, self.sections.clone())]))
    }
}

/// The checks above leave nothing for this to report, unless a field's limits do not fit its type.
fn mismatch(error: figment::Error) -> SettingsError {
    let faults = error.into_iter().map(|error| Fault {
        variable: variable(&error.path.join(".")),
        value: None,
        origin: Origin::Defaults,
        allowed: error.kind.to_string(),
    });
    SettingsError { faults: faults.collect() }
}

fn origins(figment: &Figment, sources: &Sources) -> BTreeMap<String, Origin> {
    let file = sources.variable(FILE_VARIABLE).map(|path| Origin::File(PathBuf::from(path)));
    let known = [Origin::Environment, Origin::CommandLine].into_iter().chain(file);
    let known: Vec<Origin> = known.collect();
    let origin_of = |path: &str| {
        let name = &figment.find_metadata(path)?.name;
        known.iter().find(|origin| origin.to_string() == **name).cloned()
    };
    FIELDS
        .iter()
        .map(|field| (field.path.to_owned(), origin_of(field.path).unwrap_or(Origin::Defaults)))
        .collect()
}

/// Rules between fields.
fn disagreements(settings: &Settings) -> Vec<Fault> {
    let mut faults = Vec::new();
    let held_ms = settings.http.wait_s_max * 1_000;
    if settings.http.request_timeout_ms <= held_ms {
        faults.push(disagreement(
            settings,
            "http.request_timeout_ms",
            settings.http.request_timeout_ms.to_string(),
            format!("must be more than the {held_ms} ms of MILLPOND_HTTP__WAIT_S_MAX"),
        ));
    }
    let http = &settings.http;
    for (given, other, path) in [
        (&http.tls_key, &http.tls_certificate, "http.tls_certificate"),
        (&http.tls_certificate, &http.tls_key, "http.tls_key"),
    ] {
        if given.is_some() && other.is_none() {
            let allowed = "must be given too: a certificate and its key go together".to_owned();
            faults.push(disagreement(settings, path, String::new(), allowed));
        }
    }
    faults
}

fn disagreement(settings: &Settings, path: &str, value: String, allowed: String) -> Fault {
    let origin = settings.origins.get(path).cloned().unwrap_or(Origin::Defaults);
    debug_assert!(find(path).is_some_and(|field| !matches!(field.kind, Kind::Secret { .. })));
    Fault { variable: variable(path), value: Some(value), origin, allowed }
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
