//! `millpond jobs explain`: why a job is not running, and when it ends. `millpond jobs estimates`: how such answers came
//! true.

use std::fmt::Write as _;

use db::Pool;
use kernel::ids::JobId;
use queue::eta::{Calibration, RECENT_MAX};
use queue::{Blocker, Eta, Explanation, JobRecord};
use serde_json::{Value, json};

use super::jobs::{Names, found, instant};
use crate::error::CliError;
use crate::output::Output;

/// Says why a job is not running.
pub(super) async fn explain(pool: &Pool, output: Output, id: JobId) -> Result<(), CliError> {
    let names = Names::load(pool).await?;
    let mut conn = pool.acquire().await?;
    let job = found(&mut conn, &names, id).await?;
    let estimator = ::jobs::estimator(pool.clone());
    match estimator.explain(job.tenant, id).await? {
        Some(explanation) => output.show(&as_json(&explanation, &names), || as_text(&explanation, &names, 0)),
        None => ended(&mut conn, output, &names, id).await,
    }
}

/// It has ended: that is why it does not run.
async fn ended(conn: &mut db::Connection, output: Output, names: &Names, id: JobId) -> Result<(), CliError> {
    let job: JobRecord = found(conn, names, id).await?;
    let json = json!({"jobId": id, "kind": job.kind, "state": job.status, "blockers": [], "eta": null});
    output.show(&json, || format!("{id} ({}) has ended: it is {}", job.kind, job.status))
}

fn as_json(explanation: &Explanation, names: &Names) -> Value {
    json!({
        "jobId": explanation.job,
        "owner": names.of(explanation.tenant),
        "kind": explanation.kind,
        "queue": explanation.queue,
        "state": explanation.state,
        "seenAt": instant(explanation.seen_at),
        "blockers": explanation.blockers.iter().map(blocker_as_json).collect::<Vec<_>>(),
        "eta": explanation.eta.map(eta_as_json),
        "waitsFor": explanation.awaited.as_deref().map(|awaited| as_json(awaited, names)),
    })
}

fn blocker_as_json(blocker: &Blocker) -> Value {
    json!({
        "because": blocker.because.code(),
        "message": blocker.because.to_string(),
        "clearsAt": blocker.clears_at.map(instant),
        "isEstimated": blocker.is_estimated,
    })
}

fn eta_as_json(eta: Eta) -> Value {
    json!({
        "earliest": instant(eta.earliest),
        "likely": instant(eta.likely),
        "latest": instant(eta.latest),
    })
}

fn as_text(explanation: &Explanation, names: &Names, depth: usize) -> String {
    let indent = "  ".repeat(depth);
    let Explanation { job, kind, state, .. } = explanation;
    let mut text = format!("{indent}{job} ({kind}, of {}) is {state}", names.of(explanation.tenant));
    if explanation.blockers.is_empty() && explanation.state != "running" {
        text.push_str("; nothing holds it back, it is about to run");
    }
    for (n, blocker) in explanation.blockers.iter().enumerate() {
        let clears = match (blocker.clears_at, blocker.is_estimated) {
            (Some(at), false) => format!(", until {}", instant(at)),
            (Some(at), true) => format!(", until about {}", instant(at)),
            (None, _) => String::new(),
        };
        // Writing to a text does not fail.
        let _ = write!(text, "\n{indent}  {}. {}{clears}", n + 1, blocker.because);
    }
    let _ = match explanation.eta {
        Some(eta) => write!(
            text,
            "\n{indent}  ends at about {}, between {} and {}",
            instant(eta.likely),
            instant(eta.earliest),
            instant(eta.latest),
        ),
        None => write!(text, "\n{indent}  nobody can tell when it ends before somebody acts"),
    };
    if let Some(awaited) = &explanation.awaited {
        let _ = write!(text, "\n{indent}  it waits for:\n{}", as_text(awaited, names, depth + 2));
    }
    text
}

/// Shows how estimates came true.
pub(super) async fn estimates(pool: &Pool, output: Output) -> Result<(), CliError> {
    let calibrations = queue::eta::calibrations(pool).await?;
    let json: Vec<Value> = calibrations.iter().map(calibration_as_json).collect();
    output.show(&json, || calibrations_as_table(&calibrations))
}

fn calibration_as_json(one: &Calibration) -> Value {
    json!({
        "kind": one.kind,
        "stage": one.stage.as_str(),
        "within": one.judged.within,
        "early": one.judged.early,
        "late": one.judged.late,
        "recentWithin": one.recent_within,
        "recentRatio": one.recent_ratio,
        "lastAt": one.last_at.map(instant),
    })
}

fn calibrations_as_table(calibrations: &[Calibration]) -> String {
    if calibrations.is_empty() {
        return "no estimate has come true or not yet: they are given to those who ask for a job".to_owned();
    }
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    let of_recent = format!("OF LAST {RECENT_MAX}");
    table.set_header(["KIND", "WHEN ASKED", "WITHIN", "EARLY", "LATE", &of_recent, "ACTUAL / MODEL"]);
    for one in calibrations {
        table.add_row([
            one.kind.clone(),
            one.stage.as_str().to_owned(),
            one.judged.within.to_string(),
            one.judged.early.to_string(),
            one.judged.late.to_string(),
            format!("{:.0} %", one.recent_within * 100.0),
            format!("{:.2}", one.recent_ratio),
        ]);
    }
    table.trim_fmt()
}
