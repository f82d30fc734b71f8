//! Rows as the statements of a search give them.

use chrono::{DateTime, Utc};
use kernel::ids::{BatchId, JobId, TenantId};
use uuid::Uuid;

use super::{FoundJob, JobState};
use crate::{Failure, JobStatus};

/// What a look found.
#[derive(Debug, Default)]
pub(super) struct Look {
    pub(super) jobs: Vec<FoundJob>,
    /// Jobs looked at.
    pub(super) looked: u64,
    /// Of these, how many match.
    pub(super) matched: u64,
    /// The part of the table that was looked at, in percent.
    pub(super) percent: f64,
    /// There are more than were looked at.
    pub(super) is_cut: bool,
    /// Whether no live job is left beyond what was seen.
    pub(super) live_is_done: bool,
    /// Up to which id everything was seen, along owners.
    pub(super) horizon: Option<Uuid>,
    /// Where a signature is counted: the messages of jobs that match.
    pub(super) messages: Vec<String>,
    /// The last end that was seen.
    pub(super) last_end: Option<(DateTime<Utc>, Uuid)>,
}

pub(super) struct Row {
    pub(super) looked: Option<i64>,
    pub(super) matched: Option<i64>,
    pub(super) percent: Option<f32>,
    pub(super) is_cut: Option<bool>,
    pub(super) horizon: Option<Uuid>,
    pub(super) messages: Option<Vec<String>>,
    pub(super) tenant_id: Option<Uuid>,
    pub(super) id: Option<Uuid>,
    pub(super) queue: Option<String>,
    pub(super) kind: Option<String>,
    pub(super) state: Option<String>,
    pub(super) attempt: Option<i16>,
    pub(super) attempts_max: Option<i16>,
    pub(super) taken_back: Option<i16>,
    pub(super) priority: Option<i16>,
    pub(super) key: Option<String>,
    pub(super) batch_id: Option<Uuid>,
    pub(super) request_id: Option<String>,
    pub(super) created_at: Option<DateTime<Utc>>,
    pub(super) started_at: Option<DateTime<Utc>>,
    pub(super) run_at: Option<DateTime<Utc>>,
    pub(super) finished_at: Option<DateTime<Utc>>,
    pub(super) code: Option<String>,
    pub(super) message: Option<String>,
}

impl Look {
    /// The first row says how it was looked, the others are jobs.
    pub(super) fn of(rows: Vec<Row>) -> Self {
        let mut look = Self::default();
        for row in rows {
            match row.looked {
                Some(looked) => {
                    look.looked = u64::try_from(looked).unwrap_or_default();
                    look.matched = row.matched.map_or(0, i64::unsigned_abs);
                    look.percent = row.percent.map_or(100.0, f64::from);
                    look.is_cut = row.is_cut.unwrap_or_default();
                    look.horizon = row.horizon;
                    look.messages = row.messages.unwrap_or_default();
                    look.last_end = row.finished_at.zip(row.id);
                }
                None => look.jobs.extend(row.into_job()),
            }
        }
        look
    }
}

impl Row {
    fn into_job(self) -> Option<FoundJob> {
        let state: JobState = self.state?.parse().ok()?;
        let status = match state {
            JobState::Completed => JobStatus::Completed,
            JobState::Failed => JobStatus::Failed,
            JobState::Cancelled => JobStatus::Cancelled,
            _ if self.started_at.is_none() => JobStatus::Queued,
            _ => JobStatus::Processing,
        };
        let message = self.message;
        Some(FoundJob {
            id: JobId::from_uuid(self.id?),
            tenant: TenantId::from_uuid(self.tenant_id?),
            kind: self.kind?,
            queue: self.queue?,
            state,
            status,
            attempts: self.attempt?,
            attempts_max: self.attempts_max?,
            taken_back: self.taken_back?,
            priority: self.priority?,
            key: self.key,
            batch: self.batch_id.map(BatchId::from_uuid),
            request_id: self.request_id,
            failure: self.code.map(|code| Failure { code, message: message.unwrap_or_default() }),
            created_at: self.created_at?,
            started_at: self.started_at,
            run_at: self.run_at,
            finished_at: self.finished_at,
        })
    }
}
