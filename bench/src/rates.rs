//! `bench rates`: whether a limit of requests a minute holds over several API processes, and how soon a revoked key is
//! refused by all of them.
//!
//! One partner may send 100 requests a minute and sends ten times as many, in clock minutes of the database, evenly over
//! the processes and then to one after the other. Another asks once a second and must never be refused. Then keys are
//! revoked while all processes are asked with them without a pause.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use audit::Actor;
use chrono::{DateTime, Utc};
use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use futures::future::try_join_all;
use jobs::Door;
use jobs::partners::{create, revoke_key};
use kernel::ids::{ApiKeyId, PartnerId};
use kernel::sealing::Keyring;
use partners::{NewPartner, SubscriptionTier};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::api::client::Client;
use crate::api::process::Service;
use crate::api::server::start as start_api;
use crate::progress::Progress;
use crate::server::{Database, ServerArgs, TestServer};

/// Made and removed.
const DATABASE: &str = "millpond_bench_rates";
/// Requests a minute of the limited partner.
const LIMIT: u32 = 100;
/// Of which so many pass at least.
const PASSED_MIN: u32 = 95;
const MINUTE: Duration = Duration::from_secs(60);
/// Nothing is sent so shortly after a minute's turn: clocks of processes and database are compared only so exactly.
const AFTER_TURN: Duration = Duration::from_millis(50);
/// Nothing is sent so shortly before a turn: it may be answered after it.
const BEFORE_TURN: Duration = Duration::from_secs(1);
/// Requests under way at once at one process.
const LANES: usize = 8;
/// The pause between two requests with a key that is about to be revoked.
const REVOKED_EVERY: Duration = Duration::from_millis(20);
/// The first key is used so long before it is revoked, and each further one longer by the step: processes remember a key
/// from its first use on, so the first is remembered the longest after it was revoked.
const USED_FOR: Duration = Duration::from_millis(50);
const USED_FOR_STEP: Duration = Duration::from_millis(450);
/// So many refusals one after the other are for good. All keys together stay below the refusals of one address that end
/// in 429 (G-64).
const FOR_GOOD: usize = 50;
/// Keys that are revoked.
const KEYS: usize = 5;
/// A revoked key is refused everywhere after so long.
const REVOKED_MAX: Duration = Duration::from_secs(5);
/// Longest wait for that.
const REVOKED_WAIT_MAX: Duration = Duration::from_secs(30);
const FAULTS_SHOWN: usize = 20;

/// Arguments of `rates`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  bench rates                              100 a minute over three processes under tenfold load, two minutes; five keys
  bench rates --processes 2 --minutes 4 --load 20 --json")]
pub struct Args {
    /// API processes
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=8))]
    pub processes: u8,
    /// Whole clock minutes; every other one is uneven
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=60))]
    pub minutes: u8,
    /// Requests sent, in multiples of the limit
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u8).range(2..=100))]
    pub load: u8,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
    /// Which server is used
    #[command(flatten)]
    pub server: ServerArgs,
}

/// Plays both parts and tells what came of them.
///
/// # Errors
/// When a minute let more or fewer pass than it should, anybody was refused who should not be, or a revoked key worked
/// too long.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let server = TestServer::open(&args.server).await?;
    let progress = Progress::new(usize::from(args.minutes) + KEYS);
    let played = play(&server, &progress, &args).await;
    progress.finish();
    server.drop_database(DATABASE).await?;
    server.close().await?;
    played?.report(args.json)
}

async fn play(server: &TestServer, progress: &Progress, args: &Args) -> anyhow::Result<Played> {
    let scene = Scene::set(server, args.processes.into()).await?;
    let mut played = Played::default();
    scene.overload(progress, args, &mut played).await?;
    for number in 0..KEYS {
        progress.say(format!("revoking key {} of {KEYS}", number + 1));
        scene.revoke(number, &mut played).await?;
        progress.done();
    }
    try_join_all(scene.processes.into_iter().map(Service::stop)).await?;
    Ok(played)
}

/// What came of both parts.
#[derive(Debug, Default)]
struct Played {
    minutes: Vec<Minute>,
    steady_requests: usize,
    /// Of each key: when each process had refused it for good, after it was revoked.
    refused_after: Vec<Vec<Duration>>,
    faults: Vec<String>,
}

/// What a clock minute's answers were.
#[derive(Debug)]
struct Minute {
    begins_at: DateTime<Utc>,
    is_even: bool,
    /// By process: 200 and 429.
    processes: Vec<(u32, u32)>,
    /// Answered so late that the minute is not certain.
    ambiguous: u32,
}

impl Minute {
    fn passed(&self) -> u32 {
        self.processes.iter().map(|(passed, _)| passed).sum()
    }

    fn refused(&self) -> u32 {
        self.processes.iter().map(|(_, refused)| refused).sum()
    }
}

/// The processes, and whom they serve.
struct Scene {
    database: Database,
    keyring: Keyring,
    processes: Vec<Service>,
}

/// A partner and its key.
struct Asker {
    id: PartnerId,
    key_id: ApiKeyId,
    request: Arc<[u8]>,
}

/// An answer, with when it was asked for and when it came.
struct Told {
    process: usize,
    sent: Instant,
    came: Instant,
    status: u16,
    fault: Option<String>,
}

impl Scene {
    async fn set(server: &TestServer, processes: usize) -> anyhow::Result<Self> {
        let database = server.fresh_database(DATABASE).await?;
        let mut scene = Self { database, keyring: Keyring::generate(), processes: Vec::new() };
        for _ in 0..processes {
            scene.processes.push(start_api(&scene.database.url, &scene.keyring, server.folder()).await?);
        }
        Ok(scene)
    }

    async fn new_asker(&self, code: &str, rate_limit_per_minute: u32) -> anyhow::Result<Asker> {
        let new =
            NewPartner { rate_limit_per_minute, ..NewPartner::of(code, code, SubscriptionTier::Premium) };
        let mut tx = db::begin(&self.database.pool).await?;
        let created = create(&mut tx, &self.door(), new).await?;
        tx.commit().await?;
        let request = format!(
            "GET /api/v1/partners/quota HTTP/1.1\r\nHost: api\r\nX-Partner-ID: {code}\r\nX-API-Key: {}\r\n\r\n",
            created.key.api_key.expose()
        );
        Ok(Asker { id: created.partner.id, key_id: created.key.id, request: request.into_bytes().into() })
    }

    fn door(&self) -> Door<'_> {
        Door { actor: Actor::System("bench"), request_id: None, keyring: &self.keyring }
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        self.processes.iter().map(|process| process.address).collect()
    }

    /// The next whole minute of the database, and when it begins by our clock.
    async fn next_minute(&self) -> anyhow::Result<(DateTime<Utc>, Instant)> {
        let asked = Instant::now();
        let now: DateTime<Utc> = sqlx::query_scalar!(r#"select clock_timestamp() as "now!""#)
            .fetch_one(&self.database.pool)
            .await?;
        let halfway = asked + asked.elapsed() / 2;
        let into = u64::try_from(now.timestamp_micros())? % 60_000_000;
        let left = Duration::from_micros(60_000_000 - into);
        Ok((now + left, halfway + left))
    }

    /// Minute after minute of too many requests.
    async fn overload(&self, progress: &Progress, args: &Args, played: &mut Played) -> anyhow::Result<()> {
        let limited = self.new_asker("limited", LIMIT).await?;
        let steady = self.new_asker("steady", LIMIT).await?;
        let (begins_at, begins) = self.next_minute().await?;
        let minutes = u32::from(args.minutes);
        progress.say(format!("waiting {} s for a minute to begin", (begins - Instant::now()).as_secs()));
        let steady = tokio::spawn(ask_steadily(
            self.addresses(),
            steady.request,
            begins + AFTER_TURN,
            minutes * 60 - 1,
        ));
        for number in 0..minutes {
            let from = begins + MINUTE * number;
            let is_even = number % 2 == 0;
            sleep_until(from).await;
            let share = if is_even { "evenly" } else { "to one after the other" };
            progress.say(format!("minute {} of {minutes}: {share}", number + 1));
            let told = self.fill(&limited.request, from, is_even, LIMIT * u32::from(args.load)).await?;
            let mut minute = Minute {
                begins_at: begins_at + MINUTE * number,
                is_even,
                processes: vec![(0, 0); self.processes.len()],
                ambiguous: 0,
            };
            for one in told {
                played.faults.extend(one.fault.map(|fault| format!("minute {}: {fault}", number + 1)));
                let is_certain = one.sent >= from + AFTER_TURN && one.came + AFTER_TURN <= from + MINUTE;
                match one.status {
                    _ if !is_certain => minute.ambiguous += 1,
                    200 => minute.processes[one.process].0 += 1,
                    429 => minute.processes[one.process].1 += 1,
                    _ => {}
                }
            }
            played.minutes.push(minute);
            progress.done();
        }
        let (requests, faults) = steady.await?;
        played.steady_requests = requests;
        played.faults.extend(faults);
        Ok(())
    }

    /// Fills a minute: evenly over the processes, or in one burst to each, one after the other.
    async fn fill(
        &self,
        request: &Arc<[u8]>,
        from: Instant,
        is_even: bool,
        count: u32,
    ) -> anyhow::Result<Vec<Told>> {
        let processes = u32::try_from(self.processes.len())?;
        let span = MINUTE - AFTER_TURN - BEFORE_TURN;
        let mut due = vec![Vec::new(); self.processes.len()];
        for number in 0..count {
            let (process, after) = match is_even {
                true => (number % processes, span * number / count),
                false => {
                    let process = number * processes / count;
                    (process, span * process / processes)
                }
            };
            due[process as usize].push(from + AFTER_TURN + after);
        }
        let mut lanes = JoinSet::new();
        for (process, (due, address)) in due.into_iter().zip(self.addresses()).enumerate() {
            let (due, next) = (Arc::new(due), Arc::new(AtomicUsize::new(0)));
            for _ in 0..LANES {
                let (due, next, request) = (Arc::clone(&due), Arc::clone(&next), Arc::clone(request));
                lanes.spawn(async move {
                    let (mut client, mut told) = (Client::new(address), Vec::new());
                    while let Some(due) = due.get(next.fetch_add(1, Ordering::Relaxed)) {
                        sleep_until(*due).await;
                        told.push(ask(&mut client, process, &request).await);
                    }
                    told
                });
            }
        }
        Ok(lanes.join_all().await.into_iter().flatten().collect())
    }

    /// Revokes a key that is in use everywhere.
    async fn revoke(&self, number: usize, played: &mut Played) -> anyhow::Result<()> {
        let asker = self.new_asker(&format!("revoked-{number}"), 1_000_000).await?;
        let mut users = JoinSet::new();
        for (process, address) in self.addresses().into_iter().enumerate() {
            users.spawn(use_until_refused(process, address, Arc::clone(&asker.request)));
        }
        tokio::time::sleep(USED_FOR + USED_FOR_STEP * u32::try_from(number)?).await;
        let mut tx = db::begin(&self.database.pool).await?;
        revoke_key(&mut tx, &self.door(), asker.id, asker.key_id).await?;
        tx.commit().await?;
        let revoked = Instant::now();
        let mut after = Vec::new();
        for used in users.join_all().await {
            played.faults.extend(used.faults.into_iter().map(|fault| format!("key {}: {fault}", number + 1)));
            if used.passed == 0 {
                played.faults.push(format!("key {} never worked", number + 1));
            }
            let refused = used.refused_for_good.context("a revoked key was not refused for good")?;
            after.push(refused.saturating_duration_since(revoked));
        }
        played.refused_after.push(after);
        Ok(())
    }
}

/// Sends one request and looks at the answer.
async fn ask(client: &mut Client, process: usize, request: &[u8]) -> Told {
    let sent = Instant::now();
    let answer = client.ask(request).await.map(|(status, _)| status);
    let came = Instant::now();
    let (status, fault) = match answer {
        Ok(status @ (200 | 429)) => (status, check_head(status, &client.head())),
        Ok(status) => (status, Some(format!("process {process} answered {status}"))),
        Err(error) => (0, Some(format!("process {process}: {error}"))),
    };
    Told { process, sent, came, status, fault }
}

/// Whether an answer tells how the partner stands, and a refusal when to come again.
fn check_head(status: u16, head: &str) -> Option<String> {
    let head = head.to_ascii_lowercase();
    let wanted: &[&str] = match status {
        429 => &["retry-after", "ratelimit", "ratelimit-policy"],
        _ => &["ratelimit", "ratelimit-policy"],
    };
    let missing = wanted.iter().find(|name| !head.contains(&format!("\r\n{name}:")))?;
    Some(format!("a {status} without {missing}"))
}

/// One request a second, to one process after the other.
async fn ask_steadily(
    addresses: Vec<SocketAddr>,
    request: Arc<[u8]>,
    from: Instant,
    count: u32,
) -> (usize, Vec<String>) {
    let mut clients: Vec<Client> = addresses.into_iter().map(Client::new).collect();
    let mut faults = Vec::new();
    for number in 0..count {
        sleep_until(from + Duration::from_secs(number.into())).await;
        let process = number as usize % clients.len();
        let told = ask(&mut clients[process], process, &request).await;
        if told.status == 429 {
            faults.push(format!("the steady partner was refused in second {number}"));
        }
        faults.extend(told.fault.map(|fault| format!("the steady partner: {fault}")));
    }
    (count as usize, faults)
}

/// What became of a key's use at one process.
#[derive(Default)]
struct Used {
    passed: usize,
    /// When the first of the refusals was asked for that nothing else followed.
    refused_for_good: Option<Instant>,
    faults: Vec<String>,
}

async fn use_until_refused(process: usize, address: SocketAddr, request: Arc<[u8]>) -> Used {
    let (mut client, mut used) = (Client::new(address), Used::default());
    let (mut refusals, until) = (0, Instant::now() + REVOKED_WAIT_MAX);
    let mut pace = tokio::time::interval(REVOKED_EVERY);
    while refusals < FOR_GOOD && Instant::now() < until {
        pace.tick().await;
        let sent = Instant::now();
        match client.ask(&request).await.map(|(status, _)| status) {
            Ok(200) => {
                used.passed += 1;
                (refusals, used.refused_for_good) = (0, None);
            }
            Ok(401) => {
                refusals += 1;
                used.refused_for_good.get_or_insert(sent);
            }
            Ok(status) => used.faults.push(format!("process {process} answered {status}")),
            Err(error) => used.faults.push(format!("process {process}: {error}")),
        }
    }
    if refusals < FOR_GOOD {
        used.refused_for_good = None;
    }
    used
}

impl Played {
    fn refused_everywhere_after(&self) -> Duration {
        self.refused_after.iter().flatten().copied().max().unwrap_or_default()
    }

    /// What is not as it should be.
    fn missed(&self) -> Vec<String> {
        let mut missed = Vec::new();
        for (number, minute) in self.minutes.iter().enumerate() {
            let (passed, number) = (minute.passed(), number + 1);
            if !(PASSED_MIN..=LIMIT).contains(&passed) {
                missed.push(format!("minute {number}: {passed} passed, not {PASSED_MIN} to {LIMIT}"));
            }
            if minute.ambiguous > 0 {
                missed.push(format!("minute {number}: {} answers around a turn", minute.ambiguous));
            }
        }
        let longest = self.refused_everywhere_after();
        if longest > REVOKED_MAX {
            missed.push(format!("a revoked key worked for {:.2} s", longest.as_secs_f64()));
        }
        let mut faults: BTreeMap<&str, usize> = BTreeMap::new();
        for fault in &self.faults {
            *faults.entry(fault).or_default() += 1;
        }
        missed.extend(faults.into_iter().map(|(fault, times)| format!("{fault} ({times} times)")));
        missed
    }

    fn report(&self, json: bool) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        let missed = self.missed();
        if json {
            writeln!(out, "{}", serde_json::to_string_pretty(&self.to_json(&missed))?)?;
        } else {
            writeln!(out, "{}\n{}", self.minutes_table(), self.keys_table())?;
            for miss in missed.iter().take(FAULTS_SHOWN) {
                writeln!(out, "{miss}")?;
            }
        }
        ensure!(missed.is_empty(), "{} targets missed", missed.len());
        Ok(())
    }

    fn minutes_table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(UTF8_FULL_CONDENSED);
        table.set_header([
            "clock minute",
            "load",
            "sent",
            "passed (target 95 – 100)",
            "refused",
            "by process",
        ]);
        for minute in &self.minutes {
            let by_process: Vec<String> =
                minute.processes.iter().map(|(passed, refused)| format!("{passed} + {refused}")).collect();
            table.add_row([
                minute.begins_at.format("%H:%M").to_string(),
                if minute.is_even { "even" } else { "one process after the other" }.to_owned(),
                (minute.passed() + minute.refused() + minute.ambiguous).to_string(),
                minute.passed().to_string(),
                minute.refused().to_string(),
                by_process.join(", "),
            ]);
        }
        table.add_row(["all", "a steady partner", &self.steady_requests.to_string(), "all, or see below"]);
        table
    }

    fn keys_table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(UTF8_FULL_CONDENSED);
        table.set_header(["revoked key", "refused for good after, by process", "everywhere (target 5 s)"]);
        for (number, after) in self.refused_after.iter().enumerate() {
            let shown: Vec<String> =
                after.iter().map(|after| format!("{:.2} s", after.as_secs_f64())).collect();
            let all = after.iter().max().copied().unwrap_or_default();
            table.add_row([
                (number + 1).to_string(),
                shown.join(", "),
                format!("{:.2} s", all.as_secs_f64()),
            ]);
        }
        let longest = format!("{:.2} s", self.refused_everywhere_after().as_secs_f64());
        table.add_row(["longest", "", &longest]);
        table
    }

    fn to_json(&self, missed: &[String]) -> serde_json::Value {
        let minutes: Vec<_> = self
            .minutes
            .iter()
            .map(|minute| {
                serde_json::json!({
                    "beginsAt": minute.begins_at.to_rfc3339(), "even": minute.is_even, "passed": minute.passed(),
                    "refused": minute.refused(), "ambiguous": minute.ambiguous, "byProcess": minute.processes,
                })
            })
            .collect();
        let seconds = |after: &Vec<Duration>| after.iter().map(Duration::as_secs_f64).collect::<Vec<_>>();
        serde_json::json!({
            "limit": LIMIT, "minutes": minutes, "steadyRequests": self.steady_requests,
            "refusedAfterS": self.refused_after.iter().map(seconds).collect::<Vec<_>>(),
            "refusedEverywhereAfterS": self.refused_everywhere_after().as_secs_f64(), "missed": missed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_must_say_when_to_come_again() {
        let head = "HTTP/1.1 429 Too Many Requests\r\nRateLimit: a\r\nRateLimit-Policy: b\r\n";
        assert_eq!(check_head(429, head).unwrap(), "a 429 without retry-after");
        assert_eq!(check_head(200, head), None);
    }

    #[test]
    fn a_minute_that_let_too_many_pass_is_missed() {
        let minute = |passed| Minute {
            begins_at: DateTime::UNIX_EPOCH,
            is_even: true,
            processes: vec![(passed, 900)],
            ambiguous: 0,
        };
        let played = Played { minutes: vec![minute(100), minute(101), minute(94)], ..Played::default() };
        assert_eq!(played.missed().len(), 2);
    }
}
