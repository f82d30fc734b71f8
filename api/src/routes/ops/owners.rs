//! Owners of jobs by the names that people use: a partner's code, or `system`.

use db::Connection;
use kernel::ids::TenantId;
use partners::directory;

use crate::error::ApiError;
use crate::extract::fields::Problem;

/// Partners read in one go.
const PAGE_ROWS: u32 = 1_000;
/// What work that is done for everybody belongs to.
const SYSTEM: &str = "system";

/// Everybody who may own a job.
#[derive(Debug)]
pub struct Owners(Vec<(TenantId, String)>);

impl Owners {
    /// Reads them.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn load(conn: &mut Connection) -> Result<Self, ApiError> {
        let mut owners = vec![(TenantId::SYSTEM, SYSTEM.to_owned())];
        let mut after: Option<String> = None;
        loop {
            let page = directory::list(conn, after.as_deref(), PAGE_ROWS).await?;
            let is_last = page.len() < PAGE_ROWS as usize;
            after = page.last().map(|partner| partner.code.clone());
            owners.extend(page.into_iter().map(|partner| (TenantId::from(partner.id), partner.code)));
            if is_last {
                return Ok(Self(owners));
            }
        }
    }

    /// Their ids, to look a job up by.
    pub fn ids(&self) -> Vec<TenantId> {
        self.0.iter().map(|(id, _)| *id).collect()
    }

    /// The name of one.
    pub fn name(&self, tenant: TenantId) -> String {
        let known = self.0.iter().find(|(id, _)| *id == tenant);
        known.map_or_else(|| tenant.to_string(), |(_, name)| name.clone())
    }

    /// The one called so.
    ///
    /// # Errors
    /// 400 when nobody is.
    pub fn find(&self, name: &str) -> Result<TenantId, ApiError> {
        let known = self.0.iter().find(|(_, known)| known == name);
        known
            .map(|(id, _)| *id)
            .ok_or_else(|| ApiError::invalid("tenant", "INVALID", "must be a partner's code, or `system`"))
    }
}

/// A name, short enough to be one.
pub(super) fn name(value: &serde_json::Value) -> Result<String, Problem> {
    let text = crate::extract::fields::text(value)?;
    let fits = (1..=200).contains(&text.chars().count()) && !text.contains('\0');
    if fits { Ok(text.to_owned()) } else { Err(Problem::invalid("must have 1 to 200 characters")) }
}
