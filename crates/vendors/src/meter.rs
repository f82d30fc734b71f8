//! The profile meter: crawls a creator's profile and scores it. Its format is `docs/vendors/meter.md`; `sandbox` has a
//! faithful fake.
//!
//! Guarantees: a [`MeterProfile`] has passed every bound of the format and belongs to the platform that was asked for;
//! a call ends within [`MeterSettings::timeout`]; all tries of a call carry the same idempotency key, so a crawl whose
//! answer was lost is not paid for twice.
//!
//! On failure: private and missing profiles are the final errors [`VendorError::Private`] and
//! [`VendorError::NotFound`]; a value out of bounds makes the whole answer [`VendorError::Malformed`].

mod wire;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use kernel::Platform;
use kernel::profile_url::ProfileUrl;
use reqwest::Method;

use crate::http::{Access, Call, Dialect, Origin, Transport};
use crate::{SetupError, VendorError};

/// How the meter is reached.
#[derive(Clone)]
pub struct MeterSettings {
    /// The absolute base address, to which `/v1/…` is appended.
    pub base_url: String,
    /// The bearer token.
    pub token: String,
    /// The time one call may take, quick retries included. S0 gives a crawl 30 seconds.
    pub timeout: Duration,
}

impl fmt::Debug for MeterSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MeterSettings")
            .field("base_url", &self.base_url)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// A profile as the meter crawled it.
#[derive(Clone, Debug, PartialEq)]
pub struct MeterProfile {
    /// The meter's id, `vb_prof_…`: opaque, and stable when the creator changes its name.
    pub profile_id: String,
    /// Where the profile lives.
    pub platform: Platform,
    /// The name as the platform shows it, without `@`.
    pub username: String,
    /// The name for people.
    pub display_name: String,
    /// An http(s) address.
    pub avatar_url: Option<String>,
    /// The creator's own words; may hold line breaks and tabs.
    pub bio: Option<String>,
    /// How many follow the profile.
    pub followers: i64,
    /// How many the profile follows.
    pub following: i64,
    /// Average likes and comments per follower, in percent: 3.5 is 3.5%.
    pub engagement: f64,
    /// Average views of recent posts, where the platform shows them.
    pub avg_views: Option<i64>,
    /// Average likes of recent posts, where the platform shows them.
    pub avg_likes: Option<i64>,
    /// Average comments of recent posts, where the platform shows them.
    pub avg_comments: Option<i64>,
    /// The meter's score.
    pub score: MeterScore,
    /// Contact details that the profile shows.
    pub contact: MeterContact,
    /// When the values were read.
    pub crawled_at: DateTime<Utc>,
}

/// A score and its components, each from 0 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MeterScore {
    /// The whole.
    pub total: i32,
    /// How many people the creator reaches.
    pub reach: Option<i32>,
    /// How much they react.
    pub engagement: Option<i32>,
    /// How genuine they seem.
    pub authenticity: Option<i32>,
}

/// Contact details. Printing shows only whether there are any.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct MeterContact {
    /// An e-mail address.
    pub email: Option<String>,
    /// A phone number as the profile writes it.
    pub phone: Option<String>,
}

impl fmt::Debug for MeterContact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden = |value: &Option<String>| value.as_ref().map(|_| "…");
        f.debug_struct("MeterContact")
            .field("email", &hidden(&self.email))
            .field("phone", &hidden(&self.phone))
            .finish()
    }
}

/// What became of one profile of a batch.
#[derive(Debug)]
pub struct Refreshed {
    /// The id as asked.
    pub profile_id: String,
    /// The fresh profile, or why there is none.
    pub outcome: Result<MeterProfile, VendorError>,
}

/// The meter's client. Cheap to clone; clones share their connections.
#[derive(Clone, Debug)]
pub struct Meter {
    transport: Transport,
}

impl Meter {
    /// The most ids that one [`Meter::refresh_batch`] may name.
    pub const BATCH_IDS_MAX: usize = 100;

    /// Prepares the client. Makes no connection.
    ///
    /// # Errors
    /// When the address or token cannot be used.
    pub fn new(settings: MeterSettings) -> Result<Self, SetupError> {
        let access = Access { base_url: settings.base_url, token: settings.token, timeout: settings.timeout };
        let dialect = Dialect { vendor: "meter", refusal: wire::refusal };
        Ok(Self { transport: Transport::new(&access, dialect)? })
    }

    /// Has a profile crawled now. `idempotency_key` names the piece of work: the same for every attempt of it.
    ///
    /// # Errors
    /// As [`VendorError`] says.
    pub async fn enrich(
        &self,
        url: &ProfileUrl,
        origin: impl Into<Origin<'_>>,
        idempotency_key: &str,
    ) -> Result<MeterProfile, VendorError> {
        let call = Call {
            operation: "enrich",
            method: Method::POST,
            path: &["v1", "profiles", "enrich"],
            body: Some(serde_json::json!({"url": url.canonical()})),
            origin: origin.into(),
            idempotency_key: Some(idempotency_key),
        };
        let read = |body: &[u8]| {
            let profile = wire::profile(body, kernel::clock::now())?;
            match profile.platform == url.platform() {
                true => Ok(profile),
                false => Err(VendorError::malformed("the profile is of another platform than was asked for")),
            }
        };
        self.transport.call(&call, read).await
    }

    /// The values of the meter's last crawl of a profile, without a new one.
    ///
    /// # Errors
    /// As [`VendorError`] says.
    pub async fn get(
        &self,
        profile_id: &str,
        origin: impl Into<Origin<'_>>,
    ) -> Result<MeterProfile, VendorError> {
        sendable(profile_id)?;
        let call = Call {
            operation: "get",
            method: Method::GET,
            path: &["v1", "profiles", profile_id],
            body: None,
            origin: origin.into(),
            idempotency_key: None,
        };
        let read = |body: &[u8]| {
            let profile = wire::profile(body, kernel::clock::now())?;
            match profile.profile_id == profile_id {
                true => Ok(profile),
                false => Err(VendorError::malformed("the profile has another id than was asked for")),
            }
        };
        self.transport.call(&call, read).await
    }

    /// Has up to 100 known profiles crawled again. The outcomes are in the order of the ids, one for each.
    ///
    /// # Errors
    /// As [`VendorError`] says, for the call as a whole; what concerns one profile is in its outcome. No ids, too many
    /// or one twice is [`VendorError::Rejected`] without a call.
    pub async fn refresh_batch(
        &self,
        profile_ids: &[String],
        origin: impl Into<Origin<'_>>,
        idempotency_key: &str,
    ) -> Result<Vec<Refreshed>, VendorError> {
        if profile_ids.is_empty() || profile_ids.len() > Self::BATCH_IDS_MAX {
            return Err(unsendable("a batch holds 1 to 100 ids"));
        }
        profile_ids.iter().try_for_each(|id| sendable(id))?;
        if profile_ids.iter().collect::<HashSet<_>>().len() != profile_ids.len() {
            return Err(unsendable("a batch names no id twice"));
        }
        let call = Call {
            operation: "refresh_batch",
            method: Method::POST,
            path: &["v1", "profiles", "refresh"],
            body: Some(serde_json::json!({"profileIds": profile_ids})),
            origin: origin.into(),
            idempotency_key: Some(idempotency_key),
        };
        let read = |body: &[u8]| in_order_of(profile_ids, wire::batch(body, kernel::clock::now())?);
        self.transport.call(&call, read).await
    }
}

/// The entries in the order of the ids asked for. An answer that lacks one, has one twice or adds one is not believed.
fn in_order_of(profile_ids: &[String], entries: Vec<Refreshed>) -> Result<Vec<Refreshed>, VendorError> {
    if entries.len() != profile_ids.len() {
        return Err(VendorError::malformed("the batch has another number of entries than was asked for"));
    }
    let mut by_id: HashMap<String, Refreshed> =
        entries.into_iter().map(|entry| (entry.profile_id.clone(), entry)).collect();
    profile_ids
        .iter()
        .map(|id| by_id.remove(id).ok_or_else(|| VendorError::malformed("the batch lacks an id")))
        .collect()
}

/// Ids are opaque, but some texts cannot be any vendor's id: `..` would even change the path.
fn sendable(profile_id: &str) -> Result<(), VendorError> {
    match wire::is_profile_id(profile_id) && !matches!(profile_id, "." | "..") {
        true => Ok(()),
        false => Err(unsendable("a profile id is 1 to 512 visible ASCII characters")),
    }
}

fn unsendable(rule: &str) -> VendorError {
    VendorError::Rejected {
        status: 400,
        code: "invalid_request".to_owned(),
        message: format!("{rule}; nothing was sent"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(ids: &[&str]) -> Vec<Refreshed> {
        let entry =
            |id: &&str| Refreshed { profile_id: (*id).to_owned(), outcome: Err(VendorError::Private) };
        ids.iter().map(entry).collect()
    }

    #[test]
    fn a_batch_is_believed_only_when_it_answers_exactly_what_was_asked() {
        let asked = ["a".to_owned(), "b".to_owned()];
        let ordered = in_order_of(&asked, entries(&["b", "a"])).unwrap();
        assert_eq!(ordered.iter().map(|entry| entry.profile_id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        for answered in [&["a"][..], &["a", "a"], &["a", "c"], &["a", "b", "c"], &[]] {
            assert!(in_order_of(&asked, entries(answered)).is_err(), "{answered:?}");
        }
    }
}
