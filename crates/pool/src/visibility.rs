//! Who may see a creator, and whether it is kept in step with the vendor: what admins decide.

use std::fmt;
use std::str::FromStr;

use db::Connection;
use kernel::ids::InfluencerId;
use uuid::Uuid;

use crate::PoolError;

/// Who may see a creator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Visibility {
    /// Partners find it and may have it.
    Public,
    /// Only our own people.
    Private,
}

/// Whether a creator is kept in step with the vendor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SyncStatus {
    /// It is.
    Active,
    /// Not for a time.
    Paused,
    /// The last attempt failed.
    Failed,
    /// Not any more.
    Archived,
}

/// No such visibility.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be PUBLIC or PRIVATE")]
pub struct UnknownVisibility;

/// No such state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be one of: ACTIVE, PAUSED, FAILED, ARCHIVED")]
pub struct UnknownSyncStatus;

impl Visibility {
    /// The name on the wire and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Public => "PUBLIC",
            Self::Private => "PRIVATE",
        }
    }
}

impl SyncStatus {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Active, Self::Paused, Self::Failed, Self::Archived];

    /// The name on the wire and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Paused => "PAUSED",
            Self::Failed => "FAILED",
            Self::Archived => "ARCHIVED",
        }
    }
}

impl fmt::Display for Visibility {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.as_str())
    }
}

impl FromStr for Visibility {
    type Err = UnknownVisibility;

    /// Reads a name in either letter case.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let all = [Self::Public, Self::Private];
        all.into_iter().find(|one| one.as_str().eq_ignore_ascii_case(text)).ok_or(UnknownVisibility)
    }
}

impl FromStr for SyncStatus {
    type Err = UnknownSyncStatus;

    /// Reads a name in either letter case.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|one| one.as_str().eq_ignore_ascii_case(text)).ok_or(UnknownSyncStatus)
    }
}

/// Who may see a creator at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The creator.
    pub id: InfluencerId,
    /// By whom it is seen.
    pub visibility: Visibility,
}

/// Who may see each of these creators, by id; whoever is unknown or was removed is left out.
///
/// # Errors
/// [`PoolError::Database`].
pub async fn seen(conn: &mut Connection, ids: &[InfluencerId]) -> Result<Vec<Seen>, PoolError> {
    let rows = sqlx::query_as!(
        SeenRow,
        "select id, visibility from pool_influencers where id = any($1) and deleted_at is null order by id",
        &uuids(ids),
    );
    rows.fetch_all(conn).await?.into_iter().map(SeenRow::read).collect()
}

/// The same, and it stays so until the transaction ends.
///
/// # Errors
/// [`PoolError::Database`].
pub async fn lock_seen(conn: &mut Connection, ids: &[InfluencerId]) -> Result<Vec<Seen>, PoolError> {
    // In one order, so that two at once wait for each other instead of failing.
    let rows = sqlx::query_as!(
        SeenRow,
        "select id, visibility from pool_influencers where id = any($1) and deleted_at is null order by id for update",
        &uuids(ids),
    );
    rows.fetch_all(conn).await?.into_iter().map(SeenRow::read).collect()
}

struct SeenRow {
    id: Uuid,
    visibility: String,
}

impl SeenRow {
    fn read(self) -> Result<Seen, PoolError> {
        let visibility = self.visibility.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        Ok(Seen { id: InfluencerId::from_uuid(self.id), visibility })
    }
}

fn uuids(ids: &[InfluencerId]) -> Vec<Uuid> {
    ids.iter().map(|id| id.uuid()).collect()
}

/// Sets who may see these creators.
///
/// # Errors
/// [`PoolError::Database`].
pub async fn set_visibility(
    conn: &mut Connection,
    ids: &[InfluencerId],
    visibility: Visibility,
) -> Result<(), PoolError> {
    sqlx::query!(
        "update pool_influencers set visibility = $2, updated_at = now() where id = any($1) and deleted_at is null",
        &uuids(ids),
        visibility.as_str(),
    )
    .execute(conn)
    .await?;
    Ok(())
}
