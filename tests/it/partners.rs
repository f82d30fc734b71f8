//! Partners against a real database: what concurrent requests, the database's clock and its constraints decide.

use std::time::Duration;

use db::Pool;
use futures::future::join_all;
use kernel::clock::now;
use kernel::ids::{ApiKeyId, JobId, PartnerId, TenantId};
use kernel::sealing::Keyring;
use partners::authentication::{load_credentials, touch_last_call, verify};
use partners::directory::{activate, create, deactivate, find_by_code_or_id, list, webhook_secret};
use partners::idempotency::{Effect, claim, prune, store};
use partners::rate_window::lease;
use partners::rotation::{KEYS_LIVE_MAX, KeyTerms, OVERLAP_MAX, list_keys, revoke_key, rotate_key};
use partners::{
    Access, ApiKey, AuthFailure, Authenticated, Claim, Created, IdempotencyKey, NewPartner, PartnerError,
    SubscriptionStatus, SubscriptionTier,
};

use crate::support::TestDb;

fn techcombank() -> NewPartner {
    NewPartner::of("techcombank", "Techcombank", SubscriptionTier::Premium)
}

async fn made(pool: &Pool, keyring: &Keyring, new: NewPartner) -> Created {
    let mut tx = db::begin(pool).await.unwrap();
    let created = create(&mut tx, keyring, new).await.unwrap();
    tx.commit().await.unwrap();
    created
}

async fn call(pool: &Pool, partner: &str, key: &ApiKey) -> Result<Authenticated, AuthFailure> {
    let mut conn = pool.acquire().await.unwrap();
    let credentials = load_credentials(&mut conn, partner).await.unwrap();
    verify(credentials.as_ref(), key, now())
}

async fn rotated(pool: &Pool, partner: PartnerId, overlap: Duration) -> Result<ApiKey, PartnerError> {
    let mut tx = db::begin(pool).await.unwrap();
    let key = rotate_key(&mut tx, partner, overlap, &KeyTerms::default()).await?;
    tx.commit().await.unwrap();
    Ok(key.api_key)
}

// S0-028, S0-183, S0-187
#[tokio::test]
async fn a_new_partner_is_found_by_code_and_by_id_and_can_call() {
    let db = TestDb::new().await;
    let keyring = Keyring::generate();
    let created = made(db.pool(), &keyring, techcombank()).await;
    let mut conn = db.pool().acquire().await.unwrap();

    let id = created.partner.id.to_string();
    for name in ["techcombank", &id] {
        let found = find_by_code_or_id(&mut conn, name).await.unwrap().unwrap();
        assert_eq!(found, created.partner);
        let caller = call(db.pool(), name, &created.key.api_key).await.unwrap();
        assert_eq!(caller.partner, created.partner.id);
        assert_eq!(caller.subscription.tier, SubscriptionTier::Premium);
        assert_eq!(caller.subscription.status, SubscriptionStatus::Active);
        assert_eq!(caller.check_state(Access::Product), Ok(()));
    }
    assert_eq!(find_by_code_or_id(&mut conn, "vinfast").await.unwrap(), None);
    assert_eq!(call(db.pool(), "vinfast", &created.key.api_key).await, Err(AuthFailure::Credentials));
}

#[tokio::test]
async fn the_webhook_secret_opens_only_with_the_right_keys_and_in_its_own_row() {
    let db = TestDb::new().await;
    let keyring = Keyring::generate();
    let created = made(db.pool(), &keyring, techcombank()).await;
    let other = made(db.pool(), &keyring, NewPartner { code: "vinfast".to_owned(), ..techcombank() }).await;
    let mut conn = db.pool().acquire().await.unwrap();
    let tenant = TenantId::from(created.partner.id);

    assert!(created.webhook_secret.starts_with("whsec_"));
    assert_eq!(webhook_secret(&mut conn, &keyring, tenant).await.unwrap(), created.webhook_secret);
    assert_ne!(other.webhook_secret, created.webhook_secret);

    let stranger = webhook_secret(&mut conn, &Keyring::generate(), tenant).await;
    assert!(matches!(stranger, Err(PartnerError::Sealing(_))), "{stranger:?}");

    sqlx::query!(
        "update partners set webhook_secret = (select webhook_secret from partners where id = $2) where id = $1",
        tenant.uuid(),
        other.partner.id.uuid(),
    )
    .execute(&mut conn)
    .await
    .unwrap();
    let moved = webhook_secret(&mut conn, &keyring, tenant).await;
    assert!(matches!(moved, Err(PartnerError::Sealing(_))), "{moved:?}");
}

// S0-036, S0-170
#[tokio::test]
async fn no_secret_is_stored_in_clear() {
    let db = TestDb::new().await;
    let created = made(db.pool(), &Keyring::generate(), techcombank()).await;
    let stored = sqlx::query_scalar!(
        r#"
        select string_agg(p::text || k::text || encode(p.webhook_secret, 'escape') || encode(k.secret_hash, 'escape'), '')
               as "text!"
        from partners p join partner_api_keys k on k.tenant_id = p.id
        "#,
    )
    .fetch_one(db.pool())
    .await
    .unwrap();
    assert!(!stored.contains(created.key.api_key.expose()));
    assert!(!stored.contains(created.webhook_secret.trim_start_matches("whsec_")));
    assert!(!format!("{created:?}").contains(&created.webhook_secret));
}

#[tokio::test]
async fn a_taken_code_names_its_holder_and_leaves_the_transaction_usable() {
    let db = TestDb::new().await;
    let keyring = Keyring::generate();
    let holder = made(db.pool(), &keyring, techcombank()).await.partner;
    let mut tx = db::begin(db.pool()).await.unwrap();
    let refused = create(&mut tx, &keyring, NewPartner { name: "Another".to_owned(), ..techcombank() }).await;
    match refused {
        Err(PartnerError::CodeTaken { code, holder: found, name }) => {
            assert_eq!((code.as_str(), found, name.as_str()), ("techcombank", holder.id, "Techcombank"));
        }
        other => panic!("{other:?}"),
    }
    create(&mut tx, &keyring, NewPartner { code: "vinfast".to_owned(), ..techcombank() }).await.unwrap();
    tx.commit().await.unwrap();

    let mut conn = db.pool().acquire().await.unwrap();
    let codes = |partners: Vec<partners::Partner>| -> Vec<String> {
        partners.into_iter().map(|partner| partner.code).collect()
    };
    assert_eq!(codes(list(&mut conn, None, 10).await.unwrap()), ["techcombank", "vinfast"]);
    assert_eq!(codes(list(&mut conn, Some("techcombank"), 10).await.unwrap()), ["vinfast"]);
    assert_eq!(codes(list(&mut conn, None, 1).await.unwrap()), ["techcombank"]);
}

// S0-109, S0-194
#[tokio::test]
async fn of_many_partners_made_at_once_with_one_code_exactly_one_exists() {
    let db = TestDb::new().await;
    let keyring = Keyring::generate();
    let attempts = (0..8).map(|_| async {
        let mut tx = db::begin(db.pool()).await.unwrap();
        let outcome = create(&mut tx, &keyring, techcombank()).await;
        tx.commit().await.unwrap();
        match outcome {
            Ok(_) => true,
            Err(PartnerError::CodeTaken { .. }) => false,
            Err(other) => panic!("{other:?}"),
        }
    });
    let made = join_all(attempts).await.into_iter().filter(|made| *made).count();
    assert_eq!(made, 1);
}

#[tokio::test]
async fn a_rotated_key_works_at_once_and_the_old_one_only_for_the_overlap() {
    let db = TestDb::new().await;
    let created = made(db.pool(), &Keyring::generate(), techcombank()).await;
    let (partner, first) = (created.partner.id, created.key.api_key);

    let second = rotated(db.pool(), partner, Duration::from_secs(3_600)).await.unwrap();
    assert!(call(db.pool(), "techcombank", &first).await.is_ok());
    assert!(call(db.pool(), "techcombank", &second).await.is_ok());

    // A longer overlap does not give the first key more time than it already had.
    let third = rotated(db.pool(), partner, OVERLAP_MAX).await.unwrap();
    let mut conn = db.pool().acquire().await.unwrap();
    let ends: Vec<_> =
        list_keys(&mut conn, partner, 10).await.unwrap().into_iter().map(|key| key.expires_at).collect();
    assert_eq!(ends.len(), 3);
    assert!(ends[0].is_none() && ends[1] > ends[2] && ends[2].is_some(), "{ends:?}");

    sqlx::query!("update partner_api_keys set expires_at = now() where expires_at = $1", ends[2])
        .execute(&mut conn)
        .await
        .unwrap();
    assert_eq!(call(db.pool(), "techcombank", &first).await, Err(AuthFailure::Credentials));
    assert!(call(db.pool(), "techcombank", &second).await.is_ok());

    let fourth = rotated(db.pool(), partner, Duration::ZERO).await.unwrap();
    for dead in [&second, &third] {
        assert_eq!(call(db.pool(), "techcombank", dead).await, Err(AuthFailure::Credentials));
    }
    assert!(call(db.pool(), "techcombank", &fourth).await.is_ok());
}

#[tokio::test]
async fn rotations_are_refused_beyond_their_limits() {
    let db = TestDb::new().await;
    let partner = made(db.pool(), &Keyring::generate(), techcombank()).await.partner.id;
    let too_long = rotated(db.pool(), partner, OVERLAP_MAX + Duration::from_secs(1)).await;
    assert!(matches!(too_long, Err(PartnerError::Invalid(_))), "{too_long:?}");
    let nobody = rotated(db.pool(), PartnerId::new(), Duration::ZERO).await;
    assert!(matches!(nobody, Err(PartnerError::NotFound("partner"))), "{nobody:?}");

    for _ in 1..KEYS_LIVE_MAX {
        rotated(db.pool(), partner, OVERLAP_MAX).await.unwrap();
    }
    let too_many = rotated(db.pool(), partner, OVERLAP_MAX).await;
    assert!(matches!(too_many, Err(PartnerError::TooManyKeys { .. })), "{too_many:?}");
    rotated(db.pool(), partner, Duration::ZERO).await.unwrap();
}

#[tokio::test]
async fn a_revoked_key_never_works_again_and_another_partner_cannot_revoke_it() {
    let db = TestDb::new().await;
    let keyring = Keyring::generate();
    let created = made(db.pool(), &keyring, techcombank()).await;
    let other = made(db.pool(), &keyring, NewPartner { code: "vinfast".to_owned(), ..techcombank() }).await;
    let mut conn = db.pool().acquire().await.unwrap();

    for (partner, key) in [(other.partner.id, created.key.id), (created.partner.id, ApiKeyId::new())] {
        let missing = revoke_key(&mut conn, partner, key).await;
        assert!(matches!(missing, Err(PartnerError::NotFound("API key"))), "{missing:?}");
    }
    assert!(call(db.pool(), "techcombank", &created.key.api_key).await.is_ok());
    assert_eq!(
        call(db.pool(), "vinfast", &created.key.api_key).await,
        Err(AuthFailure::Credentials),
        "a valid key presented with another partner's code"
    );

    revoke_key(&mut conn, created.partner.id, created.key.id).await.unwrap();
    let revoked_at = list_keys(&mut conn, created.partner.id, 1).await.unwrap()[0].revoked_at;
    revoke_key(&mut conn, created.partner.id, created.key.id).await.unwrap();
    assert_eq!(list_keys(&mut conn, created.partner.id, 1).await.unwrap()[0].revoked_at, revoked_at);
    assert_eq!(call(db.pool(), "techcombank", &created.key.api_key).await, Err(AuthFailure::Credentials));
}

#[tokio::test]
async fn a_deactivated_partner_is_recognised_but_refused_until_activated() {
    let db = TestDb::new().await;
    let created = made(db.pool(), &Keyring::generate(), techcombank()).await;
    let mut conn = db.pool().acquire().await.unwrap();
    let key = &created.key.api_key;

    deactivate(&mut conn, created.partner.id).await.unwrap();
    let caller = call(db.pool(), "techcombank", key).await.unwrap();
    assert_eq!(caller.check_state(Access::OwnAccount), Err(AuthFailure::Inactive));

    activate(&mut conn, created.partner.id).await.unwrap();
    let caller = call(db.pool(), "techcombank", key).await.unwrap();
    assert_eq!(caller.check_state(Access::Product), Ok(()));

    let nobody = deactivate(&mut conn, PartnerId::new()).await;
    assert!(matches!(nobody, Err(PartnerError::NotFound("partner"))), "{nobody:?}");
}

#[tokio::test]
async fn the_last_call_is_written_at_most_once_a_minute() {
    let db = TestDb::new().await;
    let created = made(db.pool(), &Keyring::generate(), techcombank()).await;
    let tenant = TenantId::from(created.partner.id);
    // In one transaction the database's `now()` stands still.
    let mut tx = db::begin(db.pool()).await.unwrap();
    assert!(touch_last_call(&mut tx, tenant, created.key.id).await.unwrap());
    assert!(!touch_last_call(&mut tx, tenant, created.key.id).await.unwrap());
    let last = find_by_code_or_id(&mut tx, "techcombank").await.unwrap().unwrap().last_api_call_at.unwrap();
    assert_eq!(last.timestamp() % 60, 0);
    let keys = list_keys(&mut tx, created.partner.id, 1).await.unwrap();
    assert_eq!(keys[0].last_used_at, Some(last));
    sqlx::query!("update partners set last_api_call_at = last_api_call_at - interval '1 minute'")
        .execute(&mut *tx)
        .await
        .unwrap();
    assert!(touch_last_call(&mut tx, tenant, created.key.id).await.unwrap());
}

async fn minute_of(pool: &Pool) -> chrono::DateTime<chrono::Utc> {
    sqlx::query_scalar!(r#"select date_trunc('minute', clock_timestamp()) as "minute!""#)
        .fetch_one(pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn of_many_leases_at_once_exactly_the_limit_is_granted_in_a_minute() {
    const LIMIT: u32 = 25;
    let db = TestDb::new().await;
    // Rounds that straddle two minutes prove nothing; three in a row cannot.
    for _ in 0..3 {
        let tenant = TenantId::from(PartnerId::new());
        let before = minute_of(db.pool()).await;
        let taken = async |wanted| {
            let mut conn = db.pool().acquire().await.unwrap();
            lease(&mut conn, tenant, LIMIT, wanted).await.unwrap()
        };
        let leases = (0..4 * LIMIT).map(|number| taken(1 + number % 3));
        let leases = join_all(leases).await;
        if minute_of(db.pool()).await != before {
            continue;
        }
        assert_eq!(leases.iter().map(|lease| lease.granted).sum::<u32>(), LIMIT);
        for lease in &leases {
            assert!(lease.resets_in <= Duration::from_secs(60), "{lease:?}");
            assert!(lease.granted > 0 || lease.remaining == 0, "{lease:?}");
        }
        return;
    }
    panic!("three rounds straddled two minutes each");
}

#[tokio::test]
async fn a_new_minute_restores_the_allowance_and_time_never_runs_backwards() {
    let db = TestDb::new().await;
    let mut conn = db.pool().acquire().await.unwrap();
    let (tenant, other) = (TenantId::from(PartnerId::new()), TenantId::from(PartnerId::new()));

    // A minute that lies ahead, as after the clock was set back: leases go on counting in it.
    assert_eq!(lease(&mut conn, tenant, 2, 1).await.unwrap().granted, 1);
    shift(&mut conn, "5 minutes").await;
    assert_eq!(lease(&mut conn, tenant, 2, 9).await.unwrap().granted, 1);
    assert_eq!(lease(&mut conn, tenant, 2, 1).await.unwrap().granted, 0);
    assert_eq!(lease(&mut conn, other, 2, 1).await.unwrap().granted, 1, "another partner is not affected");

    shift(&mut conn, "-6 minutes").await;
    assert_eq!(lease(&mut conn, tenant, 2, 1).await.unwrap().remaining, 1);
}

async fn shift(conn: &mut db::Connection, by: &str) {
    sqlx::query!("update partner_rate_windows set minute = minute + $1::text::interval", by)
        .execute(conn)
        .await
        .unwrap();
}

fn idempotency_key() -> IdempotencyKey {
    "order-1".parse().unwrap()
}

#[tokio::test]
async fn a_repeated_request_gets_the_first_ones_job_and_a_different_one_is_refused() {
    let db = TestDb::new().await;
    let (tenant, job, key) = (TenantId::from(PartnerId::new()), JobId::new(), idempotency_key());
    let mut tx = db::begin(db.pool()).await.unwrap();
    assert_eq!(claim(&mut tx, tenant, &key, &[1; 32]).await.unwrap(), Claim::New);
    store(&mut tx, tenant, &key, &[1; 32], Effect::Job(job)).await.unwrap();
    tx.commit().await.unwrap();

    let mut tx = db::begin(db.pool()).await.unwrap();
    assert_eq!(claim(&mut tx, tenant, &key, &[1; 32]).await.unwrap(), Claim::Replay(Effect::Job(job)));
    assert_eq!(claim(&mut tx, tenant, &key, &[2; 32]).await.unwrap(), Claim::KeyReused);
    let other = TenantId::from(PartnerId::new());
    assert_eq!(claim(&mut tx, other, &key, &[2; 32]).await.unwrap(), Claim::New, "keys are per tenant");
}

#[tokio::test]
async fn a_key_in_use_is_told_at_once_and_free_again_after_a_rollback() {
    let db = TestDb::new().await;
    let (tenant, key) = (TenantId::from(PartnerId::new()), idempotency_key());
    let mut first = db::begin(db.pool()).await.unwrap();
    let mut second = db::begin(db.pool()).await.unwrap();
    assert_eq!(claim(&mut first, tenant, &key, &[1; 32]).await.unwrap(), Claim::New);
    store(&mut first, tenant, &key, &[1; 32], Effect::Job(JobId::new())).await.unwrap();
    assert_eq!(claim(&mut second, tenant, &key, &[1; 32]).await.unwrap(), Claim::InFlight);
    first.rollback().await.unwrap();
    assert_eq!(claim(&mut second, tenant, &key, &[1; 32]).await.unwrap(), Claim::New);
}

#[tokio::test]
async fn of_many_equal_requests_at_once_exactly_one_makes_a_job() {
    let db = TestDb::new().await;
    let (tenant, key) = (TenantId::from(PartnerId::new()), idempotency_key());
    let requests = (0..20).map(|_| async {
        let mut tx = db::begin(db.pool()).await.unwrap();
        let answer = claim(&mut tx, tenant, &key, &[1; 32]).await.unwrap();
        if answer == Claim::New {
            store(&mut tx, tenant, &key, &[1; 32], Effect::Job(JobId::new())).await.unwrap();
        }
        tx.commit().await.unwrap();
        answer
    });
    let answers = join_all(requests).await;
    assert_eq!(answers.iter().filter(|answer| **answer == Claim::New).count(), 1, "{answers:?}");
    assert!(!answers.contains(&Claim::KeyReused), "{answers:?}");
}

#[tokio::test]
async fn a_key_counts_for_a_day_and_is_pruned_after_it() {
    let db = TestDb::new().await;
    let (tenant, key) = (TenantId::from(PartnerId::new()), idempotency_key());
    let mut conn = db.pool().acquire().await.unwrap();
    let (old, new) = (JobId::new(), JobId::new());
    store(&mut conn, tenant, &key, &[1; 32], Effect::Job(old)).await.unwrap();
    age(&mut conn, "23 hours 59 minutes").await;
    assert_eq!(claim(&mut conn, tenant, &key, &[1; 32]).await.unwrap(), Claim::Replay(Effect::Job(old)));
    assert_eq!(prune(&mut conn, 10).await.unwrap(), 0);

    age(&mut conn, "1 minute").await;
    assert_eq!(claim(&mut conn, tenant, &key, &[2; 32]).await.unwrap(), Claim::New);
    store(&mut conn, tenant, &key, &[2; 32], Effect::Job(new)).await.unwrap();
    assert_eq!(claim(&mut conn, tenant, &key, &[2; 32]).await.unwrap(), Claim::Replay(Effect::Job(new)));

    for number in 0..3 {
        let key = format!("other-{number}").parse().unwrap();
        store(&mut conn, tenant, &key, &[3; 32], Effect::Job(JobId::new())).await.unwrap();
    }
    age(&mut conn, "25 hours").await;
    assert_eq!(prune(&mut conn, 3).await.unwrap(), 3);
    assert_eq!(prune(&mut conn, 3).await.unwrap(), 1);
}

async fn age(conn: &mut db::Connection, by: &str) {
    sqlx::query!("update idempotency_keys set created_at = created_at - $1::text::interval", by)
        .execute(conn)
        .await
        .unwrap();
}
