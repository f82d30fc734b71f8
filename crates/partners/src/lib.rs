//! Partners: who they are, how they prove it, what their subscription allows and how fast they may call.
//!
//! Guarantees: API keys are stored only as hashes and webhook secrets only sealed; a partner's code never changes;
//! never more requests than a partner's limit pass in one clock minute, over any number of processes; one
//! idempotency key means one effect within its 24 hours.
//!
//! This crate is SQL and rules over `&mut db::Connection`. It opens no transaction: where several statements belong
//! together, the function says so. Only this crate writes the tables `partners`, `partner_subscriptions`,
//! `partner_subscription_changes`, `partner_api_keys`, `partner_key_reveals`, `partner_rate_windows`,
//! `partner_quota_months`, `influencer_requests`, `influencer_request_items` and `idempotency_keys`.

pub mod authentication;
pub mod changes;
pub mod contact;
pub mod directory;
mod error;
pub mod idempotency;
pub mod keys;
pub mod quota;
pub mod rate_window;
pub mod renewal;
pub mod request_history;
pub mod requests;
pub mod reveals;
pub mod rotation;
pub mod subscription;
pub mod usage;

pub use authentication::{Access, AuthFailure, Authenticated, Credentials};
pub use contact::Contact;
pub use directory::{Created, NewPartner, Partner, PartnerChange, SubscriptionChange};
pub use error::{FieldFault, PartnerError};
pub use idempotency::{Claim, Effect, IdempotencyKey};
pub use keys::ApiKey;
pub use quota::{Quota, QuotaMonth};
pub use rate_window::RateLease;
pub use requests::{InfluencerRequest, Outcome, RequestStatus};
pub use rotation::{KeySummary, NewKey};
pub use subscription::{
    Feature, Features, SHARE_WEIGHT_MAX, Subscription, SubscriptionStatus, SubscriptionTier, share_weight,
};
