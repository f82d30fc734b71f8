//! What operators look at: the whole at a glance, who works, whose share is how large, and one job with all that is known of
//! it. Each read is bounded, whatever stands in the queues; who calls sets how long its statements may take.

mod detail;
mod overview;
mod shares;
mod workers;

pub use detail::{Awaited, Event, EventKind, Holder, JobDetail, LINEAGE_MAX, detail};
pub use overview::{BlockedLimit, Overview, QueueOverview, RECENT, Recent, overview};
pub use shares::{SHARES_MAX, Shares, Spent, TenantStanding, shares};
pub use workers::{Asked, Asks, WorkerOrders, WorkerRecord, ask_worker, orders, register_again, workers};
