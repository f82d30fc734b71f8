//! What lies in `deploy/` and `docs/` for operators, held against what there really is: metrics, commands, settings, files.

mod containers;
mod exported;
mod manual;
mod queries;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::BINARY;

/// A file of the workspace.
fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name)
}

fn text(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Whether the binary understands a command line, without carrying it out.
fn is_understood(arguments: &[&str]) -> Result<(), String> {
    let mut command = Command::new(BINARY);
    command.args(arguments).arg("--help").env_clear().stdin(Stdio::null());
    let output = command.output().expect("the binary runs");
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr))),
    }
}

/// One alert of the rules.
struct Alert {
    name: String,
    expr: String,
    severity: String,
    runbook: String,
}

fn alerts() -> Vec<Alert> {
    let rules: yaml_serde::Value = yaml_serde::from_str(&text("deploy/prometheus/alerts.yml")).unwrap();
    let groups = rules["groups"].as_sequence().expect("groups");
    let rules = groups.iter().flat_map(|group| group["rules"].as_sequence().expect("rules"));
    let word = |value: &yaml_serde::Value| value.as_str().expect("text").to_owned();
    let alerts = rules.map(|rule| Alert {
        name: word(&rule["alert"]),
        expr: word(&rule["expr"]),
        severity: word(&rule["labels"]["severity"]),
        runbook: word(&rule["annotations"]["runbook_url"]),
    });
    alerts.collect()
}
