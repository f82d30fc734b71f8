//! `/api/v1/ops/…`: what operators see and do, over real rows.

mod bulk;
mod events;
mod jobs;
mod steering;
mod users;

use identity::Role;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use super::answer::Answer;
use crate::support::person::TestPerson;
use crate::support::{TestApi, TestDb, TestPartner};

/// The API, somebody of each role, and a partner.
pub struct OpsStage {
    pub db: TestDb,
    pub api: TestApi,
    pub viewer: TestPerson,
    pub operator: TestPerson,
    pub admin: TestPerson,
    pub partner: TestPartner,
}

impl OpsStage {
    pub async fn new() -> Self {
        let db = TestDb::new().await;
        let api = TestApi::start(&db).await;
        Self {
            viewer: TestPerson::create(&db, Role::Viewer).await,
            operator: TestPerson::create(&db, Role::Operator).await,
            admin: TestPerson::create(&db, Role::Admin).await,
            partner: TestPartner::create(&db, "techcombank").await,
            api,
            db,
        }
    }

    /// A request of the admin.
    pub fn ask(&self, method: Method, path: &str) -> RequestBuilder {
        self.admin.sign(self.api.request(method, &format!("/api/v1/ops/{path}")))
    }

    /// The data that the admin reads.
    pub async fn read(&self, path: &str) -> Value {
        Answer::to(self.ask(Method::GET, path)).await.expect(200)["data"].clone()
    }

    /// What the admin's POST comes to.
    pub async fn post(&self, path: &str, body: Value) -> Answer {
        Answer::to(self.ask(Method::POST, path).json(&body)).await
    }

    /// The entries that an action left, the oldest first.
    pub async fn audited(&self, action: &str) -> Vec<Value> {
        self.read(&format!("audit?action={action}&sort=at")).await.as_array().unwrap().clone()
    }

    /// A partner's request for a profile.
    pub async fn enrich(&self, handle: &str) -> String {
        let body = json!({ "url": super::stage::profile(handle) });
        let request = self.api.request_as(&self.partner, Method::POST, super::stage::ENRICH).json(&body);
        super::stage::accepted(request).await
    }
}

#[tokio::test]
async fn every_list_is_read_as_a_page_and_as_a_file() {
    let stage = OpsStage::new().await;
    for list in
        ["queues", "jobs", "dead", "limits", "schedules", "workers", "tenants", "history", "users", "audit"]
    {
        let page = Answer::to(stage.ask(Method::GET, &format!("{list}?limit=1"))).await.expect(200);
        assert!(page["data"].is_array(), "{list}: {page}");
        assert_eq!(page["pagination"]["limit"], 1, "{list}");
        let file = Answer::to(stage.ask(Method::GET, &format!("{list}?format=csv"))).await;
        assert_eq!(file.status, 200, "{list}: {}", file.text());
        assert_eq!(file.header("content-type"), Some("text/csv; charset=utf-8"), "{list}");
        let columns = file.text().lines().next().unwrap().split(',').count();
        assert!(columns > 3, "{list}: {}", file.text());
        let wrong = Answer::to(stage.ask(Method::GET, &format!("{list}?limit=0&sort=nothing&x=1"))).await;
        let fields: Vec<String> = wrong.faults().into_iter().map(|(field, _)| field).collect();
        assert_eq!(fields, ["limit", "sort", "x"], "{list}");
        let cursor = Answer::to(stage.ask(Method::GET, &format!("{list}?cursor=AAAA"))).await;
        assert_eq!(cursor.faults()[0].0, "cursor", "{list}");
    }
}

#[tokio::test]
async fn the_audit_log_is_read_by_who_what_and_request() {
    let stage = OpsStage::new().await;
    let pause = stage.operator.sign(stage.api.request(Method::POST, "/api/v1/ops/queues/enrich/pause"));
    Answer::to(pause.header("x-request-id", "mine-1").json(&json!({}))).await.expect(200);
    let entries = stage.read("audit?requestId=mine-1").await;
    assert_eq!(entries.as_array().unwrap().len(), 1);
    let entry = &entries[0];
    assert_eq!(entry["actor"], stage.operator.id.to_string());
    assert_eq!(entry["action"], "queues.pause");
    assert_eq!((&entry["before"]["isPaused"], &entry["after"]["isPaused"]), (&json!(false), &json!(true)));
    // Addresses of people stand as digests.
    let log = stage.read("audit?action=users.").await.to_string();
    assert!(log.contains("users.create") && !log.contains("example.com"), "{log}");
}
