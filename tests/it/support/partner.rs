//! A partner with a key, made the way operators make one.

use kernel::ids::{PartnerId, TenantId};
use partners::{NewPartner, SubscriptionTier};
use reqwest::RequestBuilder;

use super::{TestDb, door};

/// A partner and its secrets.
pub struct TestPartner {
    /// What it calls itself.
    pub code: String,
    /// Its id.
    pub id: PartnerId,
    /// Its API key.
    pub key: String,
    /// What its callbacks are signed with.
    pub webhook_secret: String,
}

impl TestPartner {
    /// A premium partner that may ask far more often than any test does.
    pub async fn create(db: &TestDb, code: &str) -> Self {
        let tier = SubscriptionTier::Premium;
        Self::create_with(
            db,
            NewPartner { rate_limit_per_minute: 100_000, ..NewPartner::of(code, code, tier) },
        )
        .await
    }

    /// A partner of particular properties.
    pub async fn create_with(db: &TestDb, new: NewPartner) -> Self {
        let mut tx = db::begin(db.pool()).await.unwrap();
        let created = jobs::partners::create(&mut tx, &door(), new).await.unwrap();
        tx.commit().await.unwrap();
        Self {
            code: created.partner.code,
            id: created.partner.id,
            key: created.key.api_key.expose().to_owned(),
            webhook_secret: created.webhook_secret,
        }
    }

    /// The id of its newest key.
    pub async fn key_id(&self, db: &TestDb) -> kernel::ids::ApiKeyId {
        let mut conn = db.pool().acquire().await.unwrap();
        partners::rotation::list_keys(&mut conn, self.id, 1).await.unwrap()[0].id
    }

    /// The partner as an owner of jobs.
    pub fn tenant(&self) -> TenantId {
        self.id.into()
    }

    /// The request with this partner's credentials.
    pub fn sign(&self, request: RequestBuilder) -> RequestBuilder {
        request.header("X-Partner-ID", &self.code).header("X-API-Key", &self.key)
    }
}
