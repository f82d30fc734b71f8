//! Millpond's integration tests: everything that needs PostgreSQL, a network or the binary itself.
//!
//! One test target, so that the tests share one build and one private PostgreSQL cluster ([`support`]). Modules
//! follow what they test: crates by name, HTTP routes by their path, jobs by their kind.

// Tests fail by panicking, and they talk to our own endpoints the way anybody's client would.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]
// Nothing outside uses a test binary.
#![allow(unreachable_pub)]

mod architecture;
mod audit;
mod commands;
mod data_model;
mod deliveries;
mod deploy;
mod embedded;
mod faults;
mod jobs;
mod partners;
mod pool;
mod pooler;
mod queue;
mod routes;
mod sandbox;
mod scheduler;
mod support;
mod transactions;
mod users;
mod vendors;
