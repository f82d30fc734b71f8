//! What no source file may be or hold.

use super::*;

const LINES_MAX: usize = 600;

/// Everything written by hand.
fn written() -> Vec<(PathBuf, String)> {
    files_below(&root(), &["rs", "ts", "tsx"])
}

#[test]
fn no_file_is_longer_than_a_reader_can_hold() {
    let long = written().into_iter().filter_map(|(path, text)| {
        let lines = text.lines().count();
        (lines > LINES_MAX).then(|| format!("{}: {lines} lines", path.display()))
    });
    assert_none("files of more than 600 lines", &long.collect::<Vec<_>>());
}

#[test]
fn nothing_is_left_for_later() {
    // In two halves, so that this file does not find itself.
    let marks = [
        concat!("to", "do!("),
        concat!("unimple", "mented!("),
        concat!("#[ig", "nore"),
        concat!("dbg", "!("),
    ];
    let mut breaches = Vec::new();
    for (path, text) in written() {
        for (number, line) in text.lines().enumerate() {
            if let Some(mark) = marks.iter().find(|mark| line.contains(**mark)) {
                breaches.push(format!("{}:{}: {mark}", path.display(), number + 1));
            }
        }
    }
    assert_none("unfinished work", &breaches);
}

#[test]
fn no_crate_is_empty() {
    let has_code = |(_, text): &(PathBuf, String)| text.lines().any(|line| line.trim_start().contains("fn "));
    let empty: Vec<String> = MEMBERS
        .iter()
        .filter(|(_, member)| !member.sources().iter().any(has_code))
        .map(|(name, _)| name.clone())
        .collect();
    assert_none("crates without a function", &empty);
}

#[test]
fn files_are_named_by_what_they_hold() {
    let vague = ["utils", "util", "common", "helpers", "helper", "types", "misc"];
    let named = written().into_iter().filter_map(|(path, _)| {
        let is_vague = path.components().any(|part| {
            let name = part.as_os_str().to_string_lossy();
            vague.contains(&name.split('.').next().unwrap_or_default())
        });
        is_vague.then(|| path.display().to_string())
    });
    assert_none("names that say nothing", &named.collect::<Vec<_>>());
}

#[test]
fn domains_open_no_transactions_and_hold_no_pools() {
    let mut breaches = Vec::new();
    for name in DOMAINS {
        for (path, text) in MEMBERS[name].sources() {
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            let words = code.flat_map(|line| line.split(|letter: char| !letter.is_alphanumeric()));
            for word in words.filter(|word| ["Pool", "PgPool", "Transaction", "begin"].contains(word)) {
                breaches.push(format!("{}: {word}", path.display()));
            }
        }
    }
    assert_none("whoever opens the transaction enqueues, and domains do not", &breaches);
}
