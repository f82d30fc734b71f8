//! A statement that leaves no name on the server.

use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArguments, PgStatement};
use sqlx::{Error, Execute, Postgres, SqlStr};

/// Any statement, as one that sqlx does not name. Those of its macros ask to be named.
pub(crate) struct Unnamed {
    sql: SqlStr,
    arguments: Option<PgArguments>,
    statement: Option<PgStatement>,
}

impl Unnamed {
    /// # Errors
    /// [`Error::Encode`] when an argument could not be encoded.
    pub(crate) fn new<'q>(mut query: impl Execute<'q, Postgres>) -> Result<Self, Error> {
        let statement = query.statement().cloned();
        let arguments = query.take_arguments().map_err(Error::Encode)?;
        Ok(Self { sql: query.sql(), arguments, statement })
    }

    /// Whether it is parsed and executed in separate messages.
    pub(crate) const fn has_arguments(&self) -> bool {
        self.arguments.is_some()
    }
}

impl Execute<'_, Postgres> for Unnamed {
    fn sql(self) -> SqlStr {
        self.sql
    }

    fn statement(&self) -> Option<&PgStatement> {
        self.statement.as_ref()
    }

    fn take_arguments(&mut self) -> Result<Option<PgArguments>, BoxDynError> {
        Ok(self.arguments.take())
    }

    fn persistent(&self) -> bool {
        false
    }
}
