//! Sealing: entries become links of the chain.
//!
//! Guarantees: sealers take turns, so any number of them makes one chain; what was committed earlier is sealed no later,
//! up to the limit of one call. When the chain's end is not what the note of its head says, the next link leaves out a
//! number: the gap tells of it for ever, and sealing goes on.

use std::time::Duration;

use db::Connection;
use kernel::sealing::{Keyring, SealError};
use sqlx::postgres::types::PgInterval;
use uuid::Uuid;

use crate::{
    AuditError,
    chain::{Head, link},
    stored::Stored,
};

/// Most entries sealed in one call.
pub const SEALED_MAX: usize = 1_000;

/// What one call sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// That many.
    pub entries: usize,
    /// Where the chain ends now.
    pub head: Option<Head>,
    /// Whether the chain's end was not as noted.
    pub is_broken: bool,
}

/// Seals the first entries that wait, `limit` of them and [`SEALED_MAX`] at the most, in the caller's transaction. Others
/// who seal wait for its end.
///
/// # Errors
/// [`AuditError::Database`].
pub async fn seal(conn: &mut Connection, keyring: &Keyring, limit: usize) -> Result<Sealed, AuditError> {
    sqlx::query!("select pg_advisory_xact_lock(hashtext('audit chain'))").fetch_one(&mut *conn).await?;
    let waiting = waiting(conn, limit.min(SEALED_MAX)).await?;
    let end = End::read(conn).await?;
    if waiting.is_empty() {
        return Ok(Sealed { entries: 0, head: end.last, is_broken: false });
    }
    let (first, is_broken) = end.next(keyring);
    let mut before = end.last.map(|head| head.link).unwrap_or_default();
    let (mut seqs, mut ids, mut links) = (Vec::new(), Vec::new(), Vec::new());
    for (seq, entry) in (first..).zip(&waiting) {
        before = link(keyring, seq, &before, entry);
        seqs.push(seq);
        ids.push(entry.id);
        links.push(before.clone());
    }
    append(conn, &seqs, &ids, &links).await?;
    let head = Head { seq: seqs.last().copied().unwrap_or(first), link: before };
    note(conn, &head, &head.tag(keyring)).await?;
    Ok(Sealed { entries: ids.len(), head: Some(head), is_broken })
}

/// Entries that wait.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unsealed {
    /// How many, counted up to 10,000.
    pub entries: i64,
    /// How long the one has waited that is the first to be sealed.
    pub oldest: Option<Duration>,
}

/// What waits to be sealed.
///
/// # Errors
/// [`AuditError::Database`].
pub async fn unsealed(conn: &mut Connection) -> Result<Unsealed, AuditError> {
    let row = sqlx::query!(
        r#"select (select count(*) from (select from audit_unsealed limit 10000) as u) as "entries!",
               (
                   select extract(epoch from clock_timestamp() - l.at)::float8
                   from audit_unsealed u join audit_log l on l.id = u.id
                   order by u.id
                   limit 1
               ) as oldest_s"#
    )
    .fetch_one(conn)
    .await?;
    let oldest = row.oldest_s.map(|seconds| Duration::from_secs_f64(seconds.max(0.0)));
    Ok(Unsealed { entries: row.entries, oldest })
}

/// How the chain ends, and what the note says of it.
pub(crate) struct End {
    pub(crate) last: Option<Head>,
    pub(crate) noted: Option<(Head, String)>,
}

impl End {
    /// Both at one moment.
    pub(crate) async fn read(conn: &mut Connection) -> Result<Self, AuditError> {
        let row = sqlx::query!(
            r#"select c.seq as "seq?", c.link as "link?", h.seq as "noted_seq?", h.link as "noted_link?", h.tag as "tag?"
               from (select) as one
               left join (select seq, link from audit_chain order by seq desc limit 1) as c on true
               left join audit_head h on true"#
        )
        .fetch_one(conn)
        .await?;
        let head = |seq: Option<i64>, link: Option<String>| Some(Head { seq: seq?, link: link? });
        let noted = head(row.noted_seq, row.noted_link).zip(row.tag);
        Ok(Self { last: head(row.seq, row.link), noted })
    }

    /// The number of the next link, and whether a number is left out before it.
    fn next(&self, keyring: &Keyring) -> (i64, bool) {
        let is_good = |(head, tag): &(Head, String)| match head.check(keyring, tag) {
            Ok(is_ours) => is_ours,
            // A link and the note of it are made under one key. When that is gone, the note says as little as one that
            // nobody signed, but nothing bad either; under another key than its link, somebody else made it.
            Err(SealError::UnknownKey { key_id }) => head.is_under(&key_id),
            Err(_) => false,
        };
        let noted = self.noted.as_ref().filter(|noted| is_good(noted)).map(|(head, _)| head);
        if noted == self.last.as_ref() {
            return (self.last.as_ref().map_or(1, |last| last.seq + 1), false);
        }
        let seq = |head: Option<&Head>| head.map_or(0, |head| head.seq);
        (seq(noted).max(seq(self.last.as_ref())) + 2, true)
    }
}

async fn waiting(conn: &mut Connection, limit: usize) -> Result<Vec<Stored>, AuditError> {
    // What is marked and is not there, or is sealed already, was put there by somebody else and is left to be found.
    let rows = sqlx::query_as!(
        Stored,
        r#"select l.id, l.at, l.actor_kind, l.actor, l.action, l.target, l.tenant_id, l.before::text, l.after::text,
               l.request_id, l.tag
           from audit_unsealed u
           join audit_log l on l.id = u.id
           where not exists (select from audit_chain c where c.id = u.id)
           order by u.id
           limit $1"#,
        i64::try_from(limit).unwrap_or(i64::MAX),
    )
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

async fn append(
    conn: &mut Connection,
    seqs: &[i64],
    ids: &[Uuid],
    links: &[String],
) -> Result<(), AuditError> {
    sqlx::query!(
        "insert into audit_chain (seq, id, link) select * from unnest($1::bigint[], $2::uuid[], $3::text[])",
        seqs,
        ids,
        links,
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!("delete from audit_unsealed where id = any($1)", ids).execute(conn).await?;
    Ok(())
}

async fn note(conn: &mut Connection, head: &Head, tag: &str) -> Result<(), AuditError> {
    sqlx::query!(
        "insert into audit_head (seq, link, tag) values ($1, $2, $3)
         on conflict (one) do update set seq = excluded.seq, link = excluded.link, tag = excluded.tag",
        head.seq,
        head.link,
        tag,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// A duration as PostgreSQL takes it.
pub(crate) fn interval(duration: Duration) -> PgInterval {
    let microseconds = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    PgInterval { months: 0, days: 0, microseconds }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(seq: i64) -> Head {
        Head { seq, link: format!("k:{seq}") }
    }

    #[test]
    fn a_chain_that_ends_otherwise_than_noted_goes_on_behind_a_gap() {
        let ring = Keyring::generate();
        let noted = |seq| Some((head(seq), head(seq).tag(&ring)));
        let next = |last: Option<i64>, noted| End { last: last.map(head), noted }.next(&ring);
        assert_eq!(next(None, None), (1, false));
        assert_eq!(next(Some(7), noted(7)), (8, false));
        assert_eq!(next(Some(5), noted(7)), (9, true), "its end is gone");
        assert_eq!(next(Some(7), None), (9, true), "the note is gone");
        assert_eq!(next(None, noted(7)), (9, true), "all of it is gone");
        let forged = Some((head(9), head(7).tag(&ring)));
        assert_eq!(next(Some(9), forged), (11, true), "somebody else wrote the note");
        let made_up = Some((head(9), format!("x:{}", "0".repeat(64))));
        assert_eq!(next(Some(9), made_up), (11, true), "somebody wrote it under a key of their own");
    }

    #[test]
    fn a_chain_whose_last_key_is_gone_goes_on_without_a_gap() {
        let gone = Keyring::generate();
        let last = Head { seq: 7, link: gone.tag("a link", b"") };
        let noted = Some((last.clone(), last.tag(&gone)));
        assert_eq!(End { last: Some(last), noted }.next(&Keyring::generate()), (8, false));
    }
}
