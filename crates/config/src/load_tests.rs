//! The promises of loading.

use super::*;
use crate::settings::LogFormat;

fn environment_of(pairs: &[(&str, &str)]) -> Sources {
    let environment = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Sources { environment, overrides: Vec::new() }
}

fn defaults() -> Settings {
    Settings::load(&Sources::default()).unwrap()
}

#[test]
fn the_defaults_load_and_are_as_documented() {
    let settings = defaults();
    assert_eq!(settings.http.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(settings.queue.lease_ms, 30_000);
    assert_eq!(settings.queue.sweep_ms, 10_000);
    assert_eq!(settings.queue.heartbeat_ms(), 6_000);
    assert_eq!(settings.database.url, None);
    assert_eq!(settings.meter.token, None);
    assert!(!settings.webhooks.allow_loopback);
    assert_eq!(settings.log.format, LogFormat::Json);
    assert_eq!(settings.origins()["http.listen"], Origin::Defaults);
}

#[test]
fn every_field_has_its_default_and_a_comment_naming_its_variable() {
    let given: Vec<String> = flatten(DEFAULTS).unwrap().into_iter().map(|(path, _)| path).collect();
    let mut missing: Vec<&str> = FIELDS.iter().map(|field| field.path).collect();
    missing.retain(|path| !given.iter().any(|given| given == path));
    assert!(missing.is_empty(), "no default for {missing:?}");
    for path in &given {
        assert!(find(path).is_some(), "{path} has no limits");
        let comment = format!("# {} (", variable(path));
        assert!(DEFAULTS.contains(&comment), "no comment that begins `{comment}unit)`");
    }
}

#[test]
fn every_limit_fits_its_field() {
    for field in FIELDS {
        let Kind::Whole { min, max, .. } = field.kind else { continue };
        for value in [min, max] {
            let sources = Sources::default().with(field.path, value.to_string());
            let related = ["http.request_timeout_ms", "http.wait_s_max"].contains(&field.path);
            if let Err(error) = Settings::load(&sources) {
                assert!(related && error.to_string().contains("must be more than"), "{error}");
            }
        }
    }
}

#[test]
fn later_sources_win() {
    let folder = std::env::temp_dir().join(format!("millpond-config-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("settings.toml");
    std::fs::write(
        &file,
        "[http]\nlisten = \"127.0.0.1:1\"\n[worker]\npoll_ms = 11\n[meter]\ntimeout_ms = 111",
    )
    .unwrap();
    let sources = environment_of(&[
        ("MILLPOND_CONFIG", file.to_str().unwrap()),
        ("MILLPOND_HTTP__LISTEN", "127.0.0.1:2"),
        ("MILLPOND_WORKER__POLL_MS", "22"),
    ])
    .with("http.listen", "127.0.0.1:3");
    let settings = Settings::load(&sources).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(settings.http.listen.port(), 3);
    assert_eq!(settings.worker.poll_ms, 22);
    assert_eq!(settings.meter.timeout_ms, 111);
    assert_eq!(settings.origins()["http.listen"], Origin::CommandLine);
    assert_eq!(settings.origins()["worker.poll_ms"], Origin::Environment);
    assert_eq!(settings.origins()["meter.timeout_ms"], Origin::File(file));
    assert_eq!(settings.origins()["queue.lease_ms"], Origin::Defaults);
}

#[test]
fn a_plain_database_url_is_taken_unless_the_longer_name_is_given() {
    let plain = environment_of(&[("DATABASE_URL", "postgres://plain/x")]);
    assert_eq!(Settings::load(&plain).unwrap().database.url.unwrap().expose(), "postgres://plain/x");
    for order in [[0, 1], [1, 0]] {
        let pairs = [("DATABASE_URL", "postgres://plain/x"), ("MILLPOND_DATABASE__URL", "postgres://long/x")];
        let both = environment_of(&order.map(|index| pairs[index]));
        assert_eq!(Settings::load(&both).unwrap().database.url.unwrap().expose(), "postgres://long/x");
    }
    let empty = environment_of(&[("DATABASE_URL", "")]);
    assert_eq!(Settings::load(&empty).unwrap().database.url, None);
}

#[test]
fn an_unknown_name_is_refused_with_a_suggestion() {
    let error = Settings::load(&environment_of(&[("MILLPOND_HTTP__LISTN", "x")])).unwrap_err();
    assert_eq!(error.faults.len(), 1);
    assert!(error.to_string().contains("did you mean MILLPOND_HTTP__LISTEN?"), "{error}");
    let error = Settings::load(&environment_of(&[("MILLPOND_HTTP_LISTEN", "x")])).unwrap_err();
    assert!(error.to_string().contains("did you mean MILLPOND_HTTP__LISTEN?"), "{error}");
    let error = Settings::load(&environment_of(&[("MILLPOND_SOMETHING_ELSE_ENTIRELY", "x")])).unwrap_err();
    assert!(error.to_string().contains("no such setting"), "{error}");
    assert!(Settings::load(&environment_of(&[("OTHER_PROGRAM", "x")])).is_ok());
}

#[test]
fn all_faults_are_reported_at_once_and_secrets_stay_hidden() {
    let long = "hunter2".repeat(1_000);
    let sources = environment_of(&[
        ("MILLPOND_HTTP__LISTEN", "somewhere"),
        ("MILLPOND_QUEUE__LEASE_MS", "-1"),
        ("MILLPOND_METER__TOKEN", &long),
        ("MILLPOND_DATABASE__URL", "mysql://me:hunter2@db/x"),
        ("MILLPOND_METER__URL", "https://me:hunter2@meter"),
        ("MILLPOND_NOPE", "hunter2"),
    ])
    .with("log.format", "xml");
    let error = Settings::load(&sources).unwrap_err();
    let text = error.to_string();
    assert_eq!(error.faults.len(), 7, "{text}");
    assert!(text.starts_with("7 settings are wrong:"), "{text}");
    assert!(text.contains(
        "MILLPOND_QUEUE__LEASE_MS = \"-1\" (environment): must be a whole number of ms from 250 to 3600000"
    ));
    assert!(text.contains("MILLPOND_LOG__FORMAT = \"xml\" (command line): must be one of json, pretty"));
    assert!(!text.contains("hunter2"), "{text}");
    assert!(!format!("{error:?}").contains("hunter2"));
}

#[test]
fn fields_that_contradict_each_other_are_refused() {
    let error = Settings::load(&Sources::default().with("http.request_timeout_ms", "25000")).unwrap_err();
    assert!(error.to_string().contains("MILLPOND_HTTP__WAIT_S_MAX"), "{error}");
}

#[test]
fn a_settings_file_is_checked_like_everything_else() {
    let missing = Settings::load(&environment_of(&[("MILLPOND_CONFIG", "/does/not/exist")])).unwrap_err();
    assert!(missing.to_string().contains("MILLPOND_CONFIG = /does/not/exist"), "{missing}");

    let file = std::env::temp_dir().join(format!("millpond-config-{}.toml", std::process::id()));
    std::fs::write(&file, "top = 1\n[http]\nlisten = 8080\nlistne = \"x\"\n[worker]\npoll_ms = \"10\"")
        .unwrap();
    let error = Settings::load(&environment_of(&[("MILLPOND_CONFIG", file.to_str().unwrap())])).unwrap_err();
    std::fs::write(&file, "[meter]\ntoken = hunter2").unwrap();
    let broken = Settings::load(&environment_of(&[("MILLPOND_CONFIG", file.to_str().unwrap())])).unwrap_err();
    std::fs::remove_file(&file).unwrap();
    assert_eq!(error.faults.len(), 4, "{error}");
    assert!(!broken.to_string().contains("hunter2"), "{broken}");
}

#[test]
fn masked_values_show_everything_but_secrets() {
    let settings = Settings::load(
        &Sources::default()
            .with("meter.token", "hunter2")
            .with("encryption.keys", "k1:hunter2")
            .with("database.url", "postgres://me:hunter2@db/x"),
    )
    .unwrap();
    let shown = settings.masked();
    assert_eq!(shown["meter"]["token"], "***");
    assert_eq!(shown["encryption"]["keys"], "***");
    assert_eq!(shown["database"]["url"], "postgres://me:***@db/x");
    assert_eq!(shown["http"]["body_bytes_max"], 262_144);
    assert!(!format!("{settings:?} {shown}").contains("hunter2"));
    assert_eq!(defaults().masked()["meter"]["token"], serde_json::Value::Null);
}

#[test]
fn a_data_folder_is_taken_as_it_is_given() {
    let folder = |pairs: &[(&str, &str)]| Settings::load(&environment_of(pairs)).unwrap().data.dir;
    assert_eq!(folder(&[("MILLPOND_DATA__DIR", "here")]), PathBuf::from("here"));
    assert_eq!(folder(&[]), PathBuf::new());
}
