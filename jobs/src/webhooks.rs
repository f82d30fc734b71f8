//! Telling partners what happened.

mod actions;
mod deliver;

pub use actions::reopen_for;
pub use deliver::Deliver;
