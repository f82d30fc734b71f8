//! `millpond schedules …`.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::{BINARY, MillpondProcess, TestDb, account, eventually, keyring};

fn output(db: &TestDb, arguments: &[&str]) -> String {
    MillpondProcess::output(db, &[&["schedules"], arguments].concat())
}

fn json(db: &TestDb, arguments: &[&str]) -> Value {
    serde_json::from_str(&output(db, &[arguments, &["--json"]].concat())).unwrap()
}

/// What a command that is refused says, and its exit code.
fn refusal(db: &TestDb, arguments: &[&str]) -> (Value, Option<i32>) {
    let mut command = Command::new(BINARY);
    command.args(["schedules", "--json"]).args(arguments).envs(db.variables());
    command.env("MILLPOND_ENCRYPTION__KEYS", keyring().to_text());
    let output = command.stdin(Stdio::null()).output().unwrap();
    (serde_json::from_slice(&output.stderr).unwrap(), output.status.code())
}

#[tokio::test]
async fn operators_make_look_at_change_pause_run_and_remove_schedules() {
    let db = TestDb::new().await;
    let made = output(
        &db,
        &[
            "set",
            "nightly",
            "--kind",
            "maintenance.prune_jobs",
            "--cron",
            "0 4 * * mon,fri",
            "--time-zone",
            "Asia/Ho_Chi_Minh",
            "--missed",
            "backfill:3",
            "--jitter",
            "30s",
        ],
    );
    assert!(
        made.starts_with("nightly is set: at 04:00 on Monday and Friday, Asia/Ho_Chi_Minh time"),
        "{made}"
    );
    let run = json(&db, &["run", "nightly"]);
    assert!(run["jobId"].as_str().unwrap().starts_with("job_"), "{run}");
    assert_eq!(json(&db, &["pause", "nightly"])["isEnabled"], false);
    let listed = json(&db, &["list"]);
    let nightly = &listed[0];
    assert_eq!(nightly["words"], "at 04:00 on Monday and Friday, Asia/Ho_Chi_Minh time");
    assert_eq!((&nightly["missed"], &nightly["jitterMs"]), (&"backfill:3".into(), &30_000.into()));
    assert_eq!((&nightly["nextAt"], &nightly["missedTicks"]), (&Value::Null, &0.into()));
    assert_eq!(
        (&nightly["lastRun"]["jobId"], &nightly["lastRun"]["status"]),
        (&run["jobId"], &"queued".into())
    );
    let table = output(&db, &["list"]);
    assert!(
        table.contains("paused") && table.contains("queued") && table.contains("0 4 * * mon,fri"),
        "{table}"
    );
    output(&db, &["resume", "nightly"]);
    let shown = output(&db, &["show", "nightly"]);
    assert!(
        shown.contains(&format!("asked for by {}", account())) && shown.contains("04:00:00 +07:00"),
        "{shown}"
    );
    let shown = json(&db, &["show", "nightly", "--count", "3"]);
    assert_eq!(shown["nextTicks"].as_array().unwrap().len(), 3);
    assert_eq!(
        (&shown["ticks"][0]["outcome"], &shown["ticks"][0]["jobId"]),
        (&"manual".into(), &run["jobId"])
    );
    assert_eq!(output(&db, &["remove", "nightly"]).trim(), "nightly is removed");
    assert!(output(&db, &["list"]).contains("there is no schedule"));
}

#[tokio::test]
async fn the_programs_own_schedules_are_there_when_a_scheduler_has_begun_and_can_be_reset() {
    let db = TestDb::new().await;
    let _scheduler = MillpondProcess::start(&db, &["scheduler"], &[]);
    eventually("they are declared", async || {
        json(&db, &["list"]).as_array().is_some_and(|all| !all.is_empty())
    })
    .await;
    let edited = json(&db, &["set", "maintenance.prune_jobs", "--cron", "*/2 * * * *"]);
    assert_eq!((&edited["isEdited"], &edited["editedBy"]), (&true.into(), &account().into()));
    let reset = json(&db, &["reset", "maintenance.prune_jobs"]);
    assert_eq!((&reset["cron"], &reset["isEdited"]), (&"17 * * * *".into(), &false.into()));
    assert_eq!(reset["words"], "every hour at minute 17, Asia/Ho_Chi_Minh time");
}

#[tokio::test]
async fn a_preview_shows_a_line_over_a_change_of_the_clock_and_stores_nothing() {
    let db = TestDb::new().await;
    let line = [
        "preview",
        "30 2 * * *",
        "--time-zone",
        "Europe/Berlin",
        "--after",
        "2026-10-24T00:00:00Z",
        "--count",
        "3",
    ];
    let preview = json(&db, &line);
    assert_eq!(preview["words"], "at 02:30, Europe/Berlin time");
    let ticks: Vec<_> =
        preview["ticks"].as_array().unwrap().iter().map(|tick| tick["utc"].as_str().unwrap()).collect();
    assert_eq!(ticks, ["2026-10-24T00:30:00.000Z", "2026-10-25T00:30:00.000Z", "2026-10-26T01:30:00.000Z"]);
    assert!(output(&db, &line).contains("Sun 2026-10-25 02:30:00 +02:00"));
    assert_eq!(json(&db, &["preview", "* * * * *", "--count", "2"])["ticks"].as_array().unwrap().len(), 2);
    assert_eq!(json(&db, &["list"]), Value::Array(Vec::new()));
}

#[tokio::test]
async fn what_is_wrong_is_said_field_by_field() {
    let db = TestDb::new().await;
    let (said, code) = refusal(&db, &["preview", "61 25 * * *", "--time-zone", "Nowhere/At_All"]);
    assert_eq!((code, &said["error"]["code"]), (Some(2), &"VALIDATION_ERROR".into()));
    let fields: Vec<_> = said["error"]["details"]
        .as_array()
        .unwrap()
        .iter()
        .map(|detail| detail["field"].as_str().unwrap())
        .collect();
    assert_eq!(fields, ["cron", "cron", "time zone"]);
    let (said, code) = refusal(&db, &["set", "new", "--cron", "* * * * *", "--kind", "no.such_kind"]);
    assert_eq!(code, Some(2));
    assert!(said["error"]["message"].as_str().unwrap().contains("maintenance.prune_jobs"), "{said}");
    let (said, code) = refusal(&db, &["pause", "nothing"]);
    assert_eq!((code, &said["error"]["code"]), (Some(1), &"NOT_FOUND".into()));
    let (_, code) = refusal(&db, &["set", "new", "--missed", "sometimes"]);
    assert_eq!(code, Some(2));
}
