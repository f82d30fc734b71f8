//! The container file and the composition, as far as they can be judged without an engine: what they name is there, what
//! they run is understood.

use yaml_serde::Value;

use super::*;

fn compose() -> Value {
    let mut compose: Value = yaml_serde::from_str(&text("deploy/compose.yml")).unwrap();
    compose.apply_merge().expect("merges");
    compose
}

fn words(value: &Value) -> Vec<&str> {
    value.as_sequence().map(|words| words.iter().filter_map(Value::as_str).collect()).unwrap_or_default()
}

fn services(compose: &Value) -> Vec<(&str, &Value)> {
    let services = compose["services"].as_mapping().expect("services");
    services.iter().map(|(name, service)| (name.as_str().expect("a name"), service)).collect()
}

/// `45s` as seconds.
fn seconds(duration: &str) -> u64 {
    duration.strip_suffix('s').and_then(|number| number.parse().ok()).expect("seconds")
}

#[test]
fn every_command_of_the_containers_is_understood() {
    let compose = compose();
    let mut roles = Vec::new();
    for (name, service) in services(&compose) {
        if service["image"].as_str() == Some("millpond:local") {
            let command = words(&service["command"]);
            is_understood(&command).unwrap();
            roles.push(command[0]);
        }
        let check = words(&service["healthcheck"]["test"]);
        if let ["CMD", "millpond", rest @ ..] = &check[..] {
            is_understood(rest).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }
    assert_eq!(roles, ["migrate", "api", "worker", "scheduler"]);
    let file = text("deploy/Containerfile");
    for line in file.lines().filter_map(|line| line.split_once("CMD [").map(|(_, rest)| rest)) {
        let line = line.trim_end_matches(']');
        let line: Vec<&str> = line.split(", ").map(|word| word.trim_matches('"')).collect();
        is_understood(line.strip_prefix(&["millpond"]).unwrap_or(&line)).unwrap();
    }
}

#[test]
fn every_file_that_the_containers_read_is_there() {
    let compose = compose();
    for (name, service) in services(&compose) {
        for file in words(&service["env_file"]) {
            let example = format!("deploy/{file}.example");
            assert!(path(&example).is_file(), "{name}: {example}");
        }
        for volume in words(&service["volumes"]) {
            let source = volume.split(':').next().expect("a source");
            if let Some(file) = source.strip_prefix("./") {
                assert!(path(&format!("deploy/{file}")).exists(), "{name}: {source}");
            } else {
                assert!(compose["volumes"].get(source).is_some(), "{name}: {source}");
            }
        }
        if let Some(file) = service["build"]["dockerfile"].as_str() {
            assert!(path(file).is_file(), "{name}: {file}");
        }
    }
}

#[test]
fn every_setting_of_the_containers_exists() {
    let defaults = text("crates/config/defaults.toml");
    let compose = compose();
    let set = services(&compose).into_iter().filter_map(|(_, service)| service["environment"].as_mapping());
    let mut names: Vec<String> =
        set.flat_map(|set| set.keys()).filter_map(Value::as_str).map(ToOwned::to_owned).collect();
    let given = text("deploy/millpond.env.example");
    names.extend(given.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name.to_owned()));
    names.extend(
        text("docs/OPERATIONS.md")
            .split('`')
            .filter(|word| word.starts_with("MILLPOND_"))
            .map(|word| word.split(['=', ' ']).next().unwrap_or_default().to_owned()),
    );
    for name in names.iter().filter(|name| name.starts_with("MILLPOND_")) {
        assert!(defaults.contains(&format!("# {name} ")), "{name} is no setting");
    }
}

#[test]
fn containers_are_given_longer_to_stop_than_jobs_are_to_end() {
    let compose = compose();
    let settings = config::Settings::load(&config::Sources::default()).unwrap();
    for (name, service) in services(&compose) {
        if service["image"].as_str() == Some("millpond:local") {
            let grace = seconds(service["stop_grace_period"].as_str().expect("a grace period"));
            assert!(grace >= settings.worker.drain_timeout_s + 10, "{name}");
            assert!(grace >= settings.http.drain_timeout_s + 10, "{name}");
        }
    }
}
