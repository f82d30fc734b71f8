//! What people and programs read: results on stdout, everything else on stderr.
//!
//! With `--json`, stdout carries exactly one JSON value, unless a command goes on (`--watch`, `audit export`): then one on each
//! line. A failure is one JSON object on one line of stderr.

use std::io::{self, Write};
use std::process::ExitCode;

use serde::Serialize;
use serde_json::json;

use crate::error::CliError;

/// How results are shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    /// As JSON or as text.
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether programs read it.
    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// Shows a command's result.
    pub(crate) fn show<T: Serialize>(self, value: &T, text: impl FnOnce() -> String) -> Result<(), CliError> {
        let text = match self.json {
            true => serde_json::to_string_pretty(value).map_err(|error| CliError::part("JSON", error))?,
            false => text(),
        };
        line(&text);
        Ok(())
    }

    /// Shows that requests are served: the one line on stdout of a process that serves.
    pub(crate) fn ready(self, url: &str, sandbox: Option<&str>) {
        line(&match self.json {
            true => json!({"status": "ready", "url": url, "sandboxUrl": sandbox}).to_string(),
            false => format!("ready url={url}"),
        });
    }
}

/// A line on stderr for the person who watches.
pub(crate) fn tell(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Shows why a command failed and answers its exit code.
pub(crate) fn failure(error: &CliError, as_json: bool) -> ExitCode {
    if as_json {
        let details: Vec<_> = error
            .faults()
            .into_iter()
            .map(|(field, message)| json!({"field": field, "message": message}))
            .collect();
        let causes = error.causes();
        let error =
            json!({"code": error.code(), "message": error.to_string(), "details": details, "causes": causes});
        tell(&json!({"success": false, "error": error}).to_string());
    } else {
        let mut text = format!("error: {error}");
        for cause in error.causes() {
            text.push_str("\n  because: ");
            text.push_str(&cause);
        }
        tell(&text);
    }
    ExitCode::from(error.exit_code())
}

/// The same for a command line that cannot be understood.
pub(crate) fn usage_as_json(message: &str) -> ExitCode {
    let message = message.trim().trim_start_matches("error: ");
    tell(&json!({"success": false, "error": {"code": "USAGE", "message": message}}).to_string());
    ExitCode::from(2)
}

/// Writes a line. A reader that went away (`| head`) is no reason to fail; whether it is there is the answer.
pub(crate) fn line(text: &str) -> bool {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}").and_then(|()| stdout.flush()).is_ok()
}
