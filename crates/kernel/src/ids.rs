//! Typed ids: a UUIDv7 in the database, a TypeID (`job_01jd…`: prefix, `_`, 26 base32 characters) on the wire.
//!
//! Guarantees: an id of one kind is never taken for one of another, neither by the compiler nor by a parser; the text
//! form is the only one a parser accepts for its value (lower case, exact length); ids made by one process sort in
//! the order they were made.
//!
//! On failure: parsing says which prefix was expected and what was found instead, and never repeats more than the
//! prefix of what it was given.
//!
//! The wire format comes from `type-safe-id` rather than `mti`: mti had the later release, but it prints UUIDs whose
//! version bits it then refuses to read back and checks prefixes only while running, which type-safe-id does while
//! compiling.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use type_safe_id::{StaticType, TypeSafeId};
use uuid::Uuid;

/// Why a text is not an id of the expected kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text begins with the prefix of something else.
    #[error("expected an id that begins with `{expected}_`, found the prefix `{found}_`")]
    WrongPrefix {
        /// The prefix of the kind that was asked for, without its underscore.
        expected: &'static str,
        /// The prefix that stood there, shortened and free of control characters.
        found: String,
    },
    /// The text has no prefix at all; a bare UUID is the usual case.
    #[error("expected an id that begins with `{expected}_`, found no prefix")]
    NoPrefix {
        /// The prefix of the kind that was asked for, without its underscore.
        expected: &'static str,
    },
    /// The prefix is right, what follows is not 26 base32 characters.
    #[error(
        "expected `{expected}_` followed by 26 characters of 0-9 and a-z without i, l, o, u; found {found_chars}, \
             of which one or more may not stand there"
    )]
    Suffix {
        /// The prefix of the kind that was asked for, without its underscore.
        expected: &'static str,
        /// How many characters follow the prefix.
        found_chars: usize,
    },
}

/// At most this many characters of a foreign prefix are repeated in an error.
const FOUND_CHARS_MAX: usize = 24;

impl IdError {
    fn explain(expected: &'static str, text: &str) -> Self {
        match text.rsplit_once('_') {
            None => Self::NoPrefix { expected },
            Some((prefix, suffix)) if prefix == expected => {
                Self::Suffix { expected, found_chars: suffix.chars().count() }
            }
            Some((prefix, _)) => {
                let printable = |c: char| if c.is_ascii_graphic() { c } else { '?' };
                Self::WrongPrefix {
                    expected,
                    found: prefix.chars().take(FOUND_CHARS_MAX).map(printable).collect(),
                }
            }
        }
    }
}

macro_rules! typed_id {
    ($(#[$doc:meta])* $name:ident, $tag:ident, $prefix:literal) => {
        #[derive(Clone, Copy, Default)]
        struct $tag;

        impl StaticType for $tag {
            const TYPE: &'static str = $prefix;
        }

        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// What the text form begins with, without its underscore.
            pub const PREFIX: &str = $prefix;

            /// A fresh id; within one process each is greater than the one before.
            #[allow(clippy::new_without_default, reason = "a default that is never twice the same would mislead")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }

            /// The id stored as `uuid`.
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The form stored in the database.
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&TypeSafeId::<$tag>::from_uuid(self.0).to_string())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let id: TypeSafeId<$tag> = text.parse().map_err(|_| IdError::explain($prefix, text))?;
                Ok(Self(id.uuid()))
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                // Owned, because text with escapes or from a reader cannot be borrowed.
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

typed_id!(
    /// A job, as partners poll it.
    JobId, JobTag, "job"
);
typed_id!(
    /// A batch of jobs.
    BatchId, BatchTag, "bat"
);
typed_id!(
    /// A partner; what partners call themselves on the wire is their code, not this.
    PartnerId, PartnerTag, "ptn"
);
typed_id!(
    /// An API key; never the secret itself.
    ApiKeyId, ApiKeyTag, "key"
);
typed_id!(
    /// An influencer of the shared pool.
    InfluencerId, InfluencerTag, "at_inf"
);
typed_id!(
    /// The delivery of one webhook message, over all its attempts.
    DeliveryId, DeliveryTag, "dlv"
);

typed_id!(
    /// A partner's request for influencers.
    RequestId, RequestTag, "req"
);
typed_id!(
    /// Something that happened and that partners are told about.
    EventId, EventTag, "evt"
);
typed_id!(
    /// A person who signs in.
    UserId, UserTag, "usr"
);
typed_id!(
    /// A person's session; never the secret itself.
    SessionId, SessionTag, "ses"
);
typed_id!(
    /// An entry of the audit log.
    AuditId, AuditTag, "aud"
);

/// The leading bytes of a UUIDv7 that are its time.
const TIME_BYTES: usize = 6;
/// The namespace of names of ticks.
const TICKS: Uuid = Uuid::from_u128(0x6c8f_3a51_90d4_4b0e_8f5b_2d7c_41e6_a09d);

impl JobId {
    /// The id of what this job starts in `step`. It depends on nothing but the job and the step's name, so a job that
    /// runs twice names its follow-up the same both times.
    ///
    /// It is a UUIDv8: the job's own 48 bits of time, so that follow-ups sort beside their job, and then the bits of
    /// the name-based UUIDv5.
    pub fn derive(self, step: &str) -> Uuid {
        let mut bytes = Uuid::new_v5(&self.0, step.as_bytes()).into_bytes();
        bytes[..TIME_BYTES].copy_from_slice(&self.0.as_bytes()[..TIME_BYTES]);
        Uuid::new_v8(bytes)
    }

    /// The id of the job of a schedule's tick. It depends on nothing but the schedule's name and the instant, so a tick
    /// names the same job whoever stores it; and [`instant`](Self::instant) gives the job its tick back.
    pub fn of_tick(schedule: &str, tick: DateTime<Utc>) -> Self {
        let name = format!("{schedule}@{}", tick.timestamp_micros());
        let mut bytes = Uuid::new_v5(&TICKS, name.as_bytes()).into_bytes();
        let millis = u64::try_from(tick.timestamp_millis()).unwrap_or_default();
        bytes[..TIME_BYTES].copy_from_slice(&millis.to_be_bytes()[2..]);
        Self::from_uuid(Uuid::new_v8(bytes))
    }

    /// The instant that stands in the id, to the millisecond: of a job that a schedule stored, its tick; of others,
    /// about when they were made.
    pub fn instant(self) -> DateTime<Utc> {
        let mut millis = [0; 8];
        millis[2..].copy_from_slice(&self.0.as_bytes()[..TIME_BYTES]);
        DateTime::from_timestamp_millis(i64::from_be_bytes(millis)).unwrap_or_default()
    }
}

/// Who owns a row: a partner (or later an advertiser, a brand, a creator account), or the system itself.
///
/// Not a TypeID, because tenants of different kinds share one column; its text is the plain UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TenantId(Uuid);

impl TenantId {
    /// Millpond itself: work that is done for everybody, such as fetching a profile.
    pub const SYSTEM: Self = Self(Uuid::nil());

    /// The tenant stored as `uuid`.
    pub const fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// The form stored in the database.
    pub const fn uuid(self) -> Uuid {
        self.0
    }
}

impl From<PartnerId> for TenantId {
    fn from(partner: PartnerId) -> Self {
        Self(partner.uuid())
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests;
