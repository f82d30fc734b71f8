use std::collections::{BTreeMap, HashSet};

use super::super::*;

const CREATORS: &str = include_str!("../../../../../examples/creators.csv");

struct Row {
    line: usize,
    url: String,
    note: String,
}

/// Enough CSV for this one file: a field may stand in quotes, with quotes in it doubled; a record is one line.
fn rows() -> Vec<Row> {
    let mut lines = CREATORS.lines().enumerate();
    assert_eq!(lines.next().map(|(_, header)| header), Some("url,note"));
    lines
        .map(|(index, line)| {
            let (url, note) = match line.strip_prefix('"') {
                Some(quoted) => {
                    let (url, note) = quoted.rsplit_once("\",").expect("a quoted url ends before a comma");
                    (url.replace("\"\"", "\""), note)
                }
                None => line.split_once(',').map(|(url, note)| (url.to_owned(), note)).expect("two fields"),
            };
            Row { line: index + 1, url, note: note.trim_matches('"').to_owned() }
        })
        .collect()
}

#[test]
fn in_the_example_file_exactly_the_rows_noted_as_invalid_are_refused() {
    for Row { line, url, note } in rows() {
        match ProfileUrl::parse(&url) {
            Ok(read) => assert!(!note.starts_with("invalid: "), "line {line}: {url:?} was read as {read:?}"),
            Err(error) => assert!(note.starts_with("invalid: "), "line {line}: {url:?}: {error}"),
        }
    }
}

#[test]
fn the_example_file_shows_many_creators_of_every_platform_some_of_them_twice() {
    let read: Vec<ProfileUrl> = rows().iter().filter_map(|row| ProfileUrl::parse(&row.url).ok()).collect();
    let distinct: HashSet<&ProfileUrl> = read.iter().collect();
    let mut per_platform = BTreeMap::<Platform, usize>::new();
    for url in &distinct {
        *per_platform.entry(url.platform()).or_default() += 1;
    }
    assert!(distinct.len() >= 64 && read.len() > distinct.len(), "{} of {}", distinct.len(), read.len());
    assert!(Platform::ALL.iter().all(|platform| per_platform[platform] >= 14), "{per_platform:?}");
    // The sandbox gives these prefixes a meaning of their own.
    let plain =
        |url: &&ProfileUrl| !url.handle().starts_with("private") && !url.handle().starts_with("missing");
    assert!(distinct.iter().all(plain));
}
