//! The whole installation in one process, killed in the middle of its work.

use std::process::Command;
use std::time::Duration;

use reqwest::{Client, Method};
use serde_json::{Value, json};

use super::fleet::profile;
use crate::support::{BINARY, MillpondProcess, found, pointless_behind_a_pooler};

const JOBS: usize = 60;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn up_killed_in_the_middle_of_its_work_goes_on_when_it_is_started_again() {
    if pointless_behind_a_pooler(
        "`up` killed and started again",
        "it has a private server that nobody else reaches",
    ) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut up = up(&folder);
    let mut url = up.ready_url().await;
    let partner = create_partner(&folder);
    let client = Client::new();
    let mut accepted = Vec::new();
    for number in 0..JOBS {
        let request = client.request(Method::POST, format!("{url}/api/v1/profiles/enrich"));
        let answer = signed(request, &partner).json(&json!({ "url": profile(number) })).send().await.unwrap();
        let body: Value = answer.json().await.unwrap();
        accepted.push(body["jobId"].as_str().unwrap_or_else(|| panic!("{body}")).to_owned());
    }

    up.kill_9();
    up = self::up(&folder);
    url = up.ready_url().await;

    for job in &accepted {
        let ended = found("the job to end", async || {
            let request = client.request(Method::GET, format!("{url}/api/v1/jobs/{job}?wait=5"));
            let answer = signed(request, &partner).send().await.unwrap();
            let body: Value = answer.json().await.unwrap();
            let status = body["data"]["status"].as_str().unwrap_or_else(|| panic!("{body}")).to_owned();
            ["completed", "failed", "cancelled"].contains(&status.as_str()).then_some(status)
        });
        assert_eq!(ended.await, "completed");
    }
    up.signal("TERM");
    assert!(up.ended().await.success(), "it stops in good order");
}

fn up(folder: &tempfile::TempDir) -> MillpondProcess {
    let mut command = Command::new(BINARY);
    command
        .args(["up", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(folder.path())
        .env_remove("DATABASE_URL")
        .env("MILLPOND_QUEUE__LEASE_MS", "1000")
        .env("MILLPOND_QUEUE__SWEEP_MS", "500")
        .env("MILLPOND_LOG__FILTER", "warn");
    MillpondProcess::start_command(command)
}

fn create_partner(folder: &tempfile::TempDir) -> Value {
    let mut command = Command::new(BINARY);
    command
        .args(["partners", "create", "--code", "vinfast", "--name", "Vinfast", "--subscription", "basic"])
        .args(["--rate-limit", "100000", "--json", "--data-dir"])
        .arg(folder.path())
        .env_remove("DATABASE_URL");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn signed(request: reqwest::RequestBuilder, partner: &Value) -> reqwest::RequestBuilder {
    request
        .timeout(Duration::from_secs(30))
        .header("X-Partner-ID", partner["partnerId"].as_str().unwrap())
        .header("X-API-Key", partner["apiKey"].as_str().unwrap())
}
