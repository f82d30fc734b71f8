//! Who may do what, and what of it is on the record: every operation of the OpenAPI document, asked by everybody.
//!
//! Nothing here lists operations but [`samples`], which says how each is asked well; an operation without a sample, without a role,
//! or open without being said to be, fails the test. So a new one cannot escape.

mod samples;

use std::collections::BTreeSet;

use identity::{Role, SessionKind, open_session};
use reqwest::{Method, RequestBuilder};
use serde_json::Value;

use crate::support::person::{TestPerson, session_of};
use crate::support::{ManualWorker, TestApi, TestDb, TestPartner, services, within};
use samples::Sample;

/// Operations that ask nobody who they are, and why that is right.
const OPEN: &[&str] = &[
    // Who signs in is nobody yet.
    "signIn",
    // Who forgot a password is nobody either; what tells them apart is who reads the mail.
    "askPasswordReset",
    "choosePassword",
    "beginSingleSignOn",
    "endSingleSignOn",
    // A new partner has no key yet; the code of its mail is its proof.
    "revealKey",
    // Probes and the collector of metrics have no account; both are kept to trusted networks.
    "isLive",
    "isReady",
    "metrics",
];

/// One of the document's operations.
struct Operation {
    id: String,
    method: Method,
    path: String,
    needs: Needs,
    statuses: BTreeSet<u16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    Nothing,
    Partner,
    Person(Role),
}

impl Operation {
    /// All of them, as the document has them.
    fn all(document: &Value) -> Vec<Self> {
        let paths = document["paths"].as_object().expect("paths");
        let of_path = |(path, item): (&String, &Value)| {
            let operations = item.as_object().expect("operations").iter();
            operations.map(|(method, operation)| Self::of(path, method, operation)).collect::<Vec<_>>()
        };
        paths.iter().flat_map(of_path).collect()
    }

    fn of(path: &str, method: &str, operation: &Value) -> Self {
        let id = operation["operationId"].as_str().expect("an id").to_owned();
        let schemes: Vec<BTreeSet<&str>> = operation["security"]
            .as_array()
            .map(|all| all.iter().map(|one| one.as_object().unwrap().keys().map(String::as_str).collect()))
            .into_iter()
            .flatten()
            .collect();
        let role = operation["x-required-role"].as_str();
        let needs = match (schemes.as_slice(), role) {
            ([], None) => Needs::Nothing,
            ([one], None) if *one == BTreeSet::from(["apiKey", "partnerId"]) => Needs::Partner,
            ([one, other], Some(role))
                if *one == BTreeSet::from(["session"]) && *other == BTreeSet::from(["bearer"]) =>
            {
                Needs::Person(role.parse().expect("a role"))
            }
            _ => {
                panic!("{id}: neither open, nor for partners, nor for people of a role: {schemes:?} {role:?}")
            }
        };
        assert_eq!(needs == Needs::Nothing, OPEN.contains(&id.as_str()), "{id} is open, or said to be");
        let statuses = operation["responses"].as_object().expect("responses").keys();
        let statuses = statuses.map(|status| status.parse().expect("a status")).collect();
        let method = method.to_uppercase().parse().expect("a method");
        Self { id, method, path: path.to_owned(), needs, statuses }
    }
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asker {
    Nobody,
    Partner,
    /// With a session of their own.
    Person(Role, SessionKind),
    /// An admin's browser, made to ask by another site.
    Lured,
    /// With an admin's session that somebody copied before the admin signed out.
    Thief(SessionKind),
}

const ASKERS: [Asker; 11] = [
    Asker::Nobody,
    Asker::Partner,
    Asker::Thief(SessionKind::Cookie),
    Asker::Thief(SessionKind::Token),
    Asker::Lured,
    Asker::Person(Role::Viewer, SessionKind::Cookie),
    Asker::Person(Role::Viewer, SessionKind::Token),
    Asker::Person(Role::Operator, SessionKind::Cookie),
    Asker::Person(Role::Operator, SessionKind::Token),
    Asker::Person(Role::Admin, SessionKind::Cookie),
    Asker::Person(Role::Admin, SessionKind::Token),
];

/// What must come of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    Done,
    Refused(u16),
    /// Open operations answer as they see fit.
    Documented,
}

fn due(operation: &Operation, asker: Asker) -> Due {
    match (operation.needs, asker) {
        (Needs::Nothing, _) => Due::Documented,
        (Needs::Partner, Asker::Partner) => Due::Done,
        (Needs::Person(role), Asker::Person(has, _)) if has >= role => Due::Done,
        (Needs::Person(_), Asker::Person(..)) => Due::Refused(403),
        (Needs::Person(_), Asker::Lured) if operation.method == Method::GET => Due::Done,
        (Needs::Person(_), Asker::Lured) => Due::Refused(403),
        _ => Due::Refused(401),
    }
}

/// Everybody and everything that samples need.
pub struct World {
    db: TestDb,
    api: TestApi,
    partner: TestPartner,
    viewer: TestPerson,
    operator: TestPerson,
    admin: TestPerson,
    stolen: [(SessionKind, String); 2],
    worker: ManualWorker,
}

impl World {
    async fn made() -> Self {
        let db = TestDb::new().await;
        let api = TestApi::start(&db).await;
        let partner = TestPartner::create(&db, "techcombank").await;
        let admin = TestPerson::create(&db, Role::Admin).await;
        let mut stolen = Vec::new();
        for kind in [SessionKind::Cookie, SessionKind::Token] {
            let secret = opened(&db, &admin, kind).await;
            let request = api.request(Method::DELETE, "/api/v1/session");
            let request = signed(request, kind, &secret).header("sec-fetch-site", "same-origin");
            assert_eq!(request.send().await.unwrap().status().as_u16(), 200);
            stolen.push((kind, secret));
        }
        let services = std::sync::Arc::new(services(db.connect_more(4), None));
        Self {
            viewer: TestPerson::create(&db, Role::Viewer).await,
            operator: TestPerson::create(&db, Role::Operator).await,
            worker: ManualWorker::register(services, jobs::ALL).await,
            stolen: stolen.try_into().expect("two"),
            db,
            api,
            partner,
            admin,
        }
    }

    fn person(&self, role: Role) -> &TestPerson {
        match role {
            Role::Viewer => &self.viewer,
            Role::Operator => &self.operator,
            Role::Admin => &self.admin,
        }
    }

    /// Whose own things a sample is about.
    fn about(&self, asker: Asker) -> &TestPerson {
        match asker {
            Asker::Person(role, _) => self.person(role),
            _ => &self.admin,
        }
    }

    /// The request as the asker sends it; each time with a session of its own, for some requests end theirs.
    async fn request(&self, operation: &Operation, sample: &Sample, asker: Asker) -> RequestBuilder {
        let path = sample.fill(&operation.path);
        let mut request = self.api.request(operation.method.clone(), &path);
        if let Some(body) = &sample.body {
            request = request.json(body);
        }
        match asker {
            Asker::Nobody => request,
            Asker::Partner => self.partner.sign(request),
            Asker::Person(role, kind) => {
                let secret = opened(&self.db, self.person(role), kind).await;
                signed(request, kind, &secret).header("sec-fetch-site", "same-origin")
            }
            Asker::Lured => {
                let secret = opened(&self.db, &self.admin, SessionKind::Cookie).await;
                signed(request, SessionKind::Cookie, &secret)
                    .header("sec-fetch-site", "cross-site")
                    .header("origin", "https://evil.example")
            }
            Asker::Thief(kind) => {
                let (_, secret) = self.stolen.iter().find(|(stolen, _)| *stolen == kind).expect("stolen");
                signed(request, kind, secret).header("sec-fetch-site", "same-origin")
            }
        }
    }

    /// The audit log's entries, the oldest first: who, and in which request.
    async fn entries(&self) -> Vec<(String, Option<String>)> {
        sqlx::query_as("select actor, request_id from audit_log order by at, id")
            .fetch_all(self.db.pool())
            .await
            .unwrap()
    }

    async fn entry_count(&self) -> i64 {
        sqlx::query_scalar("select count(*) from audit_log").fetch_one(self.db.pool()).await.unwrap()
    }
}

async fn opened(db: &TestDb, person: &TestPerson, kind: SessionKind) -> String {
    let mut conn = db.pool().acquire().await.unwrap();
    open_session(&mut conn, person.id, kind).await.unwrap().secret.expose().to_owned()
}

fn signed(request: RequestBuilder, kind: SessionKind, secret: &str) -> RequestBuilder {
    match kind {
        SessionKind::Cookie => request.header("cookie", format!("{}={secret}", api::extract::person::COOKIE)),
        SessionKind::Token => request.bearer_auth(secret),
    }
}

/// What was answered; a stream is not read.
struct Said {
    status: u16,
    request_id: String,
    text: String,
}

async fn said(request: RequestBuilder) -> Said {
    let answer = async {
        let answer = request.send().await.expect("an answer");
        let header = |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        let request_id = header("x-request-id").expect("it is named");
        let is_stream = header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream"));
        let status = answer.status().as_u16();
        let text = if is_stream { String::new() } else { answer.text().await.expect("its text") };
        Said { status, request_id, text }
    };
    within("an answer", answer).await
}

/// Asks, and checks what came of it and what is on the record.
async fn check(world: &World, operation: &Operation, asker: Asker, faults: &mut Vec<String>) {
    let sample = samples::of(world, &operation.id, world.about(asker)).await;
    let request = world.request(operation, &sample, asker).await;
    let before = world.entry_count().await;
    let said = said(request).await;
    let entries = world.entries().await;
    let new = &entries[usize::try_from(before).unwrap()..];
    let mut fault = |what: String| {
        faults.push(format!("{} {} as {asker:?}: {what}: {}", operation.method, operation.path, said.text));
    };
    let is_done = (200..400).contains(&said.status);
    let due = due(operation, asker);
    let fits = match due {
        Due::Done => is_done,
        Due::Refused(status) => said.status == status,
        Due::Documented => said.status < 500,
    };
    if !fits || !operation.statuses.contains(&said.status) {
        fault(format!("answered {} where {due:?} is due, of {:?}", said.status, operation.statuses));
    }
    let entries_due = usize::from(is_done && operation.method != Method::GET);
    if new.len() != entries_due {
        fault(format!("{} entries in the audit log after {}: {new:?}", new.len(), said.status));
    }
    for (actor, request_id) in new {
        let is_asker = match asker {
            // Nobody knows who forgot a password before they read their mail.
            _ if operation.id == "askPasswordReset" => actor == "password-reset",
            // Whoever signs in is that person by then.
            _ if operation.needs == Needs::Nothing => *actor == world.viewer.id.to_string(),
            Asker::Partner => *actor == world.partner.id.to_string(),
            Asker::Person(role, _) => *actor == world.person(role).id.to_string(),
            _ => false,
        };
        if !is_asker || request_id.as_deref() != Some(said.request_id.as_str()) {
            fault(format!("the entry is of {actor} in {request_id:?}, not in {}", said.request_id));
        }
    }
}

#[tokio::test]
async fn everybody_may_do_what_the_document_says_and_every_change_is_on_the_record() {
    let world = World::made().await;
    let document = said(world.api.request(Method::GET, "/api-docs/openapi.json")).await;
    let operations = Operation::all(&serde_json::from_str(&document.text).unwrap());
    assert!(operations.len() > 40, "{}", operations.len());
    let mut faults = Vec::new();
    for operation in &operations {
        for asker in ASKERS {
            check(&world, operation, asker, &mut faults).await;
        }
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[tokio::test]
async fn a_session_is_of_no_use_where_the_other_kind_belongs() {
    let db = TestDb::new().await;
    let api = TestApi::start(&db).await;
    let person = TestPerson::create(&db, Role::Admin).await;
    assert!(session_of(&db, &person.cookie).await.is_none());
    for (kind, secret) in [(SessionKind::Cookie, &person.token), (SessionKind::Token, &person.cookie)] {
        let request = signed(api.request(Method::GET, "/api/v1/session"), kind, secret);
        assert_eq!(said(request).await.status, 401, "{kind:?}");
    }
    // Both at once: the token counts, and a bad one is not made good by the cookie beside it.
    let request = signed(api.request(Method::GET, "/api/v1/session"), SessionKind::Cookie, &person.cookie);
    assert_eq!(said(request.bearer_auth("wrong")).await.status, 401);
}
