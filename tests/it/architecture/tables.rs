//! Who may touch which table.

use super::sql::{Use, statements, tables};
use super::*;

/// The engine's own.
const ENGINE: [&str; 5] =
    ["jobs", "jobs_finished", "jobs_finished_overflow", "job_unique_keys", "worker_processes"];
/// The crates whose statements may write at all: domains, the engine, and the probe of the encryption keys.
const WRITERS: [&str; 8] = ["audit", "db", "identity", "partners", "pool", "queue", "schedules", "webhooks"];
/// Measures how jobs are stored, so it looks at tables past their owner, and fills them.
const MEASURES: &str = "bench";
/// One table, named in one file.
struct Mention {
    who: &'static str,
    file: String,
    used: Use,
    table: String,
}

/// The tables that the migrations make.
fn known() -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    for (_, text) in files_below(&root().join("migrations"), &["sql"]) {
        for made in text.to_ascii_lowercase().split("create table ").skip(1) {
            let made = made.trim_start_matches("if not exists ");
            known.insert(
                made.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect(),
            );
        }
    }
    known.remove("");
    known
}

/// Every table that a statement in a crate's sources names.
fn mentions() -> Vec<Mention> {
    let known = known();
    let mut found = Vec::new();
    for (who, member) in MEMBERS.iter().filter(|(who, _)| *who != MEASURES) {
        for (path, text) in member.sources() {
            let is_sql = path.extension().is_some_and(|ending| ending == "sql");
            let statements = if is_sql { vec![text] } else { statements(&text) };
            let named =
                statements.iter().flat_map(|sql| tables(sql)).filter(|(_, table)| known.contains(table));
            let file = path.display().to_string();
            found.extend(named.map(|(used, table)| Mention { who, file: file.clone(), used, table }));
        }
    }
    found
}

fn breaches(broken: impl Fn(&Mention) -> bool) -> Vec<String> {
    let told = |mention: &Mention| format!("{}: {:?} {}", mention.file, mention.used, mention.table);
    mentions().iter().filter(|mention| broken(mention)).map(told).collect()
}

#[test]
fn only_the_queue_knows_how_jobs_are_stored() {
    assert!(ENGINE.iter().all(|table| known().contains(*table)), "the list is not up to date: {:?}", known());
    let others = breaches(|mention| mention.who != "queue" && ENGINE.contains(&mention.table.as_str()));
    assert_none("the engine's tables, named outside of crates/queue", &others);
}

#[test]
fn a_table_is_written_by_one_crate_only() {
    let mut writers: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for mention in mentions().into_iter().filter(|mention| mention.used == Use::Writes) {
        writers.entry(mention.table).or_default().insert(mention.who);
    }
    assert!(writers.len() > 5, "statements that write are found at all");
    let shared = writers.iter().filter(|(_, who)| who.len() > 1);
    let shared: Vec<String> = shared.map(|(table, who)| format!("{table}: {who:?}")).collect();
    assert_none("tables that several crates write", &shared);
}

#[test]
fn only_domains_and_the_engine_write() {
    // So the scheduler only enqueues, and handlers and jobs go through their domains.
    let others = breaches(|mention| mention.used == Use::Writes && !WRITERS.contains(&mention.who));
    assert_none("statements that write, outside of domains and engine", &others);
}

#[test]
fn a_table_is_read_by_the_crate_that_owns_it() {
    let all = mentions();
    let owner = |table: &str| {
        all.iter()
            .find(|mention| mention.used == Use::Writes && mention.table == table)
            .map(|mention| mention.who)
    };
    let others = breaches(|mention| owner(&mention.table).is_some_and(|owner| owner != mention.who));
    assert_none("tables read past their owner", &others);
}
