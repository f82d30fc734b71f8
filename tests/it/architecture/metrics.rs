//! The catalogue of metrics and what the sources count are the same.

use telemetry::catalogue::{self, Kind};

use super::*;

/// A place that counts: which kind of metric, its name, its labels.
struct Use {
    place: String,
    kind: Kind,
    name: String,
    labels: BTreeSet<String>,
}

/// All places in the sources of the workspace, but for tests.
fn uses() -> Vec<Use> {
    let macros = [("counter!(", Kind::Counter), ("gauge!(", Kind::Gauge), ("histogram!(", Kind::Histogram)];
    let mut uses = Vec::new();
    for member in MEMBERS.values() {
        for (path, text) in member.sources() {
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            for (mark, kind) in macros {
                for (start, _) in code.match_indices(mark) {
                    let place = format!("{}:{}", path.display(), code[..start].lines().count());
                    uses.push(read(place, kind, &code[start + mark.len()..]));
                }
            }
        }
    }
    assert!(uses.len() > 20, "they are found");
    uses
}

/// The arguments of a macro, from behind its parenthesis: a name and `"label" => value`s.
fn read(place: String, kind: Kind, code: &str) -> Use {
    let mut depth = 1;
    let end = code.char_indices().find(|(_, letter)| {
        depth += i32::from(*letter == '(') - i32::from(*letter == ')');
        depth == 0
    });
    let arguments = &code[..end.expect("the parenthesis is closed").0];
    let name = arguments.trim_start().strip_prefix('"').and_then(|rest| rest.split('"').next());
    // What stands behind the last arrow is a value.
    let before_arrows = arguments.rsplit("=>").skip(1);
    let labels = before_arrows.filter_map(|before| before.trim_end().strip_suffix('"')?.rsplit('"').next());
    let name = name.unwrap_or_else(|| panic!("{place}: the name must be written out, to be found"));
    Use { place, kind, name: name.to_owned(), labels: labels.map(ToOwned::to_owned).collect() }
}

#[test]
fn every_metric_of_the_sources_is_in_the_catalogue_as_it_is_used() {
    let mut breaches = Vec::new();
    for Use { place, kind, name, labels } in uses() {
        let Some(metric) = catalogue::find(&name) else {
            breaches.push(format!("{place}: {name} is not in crates/telemetry/src/catalogue.rs"));
            continue;
        };
        let known: BTreeSet<String> = metric.labels.iter().map(ToString::to_string).collect();
        if metric.kind != kind || known != labels {
            breaches
                .push(format!("{place}: {name} is {:?} {known:?}, here {kind:?} {labels:?}", metric.kind));
        }
    }
    assert_none("metrics are described in one list", &breaches);
}

#[test]
fn every_metric_of_the_catalogue_is_counted_somewhere() {
    let used: BTreeSet<String> = uses().into_iter().map(|one| one.name).collect();
    let idle: Vec<String> = catalogue::ALL
        .iter()
        .filter(|metric| !used.contains(metric.name))
        .map(|metric| metric.name.to_owned())
        .collect();
    assert_none("metrics that nobody counts", &idle);
}
