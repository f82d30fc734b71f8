//! Reading what the meter sends, and refusing what its format does not allow.
//!
//! Guarantees: pure functions from bytes to values. Fields that the format does not name are ignored, so that the meter
//! can add some; those it names are checked one by one, because they end up in our database and in partners' results.

use chrono::{DateTime, Duration, Utc};
use kernel::Platform;
use reqwest::StatusCode;
use serde::Deserialize;
use url::Url;

use super::{MeterContact, MeterProfile, MeterScore, Refreshed};
use crate::VendorError;

const COUNT_MAX: i64 = 1_000_000_000_000;
const ENGAGEMENT_MAX: f64 = 10_000.0;
const ID_BYTES_MAX: usize = 512;
const USERNAME_CHARACTERS_MAX: usize = 200;
const DISPLAY_NAME_CHARACTERS_MAX: usize = 300;
const URL_BYTES_MAX: usize = 2_048;
const BIO_CHARACTERS_MAX: usize = 5_000;
const EMAIL_CHARACTERS_MAX: usize = 254;
const MESSAGE_CHARACTERS_MAX: usize = 200;
/// How far the meter's clock may be ahead of ours.
const CLOCK_SKEW_MAX: Duration = Duration::hours(1);

#[derive(Debug, Deserialize)]
struct FoundWire {
    profile: ProfileWire,
}

#[derive(Debug, Deserialize)]
struct BatchWire {
    results: Vec<EntryWire>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct EntryWire {
    profile_id: String,
    #[serde(flatten)]
    outcome: OutcomeWire,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
enum OutcomeWire {
    /// Kept raw: one bad profile must not spoil the others.
    Refreshed {
        profile: serde_json::Value,
    },
    Failed {
        error: ErrorWire,
    },
}

#[derive(Debug, Deserialize)]
struct RefusalWire {
    error: ErrorWire,
}

#[derive(Debug, Deserialize)]
struct ErrorWire {
    code: String,
    #[serde(default)]
    message: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProfileWire {
    profile_id: String,
    platform: Platform,
    username: String,
    display_name: String,
    avatar_url: Option<String>,
    bio: Option<String>,
    followers: i64,
    following: i64,
    engagement: f64,
    avg_views: Option<i64>,
    avg_likes: Option<i64>,
    avg_comments: Option<i64>,
    score: ScoreWire,
    contact: Option<ContactWire>,
    crawled_at: DateTime<Utc>,
}

#[derive(Debug, Deserialize)]
struct ScoreWire {
    total: i32,
    reach: Option<i32>,
    engagement: Option<i32>,
    authenticity: Option<i32>,
}

#[derive(Debug, Deserialize)]
struct ContactWire {
    email: Option<String>,
    phone: Option<String>,
}

/// Reads the answer of enrich and get.
pub(super) fn profile(body: &[u8], now: DateTime<Utc>) -> Result<MeterProfile, VendorError> {
    let found: FoundWire = serde_json::from_slice(body).map_err(unreadable)?;
    checked(found.profile, now)
}

/// Reads the answer of a batch: each id with its profile or its error, as sent.
pub(super) fn batch(body: &[u8], now: DateTime<Utc>) -> Result<Vec<Refreshed>, VendorError> {
    let batch: BatchWire = serde_json::from_slice(body).map_err(unreadable)?;
    Ok(batch.results.into_iter().map(|entry| outcome(entry, now)).collect())
}

fn outcome(entry: EntryWire, now: DateTime<Utc>) -> Refreshed {
    let outcome = match entry.outcome {
        OutcomeWire::Refreshed { profile } => serde_json::from_value(profile)
            .map_err(unreadable)
            .and_then(|wire| checked(wire, now))
            .and_then(|profile| match profile.profile_id == entry.profile_id {
                true => Ok(profile),
                false => Err(VendorError::malformed("the profile has another id than its entry")),
            }),
        OutcomeWire::Failed { error } => Err(match error.code.as_str() {
            "profile_not_found" => VendorError::NotFound,
            "profile_private" => VendorError::Private,
            // The same code as a call's own error has status 503.
            "crawl_failed" => VendorError::Server { status: 503, retry_after: None },
            _ => VendorError::malformed("a batch entry failed with an unknown code"),
        }),
    };
    Refreshed { profile_id: entry.profile_id, outcome }
}

/// Reads a 4xx. Only the meter's own error body counts: a bare 404 comes from a wrong address or a proxy, and must not
/// be mistaken for a profile that does not exist.
pub(super) fn refusal(status: StatusCode, body: &[u8]) -> VendorError {
    let Ok(RefusalWire { error }) = serde_json::from_slice(body) else {
        return VendorError::malformed(format!("status {} without the meter's error body", status.as_u16()));
    };
    match (status, error.code.as_str()) {
        (StatusCode::NOT_FOUND, "profile_not_found") => VendorError::NotFound,
        (StatusCode::FORBIDDEN, "profile_private") => VendorError::Private,
        _ => VendorError::Rejected {
            status: status.as_u16(),
            code: printable(&error.code),
            message: printable(&error.message),
        },
    }
}

/// What the vendor says, fit for a log line.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MESSAGE_CHARACTERS_MAX).collect()
}

/// The position only: the parser's own message may quote a value, and values may be contact details.
fn unreadable(fault: serde_json::Error) -> VendorError {
    let kind = match fault.classify() {
        serde_json::error::Category::Data => "a field is missing or of another type",
        _ => "it is no JSON",
    };
    VendorError::malformed(format!("{kind} (line {}, column {})", fault.line(), fault.column()))
}

fn checked(wire: ProfileWire, now: DateTime<Utc>) -> Result<MeterProfile, VendorError> {
    let rule = |holds: bool, field: &str| match holds {
        true => Ok(()),
        false => Err(VendorError::malformed(format!("{field} is out of bounds"))),
    };
    let count = |value: i64| (0..=COUNT_MAX).contains(&value);
    let part = |value: Option<i32>| value.is_none_or(|value| (0..=100).contains(&value));
    rule(is_profile_id(&wire.profile_id), "profileId")?;
    rule(is_line(&wire.username, USERNAME_CHARACTERS_MAX) && !wire.username.starts_with('@'), "username")?;
    rule(is_line(&wire.display_name, DISPLAY_NAME_CHARACTERS_MAX), "displayName")?;
    rule(wire.avatar_url.as_deref().is_none_or(is_web_address), "avatarUrl")?;
    rule(wire.bio.as_deref().is_none_or(is_bio), "bio")?;
    rule(count(wire.followers), "followers")?;
    rule(count(wire.following), "following")?;
    // False for NaN as well.
    rule((0.0..=ENGAGEMENT_MAX).contains(&wire.engagement), "engagement")?;
    rule(wire.avg_views.is_none_or(count), "avgViews")?;
    rule(wire.avg_likes.is_none_or(count), "avgLikes")?;
    rule(wire.avg_comments.is_none_or(count), "avgComments")?;
    rule((0..=100).contains(&wire.score.total), "score.total")?;
    rule(part(wire.score.reach), "score.reach")?;
    rule(part(wire.score.engagement), "score.engagement")?;
    rule(part(wire.score.authenticity), "score.authenticity")?;
    let contact = wire.contact.unwrap_or(ContactWire { email: None, phone: None });
    rule(contact.email.as_deref().is_none_or(is_email), "contact.email")?;
    rule(contact.phone.as_deref().is_none_or(is_phone), "contact.phone")?;
    rule(wire.crawled_at <= now + CLOCK_SKEW_MAX, "crawledAt")?;
    Ok(MeterProfile {
        profile_id: wire.profile_id,
        platform: wire.platform,
        username: wire.username,
        display_name: wire.display_name,
        avatar_url: wire.avatar_url,
        bio: wire.bio,
        followers: wire.followers,
        following: wire.following,
        engagement: wire.engagement,
        avg_views: wire.avg_views,
        avg_likes: wire.avg_likes,
        avg_comments: wire.avg_comments,
        score: MeterScore {
            total: wire.score.total,
            reach: wire.score.reach,
            engagement: wire.score.engagement,
            authenticity: wire.score.authenticity,
        },
        contact: MeterContact { email: contact.email, phone: contact.phone },
        crawled_at: wire.crawled_at,
    })
}

/// Whether this may be an id of the meter's.
pub(super) fn is_profile_id(text: &str) -> bool {
    (1..=ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn is_line(text: &str, characters_max: usize) -> bool {
    !text.trim().is_empty() && text.chars().count() <= characters_max && !text.chars().any(char::is_control)
}

fn is_bio(text: &str) -> bool {
    let allowed = |c: char| !c.is_control() || matches!(c, '\n' | '\r' | '\t');
    text.chars().count() <= BIO_CHARACTERS_MAX && text.chars().all(allowed)
}

fn is_web_address(text: &str) -> bool {
    text.len() <= URL_BYTES_MAX && Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https"))
}

fn is_email(text: &str) -> bool {
    is_line(text, EMAIL_CHARACTERS_MAX) && text.contains('@')
}

fn is_phone(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_digit() || " +-().".contains(c);
    (3..=40).contains(&text.len()) && text.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn valid() -> Value {
        json!({
            "profileId": "vb_prof_01", "platform": "tiktok", "username": "amy.codes", "displayName": "Amy ✨",
            "avatarUrl": "https://img.meter.example/1.jpg", "bio": "line\nbreak", "followers": 52_000,
            "following": 120, "engagement": 3.5, "avgViews": 20_000, "avgLikes": 1_700, "avgComments": 120,
            "score": {"total": 71, "reach": 60, "engagement": 80, "authenticity": 75},
            "contact": {"email": "amy@example.com", "phone": "+1 202 555 0101"},
            "crawledAt": "2026-11-21T08:00:00Z", "addedLater": true
        })
    }

    fn now() -> DateTime<Utc> {
        "2026-11-21T09:00:00Z".parse().unwrap()
    }

    fn read(profile_json: Value) -> Result<MeterProfile, VendorError> {
        profile(json!({"profile": profile_json}).to_string().as_bytes(), now())
    }

    #[test]
    fn a_valid_profile_is_read_and_unknown_fields_are_ignored() {
        let profile = read(valid()).unwrap();
        assert_eq!((profile.followers, profile.score.total), (52_000, 71));
        assert_eq!(profile.contact.email.as_deref(), Some("amy@example.com"));
    }

    #[test]
    fn what_may_be_absent_may_be_null_or_left_out() {
        let mut wire = valid();
        for field in ["avatarUrl", "bio", "avgViews", "avgLikes", "avgComments", "contact"] {
            wire[field] = Value::Null;
        }
        wire["score"] = json!({"total": 0});
        let profile = read(wire.clone()).unwrap();
        assert_eq!((profile.avg_views, profile.score.reach), (None, None));
        assert_eq!(profile.contact, MeterContact::default());
        wire.as_object_mut().unwrap().remove("bio");
        assert!(read(wire).is_ok());
    }

    #[test]
    fn values_out_of_bounds_make_the_answer_malformed() {
        let bad: &[(&str, Value)] = &[
            ("/profileId", json!("")),
            ("/profileId", json!("vb prof")),
            ("/profileId", json!("x".repeat(513))),
            ("/platform", json!("twitter")),
            ("/username", json!("")),
            ("/username", json!("@amy")),
            ("/username", json!("a\u{0}b")),
            ("/username", json!("x".repeat(201))),
            ("/displayName", json!(" ")),
            ("/displayName", json!("ế".repeat(301))),
            ("/avatarUrl", json!("javascript:alert(1)")),
            ("/avatarUrl", json!("not a url")),
            ("/bio", json!("nul \u{0}")),
            ("/bio", json!("x".repeat(5_001))),
            ("/followers", json!(-1)),
            ("/followers", json!(1.5)),
            ("/followers", json!("52000")),
            ("/followers", json!(2_000_000_000_000_i64)),
            ("/followers", json!(u64::MAX)),
            ("/followers", Value::Null),
            ("/following", json!(-5)),
            ("/engagement", json!(-0.1)),
            ("/engagement", json!("NaN")),
            ("/engagement", Value::Null),
            ("/engagement", json!(1e9)),
            ("/avgViews", json!(-1)),
            ("/score/total", json!(101)),
            ("/score/total", json!(-1)),
            ("/score/total", json!(70.5)),
            ("/score/reach", json!(400)),
            ("/contact/email", json!("no at sign")),
            ("/contact/email", json!(format!("{}@example.com", "x".repeat(260)))),
            ("/contact/phone", json!("call me")),
            ("/crawledAt", json!("yesterday")),
            ("/crawledAt", json!("2027-01-01T00:00:00Z")),
        ];
        for (field, value) in bad {
            let mut wire = valid();
            *wire.pointer_mut(field).unwrap() = value.clone();
            assert!(matches!(read(wire), Err(VendorError::Malformed { .. })), "{field} {value}");
        }
        let infinite = json!({"profile": valid()}).to_string().replace("3.5", "1e999");
        assert!(matches!(profile(infinite.as_bytes(), now()), Err(VendorError::Malformed { .. })));
    }

    #[test]
    fn an_error_never_repeats_the_value_it_complains_about() {
        for (field, value) in [("/contact/phone", json!("secret words")), ("/contact", json!("secret words"))]
        {
            let mut wire = valid();
            *wire.pointer_mut(field).unwrap() = value;
            assert!(!read(wire).unwrap_err().to_string().contains("secret"));
        }
        let contact = read(valid()).unwrap();
        assert!(!format!("{contact:?}").contains("amy@example.com"));
    }

    #[test]
    fn only_the_meters_own_404_means_that_a_profile_is_missing() {
        let missing = br#"{"error": {"code": "profile_not_found", "message": "gone"}}"#;
        assert!(matches!(refusal(StatusCode::NOT_FOUND, missing), VendorError::NotFound));
        for body in [&b"<html>404</html>"[..], b"", b"{}", br#"{"code": "profile_not_found"}"#] {
            assert!(matches!(refusal(StatusCode::NOT_FOUND, body), VendorError::Malformed { .. }));
        }
        let route = br#"{"error": {"code": "unknown_route", "message": "a\nb"}}"#;
        let VendorError::Rejected { status: 404, code, message } = refusal(StatusCode::NOT_FOUND, route)
        else {
            panic!("a wrong address is a rejected request");
        };
        assert_eq!((code.as_str(), message.as_str()), ("unknown_route", "ab"));
    }

    #[test]
    fn one_bad_entry_of_a_batch_leaves_the_others_alone() {
        let mut bad = valid();
        bad["profileId"] = json!("vb_prof_02");
        bad["followers"] = json!(-1);
        let body = json!({"results": [
            {"profileId": "vb_prof_01", "status": "refreshed", "profile": valid()},
            {"profileId": "vb_prof_02", "status": "refreshed", "profile": bad},
            {"profileId": "vb_prof_03", "status": "refreshed", "profile": valid()},
            {"profileId": "vb_prof_04", "status": "failed", "error": {"code": "profile_private"}},
            {"profileId": "vb_prof_05", "status": "failed", "error": {"code": "crawl_failed", "message": "later"}},
        ]});
        let outcomes: Vec<&str> = batch(body.to_string().as_bytes(), now())
            .unwrap()
            .into_iter()
            .map(|entry| entry.outcome.err().map_or("ok", |error| error.outcome()))
            .collect();
        assert_eq!(outcomes, ["ok", "malformed", "malformed", "private", "server"]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(body in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = (profile(&body, now()), batch(&body, now()), refusal(StatusCode::NOT_FOUND, &body));
        }

        #[test]
        fn cut_anywhere_an_answer_is_malformed(at in 0usize..300) {
            let whole = json!({"profile": valid()}).to_string();
            let cut = whole.floor_char_boundary(at);
            let result = profile(&whole.as_bytes()[..cut], now());
            prop_assert!(matches!(result, Err(VendorError::Malformed { .. })), "the cut answer was read");
        }
    }
}
