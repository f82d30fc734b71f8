//! Profiles of creators.

pub mod enrich;
pub mod profile;
