//! The queue engine: durable jobs in PostgreSQL, claimed under leases.
//!
//! What holds: a stored job is never lost; every change by a worker is fenced by (job, token, running), so a
//! worker that lost its lease changes nothing; jobs are stored in the caller's transaction; attempts and
//! takings-back are bounded; nobody waits for a job that is gone. Only this crate knows how jobs are stored.
//!
//! ```text
//!            enqueue              claim (token + 1)            end (done, failed, cancelled)
//!   (none) ──────────► ready ───────────────────────► running ───────────────────────────────► jobs_finished
//!      │                ▲ ▲ ▲                           │ │ │ │                                      ▲
//!      │                │ │ └── retry, snooze, release ─┘ │ │ │ unknown kind                         │
//!      │                │ └──── lease ran out ────────────┘ │ └────────► parked ── a worker knows it ─► ready
//!      │ waits for      │                                   │ shares another job's end
//!      └──────────────► waiting ◄───────────────────────────┘
//!                         └── the other ended: ready, or ended with it ──────────────────────────────┘
//! ```

mod backoff;
mod cancel;
mod claim;
mod end;
mod enqueue;
mod error;
mod estimate;
mod job;
mod lease;
mod maintenance;
mod new_job;
mod outcome;
mod process;
mod read;
mod settle;
mod wake;
mod watch;

pub use backoff::Backoff;
pub use cancel::{Cancelled, Redriven, cancel, redrive};
pub use claim::{Claimed, LeaseKey, claim};
pub use end::End;
pub use enqueue::{Enqueued, enqueue, enqueue_many, queues_of};
pub use error::Error;
pub use estimate::usual_duration;
pub use job::{Job, Policy, Queue, UnknownQueue};
pub use lease::{JobTx, Lease};
pub use maintenance::{Pruned, Swept, TAKEN_BACK_MAX, prune, sweep, unpark};
pub use new_job::NewJob;
pub use outcome::{CANCELLED, Failure, INTERNAL_ERROR, JobError, Outcome, Settled, TIMEOUT, WORKER_LOST};
pub use process::{Heartbeat, ProcessInfo, heartbeat, register, unregister};
pub use read::{AttemptError, JobRecord, JobStatus, ListFilter, find, get, list};
pub use settle::{Acknowledgement, SettledBatch, Settlement, settle};
pub use wake::{COALESCE, Waker};
pub use watch::Watcher;
