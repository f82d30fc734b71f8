//! Why a command failed. Each message says what to do about it, or its cause does.

use config::{SettingsError, variable};
use jobs::job::JobActionError;
use jobs::limits::LimitActionError;
use jobs::ops::BulkActionError;
use jobs::queues::QueueActionError;
use jobs::schedules::ActionError;
use jobs::tenants::TenantActionError;
use jobs::workers::WorkerActionError;
use partners::{FieldFault, PartnerError};
use schedules::ScheduleError;

/// A command's failure.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The settings cannot be used.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Logs could not be started.
    #[error(transparent)]
    Logs(#[from] telemetry::TelemetryError),
    /// The runtime could not be started.
    #[error("the runtime could not be started")]
    Runtime(#[source] std::io::Error),
    /// The private server.
    #[error(transparent)]
    Embedded(#[from] Box<db::embedded::EmbeddedError>),
    /// Connecting, migrating, or checking keys.
    #[error(transparent)]
    Database(#[from] db::DbError),
    /// A query.
    #[error("the database failed")]
    Query(#[from] sqlx::Error),
    /// The database lacks migrations of this build.
    #[error(
        "the database's schema is older than this program: run `millpond migrate` on it first (`millpond up` does \
         that by itself)"
    )]
    NotMigrated,
    /// Keys are needed and not given.
    #[error(
        "with a database address, the encryption keys must be given: set {} to the same value for every process. \
         `millpond config --generate-key` prints a new one; keep it as safe as the database's backup, without it \
         contact details and webhook secrets cannot be read",
        variable("encryption.keys")
    )]
    NoKeys,
    /// The key file of a used database is gone.
    #[error(
        "the key file {path} is missing, and the database was used with the keys in it: put it back from your backup. \
         Without it, contact details and webhook secrets cannot be read; to begin anew, use another data folder"
    )]
    KeysLost {
        /// Where it must be.
        path: String,
    },
    /// The given keys cannot be read.
    #[error("the encryption keys in {place} cannot be used")]
    Keys {
        /// The variable or file.
        place: String,
        /// What is wrong with them.
        source: kernel::sealing::SealError,
    },
    /// A file or folder.
    #[error("cannot {action} {path}")]
    File {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: String,
        /// What the system answered.
        source: std::io::Error,
    },
    /// Others than this machine would be served in clear.
    #[error(
        "{listen} is reached from other machines, and nothing says that they use TLS: give a certificate ({}, {}), or set \
         {}=true when a proxy in front ends TLS 1.3",
        variable("http.tls_certificate"),
        variable("http.tls_key"),
        variable("http.behind_tls_proxy")
    )]
    InClear {
        /// The address.
        listen: std::net::SocketAddr,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {listen}: choose another address with --listen, or port 0 for any free one")]
    Listen {
        /// The address.
        listen: std::net::SocketAddr,
        /// What the system answered.
        source: std::io::Error,
    },
    /// A part of the process could not be set up or ended although nobody asked it to.
    #[error("{part} failed")]
    Part {
        /// Which.
        part: &'static str,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Partners.
    #[error(transparent)]
    Partner(#[from] PartnerError),
    /// A job could not be read or changed.
    #[error(transparent)]
    Queue(#[from] queue::Error),
    /// The audit log.
    #[error(transparent)]
    Audit(#[from] audit::AuditError),
    /// People.
    #[error(transparent)]
    People(#[from] jobs::people::PeopleError),
    /// Schedules.
    #[error(transparent)]
    Schedule(#[from] ActionError),
    /// Deliveries could not be read.
    #[error(transparent)]
    Webhook(#[from] webhooks::WebhookError),
    /// What the command line names is not there.
    #[error("{0}")]
    NotFound(String),
    /// It is there, but not in a state that allows this.
    #[error("{0}")]
    Conflict(String),
    /// The values given on the command line are wrong.
    #[error("{0}")]
    Usage(String),
    /// It must not be done this way; the message says how.
    #[error("{0}")]
    Refused(String),
    /// Somebody tampered with the audit log.
    #[error(
        "the audit log is not whole: {findings}{} found", if *.has_more { " or more findings were" } else { " findings were" }
    )]
    Tampered {
        /// How many findings.
        findings: usize,
        /// Whether there are more.
        has_more: bool,
    },
    /// The demonstration did not go as it should.
    #[error("the demonstration did not go as it should:\n  {}", .0.join("\n  "))]
    Demo(Vec<String>),
    /// The person stopped it before it was through.
    #[error("interrupted")]
    Interrupted,
}

impl CliError {
    /// A failed part.
    pub(crate) fn part(
        part: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Part { part, source: source.into() }
    }

    /// For `map_err` on a file operation.
    pub(crate) fn file(
        action: &'static str,
        path: &std::path::Path,
    ) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.display().to_string();
        move |source| Self::File { action, path, source }
    }

    /// For programs that read our errors.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Settings(_) | Self::Logs(_) => "SETTINGS",
            Self::Embedded(_) => "EMBEDDED_SERVER",
            Self::Database(db::DbError::WrongKeys(_))
            | Self::NoKeys
            | Self::KeysLost { .. }
            | Self::Keys { .. } => "ENCRYPTION_KEYS",
            Self::Schedule(error) => schedule_code(error),
            Self::People(error) => people_code(error),
            Self::NotMigrated => "NOT_MIGRATED",
            Self::Partner(PartnerError::Invalid(_))
            | Self::Usage(_)
            | Self::Queue(queue::Error::Search(_)) => "VALIDATION_ERROR",
            Self::Database(_) | Self::Query(_) | Self::Queue(_) | Self::Audit(_) | Self::Webhook(_) => {
                "DATABASE"
            }
            Self::Partner(PartnerError::NotFound(_)) | Self::NotFound(_) => "NOT_FOUND",
            Self::Partner(PartnerError::CodeTaken { .. } | PartnerError::TooManyKeys { .. })
            | Self::Conflict(_) => "CONFLICT",
            Self::Listen { .. } => "LISTEN",
            Self::InClear { .. } => "SETTINGS",
            Self::Refused(_) => "REFUSED",
            Self::Tampered { .. } => "TAMPERED",
            Self::Demo(_) => "DEMO",
            Self::Interrupted => "INTERRUPTED",
            Self::Runtime(_) | Self::File { .. } | Self::Part { .. } | Self::Partner(_) => "FAILED",
        }
    }

    /// 2 when the command line is at fault, else 1.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_)
            | Self::Partner(PartnerError::Invalid(_))
            | Self::Queue(queue::Error::Search(_)) => 2,
            Self::Schedule(error) if schedule_code(error) == "VALIDATION_ERROR" => 2,
            Self::People(error) if people_code(error) == "VALIDATION_ERROR" => 2,
            _ => 1,
        }
    }

    /// The wrong fields, where that is what is wrong.
    pub(crate) fn faults(&self) -> Vec<(String, String)> {
        match self {
            Self::Partner(PartnerError::Invalid(faults)) => faults
                .iter()
                .map(|FieldFault { field, message }| ((*field).to_owned(), message.clone()))
                .collect(),
            Self::Schedule(ActionError::Schedule(ScheduleError::Invalid(faults))) => {
                faults.iter().map(|fault| (fault.field.to_owned(), fault.message.clone())).collect()
            }
            Self::Settings(error) => {
                error.faults.iter().map(|fault| (fault.variable.clone(), fault.allowed.clone())).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The causes, outermost first, without those that only repeat what was said before.
    pub(crate) fn causes(&self) -> Vec<String> {
        let mut said = self.to_string();
        let mut causes = Vec::new();
        let mut next = std::error::Error::source(self);
        while let Some(error) = next {
            let text = error.to_string();
            if !said.contains(&text) {
                said.push_str(&text);
                causes.push(text);
            }
            next = error.source();
        }
        causes
    }
}

fn people_code(error: &jobs::people::PeopleError) -> &'static str {
    use identity::IdentityError;
    use jobs::people::PeopleError;
    match error {
        PeopleError::Identity(IdentityError::Invalid(_)) | PeopleError::WrongPassword => "VALIDATION_ERROR",
        PeopleError::Identity(IdentityError::EmailTaken | IdentityError::LastAdmin) => "CONFLICT",
        PeopleError::Identity(IdentityError::NotFound) | PeopleError::NoSession => "NOT_FOUND",
        _ => "DATABASE",
    }
}

impl From<identity::IdentityError> for CliError {
    fn from(error: identity::IdentityError) -> Self {
        Self::People(error.into())
    }
}

fn schedule_code(error: &ActionError) -> &'static str {
    match error {
        ActionError::Schedule(ScheduleError::Invalid(_)) | ActionError::NotAJob(_) => "VALIDATION_ERROR",
        ActionError::Schedule(ScheduleError::TooMany { .. }) | ActionError::Conflict(_) => "CONFLICT",
        ActionError::NotFound(_) => "NOT_FOUND",
        ActionError::Schedule(ScheduleError::Database(_)) | ActionError::Queue(_) | ActionError::Audit(_) => {
            "DATABASE"
        }
    }
}

impl From<schedules::ScheduleError> for CliError {
    fn from(error: schedules::ScheduleError) -> Self {
        Self::Schedule(error.into())
    }
}

impl From<QueueActionError> for CliError {
    fn from(error: QueueActionError) -> Self {
        match error {
            QueueActionError::UnknownKind { .. } => Self::NotFound(error.to_string()),
            QueueActionError::NotPaused(_) => Self::Conflict(error.to_string()),
            QueueActionError::Queue(error) => error.into(),
            QueueActionError::Audit(error) => error.into(),
        }
    }
}

impl From<JobActionError> for CliError {
    fn from(error: JobActionError) -> Self {
        match error {
            JobActionError::NotFound(_) => Self::NotFound(error.to_string()),
            JobActionError::KeyTaken(_)
            | JobActionError::NotFailed { .. }
            | JobActionError::HasEnded { .. } => Self::Conflict(error.to_string()),
            JobActionError::Queue(error) => error.into(),
            JobActionError::Webhooks(error) => error.into(),
            JobActionError::Audit(error) => error.into(),
        }
    }
}

impl From<LimitActionError> for CliError {
    fn from(error: LimitActionError) -> Self {
        match error {
            LimitActionError::NotFound(_) => Self::NotFound(error.to_string()),
            LimitActionError::Invalid { .. } => Self::Usage(error.to_string()),
            LimitActionError::NotEdited(_) => Self::Conflict(error.to_string()),
            LimitActionError::Queue(error) => error.into(),
            LimitActionError::Audit(error) => error.into(),
        }
    }
}

impl From<TenantActionError> for CliError {
    fn from(error: TenantActionError) -> Self {
        match error {
            TenantActionError::NotFound(_) => Self::NotFound(error.to_string()),
            TenantActionError::Invalid { .. } => Self::Usage(error.to_string()),
            TenantActionError::Partner(error) => error.into(),
            TenantActionError::Queue(error) => error.into(),
            TenantActionError::Audit(error) => error.into(),
        }
    }
}

impl From<WorkerActionError> for CliError {
    fn from(error: WorkerActionError) -> Self {
        match error {
            WorkerActionError::NotFound(_) => Self::NotFound(error.to_string()),
            WorkerActionError::Stopping(_) => Self::Conflict(error.to_string()),
            WorkerActionError::Queue(error) => error.into(),
            WorkerActionError::Audit(error) => error.into(),
        }
    }
}

impl From<BulkActionError> for CliError {
    fn from(error: BulkActionError) -> Self {
        match error {
            BulkActionError::Rate => Self::Usage(error.to_string()),
            BulkActionError::Queue(error) => error.into(),
            BulkActionError::Audit(error) => error.into(),
        }
    }
}

impl From<db::embedded::EmbeddedError> for CliError {
    fn from(error: db::embedded::EmbeddedError) -> Self {
        Self::Embedded(Box::new(error))
    }
}
