//! What can be wrong with the log, in plain words.

use std::fmt;

use kernel::ids::AuditId;

use crate::Head;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// An entry does not say what was recorded, or nobody with the keys recorded it.
    Changed {
        /// Its link.
        seq: i64,
        /// It.
        entry: AuditId,
    },
    /// A sealed entry is gone.
    Removed {
        /// Its link.
        seq: i64,
        /// It.
        entry: AuditId,
    },
    /// An entry was never sealed nor marked to be.
    Inserted {
        /// It.
        entry: AuditId,
    },
    /// An entry should have been sealed long since.
    Waits {
        /// It.
        entry: AuditId,
    },
    /// A mark to seal an entry that is not there, or is sealed.
    StrayMark {
        /// That entry.
        entry: AuditId,
    },
    /// A link does not fit its entry, its time, or the link before it.
    LinkChanged {
        /// The link.
        seq: i64,
        /// Its entry.
        entry: AuditId,
    },
    /// Links are gone.
    Gap {
        /// The first.
        first: i64,
        /// The last.
        last: i64,
    },
    /// The chain's end is gone.
    CutOff {
        /// Where it ended, by the note of its head.
        noted: i64,
        /// Where it ends.
        found: i64,
    },
    /// There is no note of the chain's head.
    HeadMissing {
        /// Where the chain ends.
        seq: i64,
    },
    /// The note of the chain's head was changed, or links were put behind it.
    HeadChanged {
        /// What it says.
        noted: i64,
        /// Where the chain ends.
        found: i64,
    },
    /// The chain does not go through the head that was kept.
    OtherThanKept {
        /// That head.
        kept: Head,
        /// The link that is there now.
        found: Option<String>,
    },
    /// Nothing can be said: the key is not among those given.
    UnknownKey {
        /// The link.
        seq: i64,
        /// The key.
        key_id: String,
    },
}

impl Finding {
    /// A word for programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Changed { .. } => "CHANGED",
            Self::Removed { .. } => "REMOVED",
            Self::Inserted { .. } => "INSERTED",
            Self::Waits { .. } => "WAITS",
            Self::StrayMark { .. } => "STRAY_MARK",
            Self::LinkChanged { .. } => "LINK_CHANGED",
            Self::Gap { .. } => "GAP",
            Self::CutOff { .. } => "CUT_OFF",
            Self::HeadMissing { .. } => "HEAD_MISSING",
            Self::HeadChanged { .. } => "HEAD_CHANGED",
            Self::OtherThanKept { .. } => "OTHER_THAN_KEPT",
            Self::UnknownKey { .. } => "UNKNOWN_KEY",
        }
    }

    /// The entry that it is about, if it is about one.
    #[must_use]
    pub const fn entry(&self) -> Option<AuditId> {
        match self {
            Self::Changed { entry, .. }
            | Self::Removed { entry, .. }
            | Self::Inserted { entry }
            | Self::Waits { entry }
            | Self::StrayMark { entry }
            | Self::LinkChanged { entry, .. } => Some(*entry),
            _ => None,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed { seq, entry } => {
                write!(
                    f,
                    "{entry} (link {seq}) does not say what was recorded, or nobody with the keys recorded it"
                )
            }
            Self::Removed { seq, entry } => write!(f, "{entry} (link {seq}) is gone from the log"),
            Self::Inserted { entry } => {
                write!(f, "{entry} was put into the log past the program: it is not sealed")
            }
            Self::Waits { entry } => write!(f, "{entry} should have been sealed long since"),
            Self::StrayMark { entry } => {
                write!(f, "{entry} is marked to be sealed, but is not in the log, or is sealed already")
            }
            Self::LinkChanged { seq, entry } => {
                write!(f, "link {seq} does not fit: it, its place, or the time of {entry} was changed")
            }
            Self::Gap { first, last } if first == last => {
                write!(f, "link {first} is missing: it was removed, or sealing found the chain's end changed")
            }
            Self::Gap { first, last } => {
                write!(
                    f,
                    "links {first} to {last} are missing: they were removed, or sealing found the chain's end changed"
                )
            }
            Self::CutOff { noted, found } => {
                write!(f, "the chain ends at link {found}, and ended at link {noted}: its end is gone")
            }
            Self::HeadMissing { seq } => {
                write!(f, "the note of the chain's head is gone; the chain ends at link {seq}")
            }
            Self::HeadChanged { noted, found } => {
                write!(
                    f,
                    "the note of the chain's head (link {noted}) does not fit the chain, which ends at link {found}"
                )
            }
            Self::OtherThanKept { kept, found: None } => {
                write!(f, "the chain does not reach the head that was kept, link {}", kept.seq)
            }
            Self::OtherThanKept { kept, found: Some(found) } => {
                write!(f, "link {} is {found}, and is {} in the head that was kept", kept.seq, kept.link)
            }
            Self::UnknownKey { seq, key_id } => {
                write!(f, "link {seq} cannot be checked: its key {key_id:?} is not among those given")
            }
        }
    }
}
