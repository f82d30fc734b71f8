//! A partner's own account, and the pool that it searches and requests influencers from (S0 FR-002 to FR-005).

pub mod quota;
pub mod request;
pub mod search;
pub mod subscription;
