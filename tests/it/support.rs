//! What tests stand on: a database each, workers, an API, vendors, the real binary, and waiting without sleeping.
//!
//! Everything here cleans up after itself when it is dropped, also when its test fails.

// Each piece is there for whoever needs it next.
#![allow(dead_code, unused_imports, reason = "not every module of tests uses every piece")]

mod api;
mod cluster;
mod collector;
pub mod creators;
mod job_kit;
mod logs;
mod mail_stage;
mod partner;
pub mod person;
mod pooler;
mod process;
mod rows_looked_at;
mod sandbox_controls;
mod services;
mod test_db;
mod waiting;
mod worker;

pub use api::{TestApi, client, client_that_stays};
pub use collector::{Collector, ReceivedSpan};
pub use job_kit::{JobKit, ManualWorker, TestClock};
pub use mail_stage::MailStage;
pub use partner::TestPartner;
pub use person::TestPerson;
pub use pooler::{Pooler, pointless_behind_a_pooler, pooled};
pub use process::{MillpondProcess, account};
pub use rows_looked_at::rows_looked_at;
pub use sandbox_controls::{Callback, SandboxControls};
pub use services::{Services, door, keyring, sandbox, services};
pub use test_db::TestDb;
pub use waiting::{WAIT_MAX, eventually, found, so_many_wait, until, within};
pub use worker::{TestWorker, WorkerOptions, process_info};

/// The binary under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_millpond");
