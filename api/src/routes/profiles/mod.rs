//! Profiles of creators.

pub mod enrich;
