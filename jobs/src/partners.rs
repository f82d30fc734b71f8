//! What depends on partners beyond their own tables.

mod actions;

pub use actions::{
    PartnerActionError, add_key, change_subscription, create, revoke_key, rotate_key, set_active,
    set_quota_used, update,
};
