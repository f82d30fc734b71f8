//! The queue engine: durable jobs in PostgreSQL, claimed under leases.
//!
//! What holds: a stored job is never lost; every change by a worker is fenced by (job, token, running), so a
//! worker that lost its lease changes nothing; jobs are stored in the caller's transaction; attempts and
//! takings-back are bounded; nobody waits for a job that is gone. Only this crate knows how jobs are stored.
//!
//! docs/QUEUE.md draws the states and names the test that shows each guarantee.

mod backoff;
mod batches;
pub mod bulk;
mod cancel;
mod controls;
mod dead_letters;
mod depths;
mod end;
mod enqueue;
mod error;
pub mod eta;
mod explain;
pub mod fair_share;
pub mod history;
mod job;
mod lane;
mod leader;
mod lease;
pub mod limits;
mod maintenance;
mod new_job;
pub mod ops;
mod outcome;
mod plans;
mod process;
mod progress;
mod read;
mod redrive;
mod retention;
mod row_id;
mod search;
mod settle;
mod standing;
mod survey;
mod tenants;
mod turn;
mod upkeep;
mod wake;
mod watch;

pub use backoff::Backoff;
pub use batches::{
    BatchRecord, CancelledBatch, EnqueuedBatch, NewBatch, Recounted, add_to_batch, batch, cancel_batch,
    enqueue_batch, prune_batches, recount_batches, resume_cancels,
};
pub use cancel::{Cancelled, cancel};
pub use controls::{
    Pause, QueueBound, Scope, pause, pauses, queue_bounds, resume, running, set_queue_concurrency,
};
pub use dead_letters::{DeadFilter, DeadGroup, DeadJob, DeadLetters, dead_jobs, dead_letters, signature};
pub use depths::{DEPTH_MAX, Depth, depths};
pub use end::End;
pub use enqueue::{Enqueued, enqueue, enqueue_many, queues_of};
pub use error::Error;
pub use eta::{Estimator, Eta};
pub use explain::{Because, Blocker, Delay, Explanation};
pub use fair_share::Shares;
pub use job::{Job, LimitUse, Marked, Policy, Queue, UnknownQueue};
pub use lane::KnownLanes;
pub use leader::{Term, lead, lease_of_leader, resign};
pub use lease::{JobTx, Lease};
pub use maintenance::{Swept, TAKEN_BACK_MAX, expire, sweep, unpark};
pub use new_job::{NewJob, open_args};
pub use outcome::{
    CANCELLED, DEADLINE_EXCEEDED, Failure, INTERNAL_ERROR, JobError, Outcome, Settled, TIMEOUT, WORKER_LOST,
};
pub use process::{Heartbeat, ProcessInfo, forgotten, heartbeat, register, unregister};
pub use progress::{Progress, ProgressReport, write_progress};
pub use read::{AttemptError, JobRecord, JobStatus, ListFilter, find, get, list, of_request};
pub use redrive::{Redriven, redrive};
pub use retention::{PartitionsDropped, Pruned, drop_partitions, make_partitions, prune, remove_keys};
pub use row_id::RowId;
pub use search::{
    ArgIs, COUNTED_EXACTLY_MAX, Count, Found, FoundJob, IDS_MAX, JobSearch, JobState, LOOKED_MAX, Order,
    PAGE_MAX, SearchCursor, SearchFault, SortedBy, UnknownState, count, search,
};
pub use settle::{Acknowledgement, SettledBatch, Settlement, claim, settle};
pub use survey::{QueueSurvey, Survey, Surveyor};
pub use tenants::{TenantShare, lock_tenant_share, set_tenant};
pub use turn::{Claimed, LeaseKey, Turn, TurnAnswer, turn};
pub use upkeep::{
    IndexBounds, OldTransaction, Reindexed, ServerState, TABLES, TableState, VacuumBounds, Vacuumed, Vacuums,
    oldest_transaction, reindex, server_state, table_states, vacuum,
};
pub use wake::{COALESCE, Waker};
pub use watch::Watcher;
