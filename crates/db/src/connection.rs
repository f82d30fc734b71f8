//! A connection, and how statements run on it.
//!
//! sqlx sends a statement in two messages: it is parsed under a name, then executed. A pooler in transaction mode may
//! answer the two from different sessions of the server, which share neither names nor transactions. With prepared
//! statements turned off every statement is therefore unnamed and runs in a transaction, which pins one session: in
//! the caller's, or in one of its own that has committed when the statement's rows are given out.
//!
//! What becomes of a connection when it is dropped depends on what is known of it. One on which a statement broke off,
//! because it was cut, or was not answered in time, or nobody waited for the answer, is closed without a word: nobody
//! knows its state, and asking may take for ever. Any other goes back to its pool, rolled back if need be, within a
//! bound.

use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgQueryResult, PgRow, PgStatement, PgTypeInfo};
use sqlx::{Describe, Either, Error, Execute, Executor, PgConnection, Postgres, SqlStr};
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::terms::{RETURN_MAX, Terms, Watched, in_time};
use crate::unnamed::Unnamed;

/// What a statement answers with, in order.
pub(crate) type Step = Either<PgQueryResult, PgRow>;

/// A connection, in a transaction or not; what domain functions take.
#[derive(Debug)]
pub struct Connection {
    /// Gone when it is dropped.
    inner: Option<Lent>,
    terms: Terms,
    in_transaction: bool,
    /// No statement is under way, and none has broken off.
    settled: bool,
}

impl Connection {
    pub(crate) const fn new(inner: PoolConnection<Postgres>, terms: Terms) -> Self {
        Self { inner: Some(Lent(inner)), terms, in_transaction: false, settled: true }
    }

    /// Closes a connection that is of no more use, without a word to the server, which may be out of reach.
    pub fn discard(mut self) {
        self.settled = false;
    }

    pub(crate) async fn begin(&mut self) -> Result<(), Error> {
        self.simple("begin").await?;
        self.in_transaction = true;
        Ok(())
    }

    pub(crate) async fn commit(mut self) -> Result<(), Error> {
        self.simple("commit").await?;
        self.in_transaction = false;
        Ok(())
    }

    pub(crate) async fn rollback(mut self) -> Result<(), Error> {
        self.simple("rollback").await?;
        self.in_transaction = false;
        Ok(())
    }

    /// What running a statement takes: on what, on which terms, and whether it is over.
    fn parts(&mut self) -> (&mut PgConnection, &Terms, &mut bool) {
        match &mut self.inner {
            Some(inner) => (&mut inner.0, &self.terms, &mut self.settled),
            None => unreachable!("a connection is there until it is dropped"),
        }
    }

    /// Runs a statement that is one message and answers without rows.
    async fn simple(&mut self, statement: &'static str) -> Result<(), Error> {
        let (inner, terms, settled) = self.parts();
        in_time(terms, settled, sqlx::raw_sql(statement).execute(inner)).await?;
        Ok(())
    }

    /// Runs a statement that leaves nothing named on the server, and gives out its rows when they are final.
    pub(crate) async fn run_unnamed(&mut self, query: Unnamed) -> Result<Vec<Step>, Error> {
        // Without arguments it is one message, which no pooler splits; and it may be one that no transaction takes.
        if self.in_transaction || !query.has_arguments() {
            return self.steps_of(query).try_collect().await;
        }
        self.begin().await?;
        let steps = self.steps_of(query).try_collect().await;
        let ended = match &steps {
            Ok(_) => self.simple("commit").await,
            Err(_) => self.simple("rollback").await,
        };
        self.in_transaction = ended.is_err();
        // The statement's failure is the one to tell; a lost connection has rolled back.
        let steps = steps?;
        ended?;
        Ok(steps)
    }

    /// Runs a statement as it is.
    fn steps_of<'e, 'q: 'e, E>(&'e mut self, query: E) -> BoxStream<'e, Result<Step, Error>>
    where
        E: 'q + Execute<'q, Postgres>,
    {
        let (inner, terms, settled) = self.parts();
        Watched::new(terms, settled, inner.fetch_many(query)).boxed()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let Some(inner) = self.inner.take().filter(|_| self.settled) else { return };
        let Ok(runtime) = Handle::try_current() else { return };
        let (terms, in_transaction) = (self.terms.clone(), self.in_transaction);
        runtime.spawn(async move {
            if timeout(RETURN_MAX, inner.give_back(in_transaction)).await.is_err() {
                tracing::warn!("a database connection did not answer any more and was closed");
                terms.trouble();
            }
        });
    }
}

/// A connection that sqlx's pool lent. Dropped, it is closed without a word; sqlx alone would ask it how it is, and wait
/// for the answer for ever.
#[derive(Debug)]
struct Lent(PoolConnection<Postgres>);

impl Lent {
    async fn give_back(mut self, in_transaction: bool) {
        if in_transaction && sqlx::raw_sql("rollback").execute(&mut *self.0).await.is_err() {
            return;
        }
        self.0.return_to_pool().await;
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // The future owns the connection, if it was not given back, and is never run.
        drop(self.0.return_to_pool());
    }
}

impl<'c> Executor<'c> for &'c mut Connection {
    type Database = Postgres;

    fn fetch_many<'e, 'q, E>(self, query: E) -> BoxStream<'e, Result<Step, Error>>
    where
        'c: 'e,
        'q: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        if self.terms.prepared {
            return self.steps_of(query);
        }
        let query = Unnamed::new(query);
        steps(async move { self.run_unnamed(query?).await })
    }

    fn fetch_optional<'e, 'q, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, Error>>
    where
        'c: 'e,
        'q: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        if self.terms.prepared {
            let (inner, terms, settled) = self.parts();
            return Box::pin(in_time(terms, settled, inner.fetch_optional(query)));
        }
        let query = Unnamed::new(query);
        Box::pin(async move { Ok(first_row(self.run_unnamed(query?).await?)) })
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, Error>>
    where
        'c: 'e,
    {
        match self.terms.prepared {
            true => {
                let (inner, terms, settled) = self.parts();
                Box::pin(in_time(terms, settled, inner.prepare_with(sql, parameters)))
            }
            false => Box::pin(async { Err(turned_off()) }),
        }
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Postgres>, Error>>
    where
        'c: 'e,
    {
        match self.terms.prepared {
            true => {
                let (inner, terms, settled) = self.parts();
                Box::pin(in_time(terms, settled, inner.describe(sql)))
            }
            false => Box::pin(async { Err(turned_off()) }),
        }
    }
}

/// The answer to who prepares a statement by hand: it would be left on a session that others use.
pub(crate) fn turned_off() -> Error {
    Error::Configuration("prepared statements are turned off for this database".into())
}

/// What a statement answers with, as the stream that sqlx asks for.
pub(crate) fn steps<'e>(
    run: impl Future<Output = Result<Vec<Step>, Error>> + Send + 'e,
) -> BoxStream<'e, Result<Step, Error>> {
    stream::once(run).map_ok(|steps| stream::iter(steps.into_iter().map(Ok))).try_flatten().boxed()
}

pub(crate) fn first_row(steps: Vec<Step>) -> Option<PgRow> {
    steps.into_iter().find_map(Either::right)
}
