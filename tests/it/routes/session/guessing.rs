//! Ten thousand guesses over a hundred accounts, half of which exist, from fifty addresses.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use futures::StreamExt;
use reqwest::{Client, StatusCode};

use super::*;
use identity::{ACCOUNT_FAILURES_MAX, LOCK};

const ATTEMPTS: usize = 10_000;
const ACCOUNTS: usize = 100;
const ADDRESSES: usize = 50;
const AT_ONCE: usize = 16;

/// Clients whose connections come from other addresses of this machine.
fn guessers() -> Vec<Client> {
    let from = |index: usize| {
        let address = Ipv4Addr::new(127, 0, 7, u8::try_from(index + 1).unwrap());
        Client::builder().no_proxy().tls_certs_only([]).local_address(IpAddr::V4(address)).build().unwrap()
    };
    (0..ADDRESSES).map(from).collect()
}

fn email(account: usize) -> String {
    format!("person{account}@example.com")
}

/// What one account was answered.
#[derive(Default)]
struct Told {
    statuses: BTreeMap<u16, usize>,
    bodies: BTreeMap<u16, Value>,
    refused_in: Vec<Duration>,
}

fn median(mut durations: Vec<Duration>) -> Duration {
    durations.sort_unstable();
    durations[durations.len() / 2]
}

#[tokio::test]
async fn ten_thousand_guesses_get_nowhere_and_tell_nothing_and_lock_nobody_out_for_long() {
    let db = TestDb::new().await;
    let api = TestApi::start(&db).await;
    let hash_once = TestPerson::named(&db, Role::Viewer, &email(0)).await;
    // Half of the accounts exist, all with the same password, which is not among the guesses.
    for account in (2..ACCOUNTS).step_by(2) {
        let keyring = crate::support::keyring();
        let mut tx = db::begin(db.pool()).await.unwrap();
        let new = identity::NewPerson {
            email: identity::Email::parse(&email(account)).unwrap(),
            role: Role::Viewer,
            password: None,
        };
        let person = identity::create(&mut tx, &keyring, new).await.unwrap();
        sqlx::query("update people set password_hash = (select password_hash from people where id = $2) where id = $1")
            .bind(person.id.uuid())
            .bind(hash_once.id.uuid())
            .execute(&mut *tx)
            .await
            .unwrap();
        tx.commit().await.unwrap();
    }
    // Somebody who works from their own place, before, during and after.
    let own = || Answer::to(sign_in(&api, &json!({"email": email(0), "password": PASSWORD})));
    own().await.expect(200);

    let clients = guessers();
    let url = format!("{}{SESSION}", api.url());
    let guesses = futures::stream::iter(0..ATTEMPTS).map(|attempt| {
        // Every account is guessed from every address.
        let account = attempt % ACCOUNTS;
        let client = &clients[(attempt / ACCOUNTS + account) % ADDRESSES];
        let body = json!({"email": email(account), "password": format!("guess number {attempt}")});
        let request = client.post(&url).json(&body);
        async move {
            let began = Instant::now();
            let answer = request.send().await.unwrap();
            let (status, took) = (answer.status(), began.elapsed());
            let cookie = answer.headers().contains_key("set-cookie");
            assert!(!cookie, "attempt {attempt} got in");
            let mut body: Value = answer.json().await.unwrap();
            body["requestId"] = Value::Null;
            (account, status, took, body)
        }
    });
    let mut told: Vec<Told> = (0..ACCOUNTS).map(|_| Told::default()).collect();
    let mut guesses = guesses.buffer_unordered(AT_ONCE);
    let mut seen = 0;
    while let Some((account, status, took, body)) = guesses.next().await {
        seen += 1;
        if seen == ATTEMPTS / 2 {
            own().await.expect(200);
        }
        let told = &mut told[account];
        *told.statuses.entry(status.as_u16()).or_default() += 1;
        if status == StatusCode::UNAUTHORIZED {
            told.refused_in.push(took);
        }
        told.bodies.insert(status.as_u16(), body);
    }

    // Accounts that exist and that do not are told the same, as often.
    let each = usize::try_from(ACCOUNT_FAILURES_MAX).unwrap();
    for (account, told) in told.iter().enumerate() {
        let expected = BTreeMap::from([(401, each), (429, ATTEMPTS / ACCOUNTS - each)]);
        assert_eq!(told.statuses, expected, "account {account}");
        assert_eq!(told.bodies[&401]["error"]["code"], "UNAUTHORIZED", "account {account}");
        assert_eq!(told.bodies[&429]["error"]["code"], "RATE_LIMITED", "account {account}");
    }
    assert!(told.windows(2).all(|pair| pair[0].bodies == pair[1].bodies));
    let times = |from: usize| {
        median(told.iter().skip(from).step_by(2).flat_map(|told| told.refused_in.clone()).collect())
    };
    let (existing, missing) = (times(0), times(1));
    let ratio = existing.as_secs_f64() / missing.as_secs_f64();
    assert!((0.5..2.0).contains(&ratio), "existing {existing:?}, missing {missing:?}");

    // Nobody is locked out for longer than stated, and the one who was known where they work not at all.
    own().await.expect(200);
    let longest: Option<f64> = sqlx::query_scalar(
        "select max(extract(epoch from locked_until - now()))::float8 from sign_in_guards where locked_until > now()",
    )
    .fetch_one(db.pool())
    .await
    .unwrap();
    assert!(longest.is_some_and(|seconds| seconds <= LOCK.as_secs_f64()), "{longest:?}");
    sqlx::query("update sign_in_guards set locked_until = locked_until - $1 * interval '1 second' where locked_until > now()")
        .bind(LOCK.as_secs_f64())
        .execute(db.pool())
        .await
        .unwrap();
    let after = clients[0].post(&url).json(&json!({"email": email(2), "password": PASSWORD}));
    Answer::to(after).await.expect(200);
}
