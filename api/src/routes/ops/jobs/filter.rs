//! Which jobs: the parameters of every question about many jobs, and what they come to.

use chrono::{DateTime, Utc};
use db::Connection;
use queue::{ArgIs, JobSearch, JobState};
use serde_json::Value;

use crate::error::ApiError;
use crate::extract::fields::{Fields, FromFields, Problem, instant, text};
use crate::routes::ops::owners::{Owners, name};

/// Names of one parameter.
const NAMES_MAX: usize = 20;
/// Of an error's signature; they are cut at 160.
const SIGNATURE_CHARS_MAX: usize = 200;

/// Query parameters that say which jobs.
#[derive(Debug, utoipa::IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
#[allow(dead_code)] // The schema of what is read by hand.
pub struct JobFilterParams {
    /// States, separated by commas: `scheduled`, `waiting`, `parked`, `ready`, `running`, `completed`, `failed`,
    /// `cancelled`.
    #[param(required = false, nullable = false, example = "ready,running")]
    state: Option<String>,
    /// Kinds, separated by commas.
    #[param(required = false, nullable = false, example = "profiles.fetch")]
    kind: Option<String>,
    /// Queues, separated by commas.
    #[param(required = false, nullable = false)]
    queue: Option<String>,
    /// A partner's code, or `system`.
    #[param(required = false, nullable = false)]
    tenant: Option<String>,
    /// The job's key.
    #[param(required = false, nullable = false)]
    key: Option<String>,
    /// The request that asked for it.
    #[param(required = false, nullable = false)]
    request_id: Option<String>,
    /// The batch that it is a child of.
    #[param(required = false, nullable = false)]
    batch: Option<String>,
    /// The code of its error.
    #[param(required = false, nullable = false, example = "VENDOR_UNAVAILABLE")]
    error_code: Option<String>,
    /// The signature of its error, as dead letters are grouped by.
    #[param(required = false, nullable = false)]
    error_signature: Option<String>,
    /// Stored at or after this instant.
    #[param(required = false, nullable = false)]
    created_from: Option<DateTime<Utc>>,
    /// Stored before this instant.
    #[param(required = false, nullable = false)]
    created_before: Option<DateTime<Utc>>,
    /// Ended at or after this instant.
    #[param(required = false, nullable = false)]
    finished_from: Option<DateTime<Utc>>,
    /// Ended before this instant.
    #[param(required = false, nullable = false)]
    finished_before: Option<DateTime<Utc>>,
    /// An argument: `path=value`, the path with dots; only together with a kind and a range of time. Arguments that are
    /// kept from sight match nothing.
    #[param(required = false, nullable = false, example = "profile=https://www.tiktok.com/@amy.codes")]
    argument: Option<String>,
}

/// Which jobs, as asked.
#[derive(Debug)]
pub struct JobFilter {
    search: JobSearch,
    tenant: Option<String>,
}

impl FromFields for JobFilter {
    fn read(fields: &mut Fields) -> Option<Self> {
        let search = JobSearch {
            states: fields.optional("state", states).unwrap_or_default(),
            kinds: fields.optional("kind", names).unwrap_or_default(),
            queues: fields.optional("queue", names).unwrap_or_default(),
            key: fields.optional("key", name),
            request_id: fields.optional("requestId", name),
            batch: fields.optional("batch", |value| text(value)?.parse().map_err(Problem::invalid)),
            code: fields.optional("errorCode", name),
            signature: fields.optional("errorSignature", signature),
            created_from: fields.optional("createdFrom", instant),
            created_before: fields.optional("createdBefore", instant),
            finished_from: fields.optional("finishedFrom", instant),
            finished_before: fields.optional("finishedBefore", instant),
            arg: fields.optional("argument", argument),
            ..JobSearch::default()
        };
        Some(Self { search, tenant: fields.optional("tenant", name) })
    }
}

impl JobFilter {
    /// The search, and everybody who may own what it finds.
    ///
    /// # Errors
    /// 400 when it cannot be made.
    pub async fn resolve(&self, conn: &mut Connection) -> Result<(JobSearch, Owners), ApiError> {
        let owners = Owners::load(conn).await?;
        let mut search = self.search.clone();
        search.tenant = self.tenant.as_deref().map(|tenant| owners.find(tenant)).transpose()?;
        search.check().map_err(|fault| ApiError::from(queue::Error::from(fault)))?;
        Ok((search, owners))
    }
}

fn list<T>(value: &Value, read: impl Fn(&str) -> Result<T, Problem>) -> Result<Vec<T>, Problem> {
    let parts: Vec<&str> = text(value)?.split(',').map(str::trim).collect();
    if parts.len() > NAMES_MAX {
        return Err(Problem::invalid(format!("must not name more than {NAMES_MAX}")));
    }
    parts.into_iter().map(read).collect()
}

fn states(value: &Value) -> Result<Vec<JobState>, Problem> {
    list(value, |word| word.parse().map_err(Problem::invalid))
}

fn names(value: &Value) -> Result<Vec<String>, Problem> {
    list(value, |word| name(&Value::from(word)))
}

pub(in crate::routes::ops) fn signature(value: &Value) -> Result<String, Problem> {
    let text = text(value)?;
    let fits = text.chars().count() <= SIGNATURE_CHARS_MAX && !text.contains('\0');
    if fits { Ok(text.to_owned()) } else { Err(Problem::invalid("must have at most 200 characters")) }
}

fn argument(value: &Value) -> Result<ArgIs, Problem> {
    let text = name(value)?;
    let (path, value) = text.split_once('=').ok_or_else(|| Problem::invalid("must be `path=value`"))?;
    Ok(ArgIs { path: path.split('.').map(str::to_owned).collect(), value: value.to_owned() })
}
