//! What a running installation exports is what the catalogue says, no less and no more.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use reqwest::Method;
use serde_json::json;
use telemetry::catalogue::{self, Kind, Shown};

use crate::support::{MillpondProcess, TestDb, TestPartner, WAIT_MAX, eventually, found};

/// The series of a page: names with the labels of each.
fn series(page: &str) -> BTreeMap<String, BTreeSet<BTreeSet<String>>> {
    let mut series: BTreeMap<String, BTreeSet<BTreeSet<String>>> = BTreeMap::new();
    for line in page.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (name, rest) = line.split_at(line.find(['{', ' ']).expect("a value"));
        let labels =
            rest.strip_prefix('{').and_then(|rest| rest.rsplit_once('}')).map_or("", |(labels, _)| labels);
        // Values of ours hold no comma; routes hold braces.
        let names =
            labels.split("\",").filter_map(|pair| pair.split_once("=\"").map(|(name, _)| name.to_owned()));
        series.entry(name.to_owned()).or_default().insert(names.collect());
    }
    series
}

/// The names under which a metric's series stand, with the labels that they have.
fn expected(metric: &catalogue::Metric) -> Vec<(String, BTreeSet<String>)> {
    let labels: BTreeSet<String> = metric.labels.iter().map(ToString::to_string).collect();
    match metric.kind {
        Kind::Counter | Kind::Gauge => vec![(metric.name.to_owned(), labels)],
        Kind::Histogram => {
            let mut with_bound = labels.clone();
            with_bound.insert("le".to_owned());
            vec![
                (format!("{}_bucket", metric.name), with_bound),
                (format!("{}_sum", metric.name), labels.clone()),
                (format!("{}_count", metric.name), labels),
            ]
        }
    }
}

async fn page(process: &MillpondProcess, url: &str) -> String {
    let answer = process.request(Method::GET, &format!("{url}/metrics")).send().await.expect("an answer");
    answer.text().await.expect("text")
}

fn missing(page: &str, shown: &[Shown]) -> Vec<String> {
    let series = series(page);
    let metrics = catalogue::ALL.iter().filter(|metric| shown.contains(&metric.shown));
    let names = metrics.flat_map(expected).filter(|(name, _)| !series.contains_key(name));
    names.map(|(name, _)| name).collect()
}

// S0-177
#[tokio::test]
async fn a_process_that_does_everything_exports_the_catalogue() {
    let db = TestDb::new().await;
    let partner = TestPartner::create(&db, "acme").await;
    let mut up = MillpondProcess::start(&db, &["up", "--sandbox"], &[]);
    let url = up.ready_url().await;
    let wish = json!({ "url": "https://www.tiktok.com/@amy.codes" });
    let request = partner.sign(up.request(Method::POST, &format!("{url}/api/v1/profiles/enrich")));
    let accepted = request.json(&wish).send().await.unwrap();
    assert_eq!(accepted.status(), 202);
    eventually("the job to have run", async || {
        page(&up, &url).await.contains(
            r#"millpond_job_attempts_total{queue="enrich",kind="profiles.fetch",outcome="settled"} 1"#,
        )
    })
    .await;
    let everything = [Shown::Always, Shown::Api, Shown::Workers, Shown::Leader, Shown::Scheduler];
    let mut last = String::new();
    let mut lacks = Vec::new();
    let until = Instant::now() + WAIT_MAX;
    // The leader looks every five seconds.
    while Instant::now() < until {
        last = page(&up, &url).await;
        lacks = missing(&last, &everything);
        if lacks.is_empty() {
            break;
        }
    }
    assert_eq!(lacks, Vec::<String>::new(), "the process does not export these");
    for (name, labels) in series(&last) {
        let known = catalogue::ALL.iter().flat_map(expected).find(|(known, _)| *known == name);
        let (_, expected) = known.unwrap_or_else(|| panic!("{name} is not in the catalogue"));
        assert_eq!(labels, BTreeSet::from([expected]), "{name}");
        let metric = ["_bucket", "_sum", "_count", ""]
            .iter()
            .find_map(|part| name.strip_suffix(part).and_then(catalogue::find));
        let metric = metric.expect("it is known");
        assert!(last.contains(&format!("# HELP {} {}\n", metric.name, metric.help)), "{name}");
    }
    assert!(
        last.contains(r#"millpond_job_wait_seconds_count{queue="enrich",kind="profiles.fetch"} 1"#),
        "{last}"
    );
}

#[tokio::test]
async fn workers_and_schedulers_alone_show_their_metrics_where_they_are_told() {
    let db = TestDb::new().await;
    for (role, name) in [
        (&["worker", "--queues", "webhooks,maintenance"][..], r#"millpond_worker_slots{queue="webhooks"}"#),
        (&["scheduler"][..], "millpond_build_info"),
    ] {
        let process = MillpondProcess::start(&db, role, &[("MILLPOND_METRICS__LISTEN", "127.0.0.1:0")]);
        let url = found("it to say where", async || {
            let log = process.log();
            let (_, rest) = log.split_once(r#""url":""#)?;
            Some(rest.split_once("/metrics")?.0.to_owned())
        });
        let url = url.await;
        eventually("its metrics to be shown", async || page(&process, &url).await.contains(name)).await;
        let live = process.request(Method::GET, &format!("{url}/health/live")).send().await.unwrap();
        assert_eq!(live.status(), 200);
        let output = MillpondProcess::output(&db, &["health", &url]);
        assert_eq!(output, "live\n");
    }
}
