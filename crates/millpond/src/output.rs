//! What people and programs read: results on stdout, everything else on stderr.
//!
//! With `--json`, stdout carries exactly one JSON value and a failure is one JSON object on one line of stderr.

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
        match self.json {
            true => line(&json!({"status": "ready", "url": url, "sandboxUrl": sandbox}).to_string()),
            false => line(&format!("ready url={url}")),
        }
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

/// A reader that went away (`| head`) is no reason to fail.
fn line(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
}
