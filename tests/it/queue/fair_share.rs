//! Who is claimed next: the share first, by weight, and then its most urgent job.

use std::collections::{HashMap, HashSet};

use futures::future::join_all;
use partners::{NewPartner, SubscriptionTier};
use queue::{
    KnownLanes, Shares, TenantShare, Turn,
    fair_share::{ShareState, allocate},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use reqwest::Method;
use serde_json::json;

use super::{
    kinds::{Impatient, Urgent},
    *,
};
use crate::support::{MillpondProcess, TestApi, TestDb, TestPartner};

/// A pool of workers reduced to its claims: it remembers between turns what a pool remembers, and whatever it claimed
/// is done by its next turn.
pub(super) struct Claimer {
    pool: Pool,
    process: Uuid,
    shares: Shares,
    lane_after: Uuid,
    held: Vec<Acknowledgement>,
}

impl Claimer {
    pub(super) async fn new(pool: &Pool) -> Self {
        Self {
            pool: pool.clone(),
            process: process(pool).await,
            shares: Shares::default(),
            lane_after: Uuid::nil(),
            held: Vec::new(),
        }
    }

    /// Ends what the last turn claimed, and claims.
    pub(super) async fn turn(&mut self, count_max: usize) -> Vec<Claimed> {
        let mut conn = self.pool.acquire().await.unwrap();
        let turn = Turn {
            process: self.process,
            queue: Queue::Enrich,
            count_max,
            shares: &self.shares,
            lane_after: self.lane_after,
            since: None,
            lanes: &KnownLanes::default(),
            acknowledgements: &self.held,
        };
        let answer = queue::turn(&mut conn, &turn).await.unwrap();
        assert!(answer.refused.is_empty());
        assert!(answer.claimed.len() <= count_max);
        self.lane_after = answer.lane_after;
        let mut charges: HashMap<TenantId, (i16, u32)> = HashMap::new();
        for job in &answer.claimed {
            charges.entry(job.share).or_insert((job.weight, 0)).1 += 1;
        }
        self.shares.charge(charges.into_iter().map(|(share, (weight, jobs))| (share, weight, jobs)));
        let done = |job: &Claimed| Acknowledgement {
            lease: job.lease,
            settlement: Settlement::End(End::Completed(None), None),
            row: job.row,
        };
        self.held = answer.claimed.iter().map(done).collect();
        answer.claimed
    }

    /// Goes on claiming so many at a time until it has had `jobs`, and answers how many of each tenant.
    pub(super) async fn counts(&mut self, count: usize, jobs: usize) -> HashMap<TenantId, usize> {
        let mut counts = HashMap::new();
        let mut had = 0;
        while had < jobs {
            let claimed = self.turn(count).await;
            assert_eq!(claimed.len(), count, "a slot stayed free although all have jobs");
            had += claimed.len();
            for job in claimed {
                *counts.entry(job.share).or_default() += 1;
            }
        }
        counts
    }
}

/// A tenant of some weight.
pub(super) async fn tenant(pool: &Pool, weight: i16) -> TenantId {
    let tenant = TenantId::from_uuid(Uuid::now_v7());
    let mut conn = pool.acquire().await.unwrap();
    queue::set_tenant(&mut conn, tenant, TenantShare { weight, ..TenantShare::default() }).await.unwrap();
    tenant
}

/// Stores jobs a few thousand at a time.
pub(super) async fn store(pool: &Pool, jobs: impl IntoIterator<Item = NewJob>) {
    let mut conn = pool.acquire().await.unwrap();
    let mut jobs = jobs.into_iter().peekable();
    while jobs.peek().is_some() {
        let some: Vec<NewJob> = jobs.by_ref().take(2_000).collect();
        queue::enqueue_many(&mut conn, some).await.unwrap();
    }
}

async fn four_tenants_with_jobs(db: &TestDb, jobs: usize) -> Vec<(TenantId, i16)> {
    let mut tenants = Vec::new();
    for weight in [1, 2, 4, 8] {
        let tenant = tenant(db.pool(), weight).await;
        store(db.pool(), (0..jobs).map(|_| plain().tenant(tenant))).await;
        tenants.push((tenant, weight));
    }
    tenants
}

fn assert_within_a_tenth(counts: &HashMap<TenantId, usize>, tenants: &[(TenantId, i16)]) {
    let jobs: usize = counts.values().sum();
    let weights: i16 = tenants.iter().map(|(_, weight)| weight).sum();
    for (tenant, weight) in tenants {
        let due = jobs as f64 * f64::from(*weight) / f64::from(weights);
        let had = counts.get(tenant).copied().unwrap_or_default() as f64;
        assert!((had - due).abs() <= due * 0.1, "weight {weight}: {had} of {jobs}, due {due}");
    }
}

#[tokio::test]
async fn the_database_gives_shares_what_the_rule_gives() {
    let db = TestDb::new().await;
    let mut random = StdRng::seed_from_u64(20_261_121);
    for case in 0..1_000 {
        let count = random.random_range(1..200);
        let shares: Vec<ShareState> = (0..random.random_range(1..40))
            .map(|number| ShareState {
                share: TenantId::from_uuid(Uuid::from_u128(number)),
                weight: if random.random_bool(0.5) {
                    1 << random.random_range(0..4)
                } else {
                    random.random_range(1..1_000)
                },
                pass: match random.random_range(0..3) {
                    0 => 0.0,
                    1 => f64::from(random.random_range(0..8)) / 8.0,
                    _ => random.random_range(0.0..50.0),
                },
                room: match random.random_range(0..4) {
                    0 => 0,
                    1 => random.random_range(1..5),
                    2 => random.random_range(1..300),
                    _ => i32::MAX,
                },
            })
            .collect();
        let weights: Vec<i16> = shares.iter().map(|share| share.weight).collect();
        let passes: Vec<f64> = shares.iter().map(|share| share.pass).collect();
        let rooms: Vec<i32> = shares.iter().map(|share| share.room).collect();
        let rows = sqlx::query!(
            r#"select n as "n!", jobs as "jobs!" from job_allocate($1, $2, $3, $4)"#,
            count,
            &weights,
            &passes,
            &rooms,
        )
        .fetch_all(db.pool())
        .await
        .unwrap();
        let mut given = vec![0; shares.len()];
        for row in rows {
            given[row.n as usize - 1] = row.jobs;
        }
        assert_eq!(given, allocate(count, &shares), "case {case}: {count} jobs to {shares:?}");
    }
}

#[tokio::test]
async fn under_contention_tenants_get_their_weights_also_with_one_free_slot_at_a_time() {
    let db = TestDb::new().await;
    let tenants = four_tenants_with_jobs(&db, 800).await;
    for (count, jobs) in [(1, 300), (7, 420), (60, 600)] {
        let counts = Claimer::new(db.pool()).await.counts(count, jobs).await;
        assert_within_a_tenth(&counts, &tenants);
    }
}

#[tokio::test]
async fn what_a_tenant_leaves_of_its_share_goes_to_the_others_in_the_same_turn() {
    let db = TestDb::new().await;
    let (heavy, light, lighter) =
        (tenant(db.pool(), 8).await, tenant(db.pool(), 2).await, tenant(db.pool(), 1).await);
    store(db.pool(), (0..3).map(|_| plain().tenant(heavy))).await;
    store(db.pool(), (0..300).map(|_| plain().tenant(light))).await;
    store(db.pool(), (0..300).map(|_| plain().tenant(lighter))).await;
    let mut claimer = Claimer::new(db.pool()).await;
    let counts = claimer.counts(63, 63).await;
    assert_eq!([counts[&heavy], counts[&light], counts[&lighter]], [3, 40, 20]);
    // Whoever is alone has everything.
    sqlx::query!("delete from jobs where share_id = $1", light.uuid()).execute(db.pool()).await.unwrap();
    sqlx::query!("delete from jobs where share_id = $1 and state = 'running'", lighter.uuid())
        .execute(db.pool())
        .await
        .unwrap();
    let counts = Claimer::new(db.pool()).await.counts(100, 200).await;
    assert_eq!(counts[&lighter], 200);
}

#[tokio::test]
async fn a_tenants_jobs_come_by_priority_and_then_by_time_whatever_their_kind() {
    let db = TestDb::new().await;
    let (one, other) = (tenant(db.pool(), 1).await, tenant(db.pool(), 1).await);
    store(db.pool(), (0..60).map(|_| plain().tenant(other))).await;
    let mut expected = Vec::new();
    for number in 0..30_i16 {
        let job = match number % 3 {
            0 => plain(),
            1 => NewJob::of(&Urgent {}).unwrap(),
            _ => NewJob::of(&Impatient {}).unwrap(),
        };
        let priority = number * 7 % 4;
        let id = stored(db.pool(), job.priority(priority).tenant(one)).await;
        expected.push((priority, id));
    }
    // Stored one after the other, so ids and times are in one order.
    expected.sort_unstable();
    let mut found = Vec::new();
    let mut claimer = Claimer::new(db.pool()).await;
    while found.len() < expected.len() {
        let mut batch: Vec<_> = claimer.turn(4).await.into_iter().filter(|job| job.share == one).collect();
        let order = |job: &Claimed| expected.iter().position(|(_, id)| *id == job.lease.job);
        batch.sort_by_key(order);
        found.extend(batch.into_iter().map(|job| job.lease.job));
    }
    assert_eq!(found, expected.into_iter().map(|(_, id)| id).collect::<Vec<_>>());
}

#[tokio::test]
async fn more_tenants_than_a_claim_looks_at_are_served_in_a_circle() {
    const TENANTS: usize = 600;
    let db = TestDb::new().await;
    let tenants: Vec<_> = (0..TENANTS).map(|_| TenantId::from_uuid(Uuid::now_v7())).collect();
    for _ in 0..4 {
        store(db.pool(), tenants.iter().map(|tenant| plain().tenant(*tenant))).await;
    }
    for count in [1, 10, 100] {
        let counts = Claimer::new(db.pool()).await.counts(count, TENANTS).await;
        assert_eq!(counts.len(), TENANTS, "by {count}: somebody was passed over");
    }
}

#[tokio::test]
async fn a_tenant_whose_jobs_all_have_keys_of_their_own_hides_nobody_and_loses_none() {
    let db = TestDb::new().await;
    let (flood, one, other) =
        (tenant(db.pool(), 1).await, tenant(db.pool(), 1).await, tenant(db.pool(), 1).await);
    let keyed = |number: usize| plain().key(number.to_string()).tenant(flood);
    store(db.pool(), (0..1_500).map(keyed)).await;
    for tenant in [one, other] {
        store(db.pool(), (0..40).map(|_| plain().tenant(tenant))).await;
    }
    let mut claimer = Claimer::new(db.pool()).await;
    let counts = claimer.counts(6, 60).await;
    assert_within_a_tenth(&counts, &[(flood, 1), (one, 1), (other, 1)]);
    let mut rest = 1_500 + 80 - 60;
    while rest > 0 {
        let claimed = claimer.turn(100).await.len();
        assert!(claimed > 0, "{rest} were not found");
        rest -= claimed;
    }
}

#[tokio::test]
async fn a_flood_delays_nobody_elses_next_job() {
    let db = TestDb::new().await;
    let (flood, other) = (tenant(db.pool(), 8).await, tenant(db.pool(), 1).await);
    store(db.pool(), (0..20_000).map(|_| plain().tenant(flood))).await;
    let mut claimer = Claimer::new(db.pool()).await;
    for count in [1, 5, 50] {
        claimer.counts(count, count * 20).await;
        let job = stored(db.pool(), plain().tenant(other)).await;
        let mut next = claimer.turn(1).await;
        next.append(&mut claimer.turn(1).await);
        assert!(next.iter().any(|claim| claim.lease.job == job), "within two jobs, by {count}");
    }
}

#[tokio::test]
async fn eight_claimers_at_once_claim_every_job_of_many_tenants_and_kinds_exactly_once() {
    let db = TestDb::new().await;
    let tenants: Vec<_> = (0..40).map(|_| TenantId::from_uuid(Uuid::now_v7())).collect();
    let jobs = tenants.iter().flat_map(|tenant| {
        (0..75).map(|number| {
            let job = match number % 3 {
                0 => plain(),
                1 => NewJob::of(&Urgent {}).unwrap(),
                _ => NewJob::of(&Impatient {}).unwrap(),
            };
            job.tenant(*tenant)
        })
    });
    store(db.pool(), jobs).await;
    let claimer = |number: u64| {
        let db = &db;
        async move {
            let mut random = StdRng::seed_from_u64(number);
            let mut claimer = Claimer::new(db.pool()).await;
            let mut found = Vec::new();
            loop {
                let claimed = claimer.turn(random.random_range(1..60)).await;
                if claimed.is_empty() {
                    return found;
                }
                found.extend(claimed.into_iter().map(|job| job.lease.job));
            }
        }
    };
    let mut found: Vec<JobId> = join_all((0..8).map(claimer)).await.into_iter().flatten().collect();
    // What somebody else held locked at the moment of everybody's last look.
    let mut last = Claimer::new(db.pool()).await;
    found.extend(last.turn(3_000).await.into_iter().map(|job| job.lease.job));
    last.turn(0).await;
    assert_eq!(found.len(), 3_000);
    assert_eq!(found.iter().collect::<HashSet<_>>().len(), 3_000, "a job was claimed twice");
    let left =
        sqlx::query_scalar!(r#"select count(*) as "n!" from jobs"#).fetch_one(db.pool()).await.unwrap();
    assert_eq!(left, 0);
}

/// Posts wishes of a partner, each for another profile.
async fn wish(api: &TestApi, partner: &TestPartner, wishes: usize) {
    for number in 0..wishes {
        let url = format!("https://www.tiktok.com/@{}.{number}", partner.code);
        let request = api.request_as(partner, Method::POST, "/api/v1/profiles/enrich");
        let answer = request.json(&json!({ "url": url })).send().await.unwrap();
        assert_eq!(answer.status(), 202);
    }
}

#[tokio::test]
async fn a_premium_partners_jobs_get_four_times_the_share_of_a_free_ones() {
    let db = TestDb::new().await;
    let api = TestApi::start(&db).await;
    let mut made = Vec::new();
    for (code, tier) in [("free", SubscriptionTier::Free), ("premium", SubscriptionTier::Premium)] {
        let new = NewPartner { rate_limit_per_minute: 100_000, ..NewPartner::of(code, code, tier) };
        let partner = TestPartner::create_with(&db, new).await;
        wish(&api, &partner, 50).await;
        made.push(partner);
    }
    let (free, premium) = (made[0].tenant(), made[1].tenant());
    let mut claimer = Claimer::new(db.pool()).await;
    let counts = claimer.counts(1, 25).await;
    assert_eq!((counts[&free], counts[&premium]), (5, 20));

    // What an operator changes holds for jobs that wait already.
    let changed =
        MillpondProcess::output(&db, &["partners", "subscription", "free", "--share-weight", "4", "--json"]);
    let changed: Value = serde_json::from_str(&changed).unwrap();
    assert_eq!(changed["shareWeight"], 4);
    let counts = claimer.counts(1, 20).await;
    assert!(counts[&free].abs_diff(10) <= 1, "{counts:?}");
    let changed = MillpondProcess::output(
        &db,
        &["partners", "subscription", "free", "--tier", "basic", "--share-weight", "tier", "--json"],
    );
    let changed: Value = serde_json::from_str(&changed).unwrap();
    assert_eq!(changed["shareWeight"], 2);
}
