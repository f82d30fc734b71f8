//! `GET /api/v1/ops/audit`: who changed what. For admins. Whether the log is whole is for `millpond audit verify`, which
//! needs to trust neither the database nor this process.

use audit::{ActorKind, Cursor, Filter, Order, Recorded};
use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::listing::{Format, ListParams, Listed, Listing};
use super::owners::{Owners, name};
use crate::error::{ApiError, ErrorBody};
use crate::extract::fields::{Fields, FromFields, Problem, instant as read_instant, text};
use crate::extract::person::Admin;
use crate::routes::body::List;
use crate::routes::instant;
use crate::state::ApiState;

/// An entry of the audit log.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditView {
    /// Its id.
    #[schema(example = "aud_01jd8x4xkre9a8y9tbn2p5q3mw")]
    id: String,
    /// When the change was made.
    #[schema(format = DateTime)]
    at: String,
    /// `user`, `partner`, `cli` or `system`.
    #[schema(example = "user")]
    actor_kind: String,
    /// Who: a user's or partner's id, an account, or a part of the program.
    #[schema(example = "usr_01jd8x4xkre9a8y9tbn2p5q3mw")]
    actor: String,
    /// What was done.
    #[schema(example = "queues.pause")]
    action: String,
    /// What it was done to.
    #[schema(example = "ptn_01jd8x4xkre9a8y9tbn2p5q3mw")]
    target: String,
    /// Whose that is: a partner's code, or `system`.
    #[schema(example = "techcombank")]
    tenant: String,
    /// What was, as far as it changed. Personal values stand as digests.
    #[schema(example = json!({"rateLimit": 100}))]
    before: Option<Value>,
    /// What is.
    #[schema(example = json!({"rateLimit": 600}))]
    after: Option<Value>,
    /// The request that asked for it.
    request_id: Option<String>,
    /// Its number in the chain; null: it is not sealed yet, which takes about a second.
    seq: Option<i64>,
}

impl Listed for AuditView {
    const NAME: &'static str = "audit";
    const ID: &'static str = "id";
    const COLUMNS: &'static [&'static str] = &[
        "id",
        "at",
        "actorKind",
        "actor",
        "action",
        "target",
        "tenant",
        "before",
        "after",
        "requestId",
        "seq",
    ];
}

impl AuditView {
    fn of(entry: Recorded, owners: &Owners) -> Self {
        Self {
            id: entry.id.to_string(),
            at: instant(entry.at),
            actor_kind: entry.actor_kind,
            actor: entry.actor,
            action: entry.action,
            target: entry.target,
            tenant: owners.name(entry.tenant),
            before: entry.before,
            after: entry.after,
            request_id: entry.request_id,
            seq: entry.seq,
        }
    }
}

/// Which entries, as asked.
#[derive(Debug)]
pub struct Entries {
    filter: Filter,
    tenant: Option<String>,
}

impl FromFields for Entries {
    fn read(fields: &mut Fields) -> Option<Self> {
        let filter = Filter {
            actor_kind: fields.optional("actorKind", actor_kind),
            actor: fields.optional("actor", name),
            action: fields.optional("action", name),
            target: fields.optional("target", name),
            request_id: fields.optional("requestId", name),
            from: fields.optional("from", read_instant),
            before: fields.optional("before", read_instant),
            tenant: None,
        };
        Some(Self { filter, tenant: fields.optional("tenant", name) })
    }
}

fn actor_kind(value: &Value) -> Result<ActorKind, Problem> {
    let word = text(value)?;
    let known = ActorKind::ALL.into_iter().find(|kind| kind.as_str() == word);
    known.ok_or_else(|| Problem::invalid("must be `user`, `partner`, `cli` or `system`"))
}

/// List the audit log
///
/// The newest first; `sort=at` gives the oldest.
#[utoipa::path(
    get, path = "/api/v1/ops/audit", tag = "Audit", operation_id = "listAudit",
    security(("session" = []), ("bearer" = [])), extensions(("x-required-role" = json!("admin"))),
    params(ListParams,
        ("actorKind" = Option<String>, Query, description = "only `user`, `partner`, `cli` or `system`"),
        ("actor" = Option<String>, Query, description = "only of this actor"),
        ("action" = Option<String>, Query, description = "only actions that begin so", example = "queues."),
        ("target" = Option<String>, Query, description = "only what was done to this"),
        ("tenant" = Option<String>, Query, description = "only of this partner's code, or `system`"),
        ("requestId" = Option<String>, Query, description = "only of this request"),
        ("from" = Option<DateTime<Utc>>, Query, description = "at or after this instant"),
        ("before" = Option<DateTime<Utc>>, Query, description = "before this instant")),
    responses(
        (status = 200, description = "the entries", content(
            (List<AuditView> = "application/json"), (String = "text/csv"))),
        (status = 400, description = "parameters are not valid; all their faults", body = ErrorBody)))]
pub async fn list(
    State(state): State<ApiState>,
    Admin(_me): Admin,
    listing: Listing<AuditView, Entries>,
) -> Result<Response, ApiError> {
    let order = match listing.sort() {
        None => Order::Newest,
        Some(sort) if sort.field == "at" && !sort.descending => Order::Oldest,
        Some(sort) if sort.field == "at" => Order::Newest,
        Some(_) => return Err(ApiError::invalid("sort", "INVALID", "must be `at` or `-at`")),
    };
    let mut after: Option<Cursor> = listing.after()?;
    let mut conn = super::reading(&state).await?;
    let owners = Owners::load(&mut conn).await?;
    let mut filter = listing.filter.filter.clone();
    filter.tenant = listing.filter.tenant.as_deref().map(|tenant| owners.find(tenant)).transpose()?;
    let limit = listing.limit as usize;
    let mut entries = Vec::new();
    loop {
        let page = audit::list(&mut conn, &filter, order, after, limit - entries.len()).await?;
        entries.extend(page.entries);
        after = page.next;
        // A file is put together of as many pages as it takes.
        if after.is_none() || entries.len() >= limit || listing.format == Format::Json {
            break;
        }
    }
    listing.page(entries.into_iter().map(|entry| AuditView::of(entry, &owners)).collect(), after)
}
