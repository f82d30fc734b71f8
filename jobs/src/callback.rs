//! What a partner is told when its job has ended: S0's callback body, the same in the callback, in the answer
//! under `Prefer: wait`, and in what a poll shows.

use queue::{JobRecord, JobStatus};
use serde_json::{Map, Value, json};

/// `{jobId, status, …result}` of a completed job, `{jobId, status, error: {code, message}}` of one that failed
/// or was cancelled.
#[must_use]
pub fn body(job: &JobRecord) -> Map<String, Value> {
    let mut body = Map::new();
    body.insert("jobId".into(), json!(job.id));
    body.insert("status".into(), json!(job.status));
    match (job.status, &job.result) {
        (JobStatus::Completed, Some(Value::Object(result))) => {
            body.extend(result.iter().map(|(name, value)| (name.clone(), value.clone())));
        }
        (JobStatus::Failed | JobStatus::Cancelled, _) => {
            body.insert("error".into(), json!(job.failure));
        }
        _ => {}
    }
    body
}
