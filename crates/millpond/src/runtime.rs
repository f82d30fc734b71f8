//! The composition root: settings become a database, keys, vendors and running parts.

pub(crate) mod asker;
pub(crate) mod database;
pub(crate) mod house;
pub(crate) mod keys;
pub(crate) mod metrics;
pub(crate) mod settings;
pub(crate) mod signals;
pub(crate) mod single_sign_on;
pub(crate) mod supervisor;
pub(crate) mod vendor;

pub(crate) use asker::Asker;
pub(crate) use database::{Database, Schema, reading};
pub(crate) use house::{House, Roles};
pub(crate) use signals::Signals;
pub(crate) use vendor::Vendor;
