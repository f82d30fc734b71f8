//! `/api/v1/admin/partners`: make partners, find them, change them, switch them off and on.

use ::partners::quota::{DayUsage, calendar_now, read, usage, used_by_all};
use ::partners::rotation::list_keys;
use ::partners::{
    Contact, NewPartner, Partner, PartnerChange, Quota, SubscriptionStatus, SubscriptionTier, directory,
};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use db::Connection;
use http::StatusCode;
use jobs::partners as actions;
use kernel::ids::TenantId;
use queue::Queue;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::PathPartner;
use super::keys::KeyView;
use super::subscription::SubscriptionDetail;
use crate::error::{ApiError, ErrorBody};
use crate::extract::body::JsonBody;
use crate::extract::fields::{Fields, FromFields, Problem, flag, instant as read_instant, text, whole_in};
use crate::extract::person::{Admin, Viewer, door};
use crate::extract::query::Query;
use crate::routes::body::{Data, List};
use crate::routes::instant;
use crate::routes::ops::listing::{ListParams, Listed, Listing};
use crate::routes::ops::reading;
use crate::routes::partners::quota::{DayUsageView, QuotaView};
use crate::state::ApiState;

/// Partners read at the most; the list is sorted and cut here.
const PARTNERS_MAX: u32 = 10_000;
/// Keys shown of one partner, the newest.
const KEYS_SHOWN_MAX: u32 = 50;
/// Days of usage shown.
const HISTORY_DAYS: u32 = 30;

/// A partner in the list.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PartnerRow {
    #[schema(example = "ptn_01jd8x4xkre9a8y9tbn2p5q3mw")]
    id: String,
    #[schema(example = "Techcombank")]
    name: String,
    /// What it calls itself in `X-Partner-ID`.
    #[schema(example = "techcombank")]
    code: String,
    is_active: bool,
    /// `free`, `basic`, `premium` or `enterprise`.
    #[schema(example = "premium")]
    tier: &'static str,
    /// `active`, `grace_period`, `expired` or `suspended`.
    #[schema(example = "active")]
    status: &'static str,
    /// This month.
    quota: QuotaView,
    /// Requests a minute.
    #[schema(example = 100)]
    rate_limit: u32,
    /// To the minute; null: never.
    #[schema(format = DateTime)]
    last_api_call_at: Option<String>,
    #[schema(format = DateTime)]
    created_at: String,
}

impl Listed for PartnerRow {
    const NAME: &'static str = "partners";
    const ID: &'static str = "id";
    const COLUMNS: &'static [&'static str] = &[
        "id",
        "name",
        "code",
        "isActive",
        "tier",
        "status",
        "quota.used",
        "quota.limit",
        "quota.remaining",
        "rateLimit",
        "lastApiCallAt",
        "createdAt",
    ];
}

impl PartnerRow {
    fn of(partner: Partner, quota: Quota) -> Self {
        Self {
            id: partner.id.to_string(),
            name: partner.name,
            code: partner.code,
            is_active: partner.is_active,
            tier: partner.subscription.tier.as_str(),
            status: partner.subscription.status.as_str(),
            quota: quota.into(),
            rate_limit: partner.rate_limit_per_minute,
            last_api_call_at: partner.last_api_call_at.map(instant),
            created_at: instant(partner.created_at),
        }
    }
}

/// Which partners.
#[derive(Debug)]
pub struct PartnerFilter {
    status: Option<StatusFilter>,
    tier: Option<SubscriptionTier>,
    name: Option<String>,
}

#[derive(Debug, Clone, Copy)]
enum StatusFilter {
    Inactive,
    Subscription(SubscriptionStatus),
}

impl FromFields for PartnerFilter {
    fn read(fields: &mut Fields) -> Option<Self> {
        Some(Self {
            status: fields.optional("status", status),
            tier: fields.optional("tier", tier),
            name: fields.optional("q", |value| text(value).map(str::to_lowercase)),
        })
    }
}

fn status(value: &Value) -> Result<StatusFilter, Problem> {
    Ok(match text(value)?.to_ascii_lowercase().as_str() {
        "inactive" => StatusFilter::Inactive,
        "active" => StatusFilter::Subscription(SubscriptionStatus::Active),
        "grace_period" => StatusFilter::Subscription(SubscriptionStatus::GracePeriod),
        "expired" => StatusFilter::Subscription(SubscriptionStatus::Expired),
        "suspended" => StatusFilter::Subscription(SubscriptionStatus::Suspended),
        _ => {
            let message = "must be one of: active, grace_period, expired, suspended, inactive";
            return Err(Problem::invalid(message));
        }
    })
}

pub(super) fn tier(value: &Value) -> Result<SubscriptionTier, Problem> {
    text(value)?.parse().map_err(Problem::invalid)
}

impl PartnerFilter {
    fn holds(&self, partner: &Partner) -> bool {
        let status = self.status.is_none_or(|status| match status {
            StatusFilter::Inactive => !partner.is_active,
            StatusFilter::Subscription(status) => partner.is_active && partner.subscription.status == status,
        });
        let named = |name: &String| {
            partner.name.to_lowercase().contains(name) || partner.code.contains(name.as_str())
        };
        status
            && self.tier.is_none_or(|tier| partner.subscription.tier == tier)
            && self.name.as_ref().is_none_or(named)
    }
}

/// List partners
#[utoipa::path(
    get, path = "/api/v1/admin/partners", tag = "Partners", operation_id = "listPartners",
    security(("session" = []), ("bearer" = [])), extensions(("x-required-role" = json!("viewer"))),
    params(ListParams,
        ("status" = Option<String>, Query, description = "of the subscription of an active partner, or `inactive`"),
        ("tier" = Option<String>, Query, description = "`free`, `basic`, `premium` or `enterprise`"),
        ("q" = Option<String>, Query, description = "part of the name or the code")),
    responses(
        (status = 200, description = "partners", content(
            (List<PartnerRow> = "application/json"), (String = "text/csv"))),
        (status = 400, description = "parameters are not valid; all their faults", body = ErrorBody)))]
pub async fn list(
    State(state): State<ApiState>,
    Viewer(_me): Viewer,
    listing: Listing<PartnerRow, PartnerFilter>,
) -> Result<Response, ApiError> {
    let zone = state.quota_zone();
    let mut conn = reading(&state).await?;
    let at = calendar_now(&mut conn).await?;
    let used = used_by_all(&mut conn, at, zone).await?;
    let shown = all_partners(&mut conn).await?.into_iter().filter(|partner| listing.filter.holds(partner));
    let rows = shown.map(|partner| {
        let used = used.get(&TenantId::from(partner.id)).copied().unwrap_or_default();
        let quota = Quota { month: ::partners::QuotaMonth::at(at, zone), used, limit: partner.quota_limit() };
        PartnerRow::of(partner, quota)
    });
    listing.answer(rows.collect())
}

/// Every partner, by code.
pub(super) async fn all_partners(conn: &mut Connection) -> Result<Vec<Partner>, ApiError> {
    Ok(directory::list(conn, None, PARTNERS_MAX).await?)
}

/// All that is known of a partner.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PartnerDetail {
    #[schema(example = "ptn_01jd8x4xkre9a8y9tbn2p5q3mw")]
    id: String,
    #[schema(example = "Techcombank")]
    name: String,
    /// What it calls itself in `X-Partner-ID`.
    #[schema(example = "techcombank")]
    code: String,
    is_active: bool,
    /// Whom to write to.
    contact_name: Option<String>,
    contact_email: Option<String>,
    contact_phone: Option<String>,
    /// Requests a minute.
    #[schema(example = 100)]
    rate_limit: u32,
    /// To the minute; null: never.
    #[schema(format = DateTime)]
    last_api_call_at: Option<String>,
    #[schema(format = DateTime)]
    created_at: String,
    subscription: SubscriptionDetail,
    /// This month.
    quota: QuotaView,
}

impl PartnerDetail {
    pub(super) async fn of(
        conn: &mut db::Connection,
        state: &ApiState,
        partner: Partner,
    ) -> Result<Self, ApiError> {
        let at = calendar_now(conn).await?;
        let quota = read(conn, partner.id.into(), at, state.quota_zone()).await?;
        let contact = partner.contact(state.keyring())?;
        Ok(Self {
            id: partner.id.to_string(),
            subscription: SubscriptionDetail::of(&partner, at),
            name: partner.name,
            code: partner.code,
            is_active: partner.is_active,
            contact_name: contact.name,
            contact_email: contact.email.map(|email| email.as_str().to_owned()),
            contact_phone: contact.phone,
            rate_limit: partner.rate_limit_per_minute,
            last_api_call_at: partner.last_api_call_at.map(instant),
            created_at: instant(partner.created_at),
            quota: quota.into(),
        })
    }
}

/// A partner with its keys and its usage.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PartnerPage {
    partner: PartnerDetail,
    /// The newest 50, dead ones included.
    keys: Vec<KeyView>,
    /// The last 30 days, today first.
    usage_history: Vec<DayUsageView>,
}

/// Look at a partner
#[utoipa::path(
    get, path = "/api/v1/admin/partners/{id}", tag = "Partners", operation_id = "showPartner",
    security(("session" = []), ("bearer" = [])), extensions(("x-required-role" = json!("viewer"))),
    params(("id" = String, Path, description = "its code or its `ptn_…` id")),
    responses(
        (status = 200, description = "all that is known of it", body = Data<PartnerPage>),
        (status = 400, description = "the id is no id and no code", body = ErrorBody),
        (status = 404, description = "there is none", body = ErrorBody)))]
pub async fn show(
    State(state): State<ApiState>,
    Viewer(_me): Viewer,
    path: PathPartner,
    Query(()): Query<()>,
) -> Result<axum::Json<Data<PartnerPage>>, ApiError> {
    let mut conn = reading(&state).await?;
    let partner = path.find(&mut conn).await?;
    let at = calendar_now(&mut conn).await?;
    let keys = list_keys(&mut conn, partner.id, KEYS_SHOWN_MAX).await?;
    let days: Vec<DayUsage> =
        usage(&mut conn, partner.id.into(), at, state.quota_zone(), HISTORY_DAYS).await?;
    Ok(Data::of(PartnerPage {
        partner: PartnerDetail::of(&mut conn, &state, partner).await?,
        keys: keys.into_iter().map(KeyView::from).collect(),
        usage_history: days.into_iter().map(DayUsageView::from).collect(),
    }))
}

/// A partner to be made.
#[derive(Debug, ToSchema)]
#[schema(as = NewPartner, rename_all = "camelCase", example = json!({
    "name": "Techcombank", "code": "techcombank", "contactName": "Nguyễn Thị Lan",
    "contactEmail": "lan@example.com", "contactPhone": "+84 24 3944 6368", "rateLimit": 100, "tier": "premium",
    "endDate": "2027-12-31T17:00:00Z", "autoRenew": true
}))]
#[allow(dead_code)] // The schema of what is read by hand.
pub struct NewPartnerSchema {
    /// 1 to 200 characters on one line.
    name: String,
    /// 2 to 64 of a–z, 0–9 and `-`; it never changes.
    #[schema(pattern = "^[a-z0-9-]{2,64}$")]
    code: String,
    #[schema(required = false)]
    contact_name: Option<String>,
    #[schema(required = false)]
    contact_email: Option<String>,
    #[schema(required = false)]
    contact_phone: Option<String>,
    /// Requests a minute, 100 unless given.
    #[schema(required = false, nullable = false, minimum = 1, maximum = 1000000, example = 100)]
    rate_limit: u32,
    /// `free` unless given.
    #[schema(required = false, nullable = false)]
    tier: String,
    /// When the subscription begins; now unless given.
    #[schema(required = false)]
    start_date: Option<DateTime<Utc>>,
    /// When it ends; never unless given.
    #[schema(required = false)]
    end_date: Option<DateTime<Utc>>,
    /// Whether it then goes on for another period of the same length.
    #[schema(required = false, nullable = false)]
    auto_renew: bool,
}

struct Wanted(NewPartner);

impl FromFields for Wanted {
    fn read(fields: &mut Fields) -> Option<Self> {
        let name = fields.required("name", |value| text(value).map(str::to_owned));
        let code = fields.required("code", |value| text(value).map(str::to_owned));
        let contact = Contact {
            name: fields.optional("contactName", owned),
            email: fields.optional("contactEmail", email),
            phone: fields.optional("contactPhone", owned),
        };
        let rate_limit = fields.optional("rateLimit", rate_limit);
        let tier = fields.optional("tier", tier).unwrap_or(SubscriptionTier::Free);
        let starts_at = fields.optional("startDate", read_instant);
        let ends_at = fields.optional("endDate", read_instant);
        let auto_renew = fields.optional("autoRenew", flag).unwrap_or(false);
        Some(Self(NewPartner {
            rate_limit_per_minute: rate_limit.unwrap_or(directory::RATE_LIMIT_DEFAULT),
            contact,
            starts_at,
            ends_at,
            auto_renew,
            ..NewPartner::of(&code?, &name?, tier)
        }))
    }
}

fn owned(value: &Value) -> Result<String, Problem> {
    text(value).map(str::to_owned)
}

fn email(value: &Value) -> Result<kernel::Email, Problem> {
    kernel::Email::parse(text(value)?).map_err(Problem::invalid)
}

fn rate_limit(value: &Value) -> Result<u32, Problem> {
    whole_in(value, 1..=directory::RATE_LIMIT_MAX)
}

/// Nothing and null mean something else here.
fn or_none<T>(read: impl Fn(&Value) -> Result<T, Problem>) -> impl Fn(&Value) -> Result<Option<T>, Problem> {
    move |value| if value.is_null() { Ok(None) } else { read(value).map(Some) }
}

/// A partner just made, with its secrets.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CreatedPartner {
    partner: PartnerDetail,
    /// Its first API key: shown this once.
    #[schema(example = "mpk_EXAMPLE00000000000000000000000000000000")]
    api_key: String,
    /// What its callbacks are signed with: shown this once.
    #[schema(example = "whsec_EXAMPLE000000000000000000000000000000000")]
    webhook_secret: String,
    /// Whether a mail welcomes it, with a link under which the key is shown once more, within seven days: false without a
    /// contact address.
    is_welcomed: bool,
}

/// Make a partner
#[utoipa::path(
    post, path = "/api/v1/admin/partners", tag = "Partners", operation_id = "createPartner",
    security(("session" = []), ("bearer" = [])), extensions(("x-required-role" = json!("admin"))),
    request_body = NewPartnerSchema,
    responses(
        (status = 201, description = "the partner with its secrets", body = Data<CreatedPartner>),
        (status = 400, description = "the body is not valid; all its faults", body = ErrorBody),
        (status = 409, description = "another partner has the code", body = ErrorBody)))]
pub async fn create(
    State(state): State<ApiState>,
    Admin(me): Admin,
    body: JsonBody,
) -> Result<Response, ApiError> {
    let Wanted(new) = body.fields.finish(Wanted::read)?;
    let mut tx = db::begin(state.pool()).await?;
    let door = door(&state, &me);
    let created = actions::create(&mut tx, &door, new).await?;
    let mail = actions::welcome(&mut tx, &door, &created, &state.public_url()).await?;
    let partner = PartnerDetail::of(&mut tx, &state, created.partner).await?;
    tx.commit().await?;
    state.waker().wake(Queue::Maintenance);
    let made = CreatedPartner {
        partner,
        api_key: created.key.api_key.expose().to_owned(),
        webhook_secret: created.webhook_secret,
        is_welcomed: mail.is_some(),
    };
    Ok((StatusCode::CREATED, Data::of(made)).into_response())
}

/// What is to be different. What is not named stays; null removes a contact detail.
#[derive(Debug, ToSchema)]
#[schema(as = PartnerChange, rename_all = "camelCase", example = json!({"rateLimit": 600, "contactPhone": null}))]
#[allow(dead_code)] // The schema of what is read by hand.
pub struct PartnerChangeSchema {
    #[schema(required = false, nullable = false)]
    name: String,
    #[schema(required = false)]
    contact_name: Option<String>,
    #[schema(required = false)]
    contact_email: Option<String>,
    #[schema(required = false)]
    contact_phone: Option<String>,
    /// Requests a minute.
    #[schema(required = false, nullable = false, minimum = 1, maximum = 1000000, example = 100)]
    rate_limit: u32,
    /// Whether it may call. Its jobs and keys stay.
    #[schema(required = false, nullable = false)]
    is_active: bool,
}

struct Changes {
    partner: PartnerChange,
    is_active: Option<bool>,
}

impl FromFields for Changes {
    fn read(fields: &mut Fields) -> Option<Self> {
        let partner = PartnerChange {
            name: fields.given("name", owned),
            contact_name: fields.given("contactName", or_none(owned)),
            contact_email: fields.given("contactEmail", or_none(email)),
            contact_phone: fields.given("contactPhone", or_none(owned)),
            rate_limit_per_minute: fields.given("rateLimit", rate_limit),
        };
        Some(Self { partner, is_active: fields.given("isActive", flag) })
    }
}

/// Change a partner
#[utoipa::path(
    patch, path = "/api/v1/admin/partners/{id}", tag = "Partners", operation_id = "changePartner",
    security(("session" = []), ("bearer" = [])), extensions(("x-required-role" = json!("admin"))),
    params(("id" = String, Path, description = "its code or its `ptn_…` id")),
    request_body = PartnerChangeSchema,
    responses(
        (status = 200, description = "the partner as it is now", body = Data<PartnerDetail>),
        (status = 400, description = "the body is not valid; all its faults", body = ErrorBody),
        (status = 404, description = "there is none", body = ErrorBody)))]
pub async fn change(
    State(state): State<ApiState>,
    Admin(me): Admin,
    path: PathPartner,
    body: JsonBody,
) -> Result<axum::Json<Data<PartnerDetail>>, ApiError> {
    let changes = body.fields.finish(Changes::read)?;
    let door = door(&state, &me);
    let mut tx = db::begin(state.pool()).await?;
    let mut partner = path.find(&mut tx).await?;
    if changes.partner != PartnerChange::default() || changes.is_active.is_none() {
        partner = actions::update(&mut tx, &door, partner.id, changes.partner).await?;
    }
    if let Some(is_active) = changes.is_active {
        partner = actions::set_active(&mut tx, &door, partner.id, is_active).await?;
    }
    let partner = PartnerDetail::of(&mut tx, &state, partner).await?;
    tx.commit().await?;
    Ok(Data::of(partner))
}
