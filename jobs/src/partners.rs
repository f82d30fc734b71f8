//! What depends on partners beyond their own tables.

mod actions;

pub use actions::{PartnerActionError, change_subscription, create, revoke_key, rotate_key, set_active};
