//! Upkeep of the engine's tables: what they weigh, who keeps them from being cleaned, and cleaning them.
//!
//! A table through which jobs pass collects dead rows as fast as jobs end. The server's own cleaner looks once a
//! minute at the most, which at tens of thousands of jobs a second is a million rows too late; so the leader looks
//! every other second.

mod alone;
mod reindex;
mod server;
mod transactions;
mod vacuum;

pub(crate) use alone::MARK;
pub use reindex::{IndexBounds, Reindexed, reindex};
pub use server::{ServerState, server_state};
pub use transactions::{OldTransaction, oldest_transaction};
pub use vacuum::{TABLES, TableState, VacuumBounds, Vacuumed, Vacuums, table_states, vacuum};
