//! Where a row stands in its table (`tid`): a hint that spares a search by key when a job is acknowledged. A row that
//! moved meanwhile is found by its key; one that took its place is recognised by id and token.

//!
//! It travels as text, `(block,offset)`: sqlx does not know the type, and would ask the server about it between parsing
//! and running a statement, which behind a pooler loses the statement.

use std::io::Write;

use sqlx::{
    Decode, Encode, Postgres, Type,
    encode::IsNull,
    error::BoxDynError,
    postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo, PgValueRef},
};

/// A `tid` of PostgreSQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowId {
    block: u32,
    offset: u16,
}

impl Type<Postgres> for RowId {
    fn type_info() -> PgTypeInfo {
        <str as Type<Postgres>>::type_info()
    }
}

impl PgHasArrayType for RowId {
    fn array_type_info() -> PgTypeInfo {
        <&str as PgHasArrayType>::array_type_info()
    }
}

impl Encode<'_, Postgres> for RowId {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        write!(&mut **buffer, "({},{})", self.block, self.offset)?;
        Ok(IsNull::No)
    }
}

impl Decode<'_, Postgres> for RowId {
    fn decode(value: PgValueRef<'_>) -> Result<Self, BoxDynError> {
        let text = value.as_str()?;
        let place = text.strip_prefix('(').and_then(|text| text.strip_suffix(')'));
        let (block, offset) = place.and_then(|place| place.split_once(',')).ok_or("not a tid")?;
        Ok(Self { block: block.parse()?, offset: offset.parse()? })
    }
}
