//! `/api/v1/ops/users`: who may sign in. For admins.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use identity::{NewPerson, Password, Person, PersonChange, Role, find};
use jobs::people;
use kernel::ids::UserId;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::listing::{ListParams, Listed, Listing};
use crate::error::{ApiError, ErrorBody};
use crate::extract::body::JsonBody;
use crate::extract::fields::{Fields, FromFields, Problem, flag, text};
use crate::extract::path_id::PathId;
use crate::extract::person::{Admin, door};
use crate::routes::body::{Data, List};
use crate::routes::instant;
use crate::routes::session::password::chosen;
use crate::routes::session::sign_in::email;
use crate::state::ApiState;

/// People shown at the most.
const PEOPLE_MAX: i64 = 10_000;

/// A person who may sign in.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserView {
    /// Their id.
    #[schema(example = "usr_01jd8x4xkre9a8y9tbn2p5q3mw")]
    id: String,
    /// Their address.
    #[schema(example = "lan@example.com")]
    email: String,
    /// `viewer`, `operator` or `admin`.
    #[schema(example = "operator")]
    role: &'static str,
    /// Whether they may sign in.
    enabled: bool,
    /// Whether they have a password.
    has_password: bool,
    /// Whether single sign-on vouches for them.
    has_oidc: bool,
    /// Since when.
    #[schema(format = DateTime)]
    created_at: String,
    /// When they signed in last; null: never.
    #[schema(format = DateTime)]
    signed_in_at: Option<String>,
}

impl Listed for UserView {
    const NAME: &'static str = "users";
    const ID: &'static str = "id";
    const COLUMNS: &'static [&'static str] =
        &["id", "email", "role", "enabled", "hasPassword", "hasOidc", "createdAt", "signedInAt"];
}

impl From<Person> for UserView {
    fn from(person: Person) -> Self {
        Self {
            id: person.id.to_string(),
            email: person.email.as_str().to_owned(),
            role: person.role.as_str(),
            enabled: person.disabled_at.is_none(),
            has_password: person.has_password,
            has_oidc: person.has_oidc,
            created_at: instant(person.created_at),
            signed_in_at: person.signed_in_at.map(instant),
        }
    }
}

/// Which people.
#[derive(Debug)]
pub struct UserFilter {
    role: Option<Role>,
}

impl FromFields for UserFilter {
    fn read(fields: &mut Fields) -> Option<Self> {
        Some(Self { role: fields.optional("role", role) })
    }
}

fn role(value: &Value) -> Result<Role, Problem> {
    text(value)?.parse().map_err(Problem::invalid)
}

/// List users
#[utoipa::path(
    get, path = "/api/v1/ops/users", tag = "Users", operation_id = "listUsers",
    security(("session" = []), ("bearer" = [])), extensions(("x-required-role" = json!("admin"))),
    params(ListParams, ("role" = Option<String>, Query, description = "only `viewer`, `operator` or `admin`")),
    responses(
        (status = 200, description = "who may sign in", content(
            (List<UserView> = "application/json"), (String = "text/csv"))),
        (status = 400, description = "parameters are not valid; all their faults", body = ErrorBody)))]
pub async fn list(
    State(state): State<ApiState>,
    Admin(me): Admin,
    listing: Listing<UserView, UserFilter>,
) -> Result<Response, ApiError> {
    let mut conn = super::reading(&state).await?;
    let people = people::list(&mut conn, &door(&state, &me), None, listing.filter.role, PEOPLE_MAX).await?;
    listing.answer(people.into_iter().map(UserView::from).collect())
}

/// Somebody to be let in.
#[derive(Debug, ToSchema)]
#[schema(as = NewUser, rename_all = "camelCase")]
#[allow(dead_code)] // The schema of what is read by hand.
pub struct NewUserSchema {
    /// Their address.
    #[schema(example = "anna@example.com", max_length = 254)]
    email: String,
    /// `viewer`, `operator` or `admin`.
    #[schema(example = "operator", pattern = "^(viewer|operator|admin)$")]
    role: String,
    /// A password to begin with; without one they choose theirs by `POST /api/v1/session/password-reset`, or sign in by
    /// single sign-on.
    #[schema(
        required = false,
        nullable = false,
        min_length = 12,
        max_length = 256,
        example = "a long phrase that nobody guesses"
    )]
    password: String,
}

struct NewUser {
    email: identity::Email,
    role: Role,
    password: Option<Password>,
}

impl FromFields for NewUser {
    fn read(fields: &mut Fields) -> Option<Self> {
        let email = fields.required("email", email);
        let role = fields.required("role", role);
        let password = fields.optional("password", chosen);
        Some(Self { email: email?, role: role?, password })
    }
}

/// Let somebody in
#[utoipa::path(
    post, path = "/api/v1/ops/users", tag = "Users", operation_id = "createUser",
    security(("session" = []), ("bearer" = [])), extensions(("x-required-role" = json!("admin"))),
    request_body = NewUserSchema,
    responses(
        (status = 201, description = "the account", body = Data<UserView>),
        (status = 400, description = "the body is not valid; all its faults", body = ErrorBody),
        (status = 409, description = "somebody has this address", body = ErrorBody)))]
pub async fn create(
    State(state): State<ApiState>,
    Admin(me): Admin,
    body: JsonBody,
) -> Result<Response, ApiError> {
    let NewUser { email, role, password } = body.fields.finish(NewUser::read)?;
    let password = match password {
        Some(password) => Some(state.passwords().hash(password).await?),
        None => None,
    };
    let mut tx = db::begin(state.pool()).await?;
    let person = people::create(&mut tx, &door(&state, &me), NewPerson { email, role, password }).await?;
    tx.commit().await?;
    Ok((StatusCode::CREATED, Data::of(UserView::from(person))).into_response())
}

/// Show a user
#[utoipa::path(
    get, path = "/api/v1/ops/users/{id}", tag = "Users", operation_id = "getUser",
    security(("session" = []), ("bearer" = [])), extensions(("x-required-role" = json!("admin"))),
    params(("id" = String, Path, description = "the user's id", example = "usr_01jd8x4xkre9a8y9tbn2p5q3mw")),
    responses(
        (status = 200, description = "the account", body = Data<UserView>),
        (status = 400, description = "the id is not valid", body = ErrorBody),
        (status = 404, description = "no such user", body = ErrorBody)))]
pub async fn show(
    State(state): State<ApiState>,
    Admin(_me): Admin,
    PathId(id): PathId<UserId>,
) -> Result<axum::Json<Data<UserView>>, ApiError> {
    let mut conn = super::reading(&state).await?;
    let found = find(&mut conn, state.keyring(), id).await?.ok_or(ApiError::NotFound("user"))?;
    Ok(Data::of(found.person.into()))
}

/// What is to be different about a user; fields that are missing stay.
#[derive(Debug, ToSchema)]
#[schema(as = UserChange, rename_all = "camelCase", example = json!({"role": "operator"}))]
#[allow(dead_code)] // The schema of what is read by hand.
pub struct UserChangeSchema {
    /// Another role.
    #[schema(required = false, nullable = false, example = "viewer", pattern = "^(viewer|operator|admin)$")]
    role: String,
    /// Whether they may sign in; false ends their sessions.
    #[schema(required = false, nullable = false)]
    enabled: bool,
    /// Another password; ends their sessions.
    #[schema(
        required = false,
        nullable = false,
        min_length = 12,
        max_length = 256,
        example = "a long phrase that nobody guesses"
    )]
    password: String,
}

struct UserChange {
    role: Option<Role>,
    enabled: Option<bool>,
    password: Option<Password>,
}

impl FromFields for UserChange {
    fn read(fields: &mut Fields) -> Option<Self> {
        Some(Self {
            role: fields.optional("role", role),
            enabled: fields.optional("enabled", flag),
            password: fields.optional("password", chosen),
        })
    }
}

/// Change a user
///
/// The last admin who may sign in stays one.
#[utoipa::path(
    patch, path = "/api/v1/ops/users/{id}", tag = "Users", operation_id = "changeUser",
    security(("session" = []), ("bearer" = [])), extensions(("x-required-role" = json!("admin"))),
    params(("id" = String, Path, description = "the user's id", example = "usr_01jd8x4xkre9a8y9tbn2p5q3mw")),
    request_body = UserChangeSchema,
    responses(
        (status = 200, description = "the account as it is now", body = Data<UserView>),
        (status = 400, description = "the id or the body is not valid; all its faults", body = ErrorBody),
        (status = 404, description = "no such user", body = ErrorBody),
        (status = 409, description = "no admin would be left", body = ErrorBody)))]
pub async fn change(
    State(state): State<ApiState>,
    Admin(me): Admin,
    PathId(id): PathId<UserId>,
    body: JsonBody,
) -> Result<axum::Json<Data<UserView>>, ApiError> {
    let UserChange { role, enabled, password } = body.fields.finish(UserChange::read)?;
    let password = match password {
        Some(password) => Some(state.passwords().hash(password).await?),
        None => None,
    };
    let mut tx = db::begin(state.pool()).await?;
    let change = PersonChange { role, enabled, password };
    let changed = people::change(&mut tx, &door(&state, &me), id, change).await?;
    tx.commit().await?;
    Ok(Data::of(changed.person.into()))
}
