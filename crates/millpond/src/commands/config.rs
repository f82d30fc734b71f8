//! `millpond config`: the effective settings, where each comes from, and new encryption keys.

use clap::Args;
use config::{Origin, Settings, variable};
use kernel::sealing::Keyring;
use serde_json::{Value, json};

use crate::cli::Globals;
use crate::error::CliError;
use crate::output::Output;
use crate::runtime::settings;

/// Arguments of `config`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  millpond config                      every setting with its variable, value and origin
  millpond config --json               the values by section
  millpond config --defaults           the commented file of defaults
  export MILLPOND_ENCRYPTION__KEYS=\"$(millpond config --generate-key)\"")]
pub(crate) struct ConfigArgs {
    /// Print new encryption keys instead, for MILLPOND_ENCRYPTION__KEYS
    #[arg(long)]
    generate_key: bool,
    /// Print the commented defaults instead
    #[arg(long, conflicts_with = "generate_key")]
    defaults: bool,
}

/// Shows what was asked for. Needs no database.
pub(crate) fn run(globals: &Globals, arguments: &ConfigArgs) -> Result<(), CliError> {
    let output = Output::new(globals.json);
    if arguments.generate_key {
        let keys = Keyring::generate().to_text();
        return output.show(&json!({ "keys": keys.trim() }), || keys.trim().to_owned());
    }
    if arguments.defaults {
        return output
            .show(&json!({ "defaults": config::DEFAULTS }), || config::DEFAULTS.trim_end().to_owned());
    }
    let settings = settings::load(&settings::sources(globals, None))?;
    output.show(&settings.masked(), || lines(&settings))
}

/// One line a setting, in the syntax of a shell, with its origin unless that is the default.
fn lines(settings: &Settings) -> String {
    let Value::Object(sections) = settings.masked() else { return String::new() };
    let mut lines = Vec::new();
    for (section, fields) in sections {
        let Value::Object(fields) = fields else { continue };
        for (field, value) in fields {
            let path = format!("{section}.{field}");
            let value = match value {
                Value::Null => String::new(),
                Value::String(text) => text,
                other => other.to_string(),
            };
            let origin = settings.origins().get(&path).filter(|origin| **origin != Origin::Defaults);
            let origin = origin.map(|origin| format!("   # {origin}")).unwrap_or_default();
            lines.push(format!("{}={value}{origin}", variable(&path)));
        }
    }
    lines.join("\n")
}
