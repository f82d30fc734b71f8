//! A job that is about to be stored.

use std::time::Duration;

use chrono::{DateTime, Utc};
use kernel::ids::{JobId, TenantId};
use serde_json::Value;
use uuid::Uuid;

use crate::{Error, Job, Queue};

/// A job to be stored, with its policy's defaults; build with [`NewJob::of`] and refine.
#[derive(Debug, Clone)]
pub struct NewJob {
    pub(crate) tenant: TenantId,
    pub(crate) id: JobId,
    pub(crate) queue: Queue,
    pub(crate) kind: &'static str,
    pub(crate) priority: i16,
    pub(crate) attempts_max: i16,
    pub(crate) args: Value,
    pub(crate) delay: Duration,
    pub(crate) unique: Option<UniqueKey>,
    pub(crate) waits_for: Option<(TenantId, JobId)>,
    pub(crate) awaited: bool,
    pub(crate) subject: Option<Uuid>,
    pub(crate) request_id: Option<String>,
}

/// Of jobs of one tenant and kind with the same text, only one is stored while the key is held.
#[derive(Debug, Clone)]
pub(crate) struct UniqueKey {
    pub(crate) text: String,
    pub(crate) held_until: Option<DateTime<Utc>>,
}

impl NewJob {
    /// A job of the system tenant, to run at once, under its kind's policy.
    ///
    /// # Errors
    /// [`Error::NotJson`] when the arguments cannot be written as JSON.
    pub fn of<J: Job>(args: &J) -> Result<Self, Error> {
        Ok(Self {
            tenant: TenantId::SYSTEM,
            id: JobId::new(),
            queue: J::POLICY.queue,
            kind: J::KIND,
            priority: J::POLICY.priority,
            attempts_max: J::POLICY.attempts_max,
            args: serde_json::to_value(args).map_err(|source| Error::NotJson { kind: J::KIND, source })?,
            delay: Duration::ZERO,
            unique: None,
            waits_for: None,
            awaited: false,
            subject: None,
            request_id: None,
        })
    }

    /// The tenant that owns the job and may read it.
    #[must_use]
    pub fn tenant(mut self, tenant: TenantId) -> Self {
        self.tenant = tenant;
        self
    }

    /// An id that follows from something else, so that a repeated step stores the job once.
    #[must_use]
    pub fn id(mut self, id: JobId) -> Self {
        self.id = id;
        self
    }

    /// Not before this long after the database's now.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Only one such job until it has ended.
    #[must_use]
    pub fn unique(mut self, key: impl Into<String>) -> Self {
        self.unique = Some(UniqueKey { text: key.into(), held_until: None });
        self
    }

    /// Only one such job until it has ended and the instant has passed.
    #[must_use]
    pub fn unique_until(mut self, key: impl Into<String>, held_until: DateTime<Utc>) -> Self {
        self.unique = Some(UniqueKey { text: key.into(), held_until: Some(held_until) });
        self
    }

    /// Runs only after the other job has ended, however it ends.
    ///
    /// The other must be stored in the same transaction and say that it is [`awaited`](Self::awaited).
    #[must_use]
    pub fn after(mut self, tenant: TenantId, job: JobId) -> Self {
        self.waits_for = Some((tenant, job));
        self
    }

    /// Others will wait for this job, so ending it must look for them.
    #[must_use]
    pub fn awaited(mut self) -> Self {
        self.awaited = true;
        self
    }

    /// The creator whom the arguments or the result describe, so that erasure finds the job.
    #[must_use]
    pub fn subject(mut self, subject: Uuid) -> Self {
        self.subject = Some(subject);
        self
    }

    /// The id of the request that asked for it, carried into vendor calls and webhooks.
    #[must_use]
    pub fn request_id(mut self, request_id: Option<String>) -> Self {
        self.request_id = request_id;
        self
    }
}
