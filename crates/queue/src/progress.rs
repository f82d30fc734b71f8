//! How far a running job is, as its handler says: shown while the job lives, gone with its end.

use chrono::{DateTime, Utc};
use db::Pool;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{Error, LeaseKey};

/// What a handler said last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Steps done.
    pub done: u64,
    /// Steps in all, where known.
    pub total: Option<u64>,
    /// In words, for people.
    #[serde(default)]
    pub note: Option<String>,
    /// When it was written, by the database's clock.
    pub at: DateTime<Utc>,
}

/// A report of progress that is still to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgressReport {
    /// Steps done.
    pub done: u64,
    /// Steps in all, where known.
    pub total: Option<u64>,
    /// In words, for people; cut to 200 characters.
    pub note: Option<String>,
}

const NOTE_CHARS_MAX: usize = 200;

/// Writes the latest report of each job, in one statement. Reports of jobs whose lease was lost are dropped.
///
/// # Errors
/// [`Error::Database`]; nothing was written.
pub async fn write_progress(pool: &Pool, reports: &[(LeaseKey, ProgressReport)]) -> Result<(), Error> {
    let tenants: Vec<Uuid> = reports.iter().map(|(lease, _)| lease.tenant.uuid()).collect();
    let ids: Vec<Uuid> = reports.iter().map(|(lease, _)| lease.job.uuid()).collect();
    let tokens: Vec<i32> = reports.iter().map(|(lease, _)| lease.token).collect();
    let values: Vec<Value> = reports.iter().map(|(_, report)| report.value()).collect();
    sqlx::query!(
        "update jobs j
         set progress = i.progress || jsonb_build_object('at', now())
         from unnest($1::uuid[], $2::uuid[], $3::integer[], $4::jsonb[]) as i (tenant_id, id, lease_token, progress)
         where j.tenant_id = i.tenant_id and j.id = i.id and j.lease_token = i.lease_token
           and j.leased_by is not null",
        &tenants,
        &ids,
        &tokens,
        &values,
    )
    .execute(pool)
    .await?;
    Ok(())
}

impl ProgressReport {
    fn value(&self) -> Value {
        let note = self.note.as_ref().map(|note| {
            note.chars().filter(|character| *character != '\0').take(NOTE_CHARS_MAX).collect::<String>()
        });
        json!({ "done": self.done, "total": self.total, "note": note })
    }
}
