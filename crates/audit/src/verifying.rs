//! Verifying: whether the log is as it was recorded and sealed.
//!
//! It walks the chain in chunks, and the log behind it, while others go on writing: what was sealed after it began is left
//! to the next time. Its memory does not grow with the log.

mod finding;
mod walk;

use std::time::Duration;

use db::Connection;
use kernel::{ids::AuditId, sealing::Keyring};
use uuid::Uuid;

use crate::{
    AuditError,
    chain::Head,
    sealing::{End, interval},
};

pub use finding::Finding;
use walk::Walk;

/// Most findings told.
pub const FINDINGS_MAX: usize = 1_000;
/// An entry that waits longer to be sealed is told of. A transaction may be open for a while after its entries' time.
pub const UNSEALED_AGE_MAX: Duration = Duration::from_secs(300);
/// Rows read at once.
const CHUNK_ROWS: i64 = 1_000;

/// What verifying came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Links that were walked.
    pub entries: u64,
    /// Where the chain ended when it began; worth keeping elsewhere.
    pub head: Option<Head>,
    /// What is wrong, at most [`FINDINGS_MAX`].
    pub findings: Vec<Finding>,
    /// Whether there is more than that.
    pub has_more: bool,
}

/// Findings up to their bound.
#[derive(Default)]
struct Findings {
    list: Vec<Finding>,
    has_more: bool,
}

impl Findings {
    fn add(&mut self, finding: Finding) {
        match self.list.len() < FINDINGS_MAX {
            true => self.list.push(finding),
            false => self.has_more = true,
        }
    }
}

/// Verifies the whole log, and that the chain goes through `kept`, a head that was kept elsewhere. Says after each chunk
/// how many links were walked. Seal what waits before: what is left then has no business there.
///
/// # Errors
/// [`AuditError::Database`].
pub async fn verify(
    conn: &mut Connection,
    keyring: &Keyring,
    kept: Option<&Head>,
    mut progress: impl FnMut(u64) + Send,
) -> Result<Verified, AuditError> {
    let mut findings = Findings::default();
    let end = End::read(conn).await?;
    check_end(keyring, &end, &mut findings);
    let mut walk = Walk::new(keyring, kept);
    let until = end.last.as_ref().map_or(0, |last| last.seq);
    while walk.chunk(conn, until, &mut findings).await? {
        progress(walk.entries());
    }
    walk.end(&mut findings);
    find_inserted(conn, &mut findings).await?;
    find_stray(conn, &mut findings).await?;
    Ok(Verified {
        entries: walk.entries(),
        head: end.last,
        findings: findings.list,
        has_more: findings.has_more,
    })
}

/// Compares the chain's end with the note of it.
fn check_end(keyring: &Keyring, end: &End, findings: &mut Findings) {
    match (&end.last, &end.noted) {
        (None, None) => {}
        (Some(last), None) => findings.add(Finding::HeadMissing { seq: last.seq }),
        (last, Some((noted, tag))) => {
            let found = last.as_ref().map_or(0, |last| last.seq);
            match noted.check(keyring, tag) {
                Err(kernel::sealing::SealError::UnknownKey { key_id }) => {
                    findings.add(Finding::UnknownKey { seq: noted.seq, key_id });
                }
                Ok(true) if last.as_ref() == Some(noted) => {}
                Ok(true) if found < noted.seq => {
                    findings.add(Finding::CutOff { noted: noted.seq, found });
                }
                _ => findings.add(Finding::HeadChanged { noted: noted.seq, found }),
            }
        }
    }
}

/// Entries that nobody sealed, nor marked to be sealed, or that should have been long since.
async fn find_inserted(conn: &mut Connection, findings: &mut Findings) -> Result<(), AuditError> {
    let mut behind = Uuid::nil();
    loop {
        let rows = sqlx::query!(
            r#"select l.id, c.id is not null as "is_sealed!", u.id is not null as "waits!",
                   l.at < now() - $3::interval as "is_old!"
               from (select id, at from audit_log where id > $1 order by id limit $2) as l
               left join audit_chain c on c.id = l.id
               left join audit_unsealed u on u.id = l.id
               order by l.id"#,
            behind,
            CHUNK_ROWS,
            interval(UNSEALED_AGE_MAX),
        )
        .fetch_all(&mut *conn)
        .await?;
        let Some(last) = rows.last() else { return Ok(()) };
        behind = last.id;
        for row in rows.iter().filter(|row| !row.is_sealed) {
            let entry = AuditId::from_uuid(row.id);
            match (row.waits, row.is_old) {
                (false, _) => findings.add(Finding::Inserted { entry }),
                (true, true) => findings.add(Finding::Waits { entry }),
                (true, false) => {}
            }
        }
    }
}

/// Marks to be sealed that belong to no entry, or to one that is sealed.
async fn find_stray(conn: &mut Connection, findings: &mut Findings) -> Result<(), AuditError> {
    let strays = sqlx::query_scalar!(
        "select u.id
         from audit_unsealed u
         where not exists (select from audit_log l where l.id = u.id)
            or exists (select from audit_chain c where c.id = u.id)
         order by u.id
         limit $1",
        CHUNK_ROWS,
    )
    .fetch_all(conn)
    .await?;
    for stray in strays {
        findings.add(Finding::StrayMark { entry: AuditId::from_uuid(stray) });
    }
    Ok(())
}
