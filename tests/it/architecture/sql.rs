//! Finding tables in statements: enough of Rust to find string literals, enough of SQL to find names of tables.

/// What a statement does with a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Use {
    Reads,
    Writes,
}

/// The tables that SQL names, with what it does to them. Names that are no tables come along.
pub(super) fn tables(sql: &str) -> Vec<(Use, String)> {
    let without_comments: String =
        sql.lines().map(|line| line.split("--").next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
    let letter = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let lower = without_comments.to_ascii_lowercase();
    let words: Vec<&str> = lower.split(|other| !letter(other)).filter(|word| !word.is_empty()).collect();
    let mut found = Vec::new();
    for at in 0..words.len() {
        let Some(table) = words.get(at + 1) else { break };
        let before = at.checked_sub(1).map_or("", |before| words[before]);
        let used = match (before, words[at]) {
            ("delete", "from") | ("insert" | "merge", "into") | (_, "truncate") => Use::Writes,
            // A locking clause, and the action of an upsert, name no table.
            ("for" | "key" | "do", "update") => continue,
            (_, "update") => Use::Writes,
            (_, "from" | "join" | "using" | "into") => Use::Reads,
            _ => continue,
        };
        found.push((used, (*table).to_owned()));
    }
    found
}

/// The statements in a Rust source: its string literals that begin like SQL.
pub(super) fn statements(source: &str) -> Vec<String> {
    let mut literals = Vec::new();
    let mut rest = source;
    while let Some(at) = rest.find(['"', '/', '\'']) {
        let (before, from) = rest.split_at(at);
        rest = if from.starts_with("//") {
            from.split_once('\n').map_or("", |(_, after)| after)
        } else if let Some(after) = ["'\"'", "'\\\"'", "'/'"].iter().find_map(|one| from.strip_prefix(one)) {
            after
        } else if let Some(text) = from.strip_prefix('"') {
            let hashes = before.len() - before.trim_end_matches('#').len();
            let (literal, after) = if before.trim_end_matches('#').ends_with('r') {
                text.split_once(&format!("\"{}", "#".repeat(hashes))).unwrap_or((text, ""))
            } else {
                end_of_literal(text)
            };
            literals.push(literal.to_owned());
            after
        } else {
            &from[1..]
        };
    }
    let is_sql = |text: &String| {
        let first = text.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
        ["select", "insert", "update", "delete", "with", "merge", "truncate", "lock"]
            .contains(&first.as_str())
    };
    literals.retain(is_sql);
    literals
}

fn end_of_literal(text: &str) -> (&str, &str) {
    let mut escaped = false;
    for (at, letter) in text.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return (&text[..at], &text[at + 1..]),
            _ => {}
        }
    }
    (text, "")
}

#[test]
fn statements_and_their_tables_are_found_in_sources() {
    let source = r##"
        // "select from comment"
        let quote = '"'; let plain = "from jobs, they say";
        sqlx::query!("select a from one join two on true for update");
        sqlx::query!(r#"with gone as (delete from three returning "x") insert into four select * from gone"#);
        sqlx::query!("insert into five (a) values (1) on conflict (a) do update set a = 2");
        sqlx::query!("update six set a = \"b\" -- from seven
            from eight");
    "##;
    let mut found: Vec<(Use, String)> = statements(source).iter().flat_map(|sql| tables(sql)).collect();
    found.retain(|(_, table)| table != "gone");
    found.sort();
    let expected = [
        (Use::Reads, "eight"),
        (Use::Reads, "one"),
        (Use::Reads, "two"),
        (Use::Writes, "five"),
        (Use::Writes, "four"),
        (Use::Writes, "six"),
        (Use::Writes, "three"),
    ];
    assert_eq!(found, expected.map(|(used, table)| (used, table.to_owned())));
}
