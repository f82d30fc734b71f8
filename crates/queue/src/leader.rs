//! Leadership: who does what only one process needs to do at a time.
//!
//! It is a lease with terms on a row of `job_leaders`. The term grows with every change of holder, so that a log
//! can be read in order; the holder renews, and whoever asks after the lease has run out takes over. Nothing
//! depends on there being one leader only: a process that was stopped and goes on believes that it leads until it
//! asks again. Whatever a leader does rereads the state and locks what it acts on, so two at once cost work and
//! nothing else.
//!
//! What must happen whoever dies is not a leader's: leaders may die one after another, each before it got to work.
//! So every process takes back the jobs of dead ones. With a lease of half a worker's ([`lease_of_leader`]), and
//! everybody asking at every tick, there is a leader again within lease/2 and a tick of the last one's death.
//!
//! Asking is one statement. To those who do not lead, and to a leader whose lease is young, it is a read: no lock,
//! no transaction id, no log record.

use std::time::Duration;

use db::Pool;
use uuid::Uuid;

use crate::{Error, maintenance::interval};

/// The count of changes of a leader, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Term(pub i64);

/// How long leadership may outlive its last renewal where workers' leases are `lease` long: half of it.
#[must_use]
pub fn lease_of_leader(lease: Duration) -> Duration {
    lease / 2
}

/// Takes or keeps leadership over `name` for a process, if nobody else has it, and answers its term. It then holds
/// for at least half of `lease` from when this was asked: it is renewed when less than that is left.
///
/// # Errors
/// [`Error::Database`]; whether it was taken is then unknown, and asking again tells.
pub async fn lead(pool: &Pool, name: &str, holder: Uuid, lease: Duration) -> Result<Option<Term>, Error> {
    let term = sqlx::query_scalar!(
        r#"with seen as (
               select term, holder = $2 as mine,
                   expires_at > now() + case when holder = $2 then $3::interval / 2 else '0' end as holds
               from job_leaders where name = $1
           ),
           taken as (
               insert into job_leaders as l (name, holder, expires_at)
               select $1, $2, now() + $3
               where not exists (select from seen where holds)
               on conflict (name) do update
               set holder = excluded.holder, expires_at = excluded.expires_at,
                   term = l.term + (l.holder <> excluded.holder)::integer
               -- Another may have been quicker.
               where l.holder = excluded.holder or l.expires_at <= now()
               returning term
           )
           select term as "term!" from taken
           union all
           select term from seen where mine and holds"#,
        name,
        holder,
        interval(lease),
    )
    .fetch_optional(pool)
    .await?;
    Ok(term.map(Term))
}

/// Gives leadership up, so that another may take it at once instead of after the lease.
///
/// # Errors
/// [`Error::Database`]; it then ends with its lease.
pub async fn resign(pool: &Pool, name: &str, holder: Uuid) -> Result<(), Error> {
    sqlx::query!(
        "update job_leaders set expires_at = now() where name = $1 and holder = $2 and expires_at > now()",
        name,
        holder,
    )
    .execute(pool)
    .await?;
    Ok(())
}
