//! Benchmarks and fault runs of the queue engine, and benchmarks of the API.
//!
//! Figures are taken on the path that production jobs take: worker processes of their own, the registry, the layers,
//! the timeouts and the logs of `millpond worker`.

pub mod abuse;
pub mod api;
pub mod estimates;
pub mod fairness;
pub mod faults;
pub mod figures;
pub mod fleet;
pub mod kinds;
pub mod limits;
pub mod machine;
pub mod peers;
pub mod progress;
pub mod queue_figures;
pub mod quota;
pub mod rates;
pub mod server;
pub mod table;
pub mod worker;
