//! A job that is about to be stored.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::{DateTime, Utc};
use kernel::{
    ids::{JobId, TenantId},
    sealing::{Keyring, SealContext},
    trace::TraceParent,
};
use serde_json::Value;
use uuid::Uuid;

use crate::{Error, Job, Marked, Queue, lane::lane};

/// A job to be stored, with its policy's defaults; build with [`NewJob::of`] and refine.
#[derive(Debug, Clone)]
pub struct NewJob {
    pub(crate) tenant: TenantId,
    pub(crate) id: JobId,
    /// The id follows from something else, so the job may be there already.
    pub(crate) id_is_derived: bool,
    pub(crate) queue: Queue,
    pub(crate) kind: &'static str,
    pub(crate) key: Option<String>,
    share: Option<TenantId>,
    pub(crate) priority: i16,
    pub(crate) attempts_max: i16,
    pub(crate) args: Value,
    marked: Marked,
    is_sealed: bool,
    pub(crate) delay: Duration,
    pub(crate) deadline: Option<Duration>,
    pub(crate) unique: Option<UniqueKey>,
    pub(crate) waits_for: Option<(TenantId, Uuid)>,
    pub(crate) awaited: bool,
    pub(crate) batch: Option<Uuid>,
    pub(crate) subject: Option<Uuid>,
    pub(crate) request_id: Option<String>,
    pub(crate) traceparent: Option<String>,
}

/// Of jobs of one tenant and kind with the same text, only one is stored while the key is held.
#[derive(Debug, Clone)]
pub(crate) struct UniqueKey {
    pub(crate) text: String,
    pub(crate) held: Held,
}

/// How long a unique key is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Held {
    /// Until the job's first attempt begins.
    UntilStarted,
    /// Until the job has ended.
    UntilEnded,
    /// Until the job has ended and this long has passed since it was stored.
    For(Duration),
    /// Until the job has ended and this instant has passed.
    Until(DateTime<Utc>),
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
            id_is_derived: false,
            queue: J::POLICY.queue,
            kind: J::KIND,
            key: None,
            share: None,
            priority: J::POLICY.priority,
            attempts_max: J::POLICY.attempts_max,
            args: serde_json::to_value(args).map_err(|source| Error::NotJson { kind: J::KIND, source })?,
            marked: J::MARKED,
            is_sealed: J::MARKED.encrypted.is_empty(),
            delay: Duration::ZERO,
            deadline: J::POLICY.deadline,
            unique: None,
            waits_for: None,
            awaited: false,
            batch: None,
            subject: None,
            request_id: None,
            traceparent: None,
        })
    }

    /// The tenant that owns the job and may read it. It also pays for it with its share of the workers, unless
    /// [`share_of`](Self::share_of) says otherwise.
    #[must_use]
    pub fn tenant(mut self, tenant: TenantId) -> Self {
        self.tenant = tenant;
        self
    }

    /// Whose share of the workers the job uses, when it is done for somebody other than its owner.
    #[must_use]
    pub fn share_of(mut self, tenant: TenantId) -> Self {
        self.share = Some(tenant);
        self
    }

    /// An id that follows from something else, so that a repeated step stores the job once.
    #[must_use]
    pub fn id(mut self, id: JobId) -> Self {
        self.id = id;
        self.id_is_derived = true;
        self
    }

    /// Jobs of one kind and key may have a common bound of how many run at once, and limits of their own: an
    /// endpoint, an account.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Another order within the queue than the kind's; lower runs first.
    #[must_use]
    pub fn priority(mut self, priority: i16) -> Self {
        self.priority = priority;
        self
    }

    /// Not before this long after the database's now.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Fails when it has not ended this long after being stored.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Only one such job between being stored and its first attempt: one that runs already may have read too early.
    #[must_use]
    pub fn unique_until_started(self, key: impl Into<String>) -> Self {
        self.unique_while(key, Held::UntilStarted)
    }

    /// Only one such job until it has ended.
    #[must_use]
    pub fn unique(self, key: impl Into<String>) -> Self {
        self.unique_while(key, Held::UntilEnded)
    }

    /// Only one such job until it has ended and the period since it was stored has passed.
    #[must_use]
    pub fn unique_for(self, key: impl Into<String>, period: Duration) -> Self {
        self.unique_while(key, Held::For(period))
    }

    /// Only one such job until it has ended and the instant has passed.
    #[must_use]
    pub fn unique_until(self, key: impl Into<String>, held_until: DateTime<Utc>) -> Self {
        self.unique_while(key, Held::Until(held_until))
    }

    fn unique_while(mut self, key: impl Into<String>, held: Held) -> Self {
        self.unique = Some(UniqueKey { text: key.into(), held });
        self
    }

    /// Runs only after the other job has ended, however it ends.
    ///
    /// The other must be stored in the same transaction and say that it is [`awaited`](Self::awaited).
    #[must_use]
    pub fn after(mut self, tenant: TenantId, job: JobId) -> Self {
        self.waits_for = Some((tenant, job.uuid()));
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

    /// Where in a trace it is asked for, carried like the request's id. Attempts at a job that nobody traced are in a
    /// trace of its own.
    #[must_use]
    pub fn traceparent(mut self, trace: Option<TraceParent>) -> Self {
        self.traceparent = trace.map(|trace| trace.to_string());
        self
    }

    /// Seals the arguments that the kind [marks](Job::MARKED) as encrypted, bound to the job's tenant and id: call it
    /// after these are set. A job with marked arguments that were not sealed is refused.
    #[must_use]
    pub fn seal(mut self, keyring: &Keyring) -> Self {
        if let (false, Some(fields)) = (self.is_sealed, self.args.as_object_mut()) {
            for name in self.marked.encrypted {
                if let Some(field) = fields.get_mut(*name).filter(|field| !field.is_null()) {
                    let context = seal_context(self.tenant, self.id);
                    let sealed = keyring.seal(field.to_string().as_bytes(), &context);
                    *field = serde_json::json!({ SEALED: STANDARD.encode(sealed) });
                }
            }
        }
        self.is_sealed = true;
        self
    }

    /// The job's id.
    #[must_use]
    pub const fn job(&self) -> JobId {
        self.id
    }

    /// The queue that it will stand in.
    #[must_use]
    pub const fn queue(&self) -> Queue {
        self.queue
    }

    /// What must hold before it is stored.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.is_sealed { Ok(()) } else { Err(Error::NotSealed { kind: self.kind }) }
    }

    pub(crate) fn share(&self) -> TenantId {
        self.share.unwrap_or(self.tenant)
    }

    pub(crate) fn lane(&self) -> Uuid {
        lane(self.queue, self.share(), self.kind, self.key.as_deref())
    }

    pub(crate) fn delay_ms(&self) -> i64 {
        millis(self.delay)
    }

    pub(crate) fn deadline_ms(&self) -> Option<i64> {
        self.deadline.map(millis)
    }

    /// The fields that nobody is shown; `None` when there are none, as nearly always.
    pub(crate) fn redact(&self) -> Option<Vec<&'static str>> {
        let fields: Vec<&str> = self.marked.redacted.iter().chain(self.marked.encrypted).copied().collect();
        (!fields.is_empty()).then_some(fields)
    }

    /// Whether it may be stored by the statement that knows neither keys nor waiting nor ids that exist.
    pub(crate) fn is_plain(&self) -> bool {
        !self.id_is_derived && self.unique.is_none() && self.waits_for.is_none()
    }

    /// Whether two jobs differ in nothing but id and arguments.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        self.tenant == other.tenant
            && self.kind == other.kind
            && self.queue == other.queue
            && self.key == other.key
            && self.share() == other.share()
            && self.priority == other.priority
            && self.attempts_max == other.attempts_max
            && self.delay == other.delay
            && self.deadline == other.deadline
            && self.awaited == other.awaited
            && self.batch == other.batch
            && self.subject == other.subject
            && self.request_id == other.request_id
            && self.traceparent == other.traceparent
    }
}

/// The one field of a sealed value.
const SEALED: &str = "$sealed";

fn seal_context(tenant: TenantId, job: JobId) -> SealContext {
    SealContext { table: "jobs", column: "args", owner: tenant.uuid(), row: job.uuid() }
}

/// Opens the sealed arguments of a claimed job, for its handler.
///
/// # Errors
/// [`Error::Sealing`] when a value was moved, changed, or sealed with a key that is gone.
pub fn open_args(
    args: &mut Value,
    marked: &Marked,
    keyring: &Keyring,
    tenant: TenantId,
    job: JobId,
) -> Result<(), Error> {
    let Some(fields) = args.as_object_mut() else { return Ok(()) };
    for name in marked.encrypted {
        let Some(field) = fields.get_mut(*name) else { continue };
        let Some(sealed) = field.get(SEALED).and_then(Value::as_str) else { continue };
        let sealed = STANDARD.decode(sealed).map_err(|_| kernel::sealing::SealError::Malformed)?;
        let opened = keyring.open(&sealed, &seal_context(tenant, job))?;
        *field = serde_json::from_slice(&opened).map_err(|_| kernel::sealing::SealError::Malformed)?;
    }
    Ok(())
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
