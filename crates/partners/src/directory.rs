//! The partners there are: making, finding, listing, switching off and on.
//!
//! Guarantees: a code belongs to one partner for ever; a partner always has a subscription and a webhook secret.
//! The webhook secret is sealed with the row it stands in, so a copy in another row does not open.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use db::Connection;
use kernel::Email;
use kernel::ids::{PartnerId, TenantId};
use kernel::sealing::{Keyring, SealContext};
use uuid::Uuid;

use crate::contact::{Contact, SealedContact};
use crate::error::{FieldFault, PartnerError};
use crate::quota;
use crate::rotation::{KeyTerms, NewKey, insert_key};
use crate::subscription::{SHARE_WEIGHT_MAX, Subscription, SubscriptionStatus, SubscriptionTier};

/// Requests a minute of a partner for whom nothing else was asked.
pub const RATE_LIMIT_DEFAULT: u32 = 100;
/// Most requests a minute that can be given to a partner.
pub const RATE_LIMIT_MAX: u32 = 1_000_000;
/// Most influencers a month that a partner can be given, short of as many as it wants.
pub const QUOTA_MAX: u32 = 1_000_000;
/// Longest name of a partner.
pub const NAME_CHARS_MAX: usize = 200;

/// A partner organisation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partner {
    /// Its id; not what it calls itself on the wire.
    pub id: PartnerId,
    /// The short name it calls itself by in `X-Partner-ID`.
    pub code: String,
    /// The name people read.
    pub name: String,
    /// Whether it may call.
    pub is_active: bool,
    /// Requests a clock minute.
    pub rate_limit_per_minute: u32,
    /// What it has bought.
    pub subscription: Subscription,
    /// Influencers a month, instead of what its tier has.
    pub monthly_quota: Option<u32>,
    /// Its own weight among those that share the workers, instead of its tier's.
    pub share_weight: Option<i16>,
    /// Whom to write to, sealed.
    contact: SealedContact,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// Its last authenticated call, to the minute.
    pub last_api_call_at: Option<DateTime<Utc>>,
}

impl Partner {
    /// Influencers a month; none: as many as wanted.
    pub fn quota_limit(&self) -> Option<u32> {
        self.monthly_quota.or_else(|| self.subscription.tier.monthly_quota())
    }

    /// Whom to write to. Do not log it.
    ///
    /// # Errors
    /// [`PartnerError::Sealing`] when it was sealed with other keys.
    pub fn contact(&self, keyring: &Keyring) -> Result<Contact, PartnerError> {
        self.contact.open(keyring, self.id.uuid())
    }
}

/// A partner to be made. What is not said is that of [`NewPartner::of`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPartner {
    /// 2 to 64 of a–z, 0–9 and `-`.
    pub code: String,
    /// 1 to 200 characters.
    pub name: String,
    /// What it has bought.
    pub tier: SubscriptionTier,
    /// Requests a clock minute, 1 to 1,000,000.
    pub rate_limit_per_minute: u32,
    /// Whom to write to.
    pub contact: Contact,
    /// When the subscription begins; none: now.
    pub starts_at: Option<DateTime<Utc>>,
    /// When it ends; none: never.
    pub ends_at: Option<DateTime<Utc>>,
    /// Whether it is then renewed.
    pub auto_renew: bool,
}

impl NewPartner {
    /// One that has bought a tier for good, with the usual limit.
    pub fn of(code: &str, name: &str, tier: SubscriptionTier) -> Self {
        Self {
            code: code.to_owned(),
            name: name.to_owned(),
            tier,
            rate_limit_per_minute: RATE_LIMIT_DEFAULT,
            contact: Contact::default(),
            starts_at: None,
            ends_at: None,
            auto_renew: false,
        }
    }
}

/// A partner just made, with its secrets. The only time the key can be seen.
#[derive(Clone)]
pub struct Created {
    /// The partner.
    pub partner: Partner,
    /// Its first key.
    pub key: NewKey,
    /// What verifies our webhooks: `whsec_` and base64.
    pub webhook_secret: String,
}

impl fmt::Debug for Created {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Created")
            .field("partner", &self.partner)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

/// Makes a partner with an active subscription, a key and a webhook secret. Needs a transaction: several rows
/// belong together. All wrong fields are reported at once; a taken code names its holder and leaves the transaction
/// usable.
pub async fn create(
    conn: &mut Connection,
    keyring: &Keyring,
    new: NewPartner,
) -> Result<Created, PartnerError> {
    let now = quota::calendar_now(conn).await?;
    let starts_at = new.starts_at.unwrap_or(now);
    let faults = faults(&new, starts_at);
    if !faults.is_empty() {
        return Err(PartnerError::Invalid(faults));
    }
    let id = PartnerId::new();
    let webhook_secret = format!("whsec_{}", STANDARD.encode(rand::random::<[u8; 32]>()));
    let sealed = keyring.seal(webhook_secret.as_bytes(), &sealed_in(id.uuid()));
    let contact = SealedContact::of(&new.contact, keyring, id.uuid());
    let inserted = sqlx::query_scalar!(
        "
        insert into partners (id, code, name, rate_limit_per_minute, webhook_secret,
                              contact_name, contact_email, contact_phone)
        values ($1, $2, $3, $4, $5, $6, $7, $8)
        on conflict on constraint partners_code_key do nothing
        returning created_at
        ",
        id.uuid(),
        new.code,
        new.name.trim(),
        new.rate_limit_per_minute.cast_signed(),
        sealed,
        contact.name,
        contact.email,
        contact.phone,
    )
    .fetch_optional(&mut *conn)
    .await?;
    let Some(created_at) = inserted else { return Err(taken(conn, new.code).await?) };
    let status = SubscriptionStatus::Active;
    sqlx::query!(
        "
        insert into partner_subscriptions (tenant_id, tier, status, start_date, end_date, auto_renew)
        values ($1, $2, $3, $4, $5, $6)
        ",
        id.uuid(),
        new.tier.as_str(),
        status.as_str(),
        starts_at,
        new.ends_at,
        new.auto_renew,
    )
    .execute(&mut *conn)
    .await?;
    let subscription =
        Subscription { tier: new.tier, status, starts_at, ends_at: new.ends_at, auto_renew: new.auto_renew };
    let key = insert_key(conn, id, &KeyTerms::default()).await?;
    let partner = Partner {
        id,
        code: new.code,
        name: new.name.trim().to_owned(),
        is_active: true,
        rate_limit_per_minute: new.rate_limit_per_minute,
        subscription,
        monthly_quota: None,
        share_weight: None,
        contact,
        created_at,
        last_api_call_at: None,
    };
    Ok(Created { partner, key, webhook_secret })
}

/// Partners in the order of their codes, at most `rows_max`, after the code `after` if one is given.
pub async fn list(
    conn: &mut Connection,
    after: Option<&str>,
    rows_max: u32,
) -> Result<Vec<Partner>, PartnerError> {
    let rows = sqlx::query_as!(
        PartnerRow,
        r#"
        select p.id, p.code, p.name, p.is_active, p.rate_limit_per_minute, p.created_at, p.last_api_call_at,
               s.tier as "tier: SubscriptionTier", s.status as "status: SubscriptionStatus", s.share_weight,
               s.start_date, s.end_date, s.auto_renew, s.monthly_quota, calendar_now() as "today!",
               p.contact_name, p.contact_email, p.contact_phone
        from partners p join partner_subscriptions s on s.tenant_id = p.id
        where $1::text is null or p.code > $1
        order by p.code
        limit $2
        "#,
        after,
        i64::from(rows_max),
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(Partner::from).collect())
}

/// A partner by its code or `ptn_…` id. A code has no `_`, so the two are never confused.
pub async fn find_by_code_or_id(conn: &mut Connection, text: &str) -> Result<Option<Partner>, PartnerError> {
    let id = text.parse::<PartnerId>().ok().map(PartnerId::uuid);
    let row = sqlx::query_as!(
        PartnerRow,
        r#"
        select p.id, p.code, p.name, p.is_active, p.rate_limit_per_minute, p.created_at, p.last_api_call_at,
               s.tier as "tier: SubscriptionTier", s.status as "status: SubscriptionStatus", s.share_weight,
               s.start_date, s.end_date, s.auto_renew, s.monthly_quota, calendar_now() as "today!",
               p.contact_name, p.contact_email, p.contact_phone
        from partners p join partner_subscriptions s on s.tenant_id = p.id
        where p.code = $1 or p.id = $2
        "#,
        text,
        id,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(Partner::from))
}

/// A partner by its id, locked for a change to the end of the caller's transaction.
pub async fn lock(conn: &mut Connection, partner: PartnerId) -> Result<Partner, PartnerError> {
    // Read by a statement of its own: one that waits for the lock sees the subscription as it was before it waited.
    sqlx::query_scalar!("select id from partners where id = $1 for no key update", partner.uuid())
        .fetch_optional(&mut *conn)
        .await?
        .ok_or(PartnerError::NotFound("partner"))?;
    find_by_code_or_id(conn, &partner.to_string()).await?.ok_or(PartnerError::NotFound("partner"))
}

/// What is to be different about a partner itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartnerChange {
    /// The name people read.
    pub name: Option<String>,
    /// Requests a clock minute.
    pub rate_limit_per_minute: Option<u32>,
    /// Somebody else to write to, or nobody.
    pub contact_name: Option<Option<String>>,
    /// Another address, or none.
    pub contact_email: Option<Option<Email>>,
    /// Another number, or none.
    pub contact_phone: Option<Option<String>>,
}

/// Changes a partner that is [locked](lock) and answers it as it is then. All wrong fields are reported at once.
pub async fn update(
    conn: &mut Connection,
    keyring: &Keyring,
    before: &Partner,
    change: PartnerChange,
) -> Result<Partner, PartnerError> {
    let contact = before.contact(keyring)?;
    let contact = Contact {
        name: change.contact_name.unwrap_or(contact.name),
        email: change.contact_email.unwrap_or(contact.email),
        phone: change.contact_phone.unwrap_or(contact.phone),
    };
    let name = change.name.unwrap_or_else(|| before.name.clone());
    let rate_limit_per_minute = change.rate_limit_per_minute.unwrap_or(before.rate_limit_per_minute);
    let mut faults = name_and_limit_faults(&name, rate_limit_per_minute);
    faults.extend(contact.faults());
    if !faults.is_empty() {
        return Err(PartnerError::Invalid(faults));
    }
    let contact = SealedContact::of(&contact, keyring, before.id.uuid());
    sqlx::query!(
        "
        update partners
        set name = $2, rate_limit_per_minute = $3, contact_name = $4, contact_email = $5, contact_phone = $6,
            updated_at = now()
        where id = $1
        ",
        before.id.uuid(),
        name.trim(),
        rate_limit_per_minute.cast_signed(),
        contact.name,
        contact.email,
        contact.phone,
    )
    .execute(conn)
    .await?;
    Ok(Partner { name: name.trim().to_owned(), rate_limit_per_minute, contact, ..before.clone() })
}

/// What is to be different about a subscription.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SubscriptionChange {
    /// Another tier. It brings its own quota, unless one is given with it.
    pub tier: Option<SubscriptionTier>,
    /// Suspended, or in force again: then the calendar decides how it stands.
    pub is_suspended: Option<bool>,
    /// When it begins.
    pub starts_at: Option<DateTime<Utc>>,
    /// When it ends, or never.
    pub ends_at: Option<Option<DateTime<Utc>>>,
    /// Whether it is then renewed.
    pub auto_renew: Option<bool>,
    /// Influencers a month, or again those of its tier.
    pub monthly_quota: Option<Option<u32>>,
    /// A weight of the partner's own, or again that of its tier.
    pub share_weight: Option<Option<i16>>,
}

/// Changes a partner's subscription and answers the partner as it is then. Whoever calls this tells those that go by
/// it, in the same transaction.
pub async fn change_subscription(
    conn: &mut Connection,
    partner: PartnerId,
    change: SubscriptionChange,
) -> Result<Partner, PartnerError> {
    let before = find_by_code_or_id(conn, &partner.to_string()).await?;
    let before = before.ok_or(PartnerError::NotFound("partner"))?;
    let faults = subscription_faults(&before, &change);
    if !faults.is_empty() {
        return Err(PartnerError::Invalid(faults));
    }
    let monthly_quota = match (change.monthly_quota, change.tier) {
        (Some(given), _) => given,
        (None, Some(tier)) if tier != before.subscription.tier => None,
        (None, _) => before.monthly_quota,
    };
    // Only suspension is decided by people; how far the period has come is read off the calendar.
    let status = match change.is_suspended {
        Some(true) => Some(SubscriptionStatus::Suspended),
        Some(false) => Some(SubscriptionStatus::Active),
        // Another end begins anew, also for what the calendar has led to.
        None if change.ends_at.is_some() && before.subscription.status != SubscriptionStatus::Suspended => {
            Some(SubscriptionStatus::Active)
        }
        None => None,
    };
    sqlx::query!(
        "
        update partner_subscriptions
        set tier = coalesce($2, tier), share_weight = case when $3 then $4 else share_weight end,
            status = coalesce($5, status), start_date = coalesce($6, start_date),
            end_date = case when $7 then $8 else end_date end, auto_renew = coalesce($9, auto_renew),
            monthly_quota = $10, updated_at = now()
        where tenant_id = $1
        ",
        partner.uuid(),
        change.tier.map(SubscriptionTier::as_str),
        change.share_weight.is_some(),
        change.share_weight.flatten(),
        status.map(SubscriptionStatus::as_str),
        change.starts_at,
        change.ends_at.is_some(),
        change.ends_at.flatten(),
        change.auto_renew,
        monthly_quota.map(u32::cast_signed),
    )
    .execute(&mut *conn)
    .await?;
    find_by_code_or_id(conn, &partner.to_string()).await?.ok_or(PartnerError::NotFound("partner"))
}

/// Lets the partner call again. Activating an active one changes nothing.
pub async fn activate(conn: &mut Connection, partner: PartnerId) -> Result<(), PartnerError> {
    set_active(conn, partner, true).await
}

/// Stops the partner from calling; its keys stay. Deactivating twice changes nothing.
pub async fn deactivate(conn: &mut Connection, partner: PartnerId) -> Result<(), PartnerError> {
    set_active(conn, partner, false).await
}

/// The secret our webhooks to this partner are signed with. Do not log it.
pub async fn webhook_secret(
    conn: &mut Connection,
    keyring: &Keyring,
    tenant: TenantId,
) -> Result<String, PartnerError> {
    let sealed = sqlx::query_scalar!("select webhook_secret from partners where id = $1", tenant.uuid())
        .fetch_optional(conn)
        .await?
        .ok_or(PartnerError::NotFound("partner"))?;
    let opened = keyring.open(&sealed, &sealed_in(tenant.uuid()))?;
    String::from_utf8(opened).map_err(|_| PartnerError::Damaged("webhook secret"))
}

struct PartnerRow {
    id: Uuid,
    code: String,
    name: String,
    is_active: bool,
    rate_limit_per_minute: i32,
    created_at: DateTime<Utc>,
    last_api_call_at: Option<DateTime<Utc>>,
    tier: SubscriptionTier,
    status: SubscriptionStatus,
    share_weight: Option<i16>,
    start_date: DateTime<Utc>,
    end_date: Option<DateTime<Utc>>,
    auto_renew: bool,
    monthly_quota: Option<i32>,
    today: DateTime<Utc>,
    contact_name: Option<Vec<u8>>,
    contact_email: Option<Vec<u8>>,
    contact_phone: Option<Vec<u8>>,
}

impl From<PartnerRow> for Partner {
    fn from(row: PartnerRow) -> Self {
        Self {
            id: PartnerId::from_uuid(row.id),
            code: row.code,
            name: row.name,
            is_active: row.is_active,
            // The table's constraint keeps it positive.
            rate_limit_per_minute: row.rate_limit_per_minute.unsigned_abs(),
            subscription: Subscription {
                tier: row.tier,
                status: row.status,
                starts_at: row.start_date,
                ends_at: row.end_date,
                auto_renew: row.auto_renew,
            }
            .at(row.today),
            monthly_quota: row.monthly_quota.map(i32::unsigned_abs),
            share_weight: row.share_weight,
            contact: SealedContact {
                name: row.contact_name,
                email: row.contact_email,
                phone: row.contact_phone,
            },
            created_at: row.created_at,
            last_api_call_at: row.last_api_call_at,
        }
    }
}

fn sealed_in(partner: Uuid) -> SealContext {
    SealContext { table: "partners", column: "webhook_secret", owner: partner, row: partner }
}

/// The same limits as the table's constraints, but told all at once and in words.
fn faults(new: &NewPartner, starts_at: DateTime<Utc>) -> Vec<FieldFault> {
    let mut faults = Vec::new();
    let mut fault = |field, message: String| faults.push(FieldFault { field, message });
    let is_code_byte = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if !(2..=64).contains(&new.code.len()) || !new.code.bytes().all(is_code_byte) {
        fault("code", "2 to 64 of a-z, 0-9 and -".to_owned());
    }
    faults.extend(name_and_limit_faults(&new.name, new.rate_limit_per_minute));
    faults.extend(new.contact.faults());
    if new.ends_at.is_some_and(|end| end <= starts_at) {
        faults.push(FieldFault { field: "endDate", message: PERIOD.to_owned() });
    }
    faults
}

const PERIOD: &str = "after startDate";

fn name_and_limit_faults(name: &str, rate_limit_per_minute: u32) -> Vec<FieldFault> {
    let mut faults = Vec::new();
    let name = name.trim();
    if !(1..=NAME_CHARS_MAX).contains(&name.chars().count()) || name.chars().any(char::is_control) {
        let message = format!("1 to {NAME_CHARS_MAX} characters on one line");
        faults.push(FieldFault { field: "name", message });
    }
    if !(1..=RATE_LIMIT_MAX).contains(&rate_limit_per_minute) {
        let message = format!("1 to {RATE_LIMIT_MAX} requests a minute");
        faults.push(FieldFault { field: "rateLimit", message });
    }
    faults
}

fn subscription_faults(before: &Partner, change: &SubscriptionChange) -> Vec<FieldFault> {
    let mut faults = Vec::new();
    if let Some(Some(weight)) = change.share_weight
        && !(1..=SHARE_WEIGHT_MAX).contains(&weight)
    {
        let message = format!("a whole number from 1 to {SHARE_WEIGHT_MAX}");
        faults.push(FieldFault { field: "shareWeight", message });
    }
    let starts_at = change.starts_at.unwrap_or(before.subscription.starts_at);
    if change.ends_at.unwrap_or(before.subscription.ends_at).is_some_and(|end| end <= starts_at) {
        faults.push(FieldFault { field: "endDate", message: PERIOD.to_owned() });
    }
    if change.monthly_quota.flatten().is_some_and(|quota| quota > QUOTA_MAX) {
        let message = format!("at most {QUOTA_MAX} influencers");
        faults.push(FieldFault { field: "monthlyQuota", message });
    }
    faults
}

/// Who holds the code. The insert has waited for any other insert of it, so the holder is visible now.
async fn taken(conn: &mut Connection, code: String) -> Result<PartnerError, PartnerError> {
    let holder = sqlx::query!("select id, name from partners where code = $1", code).fetch_one(conn).await?;
    Ok(PartnerError::CodeTaken { code, holder: PartnerId::from_uuid(holder.id), name: holder.name })
}

async fn set_active(conn: &mut Connection, partner: PartnerId, is_active: bool) -> Result<(), PartnerError> {
    let changed = sqlx::query!(
        "update partners set is_active = $2, updated_at = now() where id = $1",
        partner.uuid(),
        is_active,
    )
    .execute(conn)
    .await?;
    match changed.rows_affected() {
        0 => Err(PartnerError::NotFound("partner")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new_partner(code: &str, name: &str, rate_limit_per_minute: u32) -> NewPartner {
        NewPartner { rate_limit_per_minute, ..NewPartner::of(code, name, SubscriptionTier::Free) }
    }

    fn faults_of(new: NewPartner) -> Vec<FieldFault> {
        faults(&new, DateTime::UNIX_EPOCH)
    }

    #[test]
    fn all_wrong_fields_are_told_at_once() {
        let wrong: Vec<&str> =
            faults_of(new_partner("Tech_Bank", " \t ", 0)).iter().map(|fault| fault.field).collect();
        assert_eq!(wrong, ["code", "name", "rateLimit"]);
    }

    #[test]
    fn codes_and_names_are_accepted_up_to_their_limits() {
        for code in ["ab", "techcombank", "7-eleven", &"a".repeat(64)] {
            assert!(faults_of(new_partner(code, "Ngân hàng Kỹ Thương", RATE_LIMIT_MAX)).is_empty(), "{code}");
        }
        for code in ["", "a", "Ab", "a b", "a_b", "ngân", &"a".repeat(65)] {
            assert_eq!(faults_of(new_partner(code, "N", 1)).len(), 1, "{code}");
        }
        assert!(faults_of(new_partner("ab", &"ạ".repeat(NAME_CHARS_MAX), 1)).is_empty());
        assert_eq!(faults_of(new_partner("ab", &"a".repeat(NAME_CHARS_MAX + 1), 1)).len(), 1);
        assert_eq!(faults_of(new_partner("ab", "two\nlines", RATE_LIMIT_MAX + 1)).len(), 2);
    }
}
