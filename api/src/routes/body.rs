//! The bodies that all answers without a sample in S0 have.

use serde::Serialize;
use utoipa::ToSchema;

/// One thing.
#[derive(Debug, Serialize, ToSchema)]
pub struct Data<T> {
    /// Always true.
    success: bool,
    data: T,
}

impl<T> Data<T> {
    /// The body around it.
    pub fn of(data: T) -> axum::Json<Self> {
        axum::Json(Self { success: true, data })
    }
}

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct List<T> {
    /// Always true.
    pub success: bool,
    /// The entries.
    pub data: Vec<T>,
    /// Where it stands.
    pub pagination: Pagination,
}

/// Where the page stands.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pagination {
    /// Most entries of a page.
    #[schema(example = 50)]
    pub limit: u32,
    /// Give it as `cursor` for the next page; null on the last.
    pub next_cursor: Option<String>,
    /// Whether there is a next page.
    pub has_more: bool,
}
