//! What every list of the control surface understands: `limit`, `cursor`, `sort` and `format=csv`.
//!
//! Lists that are short by nature (queues, limits, workers …) are read whole, and sorted and cut here; long ones (jobs,
//! the audit log) bring their own cursors and are only written here. A cursor holds the sort key and the id of the row
//! that it stands behind, so a list that changes meanwhile shows no row twice and leaves none out that stayed.
//!
//! CSV is RFC 4180. A cell that a spreadsheet would take for a formula begins with an apostrophe instead (OWASP, CSV
//! injection); numbers are left alone.

use std::cmp::Ordering;
use std::marker::PhantomData;

use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use db::keyset;
use http::request::Parts;
use http::{HeaderValue, header};
use serde::Serialize;
use serde_json::Value;

use crate::error::ApiError;
use crate::extract::fields::{Fields, FromFields, Problem, number_in, text};
use crate::extract::query::Query;
use crate::routes::body::{List, Pagination};

/// Entries of a page unless asked otherwise.
pub const LIMIT_DEFAULT: u32 = 50;
/// Most entries of a page.
pub const LIMIT_MAX: u32 = 200;
/// Most rows of a CSV.
pub const CSV_ROWS_MAX: u32 = 10_000;
/// Of every list of the control surface.
pub const CURSOR_VERSION: u8 = 1;

/// A row of a list.
pub trait Listed: Serialize {
    /// The list's name, for the file.
    const NAME: &'static str;
    /// The field that no two rows share.
    const ID: &'static str;
    /// The fields that make a row of CSV and that it can be sorted by; those of a field are reached by a dot.
    const COLUMNS: &'static [&'static str];
}

/// Query parameters of every list.
#[derive(Debug, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code)] // The schema of what is read by hand.
pub struct ListParams {
    /// Entries of a page, 50 unless given, and never more than 200; of a CSV up to 10,000.
    #[param(minimum = 1, maximum = 10000, required = false, nullable = false)]
    limit: Option<u32>,
    /// `nextCursor` of the page before.
    #[param(required = false, nullable = false)]
    cursor: Option<String>,
    /// A field to sort by, e.g. `name`; with `-` in front, the largest first.
    #[param(required = false, nullable = false)]
    sort: Option<String>,
    /// `json` or `csv`.
    #[param(required = false, nullable = false, pattern = "^(json|csv)$")]
    format: Option<String>,
}

/// How a list is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A page of JSON.
    Json,
    /// A file.
    Csv,
}

/// In which order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sort {
    /// The field.
    pub field: &'static str,
    /// The largest first.
    pub descending: bool,
}

/// How a list is asked for, and what it may be narrowed by.
#[derive(Debug)]
pub struct Listing<T, F = ()> {
    /// Entries of a page.
    pub limit: u32,
    /// How it is written.
    pub format: Format,
    /// What it is narrowed by.
    pub filter: F,
    sort: Option<Sort>,
    cursor: Option<String>,
    rows: PhantomData<fn() -> T>,
}

impl FromFields for () {
    fn read(_: &mut Fields) -> Option<Self> {
        Some(())
    }
}

impl<T: Listed, F: FromFields> FromFields for Listing<T, F> {
    fn read(fields: &mut Fields) -> Option<Self> {
        let format = fields.optional("format", format).unwrap_or(Format::Json);
        let limit_max = if format == Format::Csv { CSV_ROWS_MAX } else { LIMIT_MAX };
        let limit = fields.optional("limit", |value| number_in(value, 1..=CSV_ROWS_MAX));
        Some(Self {
            limit: limit
                .unwrap_or(if format == Format::Csv { CSV_ROWS_MAX } else { LIMIT_DEFAULT })
                .min(limit_max),
            format,
            sort: fields.optional("sort", |value| sort::<T>(text(value)?)),
            cursor: fields.optional("cursor", |value| text(value).map(str::to_owned)),
            filter: F::read(fields)?,
            rows: PhantomData,
        })
    }
}

impl<S: Sync, T: Listed, F: FromFields> FromRequestParts<S> for Listing<T, F> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        Query::from_request_parts(parts, state).await.map(|Query(listing)| listing)
    }
}

fn format(value: &Value) -> Result<Format, Problem> {
    match text(value)? {
        "json" => Ok(Format::Json),
        "csv" => Ok(Format::Csv),
        _ => Err(Problem::invalid("must be `json` or `csv`")),
    }
}

fn sort<T: Listed>(text: &str) -> Result<Sort, Problem> {
    let (name, descending) = text.strip_prefix('-').map_or((text, false), |name| (name, true));
    let field = T::COLUMNS.iter().find(|column| **column == name);
    let unknown = || {
        Problem::invalid(format!("must be one of: {} (with `-`: the largest first)", T::COLUMNS.join(", ")))
    };
    field.map(|field| Sort { field, descending }).ok_or_else(unknown)
}

fn bad_cursor(error: keyset::CursorError) -> ApiError {
    ApiError::invalid("cursor", "INVALID", error.to_string())
}

impl<T: Listed, F> Listing<T, F> {
    /// What a list with its own cursors is to go on from.
    ///
    /// # Errors
    /// 400 when the cursor is not one of this list.
    pub fn after<C: serde::de::DeserializeOwned>(&self) -> Result<Option<C>, ApiError> {
        let cursor = self.cursor.as_deref();
        cursor.map(|cursor| keyset::decode(CURSOR_VERSION, cursor).map_err(bad_cursor)).transpose()
    }

    /// The order asked for.
    pub fn sort(&self) -> Option<Sort> {
        self.sort
    }

    /// Of a list in one order alone.
    ///
    /// # Errors
    /// 400 when another is asked for.
    pub fn refuse_sort(&self, only: &str) -> Result<(), ApiError> {
        let (name, descending) = only.strip_prefix('-').map_or((only, false), |name| (name, true));
        match self.sort {
            Some(sort) if (sort.field, sort.descending) != (name, descending) => Err(ApiError::invalid(
                "sort",
                "INVALID",
                format!("must be `{only}`, the only order there is"),
            )),
            _ => Ok(()),
        }
    }

    /// The answer with a page that was read with its own cursor.
    ///
    /// # Errors
    /// A fault of ours.
    pub fn page<C: Serialize>(&self, rows: Vec<T>, next: Option<C>) -> Result<Response, ApiError> {
        let next_cursor =
            next.map(|next| keyset::encode(CURSOR_VERSION, &next)).transpose().map_err(ApiError::internal)?;
        match self.format {
            Format::Csv => csv_of(&rows, next_cursor),
            Format::Json => {
                let pagination =
                    Pagination { limit: self.limit, has_more: next_cursor.is_some(), next_cursor };
                Ok(axum::Json(List { success: true, data: rows, pagination }).into_response())
            }
        }
    }

    /// The answer with a page of a list that was read whole.
    ///
    /// # Errors
    /// 400 when the cursor is not one of this list and order.
    pub fn answer(&self, rows: Vec<T>) -> Result<Response, ApiError> {
        let sort = self.sort.unwrap_or(Sort { field: T::ID, descending: false });
        let mut keyed = Vec::with_capacity(rows.len());
        for row in rows {
            let json = serde_json::to_value(&row).map_err(ApiError::internal)?;
            keyed.push((at(&json, sort.field).clone(), at(&json, T::ID).clone(), row));
        }
        if self.sort.is_some() {
            keyed.sort_by(|left, right| in_order(sort, (&left.0, &left.1), (&right.0, &right.1)));
        }
        if let Some((field, descending, value, id)) = self.after::<(String, bool, Value, Value)>()? {
            if (field.as_str(), descending) != (sort.field, sort.descending) {
                return Err(bad_cursor(keyset::CursorError::Fields));
            }
            match self.sort {
                Some(_) => keyed.retain(|row| in_order(sort, (&row.0, &row.1), (&value, &id)).is_gt()),
                // In the list's own order the row itself says where to go on.
                None => {
                    let seen = keyed.iter().position(|row| row.1 == id).map_or(0, |index| index + 1);
                    keyed.drain(..seen);
                }
            }
        }
        let has_more = keyed.len() > self.limit as usize;
        keyed.truncate(self.limit as usize);
        let last = keyed.last().filter(|_| has_more);
        let next = last.map(|(value, id, _)| (sort.field, sort.descending, value.clone(), id.clone()));
        self.page(keyed.into_iter().map(|(_, _, row)| row).collect(), next)
    }
}

fn in_order(sort: Sort, left: (&Value, &Value), right: (&Value, &Value)) -> Ordering {
    let order = compared(left.0, right.0).then_with(|| compared(left.1, right.1));
    if sort.descending { order.reverse() } else { order }
}

/// Nothing comes first, then numbers, then the rest as text.
fn compared(left: &Value, right: &Value) -> Ordering {
    match (left.as_f64(), right.as_f64()) {
        (Some(left), Some(right)) => left.total_cmp(&right),
        (Some(_), None) if right.is_null() => Ordering::Greater,
        (None, Some(_)) if left.is_null() => Ordering::Less,
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => cell(left).cmp(&cell(right)),
    }
}

fn at<'a>(row: &'a Value, column: &str) -> &'a Value {
    column.split('.').fold(row, |value, field| value.get(field).unwrap_or(&Value::Null))
}

fn csv_of<T: Listed>(rows: &[T], next_cursor: Option<String>) -> Result<Response, ApiError> {
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    writer.write_record(T::COLUMNS).map_err(ApiError::internal)?;
    for row in rows {
        let row = serde_json::to_value(row).map_err(ApiError::internal)?;
        let cells = T::COLUMNS.iter().map(|column| safe(at(&row, column)));
        writer.write_record(cells).map_err(ApiError::internal)?;
    }
    let bytes = writer.into_inner().map_err(|error| ApiError::internal(error.into_error()))?;
    let name = format!("attachment; filename=\"{}.csv\"", T::NAME);
    let mut response = bytes.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/csv; charset=utf-8"));
    headers.insert(header::CONTENT_DISPOSITION, HeaderValue::from_str(&name).map_err(ApiError::internal)?);
    if let Some(cursor) = next_cursor {
        headers.insert("x-next-cursor", HeaderValue::from_str(&cursor).map_err(ApiError::internal)?);
    }
    Ok(response)
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn safe(value: &Value) -> String {
    let text = cell(value);
    let is_formula = !value.is_number() && text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']);
    if is_formula { format!("'{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Serialize)]
    struct Row {
        id: String,
        size: Option<i64>,
    }

    impl Listed for Row {
        const NAME: &'static str = "rows";
        const ID: &'static str = "id";
        const COLUMNS: &'static [&'static str] = &["id", "size"];
    }

    fn rows() -> Vec<Row> {
        [("a", Some(10)), ("b", Some(9)), ("c", None), ("d", Some(9))]
            .map(|(id, size)| Row { id: id.to_owned(), size })
            .into()
    }

    async fn walk(query: &str) -> Vec<String> {
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let request = http::Request::get(format!("/?{query}{cursor}")).body(()).unwrap();
            let mut parts = request.into_parts().0;
            let listing = Listing::<Row>::from_request_parts(&mut parts, &()).await.unwrap();
            let body =
                axum::body::to_bytes(listing.answer(rows()).unwrap().into_body(), 10_000).await.unwrap();
            let body: Value = serde_json::from_slice(&body).unwrap();
            seen.extend(
                body["data"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned()),
            );
            match body["pagination"]["nextCursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return seen,
            }
        }
    }

    #[tokio::test]
    async fn pages_follow_each_other_in_every_order() {
        assert_eq!(walk("limit=1").await, ["a", "b", "c", "d"]);
        assert_eq!(walk("limit=1&sort=size").await, ["c", "b", "d", "a"]);
        assert_eq!(walk("limit=3&sort=-size").await, ["a", "d", "b", "c"]);
    }

    #[test]
    fn cells_are_no_formulas() {
        for (value, expected) in [
            (json!("=1+1"), "'=1+1"),
            (json!("@sum"), "'@sum"),
            (json!("-2"), "'-2"),
            (json!(-2), "-2"),
            (json!("a=b"), "a=b"),
            (json!(null), ""),
            (json!(["=a"]), "[\"=a\"]"),
        ] {
            assert_eq!(safe(&value), expected);
        }
    }
}
