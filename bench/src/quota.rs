//! `bench quota`: whether each month approves exactly its quota, however many ask at once, over several API processes.
//!
//! Every run is a partner of its own with 50 influencers a month, and 200 requests of 20 influencers sent at once. In the
//! first part all of them fall into one month; in the second the month turns while they are under way. What the answers
//! said, what was charged, what is on the record and what the partner was told must be one and the same.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::time::Duration;

use anyhow::{Context, ensure};
use audit::Actor;
use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use futures::future::try_join_all;
use jobs::Door;
use jobs::partners::{SubscriptionOrder, change_subscription, create};
use kernel::ids::{InfluencerId, PartnerId};
use kernel::sealing::Keyring;
use partners::{NewPartner, QuotaMonth, SubscriptionChange, SubscriptionTier};
use rand::RngExt;
use serde::Deserialize;
use sqlx::{AssertSqlSafe, Row, raw_sql};

use crate::api::client::Client;
use crate::api::process::Service;
use crate::api::server::start as start_api;
use crate::progress::Progress;
use crate::server::{Database, ServerArgs, TestServer};

/// Made and removed.
const DATABASE: &str = "millpond_bench_quota";
/// Influencers a month of each partner.
const QUOTA: u32 = 50;
/// Influencers of a request.
const ASKED: usize = 20;
/// In the pool.
const POOL: usize = 2_000;
/// The months' zone, as in `defaults.toml`.
const ZONE: Tz = Tz::Asia__Ho_Chi_Minh;
/// From the moment at which processes have begun to the turn of the month.
const TURN_IN: TimeDelta = TimeDelta::seconds(2);
/// Requests are sent within so long before and after the turn.
const AROUND: Duration = Duration::from_millis(400);

/// Arguments of `quota`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  bench quota                              20 runs of 200 requests over two processes, and 20 around a turn of the month
  bench quota --runs 5 --processes 4 --json")]
pub struct Args {
    /// Runs of each part
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub runs: u16,
    /// Requests sent at once in each run
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u16).range(10..=1_000))]
    pub requests: u16,
    /// API processes
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=8))]
    pub processes: u8,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
    /// Which server is used
    #[command(flatten)]
    pub server: ServerArgs,
}

// S0-054, S0-070, S0-074, S0-337
/// Plays both parts and tells what came of them.
///
/// # Errors
/// When a month approved more or less than its quota, or anything was lost, doubled or told twice.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let server = TestServer::open(&args.server).await?;
    let progress = Progress::new(2);
    let played = play(&server, &progress, &args).await;
    progress.finish();
    server.drop_database(DATABASE).await?;
    server.close().await?;
    report(&played?, args.json)
}

async fn play(server: &TestServer, progress: &Progress, args: &Args) -> anyhow::Result<[Part; 2]> {
    let mut scene = Scene::set(server, args).await?;
    let mut within = Part::new("within a month");
    for run in 0..args.runs {
        progress.say(format!("within a month: run {} of {}", run + 1, args.runs));
        within.add(scene.ask_at_once().await?);
    }
    progress.done();
    let mut across = Part::new("while a month turns");
    for run in 0..args.runs {
        progress.say(format!("while a month turns: run {} of {}", run + 1, args.runs));
        across.add(scene.ask_around_a_turn().await?);
    }
    progress.done();
    scene.stop().await?;
    Ok([within, across])
}

/// What the runs of a part came to.
#[derive(Debug)]
struct Part {
    name: &'static str,
    runs: u32,
    months: u32,
    answers: usize,
    events: usize,
    faults: Vec<String>,
}

impl Part {
    fn new(name: &'static str) -> Self {
        Self { name, runs: 0, months: 0, answers: 0, events: 0, faults: Vec::new() }
    }

    fn add(&mut self, run: Run) {
        self.runs += 1;
        self.months += run.months;
        self.answers += run.answers;
        self.events += run.events;
        self.faults.extend(run.faults);
    }
}

/// What one run came to.
#[derive(Debug, Default)]
struct Run {
    months: u32,
    answers: usize,
    events: usize,
    faults: Vec<String>,
}

/// The processes, and whom they serve.
struct Scene {
    database: Database,
    keyring: Keyring,
    influencers: Vec<InfluencerId>,
    processes: Vec<Service>,
    folder: std::path::PathBuf,
    requests: usize,
    partners: u32,
}

/// A partner of one run.
struct Asker {
    id: PartnerId,
    code: String,
    key: String,
}

/// An answer to a request for influencers, granted or refused.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    approved: Vec<Approved>,
    denied: Vec<String>,
    quota: Quota,
}

#[derive(Debug, Deserialize)]
struct Approved {
    id: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Quota {
    used: u32,
    resets_at: DateTime<Utc>,
}

impl Scene {
    async fn set(server: &TestServer, args: &Args) -> anyhow::Result<Self> {
        let database = server.fresh_database(DATABASE).await?;
        let keyring = Keyring::generate();
        let influencers: Vec<InfluencerId> = (0..POOL).map(|_| InfluencerId::new()).collect();
        let ids: Vec<uuid::Uuid> = influencers.iter().map(|id| id.uuid()).collect();
        sqlx::query!(
            "
            insert into pool_influencers (id, vb_profile_id, platform, username, display_name, followers, score,
                                          visibility, source)
            select id, 'vb_prof_' || number, 'tiktok', 'creator_' || number, 'Creator ' || number, 1000 + number, 50,
                   'PUBLIC', 'BULK_IMPORT'
            from unnest($1::uuid[]) with ordinality as new (id, number)
            ",
            &ids,
        )
        .execute(&database.pool)
        .await?;
        let mut scene = Self {
            folder: server.folder().to_owned(),
            database,
            keyring,
            influencers,
            processes: Vec::new(),
            requests: args.requests.into(),
            partners: 0,
        };
        scene.start(args.processes.into()).await?;
        Ok(scene)
    }

    async fn start(&mut self, count: usize) -> anyhow::Result<()> {
        for _ in 0..count {
            self.processes.push(start_api(&self.database.url, &self.keyring, &self.folder).await?);
        }
        Ok(())
    }

    async fn stop(&mut self) -> anyhow::Result<()> {
        try_join_all(self.processes.drain(..).map(Service::stop)).await?;
        Ok(())
    }

    async fn new_asker(&mut self) -> anyhow::Result<Asker> {
        self.partners += 1;
        let code = format!("partner-{}", self.partners);
        let door = Door { actor: Actor::System("bench"), request_id: None, keyring: &self.keyring };
        let new = NewPartner {
            rate_limit_per_minute: 1_000_000,
            ..NewPartner::of(&code, &code, SubscriptionTier::Premium)
        };
        let mut tx = db::begin(&self.database.pool).await?;
        let created = create(&mut tx, &door, new).await?;
        let change = SubscriptionChange { monthly_quota: Some(Some(QUOTA)), ..SubscriptionChange::default() };
        change_subscription(&mut tx, &door, created.partner.id, SubscriptionOrder::of(change, ZONE)).await?;
        tx.commit().await?;
        Ok(Asker { id: created.partner.id, code, key: created.key.api_key.expose().to_owned() })
    }

    /// All requests at once, and then what came of them.
    async fn ask_at_once(&mut self) -> anyhow::Result<Run> {
        let asker = self.new_asker().await?;
        let answers = self.ask(&asker, |_| Duration::ZERO).await?;
        self.check(&asker, &answers, 1).await
    }

    /// Requests around the turn of a month, to processes whose calendar is shortly before it.
    async fn ask_around_a_turn(&mut self) -> anyhow::Result<Run> {
        let asker = self.new_asker().await?;
        let count = self.processes.len();
        self.stop().await?;
        let now: DateTime<Utc> = sqlx::query_scalar!(r#"select clock_timestamp() as "now!""#)
            .fetch_one(&self.database.pool)
            .await?;
        let turn = QuotaMonth::at(now, ZONE).resets_at;
        let ahead = turn - now - TURN_IN;
        let set = format!(
            "alter database {} set millpond.calendar_offset = '{} milliseconds'",
            self.database.name,
            ahead.num_milliseconds()
        );
        raw_sql(AssertSqlSafe(set)).execute(&self.database.pool).await?;
        self.start(count).await?;
        let left = now + TURN_IN - kernel::clock::now();
        let left = left.to_std().ok().filter(|left| *left > AROUND);
        let left = left.context("the processes did not start before the turn")?;
        let first = left - AROUND;
        let requests = u32::try_from(self.requests)?;
        let when = move |number: usize| first + 2 * AROUND * u32::try_from(number).unwrap_or(0) / requests;
        let answers = self.ask(&asker, when).await?;
        self.check(&asker, &answers, 2).await
    }

    /// Sends every request after the time that it is given, each over a connection of its own.
    async fn ask(&self, asker: &Asker, after: impl Fn(usize) -> Duration) -> anyhow::Result<Vec<Answer>> {
        let mut rng = rand::rng();
        let asks = (0..self.requests).map(|number| {
            let mut ids = BTreeSet::new();
            while ids.len() < ASKED {
                ids.insert(self.influencers[rng.random_range(0..POOL)].to_string());
            }
            let body = serde_json::json!({ "influencerIds": ids }).to_string();
            let request = format!(
                "POST /api/v1/partners/pool/request HTTP/1.1\r\nhost: api\r\nx-partner-id: {}\r\nx-api-key: {}\r\n\
                 content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                asker.code,
                asker.key,
                body.len()
            );
            let address = self.processes[number % self.processes.len()].address;
            let wait = after(number);
            async move {
                tokio::time::sleep(wait).await;
                let mut client = Client::new(address);
                let (status, body) = client.ask(request.as_bytes()).await?;
                let text = String::from_utf8_lossy(body);
                ensure!(matches!(status, 200 | 403), "answered {status}: {text}");
                let answer: Answer = serde_json::from_str(&text).with_context(|| text.into_owned())?;
                anyhow::Ok(answer)
            }
        });
        try_join_all(asks.collect::<Vec<_>>()).await
    }

    /// Holds the answers against what is on the record.
    async fn check(&self, asker: &Asker, answers: &[Answer], months: u32) -> anyhow::Result<Run> {
        let mut run = Run { answers: answers.len(), ..Run::default() };
        let mut fault = |what: String| run.faults.push(format!("{}: {what}", asker.code));
        let mut told: BTreeMap<DateTime<Utc>, BTreeSet<&str>> = BTreeMap::new();
        for answer in answers {
            if answer.approved.len() + answer.denied.len() != ASKED {
                fault(format!("an answer about {} of {ASKED}", answer.approved.len() + answer.denied.len()));
            }
            if answer.quota.used > QUOTA {
                fault(format!("an answer says that {} are used", answer.quota.used));
            }
            let of_month = told.entry(answer.quota.resets_at).or_default();
            of_month.extend(answer.approved.iter().map(|one| one.id.as_str()));
        }
        let rows = raw_sql(AssertSqlSafe(format!(
            "select m.charged, m.adjusted,
                    (select count(*) from influencer_request_items i
                     where i.tenant_id = m.tenant_id and i.month = m.month and i.is_charged) as items,
                    (select count(distinct i.influencer_id) from influencer_request_items i
                     where i.tenant_id = m.tenant_id and i.month = m.month and i.outcome = 'approved') as approved,
                    (select count(*) from webhook_events e where e.tenant_id = m.tenant_id
                       and e.event_type = 'quota.warning' and e.data ->> 'month' = to_char(m.month, 'YYYY-MM')) as warned,
                    (select count(*) from webhook_events e where e.tenant_id = m.tenant_id
                       and e.event_type = 'quota.exhausted' and e.data ->> 'month' = to_char(m.month, 'YYYY-MM')) as told
             from partner_quota_months m where m.tenant_id = '{}' order by m.month",
            asker.id.uuid()
        )))
        .fetch_all(&self.database.pool)
        .await?;
        // The month in which the quota was set has a row, and no request of the second part.
        let rows: Vec<_> = rows.iter().filter(|row| row.get::<i64, _>("items") > 0).collect();
        if rows.len() != told.len() || rows.len() != months as usize {
            fault(format!("{} months on the record, {} in the answers, of {months}", rows.len(), told.len()));
        }
        for (row, (month, ids)) in rows.iter().zip(&told) {
            let charged = (row.get::<i32, _>("charged"), row.get::<i32, _>("adjusted"));
            let counts = ["items", "approved", "warned", "told"].map(|name| row.get::<i64, _>(name));
            let quota = i64::from(QUOTA);
            if charged != (QUOTA.cast_signed(), 0)
                || counts != [quota, quota, 1, 1]
                || ids.len() != QUOTA as usize
            {
                fault(format!(
                    "the month to {month}: charged {charged:?}; items, approved, warned, told {counts:?}; {} in answers",
                    ids.len()
                ));
            }
            run.events += 2;
        }
        let stored: i64 = sqlx::query_scalar!(
            r#"select count(*) as "count!" from influencer_requests where tenant_id = $1"#,
            asker.id.uuid()
        )
        .fetch_one(&self.database.pool)
        .await?;
        if stored != i64::try_from(answers.len())? {
            run.faults.push(format!("{}: {stored} requests on the record of {}", asker.code, answers.len()));
        }
        run.months = months;
        Ok(run)
    }
}

fn report(parts: &[Part; 2], json: bool) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if json {
        let parts: Vec<_> = parts
            .iter()
            .map(|part| {
                serde_json::json!({
                    "part": part.name, "runs": part.runs, "months": part.months, "answers": part.answers,
                    "approvedEachMonth": QUOTA, "events": part.events, "faults": part.faults,
                })
            })
            .collect();
        writeln!(out, "{}", serde_json::to_string_pretty(&parts)?)?;
    } else {
        let mut table = Table::new();
        table.load_style(UTF8_FULL_CONDENSED);
        table.set_header([
            "requests at once",
            "runs",
            "answers",
            "months",
            "approved in each",
            "events",
            "faults",
        ]);
        for part in parts {
            let approved = if part.faults.is_empty() { QUOTA.to_string() } else { "see faults".to_owned() };
            table.add_row([
                part.name.to_owned(),
                part.runs.to_string(),
                part.answers.to_string(),
                part.months.to_string(),
                approved,
                part.events.to_string(),
                part.faults.len().to_string(),
            ]);
        }
        writeln!(out, "{table}")?;
    }
    let faults: Vec<&String> = parts.iter().flat_map(|part| &part.faults).collect();
    for fault in faults.iter().take(20) {
        writeln!(out, "{fault}")?;
    }
    ensure!(faults.is_empty(), "{} faults", faults.len());
    Ok(())
}
