//! The tables: what came of each creator, and what was refused and why.

use std::time::Duration;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use super::submit::{Answer, Outcome};

/// Longer addresses are shortened.
const URL_CHARS_MAX: usize = 60;

/// What came of each accepted row.
pub(crate) fn of_creators(outcomes: &[Outcome]) -> String {
    let mut table = new(&["handle", "platform", "followers", "score", "attempts", "time", "callback"]);
    for outcome in outcomes.iter().filter(|outcome| outcome.asked.job().is_some()) {
        let profile = outcome.callback.as_ref().map(|callback| &callback.body["profile"]);
        let number = |name: &str| profile.and_then(|profile| profile[name].as_u64());
        let named = outcome.asked.row.profile.as_ref();
        table.add_row([
            named.map_or_else(String::new, |profile| profile.handle().to_owned()),
            named.map_or_else(String::new, |profile| profile.platform().to_string()),
            number("followers").map_or_else(|| "-".to_owned(), grouped),
            number("score").map_or_else(|| "-".to_owned(), |score| score.to_string()),
            outcome.attempts().to_string(),
            outcome.time_to_callback().map_or_else(|| "-".to_owned(), seconds),
            callback(outcome),
        ]);
    }
    for right in [2, 3, 4, 5] {
        if let Some(column) = table.column_mut(right) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}

/// What was not accepted, and why.
pub(crate) fn of_refusals(outcomes: &[Outcome]) -> Option<String> {
    let mut table = new(&["refused", "because"]);
    for outcome in outcomes {
        if let Answer::Refused(reason) | Answer::Other(reason) = &outcome.asked.answer {
            table.add_row([shortened(&outcome.asked.row.url), in_short(reason)]);
        }
    }
    (!table.is_empty()).then(|| table.trim_fmt())
}

/// What became of the callback, in a word or two.
pub(crate) fn callback(outcome: &Outcome) -> String {
    match &outcome.callback {
        None => "none".to_owned(),
        Some(callback) => match (&callback.fault, callback.body["status"].as_str()) {
            (Some(fault), _) => fault.clone(),
            (None, Some("completed")) => "verified".to_owned(),
            (None, status) => format!("verified: {}", status.unwrap_or("?")),
        },
    }
}

/// Seconds with two digits.
pub(crate) fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

fn new(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header.to_vec());
    table
}

/// What is wrong, without the list of what is accepted instead.
fn in_short(reason: &str) -> String {
    reason.split_once("; accepted").map_or(reason, |(wrong, _)| wrong).to_owned()
}

/// 1234567 as 1,234,567.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let first = digits.len() % 3;
    let mut text = digits[..first].to_owned();
    for (n, digit) in digits[first..].chars().enumerate() {
        if n % 3 == 0 && !text.is_empty() {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn shortened(url: &str) -> String {
    match url.chars().count() > URL_CHARS_MAX {
        true => url.chars().take(URL_CHARS_MAX - 1).chain(['…']).collect(),
        false => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped_by_threes() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn long_addresses_are_shortened() {
        assert_eq!(shortened("short"), "short");
        assert_eq!(shortened(&"ü".repeat(200)).chars().count(), URL_CHARS_MAX);
    }
}
