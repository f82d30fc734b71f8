//! What operators do from the command line, by the real binary.

mod audit;
mod drill;
mod jobs;
mod serving;
mod steering;

use serde_json::Value;

use crate::support::{MillpondProcess, TestDb};

/// A meter that nobody listens at.
const METER: [(&str, &str); 2] =
    [("MILLPOND_METER__URL", "http://127.0.0.1:9/meter"), ("MILLPOND_METER__TOKEN", "a token")];

fn json(db: &TestDb, line: &[&str]) -> Value {
    serde_json::from_str(&MillpondProcess::output(db, &[line, &["--json"]].concat())).unwrap()
}

/// What a command that fails says, what it shows all the same, and its exit code.
fn refusal(db: &TestDb, line: &[&str]) -> (Value, String, Option<i32>) {
    use std::process::{Command, Stdio};
    let mut command = Command::new(crate::support::BINARY);
    command.args(line).arg("--json").envs(db.variables());
    command.env("MILLPOND_ENCRYPTION__KEYS", crate::support::keyring().to_text());
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let said = said.lines().last().and_then(|line| serde_json::from_str(line).ok());
    (said.unwrap_or_default(), String::from_utf8(output.stdout).unwrap(), output.status.code())
}
