//! S0's data model as the database has it: each field under our name, with its type, whether it may be missing, and what it
//! is when nothing is said.

use std::collections::BTreeMap;

use tokio::sync::OnceCell;

use crate::support::TestDb;

/// A column: type, whether it may be null, default.
type Column = (String, bool, Option<String>);

/// What the database says of itself, read once.
struct Schema {
    columns: BTreeMap<(String, String), Column>,
    indexes: Vec<String>,
    checks: BTreeMap<String, String>,
}

async fn schema() -> &'static Schema {
    static SCHEMA: OnceCell<Schema> = OnceCell::const_new();
    SCHEMA.get_or_init(read).await
}

async fn read() -> Schema {
    let db = TestDb::new().await;
    let columns: Vec<(String, String, String, bool, Option<String>)> = sqlx::query_as(
        "select table_name::text, column_name::text, data_type::text, is_nullable = 'YES', column_default::text
         from information_schema.columns where table_schema = 'public'",
    )
    .fetch_all(db.pool())
    .await
    .unwrap();
    let indexes = sqlx::query_scalar("select indexdef from pg_indexes where schemaname = 'public'");
    let checks: Vec<(String, String)> = sqlx::query_as(
        "select conname::text, pg_get_constraintdef(oid) from pg_constraint where contype = 'c'",
    )
    .fetch_all(db.pool())
    .await
    .unwrap();
    Schema {
        columns: columns
            .into_iter()
            .map(|(table, name, ty, null, default)| ((table, name), (ty, null, default)))
            .collect(),
        indexes: indexes.fetch_all(db.pool()).await.unwrap(),
        checks: checks.into_iter().collect(),
    }
}

/// Checks lines of `column type`, with `?` behind the type of what may be missing and `= default` where there is one.
async fn assert_columns(table: &str, lines: &str) {
    let schema = schema().await;
    for line in lines.trim().lines().map(str::trim) {
        let (line, default) = match line.split_once(" = ") {
            Some((line, default)) => (line, Some(default)),
            None => (line, None),
        };
        let (name, ty) = line.split_once(' ').expect("a name and a type");
        let (ty, null) = ty.strip_suffix('?').map_or((ty, false), |ty| (ty, true));
        let (is_type, is_null, is_default) = schema
            .columns
            .get(&(table.to_owned(), name.to_owned()))
            .unwrap_or_else(|| panic!("{table}.{name}"));
        let is_default = is_default.as_deref().map(|text| text.split("::").next().unwrap_or(text));
        assert_eq!((is_type.as_str(), *is_null, is_default), (ty, null, default), "{table}.{name}");
    }
}

async fn assert_index(unique: bool, on: &str) {
    let schema = schema().await;
    let has = |index: &&String| index.ends_with(on) && (!unique || index.contains("CREATE UNIQUE"));
    assert!(schema.indexes.iter().any(|index| has(&index)), "no index {on}: {:#?}", schema.indexes);
}

async fn assert_one_of(constraint: &str, values: &[&str]) {
    let check = &schema().await.checks[constraint];
    let quoted: Vec<&str> = check.split('\'').skip(1).step_by(2).collect();
    assert_eq!(quoted, values, "{constraint}");
}

// S0-004, S0-187..=S0-201, S0-204..=S0-206
#[tokio::test]
async fn a_partner_has_s0s_fields_and_its_keys_are_hashes() {
    let fields = "
        id uuid
        name text
        code text
        is_active boolean = true
        contact_name bytea?
        contact_email bytea?
        contact_phone bytea?
        rate_limit_per_minute integer = 100
        created_at timestamp with time zone = now()
        updated_at timestamp with time zone = now()
        last_api_call_at timestamp with time zone?";
    assert_columns("partners", fields).await;
    let key = "
        secret_hash bytea
        expires_at timestamp with time zone?
        revoked_at timestamp with time zone?
        last_used_at timestamp with time zone?";
    assert_columns("partner_api_keys", key).await;
    assert_index(true, "partners USING btree (id)").await;
    assert_index(true, "partners USING btree (code)").await;
    assert_index(true, "partner_api_keys USING btree (tenant_id, secret_hash)").await;
}

// S0-004, S0-202, S0-207..=S0-220
#[tokio::test]
async fn a_partner_has_one_subscription_with_s0s_fields_and_a_count_for_each_month() {
    let fields = "
        tenant_id uuid
        tier text = 'free'
        status text = 'active'
        monthly_quota integer?
        start_date timestamp with time zone = now()
        end_date timestamp with time zone?
        auto_renew boolean = false
        created_at timestamp with time zone = now()
        updated_at timestamp with time zone = now()";
    assert_columns("partner_subscriptions", fields).await;
    // What is used is counted by month; the month says when it is reset.
    let month = "
        month date
        charged integer = 0
        adjusted integer = 0";
    assert_columns("partner_quota_months", month).await;
    assert_index(true, "partner_subscriptions USING btree (tenant_id)").await;
    assert_index(true, "partner_quota_months USING btree (tenant_id, month)").await;
    let tiers = ["free", "basic", "premium", "enterprise"];
    assert_one_of("partner_subscriptions_tier", &tiers).await;
    let statuses = ["active", "expired", "suspended", "grace_period"];
    assert_one_of("partner_subscriptions_status", &statuses).await;
}

// S0-004, S0-203, S0-221..=S0-229
#[tokio::test]
async fn a_request_has_s0s_fields_and_a_row_for_each_influencer() {
    let fields = "
        tenant_id uuid
        id uuid
        reason text?
        status text
        approved_count integer
        denied_count integer
        requested_at timestamp with time zone";
    assert_columns("influencer_requests", fields).await;
    assert_columns("influencer_request_items", "influencer_id uuid\noutcome text\nis_charged boolean").await;
    assert_index(true, "influencer_requests USING btree (tenant_id, id)").await;
    assert_index(false, "influencer_request_items USING btree (influencer_id, tenant_id)").await;
    let statuses = ["pending", "approved", "denied", "partial"];
    assert_one_of("influencer_requests_status", &statuses).await;
}

// S0-009, S0-011, S0-230..=S0-270
#[tokio::test]
async fn an_influencer_of_the_pool_has_s0s_fields_indexes_and_values() {
    let fields = "
        id uuid
        vb_profile_id text?
        platform text
        username text
        display_name text
        avatar_url text?
        bio text?
        followers bigint = 0
        following bigint = 0
        engagement numeric = 0
        avg_views bigint?
        avg_likes bigint?
        avg_comments bigint?
        score integer = 0
        score_reach integer?
        score_engagement integer?
        score_authenticity integer?
        category text?
        tier text = 'STANDARD'
        visibility text = 'PUBLIC'
        contact_email bytea?
        contact_phone bytea?
        added_by text?
        added_by_partner_id uuid?
        source text = 'MANUAL'
        sync_status text = 'ACTIVE'
        synced_at timestamp with time zone?
        sync_error text?
        created_at timestamp with time zone = now()
        updated_at timestamp with time zone = now()";
    assert_columns("pool_influencers", fields).await;
    assert_index(true, "pool_influencers USING btree (vb_profile_id)").await;
    assert_index(true, "pool_influencers USING btree (platform, lower(username))").await;
    for on in ["platform, visibility", "category, visibility", "score", "followers"] {
        assert_index(false, &format!("pool_influencers USING btree ({on})")).await;
    }
    assert_one_of("pool_influencers_platform", &["tiktok", "youtube", "instagram", "facebook"]).await;
    assert_one_of("pool_influencers_tier", &["STANDARD", "PREMIUM", "VIP"]).await;
    assert_one_of("pool_influencers_visibility", &["PUBLIC", "PRIVATE"]).await;
    assert_one_of("pool_influencers_source", &["MANUAL", "PARTNER", "BULK_IMPORT"]).await;
    assert_one_of("pool_influencers_sync_status", &["ACTIVE", "PAUSED", "FAILED", "ARCHIVED"]).await;
    let categories = ["beauty", "tech", "lifestyle", "food", "travel", "gaming"];
    assert_one_of("pool_influencers_category", &categories).await;
}
