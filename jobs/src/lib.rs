//! Every kind of job, one file each: arguments, policy, body. [`registry`] lists them.
//!
//! A job may run again after any crash, so each is idempotent: it reads what is there, calls out under a key
//! that derives from its id, and writes only through its lease's fenced transaction.

pub mod audit_log;
pub mod callback;
mod context;
mod door;
pub mod email;
pub mod job;
pub mod limits;
pub mod maintenance;
pub mod ops;
pub mod partners;
pub mod people;
pub mod pool;
pub mod profiles;
pub mod queues;
mod registry;
pub mod schedules;
pub mod tenants;
pub mod webhooks;
pub mod workers;

pub use context::{Context, Handler, Services};
pub use door::{Deed, Door};
pub use limits::{Limits, PermitError, Usage};
pub use registry::{ALL, Entry, NotAJob, entry, estimator, find, new_job};
