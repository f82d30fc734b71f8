//! Tenants as operators weigh them.

mod actions;

pub use actions::{ShareChange, TenantActionError, set_share};
