//! Who may do what, and what of it is on the record: every operation of the OpenAPI document, asked by everybody.
//!
//! Nothing here lists operations but [`samples`], which says how each is asked well; an operation without a sample, without a role,
//! or open without being said to be, fails the test. So a new one cannot escape.

mod callers;
mod samples;

use std::collections::BTreeSet;

use identity::{Role, SessionKind, open_session};
use reqwest::{Method, RequestBuilder};
use serde_json::Value;

use crate::support::person::{TestPerson, session_of};
use crate::support::{ManualWorker, TestApi, TestDb, TestPartner, services, within};
use callers::{Barred, IMPOSTORS, Impostor, Partners};
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

/// What of a partner's things stays open to it when its subscription has expired (G-66); all else is closed, and a new
/// operation with it, until it is named here.
const OPEN_AFTER_EXPIRY: &[&str] = &["getQuota", "getSubscription", "listJobs", "getJob", "cancelJob"];

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asker {
    Nobody,
    /// About its own.
    Partner,
    /// Another partner, about its own.
    Stranger,
    /// The other partner, about what is not its own.
    Prying,
    /// With a partner's credentials that do not hold.
    Impostor(Impostor),
    /// With a partner's credentials that hold, but do not open everything.
    Barred(Barred),
    /// With a session of their own.
    Person(Role, SessionKind),
    /// An admin's browser, made to ask by another site.
    Lured,
    /// With an admin's session that somebody copied before the admin signed out.
    Thief(SessionKind),
}

const ASKERS: [Asker; 16] = [
    Asker::Nobody,
    Asker::Partner,
    Asker::Stranger,
    Asker::Prying,
    Asker::Barred(Barred::Inactive),
    Asker::Barred(Barred::Suspended),
    Asker::Barred(Barred::Expired),
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
    /// With this status and code, and this reason in the details where there is one.
    Refused(u16, &'static str, Option<&'static str>),
    /// Open operations answer as they see fit.
    Documented,
}

const UNAUTHORIZED: Due = Due::Refused(401, "UNAUTHORIZED", None);
const FORBIDDEN: Due = Due::Refused(403, "FORBIDDEN", None);

/// None: there is nothing to ask.
fn due(operation: &Operation, asker: Asker) -> Option<Due> {
    let has_id = operation.path.contains('{');
    Some(match (operation.needs, asker) {
        (_, Asker::Prying) if !has_id || operation.needs != Needs::Partner => return None,
        // Who they are is not looked at.
        (Needs::Nothing, Asker::Stranger | Asker::Barred(_)) => return None,
        (Needs::Nothing, Asker::Impostor(one)) if one != Impostor::WrongKey => return None,
        (Needs::Nothing, _) => Due::Documented,
        (Needs::Partner, Asker::Partner | Asker::Stranger) => Due::Done,
        (Needs::Partner, Asker::Prying) => Due::Refused(404, "NOT_FOUND", None),
        (Needs::Partner, Asker::Barred(Barred::Expired))
            if OPEN_AFTER_EXPIRY.contains(&operation.id.as_str()) =>
        {
            Due::Done
        }
        (Needs::Partner, Asker::Barred(barred)) => Due::Refused(403, "FORBIDDEN", Some(barred.reason())),
        (Needs::Person(role), Asker::Person(has, _)) if has >= role => Due::Done,
        (Needs::Person(_), Asker::Person(..)) => FORBIDDEN,
        (Needs::Person(_), Asker::Lured) if operation.method == Method::GET => Due::Done,
        (Needs::Person(_), Asker::Lured) => FORBIDDEN,
        _ => UNAUTHORIZED,
    })
}

/// Everybody and everything that samples need.
pub struct World {
    db: TestDb,
    api: TestApi,
    partners: Partners,
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
        let partners = Partners::made(&db, &api).await;
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
            partners,
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

    /// Whose own things a sample is about: of people, and of partners.
    fn about(&self, asker: Asker) -> (&TestPerson, &TestPartner) {
        let partners = &self.partners;
        match asker {
            Asker::Person(role, _) => (self.person(role), &partners.victim),
            Asker::Stranger => (&self.admin, &partners.stranger),
            Asker::Barred(barred) => (&self.admin, partners.barred(barred)),
            _ => (&self.admin, &partners.victim),
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
            Asker::Partner => self.partners.victim.sign(request),
            Asker::Stranger | Asker::Prying => self.partners.stranger.sign(request),
            Asker::Barred(barred) => self.partners.barred(barred).sign(request),
            Asker::Impostor(impostor) => self.partners.sign_as(request, impostor),
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

    /// The audit log's entries after so many, the oldest first: who, and in which request.
    async fn entries(&self, after: i64) -> Vec<(String, Option<String>)> {
        sqlx::query_as("select actor, request_id from audit_log order by at, id offset $1")
            .bind(after)
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
    rate: Option<String>,
    text: String,
}

impl Said {
    /// The error's code, and the codes of its details.
    fn error(&self) -> (String, Vec<String>) {
        let body: Value = serde_json::from_str(&self.text).unwrap_or_default();
        let code = |error: &Value| error["code"].as_str().unwrap_or_default().to_owned();
        let details = body["error"]["details"].as_array().map(|all| all.iter().map(code).collect());
        (code(&body["error"]), details.unwrap_or_default())
    }
}

async fn said(request: RequestBuilder) -> Said {
    let answer = async {
        let answer = request.send().await.expect("an answer");
        let header = |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        let request_id = header("x-request-id").expect("it is named");
        let rate = header("ratelimit");
        let is_stream = header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream"));
        let status = answer.status().as_u16();
        let text = if is_stream { String::new() } else { answer.text().await.expect("its text") };
        Said { status, request_id, rate, text }
    };
    within("an answer", answer).await
}

/// Asks, and checks what came of it and what is on the record. `idle` is a sample that nothing has come of yet.
async fn check(world: &World, operation: &Operation, asker: Asker, idle: &Sample, faults: &mut Vec<String>) {
    let Some(due) = due(operation, asker) else { return };
    let own;
    let sample = match due {
        // What is refused changes nothing, so that all may ask for the same.
        Due::Refused(..) => idle,
        Due::Done | Due::Documented => {
            let (person, partner) = world.about(asker);
            own = samples::of(world, &operation.id, person, partner).await;
            &own
        }
    };
    let request = world.request(operation, sample, asker).await;
    let before = world.entry_count().await;
    let said = said(request).await;
    let new = world.entries(before).await;
    let mut fault = |what: String| {
        faults.push(format!("{} {} as {asker:?}: {what}: {}", operation.method, operation.path, said.text));
    };
    let is_done = (200..400).contains(&said.status);
    let fits = match due {
        Due::Done => is_done,
        Due::Refused(status, code, reason) => {
            let (told, details) = said.error();
            said.status == status && told == code && reason.is_none_or(|reason| details == [reason])
        }
        Due::Documented => said.status < 500,
    };
    if !fits || !operation.statuses.contains(&said.status) {
        fault(format!("answered {} where {due:?} is due, of {:?}", said.status, operation.statuses));
    }
    // People may read of partners what their role opens to them.
    let may_know = matches!((due, asker), (Due::Done, Asker::Partner | Asker::Person(..) | Asker::Lured));
    let told = if may_know { Vec::new() } else { world.partners.told_of_victim(&said.text) };
    if !told.is_empty() {
        fault(format!("it tells of {told:?}"));
    }
    if said.status == 401 && said.rate.is_some() {
        fault("it tells how much a partner asks".to_owned());
    }
    let entries_due = usize::from(is_done && operation.method != Method::GET);
    if new.len() != entries_due {
        fault(format!("{} entries in the audit log after {}: {new:?}", new.len(), said.status));
    }
    for (actor, request_id) in &new {
        let is_asker = match asker {
            // Nobody knows who forgot a password before they read their mail.
            _ if operation.id == "askPasswordReset" => actor == "password-reset",
            // Whoever signs in is that person by then.
            _ if operation.needs == Needs::Nothing => *actor == world.viewer.id.to_string(),
            Asker::Partner | Asker::Stranger | Asker::Barred(_) => {
                *actor == world.about(asker).1.id.to_string()
            }
            Asker::Person(role, _) => *actor == world.person(role).id.to_string(),
            _ => false,
        };
        if !is_asker || request_id.as_deref() != Some(said.request_id.as_str()) {
            fault(format!("the entry is of {actor} in {request_id:?}, not in {}", said.request_id));
        }
    }
}

/// Whoever asks in vain for these reasons must not learn which it was: each answer is, to the byte, the first one.
async fn check_alike(
    world: &World,
    operation: &Operation,
    why: &str,
    asked: &[(Asker, &Sample)],
    faults: &mut Vec<String>,
) {
    let mut first: Option<String> = None;
    for (asker, sample) in asked {
        let request = world.request(operation, sample, *asker).await.header("x-request-id", "alike");
        let said = said(request).await;
        let told = format!("{} {}", said.status, said.text);
        if *first.get_or_insert_with(|| told.clone()) != told {
            let Operation { method, path, .. } = operation;
            faults.push(format!("{method} {path} as {asker:?}: {why}: {told}, not {first:?}"));
        }
    }
}

// S0-002, S0-003, S0-029, S0-031, S0-032, S0-033, S0-034, S0-035, S0-272, S0-273, S0-169, S0-344, S0-345, S0-348, S0-360
#[tokio::test]
async fn everybody_may_do_what_the_document_says_and_every_change_is_on_the_record() {
    let world = World::made().await;
    let document = said(world.api.request(Method::GET, "/api-docs/openapi.json")).await;
    let operations = Operation::all(&serde_json::from_str(&document.text).unwrap());
    assert!(operations.len() > 40, "{}", operations.len());
    let known = |id: &&str| operations.iter().any(|one| one.id == *id && one.needs == Needs::Partner);
    assert!(OPEN_AFTER_EXPIRY.iter().all(known), "a name that is no partner's operation");
    let mut faults = Vec::new();
    for operation in &operations {
        let idle = samples::of(&world, &operation.id, &world.admin, &world.partners.victim).await;
        let impostors = IMPOSTORS.map(Asker::Impostor);
        for asker in ASKERS.into_iter().chain(impostors) {
            check(&world, operation, asker, &idle, &mut faults).await;
        }
        if operation.needs == Needs::Partner {
            let in_vain = impostors.into_iter().chain([Asker::Nobody]).map(|asker| (asker, &idle));
            let in_vain: Vec<_> = in_vain.collect();
            check_alike(&world, operation, "it tells what is wrong", &in_vain, &mut faults).await;
        }
        if due(operation, Asker::Prying).is_some() {
            let made_up = idle.made_up();
            let asked = [(Asker::Prying, &made_up), (Asker::Prying, &idle)];
            check_alike(&world, operation, "it tells what another has", &asked, &mut faults).await;
        }
    }
    assert!(
        faults.is_empty(),
        "{} faults:
{}",
        faults.len(),
        faults.join("\n")
    );
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
