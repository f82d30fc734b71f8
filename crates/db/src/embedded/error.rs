//! What can go wrong with the embedded server. Each message says what to do about it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::programs::NotFound;

/// A failure to find, start, attach to or stop the embedded server.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// No usable programs on this machine, and obtaining them is turned off.
    #[error(transparent)]
    NoPrograms(#[from] NotFound),
    /// No usable programs on this machine, and obtaining them failed.
    #[error("{not_found}\nThey could not be obtained from {address} either: {reason}")]
    NotObtained {
        /// What was looked at on this machine.
        not_found: NotFound,
        /// The release address that was asked.
        address: String,
        /// What went wrong there.
        reason: String,
    },
    /// A file or folder could not be used.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// What the system answered.
        #[source]
        source: std::io::Error,
    },
    /// The server's unprivileged user cannot reach the data folder.
    #[error(
        "the PostgreSQL server runs as the unprivileged user {user}, who cannot enter {}: let everybody pass through \
         it (chmod o+x {}), or choose another data folder (--data-dir), for example below /var/lib",
        folder.display(), folder.display()
    )]
    NotTraversable {
        /// The folder that is closed.
        folder: PathBuf,
        /// The user that the server would run as.
        user: String,
    },
    /// Root, and nobody to drop to.
    #[error(
        "PostgreSQL refuses to run as root and there is neither a user postgres nor a user nobody to run it as: \
         create one (useradd --system postgres), run this command as an ordinary user, or set DATABASE_URL"
    )]
    NoUser,
    /// A program could not be run at all.
    #[error("cannot run {}", program.display())]
    Run {
        /// The program.
        program: PathBuf,
        /// What the system answered.
        #[source]
        source: std::io::Error,
    },
    /// The cluster could not be initialised.
    #[error("PostgreSQL's initdb failed ({status}):\n{output}")]
    Initdb {
        /// Its exit status.
        status: String,
        /// The end of what it printed.
        output: String,
    },
    /// The server did not come up, or ended.
    #[error("the PostgreSQL server {what}; the end of its log:\n{log_tail}")]
    ServerEnded {
        /// What happened.
        what: String,
        /// The end of the server's log since this start.
        log_tail: String,
    },
    /// The watchdog reported a failure.
    #[error("the embedded PostgreSQL server did not start: {0}")]
    Reported(String),
    /// The watchdog ended without a report.
    #[error("the watchdog of the embedded PostgreSQL server ended without a report; see {}", log.display())]
    WatchdogEnded {
        /// Where it may have said why.
        log: PathBuf,
    },
    /// A bounded wait ran out.
    #[error("gave up after {} s waiting for {what}", waited.as_secs())]
    TimedOut {
        /// What was waited for.
        what: String,
        /// For how long.
        waited: Duration,
    },
    /// A server of this folder is running that could not be stopped.
    #[error(
        "an earlier server of this data folder (process {pid}) does not stop; stop it by hand and try again"
    )]
    Stuck {
        /// Its process id.
        pid: i32,
    },
    /// Asked to stop before the server was ready.
    #[error("stopped before the server was ready")]
    Cancelled,
    /// The hidden subcommand was called with arguments that make no sense.
    #[error("{0}")]
    Arguments(String),
    /// The server runs, but a query to it failed.
    #[error("a query to the embedded server failed")]
    Query(#[from] sqlx::Error),
    /// The template database could not be migrated.
    #[error(transparent)]
    Database(#[from] Box<crate::DbError>),
    /// A name that would need quoting was given for a database.
    #[error("{0:?} is not a database name: use a-z, 0-9 and _, at most 63 of them")]
    DatabaseName(String),
}

impl EmbeddedError {
    /// For `map_err` on a file operation.
    pub(crate) fn io<'a>(
        action: &'static str,
        path: &'a Path,
    ) -> impl FnOnce(std::io::Error) -> Self + use<'a> {
        move |source| Self::Io { action, path: path.to_path_buf(), source }
    }

    /// The message with its causes, for a report that crosses a process boundary as text.
    pub(crate) fn with_causes(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(&format!(": {error}"));
            cause = error.source();
        }
        text
    }
}
