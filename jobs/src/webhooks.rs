//! Telling partners what happened.

mod deliver;

pub use deliver::Deliver;
