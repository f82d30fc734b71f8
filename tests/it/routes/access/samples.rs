//! How each operation is asked so that it can be done: what must be there before, and the request's parts.

use std::sync::atomic::{AtomicUsize, Ordering};

use ::jobs::profiles::{Enrich, Fetch, meter_limits};
use ::jobs::{email::SendEmail, people};
use identity::{Email, NewPerson, Role, SessionKind, open_session};
use kernel::ids::{JobId, TenantId};
use kernel::profile_url::ProfileUrl;
use queue::{Job, JobError, NewJob};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;
use uuid::Uuid;

use super::World;
use crate::routes::stage::profile;
use crate::support::creators::{crawl, creators};
use crate::support::person::{PASSWORD, TestPerson, operator_door};
use crate::support::{ManualWorker, TestPartner, keyring};

/// The parts of a request.
#[derive(Default)]
pub struct Sample {
    /// What stands in the path's one gap.
    pub gap: Option<String>,
    /// The query, without its question mark.
    pub query: &'static str,
    /// The body.
    pub body: Option<Value>,
}

impl Sample {
    /// The path with its gap filled and the query.
    pub fn fill(&self, path: &str) -> String {
        let filled = match (path.split_once('{'), &self.gap) {
            (Some((before, after)), Some(gap)) => {
                format!("{before}{gap}{}", after.split_once('}').expect("an end").1)
            }
            (None, None) => path.to_owned(),
            _ => panic!("the sample does not fit {path}"),
        };
        if self.query.is_empty() { filled } else { format!("{filled}?{}", self.query) }
    }

    /// The same about something that does not exist.
    pub fn made_up(&self) -> Self {
        let gap = self.gap.as_ref().expect("an id");
        let (kind, _) =
            gap.rsplit_once('_').unwrap_or_else(|| panic!("{gap} is no id: say here how one is made up"));
        Self { gap: Some(format!("{kind}_{}", "0".repeat(26))), query: self.query, body: self.body.clone() }
    }
}

fn plain() -> Sample {
    Sample::default()
}

fn gap(gap: impl ToString) -> Sample {
    Sample { gap: Some(gap.to_string()), ..Sample::default() }
}

fn body(body: Value) -> Sample {
    Sample { body: Some(body), ..Sample::default() }
}

/// A request that its asker can expect to be carried out. `me` is the asker, where they are a person, and `us` the asker,
/// where it is a partner.
pub async fn of(world: &World, operation: &str, me: &TestPerson, us: &TestPartner) -> Sample {
    match operation {
        "isLive" | "isReady" | "metrics" | "listJobs" | "getSession" | "signOut" | "listSessions" => plain(),
        "beginSingleSignOn" => plain(),
        "endSingleSignOn" => Sample { query: "state=x&code=y", ..plain() },
        "signIn" => body(json!({ "email": world.viewer.email, "password": PASSWORD })),
        "askPasswordReset" => body(json!({ "email": format!("{}@example.com", unused("forgetful")) })),
        "choosePassword" => body(json!({ "code": "mpr_", "password": PASSWORD })),
        "revealKey" => body(json!({ "code": "mpo_" })),
        "changePassword" => body(json!({ "current": PASSWORD, "password": PASSWORD })),
        "endSession" => gap(another_session(world, me).await),
        "getQuota" | "getSubscription" | "searchPool" => plain(),
        "requestInfluencers" => {
            let found = creators(&world.db, [crawl(&unused("creator"))]).await;
            body(json!({ "influencerIds": found }))
        }
        "listPartners" | "listSubscriptions" => plain(),
        "showPartner" | "listSubscriptionHistory" | "listPartnerRequests" | "showPartnerUsage" => {
            gap(&world.partners.victim.code)
        }
        "notifyPartner" => Sample {
            gap: Some(world.partners.victim.code.clone()),
            ..body(json!({ "subject": "Hello", "message": "there" }))
        },
        "listPool" => plain(),
        "changePoolInfluencer" => Sample {
            gap: Some(creators(&world.db, [crawl(&unused("creator"))]).await[0].to_string()),
            ..body(json!({ "visibility": "PRIVATE" }))
        },
        "previewBulkVisibility" => Sample { query: "visibility=PRIVATE&category=food", ..plain() },
        "changeBulkVisibility" => {
            let named = creators(&world.db, [crawl(&unused("creator"))]).await;
            body(json!({ "visibility": "PRIVATE", "influencerIds": named }))
        }
        "createPartner" => body(json!({ "code": unused("partner").to_lowercase(), "name": "A partner" })),
        "changePartner" => {
            Sample { gap: Some(world.partners.victim.id.to_string()), ..body(json!({ "name": "T" })) }
        }
        "changeSubscription" => {
            Sample { gap: Some(world.partners.victim.code.clone()), ..body(json!({ "tier": "premium" })) }
        }
        "addPartnerKey" => Sample { gap: Some(another_partner(world).await.code), ..body(json!({})) },
        "regeneratePartnerKey" => Sample { gap: Some(another_partner(world).await.code), ..body(json!({})) },
        "revokePartnerKey" => {
            let partner = another_partner(world).await;
            let key = partner.key_id(&world.db).await;
            Sample { gap: Some(partner.code), ..body(json!({ "keyId": key })) }
        }
        "enrichProfile" => body(json!({ "url": profile(&unused("asked")) })),
        "getJob" | "cancelJob" => gap(partners_job(world, us).await),
        "getOverview" | "listQueues" | "findJobs" | "countJobs" | "listDeadLetters" | "listLimits"
        | "listSchedules" | "listWorkers" | "listTenants" | "listUsers" | "getHistory" | "listAudit"
        | "previewBulk" | "listenToEvents" => plain(),
        "startBulk" => body(json!({ "action": "redrive", "filter": { "kinds": ["nothing.real"] } })),
        "showJob" | "callJobOff" => gap(queued_job(world).await),
        "retryJob" => gap(dead_job(world).await),
        "pauseQueue" => Sample { gap: Some("enrich".to_owned()), ..body(json!({})) },
        "resumeQueue" => {
            prepare(world, Method::POST, "/api/v1/ops/queues/enrich/pause", Some(json!({}))).await;
            Sample { gap: Some("enrich".to_owned()), ..body(json!({})) }
        }
        "setQueueConcurrency" => Sample { gap: Some("enrich".to_owned()), ..body(json!({ "max": 2 })) },
        "setLimit" => Sample { gap: Some("meter.calls".to_owned()), ..body(limit()) },
        "resetLimit" => {
            let (limits, without) = meter_limits(600, Duration::from_secs(60), 0);
            let mut conn = world.db.pool().acquire().await.unwrap();
            queue::limits::define(&mut conn, &limits, &without).await.unwrap();
            prepare(world, Method::PUT, "/api/v1/ops/limits/meter.calls", Some(limit())).await;
            gap("meter.calls")
        }
        "setSchedule" => Sample { gap: Some(unused("schedule")), ..body(schedule()) },
        "getSchedule" | "removeSchedule" | "pauseSchedule" | "runSchedule" => gap(a_schedule(world).await),
        "resumeSchedule" => {
            let name = a_schedule(world).await;
            prepare(world, Method::POST, &format!("/api/v1/ops/schedules/{name}/pause"), None).await;
            gap(name)
        }
        "quietWorker" | "resumeWorker" | "stopWorker" => gap(a_worker(world).await),
        "setShare" => {
            Sample { gap: Some(world.partners.victim.code.clone()), ..body(json!({ "weight": 3 })) }
        }
        "createUser" => body(json!({ "email": format!("{}@example.com", unused("new")), "role": "viewer" })),
        "getUser" => gap(world.viewer.id),
        "changeUser" => Sample { gap: Some(a_user(world).await), ..body(json!({ "role": "operator" })) },
        unknown => panic!("no sample of a request for {unknown}: say here how it is asked"),
    }
}

/// A name that nothing has yet.
fn unused(what: &str) -> String {
    static LAST: AtomicUsize = AtomicUsize::new(0);
    format!("{what}{}", LAST.fetch_add(1, Ordering::Relaxed))
}

/// Does something as an admin.
async fn prepare(world: &World, method: Method, path: &str, body: Option<Value>) {
    // The newest sessions of a person work, and here there are many.
    let token = super::opened(&world.db, &world.admin, SessionKind::Token).await;
    let mut request = world.api.request(method, path).bearer_auth(token);
    if let Some(body) = body {
        request = request.json(&body);
    }
    let answer = super::said(request).await;
    assert!((200..300).contains(&answer.status), "{path}: {}", answer.text);
}

fn limit() -> Value {
    json!({ "shape": "rate", "max": 500, "windowMs": 60_000 })
}

fn schedule() -> Value {
    json!({ "cron": "0 4 * * *", "kind": "maintenance.prune_jobs" })
}

async fn a_schedule(world: &World) -> String {
    let name = unused("schedule");
    prepare(world, Method::PUT, &format!("/api/v1/ops/schedules/{name}"), Some(schedule())).await;
    name
}

async fn another_session(world: &World, me: &TestPerson) -> String {
    let mut conn = world.db.pool().acquire().await.unwrap();
    open_session(&mut conn, me.id, SessionKind::Token).await.unwrap().id.to_string()
}

async fn a_user(world: &World) -> String {
    let keyring = keyring();
    let email = Email::parse(&format!("{}@example.com", unused("changed"))).unwrap();
    let mut tx = db::begin(world.db.pool()).await.unwrap();
    let new = NewPerson { email, role: Role::Viewer, password: None };
    let person = people::create(&mut tx, &operator_door(&keyring), new).await.unwrap();
    tx.commit().await.unwrap();
    person.id.to_string()
}

/// A worker process of its own.
async fn a_worker(world: &World) -> Uuid {
    ManualWorker::register(world.worker.services().clone(), &[]).await.process()
}

/// As if it had been asked for; the partner itself may no longer be allowed to.
async fn partners_job(world: &World, partner: &TestPartner) -> JobId {
    let profile = ProfileUrl::parse(&profile(&unused("wished"))).unwrap();
    let job = NewJob::of(&Enrich { profile }).unwrap().tenant(partner.tenant());
    let mut conn = world.db.pool().acquire().await.unwrap();
    queue::enqueue(&mut conn, job).await.unwrap().id()
}

fn fetch() -> NewJob {
    let profile = ProfileUrl::parse(&profile(&unused("fetched"))).unwrap();
    NewJob::of(&Fetch { profile, asked_by: None }).unwrap()
}

async fn queued_job(world: &World) -> JobId {
    let mut conn = world.db.pool().acquire().await.unwrap();
    queue::enqueue(&mut conn, fetch()).await.unwrap().id()
}

/// A job that nobody else here works at, failed for good.
async fn dead_job(world: &World) -> JobId {
    let args = SendEmail {
        about: "test".to_owned(),
        to: "amy@example.com".to_owned(),
        subject: "Hi".to_owned(),
        text: "there".to_owned(),
        of_use_until: None,
    };
    let mut conn = world.db.pool().acquire().await.unwrap();
    let job = NewJob::of(&args).unwrap().tenant(TenantId::SYSTEM).seal(&keyring());
    let job = queue::enqueue(&mut conn, job).await.unwrap().id();
    for claimed in world.worker.claim_all(SendEmail::KIND).await {
        world.worker.settle(&claimed, Err(JobError::fatal("TEST", "for the test"))).await;
    }
    job
}

/// One whose keys nobody else here needs.
async fn another_partner(world: &World) -> TestPartner {
    TestPartner::create(&world.db, &unused("partner").to_lowercase()).await
}
