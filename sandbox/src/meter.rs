//! The profile meter, as `docs/vendors/meter.md` defines it.
//!
//! Guarantees: calls are counted and meet their faults before anything else is looked at, as at a real vendor's front
//! door. Nothing is remembered about profiles: ids, values and standing follow from the name.

use std::collections::HashSet;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::header::{AUTHORIZATION, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use axum::routing::{get, post};
use chrono::{DateTime, Duration, NaiveTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::Shared;
use crate::creator::{Creator, Standing};
use crate::exchange::Exchange;
use crate::fingerprint::Draws;
use crate::json::{self, Refusal};
use crate::profiles::{Profile, profile};
use crate::quota::{Over, Place};
use crate::replays::Crawl;

const BODY_BYTES_MAX: usize = 1 << 20;
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const IDS_MAX: usize = 100;
const HEADER_CHARACTERS_MAX: usize = 128;

pub(crate) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/meter/v1/profiles/enrich", post(enrich))
        .route("/meter/v1/profiles/refresh", post(refresh))
        .route("/meter/v1/profiles/{profile_id}", get(last_crawl))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EnrichBody {
    url: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RefreshBody {
    profile_ids: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Found {
    profile: Profile,
}

async fn enrich(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let visit = Visit::new(&shared, &headers);
    let body = json::read::<EnrichBody>(body);
    let creator = body.as_ref().ok().and_then(|body| Creator::from_url(&body.url));
    let work = || {
        visit.admit()?;
        let url = body?.url;
        let key = visit.idempotency_key()?;
        let creator = creator.as_ref().ok_or_else(|| {
            let message = "url is no profile on TikTok, YouTube, Instagram or Facebook";
            Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "unsupported_url", message)
        })?;
        visible(creator)?;
        let crawl = visit.crawl(key, &format!("enrich {url}"))?;
        Ok((json::answer(StatusCode::OK, &Found { profile: profile(creator, crawl.at) }), crawl.replayed))
    };
    visit.answer("enrich", creator.as_ref().map(Creator::handle), work).await
}

async fn last_crawl(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    Path(profile_id): Path<String>,
) -> Response {
    let visit = Visit::new(&shared, &headers);
    let creator = Creator::from_profile_id(&profile_id);
    let work = || {
        visit.admit()?;
        let creator = creator.as_ref().ok_or_else(unknown_profile)?;
        visible(creator)?;
        let at = crawled_by_itself(creator, kernel::clock::now());
        Ok((json::answer(StatusCode::OK, &Found { profile: profile(creator, at) }), false))
    };
    visit.answer("get", creator.as_ref().map(Creator::handle), work).await
}

async fn refresh(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let visit = Visit::new(&shared, &headers);
    let work = || {
        visit.admit()?;
        let ids = json::read::<RefreshBody>(body)?.profile_ids;
        if ids.is_empty() || ids.len() > IDS_MAX || ids.iter().collect::<HashSet<_>>().len() != ids.len() {
            return Err(Refusal::invalid("profileIds holds 1 to 100 different ids"));
        }
        let key = visit.idempotency_key()?;
        let crawl = visit.crawl(key, &format!("refresh {}", ids.join(" ")))?;
        let results: Vec<Value> = ids.iter().map(|id| refreshed(id, crawl.at)).collect();
        Ok((json::answer(StatusCode::OK, &json!({"results": results})), crawl.replayed))
    };
    visit.answer("refresh_batch", None, work).await
}

/// One entry of a batch.
fn refreshed(id: &str, at: DateTime<Utc>) -> Value {
    let found = Creator::from_profile_id(id)
        .ok_or_else(unknown_profile)
        .and_then(|creator| visible(&creator).map(|()| profile(&creator, at)));
    match found {
        Ok(profile) => json!({"profileId": id, "status": "refreshed", "profile": profile}),
        Err(refusal) => json!({
            "profileId": id,
            "status": "failed",
            "error": {"code": refusal.code, "message": refusal.message},
        }),
    }
}

fn visible(creator: &Creator) -> Result<(), Refusal> {
    match creator.standing() {
        Standing::Public => Ok(()),
        Standing::Private => Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "profile_private",
            "the profile shows nothing without permission",
        )),
        Standing::Missing => Err(unknown_profile()),
    }
}

fn unknown_profile() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "profile_not_found", "there is no such profile")
}

/// When the vendor last crawled a profile without being asked: every day at a time of the profile's own.
fn crawled_by_itself(creator: &Creator, now: DateTime<Utc>) -> DateTime<Utc> {
    let second = Draws::of(&["crawl", &creator.profile_id()]).next() % 86_400;
    let today = now.date_naive().and_time(NaiveTime::MIN).and_utc() + Duration::seconds(second as i64);
    if today <= now { today } else { today - Duration::days(1) }
}

/// One request, with what all operations read from its headers.
struct Visit<'a> {
    shared: &'a Shared,
    headers: &'a HeaderMap,
    request_id: String,
    /// None without a valid token.
    place: Option<Place<'a>>,
}

impl<'a> Visit<'a> {
    fn new(shared: &'a Shared, headers: &'a HeaderMap) -> Self {
        let request_id = match short_text(headers, &REQUEST_ID) {
            Some(text) => text.to_owned(),
            None => format!("meter-{:x}", kernel::clock::now().timestamp_micros()),
        };
        let mut visit = Self { shared, headers, request_id, place: None };
        visit.place = visit.place();
        visit
    }

    /// A call with a valid token counts against the limits from its arrival to its end.
    fn place(&self) -> Option<Place<'a>> {
        let expected = format!("Bearer {}", self.shared.token);
        let given = self.headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
        (given == Some(expected.as_bytes())).then(|| self.shared.quota.enter())
    }

    /// Checks the token, then the limits.
    fn admit(&self) -> Result<(), Refusal> {
        let Some(place) = &self.place else {
            let message = "the Authorization header holds no valid bearer token";
            return Err(Refusal::new(StatusCode::UNAUTHORIZED, "unauthorized", message));
        };
        match place.over {
            Some(over) => Err(Refusal::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", over.words())),
            None => Ok(()),
        }
    }

    fn idempotency_key(&self) -> Result<&str, Refusal> {
        short_text(self.headers, &IDEMPOTENCY_KEY).ok_or_else(|| {
            let message = "the Idempotency-Key header is missing or longer than 128 characters";
            Refusal::new(StatusCode::BAD_REQUEST, "idempotency_key_required", message)
        })
    }

    fn crawl(&self, key: &str, asked: &str) -> Result<Crawl, Refusal> {
        self.shared.replays.crawl(key, asked, kernel::clock::now()).map_err(|_| {
            let message = "the Idempotency-Key was used for another request";
            Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", message)
        })
    }

    /// Counts the call, lets it meet its fault, and puts the meter's headers on the answer. `work` gives the answer
    /// and whether it is a replay.
    async fn answer<W>(&self, operation: &'static str, handle: Option<&str>, work: W) -> Response
    where
        W: FnOnce() -> Result<(Response, bool), Refusal>,
    {
        let request_id = Some(self.request_id.as_str());
        let exchange = Exchange::begin(self.shared, "meter", operation, handle, request_id, self.headers);
        let work = async {
            match work() {
                Ok((mut response, replayed)) => {
                    if replayed {
                        response
                            .headers_mut()
                            .insert("idempotency-replayed", HeaderValue::from_static("true"));
                    }
                    response
                }
                Err(refusal) => {
                    let mut response = refusal.answer(Some(&self.request_id));
                    if refusal.status == StatusCode::TOO_MANY_REQUESTS {
                        // Nobody knows when a call will end; windows end by the clock.
                        let reset_s = match self.place.as_ref().and_then(|place| place.over) {
                            Some(Over::Concurrent) => 1,
                            _ => self.shared.quota.standing().reset_s,
                        };
                        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(reset_s));
                    }
                    response
                }
            }
        };
        let mut response = exchange.carry_out(work).await;
        let window = self.shared.quota.standing();
        let headers = response.headers_mut();
        headers.insert("ratelimit-limit", HeaderValue::from(window.limit));
        headers.insert("ratelimit-remaining", HeaderValue::from(window.remaining));
        headers.insert("ratelimit-reset", HeaderValue::from(window.reset_s));
        if let Ok(request_id) = HeaderValue::from_str(&self.request_id) {
            headers.insert(REQUEST_ID, request_id);
        }
        response
    }
}

/// A header's value when it is visible ASCII of a sensible length.
fn short_text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().filter(|text| (1..=HEADER_CHARACTERS_MAX).contains(&text.len()))
}
