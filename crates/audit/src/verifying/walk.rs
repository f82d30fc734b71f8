//! The walk along the chain.

use db::Connection;
use kernel::{
    ids::AuditId,
    sealing::{Keyring, SealError},
};
use uuid::Uuid;

use super::{CHUNK_ROWS, Finding, Findings};
use crate::{
    AuditError,
    chain::{Head, check, links},
    stored::Stored,
};

/// Where the walk is.
pub(super) struct Walk<'a> {
    keyring: &'a Keyring,
    kept: Option<&'a Head>,
    /// The link that is at the kept head's place.
    at_kept: Option<String>,
    seq: i64,
    /// What the next link may have been made of: the last link as it stands, and, when that does not fit, as it should
    /// be, so that one changed link is one finding. None: nothing is known, after a gap.
    before: Option<Vec<String>>,
    entries: u64,
}

/// A link with its entry, if that is there.
struct Link {
    seq: i64,
    id: Uuid,
    link: String,
    entry: Option<Stored>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(keyring: &'a Keyring, kept: Option<&'a Head>) -> Self {
        Self { keyring, kept, at_kept: None, seq: 0, before: Some(vec![String::new()]), entries: 0 }
    }

    /// Links walked.
    pub(super) const fn entries(&self) -> u64 {
        self.entries
    }

    /// Walks on, up to the link `until`; whether there may be more.
    pub(super) async fn chunk(
        &mut self,
        conn: &mut Connection,
        until: i64,
        findings: &mut Findings,
    ) -> Result<bool, AuditError> {
        let links = read(conn, self.seq, until).await?;
        for link in &links {
            self.step(link, findings);
        }
        Ok(!links.is_empty())
    }

    /// Says what is only known at the end.
    pub(super) fn end(&self, findings: &mut Findings) {
        if let Some(kept) = self.kept
            && self.at_kept.as_ref() != Some(&kept.link)
        {
            findings.add(Finding::OtherThanKept { kept: kept.clone(), found: self.at_kept.clone() });
        }
    }

    fn step(&mut self, link: &Link, findings: &mut Findings) {
        if link.seq > self.seq + 1 {
            findings.add(Finding::Gap { first: self.seq + 1, last: link.seq - 1 });
            self.before = None;
        }
        if self.kept.is_some_and(|kept| kept.seq == link.seq) {
            self.at_kept = Some(link.link.clone());
        }
        self.before = Some(match &link.entry {
            Some(entry) => self.check(link, entry, findings),
            None => {
                findings.add(Finding::Removed { seq: link.seq, entry: AuditId::from_uuid(link.id) });
                vec![link.link.clone()]
            }
        });
        self.seq = link.seq;
        self.entries += 1;
    }

    /// Checks an entry and its link, and answers what the next may have been made of.
    fn check(&self, link: &Link, entry: &Stored, findings: &mut Findings) -> Vec<String> {
        let (seq, id) = (link.seq, AuditId::from_uuid(link.id));
        let is_as_recorded = match entry.check(self.keyring) {
            Ok(true) => true,
            Err(SealError::UnknownKey { key_id }) => {
                findings.add(Finding::UnknownKey { seq, key_id });
                true
            }
            _ => {
                findings.add(Finding::Changed { seq, entry: id });
                false
            }
        };
        let mut next = vec![link.link.clone()];
        let Some(before) = &self.before else { return next };
        let fits: Vec<_> =
            before.iter().map(|before| check(self.keyring, seq, before, entry, &link.link)).collect();
        if fits.contains(&Ok(true)) {
            return next;
        }
        if let Some(Err(SealError::UnknownKey { key_id })) = fits.into_iter().next() {
            findings.add(Finding::UnknownKey { seq, key_id });
            return next;
        }
        // What is wrong with an entry was told; its link need not be.
        if is_as_recorded {
            findings.add(Finding::LinkChanged { seq, entry: id });
            next.extend(before.iter().flat_map(|before| links(self.keyring, seq, before, entry)));
        }
        next
    }
}

async fn read(conn: &mut Connection, behind: i64, until: i64) -> Result<Vec<Link>, AuditError> {
    let rows = sqlx::query!(
        r#"select c.seq, c.id, c.link, l.id as "entry?", l.at as "at?", l.actor_kind as "actor_kind?", l.actor as "actor?",
               l.action as "action?", l.target as "target?", l.tenant_id as "tenant_id?", l.before::text, l.after::text,
               l.request_id as "request_id?", l.tag as "tag?"
           from (select seq, id, link from audit_chain where seq > $1 and seq <= $2 order by seq limit $3) as c
           left join audit_log l on l.id = c.id
           order by c.seq"#,
        behind,
        until,
        CHUNK_ROWS,
    )
    .fetch_all(conn)
    .await?;
    let links = rows.into_iter().map(|row| {
        let entry = row.entry.zip(row.at).map(|(id, at)| Stored {
            id,
            at,
            actor_kind: row.actor_kind.unwrap_or_default(),
            actor: row.actor.unwrap_or_default(),
            action: row.action.unwrap_or_default(),
            target: row.target.unwrap_or_default(),
            tenant_id: row.tenant_id.unwrap_or_default(),
            before: row.before,
            after: row.after,
            request_id: row.request_id,
            tag: row.tag.unwrap_or_default(),
        });
        Link { seq: row.seq, id: row.id, link: row.link, entry }
    });
    Ok(links.collect())
}
