//! Which test shows which requirement of the source documents: `docs/coverage/`, written from tags beside the tests.
//!
//! A tag is a line of ids in front of a test and its attributes: `S0-045, S0-048` or `S0-187..=S0-191` in a comment of its
//! own. Measurements in `bench` and checks in `tests/acceptance` are tagged in the same way. `coverage/s0.txt` has all ids
//! and says what comes later; everything else needs a test.

use std::fmt::Write as _;

use super::*;

const LIST: &str = include_str!("coverage/s0.txt");
const DOCUMENT: &str = "docs/coverage/S0.md";
/// Where tags may stand in front of what is no test: what measures, and what checks from outside.
const MEASURING: [&str; 2] = ["bench/", "tests/acceptance/"];

const HEAD: &str = "\
# S0: what shows each requirement

Written from the tags of tests by `tests/it/architecture/coverage.rs`, which also fails when this page is not what it would
write (`UPDATE_DOCS=1` writes it anew), when a tag names no requirement, and when a requirement that is not for later has no
test. The words are ours; what each id means in full is in the list of requirements that the tags refer to.
";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// A test has its tag.
    Now,
    /// A test is owed.
    Due,
    /// Comes with the pool at work.
    Pool,
    /// Comes with the pages for admins.
    Console,
    /// By words or by measuring in operation.
    Said,
}

struct Requirement {
    id: u16,
    part: &'static str,
    shown: Shown,
    words: &'static str,
    /// Where it is said.
    place: Option<&'static str>,
}

/// The list, in its order.
fn requirements() -> Vec<Requirement> {
    let mut part = "";
    let mut requirements = Vec::new();
    for line in LIST.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(title) = line.strip_prefix("== ") {
            part = title;
            continue;
        }
        let (id, rest) = line.split_once(' ').expect("an id and more");
        let (shown, words) = rest.split_once(' ').expect("when and what");
        let (words, place) = match words.split_once(" | ") {
            Some((words, place)) => (words, Some(place)),
            None => (words, None),
        };
        let shown = match shown {
            "now" => Shown::Now,
            "due" => Shown::Due,
            "pool" => Shown::Pool,
            "console" => Shown::Console,
            "said" => Shown::Said,
            other => panic!("{id}: {other}"),
        };
        assert_eq!(shown == Shown::Said, place.is_some(), "{id} says where it is said");
        let id = number(id).unwrap_or_else(|| panic!("{id} is no id"));
        requirements.push(Requirement { id, part, shown, words: words.trim(), place });
    }
    requirements
}

fn number(id: &str) -> Option<u16> {
    let digits = id.strip_prefix("S0-")?;
    if digits.len() == 3 { digits.parse().ok() } else { None }
}

/// The ids of a line that is a tag; none where it is none.
fn tagged(line: &str) -> Option<Vec<u16>> {
    let line = line.trim();
    let ids = line.strip_prefix("// ").or_else(|| line.strip_prefix("# "))?;
    if !ids.starts_with("S0-") {
        return None;
    }
    let several = |ids: &str| match ids.split_once("..=") {
        Some((first, last)) => Some((number(first)?..=number(last)?).collect::<Vec<_>>()),
        None => Some(vec![number(ids)?]),
    };
    let ids: Option<Vec<Vec<u16>>> = ids.split(',').map(|ids| several(ids.trim())).collect();
    ids.map(|ids| ids.into_iter().flatten().collect())
}

/// The test that a tag is in front of; why there is none, otherwise.
fn tested<'a>(path: &str, mut after: impl Iterator<Item = &'a str>) -> Result<&'a str, String> {
    let mut is_test = MEASURING.iter().any(|folder| path.starts_with(folder));
    loop {
        let line = after.next().unwrap_or_default().trim();
        let is_attribute = line.starts_with("#[");
        is_test |= line == "#[test]" || line.starts_with("#[tokio::test");
        if is_attribute || line.starts_with("//") || line.starts_with('@') {
            continue;
        }
        let words = line.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
        let name = words.skip_while(|word| !["fn", "def", "class"].contains(word)).nth(1);
        return match name {
            Some(name) if is_test => Ok(name),
            _ => Err(format!("in front of no test: {line}")),
        };
    }
}

/// The tests of each requirement, and what is wrong with tags.
fn tests() -> (BTreeMap<u16, Vec<String>>, Vec<String>) {
    let mut sources = files_below(&root(), &["rs"]);
    sources.extend(files_below(&root().join("tests/acceptance"), &["py"]));
    let mut tests: BTreeMap<u16, Vec<String>> = BTreeMap::new();
    let mut breaches = Vec::new();
    for (path, text) in &sources {
        let path = path.display().to_string();
        for (index, line) in text.lines().enumerate() {
            let Some(ids) = tagged(line) else { continue };
            match tested(&path, text.lines().skip(index + 1)) {
                Ok(name) => {
                    for id in ids {
                        tests.entry(id).or_default().push(format!("`{path}` {name}"));
                    }
                }
                Err(why) => breaches.push(format!("{path}:{}: {why}", index + 1)),
            }
        }
    }
    (tests, breaches)
}

fn document(requirements: &[Requirement], tests: &BTreeMap<u16, Vec<String>>) -> String {
    let mut text = HEAD.to_owned();
    let mut part = "";
    for requirement in requirements {
        if requirement.part != part {
            part = requirement.part;
            write!(text, "\n## {part}\n\n| id | what | shown by |\n|---|---|---|\n").unwrap();
        }
        let tests = tests.get(&requirement.id).map(|tests| tests.join("<br>"));
        let shown = tests.unwrap_or_else(|| match requirement.shown {
            Shown::Now | Shown::Due => "**no test yet**".to_owned(),
            Shown::Pool => "later: the pool at work".to_owned(),
            Shown::Console => "later: the pages for admins".to_owned(),
            Shown::Said => requirement.place.unwrap_or_default().to_owned(),
        });
        writeln!(text, "| S0-{:03} | {} | {shown} |", requirement.id, requirement.words).unwrap();
    }
    text
}

#[test]
fn every_requirement_has_its_test_or_its_time() {
    let requirements = requirements();
    let ids: Vec<u16> = requirements.iter().map(|requirement| requirement.id).collect();
    assert_eq!(ids, (1..=361).collect::<Vec<_>>(), "every id once, in order");
    let (tests, mut breaches) = tests();
    let of_nothing = tests.iter().filter(|(id, _)| !ids.contains(id));
    breaches.extend(of_nothing.map(|(id, tests)| format!("S0-{id:03} is no requirement: {tests:?}")));
    let untested = requirements.iter().filter(|one| one.shown == Shown::Now && !tests.contains_key(&one.id));
    breaches.extend(untested.map(|one| format!("S0-{:03} has no test: {}", one.id, one.words)));
    assert_none("requirements are shown by tests", &breaches);

    let written = document(&requirements, &tests);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(root().join(DOCUMENT), written).unwrap();
    } else {
        let stored = std::fs::read_to_string(root().join(DOCUMENT)).unwrap_or_default();
        assert!(stored == written, "{DOCUMENT} is stale: UPDATE_DOCS=1 writes it anew");
    }
}

#[test]
fn what_is_said_elsewhere_is_said_in_files_that_exist() {
    let mut breaches = Vec::new();
    for requirement in requirements() {
        let words = requirement.place.unwrap_or_default().split([' ', ',', ':']);
        let paths = words.filter(|word| word.contains('.') && !word.ends_with('.'));
        let missing = paths.filter(|path| !root().join(path).exists());
        breaches.extend(missing.map(|path| format!("S0-{:03}: {path}", requirement.id)));
    }
    assert_none("places that the list names", &breaches);
}

#[test]
fn tags_are_read_alone_in_lists_and_in_ranges() {
    assert_eq!(tagged("    // S0-045, S0-048"), Some(vec![45, 48]));
    assert_eq!(tagged("# S0-187..=S0-189, S0-002"), Some(vec![187, 188, 189, 2]));
    assert_eq!(tagged("// S0-45"), None);
    assert_eq!(tagged("// S0-045 is about search"), None);
    let after = ["    // why", "#[tokio::test(flavor = \"multi_thread\")]", "async fn a_name() {"];
    assert_eq!(tested("tests/it/a.rs", after.into_iter()), Ok("a_name"));
    assert!(tested("tests/it/a.rs", ["fn a_name() {"].into_iter()).is_err());
    assert_eq!(tested("bench/src/a.rs", ["pub async fn run() {"].into_iter()), Ok("run"));
}
