//! Requests for influencers: what is approved, what it costs, and the record of it.
//!
//! Guarantees: every influencer that was asked for is either approved or denied, in the order asked; what is denied
//! costs nothing; an influencer that was charged in a month is free for the rest of it (an index of the database says
//! so too).

use std::collections::HashSet;

use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;
use db::Connection;
use kernel::ids::{ApiKeyId, InfluencerId, RequestId, TenantId};
use uuid::Uuid;

use crate::error::PartnerError;
use crate::quota::Quota;

/// Influencers in one request at the most.
pub const INFLUENCERS_MAX: usize = 20;
/// Longest reason.
pub const REASON_CHARS_MAX: usize = 500;

/// What became of one influencer of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum Outcome {
    /// The partner has it.
    Approved,
    /// No quota was left for it.
    QuotaExceeded,
    /// There is none that partners may have: unknown, private and removed ones are not told apart.
    NotFound,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum RequestStatus {
    /// Reserved for approval by people; nothing is pending today.
    Pending,
    /// All were approved.
    Approved,
    /// None was.
    Denied,
    /// Some were.
    Partial,
}

/// What is decided about one influencer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Which.
    pub influencer: InfluencerId,
    /// What becomes of it.
    pub outcome: Outcome,
    /// Whether it costs a unit of quota.
    pub is_charged: bool,
}

/// Decides in the order asked, until the quota is used up. Those in `charged` cost nothing and need no quota; whoever
/// is named twice is decided once.
pub fn decide(
    asked: &[InfluencerId],
    servable: &HashSet<InfluencerId>,
    charged: &HashSet<InfluencerId>,
    remaining: Option<u32>,
) -> Vec<Decision> {
    let mut left = remaining;
    let mut seen = HashSet::new();
    let asked = asked.iter().copied().filter(|influencer| seen.insert(*influencer));
    let decide_one = |influencer| {
        let is_free = charged.contains(&influencer);
        let (outcome, is_charged) = match (servable.contains(&influencer), is_free, left) {
            (false, ..) => (Outcome::NotFound, false),
            (true, true, _) => (Outcome::Approved, false),
            (true, false, Some(0)) => (Outcome::QuotaExceeded, false),
            (true, false, _) => (Outcome::Approved, true),
        };
        if is_charged {
            left = left.map(|left| left - 1);
        }
        Decision { influencer, outcome, is_charged }
    };
    asked.map(decide_one).collect()
}

impl RequestStatus {
    /// Of so many approved and denied.
    pub fn of(approved: usize, denied: usize) -> Self {
        match (approved, denied) {
            (0, _) => Self::Denied,
            (_, 0) => Self::Approved,
            _ => Self::Partial,
        }
    }

    /// The name in the database and on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Partial => "partial",
        }
    }
}

impl Outcome {
    /// The name in the database and on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::QuotaExceeded => "quota_exceeded",
            Self::NotFound => "not_found",
        }
    }
}

/// A request that was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InfluencerRequest {
    /// Its id.
    pub id: RequestId,
    /// The key that asked.
    pub key: ApiKeyId,
    /// Why, in the partner's words.
    pub reason: Option<String>,
    /// What was decided, in the order asked.
    pub decisions: Vec<Decision>,
    /// The quota after it.
    pub quota: Quota,
    /// When it was made, by the calendar.
    pub requested_at: DateTime<Utc>,
}

impl InfluencerRequest {
    /// Those with this outcome, in the order asked.
    pub fn with(&self, outcome: Outcome) -> impl Iterator<Item = InfluencerId> {
        self.decisions.iter().filter(move |decision| decision.outcome == outcome).map(|one| one.influencer)
    }

    /// What became of it.
    pub fn status(&self) -> RequestStatus {
        let approved = self.with(Outcome::Approved).count();
        RequestStatus::of(approved, self.decisions.len() - approved)
    }
}

/// Which of these the partner was charged for in a month.
pub async fn charged(
    conn: &mut Connection,
    tenant: TenantId,
    month: NaiveDate,
    influencers: &[InfluencerId],
) -> Result<HashSet<InfluencerId>, PartnerError> {
    let ids: Vec<Uuid> = influencers.iter().map(|id| id.uuid()).collect();
    let charged = sqlx::query_scalar!(
        "
        select influencer_id from influencer_request_items
        where tenant_id = $1 and month = $2 and is_charged and influencer_id = any($3)
        ",
        tenant.uuid(),
        month,
        &ids,
    )
    .fetch_all(conn)
    .await?;
    Ok(charged.into_iter().map(InfluencerId::from_uuid).collect())
}

/// Records a request. Needs the transaction that charged it.
pub async fn store(
    conn: &mut Connection,
    tenant: TenantId,
    request: &InfluencerRequest,
    zone: Tz,
) -> Result<(), PartnerError> {
    let approved = request.with(Outcome::Approved).count();
    let count = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    let month = request.quota.month.first_day;
    sqlx::query!(
        "
        insert into influencer_requests (tenant_id, id, api_key_id, reason, status, approved_count, denied_count,
                                         month, quota_used, quota_limit, requested_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
        ",
        tenant.uuid(),
        request.id.uuid(),
        request.key.uuid(),
        request.reason,
        request.status().as_str(),
        count(approved),
        count(request.decisions.len() - approved),
        month,
        request.quota.used.cast_signed(),
        request.quota.limit.map(u32::cast_signed),
        request.requested_at,
    )
    .execute(&mut *conn)
    .await?;
    let ids: Vec<Uuid> = request.decisions.iter().map(|decision| decision.influencer.uuid()).collect();
    let outcomes: Vec<String> =
        request.decisions.iter().map(|decision| decision.outcome.as_str().to_owned()).collect();
    let are_charged: Vec<bool> = request.decisions.iter().map(|decision| decision.is_charged).collect();
    sqlx::query!(
        "
        insert into influencer_request_items (tenant_id, request_id, influencer_id, position, outcome, is_charged,
                                              month, day)
        select $1, $2, item.id, item.position, item.outcome, item.is_charged, $6, $7
        from unnest($3::uuid[], $4::text[], $5::boolean[]) with ordinality
            as item (id, outcome, is_charged, position)
        ",
        tenant.uuid(),
        request.id.uuid(),
        &ids,
        &outcomes,
        &are_charged,
        month,
        request.requested_at.with_timezone(&zone).date_naive(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// A request as it was decided.
pub async fn find(
    conn: &mut Connection,
    tenant: TenantId,
    id: RequestId,
    zone: Tz,
) -> Result<Option<InfluencerRequest>, PartnerError> {
    let rows = sqlx::query!(
        r#"
        select r.api_key_id, r.reason, r.quota_used, r.quota_limit, r.requested_at,
               i.influencer_id, i.outcome as "outcome: Outcome", i.is_charged
        from influencer_requests r
        join influencer_request_items i on i.tenant_id = r.tenant_id and i.request_id = r.id
        where r.tenant_id = $1 and r.id = $2
        order by i.position
        "#,
        tenant.uuid(),
        id.uuid(),
    )
    .fetch_all(conn)
    .await?;
    let Some(first) = rows.first() else { return Ok(None) };
    let quota = Quota {
        month: crate::quota::QuotaMonth::at(first.requested_at, zone),
        used: first.quota_used.unsigned_abs(),
        limit: first.quota_limit.map(i32::unsigned_abs),
    };
    let (key, reason) = (ApiKeyId::from_uuid(first.api_key_id), first.reason.clone());
    let requested_at = first.requested_at;
    let decisions = rows.into_iter().map(|row| Decision {
        influencer: InfluencerId::from_uuid(row.influencer_id),
        outcome: row.outcome,
        is_charged: row.is_charged,
    });
    Ok(Some(InfluencerRequest { id, key, reason, decisions: decisions.collect(), quota, requested_at }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids<const N: usize>() -> [InfluencerId; N] {
        std::array::from_fn(|_| InfluencerId::new())
    }

    fn outcomes(decisions: &[Decision]) -> Vec<(Outcome, bool)> {
        decisions.iter().map(|decision| (decision.outcome, decision.is_charged)).collect()
    }

    // S0-053, S0-063
    #[test]
    fn approval_goes_in_the_order_asked_until_the_quota_is_used_up() {
        let asked = ids::<4>();
        let servable = HashSet::from([asked[0], asked[2], asked[3]]);
        let decisions = decide(&asked, &servable, &HashSet::new(), Some(2));
        let expected = [
            (Outcome::Approved, true),
            (Outcome::NotFound, false),
            (Outcome::Approved, true),
            (Outcome::QuotaExceeded, false),
        ];
        assert_eq!(outcomes(&decisions), expected);
        assert_eq!(decisions.iter().map(|decision| decision.influencer).collect::<Vec<_>>(), asked);
    }

    #[test]
    fn whoever_was_charged_this_month_is_free_also_when_nothing_is_left() {
        let asked = ids::<2>();
        let servable = HashSet::from(asked);
        let decisions = decide(&asked, &servable, &HashSet::from([asked[1]]), Some(0));
        assert_eq!(outcomes(&decisions), [(Outcome::QuotaExceeded, false), (Outcome::Approved, false)]);
    }

    // S0-060
    #[test]
    fn whoever_is_named_twice_is_decided_once() {
        let [one] = ids::<1>();
        let decisions = decide(&[one, one], &HashSet::from([one]), &HashSet::new(), Some(5));
        assert_eq!(outcomes(&decisions), [(Outcome::Approved, true)]);
    }

    #[test]
    fn without_a_limit_all_are_approved_and_counted() {
        let asked = ids::<20>();
        let decisions = decide(&asked, &HashSet::from(asked), &HashSet::new(), None);
        assert!(decisions.iter().all(|decision| decision.is_charged));
    }

    #[test]
    fn a_request_is_approved_denied_or_partly_so() {
        assert_eq!(RequestStatus::of(2, 0), RequestStatus::Approved);
        assert_eq!(RequestStatus::of(0, 2), RequestStatus::Denied);
        assert_eq!(RequestStatus::of(1, 1), RequestStatus::Partial);
    }
}
