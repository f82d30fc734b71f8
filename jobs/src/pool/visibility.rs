//! Who may see which creators: what admins decide, one function each whatever the door. They want a connection with an
//! open transaction.
//!
//! A change of many can be previewed. The preview's confirmation stands for exactly those that would change and for how; given
//! back with the change, it is refused if by then others would change.

use std::collections::HashSet;

use ::pool::{PoolError, Seen, Visibility, lock_seen, seen};
use audit::AuditError;
use db::Connection;
use kernel::ids::{InfluencerId, TenantId};
use kernel::sealing::Keyring;
use serde_json::json;

use crate::{Deed, Door};

/// Why nothing was changed. The caller's transaction can only be rolled back.
#[derive(Debug, thiserror::Error)]
pub enum VisibilityError {
    /// There is no such creator, or it was removed.
    #[error("no such influencer")]
    NotFound,
    /// Others would change than those of the preview.
    #[error("what would change is not what the preview showed any more: preview it again")]
    NotAsPreviewed,
    /// Of the pool.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// The entry of the audit log was not stored.
    #[error(transparent)]
    Audit(#[from] AuditError),
}

/// A change of many.
#[derive(Debug, Clone)]
pub struct VisibilityChange {
    /// Whose.
    pub influencers: Vec<InfluencerId>,
    /// Who may see them from now on.
    pub visibility: Visibility,
    /// That of a preview, if there was one.
    pub confirmation: Option<String>,
}

/// What a change of many would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VisibilityPreview {
    /// Who would change.
    pub changing: Vec<InfluencerId>,
    /// How many are as asked for already.
    pub unchanged: usize,
    /// Who is not there.
    pub missing: Vec<InfluencerId>,
    /// Stands for exactly this change.
    pub confirmation: String,
}

/// What a change of many did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VisibilityChanged {
    /// How many changed.
    pub updated: usize,
    /// How many were as asked for already.
    pub unchanged: usize,
    /// Who is not there.
    pub missing: Vec<InfluencerId>,
}

/// Looks at what a change would do.
///
/// # Errors
/// [`VisibilityError::Pool`].
pub async fn preview_visibility(
    conn: &mut Connection,
    keyring: &Keyring,
    influencers: &[InfluencerId],
    visibility: Visibility,
) -> Result<VisibilityPreview, VisibilityError> {
    Ok(previewed(keyring, influencers, &seen(conn, influencers).await?, visibility))
}

/// Sets who may see many creators. Whoever is not there is named, and does not keep the others from changing.
///
/// # Errors
/// [`VisibilityError`].
pub async fn set_visibilities(
    conn: &mut Connection,
    door: &Door<'_>,
    change: &VisibilityChange,
) -> Result<VisibilityChanged, VisibilityError> {
    let seen = lock_seen(conn, &change.influencers).await?;
    let preview = previewed(door.keyring, &change.influencers, &seen, change.visibility);
    if change.confirmation.as_ref().is_some_and(|confirmation| *confirmation != preview.confirmation) {
        return Err(VisibilityError::NotAsPreviewed);
    }
    let VisibilityPreview { changing, unchanged, missing, .. } = preview;
    ::pool::set_visibility(conn, &changing, change.visibility).await?;
    let before = match change.visibility {
        Visibility::Public => Visibility::Private,
        Visibility::Private => Visibility::Public,
    };
    let deed = Deed {
        before: Some(json!({ "visibility": before.as_str(), "influencerIds": changing })),
        after: Some(json!({ "visibility": change.visibility.as_str(), "updated": changing.len() })),
    };
    door.record(conn, "pool.set_visibilities", "pool", TenantId::SYSTEM, deed).await?;
    Ok(VisibilityChanged { updated: changing.len(), unchanged, missing })
}

/// Sets who may see a creator.
///
/// # Errors
/// [`VisibilityError`].
pub async fn set_visibility(
    conn: &mut Connection,
    door: &Door<'_>,
    influencer: InfluencerId,
    visibility: Visibility,
) -> Result<(), VisibilityError> {
    let seen = lock_seen(conn, &[influencer]).await?;
    let before = seen.first().ok_or(VisibilityError::NotFound)?;
    ::pool::set_visibility(conn, &[influencer], visibility).await?;
    let state = |visibility: Visibility| Some(json!({ "visibility": visibility.as_str() }));
    let deed = Deed { before: state(before.visibility), after: state(visibility) };
    Ok(door.record(conn, "pool.set_visibility", &influencer.to_string(), TenantId::SYSTEM, deed).await?)
}

fn previewed(
    keyring: &Keyring,
    influencers: &[InfluencerId],
    seen: &[Seen],
    visibility: Visibility,
) -> VisibilityPreview {
    let there: HashSet<InfluencerId> = seen.iter().map(|seen| seen.id).collect();
    let missing: Vec<InfluencerId> = influencers.iter().copied().filter(|id| !there.contains(id)).collect();
    // In the order of their ids.
    let changing = seen.iter().filter(|seen| seen.visibility != visibility).map(|seen| seen.id);
    let changing: Vec<InfluencerId> = changing.collect();
    let mut whole = visibility.to_string();
    for id in &changing {
        whole.push(' ');
        whole.push_str(&id.to_string());
    }
    VisibilityPreview {
        unchanged: seen.len() - changing.len(),
        confirmation: audit::digest(keyring, &whole),
        changing,
        missing,
    }
}
