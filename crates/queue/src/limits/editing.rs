//! What an operator does to limits, and takes back.

use db::Connection;

use super::{Columns, Limit, Shape};
use crate::Error;

/// A limit with where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defined {
    /// It.
    pub limit: Limit,
    /// Whether an operator set it.
    pub edited: bool,
    /// What code and settings say, when they say anything.
    pub declared: Option<Shape>,
}

/// A limit, locked in the caller's transaction.
///
/// # Errors
/// [`Error::Database`].
pub async fn lock_limit(conn: &mut Connection, name: &str) -> Result<Option<Defined>, Error> {
    let row = sqlx::query!(
        r#"select name, shape, max, window_ms, period, edited, declared ->> 'shape' as declared_shape,
               (declared ->> 'max')::bigint as declared_max, (declared ->> 'windowMs')::bigint as declared_window_ms,
               declared ->> 'period' as declared_period
           from job_limits
           where name = $1
           for update"#,
        name,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| Defined {
        limit: Limit::new(row.name, Shape::of(&row.shape, row.max, row.window_ms, row.period.as_deref())),
        edited: row.edited,
        declared: row.declared_shape.map(|shape| {
            let max = row.declared_max.unwrap_or_default();
            Shape::of(&shape, max, row.declared_window_ms, row.declared_period.as_deref())
        }),
    }))
}

/// Makes a limit what code and settings say again, for all workers at once; one that they say nothing of is gone.
/// Answers what it is then.
///
/// # Errors
/// [`Error::Database`].
pub async fn reset_limit(conn: &mut Connection, name: &str) -> Result<Option<Limit>, Error> {
    let declared = lock_limit(conn, name).await?.and_then(|defined| defined.declared);
    let Some(declared) = declared else {
        sqlx::query!("delete from job_kind_limits where name = $1", name).execute(&mut *conn).await?;
        sqlx::query!("delete from job_limits where name = $1", name).execute(conn).await?;
        return Ok(None);
    };
    let Columns { shape, max, window_ms, period } = declared.columns();
    sqlx::query!(
        "update job_limits set shape = $2, max = $3, window_ms = $4, period = $5, edited = false where name = $1",
        name,
        shape,
        max,
        window_ms,
        period,
    )
    .execute(conn)
    .await?;
    Ok(Some(Limit::new(name.to_owned(), declared)))
}

/// Notes what code and settings say of a limit, whatever an operator set.
pub(super) async fn note_declared(conn: &mut Connection, limit: &Limit) -> Result<(), Error> {
    let Columns { shape, max, window_ms, period } = limit.shape.columns();
    sqlx::query!(
        "update job_limits l set declared = d.declared
         from (
             select jsonb_build_object(
                 'shape', $2::text, 'max', $3::bigint, 'windowMs', $4::bigint, 'period', $5::text
             ) as declared
         ) as d
         where l.name = $1 and l.declared is distinct from d.declared",
        limit.name.as_ref(),
        shape,
        max,
        window_ms,
        period,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Notes that code and settings say nothing of limits any more.
pub(super) async fn note_undeclared(conn: &mut Connection, names: &[&str]) -> Result<(), Error> {
    sqlx::query!(
        "update job_limits set declared = null where name = any($1) and declared is not null",
        names as &[&str],
    )
    .execute(conn)
    .await?;
    Ok(())
}
