//! The one place that reads the machine's wall clock.
//!
//! Times that are stored or decided in the database come from the database's own clock, because processes on several
//! machines never agree. This clock is for what concerns one process: log lines, headers of an answer, a token's age.
//! Keeping it in one function lets `clippy.toml` forbid every other reading.

use chrono::{DateTime, Utc};

/// The current wall-clock time of this machine, in UTC. It may step backwards when the machine is set right, so
/// durations are measured with [`std::time::Instant`].
#[allow(clippy::disallowed_methods)]
pub fn now() -> DateTime<Utc> {
    Utc::now()
}
