//! `millpond audit export`: the log as a file, written as it is read, a page at a time.

use std::io::{self, BufWriter, ErrorKind, Write};

use audit::{Order, Recorded};
use clap::{Args, ValueEnum};
use db::Pool;

use super::{FilterArgs, as_json};
use crate::commands::jobs::instant;
use crate::error::CliError;
use crate::output::Output;
use crate::runtime::reading;

/// Entries read at once.
const PAGE_ROWS: usize = 1_000;
/// The columns of the CSV.
const COLUMNS: [&str; 11] =
    ["id", "at", "actorKind", "actor", "action", "target", "tenant", "before", "after", "requestId", "seq"];

/// Arguments of `audit export`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  millpond audit export --since 2026-11-01T00:00:00Z --before 2026-12-01T00:00:00Z > november.jsonl
  millpond audit export --format csv --action partners. > partners.csv

In CSV, a value that a spreadsheet would take for a formula begins with an apostrophe.")]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// Lines of JSON, or CSV with a header
    #[arg(long, value_enum, default_value_t = Format::Jsonl)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Jsonl,
    Csv,
}

/// Writes the log to stdout.
pub(super) async fn run(pool: &Pool, output: Output, arguments: &ExportArgs) -> Result<(), CliError> {
    if output.is_json() && arguments.format == Format::Csv {
        return Err(CliError::Usage("--json and --format csv are two formats: choose one".to_owned()));
    }
    let mut sink = Sink::new(arguments.format);
    let mut after = None;
    loop {
        // A transaction for each page: a reader that takes its time holds nothing open.
        let page = {
            let mut tx = reading(pool).await?;
            let filter = arguments.filter.filter(&mut tx).await?;
            audit::list(&mut tx, &filter, Order::Oldest, after, PAGE_ROWS).await?
        };
        match sink.write(&page.entries) {
            // A reader that went away (`| head`) is no reason to fail.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            written => written.map_err(|error| CliError::part("writing the export", error))?,
        }
        after = page.next;
        if after.is_none() {
            return Ok(());
        }
    }
}

enum Sink {
    Jsonl(BufWriter<io::Stdout>),
    Csv(Box<csv::Writer<io::Stdout>>, bool),
}

impl Sink {
    fn new(format: Format) -> Self {
        match format {
            Format::Jsonl => Self::Jsonl(BufWriter::new(io::stdout())),
            Format::Csv => Self::Csv(Box::new(csv::Writer::from_writer(io::stdout())), false),
        }
    }

    fn write(&mut self, entries: &[Recorded]) -> io::Result<()> {
        match self {
            Self::Jsonl(out) => {
                for entry in entries {
                    writeln!(out, "{}", as_json(entry))?;
                }
                out.flush()
            }
            Self::Csv(out, has_header) => {
                if !std::mem::replace(has_header, true) {
                    out.write_record(COLUMNS)?;
                }
                for entry in entries {
                    out.write_record(cells(entry))?;
                }
                out.flush()
            }
        }
    }
}

fn cells(entry: &Recorded) -> [String; COLUMNS.len()] {
    let value =
        |value: &Option<serde_json::Value>| value.as_ref().map(ToString::to_string).unwrap_or_default();
    [
        entry.id.to_string(),
        instant(entry.at),
        entry.actor_kind.clone(),
        entry.actor.clone(),
        entry.action.clone(),
        entry.target.clone(),
        entry.tenant.to_string(),
        value(&entry.before),
        value(&entry.after),
        entry.request_id.clone().unwrap_or_default(),
        entry.seq.map(|seq| seq.to_string()).unwrap_or_default(),
    ]
    .map(harmless)
}

/// A cell that no spreadsheet takes for a formula.
fn harmless(cell: String) -> String {
    match cell.chars().next() {
        Some('=' | '+' | '-' | '@' | '\t' | '\r' | '\n') => format!("'{cell}"),
        _ => cell,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_is_a_formula() {
        for cell in ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"] {
            assert_eq!(harmless(cell.to_owned()), format!("'{cell}"));
        }
        for cell in ["", "enrich", "{\"a\":-1}", "a=1"] {
            assert_eq!(harmless(cell.to_owned()), cell);
        }
    }
}
