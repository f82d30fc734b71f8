//! An entry as its row holds it, and the bytes of it that tags and links are made of.

use chrono::{DateTime, Utc};
use kernel::sealing::Keyring;
use uuid::Uuid;

/// What tags of entries are made for.
const PURPOSE: &str = "audit.entry";

/// A row of the log. JSON is kept as the text that it is.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) id: Uuid,
    pub(crate) at: DateTime<Utc>,
    pub(crate) actor_kind: String,
    pub(crate) actor: String,
    pub(crate) action: String,
    pub(crate) target: String,
    pub(crate) tenant_id: Uuid,
    pub(crate) before: Option<String>,
    pub(crate) after: Option<String>,
    pub(crate) request_id: Option<String>,
    pub(crate) tag: String,
}

/// What whoever records an entry says.
pub(crate) struct Said<'a> {
    pub(crate) id: Uuid,
    pub(crate) actor_kind: &'a str,
    pub(crate) actor: &'a str,
    pub(crate) action: &'a str,
    pub(crate) target: &'a str,
    pub(crate) tenant_id: Uuid,
    pub(crate) before: Option<&'a str>,
    pub(crate) after: Option<&'a str>,
    pub(crate) request_id: Option<&'a str>,
}

impl Said<'_> {
    /// The entry's tag under the current key.
    pub(crate) fn tag(&self, keyring: &Keyring) -> String {
        keyring.tag(PURPOSE, &self.bytes())
    }

    /// Every field behind its length, so that no two entries give the same bytes.
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        put(&mut bytes, self.id.as_bytes());
        for text in [self.actor_kind, self.actor, self.action, self.target] {
            put(&mut bytes, text.as_bytes());
        }
        put(&mut bytes, self.tenant_id.as_bytes());
        for text in [self.before, self.after, self.request_id] {
            bytes.push(u8::from(text.is_some()));
            put(&mut bytes, text.unwrap_or_default().as_bytes());
        }
        bytes
    }
}

impl Stored {
    fn said(&self) -> Said<'_> {
        Said {
            id: self.id,
            actor_kind: &self.actor_kind,
            actor: &self.actor,
            action: &self.action,
            target: &self.target,
            tenant_id: self.tenant_id,
            before: self.before.as_deref(),
            after: self.after.as_deref(),
            request_id: self.request_id.as_deref(),
        }
    }

    /// Whether its tag is that of what it says.
    ///
    /// # Errors
    /// As [`Keyring::check_tag`].
    pub(crate) fn check(&self, keyring: &Keyring) -> Result<bool, kernel::sealing::SealError> {
        keyring.check_tag(PURPOSE, &self.said().bytes(), &self.tag)
    }

    /// What a link is made of beside its number and the link before it: all that the row holds.
    pub(crate) fn sealed_bytes(&self) -> Vec<u8> {
        let mut bytes = self.at.timestamp_micros().to_be_bytes().to_vec();
        put(&mut bytes, self.tag.as_bytes());
        bytes.extend(self.said().bytes());
        bytes
    }
}

/// Appends a field behind its length.
pub(crate) fn put(bytes: &mut Vec<u8>, field: &[u8]) {
    bytes.extend((field.len() as u64).to_be_bytes());
    bytes.extend(field);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said<'a>(actor: &'a str, action: &'a str, after: Option<&'a str>) -> Said<'a> {
        Said {
            id: Uuid::nil(),
            actor_kind: "cli",
            actor,
            action,
            target: "enrich",
            tenant_id: Uuid::nil(),
            before: None,
            after,
            request_id: None,
        }
    }

    #[test]
    fn entries_that_differ_in_anything_have_other_bytes() {
        let entries = [
            said("ab", "c", None),
            said("a", "bc", None),
            said("ab", "c", Some("")),
            said("ab", "c", Some("{}")),
            Said { before: Some("{}"), after: None, ..said("ab", "c", None) },
        ];
        for (n, entry) in entries.iter().enumerate() {
            assert!(entries[..n].iter().all(|other| other.bytes() != entry.bytes()), "{n}");
        }
    }
}
