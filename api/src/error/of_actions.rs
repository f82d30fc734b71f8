//! What the errors of domains and actions are on the wire: the one place where they meet statuses and codes.

use super::{ApiError, Fault, chain};

/// What PostgreSQL says when a statement reached its time limit.
const QUERY_CANCELED: &str = "57014";

impl From<sqlx::Error> for ApiError {
    /// No free connection in time means too much to do; anything else is a fault of ours.
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::PoolTimedOut => Self::Overloaded,
            sqlx::Error::Database(error) if error.code().as_deref() == Some(QUERY_CANCELED) => Self::TooSlow,
            other => Self::internal(other),
        }
    }
}

impl From<queue::Error> for ApiError {
    fn from(error: queue::Error) -> Self {
        match error {
            queue::Error::Database(error) => error.into(),
            queue::Error::Search(queue::SearchFault::Cursor) => {
                Self::invalid("cursor", "INVALID", queue::SearchFault::Cursor.to_string())
            }
            queue::Error::Search(fault @ (queue::SearchFault::ArgAlone | queue::SearchFault::ArgPath)) => {
                Self::invalid("argument", "INVALID", fault.to_string())
            }
            queue::Error::Search(fault @ queue::SearchFault::NothingToChange) => {
                Self::invalid("state", "INVALID", fault.to_string())
            }
            queue::Error::Search(fault) => Self::invalid("ids", "INVALID", fault.to_string()),
            other => Self::internal(other),
        }
    }
}

impl From<partners::PartnerError> for ApiError {
    fn from(error: partners::PartnerError) -> Self {
        match error {
            partners::PartnerError::Database(error) => error.into(),
            partners::PartnerError::Invalid(faults) => Self::Validation(
                faults.into_iter().map(|fault| Fault::new(fault.field, "INVALID", fault.message)).collect(),
            ),
            partners::PartnerError::NotFound(what) => Self::NotFound(what),
            taken @ (partners::PartnerError::CodeTaken { .. }
            | partners::PartnerError::TooManyKeys { .. }) => Self::Conflict(taken.to_string()),
            other => Self::internal(other),
        }
    }
}

impl From<jobs::partners::PartnerActionError> for ApiError {
    fn from(error: jobs::partners::PartnerActionError) -> Self {
        use jobs::partners::PartnerActionError;
        match error {
            PartnerActionError::Partner(error) => error.into(),
            PartnerActionError::Queue(error) => error.into(),
            PartnerActionError::Audit(error) => error.into(),
            PartnerActionError::Telling(error) => error.into(),
        }
    }
}

impl From<jobs::partners::TellingError> for ApiError {
    fn from(error: jobs::partners::TellingError) -> Self {
        use jobs::partners::TellingError;
        match error {
            TellingError::Partner(error) => error.into(),
            TellingError::Queue(error) => error.into(),
            TellingError::Webhook(error) => error.into(),
        }
    }
}

impl From<audit::AuditError> for ApiError {
    fn from(error: audit::AuditError) -> Self {
        match error {
            audit::AuditError::Database(error) => error.into(),
        }
    }
}

impl From<identity::IdentityError> for ApiError {
    fn from(error: identity::IdentityError) -> Self {
        use identity::IdentityError;
        match error {
            IdentityError::Invalid(faults) => Self::Validation(
                faults.into_iter().map(|fault| Fault::new(fault.field, "INVALID", fault.message)).collect(),
            ),
            IdentityError::EmailTaken | IdentityError::LastAdmin => Self::Conflict(error.to_string()),
            IdentityError::NotFound => Self::NotFound("user"),
            IdentityError::Busy => Self::Overloaded,
            IdentityError::Database(error) => error.into(),
            other => Self::internal(other),
        }
    }
}

impl From<jobs::people::PeopleError> for ApiError {
    fn from(error: jobs::people::PeopleError) -> Self {
        use jobs::people::PeopleError;
        match error {
            PeopleError::Identity(error) => error.into(),
            PeopleError::Audit(error) => error.into(),
            PeopleError::WrongPassword => Self::invalid("current", "INVALID", "is not the present password"),
            PeopleError::Locked { for_at_most } => Self::RateLimited {
                message: "too many wrong passwords",
                retry_after_s: crate::estimate::seconds(for_at_most),
            },
            PeopleError::Queue(error) => error.into(),
            PeopleError::NoSession => Self::NotFound("session"),
        }
    }
}

impl From<jobs::people::SignInError> for ApiError {
    fn from(error: jobs::people::SignInError) -> Self {
        use jobs::people::SignInError;
        match error {
            SignInError::Wrong => Self::WrongPassword,
            SignInError::Locked { for_at_most } => Self::RateLimited {
                message: "too many failed attempts to sign in",
                retry_after_s: crate::estimate::seconds(for_at_most),
            },
            SignInError::Identity(error) => error.into(),
            SignInError::Audit(error) => error.into(),
        }
    }
}

impl From<vendors::oidc::OidcError> for ApiError {
    /// What the provider did wrong is for operators: it is logged here, once.
    fn from(error: vendors::oidc::OidcError) -> Self {
        use vendors::oidc::OidcError;
        tracing::warn!(error = %error, chain = chain(&error), "single sign-on failed");
        match error {
            OidcError::Provider(_) => Self::NotReady("the provider of single sign-on cannot be reached"),
            OidcError::CodeRefused | OidcError::Untrusted { .. } => Self::NotProven,
        }
    }
}

impl From<jobs::people::SingleSignOnError> for ApiError {
    fn from(error: jobs::people::SingleSignOnError) -> Self {
        use jobs::people::SingleSignOnError;
        let (message, code) = match error {
            SingleSignOnError::Unknown => ("nobody here knows you: ask for an invitation", "NO_ACCOUNT"),
            SingleSignOnError::Disabled => ("you may not sign in here any more", "ACCOUNT_DISABLED"),
            SingleSignOnError::SignIn(error) => return error.into(),
        };
        Self::Forbidden { message, reason: Box::new(Fault::new("account", code, message)) }
    }
}

impl From<jobs::profiles::RequestError> for ApiError {
    fn from(error: jobs::profiles::RequestError) -> Self {
        use jobs::profiles::RequestError;
        match error {
            RequestError::Queue(error) => error.into(),
            RequestError::Webhooks(webhooks::WebhookError::Database(error)) => error.into(),
            RequestError::Audit(error) => error.into(),
        }
    }
}

impl From<pool::PoolError> for ApiError {
    fn from(error: pool::PoolError) -> Self {
        match error {
            pool::PoolError::Database(error) => error.into(),
            other => Self::internal(other),
        }
    }
}

impl From<jobs::pool::RequestError> for ApiError {
    fn from(error: jobs::pool::RequestError) -> Self {
        use jobs::pool::RequestError;
        match error {
            RequestError::Partner(error) => error.into(),
            RequestError::Pool(error) => error.into(),
            RequestError::Telling(error) => error.into(),
            RequestError::Audit(error) => error.into(),
        }
    }
}

impl From<jobs::pool::VisibilityError> for ApiError {
    fn from(error: jobs::pool::VisibilityError) -> Self {
        use jobs::pool::VisibilityError;
        match error {
            VisibilityError::NotFound => Self::NotFound("influencer"),
            VisibilityError::NotAsPreviewed => Self::Conflict(error.to_string()),
            VisibilityError::Pool(error) => error.into(),
            VisibilityError::Audit(error) => error.into(),
        }
    }
}

impl From<jobs::job::JobActionError> for ApiError {
    fn from(error: jobs::job::JobActionError) -> Self {
        use jobs::job::JobActionError;
        match error {
            JobActionError::NotFound(_) => Self::NotFound("job"),
            JobActionError::HasEnded { status, .. } => {
                Self::Conflict(format!("the job has already {status}"))
            }
            refused @ (JobActionError::KeyTaken(_) | JobActionError::NotFailed { .. }) => {
                Self::Conflict(refused.to_string())
            }
            JobActionError::Queue(error) => error.into(),
            JobActionError::Webhooks(webhooks::WebhookError::Database(error)) => error.into(),
            JobActionError::Audit(error) => error.into(),
        }
    }
}

impl From<jobs::queues::QueueActionError> for ApiError {
    fn from(error: jobs::queues::QueueActionError) -> Self {
        use jobs::queues::QueueActionError;
        match error {
            QueueActionError::UnknownKind { .. } => Self::invalid("kind", "INVALID", error.to_string()),
            QueueActionError::NotPaused(_) => Self::Conflict(error.to_string()),
            QueueActionError::Queue(error) => error.into(),
            QueueActionError::Audit(error) => error.into(),
        }
    }
}

impl From<webhooks::WebhookError> for ApiError {
    fn from(error: webhooks::WebhookError) -> Self {
        match error {
            webhooks::WebhookError::Database(error) => error.into(),
        }
    }
}

impl From<jobs::limits::LimitActionError> for ApiError {
    fn from(error: jobs::limits::LimitActionError) -> Self {
        use jobs::limits::LimitActionError;
        match error {
            LimitActionError::NotFound(_) => Self::NotFound("limit"),
            LimitActionError::Invalid { field, message } => Self::invalid(field, "INVALID", message),
            LimitActionError::NotEdited(_) => Self::Conflict(error.to_string()),
            LimitActionError::Queue(error) => error.into(),
            LimitActionError::Audit(error) => error.into(),
        }
    }
}

impl From<jobs::schedules::ActionError> for ApiError {
    fn from(error: jobs::schedules::ActionError) -> Self {
        use jobs::schedules::ActionError;
        use schedules::ScheduleError;
        match error {
            ActionError::Schedule(ScheduleError::Invalid(faults)) => Self::Validation(
                faults.into_iter().map(|fault| Fault::new(fault.field, "INVALID", fault.message)).collect(),
            ),
            ActionError::Schedule(ScheduleError::TooMany { .. }) | ActionError::Conflict(_) => {
                Self::Conflict(error.to_string())
            }
            ActionError::Schedule(ScheduleError::Database(error)) => error.into(),
            ActionError::NotAJob(jobs::NotAJob::Queue(error)) | ActionError::Queue(error) => error.into(),
            ActionError::NotAJob(error) => {
                let field = if matches!(error, jobs::NotAJob::Args { .. }) { "args" } else { "kind" };
                Self::invalid(field, "INVALID", error.to_string())
            }
            ActionError::Audit(error) => error.into(),
            ActionError::NotFound(_) => Self::NotFound("schedule"),
        }
    }
}

impl From<jobs::workers::WorkerActionError> for ApiError {
    fn from(error: jobs::workers::WorkerActionError) -> Self {
        use jobs::workers::WorkerActionError;
        match error {
            WorkerActionError::NotFound(_) => Self::NotFound("worker"),
            WorkerActionError::Stopping(_) => Self::Conflict(error.to_string()),
            WorkerActionError::Queue(error) => error.into(),
            WorkerActionError::Audit(error) => error.into(),
        }
    }
}

impl From<jobs::tenants::TenantActionError> for ApiError {
    fn from(error: jobs::tenants::TenantActionError) -> Self {
        use jobs::tenants::TenantActionError;
        match error {
            TenantActionError::NotFound(_) => Self::NotFound("tenant"),
            TenantActionError::Invalid { field, message } => Self::invalid(field, "INVALID", message),
            TenantActionError::Partner(error) => error.into(),
            TenantActionError::Queue(error) => error.into(),
            TenantActionError::Audit(error) => error.into(),
        }
    }
}

impl From<jobs::ops::BulkActionError> for ApiError {
    fn from(error: jobs::ops::BulkActionError) -> Self {
        use jobs::ops::BulkActionError;
        match error {
            BulkActionError::Rate => Self::invalid("ratePerS", "INVALID", error.to_string()),
            BulkActionError::Queue(error) => error.into(),
            BulkActionError::Audit(error) => error.into(),
        }
    }
}
