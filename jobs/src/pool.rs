//! The shared pool: what is asked of it.

mod actions;

pub use actions::{Asking, RequestError, request_influencers};
