//! The request limit of each partner (S0-040 to S0-044), over any number of API processes.

use futures::future::join_all;
use partners::directory::RATE_LIMIT_DEFAULT;
use partners::{NewPartner, SubscriptionTier};
use reqwest::Method;
use serde_json::json;

use super::answer::{Answer, steady};
use super::stage::{ENRICH, Stage, accepted};
use crate::support::{TestApi, TestDb, TestPartner, eventually};

const JOBS: &str = "/api/v1/jobs";

async fn limited(db: &TestDb, code: &str, rate_limit_per_minute: u32) -> TestPartner {
    let tier = SubscriptionTier::Basic;
    let new = NewPartner { rate_limit_per_minute, ..NewPartner::of(code, code, tier) };
    TestPartner::create_with(db, new).await
}

async fn called(api: &TestApi, partner: &TestPartner, path: &str) -> Answer {
    Answer::to(api.request_as(partner, Method::GET, path)).await
}

/// What `RateLimit` says: requests left, and seconds to the next window.
fn standing(answer: &Answer) -> (u32, u32) {
    let header = answer.header("ratelimit").expect("RateLimit");
    let rest = header.strip_prefix("\"minute\";r=").expect(header);
    let (left, seconds) = rest.split_once(";t=").expect(header);
    (left.parse().unwrap(), seconds.parse().unwrap())
}

async fn minute(db: &TestDb) -> i64 {
    sqlx::query_scalar!(r#"select (extract(epoch from clock_timestamp()) / 60)::bigint as "minute!""#)
        .fetch_one(db.pool())
        .await
        .unwrap()
}

/// Does something with a fresh partner until it fell into one clock minute; the second time does, unless a run takes
/// a minute.
async fn within_a_minute<T>(stage: &Stage, limit: u32, mut run: impl AsyncFnMut(&TestPartner) -> T) -> T {
    for number in 0..3 {
        let partner = limited(&stage.db, &format!("partner-{number}"), limit).await;
        let before = minute(&stage.db).await;
        let came = run(&partner).await;
        if minute(&stage.db).await == before {
            return came;
        }
    }
    panic!("three runs took a minute each");
}

// S0-042, S0-347
#[tokio::test]
async fn two_processes_share_one_allowance_and_leave_little_of_it() {
    const LIMIT: u32 = 40;
    let stage = Stage::new().await;
    let other_process = TestApi::start(&stage.db).await;
    let answers = within_a_minute(&stage, LIMIT, async |partner| {
        let calls = (0..150).map(|number| {
            let api = if number % 2 == 0 { &stage.api } else { &other_process };
            called(api, partner, JOBS)
        });
        join_all(calls).await
    })
    .await;
    let passed: Vec<_> = answers.iter().filter(|answer| answer.status == 200).collect();
    assert!((38..=40).contains(&passed.len()), "{} passed", passed.len());
    assert!(passed.iter().all(|answer| standing(answer).0 < LIMIT));
    for refused in answers.iter().filter(|answer| answer.status != 200) {
        refused.refusal(429, "RATE_LIMITED");
        assert_eq!(standing(refused).0, 0);
        let retry_after: u32 = refused.header("retry-after").expect("Retry-After").parse().unwrap();
        assert!((1..=60).contains(&retry_after), "{retry_after}");
        assert_eq!(refused.header("ratelimit-policy"), Some("\"minute\";q=40;w=60"));
    }
    let refused = answers.iter().find(|answer| answer.status == 429).unwrap();
    insta::assert_json_snapshot!("used_up", steady(refused.json()));
}

#[tokio::test]
async fn every_authenticated_request_counts_whatever_becomes_of_it() {
    let stage = Stage::new().await;
    let told = within_a_minute(&stage, 100, async |partner| {
        let absent = "/api/v1/jobs/job_00000000000000000000000000";
        let mut told = Vec::new();
        for (path, status) in [(JOBS, 200), ("/api/v1/jobs?limit=0", 400), (absent, 404), (JOBS, 200)] {
            let answer = called(&stage.api, partner, path).await;
            assert_eq!(answer.status, status);
            assert_eq!(answer.header("ratelimit-policy"), Some("\"minute\";q=100;w=60"));
            told.push(standing(&answer).0);
            let guess = stage.api.request(Method::GET, JOBS).header("X-Partner-ID", &partner.code);
            Answer::to(guess.header("X-API-Key", "wrong")).await.refusal(401, "UNAUTHORIZED");
        }
        told
    })
    .await;
    assert_eq!(told, [99, 98, 97, 96], "and what is not authenticated does not");
}

#[tokio::test]
async fn a_held_poll_counts_once() {
    let stage = Stage::new().await;
    let left = within_a_minute(&stage, 100, async |partner| {
        let wish = json!({ "url": "tiktok.com/@amy.codes" });
        let job = accepted(stage.api.request_as(partner, Method::POST, ENRICH).json(&wish)).await;
        let held = called(&stage.api, partner, &format!("{JOBS}/{job}?wait=1")).await;
        assert_eq!(held.expect(200)["data"]["status"], "queued");
        standing(&held).0
    })
    .await;
    assert_eq!(left, 98);
}

// S0-044
#[tokio::test]
async fn one_partner_at_its_limit_leaves_the_others_theirs() {
    let stage = Stage::new().await;
    let statuses = within_a_minute(&stage, 1, async |partner| {
        let first = called(&stage.api, partner, JOBS).await.status;
        let second = called(&stage.api, partner, JOBS).await.status;
        [first, second, stage.get(JOBS).await.status]
    })
    .await;
    assert_eq!(statuses, [200, 429, 200]);
}

// S0-043
#[tokio::test]
async fn the_allowance_is_whole_again_in_the_next_minute() {
    let stage = Stage::new().await;
    let partner = limited(&stage.db, "vinfast", 3).await;
    eventually("the allowance to be used up", async || {
        called(&stage.api, &partner, JOBS).await.status == 429
    })
    .await;
    // As if the minute had passed, for a process that has not seen it used up.
    sqlx::query!("update partner_rate_windows set minute = minute - interval '1 minute'")
        .execute(stage.db.pool())
        .await
        .unwrap();
    let fresh_process = TestApi::start(&stage.db).await;
    let next = called(&fresh_process, &partner, JOBS).await;
    next.expect(200);
    assert_eq!(standing(&next).0, 2);
}

// S0-040, S0-041, S0-190, S0-201
#[tokio::test]
async fn a_partner_has_a_hundred_requests_a_minute_unless_set_otherwise() {
    let stage = Stage::new().await;
    assert_eq!(RATE_LIMIT_DEFAULT, 100);
    for (code, limit) in [("usual", RATE_LIMIT_DEFAULT), ("larger", 250)] {
        let partner = limited(&stage.db, code, limit).await;
        let answer = called(&stage.api, &partner, JOBS).await;
        let (left, seconds) = standing(&answer);
        assert_eq!(left, limit - 1);
        assert!((1..=60).contains(&seconds), "{seconds}");
        assert_eq!(answer.header("ratelimit-policy"), Some(format!("\"minute\";q={limit};w=60").as_str()));
    }
}
