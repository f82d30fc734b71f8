//! A partner with wishes, a sandbox for vendor and receiver, and a kit that runs jobs when the test says so.

use std::time::Duration;

use db::Pool;
use jobs::Door;
pub use jobs::maintenance::PruneJobs;
pub use jobs::profiles::{Enrich, Fetch};
use jobs::profiles::{NewEnrich, request_enrich};
pub use jobs::webhooks::Deliver;
use kernel::ids::{DeliveryId, JobId, TenantId};
use kernel::profile_url::ProfileUrl;
use outbound::{OutboundClient, OutboundSettings};
use queue::{AttemptError, Cancelled, Job, JobRecord, JobStatus, ListFilter};
use sandbox::{Sandbox, SandboxOptions};
use serde_json::{Value, json};
use uuid::Uuid;
use vendors::meter::{Meter, MeterSettings};

use crate::support::{JobKit, SandboxControls, Services, TestPartner, door, keyring, sandbox};

pub const ENRICH: &str = Enrich::KIND;
pub const FETCH: &str = Fetch::KIND;
pub const DELIVER: &str = Deliver::KIND;
pub const PRUNE: &str = PruneJobs::KIND;

/// A profile that the sandbox knows, as everything else that does not begin with `private` or `missing`.
pub const AMY: &str = "https://www.tiktok.com/@amy.codes";

/// Everything around one test.
pub struct Stage {
    pub kit: JobKit,
    pub sandbox: Sandbox,
    pub controls: SandboxControls,
    pub partner: TestPartner,
}

impl Stage {
    pub async fn new() -> Self {
        Self::with(|_, _| {}).await
    }

    /// With services of other settings.
    pub async fn with(change: impl FnOnce(&mut Services, &Sandbox)) -> Self {
        let sandbox = sandbox().await;
        let kit = JobKit::of(jobs::ALL, |services| {
            services.meter = meter(&sandbox.meter_url(), Duration::from_secs(5));
            change(services, &sandbox);
        })
        .await;
        let partner = TestPartner::create(&kit.db, "techcombank").await;
        Self { controls: SandboxControls::of(&sandbox), kit, sandbox, partner }
    }

    /// With a vendor that may take this long and no longer.
    pub async fn with_meter_timeout(timeout: Duration) -> Self {
        Self::with(|services, sandbox| services.meter = meter(&sandbox.meter_url(), timeout)).await
    }

    /// With receivers that may take this long and no longer.
    pub async fn with_receiver_timeout(timeout: Duration) -> Self {
        Self::with(|services, _| {
            let settings = OutboundSettings { timeout, allow_loopback: true, ..OutboundSettings::default() };
            services.outbound = OutboundClient::new(settings).unwrap();
        })
        .await
    }

    pub fn pool(&self) -> &Pool {
        self.kit.db.pool()
    }

    /// The partner's wish for a profile, to be told of in an inbox if one is named.
    pub async fn ask(&self, url: &str, inbox: Option<&str>) -> Asked {
        self.ask_as(&self.partner, url, inbox).await
    }

    /// Another partner's wish.
    pub async fn ask_as(&self, partner: &TestPartner, url: &str, inbox: Option<&str>) -> Asked {
        self.ask_telling(partner, url, inbox.map(|inbox| self.sandbox.inbox_url(inbox))).await
    }

    /// A wish whose end is told to any address, also to one that the API would refuse.
    pub async fn ask_telling(&self, partner: &TestPartner, url: &str, callback_url: Option<String>) -> Asked {
        let profile = ProfileUrl::parse(url).unwrap();
        let door = Door { request_id: Some("req-42".to_owned()), ..door() };
        let new = NewEnrich { partner: partner.id, profile, callback_url, trace: None };
        let mut tx = db::begin(self.pool()).await.unwrap();
        let job = request_enrich(&mut tx, &door, new).await.unwrap();
        tx.commit().await.unwrap();
        Asked { tenant: partner.tenant(), job }
    }

    /// A wish that was called off, so that its end can be told at once.
    pub async fn ended_telling(&self, callback_url: String) -> Asked {
        let asked = self.ask_telling(&self.partner, AMY, Some(callback_url)).await;
        assert!(matches!(self.cancel(asked.tenant, asked.job).await, Cancelled::Now { .. }));
        asked
    }

    /// The same, told in an inbox of the sandbox.
    pub async fn ended(&self, inbox: &str) -> Asked {
        self.ended_telling(self.sandbox.inbox_url(inbox)).await
    }

    /// Asks for a profile and has it crawled.
    pub async fn crawled(&self, url: &str) -> Asked {
        let asked = self.ask(url, None).await;
        self.kit.run_one::<Enrich>().await;
        let fetch = self.kit.run_one::<Fetch>().await;
        assert_eq!(fetch.status, JobStatus::Completed, "{fetch:?}");
        asked
    }

    /// Makes every crawl so far older.
    pub async fn age_crawls(&self, hours: f64) {
        sqlx::query!(
            "update pool_crawls set crawled_at = crawled_at - make_interval(secs => $1)",
            hours * 3_600.0
        )
        .execute(self.pool())
        .await
        .unwrap();
    }

    pub async fn cancel(&self, tenant: TenantId, job: JobId) -> Cancelled {
        let mut tx = db::begin(self.pool()).await.unwrap();
        let cancelled = queue::cancel(&mut tx, tenant, job, "a test").await.unwrap();
        tx.commit().await.unwrap();
        cancelled
    }

    /// Lets a job's delay be over.
    pub async fn make_due(&self, job: JobId) {
        let due = sqlx::query!(
            "update jobs set run_at = now() where id = $1 and state in ('ready', 'scheduled')",
            job.uuid()
        );
        assert_eq!(
            due.execute(self.pool()).await.unwrap().rows_affected(),
            1,
            "{job} does not wait for its time"
        );
    }

    /// A wish's job as its owner sees it.
    pub async fn record(&self, asked: Asked) -> JobRecord {
        self.kit.record(asked.tenant, asked.job).await
    }

    /// Every fetch there ever was, the newest first.
    pub async fn fetches(&self) -> Vec<JobRecord> {
        let filter = ListFilter { kinds: vec![FETCH.to_owned()], ..ListFilter::default() };
        let mut conn = self.pool().acquire().await.unwrap();
        queue::list(&mut conn, &filter, 1_000).await.unwrap()
    }

    /// The one live or finished fetch.
    pub async fn fetch(&self) -> JobRecord {
        let mut fetches = self.fetches().await;
        assert_eq!(fetches.len(), 1, "{fetches:?}");
        fetches.remove(0)
    }

    /// The delivery of a wish's end, with its attempts.
    pub async fn delivery(&self, asked: Asked) -> (webhooks::Delivery, Vec<webhooks::RecordedAttempt>) {
        let mut conn = self.pool().acquire().await.unwrap();
        let delivery = webhooks::get(&mut conn, asked.tenant, asked.delivery()).await.unwrap();
        let attempts = webhooks::list_attempts(&mut conn, asked.tenant, asked.delivery()).await.unwrap();
        (delivery.expect("the delivery is there"), attempts)
    }

    /// Has the meter answer every call with a fault.
    pub async fn vendor_fault(&self, fault: Value) {
        self.controls.faults(json!([{ "vendor": "meter", "fault": fault }])).await;
    }

    /// Has every receiver answer with a fault.
    pub async fn receiver_fault(&self, fault: Value) {
        self.controls.faults(json!([{ "vendor": "partner", "fault": fault }])).await;
    }

    /// Everything healthy again.
    pub async fn no_faults(&self) {
        self.controls.faults(json!([])).await;
    }
}

/// A wish that was stored.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    pub tenant: TenantId,
    pub job: JobId,
}

impl Asked {
    /// Its delivery, if it wanted one.
    pub fn delivery(self) -> DeliveryId {
        DeliveryId::from_uuid(self.job.derive("callback"))
    }

    /// The job that delivers.
    pub fn deliver_job(self) -> JobId {
        JobId::from_uuid(self.job.derive("callback job"))
    }
}

/// A client of the meter under a base address.
pub fn meter(base_url: &str, timeout: Duration) -> Meter {
    let token = SandboxOptions::default().token;
    Meter::new(MeterSettings { base_url: base_url.to_owned(), token, timeout }).unwrap()
}

/// The delay before a job's next attempt, counted from its last failure by the database's clock.
pub fn delay(job: &JobRecord) -> Duration {
    let failed: &AttemptError = job.errors.last().expect("it failed");
    (job.run_at.expect("it is live") - failed.at).to_std().unwrap()
}

/// The code of the job's failure.
pub fn failure_code(job: &JobRecord) -> &str {
    &job.failure.as_ref().expect("it failed").code
}

/// The profile in a finished job's result.
pub fn profile(job: &JobRecord) -> &Value {
    &job.result.as_ref().expect("it has a result")["profile"]
}

/// The pool's id in a finished job's result.
pub fn pool_id(job: &JobRecord) -> Uuid {
    let id = profile(job)["poolInfluencerId"].as_str().expect("an id");
    id.parse::<kernel::ids::InfluencerId>().expect("a pool id").uuid()
}

/// The rows of the pool.
pub async fn pool_entries(stage: &Stage) -> i64 {
    sqlx::query_scalar!(r#"select count(*) as "count!" from pool_influencers"#)
        .fetch_one(stage.pool())
        .await
        .unwrap()
}

/// Opens what is sealed in a column of the pool.
pub fn opened(sealed: &[u8], column: &'static str, row: Uuid) -> String {
    let place = kernel::sealing::SealContext { table: "pool_influencers", column, owner: Uuid::nil(), row };
    String::from_utf8(keyring().open(sealed, &place).unwrap()).unwrap()
}
