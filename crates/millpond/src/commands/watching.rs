//! Lists that people keep an eye on: shown once, or anew each second until they are interrupted.

use std::io::{IsTerminal, stdout};
use std::time::Duration;

use chrono::SecondsFormat;
use clap::Args;
use serde_json::{Value, json};

use crate::error::CliError;
use crate::output::{Output, line};
use crate::runtime::Signals;

/// How often it is shown anew.
const EVERY: Duration = Duration::from_secs(1);
/// Moves a terminal's cursor home and clears what is there.
const CLEAR: &str = "\x1b[H\x1b[2J\x1b[3J";

/// Whether to go on showing.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct WatchArgs {
    /// Show it anew each second until interrupted; with --json one object a line
    #[arg(long)]
    watch: bool,
}

/// What is shown.
pub(crate) struct View {
    /// For programs.
    pub(crate) json: Value,
    /// For people.
    pub(crate) text: String,
}

impl WatchArgs {
    /// Shows what `look` sees, once or each second.
    pub(crate) async fn show(
        self,
        output: Output,
        mut look: impl AsyncFnMut() -> Result<View, CliError>,
    ) -> Result<(), CliError> {
        if !self.watch {
            let view = look().await?;
            return output.show(&view.json, || view.text);
        }
        let mut signals = Signals::listen()?;
        let at_terminal = stdout().is_terminal();
        loop {
            let view = tokio::select! {
                view = look() => view?,
                () = signals.asked() => return Ok(()),
            };
            // Whoever read it has gone.
            if !line(&frame(output, at_terminal, view)) {
                return Ok(());
            }
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = signals.asked() => return Ok(()),
            }
        }
    }
}

fn frame(output: Output, at_terminal: bool, view: View) -> String {
    let at = kernel::clock::now().to_rfc3339_opts(SecondsFormat::Millis, true);
    match (output.is_json(), at_terminal) {
        (true, _) => {
            let mut object = if view.json.is_object() { view.json } else { json!({ "items": view.json }) };
            object["at"] = at.into();
            object.to_string()
        }
        (false, true) => format!("{CLEAR}{at}\n\n{}", view.text),
        (false, false) => format!("{at}\n{}\n", view.text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_json_each_look_is_one_object_on_one_line() {
        for json in [json!([{"queue": "enrich"}]), json!({"items": [{"queue": "enrich"}]})] {
            let text = frame(Output::new(true), true, View { json, text: String::new() });
            assert!(!text.contains('\n'), "{text}");
            let object: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(object["items"][0]["queue"], "enrich");
            assert!(object["at"].is_string());
        }
    }

    #[test]
    fn a_terminal_is_cleared_and_a_file_is_not() {
        let view = || View { json: Value::Null, text: "a table".to_owned() };
        assert!(frame(Output::new(false), true, view()).starts_with(CLEAR));
        assert!(!frame(Output::new(false), false, view()).contains('\x1b'));
    }
}
