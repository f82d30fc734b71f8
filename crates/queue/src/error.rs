//! What can go wrong inside the engine itself (a job's own failure is a [`JobError`](crate::JobError)).

use kernel::ids::JobId;

/// An engine operation failed. Nothing was changed unless the variant says so.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database refused or could not be reached; the operation may be repeated.
    #[error("the job store could not be reached or refused a statement")]
    Database(#[from] sqlx::Error),
    /// The database took longer over a statement than any statement takes; what it did is not known.
    #[error("the job store did not answer")]
    Unanswered,
    /// Another worker owns the job now, or it has ended: whoever held the lease must change nothing more.
    #[error("the lease on this job was lost")]
    LeaseLost,
    /// Sharing goes one level deep, because the ending statement looks no further: the other job itself waits
    /// to share a third one's end.
    #[error("the job whose end is to be shared shares another's itself")]
    SharedAlready,
    /// Arguments or a result that cannot be written as JSON.
    #[error("arguments or result of a {kind} job are not JSON")]
    NotJson {
        /// The kind whose value it was.
        kind: &'static str,
        /// What serde said.
        #[source]
        source: serde_json::Error,
    },
    /// Arguments that are marked as encrypted were not sealed before the job was stored.
    #[error("arguments of a {kind} job are to be sealed: call NewJob::seal last")]
    NotSealed {
        /// The kind.
        kind: &'static str,
    },
    /// Sealed arguments could not be opened.
    #[error("sealed arguments could not be opened")]
    Sealing(#[from] kernel::sealing::SealError),
    /// How far a bulk change is cannot be read; to begin anew would do again what was done.
    #[error("how far the bulk job {job} is cannot be read")]
    BulkState {
        /// The bulk job.
        job: JobId,
        /// What serde said.
        #[source]
        source: serde_json::Error,
    },
    /// A search that cannot be made.
    #[error(transparent)]
    Search(#[from] crate::SearchFault),
    /// A unique key changed hands more often than we were willing to look.
    #[error("the unique key {key:?} of {kind} stayed contended")]
    KeyContended {
        /// The kind.
        kind: String,
        /// The key.
        key: String,
    },
}

impl Error {
    /// Whether somebody else holds a lock for longer than could be waited.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.has_code("55P03")
    }

    /// Whether somebody else holds a lock for longer than could be waited, or waited for one of ours when the database
    /// ended the deadlock. What the transaction did is undone, and may be done anew after a rest.
    #[must_use]
    pub fn is_contended(&self) -> bool {
        self.is_locked() || self.has_code("40P01")
    }

    fn has_code(&self, wanted: &str) -> bool {
        let Self::Database(sqlx::Error::Database(refusal)) = self else { return false };
        refusal.code().is_some_and(|code| code == wanted)
    }

    /// Whether the database says that repeating the same statement may work: lost connections, a server that
    /// is starting or stopping, deadlocks and serialisation failures.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        let error = match self {
            Self::Database(error) => error,
            Self::Unanswered => return true,
            _ => return false,
        };
        match error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::Protocol(_) => true,
            sqlx::Error::Database(refusal) => refusal.code().is_some_and(|code| {
                // Classes of SQLSTATE: 08 connection, 40 rollback, 53 resources, 55 lock, 57 operator, 58 system.
                ["08", "40", "53", "55", "57", "58"].iter().any(|class| code.starts_with(class))
            }),
            _ => false,
        }
    }
}
