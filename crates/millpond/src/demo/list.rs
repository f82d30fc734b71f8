//! The list of creators: the one in the repository, or a person's own.
//!
//! A file with a column `url` is read by that column; otherwise its first column holds the addresses. Sizes are
//! bounded. Addresses are taken as they are: whether they are any good is for the API to say.

use std::path::Path;

use csv::{ReaderBuilder, StringRecord, Trim};
use kernel::profile_url::ProfileUrl;

use crate::error::CliError;

const EXAMPLES: &str = include_str!("../../../../examples/creators.csv");
const BYTES_MAX: u64 = 4 << 20;
const ROWS_MAX: usize = 5_000;

/// The rows of a list.
#[derive(Debug)]
pub(crate) struct List {
    /// In their order.
    pub(crate) rows: Vec<Row>,
}

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    /// The address as pasted.
    pub(crate) url: String,
    /// The profile that it names; nothing when it names none and must be refused.
    pub(crate) profile: Option<ProfileUrl>,
}

impl List {
    /// Reads a person's own file, else our examples.
    pub(crate) fn load(file: Option<&Path>) -> Result<Self, CliError> {
        let Some(path) = file else { return Self::parse(EXAMPLES) };
        let bytes = std::fs::metadata(path).map_err(CliError::file("read", path))?.len();
        if bytes > BYTES_MAX {
            return Err(CliError::Usage(format!(
                "{} has {bytes} bytes, more than the {BYTES_MAX} that are read",
                path.display()
            )));
        }
        let text = std::fs::read_to_string(path).map_err(CliError::file("read", path))?;
        Self::parse(&text)
    }

    fn parse(text: &str) -> Result<Self, CliError> {
        let text = text.trim_start_matches('\u{feff}');
        let mut reader = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .trim(Trim::All)
            .from_reader(text.as_bytes());
        let records: Vec<StringRecord> = reader
            .records()
            .collect::<Result<_, _>>()
            .map_err(|error| CliError::Usage(format!("the list is not CSV: {error}")))?;
        let header =
            records.first().and_then(|first| first.iter().position(|name| name.eq_ignore_ascii_case("url")));
        let (column, begin) = header.map_or((0, 0), |column| (column, 1));
        let urls = records.iter().skip(begin).filter_map(|record| record.get(column));
        let rows: Vec<Row> = urls.filter(|url| !url.is_empty()).map(Row::of).collect();
        match rows.len() {
            0 => Err(CliError::Usage("the list holds no address: it needs a column `url`".to_owned())),
            1..=ROWS_MAX => Ok(Self { rows }),
            count => {
                Err(CliError::Usage(format!("the list has {count} rows, more than the {ROWS_MAX} allowed")))
            }
        }
    }
}

impl Row {
    fn of(url: &str) -> Self {
        Self { url: url.to_owned(), profile: ProfileUrl::parse(url).ok() }
    }

    /// How the sandbox calls the profile: the name in lower case, or the platform's id.
    pub(crate) fn sandbox_handle(&self) -> Option<&str> {
        let key = self.profile.as_ref()?.lookup_key();
        Some(key.rsplit_once('/').map_or(key, |(_, name)| name).trim_start_matches('@'))
    }

    /// Whether the sandbox shows such a profile: it has names for the missing and the private.
    pub(crate) fn is_shown(&self) -> bool {
        self.sandbox_handle()
            .is_some_and(|handle| !handle.starts_with("private") && !handle.starts_with("missing"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_are_many_messy_and_partly_wrong_where_their_notes_say_so() {
        let list = List::load(None).unwrap();
        assert!(list.rows.iter().filter(|row| row.profile.is_some()).count() >= 60);
        let mut reader = csv::Reader::from_reader(EXAMPLES.as_bytes());
        for (row, record) in list.rows.iter().zip(reader.records()) {
            let record = record.unwrap();
            assert_eq!(row.profile.is_none(), record[1].starts_with("invalid"), "{record:?}");
        }
    }

    #[test]
    fn a_list_of_ones_own_may_have_a_header_a_mark_or_nothing() {
        for text in [
            "\u{feff}note,URL\nx, tiktok.com/@amy \n\n",
            "tiktok.com/@amy\n",
            "tiktok.com/@amy,with a note\n",
        ] {
            let list = List::parse(text).unwrap();
            assert_eq!(list.rows.len(), 1, "{text}");
            assert_eq!(list.rows[0].sandbox_handle(), Some("amy"));
        }
        assert!(List::parse("url,note\n").is_err());
    }

    #[test]
    fn the_sandboxs_names_for_profiles_that_do_not_show_are_known() {
        assert!(Row::of("tiktok.com/@amy").is_shown());
        assert!(!Row::of("tiktok.com/@missing.amy").is_shown());
        assert!(!Row::of("nonsense").is_shown());
    }
}
