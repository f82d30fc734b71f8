//! Past requests of a partner, page by page.

use chrono::{DateTime, Utc};
use db::Connection;
use kernel::ids::{ApiKeyId, InfluencerId, RequestId, TenantId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::PartnerError;
use crate::requests::{Decision, Outcome, RequestStatus};

/// A request as it was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastRequest {
    /// Its id.
    pub id: RequestId,
    /// The key that asked.
    pub key: ApiKeyId,
    /// Why, in the partner's words.
    pub reason: Option<String>,
    /// What became of it.
    pub status: RequestStatus,
    /// What was decided, in the order asked.
    pub decisions: Vec<Decision>,
    /// When it was made, by the calendar.
    pub requested_at: DateTime<Utc>,
}

/// Which requests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestFilter {
    /// Only with this end.
    pub status: Option<RequestStatus>,
    /// Only about this influencer.
    pub influencer: Option<InfluencerId>,
    /// Only at or after this instant.
    pub from: Option<DateTime<Utc>>,
    /// Only before this instant.
    pub before: Option<DateTime<Utc>>,
}

/// Where a page ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestCursor(DateTime<Utc>, Uuid);

/// Requests of a partner, the newest first, at most `rows_max` and `after` where a page ended; and where this one did, if
/// there are more.
pub async fn list(
    conn: &mut Connection,
    tenant: TenantId,
    filter: &RequestFilter,
    after: Option<RequestCursor>,
    rows_max: u32,
) -> Result<(Vec<PastRequest>, Option<RequestCursor>), PartnerError> {
    let rows = sqlx::query!(
        r#"
        select r.id, r.api_key_id, r.reason, r.status as "status: RequestStatus", r.requested_at,
               array_agg(i.influencer_id order by i.position) as "influencers!",
               array_agg(i.outcome order by i.position) as "outcomes!: Vec<Outcome>",
               array_agg(i.is_charged order by i.position) as "are_charged!"
        from (
            select r.* from influencer_requests r
            where r.tenant_id = $1
              and ($2::timestamptz is null or (r.requested_at, r.id) < ($2, $3))
              and ($4::text is null or r.status = $4)
              and ($5::timestamptz is null or r.requested_at >= $5)
              and ($6::timestamptz is null or r.requested_at < $6)
              and ($7::uuid is null or exists (
                  select from influencer_request_items i
                  where i.influencer_id = $7 and i.tenant_id = r.tenant_id and i.request_id = r.id))
            order by r.requested_at desc, r.id desc
            limit $8
        ) r
        join influencer_request_items i on i.tenant_id = r.tenant_id and i.request_id = r.id
        group by r.id, r.api_key_id, r.reason, r.status, r.requested_at
        order by r.requested_at desc, r.id desc
        "#,
        tenant.uuid(),
        after.map(|RequestCursor(at, _)| at),
        after.map(|RequestCursor(_, id)| id),
        filter.status.map(RequestStatus::as_str),
        filter.from,
        filter.before,
        filter.influencer.map(InfluencerId::uuid),
        i64::from(rows_max) + 1,
    )
    .fetch_all(conn)
    .await?;
    let has_more = rows.len() > rows_max as usize;
    let past = rows.into_iter().take(rows_max as usize).map(|row| {
        let decided = row.influencers.into_iter().zip(row.outcomes).zip(row.are_charged);
        PastRequest {
            id: RequestId::from_uuid(row.id),
            key: ApiKeyId::from_uuid(row.api_key_id),
            reason: row.reason,
            status: row.status,
            decisions: decided
                .map(|((influencer, outcome), is_charged)| Decision {
                    influencer: InfluencerId::from_uuid(influencer),
                    outcome,
                    is_charged,
                })
                .collect(),
            requested_at: row.requested_at,
        }
    });
    let past: Vec<PastRequest> = past.collect();
    let next = past.last().filter(|_| has_more).map(|last| RequestCursor(last.requested_at, last.id.uuid()));
    Ok((past, next))
}
