//! Telling partners what happened.

mod actions;
mod deliver;

pub(crate) use actions::reopen;
pub use actions::reopen_for;
pub use deliver::Deliver;
