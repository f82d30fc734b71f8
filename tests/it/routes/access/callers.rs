//! Partners, and those who pretend to be partners or may no longer act as such: what each asks with, and what a victim
//! has that none of them may ever read.

use kernel::Email;
use partners::rotation::{KeyTerms, add_key, revoke_key};
use partners::{ApiKey, Contact, NewPartner, SubscriptionStatus, SubscriptionTier};
use reqwest::{Method, RequestBuilder};
use serde_json::json;

use crate::routes::stage::{accepted, profile};
use crate::support::creators::{crawl, creators};
use crate::support::{TestApi, TestDb, TestPartner};

/// Who asks with credentials that do not hold. To tell any two of them apart would tell what holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Impostor {
    WrongKey,
    NoKey,
    NoId,
    RevokedKey,
    ExpiredKey,
    /// The key of another partner with the victim's id.
    AnothersKey,
    /// The victim's key with the id of another partner.
    AnothersId,
    UnknownPartner,
}

pub const IMPOSTORS: [Impostor; 8] = [
    Impostor::WrongKey,
    Impostor::NoKey,
    Impostor::NoId,
    Impostor::RevokedKey,
    Impostor::ExpiredKey,
    Impostor::AnothersKey,
    Impostor::AnothersId,
    Impostor::UnknownPartner,
];

/// A partner whose credentials hold and who may not, or not everything (G-66).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Barred {
    Inactive,
    Suspended,
    Expired,
}

impl Barred {
    /// What a refusal says in its details.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Inactive => "INACTIVE",
            Self::Suspended => "SUSPENDED",
            Self::Expired => "EXPIRED",
        }
    }
}

/// The partners of the scene.
pub struct Partners {
    /// At work, and what the others are after.
    pub victim: TestPartner,
    /// At work too, and curious about the victim.
    pub stranger: TestPartner,
    inactive: TestPartner,
    suspended: TestPartner,
    expired: TestPartner,
    revoked_key: String,
    expired_key: String,
    /// Words that only the victim's own things hold.
    marks: Vec<String>,
}

impl Partners {
    pub async fn made(db: &TestDb, api: &TestApi) -> Self {
        let victim = victim(db).await;
        let revoked_key = dead_key(db, &victim, "revoked").await;
        let expired_key = dead_key(db, &victim, "expired").await;
        let marks = leave_marks(db, api, &victim).await;
        Self {
            stranger: TestPartner::create(db, "vinfast").await,
            inactive: barred(db, "inactive-partner", Barred::Inactive).await,
            suspended: barred(db, "suspended-partner", Barred::Suspended).await,
            expired: barred(db, "expired-partner", Barred::Expired).await,
            victim,
            revoked_key,
            expired_key,
            marks,
        }
    }

    pub fn barred(&self, barred: Barred) -> &TestPartner {
        match barred {
            Barred::Inactive => &self.inactive,
            Barred::Suspended => &self.suspended,
            Barred::Expired => &self.expired,
        }
    }

    /// The request with what the impostor has.
    pub fn sign_as(&self, request: RequestBuilder, impostor: Impostor) -> RequestBuilder {
        let (victim, stranger) = (&self.victim, &self.stranger);
        let wrong = || ApiKey::generate().0.expose().to_owned();
        let (id, key) = match impostor {
            Impostor::WrongKey => (Some(&*victim.code), Some(wrong())),
            Impostor::NoKey => (Some(&*victim.code), None),
            Impostor::NoId => (None, Some(victim.key.clone())),
            Impostor::RevokedKey => (Some(&*victim.code), Some(self.revoked_key.clone())),
            Impostor::ExpiredKey => (Some(&*victim.code), Some(self.expired_key.clone())),
            Impostor::AnothersKey => (Some(&*victim.code), Some(stranger.key.clone())),
            Impostor::AnothersId => (Some(&*stranger.code), Some(victim.key.clone())),
            Impostor::UnknownPartner => (Some("nobody"), Some(victim.key.clone())),
        };
        let request = id.into_iter().fold(request, |request, id| request.header("X-Partner-ID", id));
        key.into_iter().fold(request, |request, key| request.header("X-API-Key", key))
    }

    /// What a text tells of the victim.
    pub fn told_of_victim<'a>(&'a self, text: &str) -> Vec<&'a str> {
        self.marks.iter().map(String::as_str).filter(|mark| text.contains(mark)).collect()
    }
}

async fn victim(db: &TestDb) -> TestPartner {
    let contact = Contact {
        name: Some("Victima Contacta".to_owned()),
        email: Some(Email::parse("victima@contact.example").unwrap()),
        phone: Some("+84 24 1111 2222".to_owned()),
    };
    let tier = SubscriptionTier::Premium;
    let of = NewPartner::of("techcombank", "Victima Bank", tier);
    TestPartner::create_with(db, NewPartner { rate_limit_per_minute: 100_000, contact, ..of }).await
}

/// A key that worked once.
async fn dead_key(db: &TestDb, partner: &TestPartner, how: &str) -> String {
    let mut tx = db::begin(db.pool()).await.unwrap();
    let key = add_key(&mut tx, partner.id, &KeyTerms::default()).await.unwrap();
    if how == "revoked" {
        revoke_key(&mut tx, partner.id, key.id).await.unwrap();
    } else {
        let past = "update partner_api_keys set expires_at = now() - interval '1 second' where id = $1";
        sqlx::query(past).bind(key.id.uuid()).execute(&mut *tx).await.unwrap();
    }
    tx.commit().await.unwrap();
    key.api_key.expose().to_owned()
}

/// A job and an approved creator, and all the words that tell of the victim.
async fn leave_marks(db: &TestDb, api: &TestApi, victim: &TestPartner) -> Vec<String> {
    let wish = api.request_as(victim, Method::POST, "/api/v1/profiles/enrich");
    let job = accepted(wish.json(&json!({ "url": profile("victima.handle") }))).await;
    let creators = creators(db, [crawl("marked")]).await;
    let wish = api.request_as(victim, Method::POST, "/api/v1/partners/pool/request");
    let wish = wish.json(&json!({ "influencerIds": creators, "reason": "Victima Campaign" }));
    let answer = wish.send().await.unwrap().json::<serde_json::Value>().await.unwrap();
    let request = answer["poolRequestId"].as_str().expect("it is approved").to_owned();
    let names = ["Victima", "victima", "+84 24 1111 2222", "marked@example.com", "techcombank"];
    let secrets = [victim.id.to_string(), victim.key.clone(), victim.webhook_secret.clone(), job, request];
    names.into_iter().map(str::to_owned).chain(secrets).collect()
}

async fn barred(db: &TestDb, code: &str, barred: Barred) -> TestPartner {
    let partner = TestPartner::create(db, code).await;
    let mut conn = db.pool().acquire().await.unwrap();
    let status = match barred {
        Barred::Inactive => return deactivated(&mut conn, partner).await,
        Barred::Suspended => SubscriptionStatus::Suspended,
        Barred::Expired => SubscriptionStatus::Expired,
    };
    sqlx::query("update partner_subscriptions set status = $2 where tenant_id = $1")
        .bind(partner.id.uuid())
        .bind(status.as_str())
        .execute(&mut conn)
        .await
        .unwrap();
    partner
}

async fn deactivated(conn: &mut db::Connection, partner: TestPartner) -> TestPartner {
    partners::directory::deactivate(conn, partner.id).await.unwrap();
    partner
}
